//! The appliance's image: its octets, its file systems, and how its boot loader chooses the slot.
//!
//! `host` is played by another static program: what runs here after the boot loader is `appliance/proof`.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hw_tests::artifact::Workshop;
use hw_tests::artifact::appliance::grub::environment;
use hw_tests::artifact::appliance::{
    BLOCK, BOUND, ESP_OFFSET, Image, Programs, Recipe, Release, SLOT_OFFSETS, Seal, Sources, image, write,
};
use hw_tests::artifact::cpio::Archive;
use hw_tests::artifact::debian::Mirror;
use hw_tests::rack::until;

use crate::Folder;
use crate::machine::{Firmware, Machine, Running};

/// From one line of `proof` to the next: firmware, boot loader, kernel and all modules, emulated.
const PATIENCE: Duration = Duration::from_secs(240);
const SLOT_SIZE: u64 = 128 << 20;

/// What `recipe` needs: Cargo's programs, and busybox for `host`.
struct Ours {
    programs: Programs,
    release: Release,
    more: Archive,
}

impl Ours {
    fn new(workshop: &Workshop) -> Result<Self> {
        let mirror = Mirror::open(workshop)?;
        let busybox = mirror.tree(&mirror.package("busybox-static")?)?.join("bin/busybox");
        let own = std::env::current_exe()?;
        let folder = own.ancestors().nth(2).context("a test lies in Cargo's folder")?;
        let mut more = Archive::default();
        more.file("bin/busybox", fs::read(&busybox)?, true);
        more.file("proof", include_bytes!("appliance/proof").to_vec(), true);
        let programs = Programs { host: busybox, ..Programs::built(folder) };
        let release = Release { version: "0.0.7".to_owned(), commit: "of-a-test".to_owned() };
        Ok(Self { programs, release, more })
    }

    fn recipe(&self) -> Recipe<'_> {
        Recipe {
            programs: &self.programs,
            release: &self.release,
            signer: None,
            owner: None,
            more: &self.more,
        }
    }
}

fn kept() -> Result<Image> {
    let workshop = Workshop::open()?;
    Ok(image(&workshop, &Ours::new(&workshop)?.recipe())?.0)
}

#[test]
fn made_twice_of_the_same_it_is_the_same_to_the_octet_and_within_its_bounds() -> Result<()> {
    let folder = Folder::new("appliance-twice");
    let workshop = Workshop::open()?;
    let ours = Ours::new(&workshop)?;
    let (first, _) = image(&workshop, &ours.recipe())?;
    let again = write(&Sources::open(&workshop, &Mirror::open(&workshop)?)?, &ours.recipe(), &folder)?;
    for (one, other) in first.files().into_iter().zip(again.files()).filter(|(one, _)| one.exists()) {
        let same = fs::read(one)? == fs::read(other)?;
        assert!(same, "{} differs from {}", other.display(), one.display());
    }
    for file in [&first.packed, &first.slot] {
        let size = fs::metadata(file)?.len();
        println!("{}: {size} octets of {BOUND}", file.display());
        assert!(size <= BOUND);
    }
    assert!(!image(&workshop, &ours.recipe())?.1, "it is made once");
    folder.passed();
    Ok(())
}

#[test]
fn a_flipped_bit_in_the_data_or_the_tree_of_a_slot_is_found() -> Result<()> {
    let folder = Folder::new("appliance-verity");
    let slot = folder.join("slot");
    fs::copy(kept()?.slot, &slot)?;
    let seal = Seal::read(&slot)?;
    assert_eq!(seal.version, "0.0.7");
    let verified = || {
        let offset = format!("--hash-offset={}", (seal.data_blocks + 1) * BLOCK);
        run("veritysetup", &["verify", &offset], &[&slot, &slot, Path::new(&seal.root)])
            .map(|output| output.status.success())
    };
    assert!(verified()?, "the untouched slot");
    let file = OpenOptions::new().read(true).write(true).open(&slot)?;
    let data = seal.data_blocks * BLOCK;
    let tree = fs::metadata(&slot)?.len();
    // Behind the data and the seal: the superblock, then the tree with its root first.
    for at in [0, data / 3, data - 1, data + 2 * BLOCK, tree - BLOCK] {
        let mut octet = [0];
        file.read_exact_at(&mut octet, at)?;
        file.write_all_at(&[octet[0] ^ 0x10], at)?;
        assert!(!verified()?, "a bit at {at} of {tree} was flipped");
        file.write_all_at(&octet, at)?;
    }
    assert!(verified()?, "all bits are back");
    folder.passed();
    Ok(())
}

#[test]
fn the_disks_table_and_file_systems_are_in_order() -> Result<()> {
    let folder = Folder::new("appliance-disk");
    let image = kept()?;
    let said = good("sgdisk", &["-v"], &[&image.disk])?;
    assert!(said.contains("No problems found"), "{said}");
    let said = good("sgdisk", &["-p"], &[&image.disk])?;
    let names: Vec<&str> = said
        .lines()
        .skip_while(|line| !line.starts_with("Number"))
        .skip(1)
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    assert_eq!(names, ["bios", "esp", "system-a", "system-b"]);

    for (number, identifier) in
        [(3, "6B696C6E-6170-706C-8000-000000000003"), (4, "6B696C6E-6170-706C-8000-000000000004")]
    {
        let said = good("sgdisk", &["-i", &number.to_string()], &[&image.disk])?;
        assert!(said.contains(&format!("Partition unique GUID: {identifier}")), "{said}");
    }

    let disk = fs::File::open(&image.disk)?;
    let part = |offset: u64, size: u64| -> Result<Vec<u8>> {
        let mut octets = vec![0; usize::try_from(size)?];
        disk.read_exact_at(&mut octets, offset)?;
        Ok(octets)
    };
    let esp = folder.join("esp");
    fs::write(&esp, part(ESP_OFFSET, SLOT_OFFSETS[0] - ESP_OFFSET)?)?;
    let said = good("fsck.vfat", &["-n", "-v"], &[&esp])?;
    assert!(said.contains("2 FATs, 32 bit entries"), "{said}");
    assert!(good("mlabel", &["-s", "-i", path(&esp), "::"], &[])?.contains("KILN-ESP"));
    let slot = fs::read(&image.slot)?;
    assert!(part(SLOT_OFFSETS[0], slot.len() as u64)? == slot, "slot A holds the slot image");
    assert!(part(SLOT_OFFSETS[1], SLOT_SIZE)?.iter().all(|octet| *octet == 0), "slot B is empty");
    folder.passed();
    Ok(())
}

#[test]
fn the_root_belongs_to_root_and_its_programs_have_their_libraries() -> Result<()> {
    let folder = Folder::new("appliance-root");
    let slot = kept()?.slot;
    let listed = good("unsquashfs", &["-lls"], &[&slot])?;
    let mut modes = BTreeMap::new();
    for line in listed.lines().filter(|line| line.contains(" squashfs-root")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        ensure!(words[1] == "root/root", "not root's: {line}");
        ensure!(!words[0].contains(['s', 'S']), "runs as another: {line}");
        modes.insert(words[5].trim_start_matches("squashfs-root").trim_start_matches('/'), words[0]);
    }
    for (name, mode) in [
        ("etc/passwd", "-rw-r--r--"),
        ("etc/group", "-rw-r--r--"),
        ("etc/inittab", "-rw-r--r--"),
        ("etc/nftables.conf", "-rw-r--r--"),
        ("usr/bin/applianced", "-rwxr-xr-x"),
        ("usr/bin/host", "-rwxr-xr-x"),
        ("usr/share/kiln/snponly.efi", "-rw-r--r--"),
        ("boot/host.cpio", "-rw-r--r--"),
        ("tmp", "drwxrwxrwt"),
        ("root", "drwx------"),
        ("data", "drwxr-xr-x"),
    ] {
        assert_eq!(modes.get(name), Some(&mode), "{name}");
    }
    let writable: Vec<_> =
        modes.iter().filter(|(_, mode)| !mode.starts_with('l') && mode.as_bytes()[8] == b'w').collect();
    assert_eq!(writable, [(&"tmp", &"drwxrwxrwt")]);

    let root = folder.join("root");
    good("unsquashfs", &["-no-progress", "-d", path(&root)], &[&slot])?;
    let passwd = fs::read_to_string(root.join("etc/passwd"))?;
    for line in passwd.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        // Root's shell is for SSH, whose keys are the configuration's.
        let shell = if fields[0] == "root" { "/bin/sh" } else { "/bin/false" };
        assert!(fields[1] == "*" && fields[6] == shell, "nobody has a password: {line}");
    }
    assert!(passwd.contains("\nkiln-iscsi:*:64706:64700:"));
    assert_eq!(fs::read_link(root.join("sbin/init"))?, Path::new("/bin/busybox"));
    assert_eq!(fs::read_link(root.join("etc/resolv.conf"))?, Path::new("/run/resolv.conf"));
    let says = fs::read_to_string(root.join("etc/os-release"))?;
    assert!(
        says.contains("ID=kiln\n")
            && says.contains("VERSION_ID=0.0.7\n")
            && says.contains("BUILD_ID=of-a-test\n")
            && says.contains("KILN_BUILT=1767225600\n")
    );
    let programs = [
        "sbin/nft",
        "sbin/mke2fs",
        "sbin/e2fsck",
        "sbin/resize2fs",
        "usr/sbin/dropbear",
        "usr/bin/dropbearkey",
        "usr/sbin/chronyd",
    ];
    for program in programs {
        let libraries = root.join("lib/x86_64-linux-gnu");
        let words = ["--inhibit-cache", "--library-path", path(&libraries), "--list"];
        let said = good(path(&root.join("lib64/ld-linux-x86-64.so.2")), &words, &[&root.join(program)])?;
        for line in said.lines().filter(|line| line.contains("=>")) {
            assert!(line.contains(path(&root)), "{program}: {line}");
        }
    }
    folder.passed();
    Ok(())
}

/// A copy of the disk with the slot image in both slots, or zeros, and the boot loader's variables set.
fn disk(folder: &Folder, slots: [bool; 2], variables: &[(&str, &str)]) -> Result<PathBuf> {
    let image = kept()?;
    let disk = folder.join("disk");
    good("cp", &["--sparse=always"], &[&image.disk, &disk])?;
    let file = OpenOptions::new().write(true).open(&disk)?;
    let content = fs::read(&image.slot)?;
    for (there, offset) in slots.into_iter().zip(SLOT_OFFSETS) {
        let octets = if there { &content } else { &vec![0; content.len()] };
        file.write_all_at(octets, offset)?;
    }
    let state = folder.join("grubenv");
    let ours = [("kiln_args", "rdinit=/proof no_timer_check")];
    fs::write(&state, environment(&[variables, &ours].concat())?)?;
    let esp = format!("{}@@{ESP_OFFSET}", disk.display());
    good("mcopy", &["-o", "-i", &esp], &[&state, Path::new("::grub/grubenv")])?;
    Ok(disk)
}

/// Awaits that many boots to the end of `proof`, and returns what they and the boot loader said, in order.
fn boots(machine: &mut Running, count: usize) -> Result<Vec<String>> {
    let mut said = Vec::new();
    for number in 1..=count {
        machine.awaited_again("KILN end", number, PATIENCE)?;
        said = machine
            .console()
            .lines()
            .filter_map(|line| {
                let grub = line.strip_prefix("Kiln: ").map(str::trim_end);
                line.strip_prefix("KILN proof ")
                    .or(grub.filter(|line| GRUB.contains(line)))
                    .map(str::to_owned)
            })
            .collect();
        // On a machine without graphics the firmware's console is the serial port too: what GRUB says, it
        // says there twice, the second time perhaps cut short by what follows.
        said.dedup();
    }
    Ok(said)
}

const UNTRIED: [(&str, &str); 2] = [("A_TRY", "0"), ("B_TRY", "0")];
/// Of three.
const ONE_TRY_LEFT: [(&str, &str); 2] = [("A_TRY", "2"), ("B_TRY", "2")];
const NONE_LEFT: &str = "no slot is left to try; they are tried again";
const A_IS_EMPTY: &str = "slot A cannot be booted; the box starts again";
const STARTS_A: [&str; 2] =
    ["starts slot A (hd0,gpt3)", "slot A, 6b696c6e-6170-706c-8000-000000000003, system-a"];
const STARTS_B: [&str; 2] =
    ["starts slot B (hd0,gpt4)", "slot B, 6b696c6e-6170-706c-8000-000000000004, system-b"];
/// What GRUB says, behind `Kiln: `.
const GRUB: [&str; 4] = [STARTS_A[0], STARTS_B[0], NONE_LEFT, A_IS_EMPTY];

fn the_last_try_of_each_slot(name: &str, firmware: &Firmware) -> Result<()> {
    let folder = Folder::new(name);
    let disk = disk(
        &folder,
        [true, true],
        &[&[("ORDER", "A B"), ("A_OK", "1"), ("B_OK", "1")][..], &ONE_TRY_LEFT].concat(),
    )?;
    let mut machine = Machine::new(&folder, firmware, 512)?.disk(&disk).start()?;
    assert_eq!(boots(&mut machine, 3)?, [&STARTS_A[..], &STARTS_B, &[NONE_LEFT], &STARTS_A].concat());
    let console = machine.console();
    let seal = Seal::read(&kept()?.slot)?;
    for line in [
        "KILN seal kiln-seal 1".to_owned(),
        format!("KILN seal root {}", seal.root),
        "KILN root VERSION_ID=0.0.7".to_owned(),
        "KILN rules 1".to_owned(),
        "KILN runs mke2fs".to_owned(),
        "KILN runs e2fsck".to_owned(),
        "KILN init is host".to_owned(),
    ] {
        assert_eq!(console.lines().filter(|said| **said == line).count(), 3, "{line}\n{console}");
    }
    assert!(!console.contains("KILN cannot"), "{console}");
    // A machine without graphics has no video mode for UEFI to set.
    let errors =
        console.matches("error: ").count() - console.matches("error: no suitable video mode").count();
    assert_eq!(errors, 0, "{console}");
    folder.passed();
    Ok(())
}

#[test]
fn on_bios_each_slot_is_tried_three_times_and_then_all_again() -> Result<()> {
    the_last_try_of_each_slot("appliance-bios", &Firmware::Bios)
}

#[test]
fn on_uefi_each_slot_is_tried_three_times_and_then_all_again() -> Result<()> {
    the_last_try_of_each_slot("appliance-uefi", &Firmware::Uefi)
}

#[test]
fn a_slot_on_trial_is_tried_once_and_the_other_as_ever() -> Result<()> {
    let folder = Folder::new("appliance-trial");
    let disk = disk(
        &folder,
        [true, true],
        &[&[("ORDER", "B A"), ("TRIAL", "B"), ("A_OK", "1"), ("B_OK", "1")][..], &UNTRIED].concat(),
    )?;
    let mut machine = Machine::new(&folder, &Firmware::Bios, 512)?.disk(&disk).start()?;
    assert_eq!(boots(&mut machine, 3)?, [&STARTS_B[..], &STARTS_A, &STARTS_A].concat());
    folder.passed();
    Ok(())
}

#[test]
fn a_slot_that_is_marked_bad_is_not_started_even_when_the_other_was_tried() -> Result<()> {
    let folder = Folder::new("appliance-bad");
    let disk = disk(
        &folder,
        [true, true],
        &[&[("ORDER", "A B"), ("A_OK", "0"), ("B_OK", "1")][..], &ONE_TRY_LEFT].concat(),
    )?;
    let mut machine = Machine::new(&folder, &Firmware::Bios, 512)?.disk(&disk).start()?;
    assert_eq!(boots(&mut machine, 2)?, [&STARTS_B[..], &[NONE_LEFT], &STARTS_B].concat());
    folder.passed();
    Ok(())
}

#[test]
fn with_both_marked_bad_and_one_empty_the_other_is_started() -> Result<()> {
    let folder = Folder::new("appliance-both-bad");
    let disk = disk(
        &folder,
        [false, true],
        &[&[("ORDER", "A B"), ("A_OK", "0"), ("B_OK", "0")][..], &UNTRIED].concat(),
    )?;
    let mut machine = Machine::new(&folder, &Firmware::Uefi, 512)?.disk(&disk).start()?;
    let expected = [&[NONE_LEFT, STARTS_A[0], A_IS_EMPTY][..], &STARTS_B].concat();
    assert_eq!(boots(&mut machine, 1)?, expected);
    folder.passed();
    Ok(())
}

#[test]
fn on_bios_a_key_held_down_brings_a_menu() -> Result<()> {
    let folder = Folder::new("appliance-menu");
    let mut machine = Machine::new(&folder, &Firmware::Bios, 512)?.disk(&kept()?.disk).start()?;
    // From here on the BIOS knows its keyboard.
    machine.awaited("Booting from Hard Disk", PATIENCE)?;
    machine.hold_key("shift")?;
    until(PATIENCE, "the boot loader's menu", || {
        Ok(machine.console().contains("Kiln, slot B").then_some(()))
    })
    .with_context(|| format!("the console said:\n{}", machine.console()))?;
    assert!(!machine.console().contains("Kiln: starts"), "{}", machine.console());
    folder.passed();
    Ok(())
}

fn path(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

fn run(name: &str, arguments: &[&str], paths: &[&Path]) -> Result<Output> {
    let output = Command::new(name).args(arguments).args(paths).env("LC_ALL", "C").output();
    output.with_context(|| format!("{name} cannot be started: run hw-tests/setup"))
}

/// Runs it, to success, and returns what it says.
fn good(name: &str, arguments: &[&str], paths: &[&Path]) -> Result<String> {
    let output = run(name, arguments, paths)?;
    ensure!(output.status.success(), "{name} {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
