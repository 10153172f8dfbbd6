//! Others on the tenant's network, and other tenants.

use crate::guest::Guest;
use crate::scene::{deploy, diskless, stand, with_sessions};
use control::CredentialsView;
use hw_tests::rack::{Firmware, Namespace, reach};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::{Command, Output};

const PORTAL: &str = "10.21.0.1:3260";

/// Runs one of libiscsi's tools as this initiator.
fn libiscsi(from: &Namespace, tool: &str, initiator: &str, url: &str) -> Output {
    let mut command = Command::new("timeout");
    command.args(["20", tool, "-i", initiator, url]);
    from.output(&mut command).unwrap()
}

#[test]
fn nobody_else_sees_a_nodes_volume_and_nobody_gets_in_without_its_secret() {
    let stand = stand("strangers", &diskless(1, Firmware::Bios));
    let rack = stand.rack();
    deploy(&stand, "node1", "tenant-1", &[]);
    let guest = Guest::active(&stand, "node1", "tenant-1", 1);
    guest.keep("diary", b"mine");
    let known: CredentialsView = stand.kiln_json(&["node", "credentials", "node1"]).unwrap();
    let (target, initiator) = (&known.storage.target, &known.storage.initiator);
    let (own, _) = rack.tenant("tenant-1").unwrap();
    let (other, _) = rack.tenant("tenant-2").unwrap();
    let stranger = "iqn.2026-11.example.stranger:host";
    let secret = known.secret.expose();

    // Whoever is not the node is told of nothing, even if he asks as the node: he cannot prove it.
    for name in [stranger, initiator] {
        let said = libiscsi(own, "iscsi-ls", name, &format!("iscsi://{PORTAL}"));
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(!text.contains(target.as_str()) || name == initiator, "{name} is told of {target}: {text}");
    }
    let wrong = format!("iscsi://{}%wrongwrongwrong@{PORTAL}/{target}/0", known.user);
    let right = format!("iscsi://{}%{secret}@{PORTAL}/{target}/0", known.user);
    let bare = format!("iscsi://{PORTAL}/{target}/0");
    for (name, url, who) in [
        (stranger, &bare, "a stranger without a secret"),
        (stranger, &right, "a stranger with the node's secret"),
        (initiator.as_str(), &bare, "somebody by the node's name, without a secret"),
        (initiator.as_str(), &wrong, "somebody by the node's name, with a wrong secret"),
    ] {
        let said = libiscsi(own, "iscsi-inq", name, url);
        assert!(!said.status.success(), "{who} is let in: {said:?}");
    }
    // Another tenant has no way there at all.
    for portal in [Ipv4Addr::new(10, 21, 0, 1), Ipv4Addr::new(10, 22, 0, 1)] {
        assert!(reach(other, SocketAddrV4::new(portal, 3260)).is_err(), "tenant 2 reaches {portal}:3260");
    }
    // The boot script, which holds the secrets, is nowhere a stranger would look for it.
    for path in ["hold", "node1", "san-node1", "1"] {
        let url = format!("http://10.21.0.1/boot/{path}.ipxe");
        let said = own.output(Command::new("curl").args(["-s", "-m", "5", &url])).unwrap();
        assert!(!String::from_utf8_lossy(&said.stdout).contains("password"), "{url} gives it away");
    }
    assert!(!stand.log().contains(secret), "the log holds the secret");

    // None of this harmed the node.
    assert_eq!(guest.kept("diary").unwrap(), b"mine");
    assert_eq!(guest.trouble(), "");
    with_sessions(&stand, "node1", 1);
}
