use super::*;
use crate::Table;
use crate::entry::raw_key;

fn state() -> State {
    let mut state = State::EMPTY;
    state.head.commit = CommitNumber(9);
    for (key, value) in [("a", "1"), ("b", "22"), ("c", "")] {
        let (raw, value) = (raw_key(Table::Node, key), value.as_bytes().to_vec());
        state.head.add(&raw, &value);
        state.records.insert(raw, value);
    }
    state
}

#[test]
fn a_snapshot_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), 1, &state()).unwrap();
    assert_eq!(path, dir.path().join("00000000000000000009"));
    assert_eq!(read(&path, 1).unwrap(), (state(), 1));
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let bytes = encode(1, &state());
    for at in 0..bytes.len() {
        assert!(decode(&bytes[..at], 1).is_err(), "cut at {at}");
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            assert!(matches!(decode(&flipped, 1), Err(Fault::Damaged(_))), "byte {at} bit {bit}");
        }
    }
}

#[test]
fn records_other_than_the_head_tells_of_are_found() {
    let mut wrong = state();
    wrong.records.pop_last();
    assert!(matches!(decode(&encode(1, &wrong), 1), Err(Fault::Damaged(why)) if why.contains("head")));
}

#[test]
fn a_newer_format_is_no_damage() {
    let mut bytes = encode(1, &state());
    bytes.truncate(bytes.len() - 4);
    bytes[8] = 2;
    let sum = checksum(&bytes, &[]);
    bytes.extend(sum.to_le_bytes());
    assert!(matches!(decode(&bytes, 1), Err(Fault::Newer(2))));
}

#[test]
fn the_newest_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    for commit in [3, 1, 12, 7] {
        let mut state = state();
        state.head.commit = CommitNumber(commit);
        write(dir.path(), 1, &state).unwrap();
    }
    assert_eq!(forget_all_but(dir.path(), 5).unwrap(), None);
    assert_eq!(forget_all_but(dir.path(), 2).unwrap(), Some(CommitNumber(7)));
    assert_eq!(numbered(dir.path()).unwrap(), [7, 12]);
}
