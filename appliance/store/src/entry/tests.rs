use super::*;

fn entry() -> Entry {
    let mut head = Head::EMPTY;
    head.commit = CommitNumber(1);
    head.events.newest = EventNumber(1);
    let changes: BTreeMap<_, _> = [
        (raw_key(Table::Node, "n1"), Some(b"\x01{}".to_vec())),
        (raw_key(Table::Node, "n2"), None),
        (event_key(EventNumber(1)), Some(b"\x01[]".to_vec())),
    ]
    .into();
    for (raw, value) in &changes {
        if let Some(value) = value {
            head.add(raw, value);
        }
    }
    Entry { head, changes }
}

/// The bytes of format 1: this test never changes.
#[test]
fn an_entry_has_the_bytes_of_format_1() {
    let bytes = entry().encode();
    assert_eq!(bytes.len(), entry().encoded_len());
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(
        hex,
        concat!(
            "4b654e74",
            "58000000",
            "f01bd089",
            // Head: commit, oldest and newest event, records, sum.
            "0100000000000000",
            "0100000000000000",
            "0100000000000000",
            "0200000000000000",
            "4fa33202ac74956a",
            // Three changes.
            "03000000",
            "01",
            "09000000",
            "000000000000000001",
            "03000000",
            "015b5d",
            "01",
            "03000000",
            "016e31",
            "03000000",
            "017b7d",
            "02",
            "03000000",
            "016e32",
        )
    );
}

#[test]
fn an_entry_comes_back_and_every_flipped_bit_is_found() {
    let bytes = entry().encode();
    let mut longer = bytes.clone();
    longer.extend([0; 9]);
    assert_eq!(Entry::parse(&longer), Parsed::Entry(Box::new(entry()), bytes.len()));
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            assert_eq!(Entry::parse(&flipped), Parsed::Bad, "byte {at} bit {bit}");
        }
        assert_eq!(
            Entry::parse(&bytes[..at]),
            if at == 0 { Parsed::End } else { Parsed::Bad },
            "cut at {at}"
        );
    }
    assert_eq!(Entry::parse(&[0; 40]), Parsed::End);
}

#[test]
fn an_entry_behind_rubbish_is_found() {
    let mut bytes = b"KeNtKeKeNt\x10\0\0\0\0".to_vec();
    assert_eq!(Entry::find(&bytes), None);
    let at = bytes.len();
    bytes.extend(entry().encode());
    assert_eq!(Entry::find(&bytes), Some(at));
    assert_eq!(Entry::find(&[]), None);
}

#[test]
fn a_state_takes_only_the_entry_that_leads_on_from_it() {
    let mut state = State::EMPTY;
    state.apply(&entry()).unwrap();
    assert_eq!(state.records.len(), 2);
    let before = state.clone();
    assert_eq!(state.apply(&entry()), Err(Misfit), "twice");
    let mut stale = entry();
    stale.head.commit = CommitNumber(2);
    stale.changes.remove(&event_key(EventNumber(1)));
    assert_eq!(state.apply(&stale), Ok(()), "the same value again adds nothing");
    let mut wrong = entry();
    wrong.head.commit = CommitNumber(3);
    wrong.changes.insert(raw_key(Table::Node, "n1"), None);
    assert_eq!(state.apply(&wrong), Err(Misfit), "its head tells of other records");
    assert_eq!(state.records, before.records);
}

#[test]
fn raw_keys_are_told_in_words() {
    assert_eq!(place(&raw_key(Table::PortGroup, "bond0")), "port-group/bond0");
    assert_eq!(place(&event_key(EventNumber(17))), "event 17");
    assert_eq!(place(&[99, b'a']), "table 99/a");
    assert_eq!(place(&[]), "a record without a key");
}

#[test]
fn the_numbers_of_tables_are_their_own_and_never_change() {
    let numbers: Vec<u8> = Table::ALL.iter().map(|table| *table as u8).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
}
