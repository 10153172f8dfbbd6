//! Sessions beside each other and after each other; targets that come and go.

use crate::rig::*;
use iscsi::{
    pdu::*,
    target::{Auth, Misbehaviour, Why},
};
use std::sync::atomic::Ordering;

/// 6.3.5: a login with the ISID of an existing session closes that one; its tasks are gone before the new one begins.
#[test]
fn a_new_login_takes_the_place_of_the_old_session() {
    let rig = Rig::new();
    let mut old = rig.session();
    old.lazy = true;
    let sync = old.command(0, &ten(0x35, 0, 0), 0, false);
    old.run(sync, &[]);
    let mut new = rig.peer();
    let request = new.login_request(Stage::Operational, Some(Stage::FullFeature));
    let names = b"InitiatorName=iqn.2026-01.rack:node\0TargetName=iqn.2026-01.rack:disk\0";
    new.send(&FromInitiator::Login(request), names);
    assert!(old.bell.cut.load(Ordering::Relaxed));
    assert_eq!(new.see(), None);
    old.pump();
    assert_eq!(old.why(), Some(Why::Reinstated));
    assert_eq!(new.see(), None, "a job of the old session is still under way");
    let job = old.kept.pop_front().unwrap();
    old.work(job);
    let Some((FromTarget::Login(response), _)) = new.see() else { panic!() };
    assert_eq!(response.status, LoginStatus::Success);
    let sessions = rig.targets.sessions();
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0].connection, new.id());
}

#[test]
fn the_old_session_may_simply_be_dropped() {
    let rig = Rig::new();
    let old = rig.session();
    let mut new = rig.peer();
    let request = new.login_request(Stage::Operational, Some(Stage::FullFeature));
    let names = b"InitiatorName=iqn.2026-01.rack:node\0TargetName=iqn.2026-01.rack:disk\0";
    new.send(&FromInitiator::Login(request), names);
    assert_eq!(new.see(), None);
    drop(old);
    let Some((FromTarget::Login(response), _)) = new.see() else { panic!() };
    assert_eq!(response.status, LoginStatus::Success);
}

#[test]
fn other_isids_are_other_sessions() {
    let rig = Rig::new();
    let mut peers: Vec<Peer> = (0..70)
        .map(|number| {
            let mut peer = rig.peer();
            peer.isid = Isid([0x80, 0, 0, 0, 0, number]);
            peer.log_in(&[]);
            peer.clear_attention(0);
            peer
        })
        .collect();
    for peer in &mut peers {
        let read = peer.read(0, 1);
        assert_eq!(status(&peer.run(read, &[])), 0);
    }
    assert_eq!(rig.targets.sessions().len(), 70);
    drop(peers);
    assert_eq!(rig.targets.sessions(), []);
}

#[test]
fn nothing_of_a_removed_target_lands_any_more() {
    let rig = Rig::new();
    let mut peer = rig.peer();
    peer.log_in(&[("InitialR2T", "Yes"), ("ImmediateData", "No")]);
    peer.clear_attention(0);
    let write = peer.write(0, 1);
    let seen = peer.run(write, &[]);
    let [(FromTarget::R2t(r2t), _)] = seen[..] else { panic!("{seen:?}") };
    let before = rig.octets(0, 512);
    assert_eq!(rig.targets.remove(TARGET), [peer.id()]);
    assert!(peer.bell.cut.load(Ordering::Relaxed));
    let data = DataOut {
        last: true,
        lun: write.lun,
        itt: write.itt,
        ttt: r2t.ttt,
        exp_stat_sn: Serial(0),
        data_sn: Serial(0),
        offset: 0,
    };
    peer.send(&FromInitiator::DataOut(data), &[0xbb; 512]);
    assert_eq!(peer.why(), Some(Why::Removed));
    assert_eq!(rig.octets(0, 512), before);
    let mut late = rig.peer();
    let request = late.login_request(Stage::Operational, Some(Stage::FullFeature));
    let (response, _) = late.login_step(request, &[("InitiatorName", INITIATOR), ("TargetName", TARGET)]);
    assert_eq!(response.status, LoginStatus::NotFound);
}

#[test]
fn a_change_ends_only_the_sessions_it_takes_something_from() {
    let rig = Rig::new();
    let mut peer = rig.session();
    // Nothing is taken away: it stays, and is told of what is new.
    let more = unit(&disk());
    let both = access(&[rig.unit.clone(), more.clone()]);
    assert_eq!(rig.targets.set(both.clone()), []);
    peer.pump();
    let read = peer.read(0, 1);
    assert_eq!(sense(&peer.run(read, &[])), (6, 0x3f, 0x0e), "REPORTED LUNS DATA HAS CHANGED");
    let luns = peer.command(0, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64], 64, false);
    assert_eq!(data(&peer.run(luns, &[])).len(), 24);
    peer.clear_attention(1);
    let read = peer.command(1, &ten(0x28, 0, 1), 512, false);
    assert_eq!(status(&peer.run(read, &[])), 0);
    // The secret changes, a unit goes, another takes its number: each ends it.
    let mut secret = both.clone();
    secret.auth = Auth::Chap(chap(false));
    let swapped = access(&[more.clone(), rig.unit.clone()]);
    for change in [access(std::slice::from_ref(&rig.unit)), swapped, secret] {
        rig.targets.set(both.clone());
        let mut peer = rig.peer();
        peer.isid = Isid([9; 6]);
        peer.log_in(&[]);
        let ended = rig.targets.set(change);
        assert!(ended.contains(&peer.id()));
        assert_eq!(peer.why(), Some(Why::Removed));
    }
}

#[test]
fn a_target_that_changes_during_a_login_is_not_logged_in_to() {
    let rig = Rig::new();
    let mut peer = rig.peer();
    let request = peer.login_request(Stage::Security, Some(Stage::Operational));
    let names = [("InitiatorName", INITIATOR), ("TargetName", TARGET), ("AuthMethod", "None")];
    assert_eq!(peer.login_step(request, &names).0.status, LoginStatus::Success);
    let mut secret = access(std::slice::from_ref(&rig.unit));
    secret.auth = Auth::Chap(chap(false));
    rig.targets.set(secret);
    let request = peer.login_request(Stage::Operational, Some(Stage::FullFeature));
    assert_eq!(peer.login_step(request, &[]).0.status, LoginStatus::TargetRemoved);
}

/// 11.9.1: an asynchronous message asks the initiator to log out.
#[test]
fn when_we_stop_all_are_asked_to_log_out() {
    let rig = Rig::new();
    let (mut polite, mut stays, mut early) = (rig.session(), rig.peer(), rig.peer());
    stays.isid = Isid([3; 6]);
    stays.log_in(&[]);
    rig.targets.shut_down();
    for peer in [&mut polite, &mut stays] {
        let Some((FromTarget::Async(message), _)) = peer.see() else { panic!() };
        assert_eq!(message.event, AsyncEvent::LogoutRequest(10));
    }
    assert_eq!(early.why(), Some(Why::ShutDown));
    let logout = Logout {
        immediate: true,
        reason: LogoutReason::CloseSession,
        itt: Tag(99),
        cid: 0,
        cmd_sn: polite.cmd_sn,
        exp_stat_sn: Serial(0),
    };
    polite.send(&FromInitiator::Logout(logout), &[]);
    assert_eq!(polite.why(), Some(Why::LoggedOut));
    stays.now = stays.connection.poll_timeout().unwrap();
    stays.connection.handle_timeout(stays.now);
    assert_eq!(stays.why(), Some(Why::ShutDown));
    let mut late = rig.peer();
    let request = late.login_request(Stage::Operational, Some(Stage::FullFeature));
    let (response, _) = late.login_step(request, &[("InitiatorName", INITIATOR), ("TargetName", TARGET)]);
    assert_eq!(response.status, LoginStatus::ServiceUnavailable);
}

#[test]
fn a_session_of_discovery_has_no_units() {
    let rig = Rig::new();
    let mut peer = rig.peer();
    peer.discover(INITIATOR);
    let read = peer.read(0, 1);
    let seen = peer.run(read, &[]);
    assert!(
        matches!(seen[..], [(FromTarget::Reject(Reject { reason: RejectReason::NotSupported, .. }), _)]),
        "{seen:?}"
    );
}

#[test]
fn who_asks_and_does_not_read_is_cut_off() {
    let rig = Rig::new();
    let mut peer = rig.session();
    let ping = NopOut {
        immediate: true,
        lun: Lun(0),
        itt: Tag(5),
        ttt: Tag::NONE,
        cmd_sn: peer.cmd_sn,
        exp_stat_sn: Serial(0),
    };
    let octets = FromInitiator::NopOut(ping).emit(0).repeat(5000);
    // A driver that receives all the time and never sends.
    let mut used = 0;
    while used < octets.len() {
        let some = peer.connection.handle_octets(&octets[used..], peer.now);
        assert!(some > 0);
        used += some;
    }
    assert_eq!(peer.why(), Some(Why::Misbehaved(Misbehaviour::Unread)));
}
