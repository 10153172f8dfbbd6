//! The initiator: one disk of one target, over as many connections as it takes.
//!
//! ```text
//!   submit(Operation) ─► queue ─► commands (READ, WRITE, WRITE SAME, UNMAP, SYNCHRONIZE CACHE) ─► poll_transmit
//!   poll_event ◄─ Done ◄──────── answers, retries, reconnections ◄─────────────────────────────── handle_bytes
//! ```
//!
//! After each login the disk is asked what it is; if it is another than before, that is the end. What was not
//! answered when a connection fell is sent again on the next, so that every operation ends exactly once for its
//! caller. Two operations that are under way together must not touch the same blocks: there is no order between them.
//!
//! The driver's loop, over any byte stream:
//!
//! ```text
//!   let mut engine = Initiator::new(settings, now);
//!   loop {
//!       while let Some(event) = engine.poll_event() {
//!           match event {
//!               Event::Connect => dial, with a limit of its own; then
//!                                 engine.handle_connected(nonce, now) or engine.handle_disconnected("refused", now),
//!               Event::Ready(disk) => from here on operations may be submitted,
//!               Event::Done { id, result } => it is over: octets of a read, or why not,
//!               Event::Lost { why, .. } => close the stream; Connect follows when it is time,
//!               Event::Over(why) => return,      // every operation was told as Done before
//!           }
//!       }
//!       while engine.room() > 0 { engine.submit(next operation, now)? }      // or engine.log_out() when there is none
//!       while let Some(transmit) = engine.poll_transmit(now) { write transmit.slices() }
//!       wait until the stream can be read  → engine.handle_bytes(&buffer[..count], now)
//!              or it ended or broke        → engine.handle_disconnected("it was closed", now)
//!              or engine.poll_timeout()    → engine.handle_timeout(now)
//!   }
//! ```
//!
//! While it writes, a driver must go on reading: a target that cannot send its data takes none.
//!
//! A target that lost its power between two connections may have lost what was acknowledged and not flushed. Who
//! cannot bear that writes again, after [`Event::Lost`], what was not followed by a [`Operation::Flush`] that is done;
//! or reads back in the end.
//!
//! ```
//! use iscsi::initiator::{Event, Initiator, Settings};
//! let settings = Settings::new("iqn.2026-01.example:host", "iqn.2026-01.example:disk");
//! let mut engine = Initiator::new(settings, sansio::Time::ZERO);
//! assert_eq!(engine.poll_event(), Some(Event::Connect));
//! engine.handle_connected(iscsi::chap::Nonce([7; 33]), sansio::Time::ZERO);
//! let login = engine.poll_transmit(sansio::Time::ZERO).unwrap();
//! assert!(login.pieces()[1].starts_with(b"InitiatorName=iqn.2026-01.example:host\0"));
//! ```

mod command;
mod disk;
mod engine;
mod intake;
mod job;
mod login;
mod retry;
mod sense;
mod session;
mod task;
mod transmit;

pub use disk::Disk;
pub use engine::Initiator;
pub use intake::Garbled;
pub use sense::Sense;
pub use transmit::Transmit;

use crate::{
    chap::{self, Algorithm, Chap},
    keys::Offer,
    pdu::{Isid, LoginStatus, Lun, RejectReason},
};
use bytes::Bytes;
use std::{fmt, time::Duration};

/// The most commands that are under way at once.
pub const MOST_DEPTH: usize = 32;
/// The most operations that are submitted and not over.
pub const MOST_OPERATIONS: usize = 64;

/// Whom to log in to, as whom, and for how long to try.
#[derive(Clone, Debug)]
pub struct Settings {
    /// InitiatorName.
    pub initiator: String,
    /// TargetName.
    pub target: String,
    /// The logical unit.
    pub lun: Lun,
    /// What both ends prove themselves with.
    pub chap: Option<Chap>,
    /// With which hashes, in the order in which they are offered. To tgt (of Debian 12) 7 is SHA-1, of another
    /// length than SHA-256: it has to be offered MD5 alone.
    pub algorithms: Vec<Algorithm>,
    /// What is proposed at login.
    pub offer: Offer,
    /// The initiator's part of the session's name: the same for all connections of an engine, so that a new login takes
    /// the place of a session that the target still holds; another for each engine of one initiator name.
    pub isid: Isid,
    /// How many commands may be under way, at most [`MOST_DEPTH`].
    pub depth: usize,
    /// How often a connection may be lost without an operation being done, and how often one operation may be sent.
    pub tries: u32,
    /// How long a login may take.
    pub login: Duration,
    /// How long nothing may be heard before the connection is given up; a ping is sent after half of that.
    pub silence: Duration,
    /// How long the target may do nothing for a command (five times as long for a flush) before the connection is
    /// given up.
    pub patience: Duration,
}

impl Settings {
    /// LUN 0, no CHAP, and limits that suit a rack.
    pub fn new(initiator: &str, target: &str) -> Settings {
        Settings {
            initiator: initiator.to_owned(),
            target: target.to_owned(),
            lun: Lun(0),
            chap: None,
            algorithms: Algorithm::ALL.to_vec(),
            offer: Offer::default(),
            // RFC 7143, 11.12.5: type 10b, "Random".
            isid: Isid([0x80, 0, 0, 0, 0, 1]),
            depth: MOST_DEPTH,
            tries: 10,
            login: Duration::from_secs(15),
            silence: Duration::from_secs(20),
            patience: Duration::from_secs(60),
        }
    }
}

/// What is to be done with the disk. Offsets and lengths are in octets and multiples of the block size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reads.
    Read {
        /// From where.
        offset: u64,
        /// How much: at most [`Disk::longest_transfer`].
        length: u32,
    },
    /// Writes; the octets are kept until the target has them.
    Write {
        /// To where.
        offset: u64,
        /// What: at most [`Disk::longest_transfer`].
        data: Bytes,
    },
    /// Makes a range read as zeros, whatever it held, as cheaply as the target can: deallocating, or by one pattern,
    /// or by writing. Of any length; it is cut into as many commands as needed.
    Zero {
        /// From where.
        offset: u64,
        /// How much.
        length: u64,
    },
    /// Tells the target that a range is of no use any more; what is read there is anything until it is written.
    /// Where the target knows no UNMAP it is done at once.
    Unmap {
        /// From where.
        offset: u64,
        /// How much.
        length: u64,
    },
    /// What was acknowledged before is to be where a loss of power does not reach it.
    Flush,
    /// Asks whether the disk is ready.
    Test,
}

/// An operation, as the engine calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId(pub(super) u64);

/// Why an operation was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTaken {
    /// [`MOST_OPERATIONS`] are under way: wait for one of them.
    Full,
    /// The disk was not seen yet, or the engine is over or logging out.
    NotReady,
    /// An offset or a length is no multiple of the block size, or a length is 0.
    NotAligned,
    /// It goes past the end of the disk.
    PastTheEnd,
    /// It is longer than [`Disk::longest_transfer`].
    TooLong,
}

impl fmt::Display for NotTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NotTaken::Full => "too many operations are under way",
            NotTaken::NotReady => "the disk is not known yet, or not any more",
            NotTaken::NotAligned => "the range is empty or not of whole blocks",
            NotTaken::PastTheEnd => "the range goes past the end of the disk",
            NotTaken::TooLong => "the range is longer than the disk takes at once",
        })
    }
}

impl std::error::Error for NotTaken {}

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The target answered with a status other than GOOD.
    Status(u8, Option<Sense>),
    /// The target could not carry the command out.
    Target,
    /// Fewer octets came than were asked for.
    Short {
        /// So many were to come.
        expected: u32,
        /// So many came.
        came: u32,
    },
    /// Connections were lost too often.
    Lost(Why),
    /// The engine was told to stop before it was done.
    Stopped,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Status(0x18, _) => f.write_str("the disk is reserved by another initiator"),
            Failure::Status(_, Some(sense)) => write!(f, "the disk answers {sense}"),
            Failure::Status(status, None) => write!(f, "the disk answers with status {status:#04x}"),
            Failure::Target => f.write_str("the target could not carry the command out"),
            Failure::Short { expected, came } => write!(f, "{came} octets came of {expected}"),
            Failure::Lost(why) => write!(f, "the connection was lost too often: {why}"),
            Failure::Stopped => f.write_str("it was stopped before it was done"),
        }
    }
}

impl std::error::Error for Failure {}

/// Why a connection or the whole is at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// We logged out.
    LoggedOut,
    /// There was no connection, or it ended: the driver's words.
    Disconnected(String),
    /// The login took too long.
    LoginTimeout,
    /// The target refuses the login.
    Refused(LoginStatus),
    /// One end could not prove who it is.
    Unproved(chap::Refused),
    /// The text of the login is none, or its values do not fit.
    Text(String),
    /// The stream is garbled.
    Garbled(Garbled),
    /// The target does what the standard forbids.
    Protocol(&'static str),
    /// The target rejects what we sent.
    Rejected(RejectReason),
    /// Nothing was heard for too long.
    Silent,
    /// A command was not answered for too long.
    Unanswered,
    /// The target said that it drops the connection.
    Dropped,
    /// The target asked us to log out.
    AskedToLeave,
    /// After a reconnection it is another disk.
    OtherDisk,
    /// It is no disk that can be used, and why.
    Unfit(String),
}

impl Why {
    /// Whether trying again would end the same way.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Why::LoggedOut | Why::Unproved(_) | Why::OtherDisk | Why::Unfit(_) => true,
            // Class 2 is the initiator's fault, class 1 sends it elsewhere. Targets that come up one by one are not
            // found for a while.
            Why::Refused(LoginStatus::NotFound | LoginStatus::TooManyConnections) => false,
            Why::Refused(status) => matches!(status.code().0, 1 | 2),
            _ => false,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::LoggedOut => f.write_str("we logged out"),
            Why::Disconnected(why) => write!(f, "no connection: {why}"),
            Why::LoginTimeout => f.write_str("the login took too long"),
            Why::Refused(LoginStatus::AuthenticationFailure) => {
                f.write_str("the target refuses our CHAP user or secret: compare both ends' secrets")
            }
            Why::Refused(LoginStatus::NotFound) => f.write_str("the target has no such target for us"),
            Why::Refused(status) => {
                let (class, detail) = status.code();
                write!(f, "the target refuses the login: {status:?} ({class:#04x} {detail:#04x})")
            }
            Why::Unproved(why) => write!(f, "{why}"),
            Why::Text(why) => write!(f, "the login's text: {why}"),
            Why::Garbled(why) => write!(f, "the target's stream: {why}"),
            Why::Protocol(what) => write!(f, "the target breaks the protocol: {what}"),
            Why::Rejected(reason) => write!(f, "the target rejects what we sent: {reason:?}"),
            Why::Silent => f.write_str("the target is silent"),
            Why::Unanswered => f.write_str("a command was not answered in time"),
            Why::Dropped => f.write_str("the target said that it drops the connection"),
            Why::AskedToLeave => f.write_str("the target asked us to log out"),
            Why::OtherDisk => f.write_str("after a reconnection it was another disk"),
            Why::Unfit(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Why {}

/// What the driver has to know or do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Connect now; then `handle_connected` or `handle_disconnected`.
    Connect,
    /// Logged in, and the disk is known; told after each login.
    Ready(Disk),
    /// An operation is over; told once for each.
    Done {
        /// Which.
        id: OperationId,
        /// What was read (empty for all but reads), or why it failed.
        result: Result<Bytes, Failure>,
    },
    /// The connection is of no use any more: close it. [`Event::Connect`] follows, if not [`Event::Over`].
    Lost {
        /// Why.
        why: Why,
        /// How often it was lost since an operation was done last.
        losses: u32,
    },
    /// The end. Nothing follows.
    Over(Why),
}

#[cfg(test)]
mod tests;
