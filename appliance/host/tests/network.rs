//! The network in a namespace of the test's own, veth pairs as its cards. As root; the kernel of the tests
//! need have neither 802.1Q nor bonding, whose requests are tested as octets beside `links.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use host::{
    config::Config,
    did::Did,
    network::{self, Made},
    report::Interface,
};
use nix::sched::{CloneFlags, unshare};
use std::{process::Command, time::Duration};

const CONFIG: &str = r#"
[uplink]
device = "52:54:00:aa:00:01"
address = "192.0.2.10/24"
gateway = "192.0.2.1"
[oob]
device = "card2"
address = "10.8.0.1/24"
[[network]]
name = "prov"
device = "52:54:00:aa:00:03"
address = "10.7.0.1/24"
"#;

/// Runs on a thread of its own, in a network of its own, which goes with the thread.
fn alone(test: impl FnOnce() + Send + 'static) {
    let inside = move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests are for root");
        for number in 1..=3 {
            card(number);
        }
        test();
    };
    if let Err(panic) = std::thread::spawn(inside).join() {
        std::panic::resume_unwind(panic);
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

fn card(number: u32) {
    ip(&format!("link add card{number} address 52:54:00:aa:00:0{number} type veth peer name peer{number}"));
    ip(&format!("link set peer{number} up"));
}

fn config(text: &str) -> Config {
    Config::parse(text).unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// Name, first name, whether it is up, addresses.
fn seen() -> Vec<String> {
    let told = |Interface { link, addresses }: Interface| {
        let first = link.first_name.unwrap_or_default();
        format!("{} {first} {} {}", link.name, if link.up { "up" } else { "down" }, addresses.join(","))
    };
    let all = network::interfaces().unwrap().into_iter().filter(|i| !i.link.name.starts_with("peer"));
    let mut all: Vec<String> = all.map(told).collect();
    all.sort();
    all
}

fn routes() -> String {
    let output =
        Command::new("ip").args(["route", "show", "default"]).output().expect("iproute2 is installed");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Without the one file it writes outside of the namespace, which is nobody's to write in a test.
fn apply(config: &Config) -> Vec<String> {
    made(config).troubles
}

fn made(config: &Config) -> Made {
    network::interfaces_of(config, Duration::from_secs(10), &mut || {}).unwrap_or_else(|e| panic!("{e:#}"))
}

#[test]
fn cards_get_the_names_of_their_roles_with_addresses_and_a_route_and_twice_is_once() {
    alone(|| {
        let config = config(CONFIG);
        let expected =
            ["oob card2 up 10.8.0.1/24", "prov card3 up 10.7.0.1/24", "uplink card1 up 192.0.2.10/24"];
        for did in [Did::Changed, Did::Already] {
            assert_eq!(made(&config), Made { did, troubles: Vec::new() });
            assert_eq!(seen(), expected);
            assert_eq!(routes(), "default via 192.0.2.1 dev uplink");
        }
    });
}

#[test]
fn another_configuration_takes_names_and_addresses_from_the_one_before() {
    alone(|| {
        assert_eq!(apply(&config(CONFIG)), [""; 0]);
        let swapped = CONFIG
            .replace("aa:00:01", "aa:00:ff")
            .replace("aa:00:03", "aa:00:01")
            .replace("aa:00:ff", "aa:00:03")
            .replace("192.0.2.10", "192.0.2.11");
        assert_eq!(apply(&config(&swapped)), [""; 0]);
        let expected =
            ["oob card2 up 10.8.0.1/24", "prov card1 up 10.7.0.1/24", "uplink card3 up 192.0.2.11/24"];
        assert_eq!(seen(), expected);
    });
}

#[test]
fn a_card_that_comes_late_is_waited_for_and_one_that_never_comes_is_said() {
    alone(|| {
        ip("link del card3");
        let late = std::thread::spawn(|| {
            // In the namespace of the thread that began it.
            std::thread::park_timeout(Duration::from_millis(700));
            card(3);
        });
        assert_eq!(apply(&config(CONFIG)), [""; 0]);
        late.join().unwrap();
        assert_eq!(seen()[1], "prov card3 up 10.7.0.1/24");
        let never = CONFIG.replace("card2", "card9");
        let expected = "no interface is card9, for oob: correct the configuration, or look at the card";
        assert_eq!(apply(&config(&never)), [expected]);
    });
}

#[test]
fn a_vlan_this_kernel_cannot_make_is_said_and_the_rest_is_made() {
    alone(|| {
        let text = CONFIG.replace("device = \"52:54:00:aa:00:03\"", "vlan = 100");
        let text = format!("{text}[trunk]\ndevice = \"52:54:00:aa:00:03\"\n");
        let troubles = apply(&config(&text));
        let names: Vec<String> = seen();
        assert!(names.iter().any(|line| line.starts_with("uplink card1 up 192.0.2.10/24")), "{names:?}");
        let is_made = names.iter().any(|line| line == "prov  up 10.7.0.1/24");
        let is_said = troubles
            .iter()
            .any(|text| text.starts_with("making prov on VLAN 100: ") && text.contains("8021q"));
        assert!(is_made != is_said, "{names:?} {troubles:?}");
    });
}
