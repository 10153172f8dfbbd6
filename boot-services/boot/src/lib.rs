//! The contract between the one that decides and the hands that do: plans down, facts up.
//!
//! ```text
//!   control ── Down::Plan{generation, body} ──►  hand     the whole of what it should be doing now
//!   control ◄── Up::Hello{hand, epoch, holds} ──  hand     who it is and which plan it serves from
//!   control ◄── Up::Fact{seq, key, fact} ───────  hand     what it sees, one row per key, latest only
//! ```
//!
//! A plan is whole: it replaces the one before, and a hand refuses one older than it holds. A fact is a
//! row of a table, not a message in a queue: `key` names the row, a newer fact about the same key
//! replaces it, and on every new connection the whole table is told again. So nothing is lost when
//! either side dies, nothing piles up while control is away, and nobody acknowledges anything.
//! A fact that says something *happened* carries the [`Attempt`] it happened in, which the plan gave.
//!
//! On the wire: newline-delimited JSON, at most [`MAX_LINE`] bytes a line, the first field the version.
//! The bytes are pinned in `tests/bytes.rs`.
//!
//! This crate knows nothing of sockets, files or clocks, nor of what is above: nodes, BMCs, switches.

mod agent;
mod desk;
mod dhcp;
mod http;
mod iscsi;
mod tftp;
mod wire;
mod words;

pub use agent::{AgentLine, HandLine};
pub use desk::{Desk, Refused};
pub use dhcp::{Boot, DhcpFact, DhcpHost, DhcpMoment, DhcpNetwork, DhcpPlan, DhcpService, Pool, Prefix};
pub use http::{HttpAsset, HttpFact, HttpPlan, Script, Session, SessionState};
pub use iscsi::{
    Backing, IscsiChap, IscsiFact, IscsiLun, IscsiPlan, IscsiSession, IscsiTarget, Push, PushState,
    VolumePlan, VolumeSource, VolumeState, VolumeWish,
};
pub use tftp::{TftpFact, TftpFile, TftpListen, TftpPlan};
pub use wire::{Down, Generation, MAX_LINE, Row, Up, VERSION};
pub use words::{
    Architecture, Attempt, Device, Digest, DiskHint, Iqn, Json, Mac, NodeName, NotAWord, Secret, VolumeId,
};
