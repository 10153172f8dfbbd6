//! Commands and their data.

use crate::rig::*;
use iscsi::pdu::*;
use std::sync::atomic::Ordering;

fn data_out(command: &Command, ttt: Tag, data_sn: u32, offset: u32, last: bool) -> FromInitiator {
    FromInitiator::DataOut(DataOut {
        last,
        lun: command.lun,
        itt: command.itt,
        ttt,
        exp_stat_sn: Serial(0),
        data_sn: Serial(data_sn),
        offset,
    })
}

fn r2ts(seen: &[Seen]) -> Vec<R2t> {
    let r2t = |(pdu, _): &Seen| match pdu {
        FromTarget::R2t(r2t) => Some(*r2t),
        _ => None,
    };
    seen.iter().filter_map(r2t).collect()
}

fn with(rig: &Rig, keys: &[(&str, &str)]) -> Peer {
    let mut peer = rig.peer();
    peer.log_in(keys);
    peer.clear_attention(0);
    peer
}

#[test]
fn what_is_on_the_disk_is_read() {
    let rig = Rig::new();
    let mut peer = rig.session();
    let command = peer.read(7, 3);
    let seen = peer.run(command, &[]);
    assert_eq!(data(&seen), rig.octets(7 * 512, 3 * 512));
    assert_eq!((status(&seen), residual(&seen)), (0, Residual::None));
    // 11.7.3: a status may come with the last data.
    assert_eq!(seen.len(), 1);
}

/// 13.13: no data segment is longer than the other end said it takes; 13.14: a sequence is no longer than
/// MaxBurstLength, and 11.7.1: its last PDU has the F bit. 11.7.5: DataSN counts from zero in each command.
#[test]
fn a_long_read_comes_in_bursts_and_segments() {
    let rig = Rig::new();
    let mut peer = with(&rig, &[("MaxRecvDataSegmentLength", "1024"), ("MaxBurstLength", "2048")]);
    let command = peer.read(0, 11);
    let seen = peer.run(command, &[]);
    assert_eq!(data(&seen), rig.octets(0, 11 * 512));
    let lasts: Vec<(bool, u32, bool)> = seen
        .iter()
        .map(|(pdu, octets)| match pdu {
            FromTarget::DataIn(p) => {
                assert!(octets.len() <= 1024);
                (p.last, p.data_sn.0, p.status.is_some())
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        lasts,
        [
            (false, 0, false),
            (true, 1, false),
            (false, 2, false),
            (true, 3, false),
            (false, 4, false),
            (true, 5, true)
        ]
    );
}

/// 11.4.5.2: the residual count is what is left of the expected length, or what there would have been beyond it.
#[test]
fn a_residual_says_what_is_left() {
    let rig = Rig::new();
    let mut peer = rig.session();
    for (length, count, expected) in [
        (0, 0, Residual::Overflow(1024)),
        (200, 200, Residual::Overflow(824)),
        (512, 512, Residual::Overflow(512)),
        (10_000, 1024, Residual::Underflow(8976)),
    ] {
        let command = Command { length, reads: true, ..peer.read(0, 2) };
        let seen = peer.run(command, &[]);
        assert_eq!((status(&seen), residual(&seen)), (0, expected), "{length}");
        assert_eq!(data(&seen), rig.octets(0, count));
        let command = Command { length, writes: true, ..peer.write(4, 2) };
        let seen = peer.run(command, &vec![0x11; length as usize]);
        assert_eq!(residual(&seen), expected, "{length}");
        if length == 200 {
            assert_eq!((status(&seen), sense(&seen)), (2, (5, 0x0e, 3)), "a part of a block");
        } else {
            assert_eq!(status(&seen), 0, "{length}");
        }
    }
    // No more than the command says is written.
    let before = rig.octets(9 * 512, 512);
    let command = Command { length: 1024, ..peer.write(8, 1) };
    let seen = peer.run(command, &[0x22; 1024]);
    assert_eq!((status(&seen), residual(&seen)), (0, Residual::Underflow(512)));
    assert_eq!(rig.octets(9 * 512, 512), before);
}

#[test]
fn what_is_written_with_the_command_is_on_the_disk() {
    let rig = Rig::new();
    let mut peer = rig.session();
    let command = peer.write(9, 2);
    let seen = peer.run(command, &[0xa5; 1024]);
    assert_eq!((status(&seen), residual(&seen)), (0, Residual::None));
    assert_eq!(rig.octets(9 * 512, 1024), [0xa5; 1024]);
    assert_eq!(rig.disk.flushes.load(Ordering::Relaxed), 0);
    // FUA: it is made to last before the status.
    let mut command = peer.write(9, 1);
    command.cdb[1] = 8;
    assert_eq!(status(&peer.run(command, &[1; 512])), 0);
    assert_eq!(rig.disk.flushes.load(Ordering::Relaxed), 1);
}

/// 13.18: no more R2Ts are open than were agreed on; 11.8.4: none asks for more than MaxBurstLength; 11.8: R2TSN
/// counts from zero.
#[test]
fn data_are_asked_for_in_bursts() {
    let rig = Rig::new();
    let keys = [
        ("InitialR2T", "Yes"),
        ("ImmediateData", "No"),
        ("MaxBurstLength", "1024"),
        ("MaxOutstandingR2T", "2"),
    ];
    let mut peer = with(&rig, &keys);
    let command = peer.write(16, 7);
    let content: Vec<u8> = (0..7 * 512).map(|at| (at % 251) as u8).collect();
    let mut open = r2ts(&peer.run(command, &[]));
    assert_eq!(open.len(), 2);
    let mut next_sn = 0;
    let mut seen = Vec::new();
    while !open.is_empty() {
        let r2t = open.remove(0);
        assert_eq!((r2t.r2t_sn.0, r2t.itt), (next_sn, command.itt));
        assert!(r2t.length <= 1024);
        next_sn += 1;
        let half = r2t.length / 2;
        for (data_sn, offset) in [(0, r2t.offset), (1, r2t.offset + half)] {
            let octets = &content[offset as usize..][..half as usize];
            peer.send(&data_out(&command, r2t.ttt, data_sn, offset, data_sn == 1), octets);
        }
        seen = peer.see_all();
        open.extend(r2ts(&seen));
        assert!(open.len() <= 2);
    }
    assert_eq!((next_sn, status(&seen)), (4, 0));
    assert_eq!(rig.octets(16 * 512, 7 * 512), content);
}

#[test]
fn unasked_data_come_up_to_the_first_burst_and_the_rest_is_asked_for() {
    let rig = Rig::new();
    let mut peer =
        with(&rig, &[("InitialR2T", "No"), ("FirstBurstLength", "1024"), ("MaxBurstLength", "4096")]);
    let command = Command { last: false, ..peer.write(30, 4) };
    let content: Vec<u8> = (0..2048).map(|at| (at % 249) as u8).collect();
    assert_eq!(r2ts(&peer.run(command, &content[..512])), []);
    peer.send(&data_out(&command, Tag::NONE, 0, 512, true), &content[512..1024]);
    let open = r2ts(&peer.see_all());
    assert_eq!((open.len(), open[0].offset, open[0].length), (1, 1024, 1024));
    peer.send(&data_out(&command, open[0].ttt, 0, 1024, true), &content[1024..]);
    assert_eq!(status(&peer.see_all()), 0);
    assert_eq!(rig.octets(30 * 512, 2048), content);
}

#[test]
fn what_comes_after_immediate_data_is_asked_for_while_these_are_on_their_way() {
    let rig = Rig::new();
    let mut peer = with(&rig, &[("MaxBurstLength", "4096")]);
    let command = peer.write(30, 4);
    let content: Vec<u8> = (0..2048).map(|at| (at % 247) as u8).collect();
    let octets = peer.octets(&FromInitiator::Command(command), &content[..1024]);
    let (first, rest) = octets.split_at(octets.len() - 512);
    peer.feed(first);
    let open = r2ts(&peer.see_all());
    assert_eq!((open.len(), open[0].offset, open[0].length), (1, 1024, 1024));
    peer.feed(rest);
    assert_eq!(peer.see_all(), []);
    peer.send(&data_out(&command, open[0].ttt, 0, 1024, true), &content[1024..]);
    assert_eq!(status(&peer.see_all()), 0);
    assert_eq!(rig.octets(30 * 512, 2048), content);
}

/// 11.4.7.2: "Unexpected unsolicited data", "Incorrect amount of data"; 7.8: a DataSN out of its order ends the task.
#[test]
fn data_that_do_not_add_up_end_the_task_once_all_have_come() {
    let rig = Rig::new();
    let keys = [("InitialR2T", "Yes"), ("ImmediateData", "No")];
    let before = rig.octets(0, 1024);
    // Immediate data where none were agreed on.
    let mut peer = with(&rig, &keys);
    let command = peer.write(0, 1);
    assert_eq!(sense(&peer.run(command, &[1; 512])), (11, 0x0c, 0x0c));
    // More to come unasked where that was not agreed on: the answer waits for the end of it.
    let command = Command { last: false, ..peer.write(0, 1) };
    assert_eq!(peer.run(command, &[]), []);
    peer.send(&data_out(&command, Tag::NONE, 0, 0, true), &[1; 512]);
    assert_eq!(sense(&peer.see_all()), (11, 0x0c, 0x0c));
    type Change = fn(&mut DataOut);
    let cases: [(Change, (u8, u8, u8)); 4] = [
        (|data| data.data_sn = Serial(27), (11, 0x47, 5)),
        (|data| data.offset += 4, (11, 0x47, 5)),
        (|data| data.ttt = Tag(data.ttt.0 + 9), (11, 0x47, 5)),
        (|data| data.ttt = Tag::NONE, (11, 0x0c, 0x0c)),
    ];
    for (change, expected) in cases {
        let command = peer.write(0, 2);
        let r2t = r2ts(&peer.run(command, &[]))[0];
        let FromInitiator::DataOut(mut wrong) = data_out(&command, r2t.ttt, 0, 0, false) else { panic!() };
        change(&mut wrong);
        peer.send(&FromInitiator::DataOut(wrong), &[1; 512]);
        assert_eq!(peer.see_all(), []);
        peer.send(&data_out(&command, r2t.ttt, 1, 512, true), &[1; 512]);
        assert_eq!(sense(&peer.see_all()), expected);
    }
    // Too little, too much.
    for (length, last) in [(512, true), (1536, true)] {
        let command = peer.write(0, 2);
        let r2t = r2ts(&peer.run(command, &[]))[0];
        peer.send(&data_out(&command, r2t.ttt, 0, 0, last), &vec![1; length]);
        assert_eq!(sense(&peer.see_all()), (11, 0x0c, 0x0d), "{length}");
        // The first block may have been written.
        rig.disk.octets.lock().unwrap()[..1024].copy_from_slice(&before);
    }
    assert_eq!(rig.octets(0, 1024), before);
    let command = peer.read(0, 1);
    assert_eq!(status(&peer.run(command, &[])), 0, "the session goes on");
}

/// 11.2.1.9 and 12.1 of RFC 3720's heritage: digests over header and data, both ways.
#[test]
fn digests_guard_both_ways() {
    let rig = Rig::new();
    let mut peer = rig.peer();
    peer.log_in(&[("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C"), ("InitialR2T", "Yes")]);
    (peer.header_digest, peer.data_digest) = (true, true);
    peer.clear_attention(0);
    let command = peer.write(3, 1);
    assert_eq!(status(&peer.run(command, &[7; 512])), 0);
    assert_eq!(rig.octets(3 * 512, 512), [7; 512]);
    let command = peer.read(3, 1);
    assert_eq!(data(&peer.run(command, &[])), [7; 512]);
    let inquiry = peer.command(0, &[0x12, 0, 0, 0, 35], 35, false);
    assert_eq!(data(&peer.run(inquiry, &[])).len(), 35, "an odd length is padded");

    // 7.8: "it MUST answer with a Reject PDU with a reason code of Data-Digest-Error and discard the PDU": the command
    // did not come, and comes again with the same number.
    let command = peer.write(3, 1);
    let mut octets = peer.octets(&FromInitiator::Command(command), &[8; 512]);
    octets[100] ^= 1;
    peer.feed(&octets);
    let seen = peer.see_all();
    assert!(
        matches!(seen[0].0, FromTarget::Reject(Reject { reason: RejectReason::DataDigest, .. })),
        "{seen:?}"
    );
    assert_eq!(seen[0].1, octets[..48], "with the header");
    assert_eq!(rig.octets(3 * 512, 512), [7; 512]);
    assert_eq!(status(&peer.run(command, &[8; 512])), 0);
    assert_eq!(rig.octets(3 * 512, 512), [8; 512]);

    // Of a Data-Out the task ends.
    let command = peer.write(3, 1);
    let r2t = r2ts(&peer.run(command, &[]))[0];
    let mut octets = peer.octets(&data_out(&command, r2t.ttt, 0, 0, true), &[9; 512]);
    octets[200] ^= 1;
    peer.feed(&octets);
    let seen = peer.see_all();
    assert!(matches!(seen[0].0, FromTarget::Reject(_)));
    assert_eq!(sense(&seen), (11, 0x47, 5));
    assert_eq!(rig.octets(3 * 512, 512), [8; 512]);

    // 7.9: a header that cannot be trusted ends the session.
    let command = peer.read(0, 1);
    let mut octets = peer.octets(&FromInitiator::Command(command), &[]);
    octets[9] ^= 1;
    peer.feed(&octets);
    assert_eq!(peer.see(), None);
    let expected = iscsi::target::Why::Misbehaved(iscsi::target::Misbehaviour::HeaderDigest);
    assert_eq!(peer.why(), Some(expected));
}

/// Data with a digest are kept until it is checked: then they are let go of, or the connection would stop.
#[test]
fn data_with_digests_do_not_pile_up() {
    let rig = Rig::new();
    let mut peer = rig.peer();
    peer.log_in(&[("DataDigest", "CRC32C")]);
    peer.data_digest = true;
    peer.clear_attention(0);
    for number in 0..200 {
        let command = peer.write(0, 8);
        assert_eq!(status(&peer.run(command, &[7; 4096])), 0);
        assert!(!matches!(peer.connection.want(), iscsi::target::Want::Wait), "it waits after {number}");
    }
}

#[test]
fn a_medium_that_fails_is_said() {
    let rig = Rig::new();
    let mut peer = with(&rig, &[("MaxRecvDataSegmentLength", "512")]);
    rig.disk.broken.store(true, Ordering::Relaxed);
    let command = peer.write(0, 1);
    assert_eq!(sense(&peer.run(command, &[1; 512])), (3, 0x0c, 0));
    for blocks in [1, 3] {
        let command = peer.read(0, blocks);
        let seen = peer.run(command, &[]);
        assert_eq!((status(&seen), sense(&seen)), (2, (3, 0x11, 0)));
    }
    rig.disk.broken.store(false, Ordering::Relaxed);
    let command = peer.read(0, 1);
    let seen = peer.run(command, &[]);
    assert_eq!(status(&seen), 0);
}

#[test]
fn work_with_data_of_its_own_is_done() {
    let rig = Rig::new();
    let keys = [("InitialR2T", "Yes"), ("MaxBurstLength", "512"), ("FirstBurstLength", "512")];
    let mut peer = with(&rig, &keys);
    // WRITE SAME (10), its block with the command.
    let command = peer.command(0, &ten(0x41, 40, 3), 512, true);
    assert_eq!(status(&peer.run(command, &[0x5a; 512])), 0);
    assert_eq!(rig.octets(40 * 512, 1536), [0x5a; 1536]);
    // WRITE AND VERIFY (10), by R2T.
    let command = peer.command(0, &ten(0x2e, 40, 2), 1024, true);
    let r2t = r2ts(&peer.run(command, &[]))[0];
    peer.send(&data_out(&command, r2t.ttt, 0, 0, true), &[1; 512]);
    let r2t = r2ts(&peer.see_all())[0];
    peer.send(&data_out(&command, r2t.ttt, 0, 512, true), &[2; 512]);
    assert_eq!(status(&peer.see_all()), 0);
    assert_eq!(rig.octets(40 * 512, 1024), [[1; 512], [2; 512]].concat());
    // UNMAP, a parameter list.
    let command = peer.command(0, &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], 24, true);
    let list = [0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 40, 0, 0, 0, 1, 0, 0, 0, 0];
    assert_eq!(status(&peer.run(command, &list)), 0);
    assert_eq!(rig.octets(40 * 512, 512), [0; 512]);
    // SYNCHRONIZE CACHE (10).
    let flushes = rig.disk.flushes.load(Ordering::Relaxed);
    let command = peer.command(0, &ten(0x35, 0, 0), 0, false);
    assert_eq!(status(&peer.run(command, &[])), 0);
    assert_eq!(rig.disk.flushes.load(Ordering::Relaxed), flushes + 1);
}

/// 11.2.2: additional header segments are read; what they ask for is none of a disk's.
#[test]
fn longer_commands_and_two_way_ones_are_refused() {
    let rig = Rig::new();
    let mut peer = rig.session();
    for (segment, reads, expected) in [
        (&[0, 17, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..], false, (5, 0x20, 0)),
        (&[0, 5, 2, 0, 0, 0, 2, 0], true, (5, 0x24, 0)),
    ] {
        let command = Command { reads, ..peer.write(0, 0) };
        let mut octets = FromInitiator::Command(command).emit(0).to_vec();
        octets[4] = (segment.len() / 4) as u8;
        octets.extend_from_slice(segment);
        peer.feed(&octets);
        assert_eq!(sense(&peer.see_all()), expected);
    }
}

#[test]
fn where_there_is_no_unit_it_is_said() {
    let rig = Rig::new();
    let mut peer = rig.session();
    let command = peer.command(5, &[0; 6], 0, false);
    assert_eq!(sense(&peer.run(command, &[])), (5, 0x25, 0));
    let inquiry = peer.command(5, &[0x12, 0, 0, 0, 36], 36, false);
    assert_eq!(data(&peer.run(inquiry, &[]))[0], 0x7f);
    let luns = peer.command(5, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16], 16, false);
    assert_eq!(data(&peer.run(luns, &[])), [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn cold_octets_let_others_go_first() {
    let rig = Rig::new();
    let mut peer = rig.session();
    let (cold, warm) = (peer.read(0, 1), peer.read(1, 1));
    for command in [cold, warm] {
        let octets = peer.octets(&FromInitiator::Command(command), &[]);
        assert_eq!(peer.connection.handle_octets(&octets, peer.now), 48);
    }
    let range = peer.connection.peek_read().unwrap();
    assert_eq!((range.offset, range.length), (0, 512));
    peer.connection.set_aside(range.task);
    assert_eq!(peer.connection.peek_read().unwrap().offset, 512);
    let seen = peer.see_all();
    assert!(matches!(seen[..], [(FromTarget::DataIn(p), _)] if p.itt == warm.itt), "{seen:?}");
    peer.connection.handle_ready(range.task);
    let seen = peer.see_all();
    assert!(matches!(seen[..], [(FromTarget::DataIn(p), _)] if p.itt == cold.itt), "{seen:?}");
}
