//! What real initiators sent, said again: November 2026, Debian 12's libiscsi 1.19.0, QEMU 10.0.2 (which is libiscsi
//! too) and the iPXE of ipxe-qemu 1.0.0+git-20190125, to a target of this crate.

use crate::rig::*;
use iscsi::{
    chap::{Chap, Credentials, Nonce, Secret},
    pdu::*,
    target::{Auth, Closed, Event, Session, Why},
};
use sansio::Time;

const NAME: &str = "iqn.2026-01.c:probe";

struct Seance {
    peer: Peer,
    seen: Vec<Seen>,
    sessions: Vec<Session>,
    closed: Option<Closed>,
}

/// Says it all again, in pieces of so many octets.
fn replay(octets: &[u8], chap: Option<(Chap, Nonce)>, piece: usize) -> Seance {
    let rig = Rig::new();
    let mut access = access(std::slice::from_ref(&rig.unit));
    access.name = NAME.into();
    let mut nonce = Nonce([7; 33]);
    if let Some((chap, then)) = chap {
        access.auth = Auth::Chap(chap);
        nonce = then;
    }
    rig.targets.set(access);
    let mut peer = Peer::with_nonce(&rig.targets, "10.0.0.7:4000", nonce, Time::ZERO);
    for piece in octets.chunks(piece) {
        peer.feed(piece);
    }
    let seen = peer.see_all();
    let (mut sessions, mut closed) = (Vec::new(), None);
    for event in &peer.events {
        match event {
            Event::LoggedIn(session) => sessions.push(session.clone()),
            Event::Closed(end) => closed = Some(end.clone()),
        }
    }
    Seance { peer, seen, sessions, closed }
}

/// What was said but for the windows, which say how much had come by then.
fn said(seen: &[Seen]) -> Vec<(Vec<u8>, &[u8])> {
    let without = |(pdu, data)| {
        let mut header = FromTarget::emit(pdu, 0);
        header[28..36].fill(0);
        (header.to_vec(), Vec::as_slice(data))
    };
    seen.iter().map(|(pdu, data)| without((pdu, data))).collect()
}

/// However it is cut up, all is answered, nothing rejected, and the only trouble is the first unit attention.
fn goes_well(octets: &[u8], chap: Option<(Chap, Nonce)>, initiator: &str, target: Option<&str>) -> Seance {
    let mut whole = replay(octets, chap.clone(), 1);
    for piece in [7, 31, 48] {
        let mut pieces = replay(octets, chap.clone(), piece);
        assert!(said(&pieces.seen) == said(&whole.seen), "in pieces of {piece}");
        assert_eq!(pieces.peer.why(), whole.peer.why());
    }
    assert_eq!(whole.sessions.len(), 1);
    assert_eq!(whole.sessions[0].initiator, initiator);
    assert_eq!(whole.sessions[0].target.as_deref(), target);
    for (pdu, data) in &whole.seen {
        match pdu {
            FromTarget::Login(response) => assert_eq!(response.status, LoginStatus::Success),
            FromTarget::Response(response) if response.status != 0 => {
                assert_eq!((data[4] & 15, data[14]), (6, 0x29), "{response:?} {data:02x?}");
            }
            FromTarget::Reject(reject) => panic!("{reject:?}"),
            _ => {}
        }
    }
    assert_eq!(whole.peer.why(), whole.closed.as_ref().map(|closed| closed.why.clone()));
    whole
}

fn both() -> Chap {
    let credentials = |user: &str, secret: &str| Credentials {
        user: user.into(),
        secret: Secret::new(secret.as_bytes()).unwrap(),
    };
    Chap::new(credentials("node", "secretsecret1"), Some(credentials("disk", "secretsecret2"))).unwrap()
}

/// The nonce of then: what was sent of it, in its place.
fn nonce(challenge: u128, identifier: u8) -> Nonce {
    let mut octets = [0; 33];
    octets[..16].copy_from_slice(&challenge.to_be_bytes());
    octets[32] = identifier;
    Nonce(octets)
}

#[test]
fn libiscsi_asks_which_targets_there_are() {
    let octets = include_bytes!("../captures/libiscsi-1.19-discovery.octets");
    let seance = goes_well(octets, None, "iqn.2007-10.com.github:sahlberg:libiscsi:iscsi-ls", None);
    assert!(seance.seen.iter().any(|(pdu, data)| {
        matches!(pdu, FromTarget::Text(_))
            && data.starts_with(b"TargetName=iqn.2026-01.c:probe\0TargetAddress=10.0.0.1:")
    }));
    assert_eq!(seance.closed.unwrap().why, Why::LoggedOut);
}

#[test]
fn libiscsi_proves_itself_and_has_us_do_so() {
    let octets = include_bytes!("../captures/libiscsi-1.19-inquiry-mutual-chap.octets");
    let chap = (both(), nonce(0xba5a_8e99_0572_48e7_28c5_0269_2198_fb5e, 135));
    let initiator = "iqn.2007-10.com.github:sahlberg:libiscsi:iscsi-inq";
    let seance = goes_well(octets, Some(chap), initiator, Some(NAME));
    assert!(seance.seen.iter().any(|(pdu, data)| matches!(pdu, FromTarget::DataIn(_)) && data.len() >= 36));
}

#[test]
fn qemu_looks_at_a_disk() {
    let octets = include_bytes!("../captures/qemu-10.0-info.octets");
    goes_well(octets, None, "iqn.2008-11.org.linux-kvm", Some(NAME));
}

#[test]
fn qemu_writes_and_reads() {
    let octets = include_bytes!("../captures/qemu-10.0-write-and-read.octets");
    let seance = goes_well(octets, None, "iqn.2008-11.org.linux-kvm", Some(NAME));
    assert!(seance.seen.iter().any(|(pdu, data)| matches!(pdu, FromTarget::DataIn(_)) && *data == [5; 4096]));
}

#[test]
fn ipxe_hooks_a_disk() {
    let octets = include_bytes!("../captures/ipxe-2019-sanhook.octets");
    goes_well(octets, None, "iqn.2026-01.rack:ipxe", Some(NAME));
}

#[test]
fn ipxe_proves_itself_and_has_us_do_so() {
    let octets = include_bytes!("../captures/ipxe-2019-sanhook-mutual-chap.octets");
    let chap = (both(), nonce(0x215c_f9b6_a2c7_c95d_27f9_9e08_db72_b7f7, 57));
    goes_well(octets, Some(chap), "iqn.2026-01.rack:ipxe", Some(NAME));
}
