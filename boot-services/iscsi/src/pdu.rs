//! The PDUs of RFC 7143, section 11: parsed and emitted, nothing decided.
//!
//! ```text
//!   48 octets   basic header segment     FromInitiator, FromTarget
//!   n × 4       additional header segments  Additional
//!   4           header digest, if negotiated    digest()
//!   n           data segment, then padding() octets
//!   4           data digest over data and padding, if negotiated
//! ```
//!
//! `emit` gives the header alone, so that the payload need never be copied beside it.

mod additional;
mod initiator;
mod target;
mod words;

pub use additional::{Additional, parse_additional};
pub use initiator::{
    Command, DataOut, FromInitiator, Logout, LogoutReason, NopOut, Snack, TaskAttribute, TaskFunction,
    TaskManagement, Text,
};
pub use target::{
    Async, AsyncEvent, DataIn, FromTarget, LogoutAnswer, LogoutResponse, NopIn, R2t, Reject, RejectReason,
    Residual, Response, TaskAnswer, TaskResponse, TextResponse,
};
pub use words::{Isid, Login, LoginResponse, LoginStatus, Lun, Serial, Stage, Tag, Tsih, Windows};

use core::fmt;

/// Octets in a basic header segment.
pub const HEADER: usize = 48;
/// Octets in a digest.
pub const DIGEST: usize = 4;
/// The most octets of additional header segments; the field counts four-octet words.
pub const MOST_ADDITIONAL: usize = 255 * 4;
/// The longest data segment a header can announce, in octets.
pub const MOST_DATA: usize = (1 << 24) - 1;

/// A basic header segment.
pub type Header = [u8; HEADER];

/// What follows a basic header, in octets, without digests and padding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lengths {
    /// Additional header segments; a multiple of four, at most [`MOST_ADDITIONAL`].
    pub additional: usize,
    /// The data segment, at most [`MOST_DATA`].
    pub data: usize,
}

impl Lengths {
    /// Of any header: these two fields are where they are whatever the opcode.
    pub fn of(header: &Header) -> Lengths {
        let [_, high, middle, low] = word(header, 4);
        Lengths {
            additional: usize::from(header[4]) * 4,
            data: usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low),
        }
    }
}

/// Why a header is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// No PDU that this side may receive has this opcode.
    Opcode(u8),
    /// A field has a value that the standard reserves; the octet where it begins.
    Field(usize),
    /// Additional header segments do not add up, or are of an unknown type.
    Additional,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Opcode(opcode) => write!(f, "opcode {opcode:#04x} is none that may come here"),
            Malformed::Field(at) => write!(f, "the header's field at octet {at} has a reserved value"),
            Malformed::Additional => f.write_str("the additional header segments do not add up"),
        }
    }
}

impl core::error::Error for Malformed {}

/// How many zero octets follow a data segment of so many octets.
///
/// RFC 7143, 11.1: "The data segment is padded to an integer number of 4-byte words."
pub const fn padding(length: usize) -> usize {
    length.wrapping_neg() % 4
}

/// CRC32C as it stands on the wire: of a header with its additional segments, or of data with their padding.
///
/// RFC 7143, 13.1: of 32 octets of zero it is `aa 36 91 8a`.
pub fn digest(octets: &[u8]) -> [u8; DIGEST] {
    crc32c::crc32c(octets).to_le_bytes()
}

/// The digest of a data segment, padding included, without the padding being there.
pub fn data_digest(data: &[u8]) -> [u8; DIGEST] {
    let sum = crc32c::crc32c(data);
    crc32c::crc32c_append(sum, &[0; 3][..padding(data.len())]).to_le_bytes()
}

/// A header ready to be sent: 48 octets, or 52 with its digest.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    octets: [u8; HEADER + DIGEST],
    length: u8,
}

impl Sealed {
    /// Puts the digest behind the header if there is to be one.
    pub fn new(header: Header, with_digest: bool) -> Sealed {
        let mut octets = [0; HEADER + DIGEST];
        octets[..HEADER].copy_from_slice(&header);
        if with_digest {
            octets[HEADER..].copy_from_slice(&digest(&header));
        }
        Sealed { octets, length: if with_digest { 52 } else { 48 } }
    }
}

impl core::ops::Deref for Sealed {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.octets[..usize::from(self.length)]
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({:02x?})", &self[..])
    }
}

fn word(header: &Header, at: usize) -> [u8; 4] {
    let mut octets = [0; 4];
    octets.copy_from_slice(&header[at..at + 4]);
    octets
}

fn get(header: &Header, at: usize) -> u32 {
    u32::from_be_bytes(word(header, at))
}

fn put(header: &mut Header, at: usize, value: u32) {
    header[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// An empty header of an opcode with a data segment of so many octets; more than [`MOST_DATA`] is cut off.
fn begin(opcode: u8, data: usize) -> Header {
    let mut header = [0; HEADER];
    header[0] = opcode;
    let length = u32::try_from(data.min(MOST_DATA)).unwrap_or_default();
    put(&mut header, 4, length);
    header
}

#[cfg(test)]
mod tests;
