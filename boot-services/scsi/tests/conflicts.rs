//! What each type of reservation does to each command: the tables of SPC-5 and SBC-4, row by row.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod rig;

use rig::{Rig, ten, twelve};
use scsi::{Status, Step};

/// A row: the command, its CDB, what it has to send, and allowed (A) or conflict (C) where
/// 1 a write exclusive reservation is held by another, 2 an exclusive access one is,
/// 3 a registrants only or all registrants one is there and the sender is registered,
/// 4 a write exclusive one of these and it is not, 5 an exclusive access one of these and it is not.
type Row = (&'static str, Vec<u8>, u32, [char; 5]);

fn sixteen(opcode: u8, flags: u8, blocks: u32) -> Vec<u8> {
    rig::sixteen(opcode, flags, 0, blocks)
}

#[rustfmt::skip]
fn rows() -> Vec<Row> {
    let free = ['A', 'A', 'A', 'A', 'A'];
    let reads = ['A', 'C', 'A', 'A', 'C'];
    let writes = ['C', 'C', 'A', 'C', 'C'];
    vec![
        // SPC-5, commands allowed in the presence of reservations.
        ("INQUIRY", vec![0x12, 0, 0, 0, 255, 0], 0, free),
        ("MODE SELECT (6)", vec![0x15, 0x10, 0, 0, 0, 0], 0, writes),
        ("MODE SELECT (10)", vec![0x55, 0x10, 0, 0, 0, 0, 0, 0, 0, 0], 0, writes),
        ("MODE SENSE (6)", vec![0x1a, 0, 0x3f, 0, 255, 0], 0, reads),
        ("MODE SENSE (10)", vec![0x5a, 0, 0x3f, 0, 0, 0, 0, 1, 0, 0], 0, reads),
        ("PERSISTENT RESERVE IN, READ KEYS", vec![0x5e, 0, 0, 0, 0, 0, 0, 1, 0, 0], 0, free),
        ("PERSISTENT RESERVE IN, READ RESERVATION", vec![0x5e, 1, 0, 0, 0, 0, 0, 1, 0, 0], 0, free),
        ("PERSISTENT RESERVE IN, REPORT CAPABILITIES", vec![0x5e, 2, 0, 0, 0, 0, 0, 1, 0, 0], 0, free),
        ("PERSISTENT RESERVE IN, READ FULL STATUS", vec![0x5e, 3, 0, 0, 0, 0, 0, 1, 0, 0], 0, free),
        ("PREVENT ALLOW, prevent 0", vec![0x1e, 0, 0, 0, 0, 0], 0, free),
        ("PREVENT ALLOW, prevent 1", vec![0x1e, 0, 0, 0, 1, 0], 0, writes),
        ("REPORT LUNS", vec![0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], 0, free),
        ("REPORT SUPPORTED OPERATION CODES", vec![0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], 0, reads),
        ("REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", vec![0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], 0, reads),
        ("REQUEST SENSE", vec![0x03, 0, 0, 0, 18, 0], 0, free),
        ("TEST UNIT READY", vec![0; 6], 0, free),
        // SBC-4, commands allowed in the presence of reservations.
        ("COMPARE AND WRITE", vec![0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], 1024, writes),
        ("GET LBA STATUS", sixteen(0x9e, 0x12, 24), 0, reads),
        ("ORWRITE (16)", sixteen(0x8b, 0, 1), 512, writes),
        ("PRE-FETCH (10)", ten(0x34, 0, 0, 1).into(), 0, reads),
        ("PRE-FETCH (16)", sixteen(0x90, 0, 1), 0, reads),
        ("READ (6)", vec![0x08, 0, 0, 0, 1, 0], 0, reads),
        ("READ (10)", ten(0x28, 0, 0, 1).into(), 0, reads),
        ("READ (12)", twelve(0xa8, 0, 0, 1), 0, reads),
        ("READ (16)", sixteen(0x88, 0, 1), 0, reads),
        ("READ CAPACITY (10)", ten(0x25, 0, 0, 0).into(), 0, free),
        ("READ CAPACITY (16)", sixteen(0x9e, 0x10, 32), 0, free),
        ("START STOP UNIT, START 1 and POWER CONDITION 0", vec![0x1b, 0, 0, 0, 0x01, 0], 0, free),
        ("START STOP UNIT, START 0", vec![0x1b, 0, 0, 0, 0x00, 0], 0, writes),
        ("START STOP UNIT, POWER CONDITION 1", vec![0x1b, 0, 0, 0, 0x11, 0], 0, writes),
        ("SYNCHRONIZE CACHE (10)", ten(0x35, 0, 0, 0).into(), 0, writes),
        ("SYNCHRONIZE CACHE (16)", sixteen(0x91, 0, 0), 0, writes),
        ("UNMAP", vec![0x42, 0, 0, 0, 0, 0, 0, 0, 8, 0], 8, writes),
        ("VERIFY (10)", ten(0x2f, 0, 0, 1).into(), 0, reads),
        ("VERIFY (12)", twelve(0xaf, 0, 0, 1), 0, reads),
        ("VERIFY (16)", sixteen(0x8f, 0, 1), 0, reads),
        ("WRITE (6)", vec![0x0a, 0, 0, 0, 1, 0], 512, writes),
        ("WRITE (10)", ten(0x2a, 0, 0, 1).into(), 512, writes),
        ("WRITE (12)", twelve(0xaa, 0, 0, 1), 512, writes),
        ("WRITE (16)", sixteen(0x8a, 0, 1), 512, writes),
        ("WRITE AND VERIFY (10)", ten(0x2e, 0, 0, 1).into(), 512, writes),
        ("WRITE AND VERIFY (12)", twelve(0xae, 0, 0, 1), 512, writes),
        ("WRITE AND VERIFY (16)", sixteen(0x8e, 0, 1), 512, writes),
        ("WRITE SAME (10)", ten(0x41, 0, 0, 1).into(), 512, writes),
        ("WRITE SAME (16)", sixteen(0x93, 0, 1), 512, writes),
    ]
}

const TYPES: [u8; 6] = [1, 3, 5, 6, 7, 8];

/// Which column of a row holds for a sender who does not hold the reservation.
fn column(kind: u8, registered: bool) -> usize {
    match kind {
        1 => 0,
        3 => 1,
        _ if registered => 2,
        5 | 7 => 3,
        _ => 4,
    }
}

fn conflicts(rig: &mut Rig, who: usize, cdb: &[u8], data_out: u32) -> bool {
    let step = rig.unit.begin(rig.nexus[who], cdb, data_out);
    matches!(&step, Step::Done(response) if response.status == Status::ReservationConflict)
}

/// Initiator 0 holds the reservation, 1 is registered, 2 is not.
fn reserved(kind: u8) -> Rig {
    let mut rig = Rig::thin(64);
    rig.register(rig.nexus[0], 0xa0);
    rig.register(rig.nexus[1], 0xa1);
    assert_eq!(rig.reserve_out(rig.nexus[0], 1, kind, (0xa0, 0), 0).status, Status::Good);
    rig
}

#[test]
fn every_command_meets_every_reservation_as_the_tables_say() {
    for kind in TYPES {
        let mut rig = reserved(kind);
        for (name, cdb, data_out, row) in rows() {
            assert!(!conflicts(&mut rig, 0, &cdb, data_out), "{name}: the holder of type {kind}");
            for who in [1, 2] {
                let conflict = row[column(kind, who == 1)] == 'C';
                // Of an all registrants type every registered nexus is a holder.
                let expected = conflict && !(who == 1 && kind >= 7);
                assert_eq!(conflicts(&mut rig, who, &cdb, data_out), expected, "{name}: {who}, type {kind}");
            }
        }
    }
}

#[test]
fn the_table_has_every_command_that_is_reported() {
    let mut rig = Rig::thin(64);
    let all = rig.good(&[0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0], &[]);
    for descriptor in all[4..].chunks(8) {
        let (opcode, action, has_action) = (descriptor[0], descriptor[3], descriptor[5] & 1 == 1);
        // PERSISTENT RESERVE OUT, RESERVE and RELEASE have tests of their own.
        if [0x5f, 0x16, 0x17, 0x56, 0x57].contains(&opcode) {
            continue;
        }
        let there =
            rows().iter().any(|(_, cdb, ..)| cdb[0] == opcode && (!has_action || cdb[1] & 0x1f == action));
        assert!(there, "{opcode:02x}/{action:02x} is in no row");
    }
}

/// SPC-5, service actions allowed in the presence of various reservations: for a registered nexus that does not
/// hold the reservation, and for one that is not registered.
const OUT: [(&str, u8, bool, bool); 8] = [
    ("REGISTER", 0, true, true),
    ("RESERVE", 1, false, false),
    ("RELEASE", 2, true, false),
    ("CLEAR", 3, true, false),
    ("PREEMPT", 4, true, false),
    ("PREEMPT AND ABORT", 5, true, false),
    ("REGISTER AND IGNORE EXISTING KEY", 6, true, true),
    ("REGISTER AND MOVE", 7, false, false),
];

#[test]
fn persistent_reserve_out_meets_every_reservation_as_the_table_says() {
    for kind in TYPES {
        for (name, action, registered, unregistered) in OUT {
            for (who, allowed) in [(1, registered), (2, unregistered)] {
                let mut rig = reserved(kind);
                let key = if who == 1 { 0xa1 } else { 0 };
                // All registrants: the registered one is a holder, whose RESERVE of the same type is GOOD.
                let allowed = allowed || (action == 1 && who == 1 && kind >= 7);
                let action_key = if action == 4 || action == 5 { 0xa0 } else { 0xb0 };
                let status = rig.reserve_out(rig.nexus[who], action, kind, (key, action_key), 0).status;
                assert_eq!(
                    status != Status::ReservationConflict,
                    allowed,
                    "{name}: {who}, type {kind}, {status:?}"
                );
            }
        }
    }
}

// SPC-2, 5.5.1 and table 10.
#[test]
fn reserve_keeps_all_others_out_of_nearly_everything() {
    for reserve in [vec![0x16, 0, 0, 0, 0, 0], vec![0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
        let mut rig = Rig::thin(64);
        rig.good(&reserve, &[]);
        assert!(conflicts(&mut rig, 1, &reserve, 0));
        for (name, cdb, data_out, _) in rows() {
            let free =
                ["INQUIRY", "REPORT LUNS", "REQUEST SENSE", "PREVENT ALLOW, prevent 0"].contains(&name);
            assert_eq!(conflicts(&mut rig, 1, &cdb, data_out), !free, "{name}");
            assert_eq!(conflicts(&mut rig, 0, &cdb, data_out), cdb[0] == 0x5e, "{name}: the holder");
        }
        // "all PERSISTENT RESERVE OUT commands shall conflict regardless of initiator or service action".
        let (cdb, list) = rig::reserve_out(6, 0, (0, 1), 0);
        assert!(
            conflicts(&mut rig, 0, &cdb, list.len() as u32) || {
                rig.send(rig.nexus[0], &cdb, &list).status == Status::ReservationConflict
            }
        );
        // RELEASE of who did not reserve it: GOOD, and nothing is released.
        assert_eq!(rig.send(rig.nexus[1], &[0x17, 0, 0, 0, 0, 0], &[]).status, Status::Good);
        assert!(conflicts(&mut rig, 1, &[0; 6], 0));
        rig.good(&[0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[]);
        rig.expect_ready(rig.nexus[1]);
    }
}

#[test]
fn reserve_ends_with_its_nexus_and_with_a_reset() {
    let mut rig = Rig::thin(64);
    rig.good(&[0x16, 0, 0, 0, 0, 0], &[]);
    rig.unit.detach(rig.nexus[0]);
    rig.expect_ready(rig.nexus[1]);
    assert_eq!(rig.send(rig.nexus[1], &[0x16, 0, 0, 0, 0, 0], &[]).status, Status::Good);
    rig.unit.reset();
    rig.expect_attention(rig.nexus[2], 0x29, 0x03);
    rig.expect_ready(rig.nexus[2]);
}

// SPC-5, exceptions to RESERVE and RELEASE, compatible reservation handling.
#[test]
fn reserve_beside_persistent_reservations_is_a_conflict_or_nothing() {
    let reserve = [0x16, 0, 0, 0, 0, 0];
    for kind in TYPES {
        let mut rig = reserved(kind);
        assert_eq!(rig.command(&reserve, &[]).status, Status::Good);
        assert_eq!(conflicts(&mut rig, 1, &reserve, 0), kind < 5, "type {kind}");
        assert!(conflicts(&mut rig, 2, &reserve, 0));
        // Nothing was reserved by it: READ CAPACITY is as before.
        assert!(!conflicts(&mut rig, 2, &ten(0x25, 0, 0, 0), 0));
    }
    let mut rig = Rig::thin(64);
    rig.register(rig.nexus[1], 0xa1);
    assert!(conflicts(&mut rig, 0, &reserve, 0), "registrations alone conflict with RESERVE");
}

// SAM-5, status precedence: unit attentions of resets, then RESERVATION CONFLICT, then everything else.
#[test]
fn a_conflict_comes_after_a_reset_and_before_other_attentions() {
    let mut rig = reserved(3);
    let read = ten(0x28, 0, 0, 1);
    rig.unit.resize(128).unwrap();
    assert!(conflicts(&mut rig, 2, &read, 0));
    rig.unit.reset();
    let response = rig.send(rig.nexus[2], &read, &[]);
    assert_eq!(rig::read_sense(&response.sense), (6, 0x29, 0x03));
    assert!(conflicts(&mut rig, 2, &read, 0));
    rig.expect_attention(rig.nexus[2], 0x2a, 0x09);
    rig.expect_ready(rig.nexus[2]);
}
