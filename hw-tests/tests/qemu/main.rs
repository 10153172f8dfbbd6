//! The virtual rack, end to end. Takes root and Debian's packages (`hw-tests/setup`).
#![allow(clippy::unwrap_used, reason = "a test's stage fails by panic, like the test")]

mod iscsi;
mod power;
mod removal;
mod stage;
mod wires;
