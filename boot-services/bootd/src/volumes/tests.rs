use super::*;
use image::volume::Provisioning;
use image::{EXTENT, Terms};
use std::fs;
use std::path::PathBuf;

mod kill;

const MIB: u64 = EXTENT as u64;

/// A library with one image and a directory of volumes.
pub(super) struct Stage {
    _directory: tempfile::TempDir,
    pub(super) library: Library,
    pub(super) volumes: Volumes,
    pub(super) image: Digest,
    pub(super) content: Vec<u8>,
}

/// Octets of which no two sectors are the same.
pub(super) fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut octets: Vec<u8> = (0..length as u32 / 4).flat_map(u32::to_le_bytes).collect();
    octets.iter_mut().step_by(512).for_each(|octet| *octet = seed);
    octets
}

impl Stage {
    pub(super) fn new() -> Stage {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("volumes");
        let library = Library::new(directory.path().join("images")).with_volumes(&root);
        let content = [noise(1, EXTENT), vec![0; EXTENT], noise(2, EXTENT), noise(3, 512 * 5)].concat();
        let image = library.import(&content[..], &Terms::default(), &mut |_| {}).unwrap().id;
        let volumes = Volumes::new(root, library.clone());
        Stage { _directory: directory, library, volumes, image, content }
    }

    pub(super) fn id(&self, name: &str) -> VolumeId {
        name.parse().unwrap()
    }

    pub(super) fn clone_as(&self, name: &str) -> Arc<OpenVolume> {
        let id = self.id(name);
        let size = self.content.len() as u64;
        assert_eq!(self.volumes.create(&id, &VolumeSource::Image(self.image), size).unwrap(), Did::Changed);
        self.volumes.open(&id).unwrap()
    }
}

pub(super) fn read(volume: &OpenVolume) -> Vec<u8> {
    let mut octets = vec![7; volume.size() as usize];
    volume.read_at(0, &mut octets).unwrap();
    octets
}

#[test]
fn a_clone_reads_as_its_image_and_keeps_what_is_written() {
    let stage = Stage::new();
    let mut expected = stage.content.clone();
    {
        let volume = stage.clone_as("a");
        assert_eq!(read(&volume), expected);
        for (offset, length) in [(0, 512), (5000 * 512, 512), (MIB - 1024, 8192), (3 * MIB, 2560)] {
            let octets = noise(9, length as usize);
            volume.write_at(offset, &octets).unwrap();
            expected[offset as usize..][..octets.len()].copy_from_slice(&octets);
        }
        volume.zero(2 * MIB + 512, 3 * 4096).unwrap();
        expected[(2 * MIB + 512) as usize..][..3 * 4096].fill(0);
        assert_eq!(read(&volume), expected);
        volume.flush().unwrap();
    }
    let volume = stage.volumes.open(&stage.id("a")).unwrap();
    assert_eq!(read(&volume), expected);
    let mut sent = Vec::new();
    for segment in volume.segments(0, volume.size()).unwrap() {
        let mut octets = vec![0; segment.length as usize];
        if let Some((file, offset)) = segment.file {
            use std::os::unix::fs::FileExt as _;
            file.read_exact_at(&mut octets, offset).unwrap();
        }
        sent.extend(octets);
    }
    assert_eq!(sent, expected);
    assert_eq!(stage.library.open(&stage.image).map(|reader| reader.size()).unwrap(), volume.size());
}

fn count(path: &Path) -> usize {
    fs::read_dir(path).map_or(0, Iterator::count)
}

#[test]
fn making_a_volume_twice_is_making_it_once() {
    let stage = Stage::new();
    let (id, size) = (stage.id("a"), 5 * MIB + 512);
    let image = VolumeSource::Image(stage.image);
    assert_eq!(stage.volumes.create(&id, &image, size).unwrap(), Did::Changed);
    assert_eq!(stage.volumes.create(&id, &image, size).unwrap(), Did::Already);
    for (source, size) in [(&VolumeSource::Blank, size), (&image, size + 512)] {
        let refused = stage.volumes.create(&id, source, size).unwrap_err();
        assert!(matches!(refused, VolumesError::Different { .. }), "{refused}");
    }
    let least = stage.content.len() as u64;
    for size in [0, least - 512, least + 1, image::MAX_SIZE + 512] {
        let refused = stage.volumes.create(&stage.id("b"), &image, size).unwrap_err();
        assert!(matches!(refused, VolumesError::Size { .. }), "{refused}");
    }
    let absent = VolumeSource::Image(Digest([9; 32]));
    let refused = stage.volumes.create(&stage.id("b"), &absent, size).unwrap_err();
    assert!(matches!(refused, VolumesError::NoImage { .. }), "{refused}");
    let absent = VolumeSource::Volume(stage.id("c"));
    let refused = stage.volumes.create(&stage.id("b"), &absent, size).unwrap_err();
    assert!(matches!(refused, VolumesError::NotFound(_)), "{refused}");
    let listed = stage.volumes.list().unwrap();
    assert_eq!(listed, [stage.volumes.get(&id).unwrap()]);
    assert_eq!((listed[0].size, listed[0].base, listed[0].layers), (size, Some(stage.image), 1));
    let volume = stage.volumes.open(&id).unwrap();
    let mut expected = stage.content.clone();
    expected.resize(size as usize, 0);
    assert_eq!(read(&volume), expected);
    let end = (Provisioning::Deallocated, 2 * MIB - 2560);
    assert_eq!(volume.provisioned(3 * MIB + 2560).unwrap(), (end.0, size - 3 * MIB - 2560));
    assert_eq!(count(&stage.volumes.root().join(".layers")), 1);
    drop(volume);
    assert_eq!(stage.volumes.remove(&id).unwrap(), Did::Changed);
    assert_eq!(stage.volumes.remove(&id).unwrap(), Did::Already);
    for part in [".layers", ".bases"] {
        assert_eq!(count(&stage.volumes.root().join(part)), 0);
    }
    assert_eq!(stage.volumes.list().unwrap(), []);
}

#[test]
fn a_volume_has_one_user() {
    let stage = Stage::new();
    let volume = stage.clone_as("a");
    let id = stage.id("a");
    let another = Volumes::new(stage.volumes.root(), stage.library.clone());
    for volumes in [&stage.volumes, &another] {
        let refused = volumes.open(&id).unwrap_err();
        assert!(refused.to_string().contains(&format!("by process {}", std::process::id())), "{refused}");
        assert!(matches!(volumes.remove(&id).unwrap_err(), VolumesError::InUse { .. }));
    }
    let copy = VolumeSource::Volume(id.clone());
    let refused = another.create(&stage.id("b"), &copy, volume.size()).unwrap_err();
    assert!(matches!(refused, VolumesError::InUse { .. }), "{refused}");
    assert!(another.flatten(&id, Depth::All, &mut |_| ControlFlow::Continue(())).is_err());
    drop(volume);
    drop(another.open(&id).unwrap());
    assert_eq!(another.remove(&id).unwrap(), Did::Changed);
    assert!(matches!(stage.volumes.open(&id).unwrap_err(), VolumesError::NotFound(_)));
}

#[test]
fn a_copy_and_its_original_go_their_own_ways() {
    let stage = Stage::new();
    let volume = stage.clone_as("a");
    let layers = || count(&stage.volumes.root().join(".layers"));
    volume.write_at(4096, &noise(7, 9000)).unwrap();
    let copy = |from: &str, to: &str, size: u64| {
        stage.volumes.create(&stage.id(to), &VolumeSource::Volume(stage.id(from)), size).unwrap();
        stage.volumes.open(&stage.id(to)).unwrap()
    };
    let before = read(&volume);
    let larger = copy("a", "b", volume.size() + MIB);
    assert_eq!(layers(), 3);
    assert_eq!(read(&larger)[..before.len()], before);
    assert!(read(&larger)[before.len()..].iter().all(|octet| *octet == 0));
    larger.write_at(volume.size() - 512, &noise(8, 1024)).unwrap();
    volume.write_at(0, &noise(9, 512)).unwrap();
    assert_eq!(read(&larger)[..512], before[..512]);
    assert_eq!(read(&volume)[512..], before[512..]);
    // Nobody wrote to this one: its layer is not worth sharing.
    let same = copy("b", "c", larger.size());
    let again = copy("c", "d", larger.size());
    assert_eq!(read(&again), read(&larger));
    assert_eq!(stage.volumes.get(&stage.id("c")).unwrap().layers, 3);
    assert_eq!(stage.volumes.get(&stage.id("d")).unwrap().layers, 3);
    drop((volume, same, again));
    let expected = read(&larger);
    for name in ["a", "c", "d"] {
        assert_eq!(stage.volumes.remove(&stage.id(name)).unwrap(), Did::Changed);
    }
    assert_eq!(layers(), 3);
    let go = &mut |_| ControlFlow::Continue(());
    let flatten = |depth, go: &mut dyn FnMut(u64) -> ControlFlow<()>| {
        stage.volumes.flatten(&stage.id("b"), depth, go).unwrap()
    };
    assert_eq!(flatten(Depth::Layers, go), ControlFlow::Continue(Did::Changed));
    assert_eq!(flatten(Depth::Layers, go), ControlFlow::Continue(Did::Already));
    assert_eq!((layers(), read(&larger) == expected), (1, true));
    assert!(!stage.volumes.get(&stage.id("b")).unwrap().is_flat());
    assert_eq!(flatten(Depth::All, go), ControlFlow::Continue(Did::Changed));
    assert!(stage.volumes.get(&stage.id("b")).unwrap().is_flat());
    assert!(stage.library.remove(&stage.image).unwrap());
    assert_eq!(count(&stage.volumes.root().join(".bases")), 0);
    drop(larger);
    assert_eq!(read(&stage.volumes.open(&stage.id("b")).unwrap()), expected);
}

#[test]
fn what_a_clone_needs_outlives_its_image() {
    let stage = Stage::new();
    let volume = stage.clone_as("a");
    assert!(stage.library.remove(&stage.image).unwrap());
    assert!(!stage.library.contains(&stage.image));
    assert_eq!(read(&volume), stage.content);
    drop(volume);
    stage.library.sweep().unwrap().unwrap();
    let another = Volumes::new(stage.volumes.root(), stage.library.clone());
    assert_eq!(read(&another.open(&stage.id("a")).unwrap()), stage.content);
    // And a second clone of what is no image any more is refused, unless it is still needed.
    let size = stage.content.len() as u64;
    let second = another.create(&stage.id("b"), &VolumeSource::Image(stage.image), size);
    assert_eq!(second.unwrap(), Did::Changed);
    for name in ["a", "b"] {
        another.remove(&stage.id(name)).unwrap();
    }
    assert_eq!(stage.library.sweep().unwrap().unwrap().extents, 3);
    let gone = another.create(&stage.id("b"), &VolumeSource::Image(stage.image), size).unwrap_err();
    assert!(matches!(gone, VolumesError::NoImage { .. }), "{gone}");
}

#[test]
fn an_image_removed_while_it_is_cloned_leaves_a_whole_clone_or_none() {
    let stage = Stage::new();
    let size = stage.content.len() as u64;
    let (mut whole, mut none) = (0, 0);
    for turn in 0..60 {
        let content = &stage.content[..];
        stage.library.import(content, &image::Terms::default(), &mut |_| {}).unwrap();
        let volumes = Volumes::new(stage.volumes.root(), stage.library.clone());
        let id = stage.id("a");
        let made = std::thread::scope(|scope| {
            let remover = scope.spawn(|| {
                (0..turn * 10_000).for_each(|_| core::hint::spin_loop());
                stage.library.remove(&stage.image).unwrap()
            });
            let made = volumes.create(&id, &VolumeSource::Image(stage.image), size);
            assert!(remover.join().unwrap());
            made
        });
        stage.library.sweep().unwrap().unwrap();
        match made {
            Ok(_) => {
                assert_eq!(read(&volumes.open(&id).unwrap()), stage.content);
                whole += 1;
            }
            Err(VolumesError::NoImage { .. }) => {
                assert_eq!(volumes.list().unwrap(), []);
                none += 1;
            }
            Err(e) => panic!("{e}"),
        }
        volumes.remove(&id).unwrap();
    }
    println!("{whole} whole, {none} none");
}

#[test]
fn a_flipped_bit_is_found_and_whom_it_hurts_is_named() {
    let stage = Stage::new();
    let volume = stage.clone_as("a");
    volume.write_at(0, &noise(1, 4096)).unwrap();
    let copy = VolumeSource::Volume(stage.id("a"));
    stage.volumes.create(&stage.id("b"), &copy, volume.size()).unwrap();
    drop(volume);
    let scrub = || stage.volumes.scrub(&mut |_| {}).unwrap();
    assert_eq!(scrub(), []);
    let flip = |path: &Path, at: u64| {
        use std::os::unix::fs::FileExt as _;
        let file = fs::File::options().read(true).write(true).open(path).unwrap();
        let mut octet = [0];
        file.read_exact_at(&mut octet, at).unwrap();
        file.write_all_at(&[octet[0] ^ 16], at).unwrap();
    };
    let frozen = stage.volumes.record(&stage.id("b")).unwrap().unwrap().layers[1].id;
    let map = stage.volumes.root().join(".layers").join(frozen.to_string()).join("map");
    let both = vec![stage.id("a"), stage.id("b")];
    flip(&map, 2 * 4096 + 60);
    let [hurt] = &scrub()[..] else { panic!() };
    assert_eq!((&hurt.volumes, hurt.lost), (&both, false));
    flip(&map, 3 * 4096 + 60);
    let [hurt] = &scrub()[..] else { panic!() };
    assert_eq!((&hurt.volumes, hurt.lost), (&both, true));
    let refused = stage.volumes.open(&stage.id("b")).unwrap().read_at(0, &mut [0; 512]).unwrap_err();
    assert!(refused.to_string().starts_with("volume b: both copies of the map"), "{refused}");
    flip(&map, 3 * 4096 + 60);
    let digest = stage.library.open(&stage.image).unwrap().manifest().digests().nth(1).unwrap();
    flip(&crate::library::extent_path(stage.library.root(), &digest), 5000);
    let hurts = scrub();
    assert_eq!(hurts.len(), 2);
    assert!(hurts[1].lost && hurts[1].volumes == both && hurts[1].what.contains(&stage.image.to_string()));
    let record = stage.volumes.directory(&stage.id("a")).join("volume.json");
    flip(&record, 120);
    let hurts = scrub();
    assert!(hurts[0].lost && hurts[0].volumes == [stage.id("a")], "{hurts:?}");
    assert!(matches!(stage.volumes.open(&stage.id("a")).unwrap_err(), VolumesError::Damaged { .. }));
    // Which layers it has is not known: none is removed.
    stage.volumes.remove(&stage.id("b")).unwrap();
    assert!(count(&stage.volumes.root().join(".layers")) >= 3);
}

#[test]
fn remains_of_a_killed_process_are_swept_and_in_nobodys_way() {
    let stage = Stage::new();
    let root = stage.volumes.root();
    drop(stage.clone_as("a"));
    fs::create_dir_all(root.join(".layers").join("ab".repeat(16))).unwrap();
    fs::write(root.join(".bases").join(format!("{}.json", "ab".repeat(32))), b"half").unwrap();
    fs::create_dir_all(root.join("b")).unwrap();
    fs::write(root.join("b/volume.new"), b"half").unwrap();
    assert_eq!(stage.volumes.list().unwrap().len(), 1);
    assert!(matches!(stage.volumes.open(&stage.id("b")).unwrap_err(), VolumesError::NotFound(_)));
    stage.volumes.sweep().unwrap();
    assert_eq!((count(&root.join(".layers")), count(&root.join(".bases"))), (1, 1));
    assert!(!root.join("b").exists());
    drop(stage.clone_as("b"));
}

const FULL: &str = "KILN_TEST_FULL";

/// What the test below runs on a disk of 8 MiB of its own.
#[test]
fn child_that_fills_its_disk() {
    let Some(root) = std::env::var_os(FULL) else { return };
    let root = PathBuf::from(root);
    let volumes = Volumes::new(root.join("volumes"), Library::new(root.join("images")));
    let id: VolumeId = "a".parse().unwrap();
    let size = 64 * MIB;
    volumes.create(&id, &VolumeSource::Blank, size).unwrap();
    let volume = volumes.open(&id).unwrap();
    let mut expected = vec![0; size as usize];
    let mut at = 0;
    let full = loop {
        let octets = noise(at as u8, 64 << 10);
        match volume.write_at(at, &octets) {
            Ok(()) => expected[at as usize..][..octets.len()].copy_from_slice(&octets),
            Err(e) => break e,
        }
        at += octets.len() as u64;
    };
    assert!(full.is_full() && full.to_string().starts_with("volume a: no space"), "{full}");
    assert!(at > 5 * MIB);
    volume.flush().unwrap();
    assert_eq!(read(&volume), expected);
    let copy = volumes.create(&"b".parse().unwrap(), &VolumeSource::Volume(id.clone()), size);
    println!("a copy on the full disk: {copy:?}");
    drop(volume);
    let volume = volumes.open(&id).unwrap();
    assert_eq!(read(&volume), expected);
    volume.zero(0, MIB).unwrap();
    volume.write_at(40 * MIB, &noise(3, EXTENT / 2)).unwrap();
    expected[..EXTENT].fill(0);
    expected[40 * EXTENT..][..EXTENT / 2].copy_from_slice(&noise(3, EXTENT / 2));
    volume.flush().unwrap();
    drop(volume);
    assert_eq!(read(&volumes.open(&id).unwrap()), expected);
}

#[test]
fn a_full_disk_is_said_and_a_volume_on_it_goes_on_when_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().display().to_string();
    let done = std::process::Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-c"])
        .arg(format!("mount -t tmpfs -o size=8m none {path} && exec \"$0\" \"$@\""))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "volumes::tests::child_that_fills_its_disk", "--nocapture"])
        .env(FULL, &path)
        .output()
        .expect("unshare is in util-linux, which every Debian has");
    let told = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && told.contains("1 passed"), "{told}");
}

#[test]
fn a_volume_that_stands_still_for_a_copy_is_copied_as_of_one_moment_and_its_copy_is_a_volume() {
    let stage = Stage::new();
    let volumes = &stage.volumes;
    let (id, snapshot) = (stage.id("live"), stage.id("snapshot"));
    volumes.create(&id, &VolumeSource::Blank, 1 << 20).unwrap();
    let open = volumes.open(&id).unwrap();
    open.write_at(4096, b"before").unwrap();
    volumes.create(&snapshot, &VolumeSource::Volume(id.clone()), 1 << 20).unwrap();
    let still = volumes.still(&id, &snapshot).unwrap();
    open.write_at(4096, b"after!").unwrap();
    open.flush().unwrap();

    let elsewhere = tempfile::tempdir().unwrap();
    for path in &still.files {
        let to = elsewhere.path().join(path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(volumes.root().join(path), to).unwrap();
    }
    fs::create_dir_all(elsewhere.path().join("live")).unwrap();
    fs::write(elsewhere.path().join("live/volume.json"), &still.record).unwrap();
    let copied = Volumes::new(elsewhere.path(), Library::new(elsewhere.path().join("images")));
    assert_eq!(copied.get(&id).unwrap().source, VolumeSource::Blank);
    assert_eq!(copied.scrub(&mut |_| {}).unwrap(), []);
    let mut found = [0; 6];
    copied.open(&id).unwrap().read_at(4096, &mut found).unwrap();
    assert_eq!(&found, b"before");
    open.read_at(4096, &mut found).unwrap();
    assert_eq!(&found, b"after!");
}
