//! What is heard of ARP, and router advertisements.

use crate::client::*;
use boot::{DhcpFact, DhcpMoment, DhcpService, Mac};
use dhcp::{Server, Transmit};
use dhcproto::v4::{DhcpOption, MessageType};
use sansio::Time;
use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv6Packet, Icmpv6Repr, Ipv6Packet, Ipv6Repr,
        NdiscRepr,
    },
};
use std::net::{Ipv4Addr, Ipv6Addr};

fn arp(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(mac.0);
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(mac.0);
    frame.extend(address.octets());
    frame.extend([0; 6]);
    frame.extend([10, 7, 0, 1]);
    frame
}

fn hear(server: &mut Server, mac: Mac, address: Ipv4Addr, seconds: u64) -> Vec<DhcpFact> {
    server.handle_frame(NETWORK, &arp(mac, address), Time::from_secs(seconds));
    settle(server).facts
}

#[test]
fn a_known_machine_is_seen_by_its_arp_once() {
    for service in [DhcpService::Full, DhcpService::Watch] {
        let mut server = server(&with(|network| network.service = service));
        let seen = hear(&mut server, KNOWN, KNOWN_ADDRESS, 10);
        let [DhcpFact::Client { moment: DhcpMoment::Seen, address, attempt: told, .. }] = &seen[..] else {
            panic!("{seen:?}")
        };
        assert_eq!((*address, told), (Some(KNOWN_ADDRESS), &Some(attempt())));
        assert!(hear(&mut server, KNOWN, KNOWN_ADDRESS, 11).is_empty());
    }
}

#[test]
fn strangers_probes_and_liars_are_not_seen() {
    let mut server = server(&plan());
    assert!(hear(&mut server, STRANGER, KNOWN_ADDRESS, 10).is_empty());
    assert!(hear(&mut server, KNOWN, Ipv4Addr::UNSPECIFIED, 10).is_empty(), "RFC 5227: a probe");
    assert!(hear(&mut server, KNOWN, Ipv4Addr::new(169, 254, 3, 4), 10).is_empty(), "nobody gave it one");
    let mut liar = arp(KNOWN, KNOWN_ADDRESS);
    liar[11] = 7;
    server.handle_frame(NETWORK, &liar, Time::from_secs(10));
    assert!(settle(&mut server).facts.is_empty(), "its frame has another sender");
}

#[test]
fn who_is_bound_is_not_seen_until_another_attempt_begins() {
    let mut server = server(&plan());
    lease(&mut server, KNOWN, Time::from_secs(10));
    assert!(hear(&mut server, KNOWN, KNOWN_ADDRESS, 11).is_empty());
    server.handle_plan(
        &with(|network| network.hosts[0].attempt = Some("n1-5-1".parse().unwrap())),
        Time::from_secs(12),
    );
    let seen = hear(&mut server, KNOWN, KNOWN_ADDRESS, 13);
    assert!(
        matches!(&seen[..], [DhcpFact::Client { attempt: Some(attempt), .. }] if attempt.as_str() == "n1-5-1"),
        "{seen:?}"
    );
}

#[test]
fn a_machine_with_many_addresses_is_not_told_of_more_than_every_five_seconds() {
    let mut server = server(&plan());
    let told: usize = (0..600)
        .map(|i| hear(&mut server, KNOWN, Ipv4Addr::new(10, 7, 0, 60 + (i % 7) as u8), 100 + i / 10).len())
        .sum();
    assert!(told <= 13, "{told}");
}

#[test]
fn an_address_that_a_stranger_uses_is_not_offered() {
    let mut server = server(&plan());
    for last in 100..=118 {
        hear(&mut server, Mac([2, 0, 0, 0, 7, last]), Ipv4Addr::new(10, 7, 0, last), 10);
    }
    let wish = Ask::discover(STRANGER).option(DhcpOption::RequestedIpAddress(Ipv4Addr::new(10, 7, 0, 105)));
    let offer = send(&mut server, &wish, Time::from_secs(11));
    assert_eq!(offer.only().message.yiaddr(), Ipv4Addr::new(10, 7, 0, 119));
    hear(&mut server, SERVER_MAC, Ipv4Addr::new(10, 7, 0, 119), 11);
    assert_eq!(send(&mut server, &wish, Time::from_secs(11)).answers.len(), 1, "that was ourselves");
    let own = Ask::discover(Mac([2, 0, 0, 0, 7, 103]))
        .option(DhcpOption::RequestedIpAddress(Ipv4Addr::new(10, 7, 0, 103)));
    assert_eq!(
        send(&mut server, &own, Time::from_secs(11)).only().message.yiaddr(),
        Ipv4Addr::new(10, 7, 0, 103),
        "it is itself"
    );
}

fn solicitation(source: Ipv6Addr, hop_limit: u8) -> Vec<u8> {
    let to = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
    let message =
        Icmpv6Repr::Ndisc(NdiscRepr::RouterSolicit { lladdr: Some(EthernetAddress(KNOWN.0).into()) });
    let ip = Ipv6Repr {
        src_addr: source,
        dst_addr: to,
        next_header: smoltcp::wire::IpProtocol::Icmpv6,
        payload_len: message.buffer_len(),
        hop_limit,
    };
    let mut frame = vec![0; 54 + message.buffer_len()];
    frame[..6].copy_from_slice(&[0x33, 0x33, 0, 0, 0, 2]);
    frame[6..12].copy_from_slice(&KNOWN.0);
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    ip.emit(&mut Ipv6Packet::new_unchecked(&mut frame[14..]));
    message.emit(
        &source,
        &to,
        &mut Icmpv6Packet::new_unchecked(&mut frame[54..]),
        &ChecksumCapabilities::default(),
    );
    frame
}

fn advertising() -> Server {
    let mut server = server(&with(|network| network.router_advertisements = true));
    server.handle_timeout(Time::ZERO);
    server
}

fn advertisements(server: &mut Server) -> Vec<(Mac, Ipv6Addr)> {
    let read = |transmit: Transmit| {
        let Transmit::Frame { frame, .. } = transmit else { panic!("{transmit:?}") };
        let frame = EthernetFrame::new_checked(&frame[..]).unwrap();
        assert_eq!((frame.ethertype(), frame.src_addr().0), (EthernetProtocol::Ipv6, SERVER_MAC.0));
        let ip = Ipv6Packet::new_checked(frame.payload()).unwrap();
        assert_eq!(ip.hop_limit(), 255);
        assert_eq!(ip.src_addr(), "fe80::ff:fe00:1".parse::<Ipv6Addr>().unwrap());
        let icmp = Icmpv6Packet::new_checked(ip.payload()).unwrap();
        let message =
            Icmpv6Repr::parse(&ip.src_addr(), &ip.dst_addr(), &icmp, &ChecksumCapabilities::default())
                .unwrap();
        let Icmpv6Repr::Ndisc(NdiscRepr::RouterAdvert { router_lifetime, prefix_info, flags, .. }) = message
        else {
            panic!()
        };
        assert_eq!(
            (router_lifetime.total_micros(), prefix_info, flags.bits()),
            (0, None, 0),
            "it offers nothing"
        );
        (Mac(frame.dst_addr().0), ip.dst_addr())
    };
    core::iter::from_fn(|| server.poll_transmit()).map(read).collect()
}

#[test]
fn a_network_is_advertised_at_once_and_every_few_minutes() {
    let mut server = advertising();
    assert_eq!(advertisements(&mut server), [(Mac([0x33, 0x33, 0, 0, 0, 1]), "ff02::1".parse().unwrap())]);
    let next = server.poll_timeout().unwrap();
    assert_eq!(next, Time::from_secs(200));
    server.handle_timeout(next);
    assert_eq!(advertisements(&mut server).len(), 1);
}

#[test]
fn a_solicitation_is_answered_at_once() {
    let mut server = advertising();
    advertisements(&mut server);
    let source: Ipv6Addr = "fe80::5054:ff:fe00:1".parse().unwrap();
    server.handle_frame(NETWORK, &solicitation(source, 255), Time::from_secs(1));
    assert_eq!(advertisements(&mut server), [(KNOWN, source)]);
    server.handle_frame(NETWORK, &solicitation(source, 64), Time::from_secs(1));
    assert!(advertisements(&mut server).is_empty(), "RFC 4861, 6.1.1: it was forwarded");
}

/// RFC 4861, 6.2.6: "consecutive Router Advertisements sent to the all-nodes multicast address MUST be rate
/// limited to no more than one advertisement every MIN_DELAY_BETWEEN_RAS seconds."
#[test]
fn answers_to_all_are_rare() {
    let mut server = advertising();
    advertisements(&mut server);
    let mut sent = 0;
    for tenth in 0..100 {
        server.handle_frame(
            NETWORK,
            &solicitation(Ipv6Addr::UNSPECIFIED, 255),
            Time::from_millis(100 * tenth),
        );
        sent += advertisements(&mut server).len();
    }
    assert_eq!(sent, 3);
}

#[test]
fn where_it_is_not_wanted_nothing_is_advertised() {
    let mut server = server(&plan());
    server.handle_timeout(Time::ZERO);
    server.handle_frame(NETWORK, &solicitation("fe80::1".parse().unwrap(), 255), Time::from_secs(1));
    assert_eq!((advertisements(&mut server).len(), server.poll_timeout()), (0, None));
    assert_eq!(send(&mut server, &Ask::discover(KNOWN), Time::ZERO).only().kind(), MessageType::Offer);
}
