//! Ethernet frames: replies to clients without an address, router advertisements, and what is heard of ARP.

use boot::Mac;
use smoltcp::{
    phy::ChecksumCapabilities,
    time::Duration,
    wire::{
        ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, Icmpv6Packet,
        Icmpv6Repr, IpProtocol, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, NdiscRepr, NdiscRouterFlags,
        UdpPacket, UdpRepr,
    },
};
use std::net::{Ipv4Addr, Ipv6Addr};

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
const UDP: usize = 8;

/// Ethernet's address of everybody.
pub(crate) const EVERYBODY: Mac = Mac([0xff; 6]);
/// ff02::1, all nodes.
pub(crate) const ALL_NODES: (Mac, Ipv6Addr) =
    (Mac([0x33, 0x33, 0, 0, 0, 1]), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1));

/// What of a frame concerns us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// An ARP packet of a station that has an address.
    Arp {
        /// The sender's interface.
        mac: Mac,
        /// The sender's address.
        address: Ipv4Addr,
    },
    /// A router solicitation (RFC 4861, 4.1).
    RouterSolicitation {
        /// The sender's interface.
        mac: Mac,
        /// The sender's address; `::` while it has none.
        source: Ipv6Addr,
    },
}

/// Reads a frame, Ethernet header and all.
pub(crate) fn parse(frame: &[u8]) -> Option<Heard> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    let mac = Mac(frame.src_addr().0);
    if !mac.is_station() {
        return None;
    }
    match frame.ethertype() {
        EthernetProtocol::Arp => {
            let packet = ArpPacket::new_checked(frame.payload()).ok()?;
            let ArpRepr::EthernetIpv4 { source_hardware_addr, source_protocol_addr, .. } =
                ArpRepr::parse(&packet).ok()?
            else {
                return None;
            };
            let address = source_protocol_addr;
            let usable = !address.is_unspecified() && !address.is_multicast() && !address.is_broadcast();
            // RFC 5227, 2.1.1: a probe has no sender's address yet.
            (usable && source_hardware_addr.0 == mac.0).then_some(Heard::Arp { mac, address })
        }
        EthernetProtocol::Ipv6 => {
            let packet = Ipv6Packet::new_checked(frame.payload()).ok()?;
            let icmp = packet.payload();
            // RFC 4861, 6.1.1: "The IP Hop Limit field has a value of 255 [...] ICMP Code is 0 [...] ICMP
            // length (derived from the IP length) is 8 or more octets."
            let valid = packet.next_header() == IpProtocol::Icmpv6
                && packet.hop_limit() == 255
                && icmp.len() >= 8
                && icmp.starts_with(&[133, 0]);
            valid.then(|| Heard::RouterSolicitation { mac, source: packet.src_addr() })
        }
        _ => None,
    }
}

/// A DHCP message from the server's to the client's port; `payload` must fit a frame of 1500 octets.
pub(crate) fn udp4(from: (Mac, Ipv4Addr), to: (Mac, Ipv4Addr), payload: &[u8]) -> Vec<u8> {
    let checksums = ChecksumCapabilities::default();
    let mut frame = ethernet(from.0, to.0, EthernetProtocol::Ipv4, IPV4 + UDP + payload.len());
    let ip = Ipv4Repr {
        src_addr: from.1,
        dst_addr: to.1,
        next_header: IpProtocol::Udp,
        payload_len: UDP + payload.len(),
        hop_limit: 64,
    };
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut frame[ETHERNET..]), &checksums);
    UdpRepr { src_port: SERVER_PORT, dst_port: CLIENT_PORT }.emit(
        &mut UdpPacket::new_unchecked(&mut frame[ETHERNET + IPV4..]),
        &from.1.into(),
        &to.1.into(),
        payload.len(),
        |buffer| buffer.copy_from_slice(payload),
        &checksums,
    );
    frame
}

/// A router advertisement that offers nothing (RFC 4861, 4.2): "A Lifetime of 0 indicates that the router
/// is not a default router"; no prefix, no other configuration.
pub(crate) fn router_advertisement(from: (Mac, Ipv6Addr), to: (Mac, Ipv6Addr)) -> Vec<u8> {
    let checksums = ChecksumCapabilities::default();
    let advertisement = Icmpv6Repr::Ndisc(NdiscRepr::RouterAdvert {
        hop_limit: 0,
        flags: NdiscRouterFlags::empty(),
        router_lifetime: Duration::from_secs(0),
        reachable_time: Duration::from_secs(0),
        retrans_time: Duration::from_secs(0),
        lladdr: Some(EthernetAddress(from.0.0).into()),
        mtu: None,
        prefix_info: None,
    });
    let length = advertisement.buffer_len();
    let mut frame = ethernet(from.0, to.0, EthernetProtocol::Ipv6, IPV6 + length);
    let ip = Ipv6Repr {
        src_addr: from.1,
        dst_addr: to.1,
        next_header: IpProtocol::Icmpv6,
        payload_len: length,
        // RFC 4861, 6.1.2: "i.e., the packet could not possibly have been forwarded by a router".
        hop_limit: 255,
    };
    ip.emit(&mut Ipv6Packet::new_unchecked(&mut frame[ETHERNET..]));
    advertisement.emit(
        &from.1,
        &to.1,
        &mut Icmpv6Packet::new_unchecked(&mut frame[ETHERNET + IPV6..]),
        &checksums,
    );
    frame
}

/// The link-local address that an interface makes of its MAC (RFC 4291, appendix A).
pub(crate) fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let pair = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfe80, 0, 0, 0, pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f))
}

fn ethernet(from: Mac, to: Mac, ethertype: EthernetProtocol, payload: usize) -> Vec<u8> {
    let mut frame = vec![0; ETHERNET + payload];
    let header =
        EthernetRepr { src_addr: EthernetAddress(from.0), dst_addr: EthernetAddress(to.0), ethertype };
    header.emit(&mut EthernetFrame::new_unchecked(&mut frame[..]));
    frame
}

#[cfg(test)]
mod tests;
