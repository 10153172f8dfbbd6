//! IPMI v2.0 over LAN (RMCP+), both ends as engines: the [`Console`] that asks and the [`Bmc`] that answers.
//!
//! ```text
//!   Console                                              Bmc
//!      │  Get Channel Authentication Capabilities  ──────▶ │   may stay unanswered
//!      │  Open Session Request: cipher suite 17    ──────▶ │
//!      │ ◀──────────────────────────  refused, or response │   refused: once more with suite 3
//!      │  RAKP message 1: random, user             ──────▶ │
//!      │ ◀────────────  RAKP message 2: random, GUID, code │   the BMC knows the password
//!      │  RAKP message 3: code                     ──────▶ │   we know the password
//!      │ ◀─────────────────  RAKP message 4: check value   │
//!      ╞═══ from here encrypted and signed, numbered ══════╡
//!      │  Set Session Privilege Level              ──────▶ │
//!      │  one request at a time, paced             ──────▶ │   again after 0.5 s, 1 s, …: a new session
//!      │ ◀───────────────────────────────────────  response│   sequence number, the same rqSeq
//!      │  Close Session                            ──────▶ │
//! ```
//!
//! | feature | console | BMC |
//! |---|---|---|
//! | cipher suites 17 and 3, with fall-back | done | done |
//! | user names, look-up by name only | done | done |
//! | Administrator, else Operator | done | done |
//! | retransmission, duplicate detection, sequence windows | done | done |
//! | pacing, keep-alive, re-opening of a lost session, Close Session | done | — |
//! | several sessions, slots, time-outs | — | done |
//! | Get Device ID, GUID, chassis status and control, boot options | done | done |
//! | SEL | Get SEL Info, unparsed | an empty one |
//! | SDR, sensors, FRU, Serial over LAN | raw commands only | not done |
//! | BMC key (Kg), look-up by privilege, IPMI v1.5 sessions, ASF ping | not done | not done |
//! | real BMCs' bugs, to try the console in | — | [`Bug`] |
//!
//! Sections and tables are those of the IPMI v2.0 specification, revision 1.1. Device ID and the protocol's
//! numbers are ipmi-rs-core's.
//!
//! Rejected:
//! - ipmi-rs's own session layer: it has neither retransmission nor a check of sequence numbers, and gave
//!   wrong answers as soon as responses were doubled; its core crate's types are what is used.
//! - Get Channel Cipher Suites before a session: BMCs and OpenIPMI's simulator leave it unanswered, which
//!   costs ipmitool ten seconds. A suite is proposed, and the next one when it is refused.
//! - An ASF ping before a session: some BMCs do not answer it and are well.
//! - A window of 16 numbers in front for what a BMC sends: after a gap the session would be lost, and what
//!   is signed with its key cannot be of another.
//!
//! This crate knows nothing of sockets, clocks and racks, nor of what a node is powered on for.

mod bmc;
mod bug;
mod codec;
mod command;
mod console;
mod crypto;
mod error;
#[cfg(test)]
mod testbed;
mod window;

pub use bmc::{Account, Bmc, BmcConfig, BmcEvent};
pub use bug::Bug;
pub use command::{
    BootDevice, BootFlags, BootOption, ChassisStatus, Command, Control, Reply, set_boot_flags,
};
pub use console::{Config, Console, Event, Password, Privilege, Ticket, TooLong, TooMany, UserName};
pub use crypto::CipherSuite;
pub use error::{Failure, Misbehaviour};
pub use ipmi_rs_core::app::DeviceId;
pub use ipmi_rs_core::connection::NetFn;
