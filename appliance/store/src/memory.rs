//! The double: a store without a disk, that fails when it is told to.

use crate::entry::{State, event_key, event_number, raw_key};
use crate::{
    Batch, Commit, CommitNumber, EventNumber, EventSpan, Options, Store, StoreError, Table, ledger, snapshot,
};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A store in memory. Clones share what it holds.
#[derive(Clone)]
pub struct Memory {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    state: State,
    options: Options,
    fail: Option<(u64, Failing)>,
    stopped: Option<CommitNumber>,
}

/// What becomes of the commit that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    /// It is not on disk.
    Lost,
    /// It is on disk, though the commit said it failed.
    Kept,
    /// It is refused for want of space; the store goes on, and the next one succeeds.
    Refused,
}

impl Default for Memory {
    fn default() -> Self {
        Memory::new(Options::default())
    }
}

impl Memory {
    /// An empty store; of the options, `keep_events` counts.
    pub fn new(options: Options) -> Self {
        Memory::holding(State::EMPTY, options)
    }

    fn holding(state: State, options: Options) -> Self {
        Memory { inner: Arc::new(Mutex::new(Inner { state, options, fail: None, stopped: None })) }
    }

    /// Lets `commits` more commits succeed; the next one fails. Those that change nothing do not count.
    pub fn fail_after(&self, commits: u64, failing: Failing) {
        self.lock().fail = Some((commits, failing));
    }

    /// What would be found on disk after a crash now: a store of its own, that does not fail.
    pub fn after_crash(&self) -> Memory {
        let inner = self.lock();
        Memory::holding(inner.state.clone(), inner.options.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Memory {
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.lock().state.records.get(&raw_key(table, key)).cloned())
    }

    fn scan(&self, table: Table, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let raw = raw_key(table, prefix);
        let inner = self.lock();
        let within = inner.state.records.range(raw.clone()..).take_while(|(key, _)| key.starts_with(&raw));
        Ok(within
            .map(|(key, value)| (String::from_utf8_lossy(&key[1..]).into_owned(), value.clone()))
            .collect())
    }

    fn commit(&mut self, batch: Batch) -> Result<Commit, StoreError> {
        let mut inner = self.lock();
        if let Some(failed) = inner.stopped {
            return Err(StoreError::Stopped { failed, source: None });
        }
        let before = inner.state.head;
        let records = &inner.state.records;
        let entry =
            ledger::entry(&before, batch, inner.options.keep_events, |raw| Ok(records.get(raw).cloned()))?;
        let Some(entry) = entry else {
            return Ok(Commit::of(&before, &before));
        };
        let failing = match inner.fail {
            Some((0, failing)) => {
                inner.fail = None;
                Some(failing)
            }
            Some((left, failing)) => {
                inner.fail = Some((left - 1, failing));
                None
            }
            None => None,
        };
        if matches!(failing, None | Some(Failing::Kept)) {
            inner.state.apply(&entry).expect("the ledger made the entry from this very state");
        }
        match failing {
            None => Ok(Commit::of(&before, &entry.head)),
            Some(Failing::Refused) => {
                Err(StoreError::NoSpace { path: PathBuf::from("memory"), doing: "told to fail" })
            }
            Some(Failing::Lost | Failing::Kept) => {
                inner.stopped = Some(entry.head.commit);
                Err(StoreError::Stopped { failed: entry.head.commit, source: None })
            }
        }
    }

    fn events(&self, after: EventNumber, limit: usize) -> Result<Vec<(EventNumber, Vec<u8>)>, StoreError> {
        let inner = self.lock();
        let (from, to) =
            (event_key(EventNumber(after.0.saturating_add(1))), event_key(inner.state.head.events.newest));
        if from > to {
            return Ok(Vec::new());
        }
        let within = inner.state.records.range(from..=to).take(limit);
        Ok(within.filter_map(|(key, value)| Some((event_number(key)?, value.clone()))).collect())
    }

    fn event_span(&self) -> EventSpan {
        self.lock().state.head.events
    }

    fn newest_commit(&self) -> CommitNumber {
        self.lock().state.head.commit
    }

    fn export(&self, leave_out: &dyn Fn(Table, &str) -> bool) -> Result<Vec<u8>, StoreError> {
        let inner = self.lock();
        Ok(snapshot::export(inner.options.format.number, inner.state.clone(), leave_out))
    }
}
