//! Task management, over all sessions.

use crate::rig::*;
use iscsi::{pdu::*, target::Why};

/// A write of which no data have come.
fn open_write(peer: &mut Peer) -> (Command, R2t) {
    let write = peer.write(0, 1);
    let seen = peer.run(write, &[]);
    let [(FromTarget::R2t(r2t), _)] = seen[..] else { panic!("{seen:?}") };
    (write, r2t)
}

fn its_data(write: &Command, r2t: &R2t) -> FromInitiator {
    FromInitiator::DataOut(DataOut {
        last: true,
        lun: write.lun,
        itt: write.itt,
        ttt: r2t.ttt,
        exp_stat_sn: Serial(0),
        data_sn: Serial(0),
        offset: 0,
    })
}

fn session(rig: &Rig, number: u8) -> Peer {
    let mut peer = rig.peer();
    peer.isid = Isid([0x80, 0, 0, 0, 0, number]);
    peer.log_in(&[("InitialR2T", "Yes"), ("ImmediateData", "No")]);
    peer.clear_attention(0);
    peer
}

#[test]
fn an_aborted_task_writes_nothing_and_answers_nothing() {
    let rig = Rig::new();
    let mut peer = session(&rig, 1);
    let before = rig.octets(0, 512);
    let (write, r2t) = open_write(&mut peer);
    let abort = peer.task_management(TaskFunction::AbortTask, 0, write.itt);
    assert_eq!(peer.manage(abort), Some(TaskAnswer::Complete));
    peer.send(&its_data(&write, &r2t), &[0xdd; 512]);
    assert_eq!(peer.see(), None);
    assert_eq!(rig.octets(0, 512), before);
    let again = peer.task_management(TaskFunction::AbortTask, 0, write.itt);
    assert_eq!(peer.manage(again), Some(TaskAnswer::TaskDoesNotExist));
    let elsewhere = peer.task_management(TaskFunction::AbortTask, 9, write.itt);
    assert_eq!(peer.manage(elsewhere), Some(TaskAnswer::LunDoesNotExist));
}

/// 11.5.1: "If the Referenced Task Tag does not identify an existing task ... and if the CmdSN indicated by the
/// RefCmdSN field ... is within the valid CmdSN window and does not exist, then the target MUST consider the CmdSN to
/// be received and return the "Function Complete" response".
#[test]
fn a_task_that_never_came_is_considered_received() {
    let rig = Rig::new();
    let mut peer = session(&rig, 1);
    let lost = peer.read(0, 1);
    let after = peer.read(0, 1);
    assert_eq!(peer.run(after, &[]), []);
    let mut abort = peer.task_management(TaskFunction::AbortTask, 0, lost.itt);
    abort.ref_cmd_sn = lost.cmd_sn;
    let request = FromInitiator::TaskManagement(abort);
    peer.send(&request, &[]);
    let seen = peer.see_all();
    assert!(
        seen.iter()
            .any(|(pdu, _)| matches!(pdu, FromTarget::TaskResponse(p) if p.answer == TaskAnswer::Complete))
    );
    assert!(
        seen.iter().any(|(pdu, _)| matches!(pdu, FromTarget::DataIn(p) if p.itt == after.itt)),
        "{seen:?}"
    );
}

#[test]
fn clearing_a_task_set_ends_the_tasks_of_all_sessions_before_it_is_answered() {
    let rig = Rig::new();
    let (mut one, mut other) = (session(&rig, 1), session(&rig, 2));
    let (mine, _) = open_write(&mut one);
    let (theirs, r2t) = open_write(&mut other);
    let before = rig.octets(0, 512);
    let clear = one.task_management(TaskFunction::ClearTaskSet, 0, Tag::NONE);
    // The other session's thread has not looked yet.
    assert_eq!(one.manage(clear), None);
    other.send(&its_data(&theirs, &r2t), &[0xdd; 512]);
    assert_eq!(other.see(), None);
    let answer = one.see_all();
    assert!(
        matches!(answer[..], [(FromTarget::TaskResponse(p), _)] if p.answer == TaskAnswer::Complete),
        "{answer:?}"
    );
    assert_eq!(rig.octets(0, 512), before);
    let read = other.read(0, 1);
    assert_eq!(sense(&other.run(read, &[])), (6, 0x2f, 0), "it is told that its tasks were cleared");
    let read = one.read(0, 1);
    assert_eq!(status(&one.run(read, &[])), 0);
    let tag_is_free = Command { itt: mine.itt, ..one.read(0, 1) };
    assert_eq!(status(&one.run(tag_is_free, &[])), 0);
}

#[test]
fn a_task_set_of_one_session_is_aborted_alone() {
    let rig = Rig::new();
    let (mut one, mut other) = (session(&rig, 1), session(&rig, 2));
    open_write(&mut one);
    let (theirs, r2t) = open_write(&mut other);
    let abort = one.task_management(TaskFunction::AbortTaskSet, 0, Tag::NONE);
    assert_eq!(one.manage(abort), Some(TaskAnswer::Complete));
    other.send(&its_data(&theirs, &r2t), &[0xdd; 512]);
    assert_eq!(status(&other.see_all()), 0);
}

#[test]
fn a_reset_waits_for_jobs_that_are_under_way() {
    let rig = Rig::new();
    let (mut one, mut other) = (session(&rig, 1), session(&rig, 2));
    other.lazy = true;
    let sync = other.command(0, &ten(0x35, 0, 0), 0, false);
    assert_eq!(other.run(sync, &[]), []);
    let reset = one.task_management(TaskFunction::LogicalUnitReset, 0, Tag::NONE);
    assert_eq!(one.manage(reset), None);
    other.pump();
    assert_eq!(one.see(), None, "the job is still under way");
    let job = other.kept.pop_front().unwrap();
    other.work(job);
    let seen = one.see_all();
    assert!(
        matches!(seen[..], [(FromTarget::TaskResponse(p), _)] if p.answer == TaskAnswer::Complete),
        "{seen:?}"
    );
    assert_eq!(other.see(), None, "no status of an aborted task");
    for peer in [&mut one, &mut other] {
        let read = peer.read(0, 1);
        assert_eq!(sense(&peer.run(read, &[])), (6, 0x29, 3));
    }
}

#[test]
fn a_reset_does_not_wait_for_ever() {
    let rig = Rig::new();
    let (mut one, mut other) = (session(&rig, 1), session(&rig, 2));
    other.lazy = true;
    let sync = other.command(0, &ten(0x35, 0, 0), 0, false);
    other.run(sync, &[]);
    let reset = one.task_management(TaskFunction::TargetWarmReset, 0, Tag::NONE);
    assert_eq!(one.manage(reset), None);
    one.now = one.connection.poll_timeout().unwrap();
    one.connection.handle_timeout(one.now);
    let seen = one.see_all();
    assert!(
        matches!(seen[..], [(FromTarget::TaskResponse(p), _)] if p.answer == TaskAnswer::Rejected),
        "{seen:?}"
    );
}

/// 11.5.1: after TARGET COLD RESET "the target MUST terminate all of its TCP connections to all initiators".
#[test]
fn a_cold_reset_ends_all_sessions() {
    let rig = Rig::new();
    let (mut one, mut other) = (session(&rig, 1), session(&rig, 2));
    let reset = one.task_management(TaskFunction::TargetColdReset, 0, Tag::NONE);
    one.send(&FromInitiator::TaskManagement(reset), &[]);
    other.pump();
    let seen = one.see_all();
    assert!(
        matches!(seen[..], [(FromTarget::TaskResponse(p), _)] if p.answer == TaskAnswer::Complete),
        "{seen:?}"
    );
    assert_eq!((one.why(), other.why()), (Some(Why::Reset), Some(Why::Reset)));
    assert_eq!(rig.targets.sessions(), []);
}

#[test]
fn what_belongs_to_higher_recovery_levels_is_not_supported() {
    let rig = Rig::new();
    let mut peer = session(&rig, 1);
    for (function, answer) in [
        (TaskFunction::TaskReassign, TaskAnswer::ReassignmentNotSupported),
        (TaskFunction::ClearAca, TaskAnswer::NotSupported),
    ] {
        let request = peer.task_management(function, 0, Tag(1));
        assert_eq!(peer.manage(request), Some(answer));
    }
}

/// PERSISTENT RESERVE OUT, REGISTER AND IGNORE EXISTING KEY with APTPL: it is kept before it is answered.
#[test]
fn a_reservation_that_is_to_last_is_kept_before_it_is_answered() {
    let rig = Rig::new();
    let mut peer = session(&rig, 1);
    peer.lazy = true;
    let register = peer.command(0, &[0x5f, 6, 0, 0, 0, 0, 0, 0, 24, 0], 24, true);
    let seen = peer.run(register, &[]);
    let [(FromTarget::R2t(r2t), _)] = seen[..] else { panic!("{seen:?}") };
    let mut list = [0; 24];
    list[15] = 1;
    list[20] = 1;
    peer.send(&its_data(&register, &r2t), &list);
    assert_eq!(peer.see(), None);
    let job = peer.kept.pop_front().unwrap();
    assert!(matches!(&job, iscsi::target::Job::Keep { octets, .. } if !octets.is_empty()), "{job:?}");
    peer.work(job);
    assert_eq!(status(&peer.see_all()), 0);
}

fn reserve_out(peer: &mut Peer, action: u8, kind: u8, key: u8, other: u8) -> Vec<Seen> {
    let command = peer.command(0, &[0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0], 24, true);
    let seen = peer.run(command, &[]);
    let [(FromTarget::R2t(r2t), _)] = seen[..] else { panic!("{seen:?}") };
    let mut list = [0; 24];
    (list[7], list[15]) = (key, other);
    peer.send(&its_data(&command, &r2t), &list);
    peer.see_all()
}

/// PREEMPT AND ABORT ends the tasks of whom it preempts, before it is answered.
#[test]
fn who_is_preempted_loses_his_tasks_first() {
    let rig = Rig::new();
    let (mut one, mut other) = (session(&rig, 1), session(&rig, 2));
    assert_eq!(status(&reserve_out(&mut other, 6, 0, 0, 2)), 0);
    assert_eq!(status(&reserve_out(&mut other, 1, 5, 2, 0)), 0);
    assert_eq!(status(&reserve_out(&mut one, 6, 0, 0, 1)), 0);
    let (theirs, r2t) = open_write(&mut other);
    let before = rig.octets(0, 512);
    assert_eq!(reserve_out(&mut one, 5, 5, 1, 2), [], "the other session's thread has not looked yet");
    other.send(&its_data(&theirs, &r2t), &[0xdd; 512]);
    assert_eq!(other.see(), None);
    assert_eq!(rig.octets(0, 512), before);
    assert_eq!(status(&one.see_all()), 0);
}
