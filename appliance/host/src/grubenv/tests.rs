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
