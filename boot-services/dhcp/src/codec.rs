//! Reads requests and writes replies; decides nothing.
//!
//! Options are read raw: dhcproto's typed decoder asserts lengths that hostile packets do not keep, and
//! forgets all architectures but the first. An option that does not have the form of its standard is as
//! good as absent.

use boot::{Architecture, Mac};
use dhcproto::{
    Encodable as _, Encoder,
    v4::{self, DhcpOption, Flags, HType, Message, Opcode, OptionCode, UnknownOption, borrowed},
};
use std::{collections::BTreeMap, net::Ipv4Addr};

pub use dhcproto::v4::MessageType;

/// RFC 951, 3: "300" octets of a BOOTP message is what old clients and relays take.
const LEAST: usize = 300;
/// The fixed part, with the magic cookie.
const FIXED: usize = 240;
/// RFC 2132, 3.2.
const END: u8 = 255;
/// RFC 2131, 2: "A DHCP client must be prepared to receive DHCP messages with an 'options' field of at
/// least length 312 octets", that is an IP datagram of 576.
const DATAGRAM: u16 = 576;
/// The IP and UDP headers of a datagram.
const HEADERS: u16 = 28;
/// What an Ethernet frame carries unfragmented.
const MTU: u16 = 1500;

/// A request of a client, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Option 53.
    pub kind: MessageType,
    /// The transaction.
    pub xid: u32,
    /// `secs` of the header.
    pub secs: u16,
    /// `flags` of the header, as they came.
    pub flags: u16,
    /// The address the client has, or zero.
    pub ciaddr: Ipv4Addr,
    /// The relay it came through, or zero.
    pub giaddr: Ipv4Addr,
    /// `htype` of the header.
    pub htype: u8,
    /// The client's interface.
    pub mac: Mac,
    /// Option 61.
    pub client_id: Option<Vec<u8>>,
    /// Option 50.
    pub requested: Option<Ipv4Addr>,
    /// Option 54.
    pub server_id: Option<Ipv4Addr>,
    /// The longest message the client takes, in octets.
    pub longest: usize,
    /// Option 93, all of them, in its order.
    pub architectures: Vec<Architecture>,
    /// Option 60.
    pub vendor_class: Option<Vec<u8>>,
    /// Whether it says that it is iPXE (options 77 and 175).
    pub ipxe: bool,
    /// Option 97 as a UUID.
    pub uuid: Option<String>,
    /// Option 82 as it came.
    pub relay: Option<Vec<u8>>,
    /// Option 82, sub-option 5 (RFC 3527).
    pub link_selection: Option<Ipv4Addr>,
    /// Option 55.
    pub wishes: Vec<u8>,
}

impl Request {
    /// Whether the client cannot take a unicast before it has its address (RFC 2131, 4.1).
    pub fn broadcast(&self) -> bool {
        self.flags & 0x8000 != 0
    }

    /// Option 60 for people: unprintable octets replaced, at most 64 characters.
    pub fn vendor_class_text(&self) -> Option<String> {
        let printable =
            |octet: &u8| if octet.is_ascii_graphic() || *octet == b' ' { char::from(*octet) } else { '?' };
        self.vendor_class.as_ref().map(|class| class.iter().take(64).map(printable).collect())
    }
}

/// Reads what came to the server's port; `None` is not a request of an Ethernet client, or malformed.
pub fn parse(bytes: &[u8]) -> Option<Request> {
    let message = borrowed::Message::new(bytes).ok()?;
    // The borrowed message takes the length of the hardware address from the packet and slices by it.
    if bytes.len() < FIXED || message.hlen() != 6 || message.opcode() != Opcode::BootRequest {
        return None;
    }
    let chaddr: [u8; 6] = bytes.get(28..34)?.try_into().ok()?;
    let mac = Mac(chaddr);
    if !mac.is_station() || bytes.get(236..FIXED)? != v4::MAGIC {
        return None;
    }
    let options = options(bytes);
    let get = |code: u8| options.get(&code).map(Vec::as_slice);
    let address =
        |code: u8| get(code).and_then(|octets| <[u8; 4]>::try_from(octets).ok()).map(Ipv4Addr::from);
    let &[kind] = get(53)? else { return None };
    let longest = get(57).and_then(|octets| octets.try_into().ok()).map_or(DATAGRAM, u16::from_be_bytes);
    let relay = get(82).map(<[u8]>::to_vec);
    Some(Request {
        kind: MessageType::from(kind),
        xid: message.xid(),
        secs: message.secs(),
        flags: message.flags().into(),
        ciaddr: message.ciaddr(),
        giaddr: message.giaddr(),
        htype: message.htype().into(),
        mac,
        // RFC 2132, 9.14: "Its minimum length is 2".
        client_id: get(61).filter(|id| id.len() >= 2).map(<[u8]>::to_vec),
        requested: address(50),
        server_id: address(54),
        longest: usize::from(longest.clamp(DATAGRAM, MTU) - HEADERS),
        architectures: get(93).map(architectures).unwrap_or_default(),
        vendor_class: get(60).map(<[u8]>::to_vec),
        ipxe: get(77).is_some_and(is_ipxe) || options.contains_key(&175),
        uuid: get(97).and_then(uuid),
        link_selection: relay.as_deref().and_then(link_selection),
        relay,
        wishes: get(55).map(<[u8]>::to_vec).unwrap_or_default(),
    })
}

/// All options by code. RFC 3396, 7: parts of one option are put together, and what RFC 2132, 9.3, calls
/// overload makes fields of the header more options.
fn options(bytes: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let mut all = BTreeMap::new();
    collect(&mut all, bytes.get(FIXED..).unwrap_or_default());
    let overload = all.get(&52).and_then(|octets| octets.first().copied()).unwrap_or(0);
    if overload & 1 != 0 {
        collect(&mut all, bytes.get(108..236).unwrap_or_default());
    }
    if overload & 2 != 0 {
        collect(&mut all, bytes.get(44..108).unwrap_or_default());
    }
    all
}

fn collect(all: &mut BTreeMap<u8, Vec<u8>>, field: &[u8]) {
    for option in borrowed::DhcpOptionIterator::new(field) {
        all.entry(option.code().into()).or_default().extend_from_slice(option.data());
    }
}

fn architectures(octets: &[u8]) -> Vec<Architecture> {
    octets
        .chunks_exact(2)
        .map(|pair| Architecture::from_code(u16::from_be_bytes([pair[0], pair[1]])))
        .collect()
}

/// iPXE sends the bare word; RFC 3004, 4, would have it behind its length.
fn is_ipxe(class: &[u8]) -> bool {
    class == b"iPXE" || class == b"\x04iPXE"
}

/// RFC 4578, 2.3: a type of 0, then the GUID. Its first three fields are little-endian, as in SMBIOS.
fn uuid(octets: &[u8]) -> Option<String> {
    let guid: [u8; 16] = octets.strip_prefix(&[0])?.try_into().ok()?;
    // SMBIOS 3.7, 7.2.1: all ones is "not present", all zeros "not set".
    if guid == [0; 16] || guid == [0xff; 16] {
        return None;
    }
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let digit = |(place, from): (usize, &usize)| {
        let hyphen = if matches!(place, 4 | 6 | 8 | 10) { "-" } else { "" };
        format!("{hyphen}{:02x}", guid[*from])
    };
    Some(order.iter().enumerate().map(digit).collect())
}

fn link_selection(relay: &[u8]) -> Option<Ipv4Addr> {
    let mut rest = relay;
    while let [code, length, more @ ..] = rest {
        let (value, next) = more.split_at_checked(usize::from(*length))?;
        if *code == 5 {
            return <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from);
        }
        rest = next;
    }
    None
}

/// What is answered. What of it does not fit the client's longest message is left out, the least needed
/// first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// Option 53.
    pub kind: MessageType,
    /// Option 54.
    pub server_id: Ipv4Addr,
    /// The address it is given, or zero.
    pub yiaddr: Ipv4Addr,
    /// The TFTP server, or zero.
    pub siaddr: Ipv4Addr,
    /// The boot file: a TFTP name or a URL.
    pub file: Option<String>,
    /// More options, the most needed first.
    pub options: Vec<DhcpOption>,
}

impl Reply {
    /// One without any options but its kind and ours.
    pub(crate) fn new(kind: MessageType, server_id: Ipv4Addr) -> Reply {
        let zero = Ipv4Addr::UNSPECIFIED;
        Reply { kind, server_id, yiaddr: zero, siaddr: zero, file: None, options: Vec::new() }
    }
}

/// An option that dhcproto has no type for.
pub(crate) fn raw(code: u8, octets: &[u8]) -> DhcpOption {
    DhcpOption::Unknown(UnknownOption::new(OptionCode::from(code), octets.to_vec()))
}

/// The octets of a reply to a request.
pub(crate) fn emit(reply: &Reply, to: &Request) -> Vec<u8> {
    let mut kept = reply.options.len();
    loop {
        let bytes = emit_with(reply, to, &reply.options[..kept]);
        if bytes.len() <= to.longest || kept == 0 {
            return bytes;
        }
        kept -= 1;
    }
}

fn emit_with(reply: &Reply, to: &Request, options: &[DhcpOption]) -> Vec<u8> {
    let mut message = Message::default();
    message
        .set_opcode(Opcode::BootReply)
        .set_htype(HType::from(to.htype))
        .set_xid(to.xid)
        .set_flags(Flags::from(to.flags))
        .set_yiaddr(reply.yiaddr)
        .set_siaddr(reply.siaddr)
        .set_giaddr(to.giaddr)
        .set_chaddr(&to.mac.0);
    // RFC 2131, table 3: 'ciaddr' of a DHCPACK is that of the DHCPREQUEST; 0 in the others.
    if reply.kind == MessageType::Ack {
        message.set_ciaddr(to.ciaddr);
    }
    let all = message.opts_mut();
    all.insert(DhcpOption::MessageType(reply.kind));
    all.insert(DhcpOption::ServerIdentifier(reply.server_id));
    // RFC 6842, 3: "the server MUST copy the option, unaltered, into the option field of the response".
    if let Some(id) = &to.client_id {
        all.insert(DhcpOption::ClientIdentifier(id.clone()));
    }
    for option in options {
        all.insert(option.clone());
    }
    if let Some(file) = &reply.file {
        // The field must hold its NUL too.
        let fits = file.len() < 128;
        if fits {
            message.set_fname(file.as_bytes());
        }
        if !fits || to.wishes.contains(&67) {
            message.opts_mut().insert(DhcpOption::BootfileName(file.as_bytes().to_vec()));
        }
    }
    let mut bytes = Vec::with_capacity(LEAST);
    // It fails only on names that do not encode, and of those there are none in our options.
    let _ = message.encode(&mut Encoder::new(&mut bytes));
    // RFC 3046, 2.2: "SHALL echo the entire contents of the Relay Agent Information option in all replies", 2.1:
    // as the last. dhcproto would put the sub-options in another order, and a raw option 82 twice.
    if let Some(relay) = &to.relay
        && bytes.pop_if(|last| *last == END).is_some()
    {
        for part in relay.chunks(255) {
            bytes.extend_from_slice(&[82, u8::try_from(part.len()).unwrap_or(0)]);
            bytes.extend_from_slice(part);
        }
        bytes.push(END);
    }
    bytes.resize(bytes.len().max(LEAST), 0);
    bytes
}

#[cfg(test)]
mod tests;
