//! The DHCP hand before other people's clients. The reference is dnsmasq.

use crate::wire::{CLIENT_MAC, Daemon, PATIENCE, SERVER, Wire, on_a_wire};
use hw_tests::rack::until;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// What the client is given by its entry.
const ADDRESS: &str = "10.7.0.50";

pub(crate) fn plan(device: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut network = json!({
        "name": "provisioning", "device": device, "address": format!("{SERVER}/24"), "service": "full",
        "pool": null, "router": "10.7.0.254", "dns": ["10.7.0.253"], "lease_seconds": 16,
        "router_advertisements": true, "boot": null,
        "hosts": [{
            "mac": CLIENT_MAC, "address": ADDRESS, "hostname": "n1", "attempt": "n1-4-2",
            "boot": {
                "bios": "undionly.kpxe", "uefi_x64": "snponly.efi", "uefi_arm64": null,
                "http_x64": format!("http://{SERVER}:8080/snponly.efi"), "http_arm64": null,
                "ipxe": format!("http://{SERVER}:8080/boot/n1-4-2"),
            },
        }],
    });
    change(&mut network);
    json!({ "networks": [network] })
}

/// The reference, with the same address for the same client.
fn dnsmasq(wire: &Wire, more: &str) -> Daemon {
    let lines = format!(
        "port=0\ninterface=s0\nbind-interfaces\nno-ping\nlog-dhcp\nlog-facility=-\nuser=root\n\
         dhcp-leasefile={}\ndhcp-range=10.7.0.60,10.7.0.69,255.255.255.0,2m\ndhcp-host={CLIENT_MAC},{ADDRESS}\n\
         dhcp-option=3,10.7.0.254\n{more}\n",
        wire.path("dnsmasq.leases")
    );
    let configuration = wire.write("dnsmasq.conf", &lines);
    let daemon = wire.start("dnsmasq", &format!("dnsmasq -k -C {configuration} --pid-file="));
    wire.await_text("dnsmasq.log", "started");
    daemon
}

/// The last thing the hand told of the client.
fn moment(wire: &Wire) -> String {
    let facts = wire.read("dhcp.out");
    let last = facts.lines().rfind(|line| line.contains("\"client\":")).unwrap_or_default();
    let line: Value = serde_json::from_str(last).unwrap_or_default();
    line["say"]["fact"]["fact"]["client"]["moment"].as_str().unwrap_or_default().to_owned()
}

fn await_moment(wire: &Wire, wanted: &str) {
    until(PATIENCE, wanted, || Ok((moment(wire) == wanted).then_some(()))).unwrap();
}

/// What dhclient calls when something happens: it writes that down, and does what an address needs.
const DHCLIENT_SCRIPT: &str = r#"#!/bin/sh
case $reason in
BOUND|RENEW|REBIND|REBOOT) ip address replace "$new_ip_address/24" dev "$interface" ;;
RELEASE|EXPIRE|FAIL|STOP) ip address flush dev "$interface" ;;
esac
echo "$reason ${new_ip_address:-$old_ip_address} $new_routers $new_host_name" >>"$DIRECTORY/said"
"#;

fn dhclient(wire: &Wire, more: &str) -> String {
    wire.script("dhclient-script", DHCLIENT_SCRIPT);
    wire.write("dhclient.conf", more);
    let files = format!(
        "-cf {} -lf {} -pf {}",
        wire.path("dhclient.conf"),
        wire.path("dhclient.leases"),
        wire.path("dhclient.pid")
    );
    format!(
        "dhclient -v -sf {} {files} -e DIRECTORY={}",
        wire.path("dhclient-script"),
        wire.directory.display()
    )
}

const DHCLIENT_CONF: &str = "request subnet-mask, routers, host-name;\n";

#[test]
fn dhclient_gets_its_address_renews_it_and_releases_it() {
    on_a_wire("dhclient", |wire| {
        let command = dhclient(wire, DHCLIENT_CONF);
        let dora = || {
            let client = wire.at_client(|| wire.start("dhclient", &format!("{command} -d c0")));
            wire.await_text("said", &format!("BOUND {ADDRESS} 10.7.0.254"));
            client
        };
        let release = || wire.at_client(|| wire.run(&format!("{command} -r c0")));
        let reference = dnsmasq(wire, "");
        let client = dora();
        release();
        wire.await_text("dnsmasq.log", "DHCPRELEASE");
        drop((client, reference));
        wire.write("said", "");

        let _hand = wire.bootd("dhcp", &plan("s0", |_| ()));
        let _client = dora();
        assert!(wire.read("said").contains("n1"), "option 12");
        assert_eq!(moment(wire), "bound");
        wire.await_text("said", &format!("RENEW {ADDRESS}"));
        release();
        await_moment(wire, "released");
    });
}

/// What udhcpc calls.
const UDHCPC_SCRIPT: &str = r#"#!/bin/sh
case $1 in
bound|renew) busybox ifconfig "$interface" "$ip" netmask "$subnet" ;;
deconfig) busybox ifconfig "$interface" 0.0.0.0 ;;
esac
echo "$1 $ip $router $siaddr ${boot_file:-$bootfile} $lease" >>said
"#;

#[test]
fn udhcpc_gets_its_address_and_file_renews_and_releases() {
    on_a_wire("udhcpc", |wire| {
        let script = wire.script("udhcpc-script", UDHCPC_SCRIPT);
        let class = "-V PXEClient:Arch:00007:UNDI:003016 -x 0x5d:0007 -O bootfile";
        let command = format!("busybox udhcpc -f -R -t 10 -T 1 -i c0 -s {script} {class}");
        let dora = |boot: &str| {
            let mut client = wire.at_client(|| wire.start("udhcpc", &command));
            wire.await_text("said", &format!("bound {ADDRESS} 10.7.0.254 {SERVER} {boot}"));
            client.signal(Signal::SIGUSR1);
            wire.await_text("said", &format!("renew {ADDRESS}"));
            client.signal(Signal::SIGTERM);
            client.ended();
        };
        let reference = dnsmasq(wire, "dhcp-boot=snponly.efi");
        dora("snponly.efi 120");
        wire.await_text("dnsmasq.log", "DHCPRELEASE");
        drop(reference);
        wire.write("said", "");

        let _hand = wire.bootd("dhcp", &plan("s0", |_| ()));
        dora("snponly.efi 16");
        await_moment(wire, "released");
    });
}

#[test]
fn a_client_that_takes_another_servers_offer_is_left_alone() {
    on_a_wire("two", |wire| {
        wire.run("ip address add 10.7.0.2/24 dev s0");
        let _other = dnsmasq(wire, "");
        let _hand = wire.bootd("dhcp", &plan("s0", |network| network["address"] = json!("10.7.0.2/24")));
        let command = dhclient(wire, &format!("{DHCLIENT_CONF}reject 10.7.0.2;\n"));
        let _client = wire.at_client(|| wire.start("dhclient", &format!("{command} -d c0")));
        wire.await_text("said", &format!("BOUND {ADDRESS}"));
        wire.await_text("dnsmasq.log", "DHCPACK");
        assert_eq!(moment(wire), "offered");
    });
}

#[test]
fn a_lease_outlives_a_killed_hand_and_is_told_again() {
    on_a_wire("killed", |wire| {
        let pool = |network: &mut Value| {
            network["hosts"] = json!([]);
            network["pool"] = json!({ "first": "10.7.0.100", "last": "10.7.0.199" });
        };
        let hand = wire.bootd("dhcp", &plan("s0", pool));
        let command = dhclient(wire, DHCLIENT_CONF);
        let _client = wire.at_client(|| wire.start("dhclient", &format!("{command} -d c0")));
        wire.await_text("said", "BOUND 10.7.0.1");
        let address = wire.read("said").split(' ').nth(1).unwrap_or_default().to_owned();
        drop(hand);
        let _hand = wire.bootd("dhcp", &plan("s0", pool));
        await_moment(wire, "bound");
        assert!(wire.read("dhcp.out").contains(&address));
        wire.await_text("said", &format!("RENEW {address}"));
        assert!(!wire.read("said").contains("EXPIRE"));
    });
}

#[test]
fn an_interface_that_comes_late_goes_and_comes_back_is_served() {
    on_a_wire("late", |wire| {
        wire.run("ip link set s0 down");
        wire.run("ip link set s0 name other");
        let _hand = wire.bootd_with("dhcp", &plan("s0", |_| ()), "there is no interface s0");
        wire.run("ip link set other name s0");
        wire.run("ip link set s0 up");
        wire.await_text("dhcp.out", "\"trouble\":null");
        wire.run("ip link set s0 down");
        wire.await_text("dhcp.out", "s0 is down: ip link set s0 up");
        wire.run("ip link set s0 up");
        let command = dhclient(wire, DHCLIENT_CONF);
        let _client = wire.at_client(|| wire.start("dhclient", &format!("{command} -d c0")));
        wire.await_text("said", &format!("BOUND {ADDRESS}"));
    });
}

#[test]
fn a_machine_with_an_address_of_its_own_is_seen_by_its_arp() {
    on_a_wire("seen", |wire| {
        let _hand = wire.bootd("dhcp", &plan("s0", |network| network["service"] = json!("watch")));
        wire.at_client(|| {
            wire.run("ip address add 10.7.0.77/24 dev c0");
            wire.run("ping -c 1 -W 5 10.7.0.1");
        });
        await_moment(wire, "seen");
        assert!(wire.read("dhcp.out").contains("10.7.0.77"));
    });
}

#[test]
fn a_user_that_is_not_controls_is_shown_the_door() {
    on_a_wire("stranger", |wire| {
        let socket = wire.path("control");
        let program = wire.program();
        let _hand = wire.start("dhcp", &format!("{program} dhcp --control-socket {socket}"));
        until(PATIENCE, "the control socket", || Ok(std::path::Path::new(&socket).exists().then_some(())))
            .unwrap();
        wire.run(&format!("chmod 666 {socket}"));
        let talk = format!("curl -sS --max-time 20 --http0.9 --unix-socket {socket} http://control/");
        let stranger = format!("setpriv --reuid 65534 --regid 65534 --clear-groups {talk}");
        let (_, said) = wire.try_words(&stranger.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert!(!said.contains("hello"), "{said}");
        wire.await_text(
            "dhcp.log",
            "refused a user that is not control's (--control-uid) hand=dhcp uid=65534",
        );
        let (_, said) = wire.try_words(&talk.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert!(said.contains("hello"), "root is control: {said}");
    });
}
