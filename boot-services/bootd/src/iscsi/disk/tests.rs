#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use super::*;
use crate::{library::Library, volumes::Volumes};
use boot::{VolumeId, VolumeSource};
use scsi::{Geometry, Identity, InitiatorPort, LogicalUnit, Nexus, Status, Step, Work};

const SIZE: u64 = 4 << 20;

fn disk(directory: &Path) -> Disk {
    let volumes = Volumes::new(directory.join("volumes"), Library::new(directory.join("images")));
    let id: VolumeId = "one".parse().unwrap();
    volumes.create(&id, &VolumeSource::Blank, SIZE).unwrap();
    Disk::volume(volumes.open(&id).unwrap(), false, &volumes.directory(&id))
}

fn fetched(disk: &Disk, offset: u64, length: usize) -> Vec<u8> {
    let mut octets = vec![0xee; length];
    loop {
        match disk.fetch(offset, &mut octets).unwrap() {
            Fetched::Whole => return octets,
            Fetched::Cold => disk.warm(offset, length),
        }
    }
}

#[test]
fn what_was_written_is_fetched_in_whatever_way() {
    let directory = tempfile::tempdir().unwrap();
    let disk = disk(directory.path());
    let octets: Vec<u8> = (0..SIZE).map(|n| (n / 5 % 253) as u8).collect();
    disk.write_at(4096, &octets[4096..1 << 20]).unwrap();
    disk.write_at(2 << 20, &octets[2 << 20..]).unwrap();
    let mut wanted = octets;
    wanted[..4096].fill(0);
    wanted[1 << 20..2 << 20].fill(0);
    for length in [512, 4096, 40 << 10, 256 << 10] {
        for offset in (0..SIZE - length).step_by(252 << 10) {
            let (from, to) = (offset as usize, (offset + length) as usize);
            assert!(fetched(&disk, offset, to - from) == wanted[from..to], "{length} octets at {offset}");
        }
    }
}

#[test]
fn the_first_reading_of_an_image_s_extent_is_left_to_the_crew() {
    let directory = tempfile::tempdir().unwrap();
    let volumes =
        Volumes::new(directory.path().join("volumes"), Library::new(directory.path().join("images")));
    let id: VolumeId = "one".parse().unwrap();
    volumes.create(&id, &VolumeSource::Blank, SIZE).unwrap();
    let disk = Disk::volume(volumes.open(&id).unwrap(), true, &volumes.directory(&id));
    let mut into = vec![0; 4096];
    assert!(matches!(disk.fetch(1 << 20, &mut into).unwrap(), Fetched::Cold));
    disk.warm(1 << 20, 4096);
    assert!(matches!(disk.fetch(1 << 20, &mut into).unwrap(), Fetched::Whole));
}

#[test]
fn reservations_are_kept_beside_the_volume_and_given_back() {
    let directory = tempfile::tempdir().unwrap();
    let disk = disk(directory.path());
    assert_eq!(disk.kept().unwrap(), None);
    disk.keep(b"reserved").unwrap();
    disk.keep(b"reserved by another").unwrap();
    assert_eq!(disk.kept().unwrap().as_deref(), Some(&b"reserved by another"[..]));
}

#[test]
fn a_file_is_read_with_zeros_to_its_last_sector_and_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    fs::write(&path, [5; 700]).unwrap();
    let disk = Disk::file(&path).unwrap();
    assert_eq!(disk.size(), 1024);
    let octets = fetched(&disk, 512, 512);
    assert!(octets[..188].iter().all(|octet| *octet == 5) && octets[188..].iter().all(|octet| *octet == 0));
    assert_eq!(disk.write_at(0, &[0; 512]).unwrap_err().fault, MediumFault::WriteFault);
}

/// A COMPARE AND WRITE of the first block.
fn compare_and_write(unit: &mut LogicalUnit, nexus: Nexus, disk: &Disk, verify: &[u8], write: &[u8]) -> bool {
    let mut cdb = [0; 16];
    (cdb[0], cdb[13]) = (0x89, 1);
    let data = [verify, write].concat();
    let Step::Work(Work::Compound(work)) = unit.begin(nexus, &cdb, data.len() as u32) else { panic!() };
    disk.perform(&work, &data).status == Status::Good
}

/// SBC-4, 5.3: COMPARE AND WRITE is done "as an uninterrupted series of actions".
#[test]
fn a_plain_write_is_never_lost_in_a_compare_and_write_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    let disk = disk(directory.path());
    let block = |value: u32| value.to_le_bytes().repeat(128);
    let value = |disk: &Disk| {
        let mut octets = [0; 512];
        disk.read_at(0, &mut octets).unwrap();
        u32::from_le_bytes(*octets.first_chunk().unwrap())
    };
    const MARK: u32 = 1 << 30;
    let identity = Identity {
        product: "volume".into(),
        revision: "1".into(),
        serial: "1".into(),
        designators: Vec::new(),
        target: "iqn.2026-01.test:target".into(),
        portal_group: 1,
    };
    let geometry = Geometry::new(SIZE / 512, scsi::BlockSize::B512).unwrap();
    let mut unit = LogicalUnit::new(identity, geometry);
    let nexus = unit.attach(InitiatorPort { name: "iqn.2026-01.test:one".into(), isid: [0; 6] });
    // The attention that every new nexus has.
    let _ = unit.begin(nexus, &[0; 6], 0);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let now = value(&disk);
                compare_and_write(&mut unit, nexus, &disk, &block(now), &block(now | MARK));
            }
        });
        let lost = (1..20_000).find(|written| {
            disk.store(0, &block(*written)).unwrap();
            value(&disk) & !MARK != *written
        });
        over.store(true, Ordering::Relaxed);
        assert_eq!(lost, None, "a write was lost");
    });
}
