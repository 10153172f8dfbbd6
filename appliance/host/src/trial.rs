//! What the boot loader and the system tell each other of the slots, by GRUB's variables.
//!
//! | variable | whose | says |
//! |---|---|---|
//! | `ORDER` | RAUC's | which slot is tried first: `A B` or `B A` |
//! | `A_OK`, `B_OK` | RAUC's | 1: the slot may be started; 0 while it is written, and when its trial failed |
//! | `A_TRY`, `B_TRY` | RAUC's | starts since the slot last proved itself: three are allowed, on trial one |
//! | `TRIAL` | ours | the slot that has yet to prove itself; empty: none |
//! | `ARMED` | ours | the slot that a boot loader which counts nothing was told to start once; with GRUB there is none |
//!
//! ```text
//!   TRIAL=B, then RAUC: B_OK=0, writes B, ORDER="B A" B_OK=1 B_TRY=0
//!     GRUB: B_TRY=1, starts B ─┬─► all services ready for a minute: TRIAL= B_TRY=0
//!                              └─► anything else, and the box starts again: B is passed over, A starts,
//!                                  and A says so: B_OK=0 ORDER="A B" TRIAL=
//! ```
//!
//! systemd-boot reads none of it, and the rest is the same: between RAUC's end and B's start it is told
//! ([`crate::loader::arm`]), and then `ARMED=B`. Without that, B was never started, whatever else stands here: the update
//! begins again.

use crate::{esp::Loader, grubenv::Block};
use rack::Slot;

/// The variable that says which slot has yet to prove itself.
const TRIAL: &str = "TRIAL";

/// The variable that says which slot's one start the boot loader was told.
const ARMED: &str = "ARMED";

/// Starts that a slot which once was good has to prove itself again.
pub const TRIES: u8 = 3;

/// What a running slot finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is on trial, or nothing came of it yet.
    Settled,
    /// It is on trial itself.
    OnTrial,
    /// The other was on trial, and the boot loader came back.
    CameBack,
}

/// The slot that has yet to prove itself.
pub fn on_trial(block: &Block) -> Option<Slot> {
    Slot::named(block.get(TRIAL).unwrap_or_default())
}

/// The slot that is tried first.
pub fn first(block: &Block) -> Option<Slot> {
    let order = block.get("ORDER").unwrap_or_default();
    order.split_ascii_whitespace().find_map(Slot::named)
}

/// Whether the boot loader may start a slot.
pub fn is_good(block: &Block, slot: Slot) -> bool {
    block.get(&format!("{slot}_OK")).is_none_or(|ok| ok == "1")
}

/// How it stands with the slot that runs.
pub fn standing(block: &Block, running: Slot) -> Standing {
    match on_trial(block) {
        Some(slot) if slot == running => Standing::OnTrial,
        Some(slot) if was_started(block, slot) => Standing::CameBack,
        _ => Standing::Settled,
    }
}

/// Whether the boot loader started a slot that is on trial.
fn was_started(block: &Block, slot: Slot) -> bool {
    match block.get(ARMED) {
        Some(armed) => Slot::named(armed) == Some(slot),
        // Written and put first, and counted, as GRUB does before it starts a slot: an update that waits for somebody to
        // start the box is at nought.
        None => {
            let tries = block.get(&format!("{slot}_TRY")).unwrap_or_default();
            first(block) == Some(slot) && is_good(block, slot) && !matches!(tries, "" | "0")
        }
    }
}

/// A slot is about to be written, and is on trial from its first start on.
pub fn begin(block: &mut Block, slot: Slot, loader: Loader) {
    block.set(TRIAL, &slot.to_string());
    if loader == Loader::Once {
        block.set(ARMED, "");
    }
}

/// A boot loader that counts nothing was told to start a slot once.
pub fn armed(block: &mut Block, slot: Slot) {
    block.set(ARMED, &slot.to_string());
}

/// Counts a start, as GRUB does, where the boot loader does not. Returns the slot that is to be started instead: this
/// one was started three times and never said that it is good. With none left they are all tried again.
pub fn count(block: &mut Block, slot: Slot) -> Option<Slot> {
    let name = |slot: Slot| format!("{slot}_TRY");
    let tries =
        |block: &Block, slot: Slot| block.get(&name(slot)).and_then(|tries| tries.parse().ok()).unwrap_or(0);
    let (here, other): (u8, u8) = (tries(block, slot), tries(block, slot.other()));
    if here < TRIES {
        block.set(&name(slot), &(here + 1).to_string());
        return None;
    }
    if is_good(block, slot.other()) && other < TRIES {
        return Some(slot.other());
    }
    block.set(&name(slot), "1");
    block.set(&name(slot.other()), "0");
    None
}

/// Nothing is on trial any more.
fn end(block: &mut Block) {
    block.set(TRIAL, "");
    if block.get(ARMED).is_some() {
        block.set(ARMED, "");
    }
}

/// A slot proved itself.
pub fn pass(block: &mut Block, slot: Slot) {
    block.set(&format!("{slot}_OK"), "1");
    block.set(&format!("{slot}_TRY"), "0");
    if on_trial(block) == Some(slot) {
        end(block);
        block.set("ORDER", &order(slot));
    }
}

/// A slot's trial failed: it is started no more.
pub fn fail(block: &mut Block, slot: Slot) {
    block.set(&format!("{slot}_OK"), "0");
    block.set("ORDER", &order(slot.other()));
    if on_trial(block) == Some(slot) {
        end(block);
    }
}

/// `ORDER` with a slot first.
fn order(slot: Slot) -> String {
    format!("{slot} {}", slot.other())
}

#[cfg(test)]
mod tests;
