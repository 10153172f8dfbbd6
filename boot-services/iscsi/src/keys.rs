//! Every key of RFC 7143, 13, what may be its value, and how two ends agree on it.
//!
//! A [`Negotiation`] is the operational half of one login, at either end: pairs in, pairs out, and the
//! [`Parameters`] of the session as the result.
//!
//! ```
//! use iscsi::keys::{Negotiation, Offer, Stage};
//! let (mut ours, mut theirs) = (Negotiation::initiator(Offer::default()), Negotiation::target(Offer::default()));
//! let answers = theirs.handle(&ours.propose(), Stage::Login).unwrap();
//! ours.handle(&answers, Stage::Login).unwrap();
//! assert_eq!(ours.parameters().max_burst, theirs.parameters().max_burst);
//! ```

mod key;
mod negotiation;

pub use key::{Key, Kind, Merge};
pub use negotiation::{Negotiation, Refused, Stage};

/// What a session is for (RFC 7143, 13.21).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionType {
    /// SendTargets and nothing else.
    Discovery,
    /// All.
    #[default]
    Normal,
}

/// Whether a CRC32C follows headers or data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Digest {
    /// Refused.
    Never,
    /// Only if the other end insists.
    #[default]
    IfAsked,
    /// Preferred.
    Preferred,
    /// Insisted on.
    Always,
}

impl Digest {
    /// The list of values, the most wanted first (RFC 7143, 13.1).
    fn values(self) -> &'static [&'static str] {
        match self {
            Digest::Never => &["None"],
            Digest::IfAsked => &["None", "CRC32C"],
            Digest::Preferred => &["CRC32C", "None"],
            Digest::Always => &["CRC32C"],
        }
    }
}

/// What one end is ready for. Lengths are in octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// CRC32C of headers.
    pub header_digest: Digest,
    /// CRC32C of data.
    pub data_digest: Digest,
    /// The longest data segment that this end takes: 512 to 2²⁴−1.
    pub max_recv: u32,
    /// The most of a burst of solicited data.
    pub max_burst: u32,
    /// The most of unsolicited data of a command.
    pub first_burst: u32,
    /// Whether unsolicited Data-Out PDUs are to be forbidden.
    pub initial_r2t: bool,
    /// Whether data may come with its command.
    pub immediate_data: bool,
    /// How many R2Ts of a command may be open.
    pub max_outstanding_r2t: u16,
    /// Seconds to wait before a lost connection is taken up again.
    pub time2wait: u16,
    /// Seconds for which a lost session's tasks are kept.
    pub time2retain: u16,
}

impl Default for Offer {
    /// Good for line speed on a fast network; nothing that would have to be paid for in memory.
    fn default() -> Offer {
        Offer {
            header_digest: Digest::IfAsked,
            data_digest: Digest::IfAsked,
            max_recv: 256 << 10,
            max_burst: 1 << 20,
            first_burst: 256 << 10,
            initial_r2t: false,
            immediate_data: true,
            max_outstanding_r2t: 8,
            time2wait: 0,
            time2retain: 0,
        }
    }
}

/// What two ends agreed on. Before they did, it is what RFC 7143, 13 gives as the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// What the session is for.
    pub session: SessionType,
    /// Headers have a digest.
    pub header_digest: bool,
    /// Data segments have a digest.
    pub data_digest: bool,
    /// The longest data segment that we take.
    pub max_recv: u32,
    /// The longest data segment that the other end takes.
    pub max_send: u32,
    /// The most of a burst of solicited data.
    pub max_burst: u32,
    /// The most of unsolicited data of a command; never more than `max_burst`.
    pub first_burst: u32,
    /// Unsolicited Data-Out PDUs are forbidden.
    pub initial_r2t: bool,
    /// Data may come with its command.
    pub immediate_data: bool,
    /// How many R2Ts of a command may be open.
    pub max_outstanding_r2t: u16,
    /// Seconds to wait before a lost connection is taken up again.
    pub time2wait: u16,
    /// Seconds for which a lost session's tasks are kept.
    pub time2retain: u16,
}

impl Default for Parameters {
    fn default() -> Parameters {
        Parameters {
            session: SessionType::Normal,
            header_digest: false,
            data_digest: false,
            max_recv: 8192,
            max_send: 8192,
            max_burst: 262_144,
            first_burst: 65_536,
            initial_r2t: true,
            immediate_data: true,
            max_outstanding_r2t: 1,
            time2wait: 2,
            time2retain: 20,
        }
    }
}

/// What the other end said of itself, as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// InitiatorName, if it is one: see [`Key::is_name`].
    pub initiator_name: Option<String>,
    /// InitiatorAlias.
    pub initiator_alias: Option<String>,
    /// TargetName.
    pub target_name: Option<String>,
    /// TargetAlias.
    pub target_alias: Option<String>,
    /// TargetAddress, the last that came: `address:port,group`.
    pub target_address: Option<String>,
    /// TargetPortalGroupTag.
    pub portal_group: Option<u16>,
    /// SessionType was said.
    pub session: Option<SessionType>,
}

#[cfg(test)]
mod tests;
