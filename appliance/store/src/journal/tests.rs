use super::*;
use crate::entry::{Head, State, raw_key};
use crate::{Batch, Table, ledger};

/// A journal of so many entries, and where each ends.
fn written(dir: &Path, count: u64) -> (Vec<Entry>, Vec<u64>) {
    let mut state = State::EMPTY;
    let mut journal = Journal::create(dir, CommitNumber(0)).unwrap();
    let (mut entries, mut ends) = (Vec::new(), Vec::new());
    for number in 1..=count {
        let batch = Batch::new().put(Table::Node, "n", format!("{number}")).event("e");
        let entry = ledger::entry(&state.head, batch, 100, |raw| Ok(state.records.get(raw).cloned()));
        let entry = entry.unwrap().unwrap();
        state.apply(&entry).unwrap();
        journal.reserve(entry.encoded_len()).unwrap();
        journal.append(&entry.encode()).unwrap();
        entries.push(entry);
        ends.push(journal.len());
    }
    (entries, ends)
}

fn all(dir: &Path) -> (Vec<Entry>, Reading) {
    let mut found = Vec::new();
    let reading = read(dir, |entry| found.push(entry.clone())).unwrap();
    (found, reading)
}

#[test]
fn what_is_appended_is_read_and_appended_to() {
    let dir = tempfile::tempdir().unwrap();
    let (entries, ends) = written(dir.path(), 3);
    let (found, reading) = all(dir.path());
    assert_eq!(found, entries);
    assert_eq!((reading.newest, reading.oldest), (Some(CommitNumber(3)), Some(CommitNumber(0))));
    assert!(reading.damage.is_empty() && !reading.torn());
    assert_eq!(reading.resume().unwrap().unwrap().len(), ends[2]);
}

/// A power cut in the middle of a write leaves any part of it, and zeros after it.
#[test]
fn a_write_cut_short_at_any_byte_leaves_the_entries_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let (entries, ends) = written(dir.path(), 3);
    let path = dir.path().join(number_name(0));
    let whole = fs::read(&path).unwrap();
    for cut in ends[1]..ends[2] {
        let mut bytes = whole.clone();
        bytes[cut as usize..ends[2] as usize].fill(0);
        // The last byte of an entry may be a zero of its own.
        if bytes == whole {
            continue;
        }
        fs::write(&path, &bytes).unwrap();
        let (found, reading) = all(dir.path());
        assert_eq!(found, entries[..2], "{cut}");
        assert!(reading.damage.is_empty());
        assert_eq!(reading.torn(), cut > ends[1], "{cut}");
        drop(reading.resume().unwrap());
        assert!(!all(dir.path()).1.torn(), "{cut}: it is mended");
    }
}

#[test]
fn an_unreadable_entry_in_the_middle_is_damage_and_those_behind_it_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let (entries, ends) = written(dir.path(), 4);
    let path = dir.path().join(number_name(0));
    let whole = fs::read(&path).unwrap();
    for at in ends[0]..ends[1] {
        let mut bytes = whole.clone();
        bytes[at as usize] ^= 0x10;
        fs::write(&path, &bytes).unwrap();
        let (found, reading) = all(dir.path());
        assert_eq!(found, [&entries[..1], &entries[2..]].concat(), "{at}");
        assert_eq!((reading.damage.len(), reading.newest), (1, Some(CommitNumber(4))), "{at}");
    }
}

#[test]
fn a_gap_between_two_files_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 3);
    Journal::create(dir.path(), CommitNumber(3)).unwrap();
    assert_eq!(all(dir.path()).1.gaps, []);
    fs::rename(dir.path().join(number_name(3)), dir.path().join("kept")).unwrap();
    Journal::create(dir.path(), CommitNumber(4)).unwrap();
    assert_eq!(all(dir.path()).1.gaps, [(CommitNumber(3), CommitNumber(4))]);
}

#[test]
fn files_that_only_older_snapshots_need_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    for base in [0, 10, 20, 30] {
        Journal::create(dir.path(), CommitNumber(base)).unwrap();
    }
    forget_before(dir.path(), CommitNumber(19)).unwrap();
    assert_eq!(numbered(dir.path()).unwrap(), [10, 20, 30]);
    forget_before(dir.path(), CommitNumber(99)).unwrap();
    assert_eq!(numbered(dir.path()).unwrap(), [30]);
}

#[test]
fn a_long_entry_finds_room() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::create(dir.path(), CommitNumber(0)).unwrap();
    let changes = [(raw_key(Table::Node, "n"), Some(vec![7; 300_000]))].into();
    let entry = Entry { head: Head { commit: CommitNumber(1), ..Head::EMPTY }, changes };
    journal.reserve(entry.encoded_len()).unwrap();
    journal.append(&entry.encode()).unwrap();
    assert_eq!(all(dir.path()).0, [entry]);
}
