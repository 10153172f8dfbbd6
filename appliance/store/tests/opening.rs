//! Opening: what is refused and why, what is put in order, and how much disk it takes.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod suite;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use store::{Batch, CommitNumber, Damage, EventNumber, Options, Sled, Store, StoreError, Table};
use suite::{Model, copy_dir, files, options, run_to};

fn refusal(path: &Path) -> StoreError {
    Sled::open(path, options()).err().expect("this does not open")
}

#[test]
fn a_store_that_is_open_is_locked_and_its_holder_named() {
    let dir = tempfile::tempdir().unwrap();
    let first = Sled::open(dir.path(), options()).unwrap();
    let error = refusal(dir.path());
    let pid = std::process::id();
    assert!(
        matches!(&error, StoreError::Locked { holder: Some(holder), .. } if holder.pid == pid),
        "{error}"
    );
    assert!(error.to_string().contains(&format!("is open in process {pid} (")), "{error}");
    assert!(matches!(Sled::recover(dir.path(), options()), Err(StoreError::Locked { .. })));
    drop(first);
    for _ in 0..20 {
        Sled::open(dir.path(), options()).unwrap();
    }
}

#[test]
fn what_is_no_store_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(matches!(refusal(&file), StoreError::NotADirectory { .. }));
    assert!(matches!(refusal(&file.join("below")), StoreError::NotADirectory { .. }));

    let error = refusal(dir.path());
    assert!(matches!(&error, StoreError::NotAStore { found, .. } if found == "file"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_newer_format_is_refused_and_a_damaged_one_is_not_taken_for_it() {
    let dir = tempfile::tempdir().unwrap();
    run_to(&mut Sled::open(dir.path(), options()).unwrap(), 3);
    let name = dir.path().join("FORMAT");
    let known = fs::read_to_string(&name).unwrap();
    let line = "kiln store format 2";
    let newer = format!("{line} crc32c {:08x}\n", crc32c::crc32c(line.as_bytes()));

    fs::write(&name, newer).unwrap();
    let error = refusal(dir.path());
    assert!(matches!(error, StoreError::NewerFormat { format: 2, known: 1, .. }), "{error}");
    assert!(Sled::recover(dir.path(), options()).is_err());

    fs::write(&name, known.replace("format 1", "format 3")).unwrap();
    let error = refusal(dir.path());
    assert!(matches!(&error, StoreError::Damaged { damage: Damage::File { .. }, .. }), "{error}");
    let (sled, recovery) = Sled::recover(dir.path(), options()).unwrap();
    assert_eq!((sled.newest_commit(), recovery.unwrap().lost()), (CommitNumber(3), 0));
    assert_eq!(fs::read_to_string(&name).unwrap(), known);
}

#[test]
fn only_the_owner_can_read_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/store");
    let mut sled = Sled::open(&path, options()).unwrap();
    run_to(&mut sled, 70);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for name in ["journal", "snapshots", "sled", "damaged"] {
        assert_eq!(mode(&path.join(name)), 0o700, "{name}");
    }
    for file in files(&path.join("snapshots")).iter().chain(&files(&path.join("journal"))) {
        assert_eq!(mode(file), 0o600, "{}", file.display());
    }
}

#[test]
fn snapshots_are_taken_on_the_way_and_the_newest_three_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut sled = Sled::open(dir.path(), options()).unwrap();
    run_to(&mut sled, 310);
    let names = |part: &str| -> Vec<String> {
        let files = files(&dir.path().join(part));
        files.iter().map(|file| file.file_name().unwrap().to_str().unwrap().to_owned()).collect()
    };
    let expected = [180, 240, 300].map(|number| format!("{number:020}"));
    assert_eq!(names("snapshots"), expected);
    assert_eq!(names("journal"), expected);
}

/// The directory after commits up to `number`, damaged so that only recovery helps.
fn damaged(number: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    run_to(&mut Sled::open(dir.path(), options()).unwrap(), number);
    fs::remove_file(dir.path().join("sled/db")).unwrap();
    dir
}

fn spoil(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    for at in [100, 1000, 2000] {
        bytes[at] ^= 0x55;
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn recovery_replays_the_journal_on_the_newest_good_snapshot() {
    for spoiled in [&[][..], &[180], &[180, 120]] {
        let dir = damaged(199);
        for commit in spoiled {
            spoil(&dir.path().join(format!("snapshots/{commit:020}")));
        }
        let (sled, recovery) = Sled::recover(dir.path(), options()).unwrap();
        let recovery = recovery.unwrap();
        let base = 180 - 60 * spoiled.len() as u64;
        assert_eq!((recovery.snapshot, recovery.replayed), (CommitNumber(base), 199 - base));
        assert_eq!(recovery.lost(), 0);
        assert!(recovery.to_string().contains("nothing is lost"), "{recovery}");
        let mut model = Model::new();
        model.advance(199);
        model.expect(&sled);
        drop(sled);
        let (_, recovery) = Sled::recover(dir.path(), options()).unwrap();
        assert_eq!(recovery, None, "there is nothing left to recover");
    }
}

#[test]
fn without_snapshot_and_whole_journal_there_is_nothing_to_recover() {
    let dir = damaged(300);
    fs::remove_dir_all(dir.path().join("snapshots")).unwrap();
    let error = Sled::recover(dir.path(), options()).err().unwrap();
    assert!(matches!(error, StoreError::NothingToRecover { .. }), "{error}");
}

#[test]
fn what_a_recovery_loses_is_counted_and_its_numbers_are_not_given_again() {
    let dir = damaged(199);
    spoil(&dir.path().join(format!("journal/{:020}", 180)));
    let (mut sled, recovery) = Sled::recover(dir.path(), options()).unwrap();
    let recovery = recovery.unwrap();
    assert_eq!((recovery.restored, recovery.acknowledged), (CommitNumber(180), CommitNumber(199)));
    assert!(recovery.to_string().contains("19 commits up to 199 are lost"), "{recovery}");
    assert_eq!(sled.get(Table::Setting, "number").unwrap(), Some(b"\x01180".to_vec()));
    let span = sled.event_span();
    assert_eq!(span.newest, EventNumber(199));
    assert_eq!(sled.events(EventNumber(179), 5).unwrap().len(), 1);

    let commit = sled.commit(Batch::new().event("after")).unwrap();
    assert_eq!((commit.number, commit.event(0)), (CommitNumber(200), Some(EventNumber(200))));
    sled.prune(EventNumber(190)).unwrap();
    drop(sled);
    let sled = Sled::open(dir.path(), options()).unwrap();
    assert_eq!(sled.findings(), []);
    assert_eq!(sled.events(EventNumber(0), 5).unwrap(), [(EventNumber(200), b"after".to_vec())]);
    // Evidence is kept, once.
    assert!(dir.path().join("damaged/sled").is_dir());
    assert!(
        files(&dir.path().join("damaged")).iter().any(|file| file.ends_with(format!("journal-{:020}", 180)))
    );
}

#[test]
fn overwriting_does_not_fill_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { keep_events: 100, snapshot_every: 500, keep_snapshots: 3, ..Options::default() };
    let mut sled = Sled::open(dir.path(), options.clone()).unwrap();
    let used = || files(dir.path()).iter().map(|file| fs::metadata(file).unwrap().len()).sum::<u64>();
    let mut peak = 0;
    for number in 1..=2000u64 {
        sled.commit(Batch::new().put(Table::Node, format!("n{}", number % 20), vec![1; 2000]).event("\x01e"))
            .unwrap();
        if number.is_multiple_of(100) {
            // The same 2000 bytes again change nothing: this makes each put count.
            sled.commit(Batch::new().put(Table::Node, "odd", number.to_string())).unwrap();
        }
        sled.commit(Batch::new().put(Table::Node, format!("n{}", number % 20), vec![2; 1900])).unwrap();
        peak = peak.max(used());
    }
    println!("4020 commits, 8 MB put, 40 kB kept: peak {peak} bytes");
    assert!(peak < 24 << 20, "{peak}");
    assert_eq!(fs::read_dir(dir.path().join("sled/blobs")).unwrap().count(), 0);
}

#[test]
fn sled_never_makes_a_file_of_its_own_for_a_value() {
    let dir = tempfile::tempdir().unwrap();
    let mut sled = Sled::open(dir.path(), options()).unwrap();
    let key = |index: u64| format!("{}{index}", "k".repeat(190));
    for round in 0..6u64 {
        for index in 0..20 {
            let size = store::MAX_VALUE - (round * index) as usize;
            sled.commit(Batch::new().put(Table::Node, key(index), vec![round as u8; size])).unwrap();
        }
        assert_eq!(fs::read_dir(dir.path().join("sled/blobs")).unwrap().count(), 0, "round {round}");
    }
}

/// A directory written by an earlier release. It is never written anew.
#[test]
fn a_database_of_the_first_format_still_opens() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kept/v1");
    let dir = tempfile::tempdir().unwrap();
    copy_dir(&kept, dir.path());
    let mut model = Model::new();
    model.advance(12);
    let mut sled = Sled::open(dir.path(), options()).unwrap();
    assert_eq!(sled.findings(), []);
    model.expect(&sled);
    run_to(&mut sled, 80);
    drop(sled);

    // Its snapshot and journal do as well.
    let dir = tempfile::tempdir().unwrap();
    copy_dir(&kept, dir.path());
    fs::remove_dir_all(dir.path().join("sled")).unwrap();
    let (sled, recovery) = Sled::recover(dir.path(), options()).unwrap();
    let recovery = recovery.unwrap();
    assert_eq!((recovery.snapshot, recovery.replayed, recovery.lost()), (CommitNumber(8), 4, 0));
    model.expect(&sled);
}
