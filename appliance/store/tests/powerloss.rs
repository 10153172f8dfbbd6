//! The power fails: what the disk was told to write by then is all there is.
//!
//! The store lives on an ext4 in a file behind a loop device. The committing process is stopped, the file copied: the
//! copy has what reached the device and nothing that was only in the page cache. Mounted, its journal replayed, it
//! must hold a store with everything acknowledged. Needs root and loop devices; the mounts are in a namespace of
//! this test's own and go with it.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod suite;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use store::{Batch, Store, StoreError, Table};
use suite::{
    CHILD, Committer, Model, Random, SLED, alone, batch, commit_until_killed, next_options, options, run_to,
};

const CUTS: u64 = 12;

#[test]
fn child_that_commits() {
    commit_until_killed(&SLED);
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| {
        panic!("{program} is needed (packages e2fsprogs, mount, coreutils): {error}")
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said} (root and loop devices are needed)");
}

/// A file system in a file; unmounted when dropped.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn new(image: &Path, on: &'a Path) -> Self {
        fs::create_dir_all(on).unwrap();
        run("mount", &["-o", "loop", image.to_str().unwrap(), on.to_str().unwrap()]);
        Mounted(on)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = umount2(self.0, MntFlags::MNT_DETACH);
    }
}

/// Gives this thread, and the children and threads it makes, mounts of their own.
fn unshare_mounts() {
    unshare(CloneFlags::CLONE_NEWNS).expect("root is needed for a mount namespace");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("root is needed to mount");
}

/// What a power cut left: which it was, as words, the store as it opened, and what it found.
struct Left {
    which: String,
    acknowledged: u64,
    store: Box<dyn Store>,
    findings: Vec<String>,
}

/// Runs a child on a store on a disk of its own, cuts the power once `until` has waited, and looks at what is left; many
/// times.
fn cut(
    child: &str,
    mut prepare: impl FnMut(&Path),
    mut until: impl FnMut(&mut Committer, &mut Random),
    mut look: impl FnMut(Left),
) {
    let _alone = alone();
    unshare_mounts();
    let dir = tempfile::tempdir().unwrap();
    let (image, live) = (dir.path().join("image"), dir.path().join("live"));
    let (copy, after) = (dir.path().join("copy"), dir.path().join("after"));
    fs::File::create(&image).unwrap().set_len(96 << 20).unwrap();
    run("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()]);
    let _live = Mounted::new(&image, &live);
    let store = live.join("store");
    let mut random = Random(u64::from(std::process::id()));
    let seed = random.0;
    for cut in 0..CUTS {
        prepare(&store);
        let mut child = Committer::start(child, &store);
        child.wait_for_opening();
        until(&mut child, &mut random);
        child.freeze();
        run("cp", &["--sparse=always", image.to_str().unwrap(), copy.to_str().unwrap()]);
        let acknowledged = child.kill().unwrap_or_default();

        let which = format!("seed {seed} cut {cut}, {acknowledged} acknowledged");
        let _after = Mounted::new(&copy, &after);
        let (store, findings) =
            (SLED.open)(&after.join("store"), options()).unwrap_or_else(|error| panic!("{which}: {error}"));
        println!("{which}, {} found; {}", store.newest_commit().0, findings.join("; "));
        look(Left { which, acknowledged, store, findings });
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_fails() {
    let mut model = Model::new();
    cut(
        "child_that_commits",
        |_| {},
        |child, random| child.wait_for(1 + random.below(30)),
        |Left { which, acknowledged, store, findings }| {
            let newest = store.newest_commit().0;
            assert!(newest >= acknowledged && newest <= acknowledged + 1, "{which}");
            model.advance(newest);
            model.expect(&*store);
            let is_worse = |said: &String| said.contains("set aside") || said.contains("lacks");
            assert!(!findings.iter().any(is_worse), "{findings:?}");
        },
    );
}

#[test]
fn child_that_migrates() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    println!("\nopening");
    loop {
        drop((SLED.open)(path.as_ref(), next_options()).unwrap());
        drop((SLED.open)(path.as_ref(), options()).unwrap());
    }
}

#[test]
fn a_migration_during_which_the_power_fails_is_undone_by_the_older_release() {
    let mut model = Model::new();
    model.advance(70);
    cut(
        "child_that_migrates",
        |store| {
            let _ = fs::remove_dir_all(store);
            run_to(&mut *(SLED.open)(store, options()).unwrap().0, 70);
        },
        |_, random| (0..random.below(20_000_000)).for_each(|_| std::hint::spin_loop()),
        |left| model.expect(&*left.store),
    );
}

#[test]
fn a_full_disk_refuses_a_migration_and_the_older_release_goes_on() {
    let _alone = alone();
    unshare_mounts();
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    fs::create_dir_all(&disk).unwrap();
    mount(Some("none"), &disk, Some("tmpfs"), MsFlags::empty(), Some("size=64m")).unwrap();
    let _disk = Mounted(&disk);
    let path = disk.join("store");
    let value = |index: u8| vec![1 + index; 100_000];
    let mut store = (SLED.open)(&path, options()).unwrap().0;
    for index in 0..40 {
        store.commit(Batch::new().put(Table::Node, format!("n{index}"), value(index))).unwrap();
    }
    drop(store);
    // Enough to open it and to commit, not enough to have its four million octets twice.
    let mut ballast = fs::File::create(disk.join("ballast")).unwrap();
    let room = || {
        let stat = nix::sys::statvfs::statvfs(&disk).unwrap();
        stat.blocks_available() * stat.fragment_size()
    };
    while room() > (20 << 20) {
        ballast.write_all(&[1; 65536]).unwrap();
    }
    let error = (SLED.open)(&path, next_options()).err().unwrap();
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
    assert!(error.to_string().contains("before the store is migrated: it is not"), "{error}");
    let (store, findings) = (SLED.open)(&path, options()).unwrap();
    assert_eq!(findings, [""; 0]);
    assert!((0..40).all(|index| store.get(Table::Node, &format!("n{index}")).unwrap() == Some(value(index))));
    drop(store);
    ballast.set_len(0).unwrap();
    (SLED.open)(&path, next_options()).unwrap();
}

#[test]
fn a_full_disk_refuses_a_commit_and_harms_nothing() {
    let _alone = alone();
    unshare_mounts();
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    fs::create_dir_all(&disk).unwrap();
    mount(Some("none"), &disk, Some("tmpfs"), MsFlags::empty(), Some("size=64m")).unwrap();
    let _disk = Mounted(&disk);

    let path = disk.join("store");
    let (mut store, _) = (SLED.open)(&path, options()).unwrap();
    run_to(&mut *store, 10);
    let mut ballast = fs::File::create(disk.join("ballast")).unwrap();
    while ballast.write_all(&[1; 65536]).is_ok() {}

    for _ in 0..3 {
        let error = store.commit(batch(11)).unwrap_err();
        assert!(matches!(error, StoreError::NoSpace { .. }) && error.is_refusal(), "{error}");
    }
    let mut model = Model::new();
    model.advance(10);
    model.expect(&*store);
    drop(store);
    let error = (SLED.open)(&path, options()).err().unwrap();
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");

    ballast.set_len(0).unwrap();
    let (mut store, findings) = (SLED.open)(&path, options()).unwrap();
    assert_eq!(findings, [""; 0]);
    run_to(&mut *store, 200);
    model.advance(200);
    model.expect(&*store);
}

#[test]
fn a_disk_mounted_read_only_is_said_to_be() {
    let _alone = alone();
    unshare_mounts();
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    fs::create_dir_all(&disk).unwrap();
    mount(Some("none"), &disk, Some("tmpfs"), MsFlags::empty(), Some("size=64m")).unwrap();
    let _disk = Mounted(&disk);
    let path = disk.join("store");
    run_to(&mut *(SLED.open)(&path, options()).unwrap().0, 5);
    let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, &disk, None::<&str>, read_only, None::<&str>).unwrap();
    for path in [path, disk.join("new")] {
        let error = (SLED.open)(&path, options()).err().unwrap();
        assert!(matches!(error, StoreError::ReadOnly { .. }), "{error}");
        assert!(error.to_string().contains("mount it read-write"), "{error}");
    }
}
