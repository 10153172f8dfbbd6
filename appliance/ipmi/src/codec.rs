//! RMCP, the session headers of IPMI v1.5 and v2.0, and the IPMI LAN message in them. Decides nothing.

use crate::error::Misbehaviour;

/// Section 13.1.3: version 1.0, no RMCP acknowledge, class IPMI.
pub(crate) const RMCP: [u8; 4] = [0x06, 0x00, 0xff, 0x07];

/// Section 5.5: the BMC's slave address.
pub(crate) const BMC_ADDRESS: u8 = 0x20;
/// Section 5.5: a remote console's software id.
pub(crate) const CONSOLE_ADDRESS: u8 = 0x81;

/// More than any datagram of ours or of a BMC (section 13.8: one IPMI message is at most 255 bytes).
pub(crate) const LONGEST: usize = 1024;

/// The payload types that are spoken (table 13-16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An IPMI message outside of a session.
    Ipmi,
    /// An IPMI message, encrypted and authenticated.
    IpmiSealed,
    OpenRequest,
    OpenResponse,
    Rakp1,
    Rakp2,
    Rakp3,
    Rakp4,
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Kind::Ipmi => 0x00,
            Kind::IpmiSealed => 0xc0,
            Kind::OpenRequest => 0x10,
            Kind::OpenResponse => 0x11,
            Kind::Rakp1 => 0x12,
            Kind::Rakp2 => 0x13,
            Kind::Rakp3 => 0x14,
            Kind::Rakp4 => 0x15,
        }
    }

    fn from_byte(byte: u8) -> Option<Kind> {
        [
            Kind::Ipmi,
            Kind::IpmiSealed,
            Kind::OpenRequest,
            Kind::OpenResponse,
            Kind::Rakp1,
            Kind::Rakp2,
            Kind::Rakp3,
            Kind::Rakp4,
        ]
        .into_iter()
        .find(|kind| kind.byte() == byte)
    }
}

/// A datagram, taken apart as far as that goes without keys.
#[derive(Debug, PartialEq)]
pub(crate) enum Packet<'a> {
    /// An IPMI v1.5 session header without authentication, outside of a session (section 13.6).
    Plain { message: &'a [u8] },
    /// An IPMI v2.0 session header.
    Framed(Frame<'a>),
}

#[derive(Debug, PartialEq)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: Kind,
    pub(crate) session: [u8; 4],
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
    /// All after the payload: integrity pad, its length, next header, code.
    pub(crate) trailer: &'a [u8],
    /// All from the authentication type to the end.
    pub(crate) signed: &'a [u8],
}

/// Takes a datagram apart.
pub(crate) fn parse(datagram: &[u8]) -> Result<Packet<'_>, Misbehaviour> {
    if datagram.len() > LONGEST {
        return Err(Misbehaviour::NotIpmi);
    }
    let Some((rmcp, rest)) = datagram.split_first_chunk::<4>() else {
        return Err(Misbehaviour::Truncated);
    };
    // Some BMCs count RMCP sequence numbers instead of giving FFh: it is not looked at.
    if rmcp[0] != RMCP[0] || rmcp[3] != RMCP[3] {
        return Err(Misbehaviour::NotIpmi);
    }
    match rest.first() {
        Some(0x00) => {
            let Some((head, body)) = rest.split_first_chunk::<10>() else {
                return Err(Misbehaviour::Truncated);
            };
            if head[5..9] != [0; 4] {
                return Err(Misbehaviour::OtherSession);
            }
            // A legacy pad byte may follow the message (section 13.6).
            let message = body.get(..usize::from(head[9])).ok_or(Misbehaviour::Truncated)?;
            Ok(Packet::Plain { message })
        }
        Some(0x06) => {
            let Some((head, body)) = rest.split_first_chunk::<12>() else {
                return Err(Misbehaviour::Truncated);
            };
            let kind = Kind::from_byte(head[1]).ok_or(Misbehaviour::NotIpmi)?;
            let len = usize::from(u16::from_le_bytes([head[10], head[11]]));
            let (payload, trailer) = body.split_at_checked(len).ok_or(Misbehaviour::Truncated)?;
            Ok(Packet::Framed(Frame {
                kind,
                session: [head[2], head[3], head[4], head[5]],
                sequence: u32::from_le_bytes([head[6], head[7], head[8], head[9]]),
                payload,
                trailer,
                signed: rest,
            }))
        }
        Some(_) => Err(Misbehaviour::NotIpmi),
        None => Err(Misbehaviour::Truncated),
    }
}

/// A datagram with an IPMI v1.5 header, without authentication and outside of a session.
pub(crate) fn plain(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(RMCP.len() + 10 + message.len());
    out.extend_from_slice(&RMCP);
    out.extend_from_slice(&[0; 9]);
    out.push(u8::try_from(message.len()).expect("an IPMI message has at most 255 bytes"));
    out.extend_from_slice(message);
    out
}

/// A datagram with an IPMI v2.0 header, without a session trailer.
pub(crate) fn frame(kind: Kind, session: [u8; 4], sequence: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(RMCP.len() + 12 + payload.len() + 24);
    out.extend_from_slice(&RMCP);
    out.push(0x06);
    out.push(kind.byte());
    out.extend_from_slice(&session);
    out.extend_from_slice(&sequence.to_le_bytes());
    let len = u16::try_from(payload.len()).expect("a payload is shorter than a datagram");
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(payload);
    out
}

/// An IPMI LAN message (section 13.8): a request when the network function is even, a response when odd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LanMessage {
    /// Whom it is for.
    pub(crate) to: u8,
    pub(crate) netfn: u8,
    pub(crate) from: u8,
    /// rqSeq: 6 bits.
    pub(crate) sequence: u8,
    pub(crate) command: u8,
    /// In a response, the completion code is first.
    pub(crate) data: Vec<u8>,
}

impl LanMessage {
    pub(crate) fn parse(bytes: &[u8]) -> Result<LanMessage, Misbehaviour> {
        let Some((head, rest)) = bytes.split_first_chunk::<6>() else {
            return Err(Misbehaviour::Truncated);
        };
        let Some((_, data)) = rest.split_last() else {
            return Err(Misbehaviour::Truncated);
        };
        if sum(&bytes[..3]) != 0 || sum(&bytes[3..]) != 0 {
            return Err(Misbehaviour::Checksum);
        }
        Ok(LanMessage {
            to: head[0],
            netfn: head[1] >> 2,
            from: head[3],
            sequence: head[4] >> 2,
            command: head[5],
            data: data.to_vec(),
        })
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(7 + self.data.len());
        out.extend_from_slice(&[self.to, self.netfn << 2]);
        out.push(sum(&out).wrapping_neg());
        out.extend_from_slice(&[self.from, self.sequence << 2, self.command]);
        out.extend_from_slice(&self.data);
        out.push(sum(&out[3..]).wrapping_neg());
        out
    }
}

/// Section 13.8: the 8-bit 2's complement checksum makes this 0.
fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// Section 13.17, table 13-9: RMCP+ Open Session Request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenRequest {
    pub(crate) tag: u8,
    pub(crate) privilege: u8,
    pub(crate) console_session: [u8; 4],
    pub(crate) algorithms: [u8; 3],
}

impl OpenRequest {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = vec![self.tag, self.privilege, 0, 0];
        out.extend_from_slice(&self.console_session);
        out.extend_from_slice(&algorithm_records(self.algorithms));
        out
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<OpenRequest> {
        let (head, records) = bytes.split_first_chunk::<8>()?;
        Some(OpenRequest {
            tag: head[0],
            privilege: head[1] & 0x0f,
            console_session: [head[4], head[5], head[6], head[7]],
            algorithms: parse_algorithms(records)?,
        })
    }
}

/// Section 13.18, table 13-10: RMCP+ Open Session Response; also the head of every RAKP answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) tag: u8,
    pub(crate) status: u8,
    pub(crate) session: [u8; 4],
}

impl Head {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = vec![self.tag, self.status, 0, 0];
        out.extend_from_slice(&self.session);
        out
    }

    /// The head, and what follows it.
    pub(crate) fn parse(bytes: &[u8]) -> Option<(Head, &[u8])> {
        // A refusal of OpenIPMI's simulator ends after the status.
        if let [tag, status, ..] = *bytes
            && status != 0
            && bytes.len() < 8
        {
            return Some((Head { tag, status, session: [0; 4] }, &[]));
        }
        let (head, rest) = bytes.split_first_chunk::<8>()?;
        let session = [head[4], head[5], head[6], head[7]];
        Some((Head { tag: head[0], status: head[1], session }, rest))
    }
}

/// Three 8-byte records: payload type 0 (authentication), 1 (integrity), 2 (confidentiality).
pub(crate) fn algorithm_records(algorithms: [u8; 3]) -> [u8; 24] {
    let mut out = [0; 24];
    for (kind, (record, algorithm)) in (0..).zip(out.chunks_exact_mut(8).zip(algorithms)) {
        record[0] = kind;
        record[3] = 8;
        record[4] = algorithm;
    }
    out
}

pub(crate) fn parse_algorithms(records: &[u8]) -> Option<[u8; 3]> {
    let mut out = [0; 3];
    for (kind, (record, algorithm)) in (0..).zip(records.chunks_exact(8).zip(&mut out)) {
        if record[0] != kind {
            return None;
        }
        *algorithm = record[4] & 0x3f;
    }
    (records.len() >= 24).then_some(out)
}

/// Section 13.20, table 13-11: RAKP message 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rakp1 {
    pub(crate) tag: u8,
    pub(crate) bmc_session: [u8; 4],
    pub(crate) random: [u8; 16],
    pub(crate) role: u8,
    pub(crate) user: Vec<u8>,
}

impl Rakp1 {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = vec![self.tag, 0, 0, 0];
        out.extend_from_slice(&self.bmc_session);
        out.extend_from_slice(&self.random);
        out.extend_from_slice(&[self.role, 0, 0]);
        out.push(u8::try_from(self.user.len()).expect("a user name has at most 16 bytes"));
        out.extend_from_slice(&self.user);
        out
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Rakp1> {
        let (head, rest) = Head::parse(bytes)?;
        let (random, rest) = rest.split_first_chunk::<16>()?;
        let (tail, user) = rest.split_first_chunk::<4>()?;
        let len = usize::from(tail[3]);
        Some(Rakp1 {
            tag: head.tag,
            bmc_session: head.session,
            random: *random,
            role: tail[0],
            user: user.get(..len).filter(|_| len <= 16)?.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests;
