//! Formats: what a store of an older one is migrated by, and the way back.
//!
//! ```text
//!  FORMAT: 1 ──► kept/1, read back ──► FORMAT: 2 from kept 1 ──► built anew ──► FORMAT: 2
//!  older release:  FORMAT: 2, kept/1 ──► all of it to aside/ ──► FORMAT: 1 from kept 1 ──► built anew ──► FORMAT: 1
//! ```
//!
//! The line in `FORMAT` is the one switch, and it is written whole. While it says *from kept*, everything else is
//! made again from the kept copy by the next open, of whichever release. So a process killed anywhere leaves a
//! store of the old format, or one that a newer and an older release can both make whole.
//!
//! Rejected: *a copy of the directory*. A snapshot file is everything as well, is one file to make last, and has a
//! checksum. *Migrating in sled, in one batch*: it would not fit one, and the journal leads on from what was.

use crate::entry::{Head, State};
use crate::error::Damage;
use crate::journal::{self, Journal};
use crate::pages::Pages;
use crate::place::{Place, list, make_dir, number_name, numbered, remove, rename, sync_dir, write_whole};
use crate::snapshot::{self, Unusable};
use crate::{CommitNumber, EventNumber, Options, Sled, StoreError};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A format and the ways to it from older ones.
///
/// It counts whatever a store holds: a record's version that goes up takes the next format too, for an older
/// release can read neither.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// What is written.
    pub number: u32,
    /// One for each older format that is migrated.
    pub steps: &'static [Step],
}

impl Format {
    /// This release's.
    pub const CURRENT: Format = Format { number: 1, steps: &[] };
}

/// From a format to the next.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub from: u32,
    /// Changes what is kept; an error says why it cannot, and the store stays as it is.
    pub change: fn(&mut Records) -> Result<(), String>,
}

/// Everything that is kept, by raw key: a table's byte and the key, or 0 and an event's number in eight bytes, big
/// end first. A value begins with its version.
pub type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// A store of a newer format gave way to the copy that was kept before it was migrated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenUp {
    /// The newer format.
    pub newer: u32,
    /// The newest commit that is here again.
    pub restored: CommitNumber,
    /// The newest that the newer release is known to have made; later ones are numbered on from here.
    pub newest: CommitNumber,
    /// Where the newer store is now.
    pub aside: PathBuf,
}

impl fmt::Display for TakenUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TakenUp { newer, restored, newest, aside } = self;
        write!(f, "a newer release had migrated the store to format {newer}; ")?;
        write!(f, "the copy from before is taken up, as of commit {restored}; ")?;
        match newest.0.saturating_sub(restored.0) {
            0 => write!(f, "nothing was committed since")?,
            lost => write!(f, "the {lost} commits after it up to {newest} are undone")?,
        }
        write!(f, "; what the newer release left is in {}", aside.display())
    }
}

/// What `FORMAT` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// Nothing: there is no such file.
    Missing,
    /// It is none of ours, or changed.
    Changed,
    Settled(u32),
    /// Everything is to be made from the kept copy of format `kept`, and numbered on from `past`.
    Unbuilt {
        number: u32,
        kept: u32,
        past: Numbers,
    },
}

/// Numbers that were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Numbers {
    commit: u64,
    event: u64,
}

impl Numbers {
    fn of(head: &Head) -> Numbers {
        Numbers { commit: head.commit.0, event: head.events.newest.0 }
    }

    fn max(self, other: Numbers) -> Numbers {
        Numbers { commit: self.commit.max(other.commit), event: self.event.max(other.event) }
    }
}

/// What a newer release may have given that left no readable trace.
const LEAP: u64 = 1 << 20;

/// What a store consists of, its format aside.
const PARTS: [&str; 4] = ["sled", "sled.new", "journal", "snapshots"];
/// In `aside/`, until the store it came from has another format.
const UNFINISHED: &str = "unfinished";

impl Line {
    pub(crate) fn read(store: &Path) -> Result<Line, StoreError> {
        let file = store.join("FORMAT");
        match fs::read(&file) {
            Ok(bytes) => Ok(Line::parse(&bytes).unwrap_or(Line::Changed)),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(Line::Missing),
            Err(source) => Err(StoreError::io(&file, "reading", source)),
        }
    }

    fn parse(bytes: &[u8]) -> Option<Line> {
        let (line, sum) = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?.split_once(" crc32c ")?;
        if sum != format!("{:08x}", crc32c::crc32c(line.as_bytes())) {
            return None;
        }
        let words: Vec<&str> = line.strip_prefix("kiln store format ")?.split(' ').collect();
        let number = words[0].parse().ok()?;
        // A later release may say more: its number is read all the same.
        match words[1..] {
            ["from", "kept", kept, "past", commit, event] => {
                let past = Numbers { commit: commit.parse().ok()?, event: event.parse().ok()? };
                Some(Line::Unbuilt { number, kept: kept.parse().ok()?, past })
            }
            _ => Some(Line::Settled(number)),
        }
    }

    fn text(self) -> Option<String> {
        let line = match self {
            Line::Missing | Line::Changed => return None,
            Line::Settled(number) => format!("kiln store format {number}"),
            Line::Unbuilt { number, kept, past: Numbers { commit, event } } => {
                format!("kiln store format {number} from kept {kept} past {commit} {event}")
            }
        };
        Some(format!("{line} crc32c {:08x}\n", crc32c::crc32c(line.as_bytes())))
    }

    pub(crate) fn write(self, store: &Path) -> Result<(), StoreError> {
        let text = self.text().unwrap_or_default();
        write_whole(&store.join("FORMAT"), |file| file.write_all(text.as_bytes()))
    }

    pub(crate) fn number(self) -> Option<u32> {
        match self {
            Line::Settled(number) | Line::Unbuilt { number, .. } => Some(number),
            Line::Missing | Line::Changed => None,
        }
    }
}

impl Format {
    /// The steps from an older format; `None`: there is no way.
    fn way(&self, from: u32) -> Option<Vec<&Step>> {
        (from..self.number).map(|at| self.steps.iter().find(|step| step.from == at)).collect()
    }

    /// Migrates a state from an older format.
    fn migrate(&self, path: &Path, from: u32, state: &mut State) -> Result<(), StoreError> {
        let way = self.way(from).ok_or_else(|| StoreError::OlderFormat {
            path: path.to_owned(),
            format: from,
            known: self.number,
        })?;
        for step in way {
            (step.change)(&mut state.records).map_err(|why| StoreError::NotMigrated {
                path: path.to_owned(),
                from: step.from,
                why,
            })?;
        }
        let mut found = Head::EMPTY;
        state.records.iter().for_each(|(raw, value)| found.add(raw, value));
        (state.head.records, state.head.sum) = (found.records, found.sum);
        Ok(())
    }
}

/// Looks at a locked directory before anything in it is touched: a store of a newer format gives way to the kept copy
/// that this release can read, if there is one.
pub(crate) fn meet(store: &Path, format: Format) -> Result<(Line, Option<TakenUp>), StoreError> {
    let line = Line::read(store)?;
    let (line, taken) = match line.number() {
        Some(newer) if newer > format.number => {
            let (line, taken) = take_up(store, format, newer)?;
            (line, Some(taken))
        }
        _ => (line, None),
    };
    let aside = finish_aside(store, line)?;
    let taken = taken.map(|taken| TakenUp { aside: aside.unwrap_or(taken.aside), ..taken });
    Ok((line, taken))
}

fn take_up(store: &Path, format: Format, newer: u32) -> Result<(Line, TakenUp), StoreError> {
    let refused = || StoreError::NewerFormat { path: store.to_owned(), format: newer, known: format.number };
    let (kept, state) = newest_kept(store, format)?.ok_or_else(refused)?;
    let unfinished = store.join("aside").join(UNFINISHED);
    make_dir(&unfinished)?;
    sync_dir(&store.join("aside"))?;
    sync_dir(store)?;
    let here = Numbers::of(&state.head);
    let past = [store, &unfinished].into_iter().fold(here, |past, place| past.max(given(place, here)));

    let text = fs::read(store.join("FORMAT")).map_err(|source| StoreError::io(store, "reading", source))?;
    write_whole(&unfinished.join("FORMAT"), |file| file.write_all(&text))?;
    for part in PARTS {
        let from = store.join(part);
        if from.exists() {
            rename(&from, &unfinished.join(part), "setting aside")?;
        }
    }
    sync_dir(&unfinished)?;
    sync_dir(store)?;
    let line = Line::Unbuilt { number: format.number, kept, past };
    line.write(store)?;
    let (restored, newest) = (CommitNumber(here.commit), CommitNumber(past.commit));
    Ok((line, TakenUp { newer, restored, newest, aside: unfinished }))
}

/// The newest kept copy that this release can read.
fn newest_kept(store: &Path, format: Format) -> Result<Option<(u32, State)>, StoreError> {
    let dir = store.join("kept");
    if !dir.exists() {
        return Ok(None);
    }
    let numbers = numbered(&dir)?;
    let known = numbers.iter().rev().filter_map(|number| u32::try_from(*number).ok());
    for number in known.filter(|number| *number <= format.number && format.way(*number).is_some()) {
        match read_kept(store, number) {
            Ok(state) => return Ok(Some((number, state))),
            Err(error) => log::error!(error:%; "kept copy of the store cannot be used"),
        }
    }
    Ok(None)
}

fn kept_path(store: &Path, number: u32) -> PathBuf {
    store.join("kept").join(number_name(number.into()))
}

fn read_kept(store: &Path, number: u32) -> Result<State, StoreError> {
    let damaged = |why: String| {
        let name = kept_path(Path::new(""), number).display().to_string();
        StoreError::damaged(store, Damage::File { name, why })
    };
    match snapshot::read(&kept_path(store, number), number) {
        Ok((state, found)) if found == number => Ok(state),
        Ok((_, found)) => Err(damaged(format!("it is of format {found}"))),
        Err(Unusable::Damaged(why)) => Err(damaged(why)),
        Err(Unusable::Error(error)) => Err(error),
    }
}

/// The newest numbers that the store in a directory gave, as far as can be read.
fn given(place: &Path, here: Numbers) -> Numbers {
    let dir = place.join("journal");
    if !dir.exists() {
        return Numbers::default();
    }
    let mut newest = Numbers::default();
    match journal::read(&dir, |entry| newest = newest.max(Numbers::of(&entry.head))) {
        Ok(reading) if reading.damage.is_empty() => {
            let commit = reading.newest.unwrap_or_default().0;
            newest.max(Numbers { commit, event: 0 })
        }
        _ => newest.max(Numbers { commit: here.commit + LEAP, event: here.event + LEAP }),
    }
}

/// What was set aside gets its name when the store has its new format, and is put back when it never got it.
fn finish_aside(store: &Path, line: Line) -> Result<Option<PathBuf>, StoreError> {
    let aside = store.join("aside");
    let unfinished = aside.join(UNFINISHED);
    if !unfinished.exists() {
        return Ok(None);
    }
    if !matches!(line, Line::Unbuilt { .. }) {
        for part in PARTS {
            if unfinished.join(part).exists() && !store.join(part).exists() {
                rename(&unfinished.join(part), &store.join(part), "putting back")?;
            }
        }
        sync_dir(store)?;
        sync_dir(&unfinished)?;
        if list(&unfinished)?.iter().all(|name| !PARTS.contains(&name.as_str())) {
            remove(&unfinished)?;
            return Ok(None);
        }
    }
    let format = Line::read(&unfinished)?.number().unwrap_or(0);
    let taken = list(&aside)?;
    let name = (1..).map(|count| format!("format-{format}-{count}")).find(|name| !taken.contains(name));
    let to = aside.join(name.expect("numbers do not end"));
    rename(&unfinished, &to, "setting aside")?;
    sync_dir(&aside)?;
    Ok(Some(to))
}

/// Brings a store whose format is not this release's to it; `place` says what it is afterwards.
pub(crate) fn bring(place: Place, options: &Options) -> Result<Place, StoreError> {
    let format = options.format;
    match place.line() {
        Line::Unbuilt { kept, past, .. } => build(place, format, kept, past),
        Line::Settled(from) if from < format.number => {
            if format.way(from).is_none() {
                let path = place.path().to_owned();
                return Err(StoreError::OlderFormat { path, format: from, known: format.number });
            }
            // Opened as it is: what is kept is whole, and what is damaged is recovered first.
            let (place, state) = Sled::open_in(place, options.clone())?.into_state()?;
            // Before anything is changed: it may be refused.
            format.migrate(place.path(), from, &mut state.clone())?;
            keep(&place, from, &state)?;
            let past = Numbers::of(&state.head);
            log::warn!(from, to = format.number, commit:% = state.head.commit; "store is migrated, a copy is kept");
            Line::Unbuilt { number: format.number, kept: from, past }.write(place.path())?;
            build(place, format, from, past)
        }
        _ => Ok(place),
    }
}

/// Keeps a copy of a store of format `number`, read back; on disk when it returns.
fn keep(place: &Place, number: u32, state: &State) -> Result<(), StoreError> {
    let doing = "keeping a copy before the store is migrated: it is not, and stays as it is";
    let bytes: usize = state.records.iter().map(|(raw, value)| raw.len() + value.len() + 64).sum();
    // The copy, the new database with its slack, and the new snapshot.
    place.check_room(4 * bytes as u64, doing)?;
    let dir = place.path().join("kept");
    make_dir(&dir)?;
    sync_dir(place.path())?;
    snapshot::write_as(&dir, u64::from(number), number, state)
        .map(|_| ())
        .map_err(|error| error.while_doing(doing))
}

fn build(mut place: Place, format: Format, kept: u32, past: Numbers) -> Result<Place, StoreError> {
    let mut state = read_kept(place.path(), kept)?;
    format.migrate(place.path(), kept, &mut state)?;
    state.head.commit = state.head.commit.max(CommitNumber(past.commit));
    state.head.events.newest = state.head.events.newest.max(EventNumber(past.event));

    // All of it is in the copy.
    remove(&place.sled())?;
    for dir in [place.journal(), place.snapshots()] {
        for name in list(&dir)? {
            remove(&dir.join(name))?;
        }
    }
    let fresh = place.path().join("sled.new");
    remove(&fresh)?;
    let pages = Pages::open(&fresh)?;
    pages.fill(&state)?;
    drop(pages);
    rename(&fresh, &place.sled(), "renaming")?;
    sync_dir(place.path())?;
    snapshot::write(&place.snapshots(), format.number, &state)?;
    Journal::create(&place.journal(), state.head.commit)?;
    place.settle_on(format.number)?;
    Ok(place)
}

/// Makes what the next open builds a store of.
pub(crate) fn plant(
    store: &Path,
    exported: &[u8],
    past: (CommitNumber, EventNumber),
    format: Format,
) -> Result<(), StoreError> {
    let kept = snapshot::format_of(store, exported, format.number)?;
    make_dir(&store.join("kept"))?;
    write_whole(&kept_path(store, kept), |file| file.write_all(exported))?;
    sync_dir(store)?;
    let past = Numbers { commit: past.0.0, event: past.1.0 };
    Line::Unbuilt { number: format.number, kept, past }.write(store)
}

/// The copies of an open store from before it was migrated; for its owner.
#[derive(Debug, Clone)]
pub struct Kept(PathBuf);

impl Kept {
    pub(crate) fn of(store: &Path) -> Kept {
        Kept(store.join("kept"))
    }

    /// Whether there is one.
    pub fn is_there(&self) -> bool {
        self.0.exists()
    }

    /// Forgets them: nobody goes back to an older release now. The formats they had.
    pub fn forget(&self) -> Result<Vec<u64>, StoreError> {
        if !self.is_there() {
            return Ok(Vec::new());
        }
        let numbers = numbered(&self.0)?;
        remove(&self.0)?;
        sync_dir(self.0.parent().unwrap_or(&self.0))?;
        Ok(numbers)
    }
}

#[cfg(test)]
mod tests;
