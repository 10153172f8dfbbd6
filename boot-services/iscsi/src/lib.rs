//! iSCSI (RFC 7143), both ends, as engines over any byte stream.
//!
//! | standard | what |
//! |---|---|
//! | RFC 7143, 6 | login in both stages, discovery and normal sessions, SendTargets, text that goes on in the next PDU |
//! | RFC 7143, 12.1; RFC 1994 | CHAP one-way and mutual, by MD5, SHA-256 and SHA3-256; no proof only where a target says so |
//! | RFC 7143, 13 | every key; digests of headers and data (CRC32C); immediate, unsolicited and solicited data |
//! | RFC 7143, 4.2.2 | windows of commands and statuses, immediate commands, ordered delivery |
//! | RFC 7143, 11.5 | task management over all sessions of a unit, but for reassignment |
//! | RFC 7143, 6.3.5 | session reinstatement |
//! | RFC 7143, 7 | error recovery level 0: what is lost ends the task or the session |
//! | not done | error recovery levels 1 and 2, more than one connection in a session, markers, bidirectional commands, Kerberos and SRP |
//!
//! ```text
//!   initiator::…  ──── octets ────►  target::Connection ──► scsi::LogicalUnit
//!        │                                │
//!        └───── pdu, text, keys, chap ────┘   what both ends say
//! ```
//!
//! This crate knows nothing of sockets, files, threads or clocks.

pub mod chap;
pub mod initiator;
pub mod keys;
pub mod pdu;
pub mod target;
pub mod text;
