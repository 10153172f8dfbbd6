//! The Secure Boot profile, with a firmware in setup mode and its owner's keys.

use super::lone::{Lone, Start, copy, flash};
use super::{WHOLE, directory};
use control::StatusView;
use hw_tests::artifact::Workshop;
use hw_tests::artifact::appliance::{Image, Owner, Programs, Recipe, Release, SLOT_OFFSETS, Seal, image};
use hw_tests::artifact::cpio::Archive;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

/// The image of this build with the profile of an owner of these tests.
fn owned() -> (Owner, Image) {
    let workshop = Workshop::open().unwrap();
    let own = std::env::current_exe().unwrap();
    let programs = Programs::built(own.ancestors().nth(2).unwrap());
    let owner = Owner::of(&workshop.target().join("artifacts/owners/ours")).unwrap();
    let release = Release { version: "0.7.1".to_owned(), commit: "of-a-test".to_owned() };
    let more = Archive::default();
    let recipe =
        Recipe { programs: &programs, release: &release, signer: None, owner: Some(&owner), more: &more };
    let made = image(&workshop, &recipe).unwrap().0;
    (owner, made)
}

fn tool(name: &str, arguments: &[&str]) {
    let output = Command::new(name).args(arguments).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Takes a file from a disk's ESP, changes it, and puts it back.
fn change(disk: &Path, file: &str, scratch: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let esp = format!("{}@@{}", disk.display(), hw_tests::artifact::appliance::ESP_OFFSET);
    let (there, out) = (format!("::{file}"), scratch.join("changed"));
    tool("mcopy", &["-n", "-o", "-i", &esp, &there, &out.display().to_string()]);
    let mut octets = fs::read(&out).unwrap();
    change(&mut octets);
    fs::write(&out, octets).unwrap();
    tool("mcopy", &["-o", "-i", &esp, &out.display().to_string(), &there]);
}

/// Starts a box whose disk was changed, with the firmware that knows its owner: what it says, and that no system
/// of ours said a word.
fn refused(folder: &Path, disk: &Path, words: &[&str]) {
    let _ = fs::remove_file(folder.join("console.log"));
    let mut lone = Lone::start(folder, disk, Start::Secure);
    let said = lone.wait(WHOLE, &format!("one of {words:?} on the console"), |lone| {
        let said = lone.console();
        words.iter().any(|word| said.contains(word)).then_some(said)
    });
    assert!(!said.contains("API  ") && !said.contains("service started"), "it started:\n{said}");
}

#[test]
fn with_secure_boot_the_owner_s_system_starts_and_an_altered_one_does_not() {
    let folder = directory("image-secure");
    let _ = fs::remove_dir_all(&folder);
    let (owner, made) = owned();
    let disk = flash(&made.secure, &folder);
    {
        let mut lone = Lone::start(&folder, &disk, Start::Secure);
        lone.wait(WHOLE, "the box to take its keys and serve", |lone| {
            lone.json::<StatusView>(&["status"]).ok()
        });
        let said = lone.console();
        assert!(said.contains("slot A, Secure Boot"), "{said}");
        assert!(!said.contains("WRONG"), "{said}");
    }

    // A kernel image in which one octet is another.
    let altered = folder.join("altered.img");
    copy(&disk, &altered);
    change(&altered, "EFI/Linux/kiln-A.efi", &folder, |octets| {
        let middle = octets.len() / 2;
        octets[middle] ^= 1;
    });
    let denied = ["Access denied", "Access Denied", "Security Violation", "Security violation"];
    refused(&folder, &altered, &denied);

    // A boot loader that somebody else signed.
    copy(&disk, &altered);
    let workshop = Workshop::open().unwrap();
    let stranger = Owner::of(&workshop.target().join("artifacts/owners/stranger")).unwrap();
    change(&altered, "EFI/BOOT/BOOTX64.EFI", &folder, |octets| {
        let [unsigned, signed] = ["theirs", "theirs.signed"].map(|name| folder.join(name));
        fs::write(&unsigned, &octets).unwrap();
        tool("sbattach", &["--remove", &unsigned.display().to_string()]);
        stranger.sign(&unsigned, &signed).unwrap();
        *octets = fs::read(&signed).unwrap();
    });
    refused(&folder, &altered, &denied);

    // A slot that is whole, and is not the one whose root hash was signed.
    copy(&disk, &altered);
    let other = super::update::release("0.7.2", "ours", &Archive::default());
    let slot = File::options().write(true).open(&altered).unwrap();
    slot.write_all_at(&fs::read(&other.slot).unwrap(), SLOT_OFFSETS[0]).unwrap();
    assert_ne!(Seal::read(&other.slot).unwrap().root, Seal::read(&made.slot).unwrap().root);
    refused(&folder, &altered, &["slot A on /dev/vda3 is damaged"]);
    drop(owner);
}
