//! What real firmware sent, replayed: each file is the UDP payload, named after its model and version. They
//! were taken from QEMU machines with the MAC of the known host on 2026-11-22.

use crate::client::*;
use boot::{Architecture, DhcpFact};
use dhcp::Server;
use dhcproto::v4::MessageType;
use sansio::Time;

const NOW: Time = Time::ZERO;

/// The offer and the acknowledgement, and the fact of the former.
fn replay(discover: &[u8], request: &[u8]) -> (dhcp::Transmit, dhcp::Transmit, DhcpFact) {
    let mut server = server(&plan());
    let (offer, facts) = answer(&mut server, discover);
    let (ack, _) = answer(&mut server, request);
    (offer, ack, facts.into_iter().next().unwrap())
}

fn answer(server: &mut Server, bytes: &[u8]) -> (dhcp::Transmit, Vec<DhcpFact>) {
    server.handle_datagram(NETWORK, bytes, NOW);
    let mut facts = Vec::new();
    let mut sent = None;
    loop {
        sent = server.poll_transmit().or(sent);
        match server.poll_event() {
            Some(dhcp::Event::Store(ticket, _)) => server.handle_stored(ticket),
            Some(dhcp::Event::Fact(fact)) => facts.push(fact),
            Some(other) => panic!("{other:?}"),
            None => return (sent.unwrap(), facts),
        }
    }
}

/// The request names the server and the address that the machine was offered then: the same as ours here.
fn check(discover: &[u8], request: &[u8], architecture: Architecture, ipxe: bool, file: &str) {
    let (offer, ack, fact) = replay(discover, request);
    for (transmit, kind) in [(offer, MessageType::Offer), (ack, MessageType::Ack)] {
        let answer = Answer::unchecked(&transmit);
        assert_eq!((answer.kind(), answer.message.yiaddr()), (kind, KNOWN_ADDRESS));
        assert_eq!(answer.file().as_deref(), Some(file));
    }
    let DhcpFact::Client { architecture: told, ipxe: is_ipxe, mac, uuid, .. } = fact else { panic!() };
    assert_eq!((told, is_ipxe, mac, uuid), (Some(architecture), ipxe, KNOWN, None));
}

#[test]
fn qemus_ipxe_rom() {
    let (discover, request) = (
        include_bytes!("captures/ipxe-20190125-bios-discover.bin"),
        include_bytes!("captures/ipxe-20190125-bios-request.bin"),
    );
    check(discover, request, Architecture::Bios, true, "http://10.7.0.1/boot/n1-4-2");
}

#[test]
fn ovmf_by_pxe() {
    let (discover, request) = (
        include_bytes!("captures/ovmf-2022.11-pxe-discover.bin"),
        include_bytes!("captures/ovmf-2022.11-pxe-request.bin"),
    );
    check(discover, request, Architecture::UefiX64, false, "snponly.efi");
}

#[test]
fn ovmf_by_http() {
    let (discover, request) = (
        include_bytes!("captures/ovmf-2022.11-http-discover.bin"),
        include_bytes!("captures/ovmf-2022.11-http-request.bin"),
    );
    check(discover, request, Architecture::UefiX64Http, false, "http://10.7.0.1/snponly.efi");
}

#[test]
fn snponly_that_ovmf_loaded() {
    let (discover, request) = (
        include_bytes!("captures/ipxe-20190125-snponly-discover.bin"),
        include_bytes!("captures/ipxe-20190125-snponly-request.bin"),
    );
    check(discover, request, Architecture::UefiX64, true, "http://10.7.0.1/boot/n1-4-2");
}
