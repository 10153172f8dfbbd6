//! sled, made to keep its word: one tree, small parts, own syncs, checksums; panics become errors.
//!
//! A record's value and its checksum are stored in parts of [`PART`] bytes, under its raw key, a zero byte and the
//! part's number. Table keys hold no zero byte and event keys have one length, so the order stays that of the raw keys.

use crate::entry::{EVENT, Entry, Head, State, checksum, place};
use crate::error::Damage;
use crate::place::{make_dir, sync_dir, sync_tree};
use crate::{MAX_VALUE, StoreError};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::poll::poll;
use std::collections::BTreeMap;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

const PART: usize = 4096;

/// Raw key of the head; no table has this byte.
const HEAD: &[u8] = b"\xffhead";
const HEAD_VERSION: u8 = 1;

/// sled's default is a gigabyte; the appliance may have no more than that in all.
const CACHE: u64 = 32 * 1024 * 1024;

/// How often, and how many milliseconds apart, sled is looked at until it lets go of its file: five seconds.
const LETTING_GO: u32 = 1000;
const PAUSE: u8 = 5;

const _: () = assert!((MAX_VALUE + 4).div_ceil(PART) <= u8::MAX as usize);

/// A raw key and its value.
pub(crate) type RawRecord = (Vec<u8>, Vec<u8>);

pub(crate) struct Pages {
    dir: PathBuf,
    /// There until dropped.
    db: Option<sled::Db>,
    /// sled 0.34 flushes with sync_file_range(2), which syncs neither the file's length nor the disk's cache.
    data: File,
}

impl Pages {
    pub(crate) fn open(dir: &Path) -> Result<Pages, StoreError> {
        make_dir(dir)?;
        let config = sled::Config::new().path(dir).flush_every_ms(None).cache_capacity(CACHE);
        let db = guarded(dir, "opening", || {
            config.open().map_err(|source| StoreError::sled(dir, "opening", source))
        })?;
        sync_tree(dir)?;
        sync_dir(dir.parent().unwrap_or(dir))?;
        let name = dir.join("db");
        let data = File::open(&name).map_err(|source| StoreError::io(&name, "opening", source))?;
        Ok(Pages { dir: dir.to_owned(), db: Some(db), data })
    }

    fn db(&self) -> &sled::Db {
        self.db.as_ref().expect("it is taken by drop alone")
    }

    /// Lets every sync fail.
    #[cfg(test)]
    pub(crate) fn break_file(&mut self) {
        self.data = File::open("/dev/null").expect("it is there");
    }

    /// Loses a record.
    #[cfg(test)]
    pub(crate) fn lose(&self, raw: &[u8]) {
        self.db().remove(part_key(raw, Some(0))).expect("the database works");
    }

    pub(crate) fn get(&self, raw: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.collect(part_key(raw, None), None, 1)?;
        Ok(found.into_iter().next().map(|(_, value)| value))
    }

    /// The records whose raw keys begin with `prefix`.
    pub(crate) fn scan(&self, prefix: &[u8]) -> Result<Vec<RawRecord>, StoreError> {
        self.collect(prefix.to_vec(), None, usize::MAX)
    }

    /// At most `limit` event records from raw key `from` on.
    pub(crate) fn events(&self, from: &[u8], limit: usize) -> Result<Vec<RawRecord>, StoreError> {
        self.collect(vec![EVENT], Some(from), limit)
    }

    /// Everything, checked against the head.
    pub(crate) fn read_all(&self) -> Result<State, StoreError> {
        let mut records: BTreeMap<_, _> = self.collect(Vec::new(), None, usize::MAX)?.into_iter().collect();
        let head = match records.remove(HEAD) {
            None if records.is_empty() => Head::EMPTY,
            None => return Err(self.damaged(Damage::Record { place: "the head".to_owned() })),
            Some(bytes) => match bytes.split_first() {
                Some((&HEAD_VERSION, bytes)) => Head::decode(bytes),
                _ => None,
            }
            .ok_or_else(|| self.damaged(Damage::Record { place: "the head".to_owned() }))?,
        };
        let mut found = Head::EMPTY;
        for (raw, value) in &records {
            found.add(raw, value);
        }
        if !found.same_records(&head) {
            let damage = Damage::Records { at: head.commit, expected: head.records, found: found.records };
            return Err(self.damaged(damage));
        }
        Ok(State { head, records })
    }

    /// Makes an entry's changes as one; on disk when it returns.
    pub(crate) fn apply(&self, entry: &Entry) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for (raw, value) in &entry.changes {
            let before = self.parts(raw)?;
            let after = value.as_ref().map_or(0, |value| insert(&mut batch, raw, value));
            for part in after..before {
                batch.remove(part_key(raw, Some(part)));
            }
        }
        insert_head(&mut batch, &entry.head);
        self.write(batch)
    }

    /// Fills an empty database.
    pub(crate) fn fill(&self, state: &State) -> Result<(), StoreError> {
        let records: Vec<_> = state.records.iter().collect();
        for some in records.chunks(256) {
            let mut batch = sled::Batch::default();
            for (raw, value) in some {
                insert(&mut batch, raw, value);
            }
            self.write(batch)?;
        }
        let mut batch = sled::Batch::default();
        insert_head(&mut batch, &state.head);
        self.write(batch)?;
        sync_tree(&self.dir)
    }

    fn write(&self, batch: sled::Batch) -> Result<(), StoreError> {
        guarded(&self.dir, "writing", || {
            self.db()
                .apply_batch(batch)
                .and_then(|()| self.db().flush())
                .map_err(|source| StoreError::sled(&self.dir, "writing", source))
        })?;
        self.data.sync_data().map_err(|source| StoreError::io(&self.dir, "syncing", source))
    }

    /// How many parts a record has now.
    fn parts(&self, raw: &[u8]) -> Result<u8, StoreError> {
        guarded(&self.dir, "reading", || {
            let mut count = 0;
            for key in self.db().scan_prefix(part_key(raw, None)).keys() {
                key.map_err(|source| StoreError::sled(&self.dir, "reading", source))?;
                count += 1;
            }
            Ok(count)
        })
    }

    /// Whole records whose stored keys begin with `prefix`, from `from` on, at most `limit`.
    fn collect(
        &self,
        prefix: Vec<u8>,
        from: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<RawRecord>, StoreError> {
        guarded(&self.dir, "reading", || {
            let mut found: Vec<RawRecord> = Vec::new();
            let start = from.unwrap_or(&prefix).to_vec();
            for item in self.db().range(start..) {
                let (key, part) = item.map_err(|source| StoreError::sled(&self.dir, "reading", source))?;
                if !key.starts_with(&prefix) {
                    break;
                }
                let Some((raw, [0, _])) = key.split_last_chunk::<2>() else {
                    return Err(self.damaged(Damage::Record { place: place(&key) }));
                };
                let full = found.len() == limit;
                match found.last_mut() {
                    Some((last, value)) if last == raw => value.extend_from_slice(&part),
                    _ if full => break,
                    _ => found.push((raw.to_vec(), part.to_vec())),
                }
            }
            for (raw, value) in &mut found {
                self.check(raw, value)?;
            }
            Ok(found)
        })
    }

    /// Takes the checksum off a value's end.
    fn check(&self, raw: &[u8], value: &mut Vec<u8>) -> Result<(), StoreError> {
        let body = value.len().saturating_sub(4);
        let sum = value.split_off(body);
        if sum != checksum(raw, value).to_le_bytes() {
            let place = if raw == HEAD { "the head".to_owned() } else { place(raw) };
            return Err(self.damaged(Damage::Record { place }));
        }
        Ok(())
    }

    fn damaged(&self, damage: Damage) -> StoreError {
        StoreError::damaged(&self.dir, damage)
    }
}

/// sled's threads hold the file, and its lock, for a moment after the database is dropped: whoever opens, moves or
/// unmounts it next would meet them.
impl Drop for Pages {
    fn drop(&mut self) {
        drop(self.db.take());
        for _ in 0..LETTING_GO {
            match self.data.try_clone().map(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock)) {
                // The only descriptor to wait for is not ours: a pause is all that can be had.
                Ok(Err((_, Errno::EWOULDBLOCK))) => _ = poll(&mut [], PAUSE),
                _ => return,
            }
        }
    }
}

/// Runs sled, whose answer to bytes it did not expect may be a panic.
fn guarded<T>(
    dir: &Path,
    doing: &'static str,
    run: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let why = panic.downcast_ref::<String>().map(String::as_str);
        let why = why.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        Err(StoreError::damaged(dir, Damage::Database { why: format!("{doing}: {why}") }))
    })
}

fn part_key(raw: &[u8], part: Option<u8>) -> Vec<u8> {
    let mut key = raw.to_vec();
    key.push(0);
    key.extend(part);
    key
}

/// Puts a record's parts into a batch; how many they are.
fn insert(batch: &mut sled::Batch, raw: &[u8], value: &[u8]) -> u8 {
    let mut bytes = value.to_vec();
    bytes.extend_from_slice(&checksum(raw, value).to_le_bytes());
    let mut count = 0;
    for part in bytes.chunks(PART) {
        batch.insert(part_key(raw, Some(count)), part);
        count += 1;
    }
    count
}

fn insert_head(batch: &mut sled::Batch, head: &Head) {
    let mut value = vec![HEAD_VERSION];
    value.extend_from_slice(&head.encode());
    insert(batch, HEAD, &value);
}

#[cfg(test)]
mod tests;
