//! What control relies on, held against every store.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use serde::{Deserialize, Serialize};
use store::{
    Batch, CommitNumber, EventNumber, EventSpan, Failing, MAX_BATCH, MAX_CHANGES, MAX_VALUE, Memory, Options,
    Record, Sled, Store, StoreError, Table, Typed, Versioned,
};

/// Runs a test against the double and against the disk.
fn each(options: Options, test: impl Fn(&mut dyn Store)) {
    test(&mut Memory::new(options.clone()));
    let dir = tempfile::tempdir().unwrap();
    test(&mut Sled::open(dir.path(), options).unwrap());
}

fn texts(found: Vec<(EventNumber, Vec<u8>)>) -> Vec<(u64, String)> {
    found.into_iter().map(|(number, value)| (number.0, String::from_utf8(value).unwrap())).collect()
}

#[test]
fn a_batch_is_there_after_its_commit() {
    each(Options::default(), |store| {
        let batch = Batch::new().put(Table::Node, "n1", "1a").put(Table::Network, "n1", "1b").event("1e");
        let commit = store.commit(batch).unwrap();
        assert_eq!(
            (commit.number, commit.event(0), commit.event(1)),
            (CommitNumber(1), Some(EventNumber(1)), None)
        );
        assert_eq!(store.get(Table::Node, "n1").unwrap(), Some(b"1a".to_vec()));
        assert_eq!(store.get(Table::Network, "n1").unwrap(), Some(b"1b".to_vec()));
        assert_eq!(store.get(Table::Switch, "n1").unwrap(), None);
        assert_eq!(store.get(Table::Node, "n").unwrap(), None);

        let commit =
            store.commit(Batch::new().delete(Table::Node, "n1").put(Table::Node, "n2", "2")).unwrap();
        assert_eq!((commit.number, commit.events.is_empty()), (CommitNumber(2), true));
        assert_eq!(store.get(Table::Node, "n1").unwrap(), None);
        assert_eq!(store.newest_commit(), CommitNumber(2));
    });
}

#[test]
fn of_two_changes_to_a_key_the_later_counts() {
    each(Options::default(), |store| {
        store.commit(Batch::new().put(Table::Node, "a", "1").put(Table::Node, "a", "2")).unwrap();
        assert_eq!(store.get(Table::Node, "a").unwrap(), Some(b"2".to_vec()));
        let more = Batch::new().delete(Table::Node, "a");
        store.commit(Batch::new().put(Table::Node, "a", "3").and(more)).unwrap();
        assert_eq!(store.get(Table::Node, "a").unwrap(), None);
    });
}

#[test]
fn a_batch_that_changes_nothing_takes_no_number() {
    each(Options::default(), |store| {
        store.commit(Batch::new().put(Table::Node, "a", "1")).unwrap();
        for same in
            [Batch::new(), Batch::new().put(Table::Node, "a", "1"), Batch::new().delete(Table::Node, "b")]
        {
            let commit = store.commit(same).unwrap();
            assert_eq!((commit.number, commit.events.count()), (CommitNumber(1), 0));
        }
    });
}

#[test]
fn a_scan_finds_the_keys_of_one_table_that_begin_so_in_order() {
    each(Options::default(), |store| {
        let mut batch = Batch::new().put(Table::Network, "n1", "x").event("e");
        for key in ["n2/a", "n1", "n10", "m", "ü", "n2/b", "n2"] {
            batch = batch.put(Table::Node, key, key.as_bytes());
        }
        store.commit(batch).unwrap();
        let keys = |prefix| {
            let found = store.scan(Table::Node, prefix).unwrap();
            found
                .into_iter()
                .map(|(key, value)| {
                    assert_eq!(key.as_bytes(), value);
                    key
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(keys(""), ["m", "n1", "n10", "n2", "n2/a", "n2/b", "ü"]);
        assert_eq!(keys("n1"), ["n1", "n10"]);
        assert_eq!(keys("n2/"), ["n2/a", "n2/b"]);
        assert_eq!(keys("z"), [""; 0]);
    });
}

#[test]
fn values_of_every_size_come_back_and_larger_ones_are_refused() {
    each(Options::default(), |store| {
        let value = |size: usize| (0..size).map(|index| (index * 7 + size) as u8).collect::<Vec<u8>>();
        for size in [1, 4091, 4092, 4093, 4096, 4097, 8188, 65_536, MAX_VALUE, 5, 20_000] {
            store
                .commit(Batch::new().put(Table::Node, "big", value(size)).put(Table::Node, "big2", "x"))
                .unwrap();
            assert_eq!(store.get(Table::Node, "big").unwrap(), Some(value(size)), "{size}");
            assert_eq!(store.scan(Table::Node, "").unwrap().len(), 2);
        }
        let refused = store.commit(Batch::new().put(Table::Node, "big", value(MAX_VALUE + 1))).unwrap_err();
        assert!(matches!(&refused, StoreError::TooLarge { place, .. } if place == "node/big"), "{refused}");
        let event = store.commit(Batch::new().event(value(MAX_VALUE + 1))).unwrap_err();
        let mut large = Batch::new();
        for index in 0..MAX_BATCH / MAX_VALUE + 1 {
            large = large.put(Table::Node, index.to_string(), value(MAX_VALUE));
        }
        let large = store.commit(large).unwrap_err();
        let many =
            (0..=MAX_CHANGES).fold(Batch::new(), |batch, index| batch.delete(Table::Node, index.to_string()));
        let many = store.commit(many).unwrap_err();
        assert!([refused, event, large, many].iter().all(StoreError::is_refusal));
        assert_eq!(store.get(Table::Node, "big").unwrap(), Some(value(20_000)));
        store.commit(Batch::new().delete(Table::Node, "big")).unwrap();
    });
}

#[test]
fn a_key_that_no_table_can_hold_is_refused() {
    each(Options::default(), |store| {
        for key in ["", "a\0b", &"k".repeat(201)] {
            let error = store.commit(Batch::new().put(Table::Node, key, "1")).unwrap_err();
            assert!(matches!(error, StoreError::BadKey { .. }) && error.is_refusal(), "{error}");
        }
        store.commit(Batch::new().put(Table::Node, "k".repeat(200), "1")).unwrap();
    });
}

#[test]
fn events_are_numbered_without_gaps_and_read_in_pages() {
    each(Options::default(), |store| {
        assert_eq!(store.event_span(), EventSpan { oldest: EventNumber(1), newest: EventNumber(0) });
        store.commit(Batch::new().event("a").event("b")).unwrap();
        let commit = store.commit(Batch::new().event("c").put(Table::Node, "n", "1")).unwrap();
        assert_eq!(commit.events, 3..=3);
        let all = [(1, "a".to_owned()), (2, "b".to_owned()), (3, "c".to_owned())];
        assert_eq!(texts(store.events(EventNumber(0), 10).unwrap()), all);
        assert_eq!(texts(store.events(EventNumber(1), 1).unwrap()), all[1..2]);
        assert_eq!(texts(store.events(EventNumber(0), 0).unwrap()), []);
        assert_eq!(texts(store.events(EventNumber(3), 10).unwrap()), []);
        assert_eq!(texts(store.events(EventNumber(u64::MAX), 10).unwrap()), []);
    });
}

#[test]
fn pruning_keeps_the_newer_events_and_their_numbers() {
    each(Options::default(), |store| {
        for number in 1..=700 {
            store.commit(Batch::new().event(format!("{number}"))).unwrap();
            if number == 3 {
                store.prune(EventNumber(3)).unwrap();
                assert_eq!(store.event_span(), EventSpan { oldest: EventNumber(3), newest: EventNumber(3) });
            }
            if number == 99 {
                break;
            }
        }
        store.prune(EventNumber(90)).unwrap();
        store.prune(EventNumber(10)).unwrap();
        assert_eq!(store.event_span(), EventSpan { oldest: EventNumber(90), newest: EventNumber(99) });
        assert_eq!(
            texts(store.events(EventNumber(0), 2).unwrap()),
            [(90, "90".to_owned()), (91, "91".to_owned())]
        );
        store.prune(EventNumber(1_000_000)).unwrap();
        assert_eq!(store.event_span(), EventSpan { oldest: EventNumber(100), newest: EventNumber(99) });
        assert_eq!(store.commit(Batch::new().event("x")).unwrap().events, 100..=100);
        assert_eq!(texts(store.events(EventNumber(0), 9).unwrap()), [(100, "x".to_owned())]);
    });
}

#[test]
fn the_event_log_keeps_to_its_bound_however_much_comes() {
    each(Options { keep_events: 100, ..Options::default() }, |store| {
        for round in 0..30 {
            let batch = (0..70).fold(Batch::new(), |batch, event| batch.event(format!("{round}.{event}")));
            store.commit(batch).unwrap();
            let EventSpan { oldest, newest } = store.event_span();
            assert!(newest.0 - oldest.0 < 100 + 64, "{oldest}..{newest}");
        }
        let EventSpan { oldest, newest } = store.event_span();
        assert_eq!(newest, EventNumber(2100));
        let kept = store.events(EventNumber(0), usize::MAX).unwrap();
        assert_eq!(kept.len() as u64, newest.0 - oldest.0 + 1);
        assert_eq!(kept[0].0, oldest);
    });
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Node {
    name: String,
    cores: u32,
}

impl Versioned for Node {
    const VERSION: u8 = 2;

    /// Version 1 said `cpus`.
    fn migrate(version: u8, json: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Old {
            name: String,
            cpus: u32,
        }
        assert_eq!(version, 1);
        let Old { name, cpus } = serde_json::from_slice(json)?;
        Ok(Node { name, cores: cpus })
    }
}

impl Record for Node {
    const TABLE: Table = Table::Node;
}

#[derive(Serialize, Deserialize, Debug, PartialEq)]
struct Fact(u64);

impl Versioned for Fact {
    const VERSION: u8 = 1;
}

#[test]
fn records_are_json_behind_a_version_and_older_ones_are_migrated() {
    each(Options::default(), |store| {
        let node = Node { name: "a".into(), cores: 4 };
        store.commit(Batch::new().put_as("a", &node).event_as(&Fact(7))).unwrap();
        assert_eq!(store.get(Table::Node, "a").unwrap().unwrap(), b"\x02{\"name\":\"a\",\"cores\":4}");
        assert_eq!(store.get_as::<Node>("a").unwrap(), Some(node));
        assert_eq!(store.get_as::<Node>("b").unwrap(), None);
        assert_eq!(store.events_as(EventNumber(0), 5).unwrap(), [(EventNumber(1), Fact(7))]);

        store.commit(Batch::new().put(Table::Node, "b", *b"\x01{\"name\":\"b\",\"cpus\":8}")).unwrap();
        let all = store.scan_as::<Node>("").unwrap();
        assert_eq!(
            all.iter().map(|(key, node)| (&key[..], node.cores)).collect::<Vec<_>>(),
            [("a", 4), ("b", 8)]
        );
        store.commit(Batch::new().delete_as::<Node>("b")).unwrap();
        assert_eq!(store.get_as::<Node>("b").unwrap(), None);
    });
}

#[test]
fn a_record_that_cannot_be_read_is_named() {
    each(Options::default(), |store| {
        store
            .commit(Batch::new().put(Table::Node, "new", *b"\x03{}").put(Table::Node, "odd", *b"\x02{"))
            .unwrap();
        let newer = store.get_as::<Node>("new").unwrap_err().to_string();
        assert!(newer.starts_with("node/new has version 3, this program knows up to 2"), "{newer}");
        let odd = store.get_as::<Node>("odd").unwrap_err().to_string();
        assert!(odd.starts_with("node/odd cannot be read"), "{odd}");
        store.commit(Batch::new().event(*b"\0{}")).unwrap();
        let event = store.events_as::<Fact>(EventNumber(0), 1).unwrap_err().to_string();
        assert!(event.starts_with("event 1 cannot be read"), "{event}");
    });
}

#[test]
fn a_record_that_json_cannot_hold_is_refused_at_commit() {
    #[derive(Deserialize)]
    struct Odd;
    impl Serialize for Odd {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("odd"))
        }
    }
    impl Versioned for Odd {
        const VERSION: u8 = 1;
    }
    impl Record for Odd {
        const TABLE: Table = Table::Setting;
    }
    each(Options::default(), |store| {
        let batch = Batch::new().put(Table::Node, "a", "1").put_as("o", &Odd);
        assert!(!batch.is_empty());
        let error = store.commit(batch).unwrap_err();
        assert!(
            error.is_refusal() && error.to_string().starts_with("setting/o cannot be written"),
            "{error}"
        );
        assert_eq!(store.get(Table::Node, "a").unwrap(), None);
    });
}

#[test]
fn debug_output_of_a_batch_shows_no_value() {
    let batch = Batch::new().put(Table::Secret, "bmc", "hunter2").event("hunter2").delete(Table::Node, "n");
    let shown = format!("{batch:?}");
    assert!(shown.contains("secret/bmc") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn the_double_fails_as_told_and_a_crash_leaves_what_was_on_disk() {
    let put = |key: &str| Batch::new().put(Table::Node, key, "1").event("e");
    for (failing, kept) in [(Failing::Lost, 1), (Failing::Kept, 2)] {
        let mut store = Memory::default();
        store.fail_after(1, failing);
        store.commit(put("a")).unwrap();
        assert!(matches!(store.commit(put("b")), Err(StoreError::Stopped { .. })));
        assert!(matches!(store.commit(put("c")), Err(StoreError::Stopped { .. })));
        let mut again = store.after_crash();
        assert_eq!(again.newest_commit(), CommitNumber(kept));
        again.commit(put("c")).unwrap();
        assert_eq!(store.get(Table::Node, "c").unwrap(), None);
    }
    let mut store = Memory::default();
    store.fail_after(0, Failing::Refused);
    assert!(store.commit(put("a")).unwrap_err().is_refusal());
    store.clone().commit(put("a")).unwrap();
    assert_eq!(store.get(Table::Node, "a").unwrap(), Some(b"1".to_vec()));
}
