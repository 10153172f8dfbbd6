//! A DHCP client's packets, as ROMs, iPXE and systems send them, and what is read of the answers.

use boot::Mac;
use dhcproto::v4::{DhcpOption, Message, MessageType, OptionCode, UnknownOption};
use dhcproto::{Decodable as _, Decoder, Encodable as _, Encoder};
use std::net::Ipv4Addr;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dress {
    Rom,
    Ipxe,
    System,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) kind: MessageType,
    pub(crate) address: Ipv4Addr,
    pub(crate) server: Option<Ipv4Addr>,
    pub(crate) file: Option<String>,
}

/// DISCOVER, or with an offer's address and server REQUEST.
pub(crate) fn request(mac: Mac, xid: u32, dress: Dress, offer: Option<(Ipv4Addr, Ipv4Addr)>) -> Vec<u8> {
    let mut message = Message::default();
    message.set_xid(xid).set_chaddr(&mac.0);
    let options = message.opts_mut();
    let kind = if offer.is_some() { MessageType::Request } else { MessageType::Discover };
    options.insert(DhcpOption::MessageType(kind));
    if let Some((address, server)) = offer {
        options.insert(DhcpOption::RequestedIpAddress(address));
        options.insert(DhcpOption::ServerIdentifier(server));
    }
    let raw = |code: u8, data: &[u8]| {
        DhcpOption::Unknown(UnknownOption::new(OptionCode::from(code), data.to_vec()))
    };
    if dress != Dress::System {
        options.insert(raw(60, b"PXEClient:Arch:00000:UNDI:002001"));
        options.insert(raw(93, &[0, 0]));
    }
    if dress == Dress::Ipxe {
        options.insert(raw(77, b"iPXE"));
    }
    let mut bytes = Vec::new();
    message.encode(&mut Encoder::new(&mut bytes)).expect("a small packet encodes");
    bytes
}

/// Reads a frame of the server that is for this client and transaction.
pub(crate) fn answer(frame: &[u8], mac: Mac, xid: u32) -> Option<Answer> {
    // Ethernet, IPv4 without options, UDP.
    let message = Message::decode(&mut Decoder::new(frame.get(42..)?)).ok()?;
    if message.xid() != xid || message.chaddr() != mac.0.as_slice() {
        return None;
    }
    let options = message.opts();
    let kind = options.msg_type()?;
    let server = match options.get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(server)) => Some(*server),
        _ => None,
    };
    let header = message.fname().map(|name| String::from_utf8_lossy(name).trim_end_matches('\0').to_owned());
    let option = match options.get(OptionCode::BootfileName) {
        Some(DhcpOption::BootfileName(name)) => Some(String::from_utf8_lossy(name).into_owned()),
        _ => None,
    };
    let file = option.or(header).filter(|name| !name.is_empty());
    Some(Answer { kind, address: message.yiaddr(), server, file })
}

/// An ARP request of a station for itself, Ethernet header and all (RFC 5227, 2.3).
pub(crate) fn announcement(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    let mut frame = Vec::from([0xff; 6]);
    frame.extend(mac.0);
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend(mac.0);
    frame.extend(address.octets());
    frame.extend([0; 6]);
    frame.extend(address.octets());
    frame
}
