//! The little of a DHCP message (RFC 2131, 2; RFC 2132) that a client writes and reads.
//!
//! Rejected: dhcproto, which the DHCP server is built on. It draws a random number for every message, even
//! for one that is given its id, and on a machine that has just started that blocks for seconds, or for
//! ever; and its name parsing brings a fifth of a megabyte of Unicode tables into the ramdisk.

use boot::Mac;
use std::{collections::BTreeMap, net::Ipv4Addr};

/// "The first four octets of the 'options' field" (RFC 2131, 3).
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// Octets before the options, the cookie included.
const FIXED: usize = 240;
/// RFC 1542, 2.1: relays may drop what is shorter than a BOOTP message.
pub(super) const BOOTP: usize = 300;
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const ETHERNET: u8 = 1;
const BROADCAST: u16 = 0x8000;

/// RFC 2132's options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Code(pub(super) u8);

impl Code {
    pub(super) const SUBNET_MASK: Code = Code(1);
    pub(super) const ROUTER: Code = Code(3);
    pub(super) const INTERFACE_MTU: Code = Code(26);
    pub(super) const REQUESTED_ADDRESS: Code = Code(50);
    pub(super) const LEASE_TIME: Code = Code(51);
    pub(super) const MESSAGE_TYPE: Code = Code(53);
    pub(super) const SERVER_IDENTIFIER: Code = Code(54);
    pub(super) const PARAMETER_REQUEST_LIST: Code = Code(55);
    pub(super) const RENEWAL_TIME: Code = Code(58);
    pub(super) const REBINDING_TIME: Code = Code(59);
    pub(super) const CLASS_IDENTIFIER: Code = Code(60);
}

/// Option 53 (RFC 2132, 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind(pub(super) u8);

impl Kind {
    pub(super) const DISCOVER: Kind = Kind(1);
    pub(super) const OFFER: Kind = Kind(2);
    pub(super) const REQUEST: Kind = Kind(3);
    pub(super) const ACK: Kind = Kind(5);
    pub(super) const NAK: Kind = Kind(6);
}

/// A client's message, or a server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Whether a server sent it.
    pub(super) is_reply: bool,
    pub(super) xid: u32,
    pub(super) secs: u16,
    pub(super) broadcast: bool,
    /// The client's own address.
    pub(super) ciaddr: Ipv4Addr,
    /// "'your' (client) IP address".
    pub(super) yiaddr: Ipv4Addr,
    pub(super) mac: Mac,
    /// By code; none longer than 255 octets is written.
    pub(super) options: BTreeMap<Code, Vec<u8>>,
}

impl Message {
    /// As it is sent.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut octets = vec![if self.is_reply { REPLY } else { REQUEST }, ETHERNET, 6, 0];
        octets.extend(self.xid.to_be_bytes());
        octets.extend(self.secs.to_be_bytes());
        octets.extend(if self.broadcast { BROADCAST } else { 0 }.to_be_bytes());
        octets.extend(self.ciaddr.octets());
        octets.extend(self.yiaddr.octets());
        octets.resize(28, 0);
        octets.extend(self.mac.0);
        octets.resize(FIXED - COOKIE.len(), 0);
        octets.extend(COOKIE);
        for (code, value) in &self.options {
            let value = &value[..value.len().min(255)];
            octets.extend([code.0, value.len() as u8]);
            octets.extend(value);
        }
        octets.push(255);
        octets.resize(octets.len().max(BOOTP), 0);
        octets
    }

    /// Reads one; none: it is not a DHCP message of an Ethernet. What follows a broken option is left out.
    pub(super) fn decode(octets: &[u8]) -> Option<Message> {
        let (fixed, mut rest) = octets.split_at_checked(FIXED)?;
        if fixed[1..3] != [ETHERNET, 6] || fixed[FIXED - COOKIE.len()..] != COOKIE {
            return None;
        }
        let four = |at: usize| [fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]];
        let mut message = Message {
            is_reply: fixed[0] == REPLY,
            xid: u32::from_be_bytes(four(4)),
            secs: u16::from_be_bytes([fixed[8], fixed[9]]),
            broadcast: u16::from_be_bytes([fixed[10], fixed[11]]) & BROADCAST != 0,
            ciaddr: four(12).into(),
            yiaddr: four(16).into(),
            mac: Mac([fixed[28], fixed[29], fixed[30], fixed[31], fixed[32], fixed[33]]),
            options: BTreeMap::new(),
        };
        loop {
            match rest {
                [0, after @ ..] => rest = after,
                [code, length, after @ ..] if *code != 255 && after.len() >= usize::from(*length) => {
                    let (value, after) = after.split_at(usize::from(*length));
                    // "the same option … concatenated" (RFC 3396, 7).
                    message.options.entry(Code(*code)).or_default().extend(value);
                    rest = after;
                }
                _ => return Some(message),
            }
        }
    }

    pub(super) fn kind(&self) -> Option<Kind> {
        match self.options.get(&Code::MESSAGE_TYPE)?[..] {
            [kind] => Some(Kind(kind)),
            _ => None,
        }
    }

    /// The first address of an option.
    pub(super) fn address(&self, code: Code) -> Option<Ipv4Addr> {
        self.options.get(&code)?.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets))
    }

    /// An option of four octets.
    pub(super) fn seconds(&self, code: Code) -> Option<u32> {
        self.options.get(&code)?[..].try_into().ok().map(u32::from_be_bytes)
    }

    /// An option of two octets.
    pub(super) fn short(&self, code: Code) -> Option<u16> {
        self.options.get(&code)?[..].try_into().ok().map(u16::from_be_bytes)
    }
}

#[cfg(test)]
mod tests;
