//! TransportIDs: how parameter lists name initiator ports (SPC-5).

use crate::nexus::InitiatorPort;
use crate::sense::Sense;

/// Who a TransportID means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// One port.
    Port(InitiatorPort),
    /// Every port of the initiator with this name.
    Device(String),
}

/// The TransportID of a port: format 01b, protocol iSCSI.
pub(crate) fn encode(port: &InitiatorPort) -> Vec<u8> {
    let mut name: Vec<u8> = port.name.bytes().collect();
    name.extend_from_slice(b",i,0x");
    name.extend(port.isid.iter().flat_map(|octet| format!("{octet:02x}").into_bytes()));
    name.push(0);
    // The additional length is a multiple of four, and at least 20.
    name.resize(name.len().next_multiple_of(4).max(20), 0);
    let [high, low] = u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes();
    let mut out = vec![0x45, 0, high, low];
    out.extend(name);
    out
}

/// Reads the first TransportID of a list, and gives the rest of it.
pub(crate) fn parse(list: &[u8]) -> Result<(Named, &[u8]), Sense> {
    let [format, _, high, low, rest @ ..] = list else { return Err(Sense::PARAMETER_LIST_LENGTH) };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let (name, rest) = rest.split_at_checked(length).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
    let named = match format {
        0x05 => device(name).map(Named::Device),
        0x45 => port(name).map(Named::Port),
        _ => None,
    };
    match named {
        Some(named) if length >= 20 && length.is_multiple_of(4) => Ok((named, rest)),
        _ => Err(Sense::INVALID_FIELD_IN_PARAMETER_LIST),
    }
}

/// The text up to the null that ends it.
fn text(octets: &[u8]) -> Option<&str> {
    let end = octets.iter().position(|octet| *octet == 0)?;
    std::str::from_utf8(&octets[..end]).ok()
}

/// RFC 7143, 4.2.7.1: a name has at most 223 octets.
fn device(octets: &[u8]) -> Option<String> {
    let name = text(octets)?;
    (!name.is_empty() && name.len() <= 223).then(|| name.to_ascii_lowercase())
}

fn port(octets: &[u8]) -> Option<InitiatorPort> {
    let (name, session) = text(octets)?.split_once(",i,0x")?;
    if name.is_empty() || name.len() > 223 || session.len() != 12 {
        return None;
    }
    let number = u64::from_str_radix(session, 16).ok()?;
    let [_, _, isid @ ..] = number.to_be_bytes();
    Some(InitiatorPort { name: name.to_ascii_lowercase(), isid })
}
