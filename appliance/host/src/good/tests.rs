#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use super::*;

#[test]
fn a_slot_is_marked_once_and_the_other_s_state_stays() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("grubenv");
    let mut block = Block::default();
    for (name, value) in [("ORDER", "B A"), ("A_OK", "1"), ("B_OK", "1"), ("A_TRY", "0"), ("B_TRY", "1")] {
        block.set(name, value);
    }
    fs::write(&file, block.octets().unwrap()).unwrap();
    assert_eq!(mark(&file, "B").unwrap(), Did::Changed);
    block.set("B_TRY", "0");
    assert_eq!(Block::parse(&fs::read(&file).unwrap()).unwrap(), block);
    assert_eq!(mark(&file, "B").unwrap(), Did::Already);
}

#[test]
fn a_file_that_is_no_block_is_made_one() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("grubenv");
    fs::write(&file, [0; 1024]).unwrap();
    assert_eq!(mark(&file, "A").unwrap(), Did::Changed);
    let block = Block::parse(&fs::read(&file).unwrap()).unwrap();
    assert_eq!((block.get("A_OK"), block.get("A_TRY")), (Some("1"), Some("0")));
}
