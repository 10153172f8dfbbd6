//! The Secure Boot profile, with a firmware in setup mode and its owner's keys.

use super::lone::{Lone, Start, copy, flash};
use super::update::{owner, release};
use super::{WHOLE, directory};
use control::StatusView;
use hw_tests::artifact::appliance::{Owner, SLOT_OFFSETS, Seal};
use hw_tests::artifact::cpio::Archive;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

/// A program, signed by another owner, in the folder `scratch`.
pub(super) fn signed_by(stranger: &Owner, program: &[u8], scratch: &Path) -> Vec<u8> {
    let [unsigned, signed] = ["theirs", "theirs.signed"].map(|name| scratch.join(name));
    fs::write(&unsigned, program).unwrap();
    tool("sbattach", &["--remove", &unsigned.display().to_string()]);
    stranger.sign(&unsigned, &signed).unwrap();
    fs::read(&signed).unwrap()
}

/// A file of a disk's ESP, in the folder `scratch`.
pub(super) fn taken(disk: &Path, file: &str, scratch: &Path) -> Vec<u8> {
    let esp = format!("{}@@{}", disk.display(), hw_tests::artifact::appliance::ESP_OFFSET);
    let out = scratch.join("taken");
    tool("mcopy", &["-n", "-o", "-i", &esp, &format!("::{file}"), &out.display().to_string()]);
    fs::read(&out).unwrap()
}

fn tool(name: &str, arguments: &[&str]) {
    let output = Command::new(name).args(arguments).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Takes a file from a disk's ESP, changes it, and puts it back.
fn change(disk: &Path, file: &str, scratch: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let esp = format!("{}@@{}", disk.display(), hw_tests::artifact::appliance::ESP_OFFSET);
    let (there, out) = (format!("::{file}"), scratch.join("changed"));
    let mut octets = taken(disk, file, scratch);
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
    let made = release("0.7.1", "ours", &Archive::default());
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
    change(&altered, "EFI/Linux/kiln-a.efi", &folder, |octets| {
        let middle = octets.len() / 2;
        octets[middle] ^= 1;
    });
    let denied = ["Access denied", "Access Denied", "Security Violation", "Security violation"];
    refused(&folder, &altered, &denied);

    // A boot loader that somebody else signed.
    copy(&disk, &altered);
    change(&altered, "EFI/BOOT/BOOTX64.EFI", &folder, |octets| {
        *octets = signed_by(&owner("stranger"), octets, &folder);
    });
    refused(&folder, &altered, &denied);

    // A slot that is whole, and is not the one whose root hash was signed.
    copy(&disk, &altered);
    let other = release("0.7.2", "ours", &Archive::default());
    let slot = File::options().write(true).open(&altered).unwrap();
    slot.write_all_at(&fs::read(&other.slot).unwrap(), SLOT_OFFSETS[0]).unwrap();
    assert_ne!(Seal::read(&other.slot).unwrap().root, Seal::read(&made.slot).unwrap().root);
    refused(&folder, &altered, &["is in no slot: slot A on /dev/vda3 has another system, version 0.7.2"]);
}
