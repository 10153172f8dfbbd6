use core::{error, fmt, time::Duration};
use std::io;

/// Why a switch cannot be talked to.
#[derive(Debug)]
pub enum Error {
    /// The address is none.
    Address {
        /// What was given.
        text: String,
    },
    /// No connection came about.
    Unreachable {
        /// Where to.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// No connection came about in time.
    Deaf {
        /// Where to.
        address: String,
        /// How long it was waited for.
        patience: Duration,
    },
    /// The connection broke.
    Lost {
        /// How.
        source: io::Error,
    },
    /// The switch ended the connection.
    Closed,
    /// The switch is connected and does not answer.
    Silent {
        /// What it owes.
        waited_for: &'static str,
        /// How long it was waited for.
        patience: Duration,
    },
    /// The switch does what no switch of its kind may.
    PeerMisbehaved {
        /// What came.
        what: String,
    },
    /// The switch does not serve what is needed of it.
    PeerIncompatible {
        /// What it lacks.
        what: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Address { text } => write!(
                f,
                "{text:?} is no address of an OVSDB server: write IP:PORT (6640 as a rule) or unix:PATH"
            ),
            Error::Unreachable { address, .. } => write!(
                f,
                "no connection to {address}: check the address, the OOB network, and that the switch listens \
                 (`ovs-vsctl set-manager ptcp:6640`)"
            ),
            Error::Deaf { address, patience } => {
                write!(
                    f,
                    "no answer from {address} in {patience:?}: check the cable, the address and the OOB network"
                )
            }
            Error::Lost { .. } => f.write_str("the connection broke; it is made again"),
            Error::Closed => f.write_str("the switch ended the connection; it is made again"),
            Error::Silent { waited_for, patience } => {
                write!(f, "the switch owes {waited_for} for {patience:?}; it is connected to again")
            }
            Error::PeerMisbehaved { what } => {
                write!(f, "the switch sent {what}: check that the address is that of an OVSDB server")
            }
            Error::PeerIncompatible { what } => write!(f, "the switch cannot be used: {what}"),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Error::Unreachable { source, .. } | Error::Lost { source } => Some(source),
            _ => None,
        }
    }
}

/// Why a switch did not put a port where it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It has no such port.
    Absent,
    /// It does not take the value.
    Constraint {
        /// The switch's words.
        details: String,
    },
    /// Its tables would not hold together.
    Referential {
        /// The switch's words.
        details: String,
    },
    /// Anything else.
    Other {
        /// The switch's word for it.
        error: String,
        /// And more of them.
        details: String,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Absent => {
                f.write_str("the switch has no such port: correct the local_link, or add the port")
            }
            Refusal::Constraint { details } => write!(
                f,
                "the switch does not take the VLAN ({details}): choose one that it allows, or allow it there"
            ),
            Refusal::Referential { details } => write!(
                f,
                "the switch's tables would not hold together ({details}): look at them with `ovsdb-client dump`"
            ),
            Refusal::Other { error, details } => {
                write!(f, "the switch refused the change ({error}")?;
                if !details.is_empty() {
                    write!(f, ": {details}")?;
                }
                f.write_str("): see its log, and that this appliance may write")
            }
        }
    }
}

impl error::Error for Refusal {}
