#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use super::*;

fn block(variables: &[(&str, &str)]) -> Block {
    let mut block = Block::default();
    variables.iter().for_each(|(name, value)| block.set(name, value));
    block
}

#[test]
fn what_is_written_is_read() {
    let written = block(&[("ORDER", "B A"), ("A_OK", "1"), ("kiln_args", "a\\b c\nd=e#f"), ("empty", "")]);
    let octets = written.octets().unwrap();
    assert_eq!(octets.len(), SIZE);
    assert_eq!(Block::parse(&octets).unwrap(), written);
    assert_eq!(Block::parse(&block(&[]).octets().unwrap()).unwrap(), Block::default());
}

#[test]
fn what_is_no_block_is_refused_and_none_makes_it_panic() {
    assert!(Block::parse(b"").is_err());
    assert!(Block::parse(b"# GRUB Environment Block\nA_OK\n###").is_err());
    assert!(Block::parse(b"# GRUB Environment Block\nA_OK=1").is_err());
    assert!(Block::parse(b"# GRUB Environment Block\n=1\n###").is_err());
    let whole = block(&[("ORDER", "B A"), ("x", "\\\n")]).octets().unwrap();
    for end in 0..whole.len() {
        // Either is well.
        let _ = Block::parse(&whole[..end]);
        let mut flipped = whole.clone();
        flipped[end] ^= 0xff;
        let _ = Block::parse(&flipped);
    }
}

#[test]
fn variables_that_do_not_fit_are_refused() {
    assert!(block(&[("kiln_args", &"x".repeat(SIZE))]).octets().is_err());
}

#[test]
fn rauc_s_words_change_a_block_in_place() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("grubenv");
    let mut block = Block::default();
    block.set("A_OK", "1");
    std::fs::write(&file, block.octets().unwrap()).unwrap();
    let call = |words: &[&str]| {
        let file = file.display().to_string();
        edit([file].into_iter().chain(words.iter().map(|word| (*word).to_owned())))
    };
    call(&["set", "ORDER=B A", "B_OK=1"]).unwrap();
    let there = Block::parse(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(
        (there.get("A_OK"), there.get("ORDER"), there.get("B_OK")),
        (Some("1"), Some("B A"), Some("1"))
    );
    call(&["list"]).unwrap();
    assert!(call(&["set", "ORDER"]).is_err());
    assert!(call(&["unset", "ORDER"]).is_err());
    assert!(call(&[]).is_err());
}
