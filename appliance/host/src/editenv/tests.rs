#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use super::*;
use crate::grubenv::Block;

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
