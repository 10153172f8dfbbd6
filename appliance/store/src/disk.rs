//! [`Sled`]: the database, its journal and its snapshots together.

mod recover;

pub use recover::Recovery;

use crate::entry::{Entry, Head, State, event_key, event_number, raw_key};
use crate::error::Damage;
use crate::format::{self, Kept, TakenUp};
use crate::journal::{self, Journal};
use crate::pages::Pages;
use crate::place::{Place, number_name, numbered};
use crate::snapshot::{self, Unusable};
use crate::{Batch, Commit, CommitNumber, EventNumber, EventSpan, Options, Store, StoreError, Table, ledger};
use std::fmt;
use std::path::{Path, PathBuf};

/// The store on disk. One process has it open at a time.
pub struct Sled {
    pages: Pages,
    journal: Journal,
    head: Head,
    options: Options,
    /// No snapshot of its own accord before this commit.
    snapshot_at: u64,
    /// After a failed snapshot, none of its own accord before this commit.
    snapshot_not_before: u64,
    stopped: Option<CommitNumber>,
    /// Found by a snapshot: the next commit says so, and the next open restores it.
    damage: Option<Damage>,
    findings: Vec<Finding>,
    /// Last, so that the lock is let go when sled is done.
    place: Place,
}

/// What an open found out of order and put in order, with nothing lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// This commit was journalled when the process ended, and is in the database now.
    Redone(CommitNumber),
    /// The write of a commit after this one was cut short; it was never acknowledged.
    CutShort(CommitNumber),
    /// A journal or snapshot was damaged. It was set aside and a new snapshot taken.
    SetAside { name: String, why: String },
    /// The journal lacks the commits after the first up to the second. The database has them, and a new snapshot.
    Gap { after: CommitNumber, until: CommitNumber },
    /// A newer release's store gave way to the copy from before; what was committed since is undone.
    TakenUp(TakenUp),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Redone(commit) => write!(f, "commit {commit} was only journalled, and is done now"),
            Finding::CutShort(commit) => write!(f, "the write of the commit after {commit} was cut short"),
            Finding::SetAside { name, why } => write!(f, "{name} is damaged and set aside: {why}"),
            Finding::Gap { after, until } => {
                write!(f, "the journal lacks the commits after {after} up to {until}")
            }
            Finding::TakenUp(taken) => taken.fmt(f),
        }
    }
}

impl Sled {
    /// Opens the store in a directory; makes both if they are not there. Reads and checks everything.
    ///
    /// A store of an older format is migrated, and a copy of it kept until [`Kept::forget`]; one of a newer
    /// format gives way to the copy of it that was kept so ([`Finding::TakenUp`]), and is set aside.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Sled, StoreError> {
        Sled::open_place(Place::open(path.as_ref(), options.format)?, options)
    }

    fn open_place(place: Place, options: Options) -> Result<Sled, StoreError> {
        Sled::open_in(format::bring(place, &options)?, options)
    }

    /// Makes a store in a directory that is not there yet, of what [`Store::export`] gave, of this format or an older one.
    /// Its next commit and event are numbered on from `past`, if that is more.
    ///
    /// # Errors
    /// The octets are damaged or of a newer format ([`StoreError::Damaged`], [`StoreError::NewerFormat`]).
    pub fn plant(
        path: impl AsRef<Path>,
        exported: &[u8],
        past: (CommitNumber, EventNumber),
        options: Options,
    ) -> Result<Sled, StoreError> {
        format::plant(path.as_ref(), exported, past, options.format)?;
        Sled::open(path, options)
    }

    /// Opens it in the format it has.
    pub(crate) fn open_in(mut place: Place, options: Options) -> Result<Sled, StoreError> {
        place.check_space("opening")?;
        let reading = journal::read(&place.journal(), |_| {})?;
        let snapshots = numbered(&place.snapshots())?;
        let pages = Pages::open(&place.sled())?;
        let mut state = pages.read_all()?;
        place.settle(reading.newest.is_some_and(|newest| newest.0 > 0) || state.head.commit.0 > 0)?;

        let mut findings: Vec<_> = place.take_taken_up().map(Finding::TakenUp).into_iter().collect();
        if let Some(entry) = behind(&place, &state, &reading, snapshots.last().copied())? {
            let at = entry.head.commit;
            state.apply(entry).map_err(|_| StoreError::damaged(place.path(), Damage::Head { at }))?;
            pages.apply(entry)?;
            findings.push(Finding::Redone(at));
        }
        let journalled = reading.newest.unwrap_or_default();
        if reading.torn() && journalled >= state.head.commit {
            findings.push(Finding::CutShort(journalled));
        }

        let (bad, good) = check_files(&place, &reading, &snapshots)?;
        if !bad.is_empty() {
            place.clear_damaged()?;
        }
        for (path, why) in &bad {
            let name = file_name(&place, path);
            place.set_aside(path, &name.replace('/', "-"))?;
            findings.push(Finding::SetAside { name, why: why.clone() });
        }
        // A gap that a snapshot bridges is of no account.
        let mut gaps: Vec<_> = reading.gaps.iter().copied().filter(|(_, until)| *until > good).collect();
        if let Some(oldest) = reading.oldest.filter(|oldest| *oldest > good) {
            gaps.push((good, oldest));
        }
        if journalled < state.head.commit {
            gaps.push((journalled, state.head.commit));
        }
        findings.extend(gaps.iter().map(|(after, until)| Finding::Gap { after: *after, until: *until }));

        let hurt_tail = bad.iter().any(|(path, _)| reading.tail_is(path));
        let mut journal = if hurt_tail { None } else { reading.resume()? };
        if !bad.is_empty() || !gaps.is_empty() {
            snapshot::write(&place.snapshots(), place.format(), &state)?;
            journal = None;
        }
        let journal = match journal {
            Some(journal) => journal,
            None => Journal::create(&place.journal(), state.head.commit)?,
        };
        for finding in &findings {
            log::warn!(path:% = place.path().display(), finding:%; "store put in order");
        }
        let snapshot_at = journal.base().0 + options.snapshot_every.max(1);
        Ok(Sled {
            pages,
            journal,
            head: state.head,
            options,
            snapshot_at,
            snapshot_not_before: 0,
            stopped: None,
            damage: None,
            findings,
            place,
        })
    }

    /// What the open put in order; also logged.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The copies from before it was migrated.
    pub fn kept(&self) -> Kept {
        Kept::of(self.place.path())
    }

    /// Everything that is in it, checked; it is closed, its directory stays locked.
    pub(crate) fn into_state(self) -> Result<(Place, State), StoreError> {
        let Sled { pages, place, .. } = self;
        let state = pages.read_all()?;
        Ok((place, state))
    }

    /// Writes everything to a file that does not depend on sled; the file's path. Older ones beyond the number to
    /// be kept are removed, with the journals only they need.
    pub fn snapshot(&mut self) -> Result<PathBuf, StoreError> {
        let state = self.pages.read_all()?;
        if state.head != self.head {
            return Err(StoreError::damaged(self.place.path(), Damage::Head { at: self.head.commit }));
        }
        let path = snapshot::write(&self.place.snapshots(), self.place.format(), &state)?;
        if self.journal.base() != self.head.commit {
            self.journal = Journal::create(&self.place.journal(), self.head.commit)?;
        }
        self.snapshot_at = self.head.commit.0 + self.options.snapshot_every.max(1);
        let oldest = snapshot::forget_all_but(&self.place.snapshots(), self.options.keep_snapshots.max(1))?;
        if let Some(oldest) = oldest {
            journal::forget_before(&self.place.journal(), oldest)?;
        }
        Ok(path)
    }

    fn snapshot_if_due(&mut self) {
        let commit = self.head.commit.0;
        let due = commit >= self.snapshot_at || self.journal.len() >= journal::LONG;
        if !due || commit < self.snapshot_not_before {
            return;
        }
        let Err(error) = self.snapshot() else { return };
        log::error!(path:% = self.place.path().display(), error:%; "snapshot failed");
        // The journal has it all and grows on; space may be found meanwhile.
        self.snapshot_not_before = commit + self.options.snapshot_every.div_ceil(8).max(1);
        if let StoreError::Damaged { damage, .. } = error {
            self.damage = Some(damage);
        }
    }

    fn write(&mut self, entry: &Entry) -> Result<(), StoreError> {
        self.journal.append(&entry.encode())?;
        self.pages.apply(entry)
    }
}

/// The entry the database lacks, if it lacks just the one that a crash between the two writes leaves.
fn behind<'a>(
    place: &Place,
    state: &State,
    reading: &'a journal::Reading,
    snapshot: Option<u64>,
) -> Result<Option<&'a Entry>, StoreError> {
    let at = state.head.commit;
    let journalled = reading.newest.unwrap_or_default();
    let acknowledged = journalled.max(CommitNumber(snapshot.unwrap_or(0)));
    let last = reading.last.as_ref();
    match last.filter(|entry| entry.head.commit == acknowledged) {
        Some(entry) if acknowledged.0 == at.0 + 1 => Ok(Some(entry)),
        Some(entry) if acknowledged == at && entry.head != state.head => {
            Err(StoreError::damaged(place.path(), Damage::Head { at }))
        }
        _ if acknowledged > at => Err(StoreError::damaged(place.path(), Damage::LogCut { at, acknowledged })),
        _ => Ok(None),
    }
}

/// Journals and snapshots that would be of no use when needed, and the newest snapshot that would.
fn check_files(
    place: &Place,
    reading: &journal::Reading,
    snapshots: &[u64],
) -> Result<(Vec<(PathBuf, String)>, CommitNumber), StoreError> {
    let mut bad = reading.damage.clone();
    let mut good = CommitNumber(0);
    for number in snapshots {
        let path = place.snapshots().join(number_name(*number));
        match snapshot::read(&path, place.format()) {
            Ok((state, _)) => good = state.head.commit,
            Err(Unusable::Damaged(why)) => bad.push((path, why)),
            Err(Unusable::Error(error)) => return Err(error),
        }
    }
    Ok((bad, good))
}

fn file_name(place: &Place, path: &Path) -> String {
    path.strip_prefix(place.path()).unwrap_or(path).display().to_string()
}

impl Store for Sled {
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.pages.get(&raw_key(table, key))
    }

    fn scan(&self, table: Table, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let found = self.pages.scan(&raw_key(table, prefix))?;
        Ok(found
            .into_iter()
            .map(|(raw, value)| (String::from_utf8_lossy(&raw[1..]).into_owned(), value))
            .collect())
    }

    fn commit(&mut self, batch: Batch) -> Result<Commit, StoreError> {
        if let Some(failed) = self.stopped {
            return Err(StoreError::Stopped { failed, source: None });
        }
        if let Some(damage) = &self.damage {
            return Err(StoreError::damaged(self.place.path(), damage.clone()));
        }
        self.place.check_space("committing")?;
        let pages = &self.pages;
        let entry = ledger::entry(&self.head, batch, self.options.keep_events, |raw| pages.get(raw))?;
        let Some(entry) = entry else {
            return Ok(Commit::of(&self.head, &self.head));
        };
        self.journal.reserve(entry.encoded_len())?;
        let failed = entry.head.commit;
        self.stopped = Some(failed);
        self.write(&entry).map_err(|cause| StoreError::Stopped { failed, source: Some(Box::new(cause)) })?;
        self.stopped = None;
        let commit = Commit::of(&self.head, &entry.head);
        self.head = entry.head;
        self.snapshot_if_due();
        Ok(commit)
    }

    fn events(&self, after: EventNumber, limit: usize) -> Result<Vec<(EventNumber, Vec<u8>)>, StoreError> {
        let from = event_key(EventNumber(after.0.saturating_add(1)));
        if after >= self.head.events.newest {
            return Ok(Vec::new());
        }
        let found = self.pages.events(&from, limit)?;
        Ok(found.into_iter().filter_map(|(raw, value)| Some((event_number(&raw)?, value))).collect())
    }

    fn event_span(&self) -> EventSpan {
        self.head.events
    }

    fn newest_commit(&self) -> CommitNumber {
        self.head.commit
    }

    fn export(&self, leave_out: &dyn Fn(Table, &str) -> bool) -> Result<Vec<u8>, StoreError> {
        Ok(snapshot::export(self.place.format(), self.pages.read_all()?, leave_out))
    }
}

#[cfg(test)]
mod tests;
