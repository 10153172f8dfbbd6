use crate::{attempt, device, digest, peer, pinned};
use boot::{HttpAsset, HttpFact, HttpPlan, Json, Script, Secret, Session, SessionState};

#[test]
fn a_plan_is_pinned() {
    pinned(
        &HttpPlan::default(),
        r#"{"listen":[],"assets":[],"scripts":[],"images":null,"logs":null,"sessions":[]}"#,
    );
    let plan = HttpPlan {
        listen: vec![("10.7.0.1:80".parse().unwrap(), Some(device())), ("[::1]:80".parse().unwrap(), None)],
        assets: vec![HttpAsset { path: "/kernel".into(), file: "/srv/kernel".into() }],
        scripts: vec![Script {
            path: "/boot/n1-4-2".into(),
            body: Secret::new("#!ipxe\n"),
            attempt: Some(attempt()),
        }],
        images: Some("/data/images".into()),
        logs: Some("/data/logs".into()),
        sessions: vec![Session {
            attempt: attempt(),
            token: Secret::new("s3cret"),
            order: Some(Json::of(&[1, 2]).unwrap()),
            images: vec![digest(0xab)],
            config_drive: Some("/data/drive".into()),
        }],
    };
    pinned(
        &plan,
        &[
            r#"{"listen":[["10.7.0.1:80","eth0.100"],["[::1]:80",null]],"#,
            r#""assets":[{"path":"/kernel","file":"/srv/kernel"}],"#,
            r##""scripts":[{"path":"/boot/n1-4-2","body":"#!ipxe\n","attempt":"n1-4-2"}],"##,
            r#""images":"/data/images","logs":"/data/logs","sessions":[{"attempt":"n1-4-2","token":"s3cret","#,
            r#""order":[1,2],"images":[""#,
            &"ab".repeat(32),
            r#""],"config_drive":"/data/drive"}]}"#,
        ]
        .concat(),
    );
}

#[test]
fn the_facts_are_pinned() {
    pinned(
        &HttpFact::Script { attempt: attempt(), peer: peer(), times: 2 },
        r#"{"script":{"attempt":"n1-4-2","peer":"10.7.0.9:40000","times":2}}"#,
    );
    pinned(
        &HttpFact::Asset { peer: peer(), path: "/kernel".into(), sent: 1, size: 2 },
        r#"{"asset":{"peer":"10.7.0.9:40000","path":"/kernel","sent":1,"size":2}}"#,
    );
    pinned(
        &HttpFact::Agent {
            attempt: attempt(),
            state: SessionState::Connected,
            status: Some(Json::of(&true).unwrap()),
        },
        r#"{"agent":{"attempt":"n1-4-2","state":"connected","status":true}}"#,
    );
    pinned(
        &HttpFact::Lost { peer: peer(), path: "/x".into(), why: "no such path".into() },
        r#"{"lost":{"peer":"10.7.0.9:40000","path":"/x","why":"no such path"}}"#,
    );
    pinned(
        &HttpFact::Listen { address: "10.7.0.1:80".parse().unwrap(), trouble: Some("why".into()) },
        r#"{"listen":{"address":"10.7.0.1:80","trouble":"why"}}"#,
    );
}
