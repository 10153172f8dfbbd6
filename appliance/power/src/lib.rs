//! The power hand: keeps a session with every BMC of the plan, looks, and sees to it that what is wished is so.
//!
//! ```text
//!   plan ──▶ run ──▶ one task per BMC:  socket ◀─▶ ipmi::Console ◀─▶ pursuit ──▶ facts
//!
//!   pursuit:  look ─┬─ as wished ─────────────────────────────────────▶ fulfilled; look again later
//!              ▲    ├─ off, wished on:  boot flags ─▶ read back ─▶ power up ─┐
//!              │    ├─ on, wished off:  power down ──────────────────────────┤
//!              │    └─ off, wished off: clear the boot flags, where there are any
//!              └──────────────── at once, then after 0.2 s, 0.5 s, 1 s, 2 s, 5 s
//! ```
//!
//! A wish is a level: it is pursued for as long as it stands, and for ever. What is wrong meanwhile is a
//! fact, told when it changes. IPMI is the only way to a BMC so far; Redfish will be another.
//!
//! This crate knows nothing of deployments: what a node is powered on for is control's.

mod double;
mod hand;
mod pursuit;

pub use double::Double;
pub use hand::run;
