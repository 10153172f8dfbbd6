//! Numbers, order, pings, text, logout, rejects.

use crate::rig::*;
use iscsi::{
    pdu::*,
    target::{MOST_TASKS, Misbehaviour, Why},
};
use sansio::Time;
use std::time::Duration;

/// 4.2.2.1: "the target MUST silently ignore any non-immediate command outside of this range or non-immediate
/// duplicates within the range."
#[test]
fn commands_outside_the_window_are_passed_over() {
    let rig = Rig::new();
    let mut peer = rig.session();
    let before = peer.cmd_sn;
    for cmd_sn in [before.plus(MOST_TASKS), before.plus(u32::MAX), before.plus(1 << 31)] {
        let command = Command { cmd_sn, ..peer.read(0, 1) };
        assert_eq!(peer.run(command, &[]), []);
        let command = Command { cmd_sn, ..peer.write(0, 1) };
        assert_eq!(peer.run(command, &[0xee; 512]), []);
    }
    peer.cmd_sn = before;
    let command = peer.read(0, 1);
    let seen = peer.run(command, &[]);
    assert_eq!(data(&seen), rig.octets(0, 512));
    let (FromTarget::DataIn(pdu), _) = &seen[0] else { panic!() };
    assert_eq!(pdu.windows.exp_cmd_sn, before.plus(1));
    assert_eq!(pdu.windows.max_cmd_sn, before.plus(MOST_TASKS));
}

/// 4.2.2.1: commands are delivered in the order of CmdSN.
#[test]
fn commands_that_come_early_wait_for_their_turn() {
    let rig = Rig::new();
    let mut peer = rig.session();
    let (first, second, third) = (peer.write(0, 1), peer.write(0, 1), peer.read(0, 1));
    let third = Command { attribute: TaskAttribute::Ordered, ..third };
    assert_eq!(peer.run(third, &[]), []);
    assert_eq!(peer.run(second, &[2; 512]), []);
    assert_eq!(peer.run(second, &[3; 512]), [], "a duplicate");
    let seen = peer.run(first, &[1; 512]);
    let done: Vec<Tag> = seen
        .iter()
        .map(|(pdu, _)| match pdu {
            FromTarget::Response(p) => p.itt,
            FromTarget::DataIn(p) => p.itt,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(done, [first.itt, second.itt, third.itt]);
    assert_eq!(data(&seen), [2; 512]);
}

#[test]
fn no_more_commands_than_the_window_are_taken_and_it_opens_again() {
    let rig = Rig::new();
    let mut peer = rig.peer();
    peer.log_in(&[("InitialR2T", "Yes"), ("ImmediateData", "No")]);
    peer.clear_attention(0);
    let writes: Vec<Command> = (0..MOST_TASKS).map(|block| peer.write(block, 1)).collect();
    let mut r2ts = Vec::new();
    for write in &writes {
        let seen = peer.run(*write, &[]);
        let [(FromTarget::R2t(r2t), _)] = seen[..] else { panic!("{seen:?}") };
        r2ts.push(r2t);
    }
    let shut = r2ts.last().unwrap().windows;
    assert_eq!(shut.max_cmd_sn.plus(1), shut.exp_cmd_sn, "the window is shut");
    let late = peer.read(0, 1);
    assert_eq!(peer.run(late, &[]), []);
    for (write, r2t) in writes.iter().zip(r2ts) {
        let data = DataOut {
            last: true,
            lun: write.lun,
            itt: write.itt,
            ttt: r2t.ttt,
            exp_stat_sn: Serial(0),
            data_sn: Serial(0),
            offset: 0,
        };
        peer.send(&FromInitiator::DataOut(data), &[0x77; 512]);
        assert_eq!(status(&peer.see_all()), 0);
    }
    assert_eq!(data(&peer.run(late, &[])), [0x77; 512]);
}

#[test]
fn statuses_are_numbered_one_by_one_and_pings_of_ours_are_not() {
    let rig = Rig::new();
    let mut peer = rig.session();
    let numbers = |seen: Vec<Seen>| -> Vec<u32> {
        let number = |(pdu, _): &Seen| match pdu {
            FromTarget::DataIn(p) => p.windows.stat_sn.0,
            FromTarget::NopIn(p) => p.windows.stat_sn.0,
            FromTarget::Response(p) => p.windows.stat_sn.0,
            other => panic!("{other:?}"),
        };
        seen.iter().map(number).collect()
    };
    let one = peer.read(0, 1);
    let first = numbers(peer.run(one, &[]))[0];
    peer.now = peer.now + Duration::from_secs(20);
    peer.connection.handle_timeout(peer.now);
    assert_eq!(numbers(peer.see_all()), [first + 1], "the next one's, which is not used up");
    let other = peer.read(9, 1);
    assert_eq!(numbers(peer.run(other, &[])), [first + 1]);
}

/// 11.2.1.8: a task tag names one task; 11.17.1: "Task in progress", "Immediate command reject".
#[test]
fn a_tag_in_use_and_too_many_immediate_commands_are_rejected() {
    let rig = Rig::new();
    let mut peer = rig.peer();
    peer.log_in(&[("InitialR2T", "Yes"), ("ImmediateData", "No")]);
    peer.clear_attention(0);
    let write = peer.write(0, 1);
    peer.run(write, &[]);
    let again = Command { itt: write.itt, ..peer.read(0, 1) };
    let reason = |seen: &[Seen]| match seen {
        [(FromTarget::Reject(reject), _)] => reject.reason,
        other => panic!("{other:?}"),
    };
    let seen = peer.run(again, &[]);
    assert_eq!(reason(&seen), RejectReason::TaskInProgress);
    assert_eq!(seen[0].1, FromInitiator::Command(again).emit(0));
    for _ in 0..8 {
        let write = peer.write(0, 1);
        peer.cmd_sn = write.cmd_sn;
        let seen = peer.run(Command { immediate: true, ..write }, &[]);
        assert!(matches!(seen[..], [(FromTarget::R2t(_), _)]), "{seen:?}");
    }
    let write = peer.write(0, 1);
    peer.cmd_sn = write.cmd_sn;
    assert_eq!(reason(&peer.run(Command { immediate: true, ..write }, &[])), RejectReason::ImmediateCommand);
    let read = peer.read(0, 1);
    assert_eq!(status(&peer.run(read, &[])), 0);
}

#[test]
fn ordered_tasks_wait_and_are_waited_for() {
    let rig = Rig::new();
    let mut peer = rig.peer();
    peer.log_in(&[("InitialR2T", "Yes")]);
    peer.clear_attention(0);
    let slow = peer.write(0, 1);
    let seen = peer.run(slow, &[]);
    let [(FromTarget::R2t(r2t), _)] = seen[..] else { panic!("{seen:?}") };
    let ordered = Command { attribute: TaskAttribute::Ordered, ..peer.write(0, 1) };
    assert_eq!(peer.run(ordered, &[2; 512]), []);
    let after = peer.read(0, 1);
    assert_eq!(peer.run(after, &[]), []);
    let first = Command { attribute: TaskAttribute::HeadOfQueue, ..peer.read(1, 1) };
    assert_eq!(status(&peer.run(first, &[])), 0);
    assert_ne!(rig.octets(0, 512), [2; 512]);
    let data_out = DataOut {
        last: true,
        lun: slow.lun,
        itt: slow.itt,
        ttt: r2t.ttt,
        exp_stat_sn: Serial(0),
        data_sn: Serial(0),
        offset: 0,
    };
    peer.send(&FromInitiator::DataOut(data_out), &[1; 512]);
    let seen = peer.see_all();
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert_eq!(data(&seen), [2; 512], "what the ordered one wrote");
}

fn nop(peer: &mut Peer, itt: Tag, ttt: Tag) -> FromInitiator {
    let cmd_sn = peer.cmd_sn;
    FromInitiator::NopOut(NopOut { immediate: true, lun: Lun(0), itt, ttt, cmd_sn, exp_stat_sn: Serial(0) })
}

/// 11.18: "ping data" come back, no more of them than the initiator takes.
#[test]
fn a_ping_is_answered_with_its_data() {
    let rig = Rig::new();
    let mut peer = rig.peer();
    peer.log_in(&[("MaxRecvDataSegmentLength", "512")]);
    let ping = nop(&mut peer, Tag(9), Tag::NONE);
    for length in [0, 5, 600] {
        peer.send(&ping, &vec![0x33; length]);
        let seen = peer.see_all();
        let [(FromTarget::NopIn(answer), data)] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!((answer.itt, answer.ttt, data.len()), (Tag(9), Tag::NONE, length.min(512)));
    }
    let quiet = nop(&mut peer, Tag::NONE, Tag::NONE);
    peer.send(&quiet, &[]);
    assert_eq!(peer.see(), None);
}

#[test]
fn who_is_silent_is_asked_and_then_dropped() {
    let rig = Rig::new();
    let mut peer = rig.session();
    for _ in 0..3 {
        peer.now = peer.connection.poll_timeout().unwrap();
        peer.connection.handle_timeout(peer.now);
        let Some((FromTarget::NopIn(ping), _)) = peer.see() else { panic!() };
        assert_eq!(ping.itt, Tag::NONE);
        assert_ne!(ping.ttt, Tag::NONE);
        let answer = nop(&mut peer, Tag::NONE, ping.ttt);
        peer.send(&answer, &[]);
        assert_eq!(peer.see(), None);
    }
    peer.now = peer.connection.poll_timeout().unwrap();
    peer.connection.handle_timeout(peer.now);
    assert!(matches!(peer.see(), Some((FromTarget::NopIn(_), _))));
    peer.now = peer.connection.poll_timeout().unwrap();
    peer.connection.handle_timeout(peer.now);
    assert_eq!(peer.why(), Some(Why::Silent));
    assert_eq!(peer.connection.poll_timeout(), None);
}

#[test]
fn logging_out_ends_the_session() {
    let rig = Rig::new();
    for (reason, cid, answer, over) in [
        (LogoutReason::CloseSession, 0, LogoutAnswer::Closed, true),
        (LogoutReason::CloseConnection, 0, LogoutAnswer::Closed, true),
        (LogoutReason::CloseConnection, 3, LogoutAnswer::CidNotFound, false),
        (LogoutReason::RemoveForRecovery, 0, LogoutAnswer::RecoveryNotSupported, false),
    ] {
        let mut peer = rig.session();
        let cmd_sn = peer.cmd_sn;
        let logout = Logout { immediate: true, reason, itt: Tag(3), cid, cmd_sn, exp_stat_sn: Serial(0) };
        peer.send(&FromInitiator::Logout(logout), &[]);
        let Some((FromTarget::Logout(response), _)) = peer.see() else { panic!() };
        assert_eq!((response.answer, response.itt), (answer, Tag(3)));
        assert_eq!(peer.connection.is_over(), over);
        assert_eq!(rig.targets.sessions().len(), usize::from(!over));
        if over {
            assert_eq!(peer.why(), Some(Why::LoggedOut));
        }
    }
}

/// 11.17: what cannot be answered is rejected, with its header; error recovery is not there at level 0.
#[test]
fn what_has_no_place_is_rejected() {
    let rig = Rig::new();
    let mut peer = rig.session();
    let snack = Snack {
        kind: 1,
        lun: Lun(0),
        itt: Tag::NONE,
        ttt: Tag::NONE,
        exp_stat_sn: Serial(0),
        begin: Serial(0),
        run: 0,
    };
    let login = FromInitiator::Login(peer.login_request(Stage::Operational, None)).emit(0);
    let mut unknown = [0; HEADER];
    unknown[0] = 0x1d;
    for (header, reason) in [
        (FromInitiator::Snack(snack).emit(0), RejectReason::Snack),
        (login, RejectReason::Protocol),
        (unknown, RejectReason::NotSupported),
    ] {
        peer.feed(&header);
        let seen = peer.see_all();
        let [(FromTarget::Reject(reject), data)] = &seen[..] else { panic!("{seen:?}") };
        assert_eq!((reject.reason, data.as_slice()), (reason, header.as_slice()));
    }
    for _ in 0..100 {
        peer.feed(&unknown);
    }
    assert!(matches!(peer.why(), Some(Why::Misbehaved(Misbehaviour::Header(_)))));
}

#[test]
fn a_segment_longer_than_was_agreed_on_ends_the_session() {
    let rig = Rig::new();
    let mut peer = rig.session();
    let ping = nop(&mut peer, Tag(9), Tag::NONE);
    peer.feed(&ping.emit(262_145));
    assert_eq!(peer.why(), Some(Why::Misbehaved(Misbehaviour::TooLong(262_145, 262_144))));
    assert_eq!(peer.now, Time::ZERO);
}

/// 7.7: "When a target or an initiator receives an iSCSI PDU with a format error, it MUST immediately terminate all
/// transport connections in the session".
#[test]
fn a_header_that_breaks_the_layout_ends_the_session() {
    let rig = Rig::new();
    let mut peer = rig.session();
    let mut header = FromInitiator::Command(peer.read(0, 1)).emit(0);
    header[1] |= 7;
    peer.feed(&header);
    assert_eq!(peer.why(), Some(Why::Misbehaved(Misbehaviour::Header(Malformed::Field(1)))));
    let mut peer = rig.session();
    let mut header = FromInitiator::Command(peer.read(0, 1)).emit(0).to_vec();
    header[4] = 1;
    header.extend([0xff; 4]);
    peer.feed(&header);
    assert_eq!(peer.why(), Some(Why::Misbehaved(Misbehaviour::Header(Malformed::Additional))));
}
