//! The set-up on machines that it is not for.
#![cfg(test)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

fn setup() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("setup")
}

fn refused(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

/// A directory with one program that says this and nothing else.
fn program(test: &str, name: &str, says: &str) -> PathBuf {
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    fs::create_dir_all(&place).unwrap();
    let file = place.join(name);
    fs::write(&file, format!("#!/bin/sh\necho {says}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    place
}

#[test]
fn who_is_not_root_is_told_so() {
    let place = program("not-root", "id", "1000");
    let path = format!("{}:{}", place.display(), std::env::var("PATH").unwrap());
    let said = refused(&Command::new(setup()).env("PATH", path).output().unwrap());
    assert!(said.contains("not root") && said.contains("sudo"), "{said}");
}

#[test]
fn another_distribution_is_named() {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("os-release");
    fs::write(&file, "ID=fedora\nVERSION_ID=43\n").unwrap();
    let inside = format!("mount --bind '{}' /etc/os-release && exec '{}'", file.display(), setup().display());
    let output = Command::new("unshare").args(["--mount", "sh", "-c", &inside]).output().unwrap();
    let said = refused(&output);
    assert!(said.contains("fedora 43") && said.contains("Debian 12"), "{said}");
}

#[test]
fn without_cargo_it_says_what_to_install() {
    let output = Command::new(setup())
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/nonexistent")
        .output();
    let said = refused(&output.unwrap());
    assert!(said.contains("install Rust"), "{said}");
}
