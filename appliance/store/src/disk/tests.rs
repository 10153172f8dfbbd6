use super::*;
use crate::EventNumber;

fn options() -> Options {
    Options { snapshot_every: 10, ..Options::default() }
}

fn put(number: u64) -> Batch {
    Batch::new().put(Table::Node, format!("n{}", number % 3), format!("{number}")).event("e")
}

fn filled(commits: u64) -> (tempfile::TempDir, Sled) {
    let dir = tempfile::tempdir().unwrap();
    let mut sled = Sled::open(dir.path(), options()).unwrap();
    for number in 1..=commits {
        sled.commit(put(number)).unwrap();
    }
    (dir, sled)
}

fn reopened(dir: &tempfile::TempDir, sled: Sled) -> Sled {
    drop(sled);
    Sled::open(dir.path(), options()).unwrap()
}

/// The commit fails, the store stops, and a new open has `expected` as its newest.
fn stops(dir: &tempfile::TempDir, mut sled: Sled, expected: u64) -> Sled {
    let error = sled.commit(put(6)).unwrap_err();
    assert!(matches!(error, StoreError::Stopped { failed: CommitNumber(6), source: Some(_) }), "{error}");
    assert!(!error.is_refusal());
    let error = sled.commit(put(6)).unwrap_err();
    assert!(matches!(error, StoreError::Stopped { failed: CommitNumber(6), source: None }), "{error}");
    assert_eq!(sled.newest_commit(), CommitNumber(5));
    let sled = reopened(dir, sled);
    assert_eq!(sled.newest_commit(), CommitNumber(expected));
    assert_eq!(sled.event_span().newest, EventNumber(expected));
    sled
}

#[test]
fn a_commit_that_the_journal_does_not_take_is_not_made() {
    let (dir, mut sled) = filled(5);
    sled.journal.break_file();
    let sled = stops(&dir, sled, 5);
    assert_eq!(sled.findings(), []);
}

#[test]
fn a_commit_that_only_the_journal_took_is_made_by_the_next_open() {
    let (dir, mut sled) = filled(5);
    sled.pages.break_file();
    stops(&dir, sled, 6);
}

#[test]
fn a_commit_in_the_journal_alone_is_redone() {
    let (dir, mut sled) = filled(5);
    let entry = ledger::entry(&sled.head, put(6), 100, |raw| sled.pages.get(raw)).unwrap().unwrap();
    sled.journal.append(&entry.encode()).unwrap();
    let sled = reopened(&dir, sled);
    assert_eq!(sled.findings(), [Finding::Redone(CommitNumber(6))]);
    assert_eq!(sled.get(Table::Node, "n0").unwrap(), Some(b"6".to_vec()));
    assert_eq!(reopened(&dir, sled).findings(), []);
}

#[test]
fn two_commits_in_the_journal_alone_mean_that_the_database_was_cut() {
    let (dir, mut sled) = filled(5);
    let mut state = sled.pages.read_all().unwrap();
    for number in [6, 7] {
        let entry = ledger::entry(&state.head, put(number), 100, |raw| Ok(state.records.get(raw).cloned()));
        let entry = entry.unwrap().unwrap();
        state.apply(&entry).unwrap();
        sled.journal.append(&entry.encode()).unwrap();
    }
    drop(sled);
    let error = Sled::open(dir.path(), options()).err().unwrap();
    assert!(error.to_string().contains("cut at commit 5, 7 was acknowledged"), "{error}");
    let (sled, recovery) = Sled::recover(dir.path(), options()).unwrap();
    assert_eq!((sled.newest_commit(), recovery.unwrap().lost()), (CommitNumber(7), 0));
}

#[test]
fn damage_that_a_snapshot_finds_stops_the_store_and_is_recovered() {
    let (dir, mut sled) = filled(15);
    sled.pages.lose(&raw_key(Table::Node, "n1"));
    for number in 16.. {
        let number = number * 3;
        match sled.commit(put(number)) {
            Ok(commit) => assert!(commit.number.0 <= 20),
            Err(error) => {
                assert!(error.is_damage(), "{error}");
                break;
            }
        }
    }
    assert_eq!(sled.newest_commit(), CommitNumber(20), "the snapshot was due then");
    drop(sled);
    let (sled, recovery) = Sled::recover(dir.path(), options()).unwrap();
    assert_eq!((sled.newest_commit(), recovery.unwrap().lost()), (CommitNumber(20), 0));
    assert_eq!(sled.get(Table::Node, "n1").unwrap(), Some(b"13".to_vec()));
}

#[test]
fn a_write_that_was_cut_short_before_its_rename_leaves_nothing() {
    let (dir, sled) = filled(1);
    let left = dir.path().join("snapshots").join(number_name(1)).with_added_extension("new");
    std::fs::write(&left, "half").unwrap();
    reopened(&dir, sled);
    assert!(!left.exists());
}
