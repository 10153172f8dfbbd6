use super::*;

fn told(json: &str) -> TableUpdates {
    serde_json::from_str(json).unwrap()
}

fn port(columns: &str) -> Mirror {
    let mut mirror = Mirror::default();
    assert!(mirror.apply(told(&format!(r#"{{"Port":{{"p":{{"new":{{"name":"n1",{columns}}}}}}}}}"#))));
    mirror
}

fn n1() -> SwitchPort {
    "n1".parse().unwrap()
}

fn access(vlan: u16) -> PortMode {
    PortMode::Access(vlan.try_into().unwrap())
}

#[test]
fn the_default_mode_follows_from_the_tag() {
    assert_eq!(port(r#""tag":5,"vlan_mode":["set",[]]"#).mode(&n1()), access(5));
    assert_eq!(port(r#""tag":5,"vlan_mode":"access","trunks":["set",[7]]"#).mode(&n1()), access(5));
    assert_eq!(port(r#""tag":["set",[]],"vlan_mode":["set",[]]"#).mode(&n1()), PortMode::Trunk);
    for mode in ["trunk", "native-tagged", "native-untagged", "dot1q-tunnel", "something new"] {
        assert_eq!(port(&format!(r#""tag":5,"vlan_mode":"{mode}""#)).mode(&n1()), PortMode::Trunk, "{mode}");
    }
}

#[test]
fn an_access_port_without_a_vlan_of_its_own_is_not_in_one() {
    assert_eq!(port(r#""tag":["set",[]],"vlan_mode":"access""#).mode(&n1()), PortMode::Trunk);
    for tag in ["0", "4095", "65637", "-1", "\"5\""] {
        assert_eq!(port(&format!(r#""tag":{tag}"#)).mode(&n1()), PortMode::Trunk, "{tag}");
    }
}

#[test]
fn a_bond_has_a_link_if_one_of_its_interfaces_has() {
    let with = |a: &str, b: &str| {
        let mut mirror = port(r#""tag":5,"interfaces":["set",[["uuid","a"],["uuid","b"]]]"#);
        let rows = format!(r#"{{"Interface":{{"a":{{"new":{{{a}}}}},"b":{{"new":{{{b}}}}}}}}}"#);
        assert!(mirror.apply(told(&rows)));
        mirror.seen(&n1()).link
    };
    let (up, down) = (r#""link_state":"up","admin_state":"up""#, r#""link_state":"down""#);
    assert_eq!(with(up, down), LinkState::Up);
    assert_eq!(with(down, up), LinkState::Up);
    assert_eq!(with(down, down), LinkState::Down);
    assert_eq!(with(down, ""), LinkState::Unknown);
    assert_eq!(with(r#""link_state":"up","admin_state":"down""#, down), LinkState::Down);
    assert_eq!(port(r#""tag":5"#).seen(&n1()).link, LinkState::Unknown);
}

#[test]
fn a_device_that_cannot_be_opened_is_told_in_one_printable_line() {
    let mut mirror = port(r#""tag":5,"interfaces":["uuid","a"]"#);
    let error = format!("no\\n\\u0007device{}", "x".repeat(1000));
    assert!(mirror.apply(told(&format!(r#"{{"Interface":{{"a":{{"new":{{"error":"{error}"}}}}}}}}"#))));
    let trouble = mirror.seen(&n1()).trouble.unwrap();
    assert!(trouble.contains("nodevicexxx") && trouble.len() < 400, "{trouble}");
}

#[test]
fn a_name_follows_its_row() {
    let mut mirror = port(r#""tag":5"#);
    // Deleted and made again under another UUID, in one transaction, whichever comes first.
    assert!(mirror.apply(told(r#"{"Port":{"p":{"old":{}},"a":{"new":{"name":"n1","tag":6}}}}"#)));
    assert_eq!(mirror.mode(&n1()), access(6));
    assert!(mirror.apply(told(r#"{"Port":{"a":{"old":{}},"z":{"new":{"name":"n1","tag":7}}}}"#)));
    assert_eq!(mirror.mode(&n1()), access(7));
    assert!(mirror.apply(told(r#"{"Port":{"z":{"new":{"name":"n2","tag":7}}}}"#)));
    assert_eq!(mirror.mode(&n1()), PortMode::Absent);
}

#[test]
fn only_a_change_of_vlans_counts_as_one() {
    let mut mirror = port(r#""tag":5"#);
    let first = mirror.changed(&n1());
    assert!(mirror.apply(told(r#"{"Port":{"p":{"new":{"name":"n1","tag":5,"interfaces":["uuid","a"]}}}}"#)));
    assert_eq!(mirror.changed(&n1()), first);
    assert!(mirror.apply(told(r#"{"Port":{"p":{"new":{"name":"n1","tag":6}}}}"#)));
    assert!(mirror.changed(&n1()) > first);
}
