use super::Sled;
use crate::entry::State;
use crate::error::Damage;
use crate::journal::{self, Journal};
use crate::pages::Pages;
use crate::place::{Place, number_name, numbered, remove, sync_dir};
use crate::snapshot::{self, Unusable};
use crate::{CommitNumber, Options, StoreError};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// What a recovery did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// What was wrong.
    pub damage: Damage,
    /// The snapshot it began with; 0 is the empty store.
    pub snapshot: CommitNumber,
    /// How many journalled commits it did again after that.
    pub replayed: u64,
    /// The newest commit that is restored.
    pub restored: CommitNumber,
    /// The newest commit known to have been journalled. Later commits are numbered on from here.
    pub acknowledged: CommitNumber,
    /// Where the damaged files are.
    pub set_aside: PathBuf,
}

impl Recovery {
    /// How many commits are lost.
    pub fn lost(&self) -> u64 {
        self.acknowledged.0 - self.restored.0
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Recovery { damage, snapshot, replayed, acknowledged, set_aside, .. } = self;
        write!(f, "{damage}; restored snapshot {snapshot} and {replayed} commits after it; ")?;
        match self.lost() {
            0 => write!(f, "nothing is lost")?,
            lost => write!(f, "{lost} commits up to {acknowledged} are lost")?,
        }
        write!(f, "; the damaged files are in {}", set_aside.display())
    }
}

impl Sled {
    /// Opens the store; if it is damaged, first restores the newest good snapshot and the journal after it.
    ///
    /// Without damage there is no `Recovery`, and this is [`Sled::open`]. Errors other than damage are returned as
    /// they are. May be interrupted and called again at any point.
    pub fn recover(path: impl AsRef<Path>, options: Options) -> Result<(Sled, Option<Recovery>), StoreError> {
        let damage = match Sled::open(path.as_ref(), options.clone()) {
            Ok(sled) => return Ok((sled, None)),
            Err(StoreError::Damaged { damage, .. }) => damage,
            Err(error) => return Err(error),
        };
        let mut place = Place::open(path.as_ref(), options.format)?;
        let recovery = rebuild(&mut place, damage)?;
        log::error!(path:% = place.path().display(), recovery:%; "store recovered");
        Ok((Sled::open_place(place, options)?, Some(recovery)))
    }
}

fn rebuild(place: &mut Place, damage: Damage) -> Result<Recovery, StoreError> {
    place.check_space("recovering")?;
    place.clear_damaged()?;

    let snapshots = numbered(&place.snapshots())?;
    let mut bad = Vec::new();
    let mut state = None;
    // A store whose `FORMAT` is gone has that of its snapshots.
    let mut format = place.format();
    for number in snapshots.iter().rev() {
        let path = place.snapshots().join(number_name(*number));
        match snapshot::read(&path, place.format()) {
            Ok((found, of)) if state.is_none() => {
                format = of;
                state = Some(found);
            }
            Ok(_) => {}
            Err(Unusable::Damaged(_)) => bad.push(path),
            Err(Unusable::Error(error)) => return Err(error),
        }
    }
    let journals = numbered(&place.journal())?;
    let mut state = match state {
        Some(state) => state,
        None if journals.first() == Some(&0) => State::EMPTY,
        None => return Err(StoreError::NothingToRecover { path: place.path().to_owned() }),
    };

    let snapshot = state.head.commit;
    let mut replayed = 0;
    let mut acknowledged = CommitNumber(snapshots.last().copied().unwrap_or(0));
    let mut newest_event = state.head.events.newest;
    let reading = journal::read(&place.journal(), |entry| {
        newest_event = newest_event.max(entry.head.events.newest);
        if state.apply(entry).is_ok() {
            replayed += 1;
        }
    })?;
    acknowledged = acknowledged.max(reading.newest.unwrap_or_default());
    let restored = state.head.commit;

    // Numbers that somebody may have seen are not given again.
    state.head.commit = restored.max(acknowledged);
    state.head.events.newest = newest_event;

    let fresh = place.path().join("sled.new");
    remove(&fresh)?;
    let pages = Pages::open(&fresh)?;
    pages.fill(&state)?;
    drop(pages);
    if place.sled().exists() {
        place.set_aside(&place.sled(), "sled")?;
    }
    fs::rename(&fresh, place.sled()).map_err(|source| StoreError::io(&fresh, "renaming", source))?;
    sync_dir(place.path())?;

    // From here on an interruption leaves a whole database, or one that is behind and recovered again.
    for path in bad {
        place.set_aside(
            &path,
            &format!("snapshot-{}", path.file_name().unwrap_or_default().to_string_lossy()),
        )?;
    }
    snapshot::write(&place.snapshots(), format, &state)?;
    if reading.damage.is_empty() && restored == acknowledged {
        reading.resume()?;
    } else {
        for base in journals {
            let name = number_name(base);
            place.set_aside(&place.journal().join(&name), &format!("journal-{name}"))?;
        }
    }
    Journal::create(&place.journal(), state.head.commit)?;
    place.settle_on(format)?;
    Ok(Recovery { damage, snapshot, replayed, restored, acknowledged, set_aside: place.damaged() })
}
