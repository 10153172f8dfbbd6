//! From a batch to an entry: numbers, limits, pruning. The same for every store; no file.

use crate::entry::{Entry, Head, event_key, place, raw_key};
use crate::{Batch, EventNumber, MAX_BATCH, MAX_CHANGES, MAX_KEY, MAX_VALUE, StoreError};
use std::collections::BTreeMap;

/// Events that one commit prunes of its own accord.
pub(crate) const PRUNE_STEP: u64 = 512;

/// More events than are to be kept by so many, and some are pruned.
const PRUNE_SLACK: u64 = 64;

/// The entry that makes a batch's changes after `head`; `None` when there are none to make.
///
/// `lookup` gives the value a raw key has now.
pub(crate) fn entry(
    head: &Head,
    batch: Batch,
    keep_events: u64,
    mut lookup: impl FnMut(&[u8]) -> Result<Option<Vec<u8>>, StoreError>,
) -> Result<Option<Entry>, StoreError> {
    let batch = checked(batch)?;
    let mut head = *head;
    let mut changes = BTreeMap::new();

    for ((table, key), value) in batch.changes {
        let raw = raw_key(table, &key);
        let old = lookup(&raw)?;
        if old == value {
            continue;
        }
        if let Some(old) = old {
            head.remove(&raw, &old);
        }
        if let Some(value) = &value {
            head.add(&raw, value);
        }
        changes.insert(raw, value);
    }

    let mut events = head.events;
    let oldest = prune_to(events.oldest.0, events.newest.0, &batch.events, batch.prune_before, keep_events);
    for number in events.oldest.0..oldest {
        let raw = event_key(EventNumber(number));
        // A recovery that lost events leaves numbers that nothing has.
        if let Some(old) = lookup(&raw)? {
            head.remove(&raw, &old);
            changes.insert(raw, None);
        }
    }
    let pruned = oldest != events.oldest.0;
    events.oldest = EventNumber(oldest);

    for value in batch.events {
        events.newest.0 += 1;
        let raw = event_key(events.newest);
        head.add(&raw, &value);
        changes.insert(raw, Some(value));
    }

    if changes.is_empty() && !pruned {
        return Ok(None);
    }
    head.events = events;
    head.commit.0 += 1;
    Ok(Some(Entry { head, changes }))
}

/// The oldest event that is kept after a commit.
fn prune_to(
    oldest: u64,
    newest: u64,
    added: &[Vec<u8>],
    asked: Option<EventNumber>,
    keep_events: u64,
) -> u64 {
    let end = newest + 1;
    let kept = end - oldest + added.len() as u64;
    let surplus = kept.saturating_sub(keep_events);
    // Twice what is added: however much comes at once, the log shrinks to its size.
    let step = PRUNE_STEP.max(2 * added.len() as u64);
    let own = if surplus > PRUNE_SLACK { oldest + surplus.min(step) } else { oldest };
    let asked = asked.map_or(oldest, |before| before.0);
    own.max(asked).min(end)
}

fn checked(mut batch: Batch) -> Result<Batch, StoreError> {
    if let Some(error) = batch.encode_error.take() {
        return Err(error.into());
    }
    let mut bytes = 0;
    for ((table, key), value) in &batch.changes {
        let name = || place(&raw_key(*table, key));
        if key.is_empty() || key.len() > MAX_KEY || key.contains('\0') {
            return Err(StoreError::BadKey { place: name() });
        }
        let size = value.as_ref().map_or(0, Vec::len);
        if size > MAX_VALUE {
            return Err(StoreError::TooLarge { place: name(), bytes: size });
        }
        bytes += key.len() + size;
    }
    for event in &batch.events {
        if event.len() > MAX_VALUE {
            return Err(StoreError::TooLarge { place: "an event".to_owned(), bytes: event.len() });
        }
        bytes += event.len();
    }
    let changes = batch.changes.len() + batch.events.len();
    if bytes > MAX_BATCH || changes > MAX_CHANGES {
        return Err(StoreError::BatchTooLarge { bytes, changes });
    }
    Ok(batch)
}
