//! What of the reservations outlasts a loss of power, and the octets that it is kept as.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod rig;

use rig::{Rig, geometry, identity, kept, ten};
use scsi::{LogicalUnit, Response, RestoreError, Status};

const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const RELEASE: u8 = 2;
const IGNORE: u8 = 6;
const APTPL: u8 = 1;
const ALL_TG_PT: u8 = 4;

fn good(response: Response) -> Response {
    assert_eq!(response.status, Status::Good, "{:02x?}", response.sense);
    response
}

fn conflict(response: &Response) {
    assert_eq!(response.status, Status::ReservationConflict);
}

// SPC-5, APTPL: the persistent reservation and all registrations outlast a loss of power.
#[test]
fn what_is_to_outlast_power_loss_is_handed_out_before_the_status() {
    let mut rig = Rig::thin(64);
    let [me, other, _] = rig.nexus;
    assert_eq!(kept(&good(rig.reserve_out(other, IGNORE, 0, (0, 2), 0))), None);
    let octets = kept(&good(rig.reserve_out(me, IGNORE, 0, (0, 1), APTPL))).unwrap().to_vec();
    assert_eq!(rig.good(&[0x5e, 2, 0, 0, 0, 0, 0, 0, 8, 0], &[])[3], 0x81);
    let after = kept(&good(rig.reserve_out(me, RESERVE, 3, (1, 0), 0))).unwrap().to_vec();
    assert_ne!(octets, after);
    // What changes nothing is not handed out again, unless it could not be kept.
    assert_eq!(kept(&good(rig.reserve_out(me, RESERVE, 3, (1, 0), 0))), None);
    rig.unit.unkept();
    assert_eq!(kept(&good(rig.reserve_out(me, RESERVE, 3, (1, 0), 0))), Some(&after[..]));

    let mut again = Rig::of(LogicalUnit::restore(identity(), geometry(64).thin(), &after).unwrap());
    assert_eq!(again.keys(), (0, vec![2, 1]));
    assert_eq!(again.reservation(), Some((1, 3)));
    conflict(&again.send(again.nexus[1], &ten(0x28, 0, 0, 1), &[]));
    again.good(&ten(0x28, 0, 0, 1), &[]);
    assert_eq!(kept(&good(again.reserve_out(again.nexus[0], RESERVE, 3, (1, 0), 0))), None);
    // Without APTPL: nothing is kept from here on.
    assert_eq!(kept(&good(again.reserve_out(again.nexus[0], REGISTER, 0, (1, 4), 0))), Some(&[][..]));
    assert_eq!(kept(&good(again.reserve_out(again.nexus[0], RELEASE, 3, (4, 0), 0))), None);
}

/// The octets of version 1: they never change.
const KEPT: &[u8] = b"\x01\x08\x00\x01\x00\x02\
    \x01\x02\x03\x04\x05\x06\x07\x08\x01\x80\x00\x00\x00\x00\x00\x19iqn.2026-01.example:host0\
    \x00\x00\x00\x00\x00\x00\x00\x02\x00\x80\x00\x00\x00\x00\x01\x19iqn.2026-01.example:host1";

fn sealed(body: &[u8]) -> Vec<u8> {
    // CRC-32C, bit by bit.
    let mut sum = u32::MAX;
    for octet in body {
        sum ^= u32::from(*octet);
        for _ in 0..8 {
            sum = sum >> 1 ^ (0x82f6_3b78 * (sum & 1));
        }
    }
    [body, &(!sum).to_be_bytes()].concat()
}

#[test]
fn the_kept_octets_are_those_of_version_1() {
    let mut rig = Rig::thin(64);
    let [me, other, _] = rig.nexus;
    good(rig.reserve_out(me, IGNORE, 0, (0, 0x0102_0304_0506_0708), ALL_TG_PT));
    good(rig.reserve_out(other, IGNORE, 0, (0, 2), APTPL));
    let response = good(rig.reserve_out(other, RESERVE, 8, (2, 0), 0));
    assert_eq!(kept(&response), Some(&sealed(KEPT)[..]));
}

fn restore(octets: &[u8]) -> Result<LogicalUnit, RestoreError> {
    LogicalUnit::restore(identity(), geometry(64), octets)
}

#[test]
fn damaged_octets_are_said_to_be() {
    let whole = sealed(KEPT);
    assert!(restore(&whole).is_ok());
    assert!(restore(&[]).is_ok());
    for end in 1..whole.len() {
        assert_eq!(restore(&whole[..end]).unwrap_err(), RestoreError::Damaged, "{end}");
    }
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(restore(&flipped).unwrap_err(), RestoreError::Damaged, "{bit}");
    }
    // Sums that are right over what cannot be: a newer version, a holder that is not there, a type that is not.
    let with = |at: usize, value: u8| {
        let mut body = KEPT.to_vec();
        body[at] = value;
        restore(&sealed(&body)).map(drop)
    };
    assert_eq!(with(0, 2), Err(RestoreError::Version(2)));
    for (at, value) in [(1, 2), (3, 2), (5, 3), (5, 1), (21, 200)] {
        assert_eq!(with(at, value), Err(RestoreError::Damaged), "{at}");
    }
    let mut chance = rig::Chance(1);
    for length in 0..200 {
        let mut body = chance.octets(length);
        if let Some(first) = body.first_mut() {
            *first = 1;
        }
        assert!(restore(&sealed(&body)).is_err());
    }
}

// SPC-5, persistent reservation holder: of an all registrants type it is every registered nexus.
#[test]
fn an_all_registrants_reservation_outlasts_who_made_it_and_power_loss() {
    let mut rig = Rig::thin(64);
    let [me, other, _] = rig.nexus;
    rig.register(me, 0xa0);
    rig.register(other, 0xa1);
    good(rig.reserve_out(me, RESERVE, 8, (0xa0, 0), 0));
    good(rig.reserve_out(me, REGISTER, 0, (0xa0, 0), APTPL));
    let response = good(rig.reserve_out(other, IGNORE, 0, (0, 5), APTPL));
    let mut again =
        Rig::of(LogicalUnit::restore(identity(), geometry(64), kept(&response).unwrap()).unwrap());
    assert_eq!(again.reservation(), Some((0, 8)));
    conflict(&again.send(again.nexus[0], &ten(0x28, 0, 0, 1), &[]));
    good(again.send(again.nexus[1], &ten(0x28, 0, 0, 1), &[]));
}
