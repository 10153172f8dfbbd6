//! Any octets at any time: no panic, no flood.

use crate::client::*;
use boot::Mac;
use dhcp::{Event, Server};
use dhcproto::v4::{DhcpOption, MessageType};
use sansio::{Time, sim::Dice};
use std::{net::Ipv4Addr, time::Duration};

fn drain(server: &mut Server) -> usize {
    let mut sent = 0;
    loop {
        while let Some(transmit) = server.poll_transmit() {
            let (dhcp::Transmit::Frame { frame: bytes, .. }
            | dhcp::Transmit::Datagram { payload: bytes, .. }) = transmit;
            assert!(bytes.len() <= 1514);
            sent += 1;
        }
        match server.poll_event() {
            Some(Event::Store(ticket, _)) => server.handle_stored(ticket),
            Some(_) => {}
            None => return sent,
        }
    }
}

fn templates() -> Vec<Vec<u8>> {
    let full = |ask: Ask| {
        ask.option(DhcpOption::ClassIdentifier(b"PXEClient:Arch:00007:UNDI:003016".to_vec()))
            .option(DhcpOption::ClientIdentifier(vec![1, 0x52, 0x54, 0, 0, 0, 1]))
            .option(DhcpOption::MaxMessageSize(1260))
            .raw(93, &[0, 7])
            .raw(97, &[0; 17])
            .information(&[1, 2, 3, 4, 5, 4, 10, 7, 0, 1])
            .raw(52, &[3])
            .raw(81, &[0])
            .bytes()
    };
    let address = Ipv4Addr::new(10, 7, 0, 105);
    vec![
        full(Ask::discover(STRANGER)),
        full(Ask::select(STRANGER, address)),
        full(Ask::reboot(KNOWN, KNOWN_ADDRESS)),
        full(Ask::renew(STRANGER, address)),
        full(Ask::new(STRANGER, MessageType::Decline).option(DhcpOption::RequestedIpAddress(address))),
        full(Ask::new(STRANGER, MessageType::Release).having(address)),
        full(Ask::new(KNOWN, MessageType::Inform).having(KNOWN_ADDRESS).relayed(SERVER)),
    ]
}

#[test]
fn no_datagram_makes_it_panic_or_answer_more_than_once() {
    let mut dice = Dice::new(2131);
    let templates = templates();
    let mut server = server(&plan());
    let mut answered = 0;
    for round in 0..200_000_u64 {
        let mut bytes = templates[dice.below(templates.len() as u64) as usize].clone();
        for _ in 0..dice.below(6) {
            let place = dice.below(bytes.len() as u64) as usize;
            match dice.below(4) {
                0 => bytes[place] = dice.roll() as u8,
                1 => bytes[place] ^= 1 << dice.below(8),
                2 => bytes.truncate(place.max(200)),
                _ => bytes.insert(place, dice.roll() as u8),
            }
        }
        server.handle_datagram(NETWORK, &bytes, Time::from_millis(round));
        let sent = drain(&mut server);
        assert!(sent <= 1);
        answered += sent;
    }
    assert!(answered > 50_000, "{answered}: the mutations leave nothing that is looked at");
}

/// dhcproto takes the length of the hardware address from the packet, and slices by it.
#[test]
fn a_hardware_address_of_any_length_is_survived() {
    let mut server = server(&plan());
    for length in 0..=255_u8 {
        let mut bytes = Ask::discover(KNOWN).bytes();
        bytes[2] = length;
        server.handle_datagram(NETWORK, &bytes, Time::ZERO);
        assert_eq!(drain(&mut server), usize::from(length == 6), "{length}");
        bytes.truncate(240);
        server.handle_datagram(NETWORK, &bytes, Time::ZERO);
        assert_eq!(drain(&mut server), 0);
    }
}

#[test]
fn what_is_no_request_of_a_station_is_ignored() {
    let mut server = server(&plan());
    let good = Ask::discover(KNOWN).bytes();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    for bytes in [
        changed(&|bytes| bytes[0] = 2),
        changed(&|bytes| bytes[236] = 0),
        changed(&|bytes| bytes[28..34].fill(0)),
        changed(&|bytes| bytes[28] |= 1),
        changed(&|bytes| bytes[242] = 77),
        changed(&|bytes| bytes.truncate(239)),
    ] {
        server.handle_datagram(NETWORK, &bytes, Time::ZERO);
        server.handle_datagram("elsewhere", &good, Time::ZERO);
        assert_eq!(drain(&mut server), 0);
    }
}

#[test]
fn options_in_pieces_and_in_the_header_are_put_together() {
    let mut bytes = Ask::new(KNOWN, MessageType::Request).bytes();
    bytes.truncate(240);
    // RFC 3396: option 50 in two pieces with another between; RFC 2132, 9.3: the server identifier elsewhere.
    bytes.extend([53, 1, 3, 50, 2, 10, 7, 52, 1, 0, 50, 2, 0, 50, 255]);
    for (overload, field) in [(1, 108), (2, 44), (3, 108), (3, 44)] {
        for (identifier, answers) in [(1, 1), (2, 0)] {
            let mut bytes = bytes.clone();
            bytes[249] = overload;
            bytes[field..field + 7].copy_from_slice(&[54, 4, 10, 7, 0, identifier, 255]);
            let mut server = server(&plan());
            server.handle_datagram(NETWORK, &bytes, Time::ZERO);
            assert_eq!(settle(&mut server).answers.len(), answers, "{overload} {field}");
        }
    }
}

#[test]
fn no_frame_makes_it_panic() {
    let mut dice = Dice::new(826);
    let mut server = server(&with(|network| network.router_advertisements = true));
    for round in 0..200_000_u64 {
        let mut frame: Vec<u8> = (0..dice.below(90)).map(|_| dice.roll() as u8).collect();
        for (place, octet) in frame.iter_mut().enumerate() {
            match place {
                6..12 => *octet &= 0xfe,
                12 => *octet = if round % 2 == 0 { 8 } else { 0x86 },
                13 => *octet = if round % 2 == 0 { 6 } else { 0xdd },
                14 if round % 2 == 1 => *octet = 0x60,
                14..22 if dice.below(10) > 0 => *octet = [0, 1, 8, 0, 6, 4, 0, 1][place - 14],
                20 if round % 2 == 1 => *octet = 58,
                21 if round % 2 == 1 => *octet = 255,
                54 if round % 2 == 1 => *octet = 133,
                55 => *octet = 0,
                _ => {}
            }
        }
        server.handle_frame(NETWORK, &frame, Time::from_millis(round));
        assert!(drain(&mut server) <= 1);
    }
}

#[test]
fn a_flood_of_invented_machines_ends_and_leaves_the_known_one_its_address() {
    let mut server = server(&plan());
    let mut now = Time::ZERO;
    for i in 0..100_000_u32 {
        let [a, b, c, d] = i.to_be_bytes();
        now = now + Duration::from_micros(50);
        server.handle_datagram(NETWORK, &Ask::discover(Mac([2, 0, a, b, c, d])).bytes(), now);
        drain(&mut server);
    }
    assert_eq!(lease(&mut server, KNOWN, now), KNOWN_ADDRESS);
    assert!(server.leases(now).len() == 1);
}

#[test]
fn control_is_told_of_a_thousand_strangers_at_most() {
    let mut server = server(&plan());
    let mut told = std::collections::BTreeSet::new();
    for i in 0..5000_u16 {
        let [a, b] = (i % 2500).to_be_bytes();
        server.handle_datagram(
            NETWORK,
            &Ask::discover(Mac([2, 0, 0, 0, a, b])).bytes(),
            Time::from_millis(i.into()),
        );
        server.handle_datagram(NETWORK, &Ask::discover(KNOWN).bytes(), Time::from_millis(i.into()));
        while let Some(event) = server.poll_event() {
            match event {
                Event::Fact(boot::DhcpFact::Client { mac, .. }) => drop(told.insert(mac)),
                Event::Forget { mac, .. } => assert!(told.remove(&mac) && mac != KNOWN),
                other => panic!("{other:?}"),
            }
        }
        drain(&mut server);
        assert!(told.len() <= 1025, "{}", told.len());
    }
    assert!(told.contains(&KNOWN) && told.len() == 1025);
}

#[test]
fn what_nobody_fetches_is_bounded() {
    let mut server = server(&plan());
    for i in 0..100_000_u32 {
        let [_, b, c, d] = i.to_be_bytes();
        let known = if i % 2 == 0 { KNOWN } else { Mac([2, 0, 0, b, c, d]) };
        server.handle_datagram(NETWORK, &Ask::reboot(known, KNOWN_ADDRESS).bytes(), Time::ZERO);
    }
    assert!(core::iter::from_fn(|| server.poll_event()).count() <= 4096);
    assert!(core::iter::from_fn(|| server.poll_transmit()).count() <= 4096);
}
