//! Snapshot files: everything as it stood after one commit, in a form that outlives sled.
//!
//! Magic, the store's format, head, then key and value of each record (length first), then the checksum of all that.

use crate::entry::{Head, State, checksum, encode_bytes, take, take_bytes, take_u32};
use crate::error::Damage;
use crate::place::{number_name, numbered, remove, sync_dir, write_whole};
use crate::{CommitNumber, StoreError, Table};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

const MAGIC: [u8; 8] = *b"KILNSNAP";

/// Why a snapshot cannot be used.
#[derive(Debug)]
pub(crate) enum Unusable {
    Damaged(String),
    Error(StoreError),
}

/// Writes a snapshot of a store of that format and reads it back.
pub(crate) fn write(dir: &Path, format: u32, state: &State) -> Result<PathBuf, StoreError> {
    write_as(dir, state.head.commit.0, format, state)
}

/// The same, under the name of another number.
pub(crate) fn write_as(dir: &Path, name: u64, format: u32, state: &State) -> Result<PathBuf, StoreError> {
    let path = dir.join(number_name(name));
    let bytes = encode(format, state);
    write_whole(&path, |file| file.write_all(&bytes))?;
    let reread = fs::read(&path).map_err(|source| StoreError::io(&path, "reading back", source))?;
    if reread != bytes {
        let source = std::io::Error::other("what was read back is not what was written");
        return Err(StoreError::io(&path, "reading back", source));
    }
    Ok(path)
}

/// What is in it, and of which format; one above `known` is an error.
pub(crate) fn read(path: &Path, known: u32) -> Result<(State, u32), Unusable> {
    let bytes = fs::read(path).map_err(|source| Unusable::Error(StoreError::io(path, "reading", source)))?;
    match decode(&bytes, known) {
        Ok(found) => Ok(found),
        Err(Fault::Newer(format)) => {
            Err(Unusable::Error(StoreError::NewerFormat { path: path.to_owned(), format, known }))
        }
        Err(Fault::Damaged(why)) => Err(Unusable::Damaged(why.to_owned())),
    }
}

/// The octets of a snapshot without some of the records.
pub(crate) fn export(format: u32, mut state: State, leave_out: &dyn Fn(Table, &str) -> bool) -> Vec<u8> {
    let head = &mut state.head;
    state.records.retain(|raw, value| {
        let table = Table::ALL.into_iter().find(|table| raw.first() == Some(&(*table as u8)));
        let left_out = table.is_some_and(|table| leave_out(table, &String::from_utf8_lossy(&raw[1..])));
        if left_out {
            head.remove(raw, value);
        }
        !left_out
    });
    encode(format, &state)
}

/// The format of a snapshot's octets, all of which are checked.
pub(crate) fn format_of(path: &Path, bytes: &[u8], known: u32) -> Result<u32, StoreError> {
    match decode(bytes, known) {
        Ok((_, format)) => Ok(format),
        Err(Fault::Newer(format)) => Err(StoreError::NewerFormat { path: path.to_owned(), format, known }),
        Err(Fault::Damaged(why)) => {
            let damage = Damage::File { name: "the exported store".to_owned(), why: why.to_owned() };
            Err(StoreError::damaged(path, damage))
        }
    }
}

/// Removes all but the newest `keep`; the commit of the oldest that is left, when there are that many.
pub(crate) fn forget_all_but(dir: &Path, keep: usize) -> Result<Option<CommitNumber>, StoreError> {
    let numbers = numbered(dir)?;
    let surplus = numbers.len().saturating_sub(keep);
    for number in &numbers[..surplus] {
        remove(&dir.join(number_name(*number)))?;
    }
    sync_dir(dir)?;
    Ok((numbers.len() >= keep).then(|| CommitNumber(numbers[surplus])))
}

fn encode(format: u32, state: &State) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&format.to_le_bytes());
    bytes.extend_from_slice(&state.head.encode());
    for (raw, value) in &state.records {
        encode_bytes(&mut bytes, raw);
        encode_bytes(&mut bytes, value);
    }
    let sum = checksum(&bytes, &[]);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

enum Fault {
    Newer(u32),
    Damaged(&'static str),
}

fn decode(bytes: &[u8], known: u32) -> Result<(State, u32), Fault> {
    let Some((body, sum)) = bytes.split_last_chunk::<4>() else {
        return Err(Fault::Damaged("it is too short"));
    };
    if checksum(body, &[]) != u32::from_le_bytes(*sum) {
        return Err(Fault::Damaged("its checksum is wrong"));
    }
    parse(body, known).unwrap_or(Err(Fault::Damaged("it ends within a record")))
}

fn parse(mut rest: &[u8], known: u32) -> Option<Result<(State, u32), Fault>> {
    if take(&mut rest, MAGIC.len())? != MAGIC {
        return Some(Err(Fault::Damaged("it is no snapshot")));
    }
    let format = take_u32(&mut rest)?;
    if format > known {
        return Some(Err(Fault::Newer(format)));
    }
    let mut state = State::EMPTY;
    state.head = Head::decode(take(&mut rest, Head::LEN)?)?;
    let mut found = Head::EMPTY;
    while !rest.is_empty() {
        let raw = take_bytes(&mut rest)?.to_vec();
        let value = take_bytes(&mut rest)?.to_vec();
        found.add(&raw, &value);
        state.records.insert(raw, value);
    }
    if !found.same_records(&state.head) {
        return Some(Err(Fault::Damaged("its records are not those its head tells of")));
    }
    Some(Ok((state, format)))
}

#[cfg(test)]
mod tests;
