//! The login phase and who gets through it.

use crate::rig::*;
use iscsi::{
    chap,
    pdu::*,
    target::{Auth, Network, Refusal, Who, Why},
    text::{self, Pair},
};
use sansio::Time;

fn value<'a>(pairs: &'a [Pair], key: &str) -> Option<&'a str> {
    text::value(pairs, key)
}

const NAMES: [(&str, &str); 3] =
    [("InitiatorName", INITIATOR), ("TargetName", TARGET), ("SessionType", "Normal")];

/// 6.3: "The initial Login Request of any connection MUST include the InitiatorName key=value pair", and 13.5: a normal
/// session names its target.
#[test]
fn a_login_without_a_name_is_told_what_is_missing() {
    let rig = Rig::new();
    for (pairs, key) in [(&NAMES[1..], "InitiatorName"), (&NAMES[..1], "TargetName")] {
        let mut peer = rig.peer();
        let request = peer.login_request(Stage::Operational, Some(Stage::FullFeature));
        let (response, _) = peer.login_step(request, pairs);
        assert_eq!(response.status, LoginStatus::MissingParameter);
        assert_eq!(peer.why(), Some(Why::Refused(LoginStatus::MissingParameter, Refusal::Missing(key))));
        assert!(peer.connection.is_over());
    }
}

/// 13.9: "TargetPortalGroupTag ... MUST be returned by the target ... as part of the first Login Response".
/// 11.13: the TSIH is given in the last response.
#[test]
fn both_stages_lead_to_a_session() {
    let rig = Rig::new();
    let mut peer = rig.peer();
    let request = peer.login_request(Stage::Security, Some(Stage::Operational));
    let (response, pairs) =
        peer.login_step(request, &[NAMES.as_slice(), &[("AuthMethod", "CHAP,None")]].concat());
    assert_eq!((response.status, response.transit), (LoginStatus::Success, Some(Stage::Operational)));
    assert_eq!(value(&pairs, "AuthMethod"), Some("None"));
    assert_eq!(value(&pairs, "TargetPortalGroupTag"), Some("1"));
    assert_eq!(response.tsih, Tsih(0));
    let request = peer.login_request(Stage::Operational, Some(Stage::FullFeature));
    let (response, pairs) =
        peer.login_step(request, &[("HeaderDigest", "CRC32C,None"), ("X-nobody.knows", "1")]);
    assert_eq!((response.status, response.transit), (LoginStatus::Success, Some(Stage::FullFeature)));
    assert_eq!(value(&pairs, "HeaderDigest"), Some("CRC32C"));
    assert_eq!(value(&pairs, "X-nobody.knows"), Some("NotUnderstood"));
    assert_eq!(value(&pairs, "MaxRecvDataSegmentLength"), Some("262144"));
    assert_eq!(value(&pairs, "TargetPortalGroupTag"), None, "once is enough");
    assert_ne!(response.tsih, Tsih(0));
    assert_eq!(response.windows.stat_sn, Serial(2));
    assert_eq!(rig.targets.sessions().len(), 1);
}

fn by_chap(rig: &Rig, mutual: bool) {
    let mut access = access(std::slice::from_ref(&rig.unit));
    access.auth = Auth::Chap(chap(mutual));
    rig.targets.set(access);
}

/// The security stage as an initiator that knows these secrets goes through it.
fn prove(peer: &mut Peer, chap: chap::Chap) -> Result<LoginStatus, chap::Refused> {
    let mut initiator = chap::Initiator::new(Some(chap), &chap::Algorithm::ALL, chap::Nonce([9; 33]));
    let mut pairs = initiator.first();
    for step in 0.. {
        let mut said: Vec<(&str, &str)> = if step == 0 { NAMES.to_vec() } else { Vec::new() };
        said.extend(pairs.iter().map(|pair| (pair.key.as_str(), pair.value.as_str())));
        let request = peer.login_request(Stage::Security, Some(Stage::Operational));
        let (response, answers) = peer.login_step(request, &said);
        if response.status != LoginStatus::Success {
            return Ok(response.status);
        }
        let done = initiator.handle(&answers)?;
        if response.transit == Some(Stage::Operational) {
            return Ok(response.status);
        }
        pairs = done.pairs;
    }
    unreachable!("a step more each time");
}

#[test]
fn who_knows_the_secret_gets_in_and_nobody_else() {
    let rig = Rig::new();
    by_chap(&rig, false);
    let mut peer = rig.peer();
    assert_eq!(prove(&mut peer, chap(false)), Ok(LoginStatus::Success));
    let request = peer.login_request(Stage::Operational, Some(Stage::FullFeature));
    assert_eq!(peer.login_step(request, &[]).0.status, LoginStatus::Success);

    let credentials =
        chap::Credentials { user: "node".into(), secret: chap::Secret::new("something else").unwrap() };
    let mut peer = rig.peer();
    let wrong = chap::Chap::new(credentials, None).unwrap();
    assert_eq!(prove(&mut peer, wrong), Ok(LoginStatus::AuthenticationFailure));
    let why = peer.why().unwrap();
    assert!(matches!(&why, Why::Refused(LoginStatus::AuthenticationFailure, Refusal::Unproved(_))));
    assert!(why.to_string().contains("secret"), "{why}");
}

#[test]
fn the_target_proves_itself_where_it_is_asked_to() {
    let rig = Rig::new();
    by_chap(&rig, true);
    assert_eq!(prove(&mut rig.peer(), chap(true)), Ok(LoginStatus::Success));
    by_chap(&rig, false);
    assert_eq!(prove(&mut rig.peer(), chap(true)), Ok(LoginStatus::AuthenticationFailure));
}

/// 6.3.2: a target that asks for security does not let anybody begin after it.
#[test]
fn the_proof_cannot_be_skipped() {
    let rig = Rig::new();
    by_chap(&rig, false);
    let mut peer = rig.peer();
    let request = peer.login_request(Stage::Operational, Some(Stage::FullFeature));
    assert_eq!(peer.login_step(request, &NAMES).0.status, LoginStatus::AuthenticationFailure);
    assert_eq!(peer.why(), Some(Why::Refused(LoginStatus::AuthenticationFailure, Refusal::Skipped)));

    // A transit that is asked for before the proof is given is not granted.
    let mut peer = rig.peer();
    let request = peer.login_request(Stage::Security, Some(Stage::FullFeature));
    let (response, pairs) = peer.login_step(request, &[NAMES.as_slice(), &[("AuthMethod", "CHAP")]].concat());
    assert_eq!((response.status, response.transit), (LoginStatus::Success, None));
    assert_eq!(value(&pairs, "AuthMethod"), Some("CHAP"));
    let request = peer.login_request(Stage::Operational, Some(Stage::FullFeature));
    assert_eq!(peer.login_step(request, &[]).0.status, LoginStatus::AuthenticationFailure);
    let mut peer = rig.peer();
    let request = peer.login_request(Stage::Security, Some(Stage::Operational));
    let none = [NAMES.as_slice(), &[("AuthMethod", "None")]].concat();
    assert_eq!(peer.login_step(request, &none).0.status, LoginStatus::AuthenticationFailure);
}

#[test]
fn a_target_is_there_only_for_whom_it_admits() {
    let rig = Rig::new();
    let mut narrow = access(std::slice::from_ref(&rig.unit));
    narrow.initiators = Who::Named(vec![INITIATOR.to_uppercase().replace("IQN", "iqn")]);
    narrow.networks = vec![Network { address: "10.0.0.0".parse().unwrap(), prefix: 29 }];
    narrow.portals = vec!["0.0.0.0:3260".parse().unwrap()];
    rig.targets.set(narrow.clone());
    rig.peer().log_in(&[]);
    for (from, name) in [("10.0.0.8:1", INITIATOR), ("10.0.0.7:1", "iqn.2026-01.rack:other")] {
        let mut peer = Peer::new(&rig.targets, from, Time::ZERO);
        let request = peer.login_request(Stage::Operational, Some(Stage::FullFeature));
        let (response, _) = peer.login_step(request, &[("InitiatorName", name), ("TargetName", TARGET)]);
        assert_eq!(response.status, LoginStatus::NotFound, "{from} {name}");
        assert!(matches!(peer.why(), Some(Why::Refused(_, Refusal::NotAdmitted(_)))));
        let mut peer = Peer::new(&rig.targets, from, Time::ZERO);
        peer.discover(name);
        assert_eq!(peer.send_targets("All"), []);
    }
    narrow.portals = vec!["10.0.0.2:3260".parse().unwrap()];
    rig.targets.set(narrow);
    let mut peer = rig.peer();
    let request = peer.login_request(Stage::Operational, Some(Stage::FullFeature));
    assert_eq!(peer.login_step(request, &NAMES).0.status, LoginStatus::NotFound, "another portal");
}

#[test]
fn names_are_told_to_whom_they_concern() {
    let rig = Rig::new();
    let mut peer = rig.peer();
    peer.discover(INITIATOR);
    let expected = [Pair::new("TargetName", TARGET), Pair::new("TargetAddress", "10.0.0.1:3260,1")];
    assert_eq!(peer.send_targets("All"), expected);
    assert_eq!(peer.send_targets(TARGET), expected);
    assert_eq!(peer.send_targets("iqn.2026-01.rack:none"), []);
    // Appendix C: an empty value is for operational sessions, "All" for discovery sessions.
    assert_eq!(peer.send_targets(""), [Pair::new("SendTargets", "Reject")]);
    let mut peer = rig.session();
    assert_eq!(peer.send_targets(""), expected);
    assert_eq!(peer.send_targets("All"), [Pair::new("SendTargets", "Reject")]);
    assert_eq!(peer.send_targets("iqn.2026-01.rack:other"), [], "no other than its own");
}

/// 6.2: "the C bit": an answer longer than one PDU goes on in the next.
#[test]
fn many_targets_are_told_in_many_responses() {
    let rig = Rig::new();
    for number in 0..100 {
        let mut another = access(&[]);
        another.name = format!("iqn.2026-01.rack:with-a-long-name-so-that-it-takes-many-{number:03}");
        rig.targets.set(another);
    }
    let mut peer = rig.peer();
    let request = peer.login_request(Stage::Operational, Some(Stage::FullFeature));
    peer.login_step(
        request,
        &[("InitiatorName", INITIATOR), ("SessionType", "Discovery"), ("MaxRecvDataSegmentLength", "512")],
    );
    assert_eq!(peer.send_targets("All").len(), 202);
}

/// 11.12: the request's text may go on in the next, which is answered by an empty response.
#[test]
fn a_login_in_pieces_is_one_login() {
    let rig = Rig::new();
    let mut peer = rig.peer();
    let text = text::emit(&NAMES.map(|(key, value)| Pair::new(key, value)));
    let (one, other) = text.split_at(20);
    let first = Login { more: true, ..peer.login_request(Stage::Operational, None) };
    peer.send(&FromInitiator::Login(first), one);
    let Some((FromTarget::Login(response), data)) = peer.see() else { panic!() };
    assert_eq!((response.transit, response.status, data.len()), (None, LoginStatus::Success, 0));
    let second = peer.login_request(Stage::Operational, Some(Stage::FullFeature));
    peer.send(&FromInitiator::Login(second), other);
    let Some((FromTarget::Login(response), _)) = peer.see() else { panic!() };
    assert_eq!((response.transit, response.status), (Some(Stage::FullFeature), LoginStatus::Success));
}

#[test]
fn what_no_login_may_be_is_refused_and_named() {
    let rig = Rig::new();
    type Change = fn(&mut Login);
    let cases: [(Change, LoginStatus); 5] = [
        (|login| login.version_min = 1, LoginStatus::UnsupportedVersion),
        (|login| login.tsih = Tsih(77), LoginStatus::SessionDoesNotExist),
        (|login| login.transit = Some(Stage::Security), LoginStatus::InitiatorError),
        (|login| login.stage = Stage::FullFeature, LoginStatus::InitiatorError),
        (|login| login.more = true, LoginStatus::InitiatorError),
    ];
    for (number, (change, status)) in cases.into_iter().enumerate() {
        let mut peer = rig.peer();
        let mut request = peer.login_request(Stage::Operational, Some(Stage::FullFeature));
        change(&mut request);
        assert_eq!(peer.login_step(request, &NAMES).0.status, status, "{number}");
        assert!(peer.connection.is_over());
        assert_eq!(
            peer.connection.handle_octets(&[0; 100], peer.now),
            100,
            "what comes after is passed over"
        );
    }
    let mut peer = rig.peer();
    let nop = NopOut {
        immediate: true,
        lun: Lun(0),
        itt: Tag(1),
        ttt: Tag::NONE,
        cmd_sn: Serial(0),
        exp_stat_sn: Serial(0),
    };
    peer.send(&FromInitiator::NopOut(nop), &[]);
    let Some((FromTarget::Login(response), _)) = peer.see() else { panic!() };
    assert_eq!(response.status, LoginStatus::InvalidDuringLogin);
    assert_eq!(peer.why(), Some(Why::Refused(LoginStatus::InvalidDuringLogin, Refusal::Opcode(0))));
}

#[test]
fn a_session_has_one_connection() {
    let rig = Rig::new();
    let mut peer = rig.peer();
    let (response, _) = peer.log_in(&[("MaxConnections", "8")]);
    let mut other = rig.peer();
    let mut request = other.login_request(Stage::Operational, Some(Stage::FullFeature));
    request.tsih = response.tsih;
    request.cid = 1;
    assert_eq!(other.login_step(request, &NAMES).0.status, LoginStatus::TooManyConnections);
    assert_eq!(peer.why(), None);
}

#[test]
fn who_does_not_log_in_is_cut_off() {
    let rig = Rig::new();
    let mut peer = rig.peer();
    let deadline = peer.connection.poll_timeout().unwrap();
    assert_eq!(deadline, Time::from_secs(15));
    peer.feed(&[0x43; 20]);
    peer.connection.handle_timeout(Time::from_secs(14));
    assert_eq!(peer.why(), None);
    peer.connection.handle_timeout(deadline);
    assert_eq!(peer.why(), Some(Why::LoginTimeout));
    assert!(peer.connection.is_over());
}

#[test]
fn one_connection_too_many_is_told_so() {
    let rig = Rig::new();
    let held: Vec<Peer> = (0..100).map(|_| rig.peer()).collect();
    let mut late = rig.peer();
    let request = late.login_request(Stage::Operational, Some(Stage::FullFeature));
    assert_eq!(late.login_step(request, &NAMES).0.status, LoginStatus::OutOfResources);
    drop((held, late));
    rig.session();
}

#[test]
fn an_octet_at_a_time_is_a_login_too() {
    let rig = Rig::new();
    let mut peer = rig.peer();
    let request = peer.login_request(Stage::Operational, Some(Stage::FullFeature));
    let text = text::emit(&NAMES.map(|(key, value)| Pair::new(key, value)));
    for octet in peer.octets(&FromInitiator::Login(request), &text) {
        peer.feed(&[octet]);
    }
    let Some((FromTarget::Login(response), _)) = peer.see() else { panic!() };
    assert_eq!(response.status, LoginStatus::Success);
}
