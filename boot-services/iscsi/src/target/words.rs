//! What goes between a connection and its driver.

use super::Unit;
use crate::{
    chap, keys,
    pdu::{self, LoginStatus, Malformed, Sealed},
    text,
};
use bytes::Bytes;
use scsi::{Compound, MediumError, Response, Transfer};
use std::{fmt, sync::Arc};

/// A connection, for as long as the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

/// A task of one connection; not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub u64);

/// How another thread reaches the one that drives a connection. It may be called while the targets are locked, and
/// must not call back.
pub trait Alarm: Send + Sync {
    /// Ends its waiting for the socket: it is to call `handle_alarm`.
    fn wake(&self);
    /// Shuts the socket down both ways, so that sending ends too, and wakes it.
    fn cut(&self);
}

/// What the next octets of the stream are for.
#[derive(Debug)]
pub enum Want<V> {
    /// The connection itself: at least so many are missing; more may be handed in.
    Octets(usize),
    /// The medium.
    Place(Place<V>),
    /// Nothing may be taken from the socket until a job is done.
    Wait,
}

/// Where the next octets of the stream belong.
#[derive(Debug)]
pub struct Place<V> {
    /// The unit.
    pub unit: Arc<Unit<V>>,
    /// The task that writes.
    pub task: TaskId,
    /// From where on the medium, in octets.
    pub offset: u64,
    /// How many at most.
    pub length: usize,
}

/// What goes out next.
#[derive(Debug)]
pub enum Transmit<V> {
    /// A PDU without data.
    Header(Sealed),
    /// A whole PDU.
    Octets(Bytes),
    /// A PDU whose data are the medium's.
    DataIn(DataIn<V>),
}

/// A Data-In PDU: `header`, then `length` octets of the medium from `offset`, then [`DataIn::trailer`].
#[derive(Debug)]
pub struct DataIn<V> {
    /// The header.
    pub header: Sealed,
    /// The unit.
    pub unit: Arc<Unit<V>>,
    /// The task that reads.
    pub task: TaskId,
    /// From where on the medium, in octets.
    pub offset: u64,
    /// How many.
    pub length: usize,
    /// How many octets of zero follow: none, except after an odd end.
    pub padding: usize,
    /// Whether a digest follows, for which the octets must be in memory.
    pub digest: bool,
    pub(super) transfer: Transfer,
}

impl<V> DataIn<V> {
    /// What follows the data: padding, and the digest if there is to be one.
    pub fn trailer(&self, data: &[u8]) -> Vec<u8> {
        let mut trailer = vec![0; self.padding];
        if self.digest {
            trailer.extend_from_slice(&pdu::data_digest(data));
        }
        trailer
    }
}

/// What the next transmit would read from a medium.
#[derive(Debug)]
pub struct Range<V> {
    /// The unit.
    pub unit: Arc<Unit<V>>,
    /// The task that reads.
    pub task: TaskId,
    /// From where, in octets.
    pub offset: u64,
    /// How many.
    pub length: usize,
}

/// What a medium has to do; each is answered by `handle_done`.
#[derive(Debug)]
pub enum Job<V> {
    /// Anything but plain reading and writing: `work.perform(…)`; answered with [`Done::Response`].
    Perform {
        /// For the answer.
        task: TaskId,
        /// The unit.
        unit: Arc<Unit<V>>,
        /// What.
        work: Compound,
        /// Data-out of the command.
        data: Vec<u8>,
    },
    /// Octets whose digest was right, to be written; answered with [`Done::Medium`].
    Store {
        /// For the answer.
        task: TaskId,
        /// The unit.
        unit: Arc<Unit<V>>,
        /// To where, in octets.
        offset: u64,
        /// What.
        data: Vec<u8>,
    },
    /// Everything written so far is to be on stable storage; answered with [`Done::Medium`].
    Flush {
        /// For the answer.
        task: TaskId,
        /// The unit.
        unit: Arc<Unit<V>>,
    },
    /// The unit's reservations, to be on stable storage before the status goes out; answered with
    /// [`Done::Medium`].
    Keep {
        /// For the answer.
        task: TaskId,
        /// The unit.
        unit: Arc<Unit<V>>,
        /// What is to be kept instead of what was kept before.
        octets: Vec<u8>,
    },
}

/// How a job went.
#[derive(Debug)]
pub enum Done {
    /// Of [`Job::Perform`].
    Response(Response),
    /// Of the others.
    Medium(Result<(), MediumError>),
}

/// What is worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A session began.
    LoggedIn(Session),
    /// The connection is over; the last event.
    Closed(Closed),
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its only connection.
    pub connection: ConnectionId,
    /// As whom.
    pub initiator: String,
    /// To which target; none: it only asks which there are.
    pub target: Option<String>,
    /// Between which addresses.
    pub link: super::Link,
}

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Why.
    pub why: Why,
    /// As whom it had come, if it had said so.
    pub initiator: Option<String>,
    /// For which target.
    pub target: Option<String>,
}

/// Why a connection is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It logged out.
    LoggedOut,
    /// The socket ended or broke.
    Ended,
    /// It did not log in in time.
    LoginTimeout,
    /// It did not answer a ping.
    Silent,
    /// The same initiator logged in anew with the same ISID.
    Reinstated,
    /// Its target is gone, or something in it, or its right to be there.
    Removed,
    /// The target was reset cold.
    Reset,
    /// The appliance stops serving.
    ShutDown,
    /// The login was refused.
    Refused(LoginStatus, Refusal),
    /// The peer broke the protocol.
    Misbehaved(Misbehaviour),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::LoggedOut => f.write_str("it logged out"),
            Why::Ended => f.write_str("the connection ended"),
            Why::LoginTimeout => f.write_str("it did not log in in time"),
            Why::Silent => f.write_str("it answered no ping"),
            Why::Reinstated => f.write_str("the same initiator logged in anew with the same ISID"),
            Why::Removed => f.write_str("it may not be there any more"),
            Why::Reset => f.write_str("the target was reset"),
            Why::ShutDown => f.write_str("the appliance stops serving"),
            Why::Refused(_, refusal) => refusal.fmt(f),
            Why::Misbehaved(how) => how.fmt(f),
        }
    }
}

/// Why a login was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no target of that name.
    NoSuchTarget(String),
    /// There is, but not for this initiator, from there, at that portal; it is told that there is none.
    NotAdmitted(String),
    /// A key that must be there is not.
    Missing(&'static str),
    /// It could not prove who it is.
    Unproved(chap::Refused),
    /// It would skip the proof.
    Skipped,
    /// The operational keys.
    Keys(keys::Refused),
    /// The text.
    Text(text::Malformed),
    /// It speaks no version that we do: its lowest.
    Version(u8),
    /// The stages are out of order.
    Stages,
    /// Something else than a Login Request: its opcode.
    Opcode(u8),
    /// It would add a connection to a session, or take one up again.
    Continuation,
    /// There is no room.
    Crowded,
    /// No more logins: we stop serving.
    ShuttingDown,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoSuchTarget(name) => write!(f, "there is no target {name}"),
            Refusal::NotAdmitted(name) => {
                write!(f, "target {name} does not admit this initiator from this address at this portal")
            }
            Refusal::Missing(key) => write!(f, "its login has no {key}"),
            Refusal::Unproved(refused) => refused.fmt(f),
            Refusal::Skipped => f.write_str(
                "it skips authentication, which the target asks for: give it the CHAP user and secret",
            ),
            Refusal::Keys(refused) => refused.fmt(f),
            Refusal::Text(malformed) => malformed.fmt(f),
            Refusal::Version(least) => write!(f, "it speaks iSCSI version {least} or later, we speak 0"),
            Refusal::Stages => f.write_str("the stages of its login are out of order"),
            Refusal::Opcode(opcode) => write!(f, "it sends opcode {opcode:#04x} before it is logged in"),
            Refusal::Continuation => {
                f.write_str("it asks for a second connection of a session; sessions have one here")
            }
            Refusal::Crowded => f.write_str("there are too many sessions already"),
            Refusal::ShuttingDown => f.write_str("the appliance stops serving"),
        }
    }
}

/// What a peer did that no initiator may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misbehaviour {
    /// A header is none.
    Header(Malformed),
    /// A header's digest is wrong: at this error recovery level the session ends (RFC 7143, 7.9).
    HeaderDigest,
    /// A data segment longer than we said we take: its length, and the most.
    TooLong(usize, usize),
    /// More commands out of their order than can be kept.
    OutOfOrder,
    /// It leaves more unread than can be kept.
    Unread,
    /// Text that is none.
    Text(text::Malformed),
    /// Keys after login that are none.
    Keys(keys::Refused),
}

impl fmt::Display for Misbehaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misbehaviour::Header(malformed) => malformed.fmt(f),
            Misbehaviour::HeaderDigest => f.write_str("a header's digest is wrong"),
            Misbehaviour::TooLong(length, most) => {
                write!(f, "it sends a data segment of {length} octets where at most {most} may be")
            }
            Misbehaviour::OutOfOrder => f.write_str("too many of its commands come out of their order"),
            Misbehaviour::Unread => f.write_str("it asks and does not read the answers"),
            Misbehaviour::Text(malformed) => malformed.fmt(f),
            Misbehaviour::Keys(refused) => refused.fmt(f),
        }
    }
}
