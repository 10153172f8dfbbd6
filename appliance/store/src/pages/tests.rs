use super::*;
use crate::entry::raw_key;
use crate::{CommitNumber, Table};

fn opened() -> (tempfile::TempDir, Pages) {
    let dir = tempfile::tempdir().unwrap();
    let pages = Pages::open(&dir.path().join("sled")).unwrap();
    let mut state = State::EMPTY;
    state.head.commit = CommitNumber(5);
    for (key, size) in [("a", 10), ("b", 9000), ("c", 10)] {
        let (raw, value) = (raw_key(Table::Node, key), vec![7; size]);
        state.head.add(&raw, &value);
        state.records.insert(raw, value);
    }
    pages.fill(&state).unwrap();
    assert_eq!(pages.read_all().unwrap(), state);
    (dir, pages)
}

fn stored(key: &str, part: u8) -> Vec<u8> {
    part_key(&raw_key(Table::Node, key), Some(part))
}

fn damage(result: Result<State, StoreError>) -> String {
    match result.unwrap_err() {
        StoreError::Damaged { damage, .. } => damage.to_string(),
        other => panic!("{other}"),
    }
}

#[test]
fn a_value_that_changed_is_named() {
    let (_dir, pages) = opened();
    pages.db().insert(stored("b", 1), vec![8; PART]).unwrap();
    assert_eq!(damage(pages.read_all()), "node/b fails its checksum");
    assert!(pages.get(&raw_key(Table::Node, "b")).unwrap_err().is_damage());
    assert_eq!(pages.get(&raw_key(Table::Node, "a")).unwrap(), Some(vec![7; 10]));
}

#[test]
fn a_value_under_the_key_of_another_is_named() {
    let (_dir, pages) = opened();
    let a = pages.db().get(stored("a", 0)).unwrap().unwrap();
    pages.db().insert(stored("c", 0), a).unwrap();
    assert_eq!(damage(pages.read_all()), "node/c fails its checksum");
}

#[test]
fn a_part_that_is_missing_is_named() {
    let (_dir, pages) = opened();
    pages.db().remove(stored("b", 2)).unwrap();
    assert_eq!(damage(pages.read_all()), "node/b fails its checksum");
}

#[test]
fn a_record_that_is_missing_is_missed() {
    let (_dir, pages) = opened();
    pages.db().remove(stored("a", 0)).unwrap();
    let said = damage(pages.read_all());
    assert!(said.contains("2 found, 3 expected"), "{said}");
}

#[test]
fn a_stale_record_is_found_out_though_its_checksum_is_right() {
    let (_dir, pages) = opened();
    let mut batch = sled::Batch::default();
    insert(&mut batch, &raw_key(Table::Node, "a"), b"older");
    pages.db().apply_batch(batch).unwrap();
    let said = damage(pages.read_all());
    assert!(said.contains("not those of commit 5"), "{said}");
}

#[test]
fn records_without_a_head_are_damage() {
    let (_dir, pages) = opened();
    pages.db().remove(part_key(HEAD, Some(0))).unwrap();
    assert_eq!(damage(pages.read_all()), "the head fails its checksum");
}

#[test]
fn a_panic_of_sled_is_an_error() {
    let path = Path::new("db");
    let result: Result<(), _> = guarded(path, "opening", || panic!("tried to serialize {}", "rubbish"));
    let said = result.unwrap_err().to_string();
    assert!(said.contains("opening: tried to serialize rubbish"), "{said}");
}

#[test]
fn what_is_dropped_is_let_go_of() {
    let (dir, mut pages) = opened();
    for _ in 0..30 {
        drop(pages);
        let db = File::open(dir.path().join("sled/db")).unwrap();
        Flock::lock(db, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno).unwrap();
        pages = Pages::open(&dir.path().join("sled")).unwrap();
    }
}
