//! The data partition on loop devices, with e2fsprogs. As root.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use host::{data, gpt::Table};
use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

const MIB: u64 = 1 << 20;
/// Where the rest of the disk begins.
const REST: u64 = 13 * MIB;

/// A disk that the image was written to, as a loop device, and a place to mount.
struct Stand {
    file: tempfile::NamedTempFile,
    device: PathBuf,
    place: tempfile::TempDir,
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

impl Stand {
    fn new(mib: u64) -> Stand {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(13 * MIB).unwrap();
        let parts = ["-n", "1:2048:+1M", "-n", "2:0:+2M", "-n", "3:0:+4M", "-n", "4:0:+4M"];
        run(Command::new("sgdisk").args(parts).arg(file.path()));
        file.as_file().set_len(mib * MIB).unwrap();
        let device = run(Command::new("losetup").args(["-P", "--show", "-f"]).arg(file.path())).into();
        Stand { file, device, place: tempfile::tempdir().unwrap() }
    }

    fn bring_up(&self) -> data::Data {
        data::bring_up(Some(&self.device), self.place.path())
    }

    fn unmount(&self) {
        run(Command::new("umount").arg(self.place.path()));
    }

    /// The machine is switched off and on: the kernel reads the table from the disk.
    fn restart(&self) {
        run(Command::new("losetup").arg("-d").arg(&self.device));
        run(Command::new("losetup").arg("-P").arg(&self.device).arg(self.file.path()));
    }

    fn note(&self) -> PathBuf {
        self.place.path().join("note")
    }

    fn disk(&self) -> File {
        OpenOptions::new().read(true).write(true).open(self.file.path()).unwrap()
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        // What is not mounted or attached any more needs no removing.
        let _ = Command::new("umount").arg(self.place.path()).output();
        let _ = Command::new("losetup").arg("-d").arg(&self.device).output();
    }
}

fn number(disk: &Path) -> usize {
    Table::read(&mut File::open(disk).unwrap()).unwrap().partitions().len()
}

#[test]
fn the_partition_is_made_once_and_what_is_in_it_is_kept() {
    let stand = Stand::new(120);
    let data = stand.bring_up();
    assert_eq!((data.how, &data.trouble), (data::How::Made, &None));
    assert!(data.size > 60 * MIB, "{data:?}");
    let there = data::there(stand.place.path()).unwrap();
    assert_eq!((there.how, there.device, there.size), (data::How::Kept, data.device, data.size));
    fs::write(stand.note(), "kept").unwrap();
    stand.unmount();
    run(Command::new("sgdisk").arg("-v").arg(stand.file.path()));
    for _ in 0..2 {
        stand.restart();
        let data = stand.bring_up();
        assert_eq!((data.how, &data.trouble), (data::How::Kept, &None));
        assert_eq!(fs::read_to_string(stand.note()).unwrap(), "kept");
        stand.unmount();
    }
}

#[test]
fn a_power_cut_while_its_file_system_was_made_leaves_nothing_and_the_next_boot_makes_it() {
    let stand = Stand::new(120);
    stand.bring_up();
    stand.unmount();
    // The table as it was before, the file system half there and never mounted.
    let whole = fs::read(stand.file.path()).unwrap();
    let mut cut = whole[..].to_vec();
    run(Command::new("sgdisk").args(["-d", "5"]).arg(stand.file.path()));
    let table = fs::read(stand.file.path()).unwrap();
    cut[..MIB as usize].copy_from_slice(&table[..MIB as usize]);
    let tail = cut.len() - MIB as usize;
    cut[tail..].copy_from_slice(&table[tail..]);
    let superblock = REST as usize + 1024;
    cut[superblock + 0x2c..superblock + 0x30].fill(0);
    cut[superblock + 4096..superblock + 65536].fill(0xff);
    fs::write(stand.file.path(), cut).unwrap();
    stand.restart();
    assert_eq!(number(stand.file.path()), 4);
    let data = stand.bring_up();
    assert_eq!((data.how, &data.trouble), (data::How::Made, &None));
    assert_eq!(number(stand.file.path()), 5);
}

#[test]
fn a_file_system_that_was_in_use_is_never_made_anew_though_its_entry_is_lost() {
    let stand = Stand::new(120);
    stand.bring_up();
    fs::write(stand.note(), "kept").unwrap();
    stand.unmount();
    run(Command::new("sgdisk").args(["-d", "5"]).arg(stand.file.path()));
    stand.restart();
    let data = stand.bring_up();
    assert_eq!((data.how, &data.trouble), (data::How::Kept, &None));
    assert_eq!(fs::read_to_string(stand.note()).unwrap(), "kept");
}

#[test]
fn the_image_flashed_again_leaves_the_data_as_they_are() {
    let stand = Stand::new(120);
    // To the last octet of the image, which is the end of its table's copy.
    let mut image = vec![0; 13 * MIB as usize];
    stand.disk().read_exact_at(&mut image, 0).unwrap();
    stand.bring_up();
    fs::write(stand.note(), "kept").unwrap();
    stand.unmount();
    stand.disk().write_all_at(&image, 0).unwrap();
    stand.restart();
    assert_eq!(number(stand.file.path()), 4);
    let data = stand.bring_up();
    assert_eq!((data.how, &data.trouble), (data::How::Kept, &None));
    assert_eq!(fs::read_to_string(stand.note()).unwrap(), "kept");
    stand.unmount();
}

#[test]
fn what_is_damaged_is_mended() {
    let stand = Stand::new(120);
    stand.bring_up();
    fs::write(stand.note(), "kept").unwrap();
    stand.unmount();
    // The first superblock and the descriptors behind it; there are others.
    stand.disk().write_all_at(&[0; 4096], REST).unwrap();
    stand.restart();
    let data = stand.bring_up();
    assert_eq!((data.how, &data.trouble), (data::How::Mended, &None));
    assert_eq!(fs::read_to_string(stand.note()).unwrap(), "kept");
}

#[test]
fn what_cannot_be_mended_is_left_as_it_is_and_memory_stands_in() {
    let stand = Stand::new(120);
    stand.bring_up();
    stand.unmount();
    let noise: Vec<u8> = (0..64 * MIB).map(|at| (at * 7 + at / 256) as u8 | 1).collect();
    stand.disk().write_all_at(&noise, REST).unwrap();
    stand.restart();
    let data = stand.bring_up();
    assert_eq!((data.how, data.device.clone()), (data::How::StandIn, None));
    let trouble = data.trouble.unwrap();
    assert!(trouble.contains("it is left as it is") && trouble.contains("memory stands in"), "{trouble}");
    fs::write(stand.note(), "works").unwrap();
    stand.unmount();
    let mut there = vec![0; noise.len()];
    stand.disk().read_exact_at(&mut there, REST).unwrap();
    assert!(there == noise, "it was written to");
}

#[test]
fn a_disk_without_room_and_no_disk_at_all_are_said() {
    let stand = Stand::new(20);
    let data = stand.bring_up();
    assert_eq!(data.how, data::How::StandIn);
    let trouble = data.trouble.unwrap();
    assert!(trouble.contains("6 MiB of") && trouble.contains("1 GiB or more is needed"), "{trouble}");
    assert_eq!(number(stand.file.path()), 4);
    stand.unmount();
    assert_eq!(data::bring_up(None, stand.place.path()).how, data::How::StandIn);
}

#[test]
fn a_full_one_is_said_and_used() {
    let stand = Stand::new(120);
    stand.bring_up();
    let full = File::create(stand.place.path().join("image")).unwrap();
    let mut at = 0;
    while full.write_all_at(&[1; 1 << 20], at).is_ok() {
        at += MIB;
    }
    drop(full);
    stand.unmount();
    stand.restart();
    let data = stand.bring_up();
    assert_eq!(data.how, data::How::Kept);
    assert!(data.trouble.unwrap().contains("is full, with"), "{}", data.free);
    assert!(stand.place.path().join("image").exists());
}
