//! What the boot loader and the system tell each other of the slots, by GRUB's variables.
//!
//! | variable | whose | says |
//! |---|---|---|
//! | `ORDER` | RAUC's | which slot is tried first: `A B` or `B A` |
//! | `A_OK`, `B_OK` | RAUC's | 1: the slot may be started; 0 while it is written, and when its trial failed |
//! | `A_TRY`, `B_TRY` | RAUC's | starts since the slot last proved itself: three are allowed, on trial one |
//! | `TRIAL` | ours | the slot that has yet to prove itself; empty: none |
//!
//! ```text
//!   TRIAL=B, then RAUC: B_OK=0, writes B, ORDER="B A" B_OK=1 B_TRY=0
//!     GRUB: B_TRY=1, starts B ─┬─► all services ready for a minute: TRIAL= B_TRY=0
//!                              └─► anything else, and the box starts again: B is passed over, A starts,
//!                                  and A says so: B_OK=0 ORDER="A B" TRIAL=
//! ```

use crate::grubenv::Block;
use rack::Slot;

/// The variable that says which slot has yet to prove itself.
const TRIAL: &str = "TRIAL";

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
        // Written and put first: GRUB started it before us. Before that it was never begun.
        Some(slot) if first(block) == Some(slot) && is_good(block, slot) => Standing::CameBack,
        _ => Standing::Settled,
    }
}

/// A slot is about to be written, and is on trial from its first start on.
pub fn begin(block: &mut Block, slot: Slot) {
    block.set(TRIAL, &slot.to_string());
}

/// A slot proved itself.
pub fn pass(block: &mut Block, slot: Slot) {
    block.set(&format!("{slot}_OK"), "1");
    block.set(&format!("{slot}_TRY"), "0");
    if on_trial(block) == Some(slot) {
        block.set(TRIAL, "");
        block.set("ORDER", &order(slot));
    }
}

/// A slot's trial failed: it is started no more.
pub fn fail(block: &mut Block, slot: Slot) {
    block.set(&format!("{slot}_OK"), "0");
    block.set("ORDER", &order(slot.other()));
    if on_trial(block) == Some(slot) {
        block.set(TRIAL, "");
    }
}

/// `ORDER` with a slot first.
fn order(slot: Slot) -> String {
    format!("{slot} {}", slot.other())
}

#[cfg(test)]
mod tests;
