//! The bytes of a commit, and what a store holds after some of them. Decides nothing; no file.
//!
//! A *raw key* is a table's byte and the key's name, or [`EVENT`] and an event's number in eight bytes,
//! big end first. All other numbers are little end first.

use crate::{CommitNumber, EventNumber, EventSpan, Table};
use std::collections::BTreeMap;

/// First byte of an event's raw key.
pub(crate) const EVENT: u8 = 0;

/// An entry longer than this is no entry: the largest batch, its overhead and the prunings fit in a quarter.
pub(crate) const MAX_ENTRY: usize = 32 * 1024 * 1024;

const MAGIC: [u8; 4] = *b"KeNt";
const FRAME: usize = 12;
const PUT: u8 = 1;
const DELETE: u8 = 2;

pub(crate) fn raw_key(table: Table, key: &str) -> Vec<u8> {
    let mut raw = Vec::with_capacity(1 + key.len());
    raw.push(table as u8);
    raw.extend_from_slice(key.as_bytes());
    raw
}

pub(crate) fn event_key(number: EventNumber) -> Vec<u8> {
    let mut raw = vec![EVENT];
    raw.extend_from_slice(&number.0.to_be_bytes());
    raw
}

pub(crate) fn event_number(raw: &[u8]) -> Option<EventNumber> {
    let number = raw.strip_prefix(&[EVENT])?;
    Some(EventNumber(u64::from_be_bytes(number.try_into().ok()?)))
}

/// A raw key in words: `node/n1`, `event 17`.
pub(crate) fn place(raw: &[u8]) -> String {
    if let Some(number) = event_number(raw) {
        return format!("event {number}");
    }
    let Some((&table, key)) = raw.split_first() else { return "a record without a key".to_owned() };
    let key = String::from_utf8_lossy(key);
    match Table::ALL.iter().find(|known| **known as u8 == table) {
        Some(table) => format!("{table}/{key}"),
        None => format!("table {table}/{key}"),
    }
}

/// The checksum at a value's end: over key and value, so that a value under another's key is found too.
pub(crate) fn checksum(raw: &[u8], value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(raw), value)
}

/// What a record adds to [`Head::sum`].
fn mark(raw: &[u8], value: &[u8]) -> u64 {
    // The finaliser of splitmix64: it keeps sums of checksums, which are linear, from cancelling out.
    let mut x = u64::from(checksum(raw, value)) | (value.len() as u64) << 32;
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// What must be true after a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) commit: CommitNumber,
    pub(crate) events: EventSpan,
    /// Number of records, events included.
    pub(crate) records: u64,
    /// Sum of the records' marks.
    pub(crate) sum: u64,
}

impl Head {
    pub(crate) const LEN: usize = 40;
    pub(crate) const EMPTY: Head = Head {
        commit: CommitNumber(0),
        events: EventSpan { oldest: EventNumber(1), newest: EventNumber(0) },
        records: 0,
        sum: 0,
    };

    pub(crate) fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        let fields = [self.commit.0, self.events.oldest.0, self.events.newest.0, self.records, self.sum];
        for (chunk, field) in bytes.chunks_exact_mut(8).zip(fields) {
            chunk.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Head> {
        let bytes: &[u8; Self::LEN] = bytes.try_into().ok()?;
        let (fields, _) = bytes.as_chunks::<8>();
        let field = |index: usize| u64::from_le_bytes(fields[index]);
        Some(Head {
            commit: CommitNumber(field(0)),
            events: EventSpan { oldest: EventNumber(field(1)), newest: EventNumber(field(2)) },
            records: field(3),
            sum: field(4),
        })
    }

    pub(crate) fn add(&mut self, raw: &[u8], value: &[u8]) {
        self.records = self.records.wrapping_add(1);
        self.sum = self.sum.wrapping_add(mark(raw, value));
    }

    pub(crate) fn remove(&mut self, raw: &[u8], value: &[u8]) {
        self.records = self.records.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(mark(raw, value));
    }

    /// Whether these are the same records.
    pub(crate) fn same_records(&self, other: &Head) -> bool {
        (self.records, self.sum) == (other.records, other.sum)
    }
}

/// One commit: the head after it, and each key it changes with the value it has then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) head: Head,
    pub(crate) changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

/// What stands at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// An entry and its length in bytes.
    Entry(Box<Entry>, usize),
    /// Only zeros, or nothing.
    End,
    Bad,
}

impl Entry {
    /// Frame: magic, length of the body, checksum of length and body. Body: head, number of changes, changes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = self.head.encode().to_vec();
        body.extend_from_slice(&(self.changes.len() as u32).to_le_bytes());
        for (raw, value) in &self.changes {
            body.push(if value.is_some() { PUT } else { DELETE });
            encode_bytes(&mut body, raw);
            if let Some(value) = value {
                encode_bytes(&mut body, value);
            }
        }
        let length = (body.len() as u32).to_le_bytes();
        let mut bytes = Vec::with_capacity(FRAME + body.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&length);
        bytes.extend_from_slice(&checksum(&length, &body).to_le_bytes());
        bytes.append(&mut body);
        bytes
    }

    /// The number of bytes that [`Entry::encode`] makes.
    pub(crate) fn encoded_len(&self) -> usize {
        let change = |(raw, value): (&Vec<u8>, &Option<Vec<u8>>)| {
            5 + raw.len() + value.as_ref().map_or(0, |value| 4 + value.len())
        };
        FRAME + Head::LEN + 4 + self.changes.iter().map(change).sum::<usize>()
    }

    pub(crate) fn parse(bytes: &[u8]) -> Parsed {
        match Self::parse_framed(bytes) {
            Some((entry, length)) => Parsed::Entry(Box::new(entry), length),
            None if bytes.iter().all(|byte| *byte == 0) => Parsed::End,
            None => Parsed::Bad,
        }
    }

    /// Where the next whole entry begins, for one who lost the way in front of it.
    pub(crate) fn find(bytes: &[u8]) -> Option<usize> {
        let mut from = 0;
        while let Some(found) = bytes[from..].windows(MAGIC.len()).position(|window| window == MAGIC) {
            let at = from + found;
            if Self::parse_framed(&bytes[at..]).is_some() {
                return Some(at);
            }
            from = at + 1;
        }
        None
    }

    fn parse_framed(bytes: &[u8]) -> Option<(Entry, usize)> {
        let mut rest = bytes.strip_prefix(&MAGIC)?;
        let length = take(&mut rest, 4)?;
        let sum = take_u32(&mut rest)?;
        let body_len = u32::from_le_bytes(length.try_into().ok()?) as usize;
        if body_len > MAX_ENTRY {
            return None;
        }
        let mut body = take(&mut rest, body_len)?;
        if checksum(length, body) != sum {
            return None;
        }
        let head = Head::decode(take(&mut body, Head::LEN)?)?;
        let count = take_u32(&mut body)?;
        let mut changes = BTreeMap::new();
        for _ in 0..count {
            let kind = *take(&mut body, 1)?.first()?;
            let raw = take_bytes(&mut body)?.to_vec();
            let value = match kind {
                PUT => Some(take_bytes(&mut body)?.to_vec()),
                DELETE => None,
                _ => return None,
            };
            changes.insert(raw, value);
        }
        body.is_empty().then_some((Entry { head, changes }, FRAME + body_len))
    }
}

/// Length in four bytes, then the bytes.
pub(crate) fn encode_bytes(into: &mut Vec<u8>, bytes: &[u8]) {
    into.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    into.extend_from_slice(bytes);
}

pub(crate) fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

pub(crate) fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(take(bytes, 4)?.try_into().ok()?))
}

pub(crate) fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_u32(bytes)? as usize;
    take(bytes, length)
}

/// A whole store in memory: what a snapshot says, and what comes of replaying entries on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) head: Head,
    pub(crate) records: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl State {
    pub(crate) const EMPTY: State = State { head: Head::EMPTY, records: BTreeMap::new() };

    /// Makes the changes if the entry is the next and leads where it says; otherwise leaves all as it was.
    pub(crate) fn apply(&mut self, entry: &Entry) -> Result<(), Misfit> {
        if entry.head.commit.0 != self.head.commit.0 + 1 {
            return Err(Misfit);
        }
        let mut head = self.head;
        for (raw, value) in &entry.changes {
            if let Some(old) = self.records.get(raw) {
                head.remove(raw, old);
            }
            if let Some(value) = value {
                head.add(raw, value);
            }
        }
        if !head.same_records(&entry.head) {
            return Err(Misfit);
        }
        for (raw, value) in &entry.changes {
            match value {
                Some(value) => self.records.insert(raw.clone(), value.clone()),
                None => self.records.remove(raw),
            };
        }
        self.head = entry.head;
        Ok(())
    }
}

/// The entry does not lead on from this state.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Misfit;

#[cfg(test)]
mod tests;
