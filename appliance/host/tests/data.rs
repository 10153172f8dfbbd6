//! The data partition on loop devices, with e2fsprogs. As root.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use host::{data, gpt::Table};
use std::{
    cell::RefCell,
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
};

const MIB: u64 = 1 << 20;
/// What nobody is to find again.
const SECRET: &str = "a secret of the box";
/// Where the rest of the disk begins.
const REST: u64 = 13 * MIB;

/// A disk that the image was written to, as a loop device, and a place to mount.
struct Stand {
    file: tempfile::NamedTempFile,
    device: RefCell<PathBuf>,
    place: tempfile::TempDir,
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn attach(file: &Path, options: &[&str]) -> PathBuf {
    run(Command::new("losetup").args(options).args(["-P", "--show", "-f"]).arg(file)).into()
}

impl Stand {
    fn new(mib: u64) -> Stand {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(13 * MIB).unwrap();
        let parts = ["-n", "1:2048:+1M", "-n", "2:0:+2M", "-n", "3:0:+4M", "-n", "4:0:+4M"];
        run(Command::new("sgdisk").args(parts).arg(file.path()));
        file.as_file().set_len(mib * MIB).unwrap();
        let device = RefCell::new(attach(file.path(), &[]));
        Stand { file, device, place: tempfile::tempdir().unwrap() }
    }

    fn device(&self) -> PathBuf {
        self.device.borrow().clone()
    }

    fn bring_up(&self) -> data::Data {
        data::bring_up(Some(&self.device()), self.place.path(), &data::Wish::KEEP)
    }

    fn reset(&self) -> data::Data {
        let wish = data::Wish { reset: true, ..data::Wish::KEEP };
        data::bring_up(Some(&self.device()), self.place.path(), &wish)
    }

    /// A box in use, whose secret is in a file and was in one that is removed.
    fn used(mib: u64) -> Stand {
        let stand = Stand::new(mib);
        stand.bring_up();
        for name in ["token", "removed"] {
            fs::write(stand.place.path().join(name), SECRET.repeat(9000)).unwrap();
        }
        fs::create_dir(stand.place.path().join("store")).unwrap();
        run(Command::new("sync").arg("-f").arg(stand.place.path()));
        fs::remove_file(stand.place.path().join("removed")).unwrap();
        stand.unmount();
        assert!(stand.holds_secret());
        stand
    }

    fn holds_secret(&self) -> bool {
        let octets = fs::read(self.file.path()).unwrap();
        octets.windows(SECRET.len()).any(|window| window == SECRET.as_bytes())
    }

    fn expect_reset(&self, data: &data::Data) {
        assert_eq!((data.how, &data.trouble), (data::How::Reset, &None));
        assert!(!self.holds_secret());
        let there: Vec<_> =
            fs::read_dir(self.place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(there, ["lost+found"]);
        run(Command::new("sgdisk").arg("-v").arg(self.file.path()));
        self.unmount();
        // And once only.
        self.restart();
        assert_eq!(self.bring_up().how, data::How::Kept);
    }

    fn unmount(&self) {
        run(Command::new("umount").arg(self.place.path()));
    }

    /// The machine is switched off and on: the kernel reads the table from the disk.
    fn restart(&self) {
        self.restart_as(&[]);
    }

    fn restart_as(&self, options: &[&str]) {
        run(Command::new("losetup").arg("-d").arg(self.device()));
        // Another number: the old one may be somebody else's by now.
        self.device.replace(attach(self.file.path(), options));
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
        let _ = Command::new("losetup").arg("-d").arg(self.device()).output();
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
    assert_eq!(data::bring_up(None, stand.place.path(), &data::Wish::KEEP).how, data::How::StandIn);
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

#[test]
fn a_reset_by_word_or_by_mark_leaves_nothing() {
    let stand = Stand::used(120);
    let data = stand.reset();
    stand.expect_reset(&data);

    let stand = Stand::used(120);
    stand.bring_up();
    File::create(stand.place.path().join(".reset")).unwrap();
    stand.unmount();
    stand.restart();
    let data = stand.bring_up();
    stand.expect_reset(&data);
}

#[test]
fn a_reset_of_a_box_whose_partition_is_not_in_the_table_leaves_nothing_of_it_either() {
    let stand = Stand::used(120);
    run(Command::new("sgdisk").args(["-d", "5"]).arg(stand.file.path()));
    stand.restart();
    let data = stand.reset();
    stand.expect_reset(&data);
}

#[test]
fn a_reset_whose_power_is_cut_anywhere_is_gone_on_with_by_the_next_start_without_being_told() {
    let halves: [&dyn Fn(&Stand); 4] = [
        // The name only.
        &|_| {},
        // Half is empty, its beginning among that.
        &|stand| stand.disk().write_all_at(&vec![0; 30 * MIB as usize], REST).unwrap(),
        // All is empty.
        &|stand| stand.disk().write_all_at(&vec![0; 106 * MIB as usize], REST).unwrap(),
        // The new file system is there and was never put to use.
        &|stand| {
            stand.disk().write_all_at(&vec![0; 106 * MIB as usize], REST).unwrap();
            let made = ["-q", "-F", "-t", "ext4", "-L", "data", "-E", "offset=13631488"];
            run(Command::new("mke2fs").args(made).arg(stand.file.path()).arg("100m"));
        },
    ];
    for half in halves {
        let stand = Stand::used(120);
        run(Command::new("sgdisk").args(["-c", "5:data-erased"]).arg(stand.file.path()));
        half(&stand);
        stand.restart();
        let data = stand.bring_up();
        stand.expect_reset(&data);
    }
}

#[test]
fn a_reset_that_cannot_forget_what_is_kept_elsewhere_is_not_over() {
    let stand = Stand::used(120);
    let wish = data::Wish { reset: true, forget: &|_| anyhow::bail!("the ESP is gone") };
    let data = data::bring_up(Some(&stand.device()), stand.place.path(), &wish);
    assert_eq!(data.how, data::How::StandIn);
    assert!(data.trouble.unwrap().contains("the ESP is gone"));
    stand.unmount();
    stand.restart();
    let data = stand.bring_up();
    stand.expect_reset(&data);
}

#[test]
fn a_disk_that_is_write_protected_is_read_and_said() {
    let stand = Stand::new(120);
    stand.bring_up();
    fs::write(stand.note(), "kept").unwrap();
    stand.unmount();
    stand.restart_as(&["-r"]);
    let data = stand.bring_up();
    assert_eq!(data.how, data::How::ReadOnly);
    assert!(data.trouble.unwrap().contains("can only be read"));
    assert_eq!(fs::read_to_string(stand.note()).unwrap(), "kept");
    assert!(fs::write(stand.note(), "changed").is_err());
}

#[test]
fn a_disk_that_cannot_be_read_everywhere_is_not_written_to() {
    let stand = Stand::new(400);
    stand.bring_up();
    fs::write(stand.note(), "kept").unwrap();
    stand.unmount();
    // Its file system wants to be looked at, and the disk ends in the middle of it: every read there fails.
    let part = format!("{}p5", stand.device().display());
    run(Command::new("debugfs").args(["-w", "-R", "ssv state 2", &part]));
    run(Command::new("sync").arg("-f").arg(stand.file.path()));
    stand.disk().set_len(300 * MIB).unwrap();
    let before = fs::read(stand.file.path()).unwrap();
    let data = stand.bring_up();
    assert_eq!(data.how, data::How::ReadOnly, "{data:?}");
    assert_eq!(fs::read_to_string(stand.note()).unwrap(), "kept");
    stand.unmount();
    assert!(fs::read(stand.file.path()).unwrap() == before, "it was written to");
}
