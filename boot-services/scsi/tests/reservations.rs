//! Persistent reservations: SPC-5, reservations, PERSISTENT RESERVE IN and OUT.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod rig;

use rig::{Rig, port, ten};
use scsi::{Duty, Nexus, Response, Status};

const TYPES: [u8; 6] = [1, 3, 5, 6, 7, 8];

const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const RELEASE: u8 = 2;
const CLEAR: u8 = 3;
const PREEMPT: u8 = 4;
const PREEMPT_AND_ABORT: u8 = 5;
const IGNORE: u8 = 6;
const ALL_TG_PT: u8 = 4;
const SPEC_I_PT: u8 = 8;

const IN_CDB: (u8, u8, u8) = (5, 0x24, 0);
const IN_LIST: (u8, u8, u8) = (5, 0x26, 0);
const LIST_LENGTH: (u8, u8, u8) = (5, 0x1a, 0);

fn good(response: Response) -> Response {
    assert_eq!(response.status, Status::Good, "{:02x?}", response.sense);
    response
}

fn conflict(response: &Response) {
    assert_eq!(response.status, Status::ReservationConflict);
}

fn refused(response: &Response, sense: (u8, u8, u8)) {
    assert_eq!(response.status, Status::CheckCondition);
    assert_eq!(rig::read_sense(&response.sense), sense);
}

/// Three initiators with keys A0h, A1h and A2h.
fn registered() -> Rig {
    let mut rig = Rig::thin(64);
    for (nexus, key) in rig.nexus.into_iter().zip(0xa0..) {
        rig.register(nexus, key);
    }
    rig
}

/// Nobody is told anything.
fn quiet(rig: &mut Rig, who: &[usize]) {
    for nexus in who {
        rig.expect_ready(rig.nexus[*nexus]);
    }
}

// SPC-5, registering.
#[test]
fn register_takes_the_right_key_and_ignore_takes_any() {
    let mut rig = Rig::thin(64);
    let me = rig.nexus[0];
    conflict(&rig.reserve_out(me, REGISTER, 0, (5, 1), 0));
    good(rig.reserve_out(me, REGISTER, 0, (0, 0), 0));
    good(rig.reserve_out(me, IGNORE, 0, (9, 0), 0));
    assert_eq!(rig.keys(), (0, vec![]));
    good(rig.reserve_out(me, REGISTER, 0, (0, 1), 0));
    assert_eq!(rig.keys(), (1, vec![1]));
    conflict(&rig.reserve_out(me, REGISTER, 0, (0, 2), 0));
    good(rig.reserve_out(me, REGISTER, 0, (1, 2), 0));
    good(rig.reserve_out(me, IGNORE, 0, (77, 3), 0));
    assert_eq!(rig.keys(), (3, vec![3]));
    good(rig.reserve_out(me, REGISTER, 0, (3, 0), 0));
    assert_eq!(rig.keys(), (4, vec![]));
}

// SPC-5, reserving and releasing.
#[test]
fn reserve_and_release_by_who_is_registered_only() {
    for kind in TYPES {
        let mut rig = registered();
        let [me, other, _] = rig.nexus;
        let generation = rig.keys().0;
        good(rig.reserve_out(me, RELEASE, kind, (0xa0, 0), 0));
        conflict(&rig.reserve_out(me, RESERVE, kind, (0xa1, 0), 0));
        good(rig.reserve_out(me, RESERVE, kind, (0xa0, 0), 0));
        good(rig.reserve_out(me, RESERVE, kind, (0xa0, 0), 0));
        assert_eq!(rig.reservation(), Some((if kind >= 7 { 0 } else { 0xa0 }, kind)));
        // Another type, and another who asks.
        conflict(&rig.reserve_out(me, RESERVE, if kind == 1 { 3 } else { 1 }, (0xa0, 0), 0));
        assert_eq!(rig.reserve_out(other, RESERVE, kind, (0xa1, 0), 0).status == Status::Good, kind >= 7);
        refused(&rig.reserve_out(me, RELEASE, if kind == 1 { 3 } else { 1 }, (0xa0, 0), 0), (5, 0x26, 4));
        if kind < 7 {
            good(rig.reserve_out(other, RELEASE, kind, (0xa1, 0), 0));
            assert!(rig.reservation().is_some());
        }
        good(rig.reserve_out(me, RELEASE, kind, (0xa0, 0), 0));
        assert_eq!(rig.reservation(), None);
        // Of the registrants only and all registrants types, the others are told.
        for other in [1, 2] {
            if kind >= 5 {
                rig.expect_attention(rig.nexus[other], 0x2a, 0x04);
            }
        }
        quiet(&mut rig, &[0, 1, 2]);
        assert_eq!(rig.keys().0, generation, "RESERVE and RELEASE leave PRGENERATION as it is");
    }
}

#[test]
fn only_the_logical_unit_and_six_types_can_be_reserved() {
    let mut rig = registered();
    for kind in [0, 2, 4, 9, 15, 0x11, 0x21, 0xf1] {
        refused(&rig.reserve_out(rig.nexus[0], RESERVE, kind, (0xa0, 0), 0), IN_CDB);
    }
}

// SPC-5, unregistering.
#[test]
fn who_unregisters_gives_up_what_it_holds() {
    for kind in TYPES {
        let mut rig = registered();
        let [me, other, third] = rig.nexus;
        good(rig.reserve_out(me, RESERVE, kind, (0xa0, 0), 0));
        good(rig.reserve_out(me, REGISTER, 0, (0xa0, 0), 0));
        assert_eq!(rig.reservation(), (kind >= 7).then_some((0, kind)), "type {kind}");
        if kind == 5 || kind == 6 {
            rig.expect_attention(other, 0x2a, 0x04);
            rig.expect_attention(third, 0x2a, 0x04);
        }
        quiet(&mut rig, &[0, 1, 2]);
        good(rig.reserve_out(other, REGISTER, 0, (0xa1, 0), 0));
        good(rig.reserve_out(third, REGISTER, 0, (0xa2, 0), 0));
        assert_eq!(rig.reservation(), None, "with the last registrant");
        quiet(&mut rig, &[0, 1, 2]);
    }
}

// SPC-5, clearing.
#[test]
fn clear_removes_everything_and_tells_the_others() {
    let mut rig = registered();
    let [me, other, third] = rig.nexus;
    good(rig.reserve_out(me, RESERVE, 3, (0xa0, 0), 0));
    conflict(&rig.reserve_out(other, CLEAR, 0, (0xa0, 0), 0));
    good(rig.reserve_out(other, CLEAR, 0, (0xa1, 0), 0));
    assert_eq!((rig.keys(), rig.reservation()), ((4, vec![]), None));
    rig.expect_attention(me, 0x2a, 0x03);
    rig.expect_attention(third, 0x2a, 0x03);
    quiet(&mut rig, &[1]);
    conflict(&rig.reserve_out(other, CLEAR, 0, (0xa1, 0), 0));
}

// SPC-5, preempting.
#[test]
fn preempt_of_the_holder_takes_its_reservation() {
    for kind in [1, 3, 5, 6] {
        for new in TYPES {
            let mut rig = registered();
            let [me, other, third] = rig.nexus;
            good(rig.reserve_out(me, RESERVE, kind, (0xa0, 0), 0));
            good(rig.reserve_out(other, PREEMPT, new, (0xa1, 0xa0), 0));
            assert_eq!(rig.keys(), (4, vec![0xa1, 0xa2]));
            assert_eq!(rig.reservation(), Some((if new >= 7 { 0 } else { 0xa1 }, new)));
            // REGISTRATIONS PREEMPTED for who lost it, RESERVATIONS RELEASED for the rest, where the type
            // changed.
            rig.expect_attention(me, 0x2a, 0x05);
            if kind != new {
                rig.expect_attention(third, 0x2a, 0x04);
            }
            quiet(&mut rig, &[1, 2]);
        }
    }
}

#[test]
fn preempt_of_another_removes_registrations_only() {
    for kind in [None, Some(1), Some(3), Some(6)] {
        let mut rig = registered();
        let [me, other, third] = rig.nexus;
        good(rig.reserve_out(third, IGNORE, 0, (0, 0xa1), 0));
        if let Some(kind) = kind {
            good(rig.reserve_out(me, RESERVE, kind, (0xa0, 0), 0));
        }
        // The type is not looked at.
        good(rig.reserve_out(me, PREEMPT, 0xff, (0xa0, 0xa1), 0));
        assert_eq!(rig.keys(), (5, vec![0xa0]));
        assert_eq!(rig.reservation(), kind.map(|kind| (0xa0, kind)));
        rig.expect_attention(other, 0x2a, 0x05);
        rig.expect_attention(third, 0x2a, 0x05);
        quiet(&mut rig, &[0]);
        conflict(&rig.reserve_out(me, PREEMPT, 1, (0xa0, 0xdead), 0));
        refused(&rig.reserve_out(me, PREEMPT, 1, (0xa0, 0), 0), IN_LIST);
        assert_eq!(rig.keys(), (5, vec![0xa0]));
    }
}

#[test]
fn preempt_with_all_registrants_spares_the_reservation_unless_the_key_is_zero() {
    for kind in [7, 8] {
        let mut rig = registered();
        let [me, other, third] = rig.nexus;
        good(rig.reserve_out(me, RESERVE, kind, (0xa0, 0), 0));
        good(rig.reserve_out(other, PREEMPT, 1, (0xa1, 0xa0), 0));
        assert_eq!((rig.keys().1, rig.reservation()), (vec![0xa1, 0xa2], Some((0, kind))));
        rig.expect_attention(me, 0x2a, 0x05);
        good(rig.reserve_out(other, PREEMPT, 1, (0xa1, 0), 0));
        assert_eq!((rig.keys().1, rig.reservation()), (vec![0xa1], Some((0xa1, 1))));
        rig.expect_attention(third, 0x2a, 0x05);
        quiet(&mut rig, &[0, 1, 2]);
    }
}

// The last registration takes an all registrants reservation with it, however it goes.
#[test]
fn preempt_of_the_last_registrant_by_itself_leaves_nothing() {
    let mut rig = Rig::thin(64);
    rig.register(rig.nexus[0], 0xa0);
    good(rig.reserve_out(rig.nexus[0], RESERVE, 8, (0xa0, 0), 0));
    good(rig.reserve_out(rig.nexus[0], PREEMPT, 8, (0xa0, 0xa0), 0));
    assert_eq!((rig.keys().1, rig.reservation()), (vec![], None));
    good(rig.send(rig.nexus[1], &ten(0x28, 0, 0, 1), &[]));
}

// A list that comes after another initiator's RESERVE comes too late.
#[test]
fn reserve_between_a_command_and_its_list_is_a_conflict() {
    let mut rig = Rig::thin(64);
    let (cdb, list) = rig::reserve_out(IGNORE, 0, (0, 1), 0);
    let step = rig.unit.begin(rig.nexus[0], &cdb, 24);
    good(rig.send(rig.nexus[1], &[0x16, 0, 0, 0, 0, 0], &[]));
    conflict(&rig.follow(rig.nexus[0], step, &list));
    good(rig.send(rig.nexus[1], &[0x17, 0, 0, 0, 0, 0], &[]));
    assert!(rig.keys().1.is_empty());
}

#[test]
fn who_preempts_itself_keeps_its_registration_while_it_holds() {
    let mut rig = registered();
    let me = rig.nexus[0];
    good(rig.reserve_out(me, RESERVE, 1, (0xa0, 0), 0));
    good(rig.reserve_out(me, PREEMPT, 3, (0xa0, 0xa0), 0));
    assert_eq!((rig.keys().1.len(), rig.reservation()), (3, Some((0xa0, 3))));
}

// SPC-5, preempting and aborting.
#[test]
fn preempt_and_abort_says_whose_tasks_end() {
    let mut rig = registered();
    let [me, other, _] = rig.nexus;
    good(rig.reserve_out(me, RESERVE, 3, (0xa0, 0), 0));
    let response = good(rig.reserve_out(other, PREEMPT_AND_ABORT, 3, (0xa1, 0xa0), 0));
    assert_eq!(response.first, [Duty::Abort(vec![me])]);
    // Of a port that is not attached there is nothing to abort.
    rig.unit.detach(rig.nexus[2]);
    assert_eq!(good(rig.reserve_out(other, PREEMPT_AND_ABORT, 3, (0xa1, 0xa2), 0)).first, []);
}

// SPC-5, registrations and nexus loss: registrations belong to the port, and outlast its nexus.
#[test]
fn a_registration_is_there_again_when_its_port_is() {
    let mut rig = registered();
    let me = rig.nexus[0];
    good(rig.reserve_out(me, RESERVE, 3, (0xa0, 0), 0));
    rig.unit.detach(me);
    conflict(&rig.send(rig.nexus[1], &ten(0x28, 0, 0, 1), &[]));
    rig.unit.reset();
    rig.expect_attention(rig.nexus[1], 0x29, 0x03);
    conflict(&rig.send(rig.nexus[1], &ten(0x28, 0, 0, 1), &[]));
    rig.nexus[0] = rig.unit.attach(port(0));
    rig.expect_attention(rig.nexus[0], 0x29, 0x00);
    rig.good(&ten(0x28, 0, 0, 1), &[]);
}

/// A TransportID of an initiator port of ours.
fn transport_id(number: u8) -> Vec<u8> {
    let name = format!("iqn.2026-01.example:host{number},i,0x80000000000{number}\0");
    let mut out = vec![0x45, 0, 0, 0];
    out.extend(name.bytes());
    out.resize(out.len().next_multiple_of(4), 0);
    out[3] = out.len() as u8 - 4;
    out
}

fn send_list(rig: &mut Rig, nexus: Nexus, action: u8, list: &[u8]) -> Response {
    let [.., a, b, c, d] = u64::try_from(list.len()).unwrap().to_be_bytes();
    rig.send(nexus, &[0x5f, action, 1, 0, 0, a, b, c, d, 0], list)
}

fn for_others(key: u64, ids: &[u8]) -> Vec<u8> {
    let (_, mut list) = rig::reserve_out(REGISTER, 0, (0, key), SPEC_I_PT);
    list.extend(u32::try_from(ids.len()).unwrap().to_be_bytes());
    list.extend(ids);
    list
}

// SPC-5, PERSISTENT RESERVE OUT parameter list: SPEC_I_PT.
#[test]
fn a_registration_can_be_made_for_others_or_for_nobody() {
    let mut rig = Rig::thin(64);
    let [me, _, third] = rig.nexus;
    let list = for_others(7, &[transport_id(1), transport_id(5)].concat());
    // Cut anywhere, nothing is registered.
    for end in 24..list.len() {
        assert_eq!(send_list(&mut rig, me, REGISTER, &list[..end]).status, Status::CheckCondition, "{end}");
    }
    refused(&send_list(&mut rig, me, IGNORE, &list), IN_LIST);
    // Of another protocol, too short, no multiple of four, without a name, without its end.
    let wrong: [&[u8]; 5] = [
        &[0x06; 24],
        b"\x45\0\0\x10a,i,0x0\0\0\0\0\0\0\0\0\0",
        b"\x45\0\0\x15a,i,0x000000000001\0\0\0",
        b"\x45\0\0\x14,i,0x000000000001\0\0\0",
        b"\x45\0\0\x14ab,i,0x0000000000012",
    ];
    for id in wrong {
        let foreign = for_others(7, &[&transport_id(1), id].concat());
        assert_eq!(send_list(&mut rig, me, REGISTER, &foreign).status, Status::CheckCondition, "{id:02x?}");
    }
    assert_eq!(rig.keys(), (0, vec![]));
    good(send_list(&mut rig, me, REGISTER, &list));
    assert_eq!(rig.keys(), (1, vec![7, 7, 7]));
    // Who has a key cannot use it.
    let list = for_others(8, &transport_id(2));
    conflict(&send_list(&mut rig, me, REGISTER, &list));
    let mut known = list.clone();
    known[7] = 7;
    refused(&send_list(&mut rig, me, REGISTER, &known), IN_CDB);
    // One of the others has a key of its own.
    refused(&send_list(&mut rig, third, REGISTER, &for_others(9, &transport_id(1))), IN_LIST);
    assert_eq!(rig.keys(), (1, vec![7, 7, 7]));
    // By name alone: all the ports of that name that are attached.
    let mut device = vec![0x05, 0, 0, 28];
    device.extend(b"iqn.2026-01.example:HOST2\0\0\0");
    good(send_list(&mut rig, third, REGISTER, &for_others(9, &device)));
    assert_eq!(rig.keys().1, [7, 7, 7, 9]);
}

#[test]
fn lists_of_the_wrong_length_are_refused() {
    let mut rig = registered();
    let me = rig.nexus[0];
    let (_, list) = rig::reserve_out(IGNORE, 0, (0, 5), 0);
    for action in [REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, IGNORE, 7] {
        for end in 0..24 {
            refused(&send_list(&mut rig, me, action, &list[..end]), LIST_LENGTH);
        }
    }
    refused(&send_list(&mut rig, me, IGNORE, &[&list[..], &[0]].concat()), LIST_LENGTH);
    // An initiator that says 24 and sends less, or says more and sends 24.
    let (mut cdb, list) = rig::reserve_out(IGNORE, 0, (0, 5), 0);
    refused(&rig.send(me, &cdb, &list[..20]), LIST_LENGTH);
    cdb[8] = 60;
    refused(&rig.send(me, &cdb, &list), LIST_LENGTH);
    assert_eq!(rig.keys().1, [0xa0, 0xa1, 0xa2]);
}

#[test]
fn registrations_are_bounded() {
    let mut rig = Rig::thin(64);
    let me = rig.nexus[0];
    let ids = |from: u32, to: u32| -> Vec<u8> {
        (from..to)
            .flat_map(|number| {
                let mut id = vec![0x45, 0, 0, 28];
                id.extend(format!("iqn.x:y,i,0x{number:012x}\0").bytes());
                id.resize(32, 0);
                id
            })
            .collect()
    };
    refused(&send_list(&mut rig, me, REGISTER, &for_others(7, &ids(0, 128))), (5, 0x55, 4));
    refused(&send_list(&mut rig, me, REGISTER, &for_others(7, &ids(0, 1500))), (5, 0x55, 4));
    assert!(rig.keys().1.is_empty());
    good(send_list(&mut rig, me, REGISTER, &for_others(7, &ids(0, 127))));
    refused(&rig.reserve_out(rig.nexus[1], IGNORE, 0, (0, 1), 0), (5, 0x55, 4));
}

fn moved(key: u64, new: u64, unregister: bool, port: u16, id: &[u8]) -> Vec<u8> {
    let mut list = key.to_be_bytes().to_vec();
    list.extend(new.to_be_bytes());
    list.extend([0, u8::from(unregister) << 1]);
    list.extend(port.to_be_bytes());
    list.extend(u32::try_from(id.len()).unwrap().to_be_bytes());
    list.extend(id);
    list
}

// SPC-5, registering and moving.
#[test]
fn register_and_move_hands_the_reservation_on() {
    for unregister in [false, true] {
        for target in [1, 6] {
            let mut rig = registered();
            let me = rig.nexus[0];
            good(rig.reserve_out(me, RESERVE, 3, (0xa0, 0), 0));
            good(send_list(&mut rig, me, 7, &moved(0xa0, 0xb1, unregister, 1, &transport_id(target))));
            assert_eq!(rig.reservation(), Some((0xb1, 3)));
            assert_eq!(rig.keys().0, 4);
            assert_eq!(rig.keys().1.contains(&0xa0), !unregister);
            conflict(&rig.send(me, &ten(0x28, 0, 0, 1), &[]));
            if target == 1 {
                good(rig.send(rig.nexus[1], &ten(0x28, 0, 0, 1), &[]));
            }
        }
    }
}

#[test]
fn register_and_move_is_for_the_holder_and_for_another_port() {
    let mut rig = registered();
    let [me, other, _] = rig.nexus;
    let right = moved(0xa0, 0xb1, false, 1, &transport_id(1));
    conflict(&send_list(&mut rig, me, 7, &right));
    good(rig.reserve_out(me, RESERVE, 3, (0xa0, 0), 0));
    conflict(&send_list(&mut rig, other, 7, &moved(0xa1, 0xb1, false, 1, &transport_id(2))));
    conflict(&send_list(&mut rig, me, 7, &moved(0xa1, 0xb1, false, 1, &transport_id(1))));
    refused(&send_list(&mut rig, me, 7, &moved(0xa0, 0, false, 1, &transport_id(1))), IN_LIST);
    refused(&send_list(&mut rig, me, 7, &moved(0xa0, 0xb1, false, 2, &transport_id(1))), IN_LIST);
    refused(&send_list(&mut rig, me, 7, &moved(0xa0, 0xb1, false, 1, &transport_id(0))), IN_LIST);
    for end in 24..right.len() {
        assert_eq!(send_list(&mut rig, me, 7, &right[..end]).status, Status::CheckCondition);
    }
    good(rig.reserve_out(me, RELEASE, 3, (0xa0, 0), 0));
    good(rig.reserve_out(me, RESERVE, 7, (0xa0, 0), 0));
    conflict(&send_list(&mut rig, me, 7, &right));
    assert_eq!(rig.keys(), (3, vec![0xa0, 0xa1, 0xa2]));
}

// SPC-5, PERSISTENT RESERVE IN.
#[test]
fn read_full_status_names_ports_and_holders() {
    let mut rig = Rig::thin(64);
    good(rig.reserve_out(rig.nexus[0], IGNORE, 0, (0, 1), 0));
    good(rig.reserve_out(rig.nexus[1], IGNORE, 0, (0, 2), ALL_TG_PT));
    good(rig.reserve_out(rig.nexus[1], RESERVE, 6, (2, 0), 0));
    let data = rig.good(&[0x5e, 3, 0, 0, 0, 0, 0, 4, 0, 0], &[]);
    let descriptor = |key: u8, flags: u8, kind: u8, target_port: u8, number: u8| {
        let id = transport_id(number);
        let mut out = vec![0, 0, 0, 0, 0, 0, 0, key, 0, 0, 0, 0, flags, kind, 0, 0, 0, 0, 0, target_port];
        out.extend(u32::try_from(id.len()).unwrap().to_be_bytes());
        out.extend(id);
        out
    };
    let expected = [descriptor(1, 0, 0, 1, 0), descriptor(2, 3, 6, 0, 1)].concat();
    assert_eq!(data[..8], [[0, 0, 0, 2], u32::try_from(expected.len()).unwrap().to_be_bytes()].concat());
    assert_eq!(data[8..], expected);
    // "The contents of the ADDITIONAL LENGTH field are not altered based on the allocation length".
    assert_eq!(rig.good(&[0x5e, 3, 0, 0, 0, 0, 0, 0, 8, 0], &[]), data[..8]);
    // CRH, SIP_C, ATP_C, PTPL_C; TMV; six types.
    assert_eq!(rig.good(&[0x5e, 2, 0, 0, 0, 0, 0, 0, 8, 0], &[]), [0, 8, 0x1d, 0x80, 0xea, 0x01, 0, 0]);
}
