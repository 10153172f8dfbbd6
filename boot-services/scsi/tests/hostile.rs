//! Any octets, at any time: no panic, no hang, and a response that is one.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod rig;

use rig::{Chance, Rig, geometry, port};
use scsi::{MediumFault, Response, Status, Step, Work};

const BLOCKS: u64 = 64;

/// Operation codes that there are, with their service actions.
fn known() -> Vec<(u8, u8)> {
    let mut rig = Rig::thin(BLOCKS);
    let all = rig.good(&[0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0], &[]);
    all[4..].chunks(8).map(|descriptor| (descriptor[0], descriptor[3])).collect()
}

/// A CDB: now and then any octets, mostly a known one with few bits set.
fn cdb(chance: &mut Chance, known: &[(u8, u8)]) -> Vec<u8> {
    let length = 1 + chance.below(17) as usize;
    if chance.below(8) == 0 {
        return chance.octets(length);
    }
    let (opcode, action) = known[chance.below(known.len() as u64) as usize];
    let mut cdb = vec![0; if chance.below(16) == 0 { length } else { 16 }];
    cdb[0] = opcode;
    if let Some(second) = cdb.get_mut(1) {
        *second = action;
    }
    for _ in 0..chance.below(4) {
        let at = chance.below(cdb.len() as u64) as usize;
        if at > 0 {
            cdb[at] |= match chance.below(3) {
                0 => 1 << chance.below(8),
                1 => chance.below(64) as u8,
                _ => chance.next() as u8,
            };
        }
    }
    cdb
}

/// SPC-5, sense data: the sense data is whole, and is there exactly with CHECK CONDITION.
fn well_formed(response: &Response) {
    let sense = &response.sense;
    assert_eq!(response.status == Status::CheckCondition, !sense.is_empty());
    if response.status != Status::Good {
        assert!(response.data_in.is_empty() && response.first.is_empty());
    }
    match sense.first().map(|code| code & 0x7f) {
        None => {}
        Some(0x70) => assert_eq!((sense.len(), sense[7]), (18, 10)),
        Some(0x72) => assert_eq!(sense.len(), 8 + usize::from(sense[7])),
        Some(code) => panic!("response code {code:02x}"),
    }
    if !sense.is_empty() {
        assert_ne!(rig::read_sense(sense).0, 0, "CHECK CONDITION with NO SENSE");
    }
}

fn inside(step: &Step) {
    match step {
        Step::Work(Work::Read(transfer) | Work::Write(transfer)) => {
            assert!(transfer.length > 0 && transfer.offset + transfer.length <= BLOCKS * 512);
        }
        Step::Work(Work::Compound(compound)) => {
            assert!(compound.data_out() <= 2 * BLOCKS * 512 && compound.data_in() <= 8 + 256 * 16);
        }
        Step::Wants(wants) => assert!(wants.data_out <= 0xffff),
        Step::Done(_) => {}
    }
}

#[test]
fn a_million_commands_get_an_answer_each() {
    let known = known();
    let mut chance = Chance(7);
    for round in 0..20 {
        let geometry = match round % 4 {
            0 => geometry(BLOCKS),
            1 => geometry(BLOCKS).read_only(),
            _ => geometry(BLOCKS).thin(),
        };
        let mut rig = Rig::new(geometry);
        if round % 5 == 4 {
            rig.medium.break_with(MediumFault::WriteFault, Some(512));
        }
        for _ in 0..50_000 {
            let who = chance.below(3) as usize;
            let cdb = cdb(&mut chance, &known);
            let length = match chance.below(4) {
                0 => 0,
                1 => 24,
                2 => 512 * chance.below(4),
                _ => chance.below(1100),
            } as usize;
            let mut data = chance.octets(length);
            if chance.below(2) == 0 {
                // Mostly zeros: keys and lists that can be.
                data.iter_mut().skip(1).for_each(|octet| *octet &= (*octet & 0x11) * 15);
            }
            let nexus = rig.nexus[who];
            let step = rig.unit.begin(nexus, &cdb, length as u32);
            inside(&step);
            let response = rig.follow(nexus, step, &data);
            well_formed(&response);
            well_formed(&scsi::absent(&cdb, &[]));
            match chance.below(500) {
                0 => rig.unit.reset(),
                1 => rig.unit.detach(nexus),
                2..5 => rig.nexus[who] = rig.unit.attach(port(who as u8)),
                _ => {}
            }
        }
    }
}
