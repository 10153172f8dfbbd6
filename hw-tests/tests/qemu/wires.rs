//! The networks: what reaches what, judged by traffic.

use crate::stage::{PATIENCE, rack, raise, tell};
use hw_tests::rack::{Capture, Description, Firmware, Namespace, Nic, VirtualRack, Vlan, ping, reach, until};
use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    process::Command,
    thread,
};

const ASKS: &str = "ether src 52:54:00:4b:00:01 and udp dst port 67";

fn address(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

/// Moves a port as an operator would: over TCP, from the appliance's place.
fn move_port(rack: &VirtualRack, port: &str, vlan: u16) {
    let database = format!("--db=tcp:{}", rack.description().switches[0].address);
    let tag = format!("tag={vlan}");
    rack.kiln()
        .run(Command::new("ovs-vsctl").args([&database, "--timeout=10", "set", "port", port, &tag]))
        .unwrap();
}

fn await_question(capture: &Capture) {
    let what = format!("a DISCOVER in {}", capture.file().display());
    until(PATIENCE, &what, || Ok((!capture.packets(ASKS)?.is_empty()).then_some(()))).unwrap();
}

#[test]
fn a_node_is_heard_where_its_port_is_and_nowhere_else() {
    let rack = rack("vlan", 1, Firmware::Bios);
    assert_eq!(rack.vlan("node1").unwrap(), Vlan::new(666));
    let everywhere =
        ["prov", "tenant-1", "tenant-2", "quarantine"].map(|network| rack.capture(network).unwrap());
    let [provisioning, tenant_1, tenant_2, quarantine] = &everywhere;
    tell(&rack, "node1", "chassis bootdev pxe");
    tell(&rack, "node1", "chassis power on");
    await_question(quarantine);

    tell(&rack, "node1", "chassis power off");
    move_port(&rack, "node1", 100);
    assert_eq!(rack.vlan("node1").unwrap(), Vlan::new(100));
    let before = quarantine.packets(ASKS).unwrap().len();
    tell(&rack, "node1", "chassis bootdev pxe");
    tell(&rack, "node1", "chassis power on");
    await_question(provisioning);
    assert_eq!(quarantine.packets(ASKS).unwrap().len(), before, "it is still heard in quarantine");

    tell(&rack, "node1", "chassis power off");
    let before = provisioning.packets(ASKS).unwrap().len();
    rack.set_vlan_behind_our_back("node1", Vlan::new(201).unwrap()).unwrap();
    tell(&rack, "node1", "chassis bootdev pxe");
    tell(&rack, "node1", "chassis power on");
    await_question(tenant_1);
    assert_eq!(provisioning.packets(ASKS).unwrap().len(), before, "it is still heard in provisioning");
    assert!(tenant_2.packets(ASKS).unwrap().is_empty(), "the other tenant hears it");
}

#[test]
fn a_machine_reaches_what_is_in_its_vlan_after_every_move() {
    let rack = rack("move", 1, Firmware::Bios);
    let (machine, own) = rack.tenant("tenant-1").unwrap();
    let (other, _) = rack.tenant("tenant-2").unwrap();
    assert_eq!(own, address("10.21.0.2"));
    // The same address in every VLAN, so that only the VLAN decides.
    other.run(Command::new("ip").args(["addr", "add", "10.21.0.3/24", "dev", "eth0"])).unwrap();
    for _round in 0..2 {
        assert!(ping(machine, address("10.21.0.1")).unwrap());
        assert!(!ping(machine, address("10.21.0.3")).unwrap());
        move_port(&rack, "host-201", 202);
        // The appliance's leg may still be in a neighbour table.
        assert!(!ping(machine, address("10.21.0.1")).unwrap());
        assert!(ping(machine, address("10.21.0.3")).unwrap());
        move_port(&rack, "host-201", 201);
        machine.run(Command::new("ip").args(["neigh", "flush", "all"])).unwrap();
    }
}

#[test]
fn a_tenant_reaches_the_appliance_on_his_own_network_only() {
    let rack = rack("strong-host", 1, Firmware::Bios);
    let greeter =
        |at: SocketAddrV4| -> TcpListener { rack.kiln().inside(|| TcpListener::bind(at)).unwrap().unwrap() };
    let listener = greeter(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 8080));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(b"kiln\n");
        }
    });
    let (tenant, _) = rack.tenant("tenant-1").unwrap();
    let at = |host: &str| SocketAddrV4::new(address(host), 8080);
    let says = |from: &Namespace, host: &str| reach(from, at(host)).ok();
    assert_eq!(says(tenant, "10.21.0.1").as_deref(), Some("kiln\n"));
    assert_eq!(says(rack.kiln(), "10.7.0.1").as_deref(), Some("kiln\n"), "the appliance reaches itself");

    // A tenant may point any route he likes at the appliance, or claim that all the world is on his wire.
    for route in [&["via", "10.21.0.1"][..], &["dev", "eth0"]] {
        tenant.run(Command::new("ip").args(["route", "replace", "10.0.0.0/8"]).args(route)).unwrap();
        for host in ["10.7.0.1", "10.8.0.1", "10.22.0.1", "10.66.0.1"] {
            assert_eq!(says(tenant, host), None, "a tenant reaches the appliance at {host}");
        }
        for host in ["10.8.0.2", "10.8.0.11", "10.22.0.2"] {
            assert!(!ping(tenant, address(host)).unwrap(), "a tenant reaches {host}");
            let neighbour = tenant.run(Command::new("ip").args(["neigh", "show", host])).unwrap();
            assert!(!neighbour.contains("lladdr"), "a tenant's ARP for {host} is answered: {neighbour}");
        }
        assert!(
            reach(tenant, SocketAddrV4::new(address("10.8.0.2"), 6640)).is_err(),
            "a tenant reaches the switch"
        );
    }
    assert!(ping(rack.kiln(), address("10.8.0.11")).unwrap());
}

#[test]
fn a_node_without_its_cable_is_not_heard() {
    let mut description = Description::of_nodes(1, Firmware::Bios).unwrap();
    // iPXE takes a virtio NIC's link for granted.
    description.nodes[0].hardware.as_mut().unwrap().nic = Nic::E1000;
    let rack = raise("cable", &description);
    rack.cable_out("node1").unwrap();
    let capture = rack.capture("quarantine").unwrap();
    tell(&rack, "node1", "chassis bootdev pxe");
    tell(&rack, "node1", "chassis power on");
    rack.wait_console("node1", Default::default(), "Link:down", PATIENCE).unwrap();
    assert!(capture.packets(ASKS).unwrap().is_empty());
    rack.cable_in("node1").unwrap();
    tell(&rack, "node1", "chassis bootdev pxe");
    tell(&rack, "node1", "chassis power reset");
    await_question(&capture);
}
