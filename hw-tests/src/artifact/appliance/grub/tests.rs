use std::fs;
use std::process::Command;

use super::{FIRST, environment};

#[test]
fn a_block_has_1024_octets_whatever_is_in_it() {
    let block = environment(&FIRST).unwrap();
    assert_eq!(block.len(), 1024);
    let text = "# GRUB Environment Block\nORDER=A B\nA_OK=1\nB_OK=0\nA_TRY=0\nB_TRY=0\nTRIAL=\n####";
    assert!(block.starts_with(text.as_bytes()));
    assert_eq!(environment(&[]).unwrap().len(), 1024);
    assert!(environment(&[("kiln_args", &"x".repeat(1024))]).is_err());
}

#[test]
fn grubs_own_editor_reads_what_was_written() {
    let path = std::env::temp_dir().join(format!("grubenv-{}", std::process::id()));
    fs::write(&path, environment(&[("ORDER", "B A"), ("kiln_args", r"a\b c")]).unwrap()).unwrap();
    let output = Command::new("grub-editenv").arg(&path).arg("list").output();
    fs::remove_file(&path).unwrap();
    let output = output.expect("grub-editenv is in hw-tests/setup's list");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ORDER=B A\nkiln_args=a\\b c\n");
}
