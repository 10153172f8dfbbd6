use crate::{CommitNumber, MAX_BATCH, MAX_CHANGES, MAX_KEY, MAX_VALUE};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why the store could not be opened, read or written. The message says what to do next.
#[derive(Debug)]
pub enum StoreError {
    /// Another process has it open.
    Locked {
        path: PathBuf,
        holder: Option<Holder>,
    },
    /// The file system is full, or so nearly that a commit might not fit.
    NoSpace {
        path: PathBuf,
        doing: &'static str,
    },
    /// The file system is mounted read-only, or the directory belongs to somebody else.
    ReadOnly {
        path: PathBuf,
        source: io::Error,
    },
    NotADirectory {
        path: PathBuf,
    },
    /// The directory has something else in it.
    NotAStore {
        path: PathBuf,
        found: String,
    },
    /// A newer Kiln wrote it.
    NewerFormat {
        path: PathBuf,
        format: u32,
        known: u32,
    },
    /// An older Kiln wrote it, and this one has no way from there.
    OlderFormat {
        path: PathBuf,
        format: u32,
        known: u32,
    },
    /// The step from this format to the next refused. The store is as it was.
    NotMigrated {
        path: PathBuf,
        from: u32,
        why: String,
    },
    /// What is there is not what was written. [`crate::Sled::recover`] restores it.
    Damaged {
        path: PathBuf,
        damage: Damage,
    },
    Io {
        path: PathBuf,
        doing: &'static str,
        source: io::Error,
    },
    /// sled refused for a reason that is not damage.
    Database {
        path: PathBuf,
        doing: &'static str,
        source: sled::Error,
    },
    /// A newer Kiln wrote this record.
    NewerRecord {
        place: String,
        version: u8,
        known: u8,
    },
    /// The record is whole, but is not JSON of its type.
    Unreadable {
        place: String,
        source: serde_json::Error,
    },
    /// A record could not be written as JSON.
    Unwritable {
        place: String,
        source: Arc<serde_json::Error>,
    },
    BadKey {
        place: String,
    },
    TooLarge {
        place: String,
        bytes: usize,
    },
    BatchTooLarge {
        bytes: usize,
        changes: usize,
    },
    /// This commit (`source` says why) or an earlier one failed half way.
    Stopped {
        failed: CommitNumber,
        source: Option<Box<StoreError>>,
    },
    /// No snapshot is readable, and the journal does not begin at the beginning.
    NothingToRecover {
        path: PathBuf,
    },
}

/// What was found wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// The database ends before a commit that was acknowledged.
    LogCut { at: CommitNumber, acknowledged: CommitNumber },
    /// A record fails its checksum: table and key, or the event's number.
    Record { place: String },
    /// Records are missing, stale or back from the dead.
    Records { at: CommitNumber, expected: u64, found: u64 },
    /// The database and the journal disagree about the same commit.
    Head { at: CommitNumber },
    /// sled found it out, in its words.
    Database { why: String },
    /// A file of the store is unreadable.
    File { name: String, why: String },
}

/// Who has the store open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    /// The program's name, when the process can be seen.
    pub name: Option<String>,
}

impl StoreError {
    /// Nothing was changed, and the store goes on: the batch itself, or a full disk, is at fault.
    pub fn is_refusal(&self) -> bool {
        use StoreError::*;
        matches!(
            self,
            NoSpace { .. } | Unwritable { .. } | BadKey { .. } | TooLarge { .. } | BatchTooLarge { .. }
        )
    }

    /// [`crate::Sled::recover`] is what to do next.
    pub fn is_damage(&self) -> bool {
        matches!(self, StoreError::Damaged { .. })
    }

    pub(crate) fn io(path: &Path, doing: &'static str, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::NoSpace { path, doing },
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                StoreError::ReadOnly { path, source }
            }
            io::ErrorKind::NotADirectory => StoreError::NotADirectory { path },
            _ => StoreError::Io { path, doing, source },
        }
    }

    pub(crate) fn sled(path: &Path, doing: &'static str, source: sled::Error) -> Self {
        match source {
            sled::Error::Io(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
                StoreError::damaged(path, Damage::Database { why: format!("{doing}: {source}") })
            }
            sled::Error::Io(source) => StoreError::io(path, doing, source),
            sled::Error::Corruption { .. } | sled::Error::ReportableBug(_) | sled::Error::Unsupported(_) => {
                StoreError::damaged(path, Damage::Database { why: format!("{doing}: {source}") })
            }
            source => StoreError::Database { path: path.to_owned(), doing, source },
        }
    }

    /// Says what could not be done for want of space.
    pub(crate) fn while_doing(self, doing: &'static str) -> Self {
        match self {
            StoreError::NoSpace { path, .. } => StoreError::NoSpace { path, doing },
            other => other,
        }
    }

    pub(crate) fn damaged(path: &Path, damage: Damage) -> Self {
        StoreError::Damaged { path: path.to_owned(), damage }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use StoreError::*;
        match self {
            Locked { path, holder: Some(holder) } => {
                write!(f, "store {} is open in {holder}; stop it, or ask it instead", path.display())
            }
            Locked { path, holder: None } => {
                write!(f, "store {} is open in another process; stop it, or ask it instead", path.display())
            }
            NoSpace { path, doing } => {
                write!(f, "no space left for {} ({doing}); free some on its file system", path.display())
            }
            ReadOnly { path, .. } => write!(
                f,
                "cannot write {}; mount it read-write and make it the property of the user the appliance runs as",
                path.display()
            ),
            NotADirectory { path } => {
                write!(f, "{} is not a directory; name the data directory, or move this away", path.display())
            }
            NotAStore { path, found } => write!(
                f,
                "{} holds `{found}` and no store; name an empty directory or the right one",
                path.display()
            ),
            NewerFormat { path, format, known } => write!(
                f,
                "store {} has format {format}, this program knows up to {known} and no copy from before was kept; start the newer release again",
                path.display()
            ),
            OlderFormat { path, format, known } => write!(
                f,
                "store {} has format {format}, this program has no way from there to {known}; start a release in between first",
                path.display()
            ),
            NotMigrated { path, from, why } => write!(
                f,
                "store {} cannot be migrated from format {from} ({why}) and stays as it is; start the older release again",
                path.display()
            ),
            Damaged { path, damage } => {
                write!(f, "store {}: {damage}; recover it from its snapshot and journal", path.display())
            }
            Io { path, doing, .. } => write!(f, "{doing} {} failed", path.display()),
            Database { path, doing, .. } => write!(f, "{doing} {} failed", path.display()),
            NewerRecord { place, version, known } => write!(
                f,
                "{place} has version {version}, this program knows up to {known}; start the newer release again"
            ),
            Unreadable { place, .. } => {
                write!(f, "{place} cannot be read as what it should be; put it again, or delete it")
            }
            Unwritable { place, .. } => write!(f, "{place} cannot be written as JSON"),
            BadKey { place } => {
                write!(f, "{place:?} is no key: 1 to {MAX_KEY} bytes without NUL are")
            }
            TooLarge { place, bytes } => {
                write!(f, "{place} is {bytes} bytes, {MAX_VALUE} are allowed; keep large things in files")
            }
            BatchTooLarge { bytes, changes } => write!(
                f,
                "a batch of {changes} changes and {bytes} bytes is too large ({MAX_CHANGES}, {MAX_BATCH}); split it"
            ),
            Stopped { failed, .. } => write!(
                f,
                "the store stopped when commit {failed} failed half way; open it again to learn whether it is on disk"
            ),
            NothingToRecover { path } => write!(
                f,
                "store {} has no readable snapshot; move it away, start with an empty one, and enroll or sync again",
                path.display()
            ),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        use StoreError::*;
        match self {
            ReadOnly { source, .. } | Io { source, .. } => Some(source),
            Database { source, .. } => Some(source),
            Unreadable { source, .. } => Some(source),
            Unwritable { source, .. } => Some(&**source),
            Stopped { source: Some(source), .. } => Some(&**source),
            _ => None,
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::LogCut { at, acknowledged } => {
                write!(f, "the database's log is cut at commit {at}, {acknowledged} was acknowledged")
            }
            Damage::Record { place } => write!(f, "{place} fails its checksum"),
            Damage::Records { at, expected, found } => write!(
                f,
                "the records are not those of commit {at} ({found} found, {expected} expected, or some are stale)"
            ),
            Damage::Head { at } => write!(f, "database and journal disagree about commit {at}"),
            Damage::Database { why } => write!(f, "the database is unreadable ({why})"),
            Damage::File { name, why } => write!(f, "{name} is unreadable ({why})"),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "process {} ({name})", self.pid),
            None => write!(f, "process {}", self.pid),
        }
    }
}

/// Kept in a batch until its commit, so that building one needs no `?`.
#[derive(Debug, Clone)]
pub(crate) struct EncodeError {
    place: String,
    source: Arc<serde_json::Error>,
}

impl EncodeError {
    pub(crate) fn new(place: String, source: serde_json::Error) -> Self {
        EncodeError { place, source: Arc::new(source) }
    }
}

impl From<EncodeError> for StoreError {
    fn from(error: EncodeError) -> Self {
        StoreError::Unwritable { place: error.place, source: error.source }
    }
}
