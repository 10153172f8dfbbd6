use std::process::Command;

use super::Archive;

fn sample() -> Vec<u8> {
    let mut archive = Archive::default();
    archive.file("lib/modules/list", b"four".to_vec(), false);
    archive.link("sbin/modprobe", "/init");
    archive.file("init", b"#!/bin/sh\n".to_vec(), true);
    archive.directory("proc");
    let mut out = Vec::new();
    archive.write(&mut out).unwrap();
    out
}

#[test]
fn a_directory_comes_before_what_is_in_it_and_every_part_is_aligned() {
    let out = sample();
    assert_eq!(out.len() % 4, 0);
    let mut names = Vec::new();
    let mut at = 0;
    while at < out.len() {
        assert_eq!(&out[at..at + 6], b"070701", "a header at {at}");
        let field = |n: usize| {
            let digits = std::str::from_utf8(&out[at + 6 + 8 * n..at + 14 + 8 * n]).unwrap();
            usize::from_str_radix(digits, 16).unwrap()
        };
        let (size, name_size) = (field(6), field(11));
        names.push(String::from_utf8(out[at + 110..at + 110 + name_size - 1].to_vec()).unwrap());
        at = (at + 110 + name_size).next_multiple_of(4);
        at = (at + size).next_multiple_of(4);
    }
    assert_eq!(
        names,
        ["init", "lib", "lib/modules", "lib/modules/list", "proc", "sbin", "sbin/modprobe", "TRAILER!!!"]
    );
}

#[test]
fn the_same_entries_give_the_same_octets() {
    assert_eq!(sample(), sample());
}

#[test]
fn gnu_cpio_reads_it() {
    let path = std::env::temp_dir().join(format!("cpio-{}", std::process::id()));
    std::fs::write(&path, sample()).unwrap();
    let listed = Command::new("cpio")
        .args(["-itv", "--quiet", "-F"])
        .arg(&path)
        .env("LC_ALL", "C")
        .output()
        .expect("cpio is installed by hw-tests/setup");
    std::fs::remove_file(&path).unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("-rwxr-xr-x   1 root     root           10 Jan  1  1970 init"), "{listed}");
    assert!(listed.contains("sbin/modprobe -> /init"), "{listed}");
}
