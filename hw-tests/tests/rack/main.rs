//! A whole rack in memory around the real control: virtual time, no sockets, no threads, no sleeping.
//!
//! ```text
//!   intents ─► Control over store::Memory ══ boot::Desk, bytes ══ hands ── switch, BMCs, machines
//! ```
//!
//! The DHCP engine is the real one, asked with clients' packets. The other hands are doubles that keep the
//! contract: plans by number, kept over a restart; facts as rows, told again on every connection.

mod agent;
mod deployment;
mod judge;
mod kills;
mod line;
mod machine;
mod packet;
mod power;
mod services;
mod stage;
mod switch;
mod world;
