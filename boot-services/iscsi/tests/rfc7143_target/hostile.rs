//! Any octets: no panic, no hang, no memory beyond the bound.

use crate::rig::*;
use iscsi::{pdu::*, target::Want};
use sansio::sim::Dice;

fn below(dice: &mut Dice, sides: usize) -> usize {
    usize::try_from(dice.below(sides as u64)).unwrap()
}

fn octet(dice: &mut Dice) -> u8 {
    (dice.roll() & 0xff) as u8
}

/// Feeds what may be anything, in pieces of any size; the rig's driver fails if nothing goes on.
fn pour(peer: &mut Peer, octets: &[u8], dice: &mut Dice) {
    let mut rest = octets;
    while !rest.is_empty() && !peer.connection.is_over() {
        let (piece, more) = rest.split_at((1 + below(dice, 700)).min(rest.len()));
        peer.feed(piece);
        peer.sent.clear();
        if let Want::Octets(least) = peer.connection.want() {
            assert!(least <= (256 << 10) + DIGEST + 3, "it asks for {least} octets at once");
        }
        rest = more;
    }
    if let Some(at) = peer.connection.poll_timeout() {
        peer.connection.handle_timeout(at);
    }
    peer.pump();
    peer.sent.clear();
}

#[test]
fn random_octets_do_no_harm_before_or_after_the_login() {
    let rig = Rig::new();
    let mut dice = Dice::new(7);
    for round in 0..600 {
        let mut peer = rig.peer();
        peer.isid = Isid([round as u8, (round >> 8) as u8, 0, 0, 0, 0]);
        if round % 3 > 0 {
            peer.log_in(&[]);
        }
        let mut octets: Vec<u8> = (0..below(&mut dice, 3000)).map(|_| octet(&mut dice)).collect();
        // Otherwise nearly all of them end at the first length.
        for header in octets.chunks_mut(HEADER) {
            header[0] = [0, 1, 2, 3, 4, 5, 6, 0x10, 0x40, 0x41, 0x42, 0x43][below(&mut dice, 12)];
            if let [_, _, _, _, additional, length @ ..] = header {
                *additional = if dice.below(10) == 0 { 2 } else { 0 };
                length.iter_mut().take(2).for_each(|octet| *octet = 0);
            }
        }
        pour(&mut peer, &octets, &mut dice);
    }
    assert_eq!(rig.targets.sessions(), []);
}

/// A session as an initiator has it: commands of all kinds, data, pings, text.
fn valid(peer: &mut Peer, dice: &mut Dice) -> Vec<u8> {
    let mut stream = Vec::new();
    for _ in 0..1 + below(dice, 20) {
        let blocks = 1 + below(dice, 4) as u16;
        let (pdu, data) = match dice.below(8) {
            0 => (FromInitiator::Command(peer.read(below(dice, 8200) as u32, blocks)), 0),
            1 => (
                FromInitiator::Command(peer.write(below(dice, 64) as u32, blocks)),
                usize::from(blocks) * 512,
            ),
            2 => (FromInitiator::Command(Command { last: false, ..peer.write(0, 4) }), 512),
            3 => {
                let itt = Tag(peer.itt);
                let lun = Lun::single(0);
                let ttt = if dice.below(2) == 0 { Tag::NONE } else { Tag(1 + dice.below(9) as u32) };
                let offset = 512 * dice.below(4) as u32;
                let data_sn = Serial(dice.below(3) as u32);
                let last = dice.below(2) == 0;
                let data_out = DataOut { last, lun, itt, ttt, exp_stat_sn: Serial(0), data_sn, offset };
                (FromInitiator::DataOut(data_out), 512)
            }
            4 => {
                let opcode =
                    [0x12, 0x25, 0xa0, 0x41, 0x42, 0x5f, 0x89, 0x2e, 0x35, 0x1a, 0x15, 0x5e][below(dice, 12)];
                let mut cdb = [0; 16];
                cdb.fill_with(|| if dice.below(3) == 0 { octet(dice) } else { 0 });
                cdb[0] = opcode;
                let length = below(dice, 1200) as u32;
                let writes = dice.below(2) == 0;
                let data = if writes { length as usize } else { 0 };
                (FromInitiator::Command(peer.command(0, &cdb, length, writes)), data)
            }
            5 => {
                let function = [TaskFunction::AbortTask, TaskFunction::LogicalUnitReset][below(dice, 2)];
                let referenced = Tag(peer.itt);
                (FromInitiator::TaskManagement(peer.task_management(function, 0, referenced)), 0)
            }
            6 => {
                let itt = peer.next_itt();
                let (lun, ttt, cmd_sn) = (Lun(0), Tag::NONE, peer.cmd_sn);
                let exp_stat_sn = Serial(0);
                (
                    FromInitiator::NopOut(NopOut { immediate: true, lun, itt, ttt, cmd_sn, exp_stat_sn }),
                    below(dice, 99),
                )
            }
            _ => {
                let ordered = Command { attribute: TaskAttribute::Ordered, ..peer.write(3, 1) };
                (FromInitiator::Command(ordered), 512)
            }
        };
        let content: Vec<u8> = (0..data).map(|_| octet(dice)).collect();
        stream.extend(peer.octets(&pdu, &content));
    }
    stream
}

#[test]
fn valid_sessions_with_octets_changed_do_no_harm() {
    let rig = Rig::new();
    let mut dice = Dice::new(11);
    for round in 0..1500_u32 {
        let mut peer = rig.peer();
        peer.isid = Isid([0, 0, round as u8, (round >> 8) as u8, 0, 0]);
        let digests = dice.below(2) == 0;
        let digest = if digests { "CRC32C" } else { "None" };
        peer.log_in(&[("HeaderDigest", "None"), ("DataDigest", digest), ("MaxBurstLength", "1024")]);
        peer.data_digest = digests;
        let mut stream = valid(&mut peer, &mut dice);
        for _ in 0..below(&mut dice, 6) {
            let at = below(&mut dice, stream.len());
            match dice.below(3) {
                0 => stream[at] = octet(&mut dice),
                1 => drop(stream.drain(at..(at + 1 + below(&mut dice, 60)).min(stream.len()))),
                _ => stream.insert(at, octet(&mut dice)),
            }
            if stream.is_empty() {
                stream.push(0);
            }
        }
        // Lengths of megabytes would swallow what comes after.
        pour(&mut peer, &stream, &mut dice);
    }
    assert_eq!(rig.targets.sessions(), []);
}

#[test]
fn a_peer_that_asks_for_everything_at_once_gets_it_in_bounded_memory() {
    let rig = Rig::new();
    let mut peer = rig.peer();
    peer.log_in(&[("InitialR2T", "Yes"), ("ImmediateData", "No")]);
    peer.clear_attention(0);
    // WRITE AND VERIFY of half a mebibyte, which have to be kept: two fit, the others are told to come again.
    let mut statuses = Vec::new();
    for _ in 0..100 {
        let command = peer.command(0, &ten(0x2e, 0, 1024), 512 << 10, true);
        let seen = peer.run(command, &[]);
        statuses.extend(seen.iter().filter_map(|(pdu, _)| match pdu {
            FromTarget::Response(response) => Some(response.status),
            _ => None,
        }));
    }
    assert_eq!(statuses, vec![0x28; 98], "TASK SET FULL");
    let large = peer.command(0, &ten(0x2e, 0, 4096), 2 << 20, true);
    assert_eq!(sense(&peer.run(large, &[])), (5, 0x24, 0));
}
