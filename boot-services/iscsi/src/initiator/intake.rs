//! Octets of the stream to PDUs: headers and data are checked, nothing is decided.

use crate::pdu::{DIGEST, FromTarget, HEADER, Header, Lengths, Malformed, digest, padding};
use std::fmt;

/// What the stream holds next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A header, and how many octets of data follow.
    Header(FromTarget, usize),
    /// Data of that header, as they come.
    Data(&'a [u8]),
    /// The PDU is whole.
    End,
}

/// Why a stream cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Garbled {
    /// A header is none.
    Header(Malformed),
    /// A header's digest is not its digest.
    HeaderDigest,
    /// The data's digest is not theirs.
    DataDigest,
    /// A data segment of so many octets, more than we said we take.
    TooLong(usize),
}

impl fmt::Display for Garbled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Garbled::Header(malformed) => write!(f, "{malformed}"),
            Garbled::HeaderDigest => f.write_str("a header's digest is wrong"),
            Garbled::DataDigest => f.write_str("the digest of data is wrong"),
            Garbled::TooLong(length) => {
                write!(f, "a data segment of {length} octets is longer than was agreed on")
            }
        }
    }
}

/// What is gathered next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Header,
    Data {
        left: usize,
    },
    /// Padding and digest, after so many octets of data.
    Tail {
        data: usize,
    },
}

/// Reads one connection's stream.
#[derive(Clone, Debug)]
pub(super) struct Intake {
    header_digest: bool,
    data_digest: bool,
    longest: usize,
    part: Part,
    gathered: Vec<u8>,
    sum: u32,
    data: usize,
}

impl Intake {
    /// Of a connection that logs in.
    pub(super) fn new() -> Intake {
        Intake {
            header_digest: false,
            data_digest: false,
            longest: 8192,
            part: Part::Header,
            gathered: Vec::with_capacity(HEADER + DIGEST),
            sum: 0,
            data: 0,
        }
    }

    /// The login is over: what was agreed on holds from the next header on.
    pub(super) fn agreed(&mut self, header_digest: bool, data_digest: bool, longest: u32) {
        (self.header_digest, self.data_digest) = (header_digest, data_digest);
        self.longest = usize::try_from(longest).unwrap_or(usize::MAX);
    }

    /// Takes octets from the front of `octets`; none when more must come.
    pub(super) fn next<'a>(&mut self, octets: &mut &'a [u8]) -> Result<Option<Piece<'a>>, Garbled> {
        match self.part {
            Part::Header => self.header(octets),
            Part::Data { left } => {
                if octets.is_empty() {
                    return Ok(None);
                }
                let (piece, rest) = octets.split_at(left.min(octets.len()));
                *octets = rest;
                if self.data_digest {
                    self.sum = crc32c::crc32c_append(self.sum, piece);
                }
                let left = left - piece.len();
                self.part = if left == 0 { Part::Tail { data: self.data } } else { Part::Data { left } };
                Ok(Some(Piece::Data(piece)))
            }
            Part::Tail { data } => {
                let pad = padding(data);
                let with_digest = self.data_digest && data > 0;
                if !self.gather(octets, pad + if with_digest { DIGEST } else { 0 }) {
                    return Ok(None);
                }
                let (padding, sent) = self.gathered.split_at(pad);
                if with_digest && crc32c::crc32c_append(self.sum, padding).to_le_bytes() != sent {
                    return Err(Garbled::DataDigest);
                }
                self.gathered.clear();
                self.part = Part::Header;
                Ok(Some(Piece::End))
            }
        }
    }

    fn header<'a>(&mut self, octets: &mut &'a [u8]) -> Result<Option<Piece<'a>>, Garbled> {
        if !self.gather(octets, HEADER) {
            return Ok(None);
        }
        let mut header: Header = [0; HEADER];
        header.copy_from_slice(&self.gathered[..HEADER]);
        let lengths = Lengths::of(&header);
        let covered = HEADER + lengths.additional;
        if !self.gather(octets, covered + if self.header_digest { DIGEST } else { 0 }) {
            return Ok(None);
        }
        let (head, sent) = self.gathered.split_at(covered);
        if self.header_digest && digest(head) != sent {
            return Err(Garbled::HeaderDigest);
        }
        if lengths.data > self.longest {
            return Err(Garbled::TooLong(lengths.data));
        }
        // No target's PDU has additional segments that mean anything to us.
        let parsed = FromTarget::parse(&header).map_err(Garbled::Header)?;
        self.gathered.clear();
        (self.sum, self.data) = (0, lengths.data);
        self.part = match lengths.data {
            0 => Part::Tail { data: 0 },
            left => Part::Data { left },
        };
        Ok(Some(Piece::Header(parsed, lengths.data)))
    }

    /// Whether so many octets are together now.
    fn gather(&mut self, octets: &mut &[u8], count: usize) -> bool {
        let missing = count.saturating_sub(self.gathered.len());
        let (taken, rest) = octets.split_at(missing.min(octets.len()));
        self.gathered.extend_from_slice(taken);
        *octets = rest;
        self.gathered.len() >= count
    }
}

#[cfg(test)]
mod tests;
