use super::*;

const WHOLE: &str = r#"serial = 3
[host]
name = "kiln-7"
[uplink]
device = "52:54:00:aa:00:01"
address = "192.0.2.10/24"
gateway = "192.0.2.1"
dns = ["192.0.2.1"]
ntp = ["192.0.2.1"]
[oob]
device = "eth1"
address = "10.8.0.1/24"
[trunk]
device = "bond0"
[[network]]
name = "prov"
vlan = 100
address = "10.7.0.1/24"
[[network]]
name = "quarantine"
device = "eth4"
address = "10.6.0.1/24"
[[bond]]
name = "bond0"
members = ["eth2", "52:54:00:aa:00:03"]
mode = "802.3ad"
[api]
port = 8443
token = "0123456789abcdef0123456789abcdef"
[ssh]
keys = [
  "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMlVi8bWcSDEiEYAgvE8ZoRWYh81VgJsoLWfgnlWrYrd anna@desk",
  "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGWi7C9B1evOdkUkmutBDGjs4uBY0FMcAHb/4WHmJbYD bert",
]
port = 2222
[appliance]
most_image_gib = 64
[patience]
firmware = 600
"#;

const LEAST: &str = "[uplink]\ndevice = \"eth0\"\naddress = \"dhcp\"\n";

#[test]
fn a_whole_configuration_is_read() {
    let config = Config::parse(WHOLE).unwrap();
    assert_eq!(config.serial, 3);
    assert_eq!(config.name.as_ref().unwrap().as_str(), "kiln-7");
    assert_eq!(config.uplink.nic, Nic::Mac("52:54:00:aa:00:01".parse().unwrap()));
    assert_eq!(config.uplink.address, Address::Static("192.0.2.10/24".parse().unwrap()));
    assert_eq!(config.trunk, Some(Nic::Named("bond0".parse().unwrap())));
    assert_eq!(config.networks[0].on, On::Trunk(100.try_into().unwrap()));
    assert_eq!(config.networks[1].on, On::Nic("eth4".parse().unwrap()));
    assert_eq!(config.bonds[0].mode, BondMode::Lacp);
    assert_eq!(config.api.port, 8443);
    let ssh = config.ssh.unwrap();
    assert_eq!((ssh.keys.len(), ssh.port), (2, 2222));
    assert_eq!(config.patience.unwrap().firmware, 600);
}

#[test]
fn the_least_configuration_is_an_uplink() {
    let config = Config::parse(LEAST).unwrap();
    assert_eq!((config.serial, config.api.port), (0, 8080));
    assert_eq!(config.uplink.address, Address::Dhcp);
    assert_eq!(config.ssh, None, "nobody logs in unless it is said who may");
    let none = Config::parse(&format!("{LEAST}[ssh]\nkeys = []\n")).unwrap();
    assert_eq!(none.ssh, None);
}

/// The whole configuration with a line in place of another, and the fault that must be found.
#[test]
fn a_lease_is_a_machines_address_on_a_subnet_of_its_own() {
    let config = Config::parse(WHOLE).unwrap();
    assert_eq!(config.admit("192.0.2.77/24".parse().unwrap()), Ok(()));
    for (lease, said) in [
        ("10.8.0.5/25", "overlaps 10.8.0.1/24 of oob"),
        ("10.0.0.5/8", "overlaps 10.8.0.1/24 of oob"),
        ("10.7.0.1/24", "overlaps 10.7.0.1/24 of prov"),
        ("192.0.2.255/24", "no machine's address"),
        ("127.0.0.2/8", "no machine's address"),
    ] {
        let refused = config.admit(lease.parse().unwrap()).unwrap_err();
        assert!(refused.contains(said), "{lease}: {refused}");
    }
}

#[test]
fn every_fault_says_its_line_and_what_to_do() {
    let table = [
        ("serial = 3", "serial = ", "line 1: "),
        ("serial = 3", "series = 3", "line 1: unknown field `series`, expected one of `serial`, `host`"),
        (
            "name = \"kiln-7\"",
            "name = \"kiln_7\"",
            "line 3: \"kiln_7\" is not a name of letters, digits and hyphens",
        ),
        (
            "device = \"52:54:00:aa:00:01\"",
            "device = \"01:54:00:aa:00:01\"",
            "line 5: \"01:54:00:aa:00:01\" is not an interface: a MAC",
        ),
        ("device = \"52:54:00:aa:00:01\"\n", "", "line 4: missing field `device`"),
        (
            "192.0.2.10/24",
            "192.0.2.10",
            "line 6: \"192.0.2.10\" is not \"dhcp\" or an address with its prefix",
        ),
        ("192.0.2.10/24", "192.0.2.0/24", "line 6: 192.0.2.0/24 is not a machine's address"),
        ("192.0.2.10/24", "dhcp", "line 7: the DHCP server says what the gateway is: take this line out"),
        (
            "gateway = \"192.0.2.1\"",
            "gateway = \"192.0.3.1\"",
            "line 7: 192.0.3.1 is not another machine's address in 192.0.2.10/24",
        ),
        (
            "gateway = \"192.0.2.1\"",
            "gateway = \"192.0.2.10\"",
            "line 7: 192.0.2.10 is not another machine's",
        ),
        ("dns = [\"192.0.2.1\"]", "dns = [\"one\"]", "line 8: "),
        (
            "device = \"eth1\"",
            "device = \"52:54:00:aa:00:01\"",
            "line 11: 52:54:00:aa:00:01 is oob and uplink too: give each its own",
        ),
        (
            "10.8.0.1/24",
            "192.0.2.77/16",
            "line 12: 192.0.2.77/16 overlaps 192.0.2.10/24 of uplink: give each network",
        ),
        (
            "[trunk]\ndevice = \"bond0\"\n",
            "",
            "line 15: network prov is on a VLAN and there is no [trunk]: write it",
        ),
        ("name = \"prov\"", "name = \"uplink\"", "line 16: an interface is called uplink already"),
        ("name = \"prov\"", "name = \"bond0\"", "line 16: an interface is called bond0 already"),
        ("name = \"prov\"", "name = \"quarantine\"", "line 20: there are two networks quarantine"),
        (
            "name = \"prov\"",
            "name = \"provisioning-net\"",
            "line 16: provisioning-net is longer than 15 characters",
        ),
        ("vlan = 100", "vlan = 4095", "line 17: \"4095\" is not a VLAN id from 1 to 4094"),
        ("vlan = 100\n", "", "line 15: network prov is on nothing: write vlan ="),
        ("device = \"eth4\"", "vlan = 100", "line 21: VLAN 100 is network prov's: give each network its own"),
        (
            "device = \"eth4\"",
            "device = \"eth2\"",
            "line 21: eth2 is network quarantine and a member of bond0 too",
        ),
        (
            "device = \"eth4\"",
            "device = \"eth4\"\nvlan = 7",
            "line 19: network quarantine has vlan = and device =: leave",
        ),
        ("10.6.0.1/24", "10.7.0.9/24", "line 22: 10.7.0.9/24 overlaps 10.7.0.1/24 of network prov"),
        ("name = \"bond0\"", "name = \"trunk\"", "line 24: a bond cannot be called trunk: call it bond0"),
        ("[\"eth2\", \"52:54:00:aa:00:03\"]", "[]", "line 25: bond0 has no members: name at least one"),
        ("[\"eth2\", \"52:54:00:aa:00:03\"]", "[\"eth1\"]", "line 11: eth1 is oob and a member of bond0 too"),
        (
            "mode = \"802.3ad\"",
            "mode = \"balance\"",
            "line 26: unknown variant `balance`, expected `active-backup` or `802.3ad`",
        ),
        ("port = 8443", "port = 80", "line 28: the API needs a port of its own: 8080"),
        ("port = 8443", "port = 70000", "line 28: "),
        ("0123456789abcdef0123456789abcdef", "secret", "line 29: the token is not 32 or more printable"),
        (
            "AAAAC3NzaC1lZDI1NTE5AAAAIMlV",
            "AAAAC3NzaC1lZDI1NTE5",
            "line 32: \"ssh-ed25519…\" is not a whole public",
        ),
        (
            "IGWi7C9B1evOdkUkmutBDGjs4uBY0FMcAHb/4WHmJbYD",
            "IMlVi8bWcSDEiEYAgvE8ZoRWYh81VgJsoLWfgnlWrYrd",
            "line 33: this key is in the list already",
        ),
        ("port = 2222", "port = 8443", "line 35: SSH needs a port of its own"),
        (
            "port = 2222",
            "password = \"kiln\"",
            "line 35: unknown field `password`, expected `keys` or `port`",
        ),
        ("most_image_gib = 64", "iqn = \"kiln\"", "line 37: \"kiln\" is not what an iSCSI name begins with"),
        ("firmware = 600", "firm = 600", "line 39: unknown field `firm`, expected one of `hand`"),
    ];
    for (from, to, expected) in table {
        assert!(WHOLE.contains(from), "{from}");
        let faults = Config::parse(&WHOLE.replacen(from, to, 1)).expect_err(to);
        let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert!(texts.len() == 1 && texts[0].starts_with(expected), "{to}: {texts:?}");
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let wrong = WHOLE.replace("vlan = 100", "vlan = 100\ndevice = \"eth9\"").replace("8443", "80");
    let faults = Config::parse(&wrong).unwrap_err();
    let lines: Vec<usize> = faults.iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [15, 29]);
    assert_eq!(
        Config::parse("").unwrap_err()[0].to_string(),
        "line 1: [uplink] is missing: write it, with device = and address ="
    );
}

#[test]
fn a_token_is_not_shown() {
    assert!(!format!("{:?}", Config::parse(WHOLE).unwrap()).contains("0123456789abcdef"));
}

#[test]
fn what_the_readme_shows_is_in_order() {
    let readme = include_str!("../../README.md");
    let examples: Vec<&str> =
        readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(examples.len(), 2);
    for example in examples {
        Config::parse(example).unwrap_or_else(|faults| panic!("{faults:?}"));
    }
}
