//! A data partition that is full, damaged, missing or write-protected, and one that is wiped on purpose: the box comes
//! up, says so, and serves what it can.

use super::lone::{Lone, Start, copy, flash_on};
use super::{WHOLE, directory};
use control::{ApplianceView, NetworkView};
use hw_tests::artifact::{Workshop, appliance};
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the data partition begins, in octets.
fn data_of(disk: &Path) -> u64 {
    let said = Command::new("sgdisk").args(["-i", "5"]).arg(disk).output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let line = said.lines().find_map(|line| line.strip_prefix("First sector: ")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 512
}

/// Does something to the data partition of a box that is off, its journal played back first: it lost its power.
fn with_data(disk: &Path, act: impl FnOnce(&Path)) {
    let part = disk.with_extension("data");
    let (from, open) = (data_of(disk), File::options().read(true).write(true).open(disk).unwrap());
    // What follows it, the copy of the table, is put back as it was.
    let end = open.metadata().unwrap().len();
    let mut octets = vec![0; usize::try_from(end - from).unwrap()];
    open.read_exact_at(&mut octets, from).unwrap();
    fs::write(&part, &octets).unwrap();
    // Once plays the journal back; then all has to be in order.
    for _ in 0..2 {
        let checked = Command::new("e2fsck").arg("-fy").arg(&part).output().unwrap();
        println!("{}", String::from_utf8_lossy(&checked.stdout));
    }
    act(&part);
    open.write_all_at(&fs::read(&part).unwrap(), from).unwrap();
    fs::remove_file(&part).unwrap();
}

/// Whether nothing is in its journal, by the superblock's `needs_recovery`.
fn settled(disk: &Path) -> bool {
    let mut word = [0; 4];
    File::open(disk).unwrap().read_exact_at(&mut word, data_of(disk) + 1024 + 0x60).unwrap();
    u32::from_le_bytes(word) & 4 == 0
}

fn prepared(test: &str) -> PathBuf {
    let folder = directory(test);
    let _ = fs::remove_dir_all(&folder);
    folder
}

fn image() -> PathBuf {
    appliance::built(&Workshop::open().unwrap()).unwrap().disk
}

/// The box's troubles, as soon as its API answers.
fn troubles(lone: &mut Lone) -> Vec<String> {
    let view = lone.wait(WHOLE, "the box to serve", |lone| {
        let view: ApplianceView = lone.json(&["appliance", "show"]).ok()?;
        view.box_
    });
    view.troubles
}

/// What the box knows, of which one network is enough.
fn networks(lone: &Lone) -> Vec<String> {
    let views: Vec<NetworkView> = lone.json(&["network", "list"]).unwrap();
    views.into_iter().map(|view| view.spec.name.to_string()).collect()
}

fn create(lone: &Lone, name: &str, vlan: &str, subnet: &str) -> Result<String, String> {
    lone.kiln(&["network", "create", name, "--vlan", vlan, "--purpose", "tenant", "--subnet", subnet])
}

/// A box that was started once, and knows a network.
fn started(folder: &Path, size: u64) -> PathBuf {
    let disk = flash_on(size, &image(), folder);
    let mut lone = Lone::start(folder, &disk, Start::Bios);
    assert_eq!(troubles(&mut lone), [""; 0]);
    create(&lone, "red", "201", "10.21.0.1/24").unwrap();
    disk
}

#[test]
fn a_box_whose_data_is_write_protected_damaged_or_wiped_comes_up_and_says_so() {
    let folder = prepared("image-data");
    let disk = started(&folder, 1 << 30);
    let console = folder.join("console.log");

    // Write-protected, as a dying disk makes itself: it serves what it knows, and takes what is new until its next start.
    // What it was told last is in the journal of its file system only, for its power was cut; or it was in order.
    let before = folder.join("before.img");
    for is_settled in [false, true] {
        if is_settled {
            with_data(&disk, |_| ());
        }
        assert_eq!(settled(&disk), is_settled);
        copy(&disk, &before);
        let mut lone = Lone::start(&folder, &disk, Start::Protected);
        let said = troubles(&mut lone);
        assert!(said.iter().any(|text| text.contains("can only be read")), "{said:?}");
        assert_eq!(networks(&lone), ["red"]);
        create(&lone, "blue", "202", "10.22.0.1/24").unwrap();
        assert_eq!(networks(&lone), ["blue", "red"]);
        drop(lone);
        let compared = Command::new("cmp").args([&disk, &before]).output().unwrap();
        assert!(compared.status.success(), "written to: {}", String::from_utf8_lossy(&compared.stdout));
    }
    fs::remove_file(&before).unwrap();

    // All of its superblocks are gone, one at the beginning of each 128 MiB at most: memory stands in, and the stick tells who the box is.
    let damaged = folder.join("damaged.img");
    copy(&disk, &damaged);
    {
        let file = File::options().write(true).open(&damaged).unwrap();
        let noise: Vec<u8> =
            (0..(1u32 << 20)).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let end = file.metadata().unwrap().len() - (2 << 20);
        for at in (data_of(&damaged)..end).step_by(128 << 20) {
            file.write_all_at(&noise, at).unwrap();
        }
    }
    let _ = fs::remove_file(&console);
    {
        let mut lone = Lone::start(&folder, &damaged, Start::Bios);
        let said = troubles(&mut lone);
        assert!(said.iter().any(|text| text.contains("memory stands in")), "{said:?}");
        assert_eq!(networks(&lone), [""; 0]);
        create(&lone, "blue", "202", "10.22.0.1/24").unwrap();
    }
    assert!(fs::read_to_string(&console).unwrap().contains("cannot be mended"));
    drop(fs::remove_file(&damaged));

    // Wiped by its operator: as it was flashed, and configured by its stick.
    let _ = fs::remove_file(&console);
    let mut lone = Lone::start(&folder, &disk, Start::Bios);
    assert_eq!(troubles(&mut lone), [""; 0]);
    assert_eq!(networks(&lone), ["red"]);
    assert!(lone.kiln(&["appliance", "reset"]).unwrap_err().contains("--yes"));
    lone.kiln(&["appliance", "reset", "--yes"]).unwrap();
    lone.wait(WHOLE, "the box to be reset", |lone| lone.console().contains("the box is reset").then_some(()));
    assert_eq!(troubles(&mut lone), [""; 0]);
    assert_eq!(networks(&lone), [""; 0]);
}

#[test]
fn a_box_whose_data_is_full_or_that_has_no_room_for_any_comes_up_and_says_so() {
    let folder = prepared("image-room");
    // No room behind the slots.
    let disk = flash_on(0, &image(), &folder);
    {
        let mut lone = Lone::start(&folder, &disk, Start::Bios);
        let said = troubles(&mut lone);
        assert!(said.iter().any(|text| text.contains("memory stands in")), "{said:?}");
        create(&lone, "red", "201", "10.21.0.1/24").unwrap();
    }
    let disk = started(&folder, 640 << 20);
    // No block is free: what was held back is given away, and what is known is served.
    fill(&disk, &folder);
    {
        let mut lone = Lone::start(&folder, &disk, Start::Bios);
        let said = troubles(&mut lone);
        assert!(said.iter().any(|text| text.starts_with("the data partition is full, with ")), "{said:?}");
        assert_eq!(networks(&lone), ["red"]);
        let console = lone.console();
        assert!(console.contains("that were held back are free now"), "{console}");
    }
    // That is used up too: what is told is kept nonetheless, or nothing could be removed.
    fill(&disk, &folder);
    let mut lone = Lone::start(&folder, &disk, Start::Bios);
    let said = troubles(&mut lone);
    assert!(said.iter().any(|text| text.starts_with("the data partition is full, with 0 MiB")), "{said:?}");
    create(&lone, "blue", "202", "10.22.0.1/24").unwrap();
    assert_eq!(networks(&lone), ["blue", "red"]);
}

/// Takes every free block of the data partition but those that are somebody's alone, as somebody's writing would.
fn fill(disk: &Path, folder: &Path) {
    let [filler, rest, commands] = ["filler", "rest", "commands"].map(|name| folder.join(name));
    fs::write(&filler, vec![0xa5; 4 << 20]).unwrap();
    with_data(disk, |part| {
        let said = Command::new("dumpe2fs").arg("-h").arg(part).output().unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let number = |name: &str| -> u64 {
            let line = said.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().parse().unwrap()
        };
        // Names that are others the second time.
        let inodes = number("Free inodes:");
        let free = (number("Free blocks:") - number("Reserved block count:")) * number("Block size:");
        let name = |number: u64| format!("filler-{inodes}-{number}");
        let mut writes: String =
            (0..free >> 22).map(|number| format!("write {} {}\n", filler.display(), name(number))).collect();
        fs::write(&rest, vec![0xa5; usize::try_from(free % (4 << 20)).unwrap()]).unwrap();
        writes.push_str(&format!("write {} {}\n", rest.display(), name(free)));
        fs::write(&commands, writes).unwrap();
        let filled = Command::new("debugfs").arg("-w").arg("-f").arg(&commands).arg(part).output().unwrap();
        println!("{}", String::from_utf8_lossy(&filled.stderr));
    });
}
