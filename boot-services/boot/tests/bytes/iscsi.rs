use crate::{attempt, device, digest, peer, pinned};
use boot::{
    Backing, Iqn, IscsiChap, IscsiFact, IscsiLun, IscsiPlan, IscsiSession, IscsiTarget, Push, PushState,
    Secret, VolumePlan, VolumeSource, VolumeState, VolumeWish,
};
use std::net::SocketAddr;

fn target() -> Iqn {
    "iqn.2026-01.example:n1".parse().unwrap()
}

fn initiator() -> Iqn {
    "iqn.2026-01.example:host1".parse().unwrap()
}

fn portal() -> SocketAddr {
    "10.7.0.1:3260".parse().unwrap()
}

fn chap(target_secret: Option<&str>) -> IscsiChap {
    IscsiChap {
        user: "n1".into(),
        secret: Secret::new("0123456789ab"),
        target_user: "kiln".into(),
        target_secret: target_secret.map(Secret::new),
    }
}

const CHAP: &str =
    r#"{"user":"n1","secret":"0123456789ab","target_user":"kiln","target_secret":"ba9876543210"}"#;
const ONE_WAY: &str = r#"{"user":"n1","secret":"0123456789ab","target_user":"kiln","target_secret":null}"#;

#[test]
fn an_empty_plan_is_pinned() {
    pinned(
        &IscsiPlan::default(),
        r#"{"listen":[],"images":null,"directory":null,"volumes":[],"targets":[],"pushes":[]}"#,
    );
}

#[test]
fn a_plan_is_pinned() {
    let plan = IscsiPlan {
        listen: vec![(portal(), Some(device()))],
        images: Some("/data/images".into()),
        directory: Some("/data/volumes".into()),
        volumes: vec![VolumePlan { id: "v1".parse().unwrap(), wish: VolumeWish::Gone }],
        targets: vec![IscsiTarget {
            name: target(),
            initiator: initiator(),
            portals: vec![portal()],
            from: vec!["10.22.0.0/24".parse().unwrap()],
            chap: chap(Some("ba9876543210")),
            luns: vec![
                IscsiLun { lun: 0, backing: Backing::Volume("v1".parse().unwrap()), read_only: false },
                IscsiLun { lun: 1, backing: Backing::File("/data/drive".into()), read_only: true },
            ],
        }],
        pushes: vec![Push {
            attempt: attempt(),
            portal: "10.7.0.9:3260".parse().unwrap(),
            device: Some(device()),
            target: target(),
            initiator: initiator(),
            chap: chap(None),
            lun: 0,
            image: digest(0xab),
        }],
    };
    pinned(
        &plan,
        &[
            r#"{"listen":[["10.7.0.1:3260","eth0.100"]],"images":"/data/images","directory":"/data/volumes","#,
            r#""volumes":[{"id":"v1","wish":"gone"}],"targets":[{"name":"iqn.2026-01.example:n1","#,
            r#""initiator":"iqn.2026-01.example:host1","portals":["10.7.0.1:3260"],"from":["10.22.0.0/24"],"chap":"#,
            CHAP,
            r#","luns":[{"lun":0,"backing":{"volume":"v1"},"read_only":false},"#,
            r#"{"lun":1,"backing":{"file":"/data/drive"},"read_only":true}]}],"#,
            r#""pushes":[{"attempt":"n1-4-2","portal":"10.7.0.9:3260","device":"eth0.100","#,
            r#""target":"iqn.2026-01.example:n1","initiator":"iqn.2026-01.example:host1","chap":"#,
            ONE_WAY,
            r#","lun":0,"image":""#,
            &"ab".repeat(32),
            r#""}]}"#,
        ]
        .concat(),
    );
}

#[test]
fn what_a_volume_is_made_from_is_pinned() {
    let kept = |source| VolumeWish::Kept { source, size: 1 << 30, flat: true };
    let ab = "ab".repeat(32);
    let table = [
        (None, "null".to_owned()),
        (Some(VolumeSource::Blank), r#""blank""#.to_owned()),
        (Some(VolumeSource::Image(digest(0xab))), format!(r#"{{"image":"{ab}"}}"#)),
        (Some(VolumeSource::Volume("v1".parse().unwrap())), r#"{"volume":"v1"}"#.to_owned()),
    ];
    for (source, bytes) in table {
        pinned(&kept(source), &format!(r#"{{"kept":{{"source":{bytes},"size":1073741824,"flat":true}}}}"#));
    }
}

#[test]
fn the_facts_of_volumes_are_pinned() {
    let fact = |state, exported| IscsiFact::Volume { id: "v1".parse().unwrap(), state, exported };
    pinned(
        &fact(VolumeState::Ready { allocated: 1, flat: false }, Some((target(), 0))),
        r#"{"volume":{"id":"v1","state":{"ready":{"allocated":1,"flat":false}},"exported":["iqn.2026-01.example:n1",0]}}"#,
    );
    pinned(&fact(VolumeState::Gone, None), r#"{"volume":{"id":"v1","state":"gone","exported":null}}"#);
    pinned(
        &fact(VolumeState::Failed { why: "why".into() }, None),
        r#"{"volume":{"id":"v1","state":{"failed":{"why":"why"}},"exported":null}}"#,
    );
}

#[test]
fn the_facts_of_targets_and_their_initiators_are_pinned() {
    let session = IscsiSession { initiator: initiator(), peer: peer(), portal: portal() };
    pinned(
        &IscsiFact::Target { name: target(), sessions: vec![session], trouble: Some("why".into()) },
        concat!(
            r#"{"target":{"name":"iqn.2026-01.example:n1","sessions":[{"initiator":"iqn.2026-01.example:host1","#,
            r#""peer":"10.7.0.9:40000","portal":"10.7.0.1:3260"}],"trouble":"why"}}"#
        ),
    );
    pinned(
        &IscsiFact::Refused {
            peer: peer(),
            initiator: Some("iqn.x".into()),
            target: None,
            why: "wrong secret".into(),
        },
        r#"{"refused":{"peer":"10.7.0.9:40000","initiator":"iqn.x","target":null,"why":"wrong secret"}}"#,
    );
    pinned(
        &IscsiFact::Listen { address: portal(), trouble: None },
        r#"{"listen":{"address":"10.7.0.1:3260","trouble":null}}"#,
    );
}

#[test]
fn the_facts_of_pushes_are_pinned() {
    let table = [
        (PushState::Connecting { last: None }, r#"{"connecting":{"last":null}}"#),
        (PushState::Writing { done: 1, total: 2 }, r#"{"writing":{"done":1,"total":2}}"#),
        (PushState::ReadingBack { done: 1, total: 2 }, r#"{"reading-back":{"done":1,"total":2}}"#),
        (PushState::Done { sent: 1, millis: (2, 3) }, r#"{"done":{"sent":1,"millis":[2,3]}}"#),
        (PushState::Failed { why: "why".into() }, r#"{"failed":{"why":"why"}}"#),
    ];
    for (state, bytes) in table {
        pinned(
            &IscsiFact::Push { attempt: attempt(), state },
            &format!(r#"{{"push":{{"attempt":"n1-4-2","state":{bytes}}}}}"#),
        );
    }
}
