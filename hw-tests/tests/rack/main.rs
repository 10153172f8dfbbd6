//! A whole rack in memory around the real control: virtual time, no sockets, no threads, no sleeping.
//!
//! ```text
//!   intents ─► Control over store::Memory ══ boot::Desk, bytes ══ hands ── switch, BMCs, machines
//! ```
//!
//! The DHCP engine is the real one, asked with clients' packets. The other hands are doubles that keep the
//! contract: plans by number, kept over a restart; facts as rows, told again on every connection.

#![allow(clippy::unwrap_used, reason = "a test's stage fails by panic, like the test")]

mod absences;
mod agent;
mod deployment;
mod faults;
mod intents;
mod iscsi;
mod judge;
mod kills;
mod line;
mod machine;
mod packet;
mod power;
mod services;
mod stage;
mod storage;
mod switch;
mod tenants;
mod volumes;
mod world;
