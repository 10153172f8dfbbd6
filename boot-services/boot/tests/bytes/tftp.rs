use crate::{device, peer, pinned};
use boot::{TftpFact, TftpFile, TftpListen, TftpPlan};

#[test]
fn a_plan_is_pinned() {
    pinned(&TftpPlan::default(), r#"{"listen":[],"files":[]}"#);
    let address = "10.7.0.1:69".parse().unwrap();
    pinned(
        &TftpPlan {
            listen: vec![
                TftpListen { address, device: Some(device()) },
                TftpListen { address, device: None },
            ],
            files: vec![TftpFile { name: "ipxe.efi".into(), path: "/srv/ipxe.efi".into() }],
        },
        concat!(
            r#"{"listen":[{"address":"10.7.0.1:69","device":"eth0.100"},{"address":"10.7.0.1:69","device":null}],"#,
            r#""files":[{"name":"ipxe.efi","path":"/srv/ipxe.efi"}]}"#
        ),
    );
}

#[test]
fn the_facts_are_pinned() {
    pinned(
        &TftpFact::Transfer {
            peer: peer(),
            name: "ipxe.efi".into(),
            sent: 1,
            size: Some(2),
            ended: Some("done".into()),
        },
        r#"{"transfer":{"peer":"10.7.0.9:40000","name":"ipxe.efi","sent":1,"size":2,"ended":"done"}}"#,
    );
    pinned(
        &TftpFact::Listen { address: "10.7.0.1:69".parse().unwrap(), trouble: None },
        r#"{"listen":{"address":"10.7.0.1:69","trouble":null}}"#,
    );
}
