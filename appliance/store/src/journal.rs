//! The journal's files: entries one after another in space reserved with zeros.
//!
//! A file is named after its base, the commit it leads on from. It begins with a header: magic, format, base, checksum.

use crate::entry::{Entry, Parsed, checksum, take, take_u32};
use crate::place::{number_name, numbered, sync_dir, write_whole};
use crate::{CommitNumber, StoreError};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MAGIC: [u8; 8] = *b"KILNJRNL";
const FORMAT: u32 = 1;
const HEADER: usize = 24;

/// Space is reserved in steps of this: overwriting zeros needs no sync of metadata.
const STEP: u64 = 64 * 1024;

/// A journal longer than this calls for a snapshot.
pub(crate) const LONG: u64 = 16 * 1024 * 1024;

/// The file that is appended to.
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    base: CommitNumber,
    offset: u64,
    reserved: u64,
}

impl Journal {
    pub(crate) fn create(dir: &Path, base: CommitNumber) -> Result<Journal, StoreError> {
        let path = dir.join(number_name(base.0));
        let mut bytes = header(base);
        bytes.resize(STEP as usize, 0);
        write_whole(&path, |file| file.write_all(&bytes))?;
        Journal::resume(path, base, HEADER as u64, false)
    }

    /// Goes on at `offset`. What a crash left behind it is zeroed first: `torn`.
    pub(crate) fn resume(
        path: PathBuf,
        base: CommitNumber,
        offset: u64,
        torn: bool,
    ) -> Result<Journal, StoreError> {
        let failed = |source| StoreError::io(&path, "opening", source);
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(failed)?;
        let reserved = file.metadata().map_err(failed)?.len();
        let mut journal = Journal { path, file, base, offset, reserved };
        if torn {
            let zeroed = zero(&journal.file, offset, reserved);
            zeroed.map_err(|source| StoreError::io(&journal.path, "mending", source))?;
        }
        journal.reserve(0)?;
        Ok(journal)
    }

    /// Lets every append fail.
    #[cfg(test)]
    pub(crate) fn break_file(&mut self) {
        self.file = File::open(&self.path).expect("the file is there");
    }

    pub(crate) fn base(&self) -> CommitNumber {
        self.base
    }

    pub(crate) fn len(&self) -> u64 {
        self.offset
    }

    /// Makes room. After a failure the journal is as good as before.
    pub(crate) fn reserve(&mut self, bytes: usize) -> Result<(), StoreError> {
        let need = self.offset + bytes as u64;
        if need <= self.reserved {
            return Ok(());
        }
        let to = need.next_multiple_of(STEP);
        let zeroed = zero(&self.file, self.reserved, to).and_then(|()| self.file.sync_all());
        zeroed.map_err(|source| StoreError::io(&self.path, "extending", source))?;
        self.reserved = to;
        Ok(())
    }

    /// Appends what room was made for; on disk when it returns.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let written = self.file.write_all_at(bytes, self.offset).and_then(|()| self.file.sync_data());
        written.map_err(|source| StoreError::io(&self.path, "appending to", source))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }
}

fn zero(file: &File, from: u64, to: u64) -> std::io::Result<()> {
    let zeros = [0; STEP as usize];
    let mut at = from;
    while at < to {
        let count = STEP.min(to - at);
        file.write_all_at(&zeros[..count as usize], at)?;
        at += count;
    }
    Ok(())
}

fn header(base: CommitNumber) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&base.0.to_le_bytes());
    bytes.extend_from_slice(&checksum(&bytes, &[]).to_le_bytes());
    bytes
}

/// What a look at all files found.
pub(crate) struct Reading {
    /// The newest whole entry, or the base of the newest file; `None` without files.
    pub(crate) newest: Option<CommitNumber>,
    pub(crate) last: Option<Entry>,
    /// The oldest file's base.
    pub(crate) oldest: Option<CommitNumber>,
    /// Files with something wrong, and what.
    pub(crate) damage: Vec<(PathBuf, String)>,
    /// Where one file ends and the next begins later: the commits after the first up to the second are missing.
    pub(crate) gaps: Vec<(CommitNumber, CommitNumber)>,
    tail: Option<Tail>,
}

/// Where the newest file's entries end.
struct Tail {
    path: PathBuf,
    base: CommitNumber,
    offset: u64,
    torn: bool,
}

impl Reading {
    /// A write to the newest file was cut short: it was never acknowledged.
    pub(crate) fn torn(&self) -> bool {
        self.tail.as_ref().is_some_and(|tail| tail.torn)
    }

    /// Whether this is the newest file, the one to be appended to.
    pub(crate) fn tail_is(&self, path: &Path) -> bool {
        self.tail.as_ref().is_some_and(|tail| tail.path == path)
    }

    /// The newest file, to be appended to; `None` without files.
    pub(crate) fn resume(self) -> Result<Option<Journal>, StoreError> {
        self.tail.map(|tail| Journal::resume(tail.path, tail.base, tail.offset, tail.torn)).transpose()
    }
}

/// Reads every file and hands on each whole entry, in order, those behind a damaged place too.
pub(crate) fn read(dir: &Path, mut visit: impl FnMut(&Entry)) -> Result<Reading, StoreError> {
    let mut reading =
        Reading { newest: None, last: None, oldest: None, damage: Vec::new(), gaps: Vec::new(), tail: None };
    let bases = numbered(dir)?;
    reading.oldest = bases.first().copied().map(CommitNumber);
    for (index, base) in bases.iter().enumerate() {
        let base = CommitNumber(*base);
        let path = dir.join(number_name(base.0));
        let newest_file = index + 1 == bases.len();
        let bytes = fs::read(&path).map_err(|source| StoreError::io(&path, "reading", source))?;

        let mut why = None;
        reading.gaps.extend(reading.newest.filter(|newest| *newest < base).map(|newest| (newest, base)));
        reading.newest = reading.newest.max(Some(base));
        if !bytes.starts_with(&header(base)) {
            why = Some(header_fault(&path, &bytes)?);
        }

        let mut at = HEADER.min(bytes.len());
        let mut torn = false;
        loop {
            match Entry::parse(&bytes[at..]) {
                Parsed::Entry(entry, length) => {
                    let expected = reading.newest.map_or(0, |newest| newest.0) + 1;
                    if entry.head.commit.0 != expected {
                        let found = entry.head.commit;
                        why.get_or_insert(format!("commit {expected} is missing before {found}"));
                    }
                    visit(&entry);
                    reading.newest = reading.newest.max(Some(entry.head.commit));
                    reading.last = Some(*entry);
                    at += length;
                }
                Parsed::End => break,
                Parsed::Bad => match Entry::find(&bytes[at..]) {
                    Some(skip) => {
                        why.get_or_insert(format!("it is unreadable at byte {at}"));
                        at += skip;
                    }
                    None if newest_file => {
                        torn = true;
                        break;
                    }
                    None => {
                        why.get_or_insert(format!("it is unreadable from byte {at} on"));
                        break;
                    }
                },
            }
        }
        if let Some(why) = why {
            reading.damage.push((path.clone(), why));
        }
        if newest_file {
            reading.tail = Some(Tail { path, base, offset: at as u64, torn });
        }
    }
    Ok(reading)
}

/// Why the header is not the expected one; an error if a newer Kiln wrote it.
fn header_fault(path: &Path, mut bytes: &[u8]) -> Result<String, StoreError> {
    let whole = bytes.get(..HEADER - 4).map(|front| checksum(front, &[]).to_le_bytes());
    let sum_fits = whole.as_ref().map(|sum| &sum[..]) == bytes.get(HEADER - 4..HEADER);
    let format = take(&mut bytes, MAGIC.len()).and_then(|_| take_u32(&mut bytes));
    match format {
        Some(format) if sum_fits && format > FORMAT => {
            Err(StoreError::NewerFormat { path: path.to_owned(), format, known: FORMAT })
        }
        _ => Ok("its header is not a journal's of that name".to_owned()),
    }
}

/// Removes the files that no snapshot from `oldest` on needs.
pub(crate) fn forget_before(dir: &Path, oldest: CommitNumber) -> Result<(), StoreError> {
    let bases = numbered(dir)?;
    for pair in bases.windows(2) {
        if pair[1] <= oldest.0 {
            crate::place::remove(&dir.join(number_name(pair[0])))?;
        }
    }
    sync_dir(dir)
}

#[cfg(test)]
mod tests;
