//! What control knows, kept: typed tables and one numbered event log, committed together.
//!
//! ```text
//!  Batch ──► ledger ──► Entry {head after, puts, deletes}
//!                         │ 1  journal/<base>    appended, fdatasync
//!                         │ 2  sled/db           one atomic batch, flush, fdatasync
//!                         ▼                      ◄── acknowledged
//!                    snapshots/<commit>          every few thousand commits, the newest three kept
//! ```
//!
//! - **Acknowledged means on disk.** [`Store::commit`] returns after both writes. A crash between them leaves
//!   a commit that is in the journal only; the next open does it again.
//! - **Nothing is cut away in silence.** The head of the database (commit number, number of records, sum of
//!   their marks) is stored with every commit, here and in the journal; an open reads every record and compares.
//!   What is wrong is a [`StoreError`] with the name of the table and key or the commit; [`Sled::recover`] then
//!   restores the newest good snapshot and every journalled commit after it.
//! - **Everything is bounded**: key, value, batch, number of events, journal, snapshots.
//!
//! Knows nothing of nodes, networks or deployments: those are JSON with a version byte in front.
//!
//! # The directory
//!
//! | path | what |
//! |---|---|
//! | `FORMAT` | one line of text: the format's number, whether the rest is to be made from a kept copy, and a checksum |
//! | `lock` | locked while open; holds the process id |
//! | `sled/` | the database; one tree, a key is its table's byte and its name |
//! | `journal/<base>` | every commit after `<base>`, until the next file's `<base>` |
//! | `snapshots/<commit>` | everything as it stood after `<commit>` |
//! | `damaged/` | what the last recovery or repair set aside |
//! | `kept/<format>` | a snapshot from before the store was migrated from that format |
//! | `aside/format-<format>-<n>` | a newer release's store, since an older one took up a kept copy |
//!
//! # Rejected
//!
//! - *A tree of sled per table.* A batch on one tree is atomic; transactions over several take a closure that
//!   may run twice, and add nothing for a single writer.
//! - *Syncing sled only at a snapshot.* The journal alone would do for durability and save a sync per commit, but
//!   sled reuses freed segments as if what it wrote were stable, so an ordinary power cut would end in a recovery.
//! - *A bare commit number beside the database.* It tells a cut, and cannot mend it; a journal entry costs the
//!   same one sync.
//! - *Large values in sled.* A page (17 records) above 128 KiB goes to a file of its own that sled never syncs, so
//!   values are stored in parts of 4 KiB and sled never sees a large one.

mod disk;
mod entry;
mod error;
mod format;
mod journal;
mod ledger;
mod memory;
mod pages;
mod place;
mod record;
mod snapshot;

pub use disk::{Finding, Recovery, Sled};
pub use error::{Damage, Holder, StoreError};
pub use format::{Format, Kept, Records, Step, TakenUp};
pub use memory::{Failing, Memory};
pub use record::{Record, Typed, Versioned};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

/// Longest key, in bytes.
pub const MAX_KEY: usize = 200;
/// Largest value or event, in bytes, version byte included.
pub const MAX_VALUE: usize = 128 * 1024;
/// Largest batch: keys, values and events together, in bytes.
pub const MAX_BATCH: usize = 4 * 1024 * 1024;
/// Most changes in a batch.
pub const MAX_CHANGES: usize = 4096;

/// A table. The number is the first byte of its keys on disk and never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    Node = 1,
    Network = 2,
    Switch = 3,
    Image = 4,
    Deployment = 5,
    Discovered = 6,
    Plan = 7,
    Setting = 8,
    Generation = 9,
    Secret = 10,
    Port = 11,
    PortGroup = 12,
    Volume = 13,
}

impl Table {
    pub const ALL: [Table; 13] = [
        Table::Node,
        Table::Network,
        Table::Switch,
        Table::Image,
        Table::Deployment,
        Table::Discovered,
        Table::Plan,
        Table::Setting,
        Table::Generation,
        Table::Secret,
        Table::Port,
        Table::PortGroup,
        Table::Volume,
    ];

    /// As in messages: lower case, words joined by `-`.
    pub fn name(self) -> &'static str {
        match self {
            Table::Node => "node",
            Table::Network => "network",
            Table::Switch => "switch",
            Table::Image => "image",
            Table::Deployment => "deployment",
            Table::Discovered => "discovered",
            Table::Plan => "plan",
            Table::Setting => "setting",
            Table::Generation => "generation",
            Table::Secret => "secret",
            Table::Port => "port",
            Table::PortGroup => "port-group",
            Table::Volume => "volume",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Number of a commit: the first is 1, the next one more. 0 is the empty store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommitNumber(pub u64);

/// Number of an event: the first is 1, the next one more. 0 stands before all events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventNumber(pub u64);

impl fmt::Display for CommitNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for EventNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which events are kept. `oldest` is `newest` + 1 when none is.
///
/// A reader that asks for what came after N has missed something when N + 1 < `oldest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventSpan {
    pub oldest: EventNumber,
    pub newest: EventNumber,
}

/// What a commit was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    pub number: CommitNumber,
    /// The numbers of the batch's events, in the batch's order; empty without events.
    pub events: RangeInclusive<u64>,
}

impl Commit {
    /// The number of the batch's event at `index`, counted from 0.
    pub fn event(&self, index: usize) -> Option<EventNumber> {
        self.events.clone().nth(index).map(EventNumber)
    }
}

/// How much is kept, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Events kept; a few more may be, for a while.
    pub keep_events: u64,
    /// A snapshot is taken after so many commits.
    pub snapshot_every: u64,
    /// Snapshots kept, with the journals that lead on from them; at least 1.
    pub keep_snapshots: usize,
    /// What is written, and what older formats are migrated by.
    pub format: Format,
}

impl Default for Options {
    fn default() -> Self {
        Options { keep_events: 20_000, snapshot_every: 4096, keep_snapshots: 3, format: Format::CURRENT }
    }
}

/// Changes that are made together or not at all. Of two changes to one key the later counts.
///
/// A value's first byte is its version; [`Batch::put_as`] and [`Batch::event_as`] see to that.
#[derive(Default, Clone)]
pub struct Batch {
    changes: BTreeMap<(Table, String), Option<Vec<u8>>>,
    events: Vec<Vec<u8>>,
    prune_before: Option<EventNumber>,
    encode_error: Option<error::EncodeError>,
}

impl Batch {
    pub fn new() -> Self {
        Batch::default()
    }

    /// Sets the value of a key.
    pub fn put(mut self, table: Table, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.changes.insert((table, key.into()), Some(value.into()));
        self
    }

    /// Removes a key, if it is there.
    pub fn delete(mut self, table: Table, key: impl Into<String>) -> Self {
        self.changes.insert((table, key.into()), None);
        self
    }

    /// Adds an event; it is numbered at commit.
    pub fn event(mut self, value: impl Into<Vec<u8>>) -> Self {
        self.events.push(value.into());
        self
    }

    /// Forgets the events before this number; one not given yet forgets all and is no error.
    pub fn prune(mut self, before: EventNumber) -> Self {
        self.prune_before = self.prune_before.max(Some(before));
        self
    }

    /// Adds everything in `other`, whose changes count as later.
    pub fn and(mut self, other: Batch) -> Self {
        self.changes.extend(other.changes);
        self.events.extend(other.events);
        self.prune_before = self.prune_before.max(other.prune_before);
        self.encode_error = self.encode_error.or(other.encode_error);
        self
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
            && self.events.is_empty()
            && self.prune_before.is_none()
            && self.encode_error.is_none()
    }
}

/// Keys and sizes; values may hold secrets.
impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for ((table, key), value) in &self.changes {
            map.entry(&format_args!("{table}/{key}"), &value.as_ref().map(Vec::len));
        }
        map.entry(&format_args!("events"), &self.events.len()).finish()
    }
}

/// One owner's view of a store. Calls block; see [`Typed`] for values that are records.
pub trait Store: Send {
    /// The value of a key.
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// The keys that begin with `prefix`, with their values, in the order of the keys' bytes.
    fn scan(&self, table: Table, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError>;

    /// All of the batch or nothing; on disk when it returns.
    ///
    /// A batch that changes nothing takes no number. [`StoreError::is_refusal`] errors have changed nothing and the
    /// store goes on. After any other the batch may be on disk or not: further commits are refused with
    /// [`StoreError::Stopped`] until the store is opened again.
    fn commit(&mut self, batch: Batch) -> Result<Commit, StoreError>;

    /// At most `limit` of the kept events numbered above `after`, in order.
    fn events(&self, after: EventNumber, limit: usize) -> Result<Vec<(EventNumber, Vec<u8>)>, StoreError>;

    fn event_span(&self) -> EventSpan;

    /// The number of the newest commit.
    fn newest_commit(&self) -> CommitNumber;

    /// Everything as it stands after the newest commit, but for some records, as a snapshot's octets: for [`Sled::plant`].
    fn export(&self, leave_out: &dyn Fn(Table, &str) -> bool) -> Result<Vec<u8>, StoreError>;

    /// Forgets the events before `before`, some hundred in a commit.
    fn prune(&mut self, before: EventNumber) -> Result<(), StoreError> {
        loop {
            let span = self.event_span();
            let end = before.min(EventNumber(span.newest.0 + 1));
            if span.oldest >= end {
                return Ok(());
            }
            self.commit(Batch::new().prune(end.min(EventNumber(span.oldest.0 + ledger::PRUNE_STEP))))?;
        }
    }
}

impl<S: Store + ?Sized> Store for Box<S> {
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        (**self).get(table, key)
    }
    fn scan(&self, table: Table, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        (**self).scan(table, prefix)
    }
    fn commit(&mut self, batch: Batch) -> Result<Commit, StoreError> {
        (**self).commit(batch)
    }
    fn events(&self, after: EventNumber, limit: usize) -> Result<Vec<(EventNumber, Vec<u8>)>, StoreError> {
        (**self).events(after, limit)
    }
    fn event_span(&self) -> EventSpan {
        (**self).event_span()
    }
    fn newest_commit(&self) -> CommitNumber {
        (**self).newest_commit()
    }
    fn export(&self, leave_out: &dyn Fn(Table, &str) -> bool) -> Result<Vec<u8>, StoreError> {
        (**self).export(leave_out)
    }
}

impl Commit {
    fn of(before: &entry::Head, after: &entry::Head) -> Self {
        Commit { number: after.commit, events: before.events.newest.0 + 1..=after.events.newest.0 }
    }
}
