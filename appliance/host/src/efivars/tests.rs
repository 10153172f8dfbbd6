#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use super::*;

#[test]
fn a_text_is_utf_16_with_a_zero_at_its_end() {
    assert_eq!(octets("kiln"), b"k\0i\0l\0n\0\0\0");
    assert_eq!(text(&octets("kiln-b.efi")).as_deref(), Some("kiln-b.efi"));
    assert_eq!(text(b"k\0i\0\0\0l\0").as_deref(), Some("ki"), "what is behind the zero is none of it");
    assert_eq!(text(b"k\0i\0x").as_deref(), Some("ki"), "half a letter is none");
    assert_eq!(text(&[0x00, 0xd8]), None, "half a pair is no text");
    assert_eq!(text(b"").as_deref(), Some(""));
}

#[test]
fn a_variable_is_its_value_behind_four_octets_of_attributes() {
    let folder = tempfile::tempdir().unwrap();
    let variables = Variables::at(folder.path());
    let name = Name("ours");
    assert_eq!(variables.get(name).unwrap(), None);
    assert_eq!(variables.remove(name).unwrap(), Did::Already);
    assert_eq!(variables.set(name, b"one").unwrap(), Did::Changed);
    assert_eq!(fs::read(folder.path().join("ours")).unwrap(), b"\x07\0\0\0one");
    assert_eq!(variables.set(name, b"one").unwrap(), Did::Already);
    assert_eq!(variables.get(name).unwrap().as_deref(), Some(&b"one"[..]));
    assert_eq!(variables.remove(name).unwrap(), Did::Changed);
    assert_eq!(variables.get(name).unwrap(), None);
    fs::write(folder.path().join("ours"), b"\x07\0").unwrap();
    assert_eq!(variables.get(name).unwrap(), None, "one that is being removed");
}
