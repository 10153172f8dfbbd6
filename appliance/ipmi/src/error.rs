//! What can go wrong, by who is to blame.

use crate::CipherSuite;
use core::fmt;

/// Why a request was not answered or a session not had. Every kind has one culprit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The configuration: the BMC's proof (RAKP message 2) was made with another password, or it refused ours.
    WrongPassword,
    /// The configuration: the BMC has no such user, or none that may use this channel.
    UnknownUser,
    /// The configuration: the user may neither be Administrator nor Operator on this channel.
    NoPrivilege,
    /// The BMC and we have no cipher suite in common.
    NoCipherSuite,
    /// Nothing that could be used came back.
    NoAnswer {
        /// What was asked.
        to: &'static str,
        /// How many times.
        tries: u8,
        /// Why the last thing that did come back was thrown away.
        thrown_away: Option<Misbehaviour>,
    },
    /// The BMC has no session slot left.
    NoSlot,
    /// The BMC kept saying that it was busy.
    Busy {
        /// The command.
        command: &'static str,
        /// How many times it was asked.
        tries: u8,
    },
    /// The BMC carried the command out and refused it, with this completion code (IPMI v2.0, table 5-2).
    Refused {
        /// The command.
        command: &'static str,
        /// The completion code.
        code: u8,
    },
    /// The BMC broke the protocol.
    PeerMisbehaved(Misbehaviour),
    /// The session was closed by `Console::close`.
    Closed,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::WrongPassword => {
                f.write_str("the BMC has another password for this user: correct the password in the node's bmc")
            }
            Failure::UnknownUser => f.write_str(
                "the BMC has no such user on this channel: correct the user, or enable it for IPMI over LAN",
            ),
            Failure::NoPrivilege => f.write_str(
                "the BMC lets this user be neither administrator nor operator: raise its privilege limit",
            ),
            Failure::NoCipherSuite => {
                f.write_str("the BMC speaks neither cipher suite 17 nor 3: enable one of them on its LAN channel")
            }
            Failure::NoAnswer { to, tries, thrown_away } => {
                write!(f, "no answer to {to} after {tries} ")?;
                f.write_str(if *tries == 1 { "try" } else { "tries" })?;
                match thrown_away {
                    Some(why) => write!(f, "; the last thing that came was thrown away: {why}"),
                    None => {
                        f.write_str(": check the BMC's address, its cable, and that IPMI over LAN is enabled")
                    }
                }
            }
            Failure::NoSlot => f.write_str(
                "the BMC has no session left for us: close other consoles, or wait until their sessions time out",
            ),
            Failure::Busy { command, tries } => {
                write!(f, "the BMC was busy all {tries} times it was asked {command}: it is asked again later")
            }
            Failure::Refused { command, code } => {
                write!(f, "the BMC refused {command} with completion code {code:#04x} ({})", meaning(*code))
            }
            Failure::PeerMisbehaved(how) => write!(f, "the BMC broke the protocol: {how}; look for newer firmware"),
            Failure::Closed => f.write_str("the session was closed on our side"),
        }
    }
}

impl core::error::Error for Failure {}

/// One way to break the protocol; there is one for each check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misbehaviour {
    /// Shorter than its own lengths say.
    Truncated,
    /// Not RMCP of class IPMI, or an authentication type that nobody asked for.
    NotIpmi,
    /// A checksum of the IPMI message is wrong.
    Checksum,
    /// For another session.
    OtherSession,
    /// In a session, but not signed and encrypted.
    NotSealed,
    /// The integrity check value is wrong.
    BadIntegrity,
    /// What was decrypted is not padded as the standard has it.
    BadPadding,
    /// The session sequence number was there before, or is too old.
    Replayed,
    /// An answer to something that is not being asked.
    NotAsked,
    /// Other algorithms than those proposed.
    OtherAlgorithms {
        /// The suite that was proposed.
        proposed: CipherSuite,
    },
    /// The managed system's session id is 0.
    NoSessionId,
    /// The check value of RAKP message 4 is wrong although message 2 was right.
    Rakp4Check,
    /// A status code out of place in the handshake (IPMI v2.0, table 13-15).
    Status(u8),
    /// The response is shorter than the command's definition.
    ShortResponse(&'static str),
    /// It broke off every handshake after its own proof was right.
    HandshakeBrokenOff,
}

impl fmt::Display for Misbehaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misbehaviour::Truncated => f.write_str("a datagram shorter than its own lengths say"),
            Misbehaviour::NotIpmi => f.write_str("a datagram that is not IPMI"),
            Misbehaviour::Checksum => f.write_str("a message with a wrong checksum"),
            Misbehaviour::OtherSession => f.write_str("a message for another session"),
            Misbehaviour::NotSealed => f.write_str("a message that is not signed and encrypted"),
            Misbehaviour::BadIntegrity => f.write_str("a message with a wrong signature"),
            Misbehaviour::BadPadding => f.write_str("a message with wrong padding"),
            Misbehaviour::Replayed => f.write_str("a message that was there before"),
            Misbehaviour::NotAsked => f.write_str("an answer to something that is not being asked"),
            Misbehaviour::OtherAlgorithms { proposed } => {
                write!(f, "it chose other algorithms than the proposed cipher suite {proposed}")
            }
            Misbehaviour::NoSessionId => f.write_str("it gave 0 as the session id"),
            Misbehaviour::Rakp4Check => f.write_str("RAKP message 4 has a wrong check value"),
            Misbehaviour::Status(code) => write!(f, "status {code:#04x} in the handshake"),
            Misbehaviour::ShortResponse(command) => write!(f, "the response to {command} is too short"),
            Misbehaviour::HandshakeBrokenOff => f.write_str("it broke off every handshake"),
        }
    }
}

fn meaning(code: u8) -> &'static str {
    match code {
        0x80 => "parameter not supported",
        0xc0 => "node busy",
        0xc1 => "invalid command",
        0xc3 => "time-out while processing",
        0xc4 => "out of space",
        0xc7 => "request data length invalid",
        0xc9 => "parameter out of range",
        0xcb => "not present",
        0xcc => "invalid data field",
        0xd0..=0xd2 => "not ready yet",
        0xd4 => "insufficient privilege",
        0xd5 => "not supported in the present state",
        0xd6 => "sub-function disabled",
        0xff => "unspecified",
        _ => "see table 5-2 of the standard, or the vendor",
    }
}
