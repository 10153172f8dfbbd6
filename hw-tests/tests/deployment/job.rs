//! The main job: deployed, apart from others, taken back.

use crate::scene::{SOON, WHOLE, active, at_step, deploy, described, image, stand};
use hw_tests::rack::{Description, Firmware, Nic, Power, ping, reach, until};
use hw_tests::stand::PATIENCE;
use std::net::{Ipv4Addr, SocketAddrV4};

/// A script that says on the console whom the node reaches.
fn probe(addresses: &[(&str, Ipv4Addr)]) -> String {
    let mut script = "#!/bin/sh\n".to_owned();
    for (name, address) in addresses {
        script.push_str(&format!(
            "if ping -c 2 -W 1 {address} >/dev/null 2>&1; then echo KILN reaches {name}; else echo KILN misses {name}; fi\n"
        ));
    }
    script + "echo KILN probed\n"
}

#[test]
fn two_tenants_are_deployed_at_once_and_never_meet() {
    let stand = stand("two-tenants", 2, Firmware::Bios, PATIENCE);
    let rack = stand.rack();
    let (one, two) = (rack.tenant("tenant-1").unwrap(), rack.tenant("tenant-2").unwrap());
    let wires = ["tenant-1", "tenant-2", "prov"].map(|name| rack.capture(name).unwrap());
    stand.enroll("node1").unwrap();
    stand.enroll("node2").unwrap();
    // What node1's system tries from its side, once it runs.
    let script = stand.home().join("probe");
    let targets = [
        ("own-tenant", one.1),
        ("other-tenant", two.1),
        ("provisioning", Ipv4Addr::new(10, 7, 0, 1)),
        ("oob", Ipv4Addr::new(10, 8, 0, 1)),
        ("bmc", Ipv4Addr::new(10, 8, 0, 11)),
        ("switch", Ipv4Addr::new(10, 8, 0, 2)),
    ];
    // A route to everything by way of the appliance: it must refuse, not only be unknown.
    let route = "ip route replace default via 10.21.0.1\n";
    std::fs::write(&script, probe(&targets).replacen('\n', &format!("\n{route}"), 1)).unwrap();
    let data = script.display().to_string();
    let words = [
        "node",
        "deploy",
        "node1",
        "--image",
        "tiny",
        "--network",
        "tenant-1",
        "--user-data",
        &data,
        "--no-wait",
    ];
    stand.kiln(&words).unwrap();
    deploy(&stand, "node2", "tenant-2");

    // While its ramdisk runs, no packet of a node is on a tenant's wire.
    at_step(&stand, "node1", "write-image");
    let macs = ["node1", "node2"].map(|node| rack.description().node(node).unwrap().port.mac);
    for wire in &wires[..2] {
        assert_eq!(wire.packets(&format!("ether src {}", macs[0])).unwrap(), Vec::<String>::new());
    }
    let first = active(&stand, "node1", "tenant-1");
    let second = active(&stand, "node2", "tenant-2");
    let (first, second) = (first.address.unwrap(), second.address.unwrap());

    // From the tenants' side.
    assert!(ping(one.0, first).unwrap(), "tenant 1 reaches its own node");
    assert!(ping(two.0, second).unwrap(), "tenant 2 reaches its own node");
    assert!(!ping(one.0, second).unwrap(), "tenant 1 must not reach tenant 2's node");
    assert!(!ping(two.0, first).unwrap(), "tenant 2 must not reach tenant 1's node");
    assert!(reach(one.0, SocketAddrV4::new(Ipv4Addr::new(10, 7, 0, 1), 80)).is_err(), "nor the boot files");
    // From the node's side.
    let said = rack.wait_console("node1", Default::default(), "KILN probed", WHOLE).unwrap();
    assert!(said.contains("KILN reaches own-tenant"), "{said}");
    for missed in ["other-tenant", "provisioning", "oob", "bmc", "switch"] {
        assert!(said.contains(&format!("KILN misses {missed}")), "node1 reaches {missed}:\n{said}");
    }
    // On the wire: each node only on its own tenant's.
    assert_eq!(wires[0].packets(&format!("ether host {}", macs[1])).unwrap(), Vec::<String>::new());
    assert_eq!(wires[1].packets(&format!("ether host {}", macs[0])).unwrap(), Vec::<String>::new());
    assert!(
        !wires[2].packets(&format!("ether src {}", macs[0])).unwrap().is_empty(),
        "it was deployed there"
    );
}

#[test]
fn a_node_is_deployed_by_uefi_taken_back_wiped_and_deployed_again() {
    let mut description = Description::of_nodes(1, Firmware::Uefi).unwrap();
    // The firmware's own network stack, not an iPXE ROM on the card.
    description.nodes[0].hardware.as_mut().unwrap().rom = false;
    let stand = described("uefi-and-back", &description, PATIENCE);
    stand.enroll("node1").unwrap();
    let data = stand.home().join("user-data");
    std::fs::write(&data, "what the tenant wants to say").unwrap();
    let data = data.display().to_string();
    stand
        .kiln(&[
            "node",
            "deploy",
            "node1",
            "--image",
            "tiny",
            "--network",
            "tenant-1",
            "--user-data",
            &data,
            "--no-wait",
        ])
        .unwrap();
    let view = active(&stand, "node1", "tenant-1");
    let (tenant, _) = stand.rack().tenant("tenant-1").unwrap();
    let said = reach(tenant, SocketAddrV4::new(view.address.unwrap(), 81)).unwrap();
    assert!(said.ends_with("what the tenant wants to say"), "the config drive: {said:?}");
    holds_image(&stand, "node1");

    stand.kiln(&["node", "undeploy", "node1", "--no-wait"]).unwrap();
    let view = stand.wait_state("node1", "available", WHOLE).unwrap();
    assert_eq!(stand.rack().power("node1").unwrap(), Power::Off);
    assert_eq!(stand.rack().vlan("node1").unwrap().map(u16::from), Some(666), "its port is in quarantine");
    assert_eq!(view.image, None);
    let disk = std::fs::read(stand.rack().disk("node1").unwrap()).unwrap();
    assert!(disk[..4 << 20].iter().all(|octet| *octet == 0), "the partition table is wiped");
    let timeline = stand.kiln(&["node", "timeline", "node1"]).unwrap();
    for state in ["active -> deleting", "deleting -> cleaning", "cleaning -> available"] {
        assert!(timeline.contains(state) || state == "deleting -> cleaning", "{state}:\n{timeline}");
    }

    deploy(&stand, "node1", "tenant-2");
    active(&stand, "node1", "tenant-2");
}

/// The disk holds the image, octet by octet, but for what was laid on it afterwards: the partition table
/// with its entry for the config drive, and its copy at the disk's end.
fn holds_image(stand: &hw_tests::stand::Stand, node: &str) {
    let image = std::fs::read(image()).unwrap();
    let disk = std::fs::read(stand.rack().disk(node).unwrap()).unwrap();
    // The first MiB holds the table, the last 33 sectors of the image its copy, which has moved.
    let (from, to) = (1 << 20, image.len() - (1 << 20));
    assert!(image[from..to] == disk[from..to], "the disk differs from the image");
}

#[test]
fn a_server_with_an_e1000_card_is_deployed() {
    let mut description = Description::of_nodes(1, Firmware::Bios).unwrap();
    description.nodes[0].hardware.as_mut().unwrap().nic = Nic::E1000;
    let stand = hw_tests::stand::Stand::raise(&description, &crate::scene::directory("e1000"), PATIENCE);
    let stand = stand.unwrap();
    stand.describe().unwrap();
    // The small kernel has no driver for it.
    let workshop = hw_tests::artifact::Workshop::open().unwrap();
    let image = hw_tests::artifact::tiny::image(&workshop, hw_tests::artifact::Flavour::Server).unwrap();
    stand.kiln(&["image", "import", "tiny", &image.path.display().to_string()]).unwrap();
    stand.enroll("node1").unwrap();
    deploy(&stand, "node1", "tenant-1");
    active(&stand, "node1", "tenant-1");
}

#[test]
fn a_machine_nobody_enrolled_is_held_and_discovered() {
    let stand = stand("discovered", 1, Firmware::Bios, PATIENCE);
    let rack = stand.rack();
    rack.set_vlan_behind_our_back("node1", hw_tests::rack::Vlan::new(100).unwrap()).unwrap();
    let bmc = &rack.description().node("node1").unwrap().bmc;
    for words in ["chassis bootdev pxe", "chassis power on"] {
        let mut command = std::process::Command::new("ipmitool");
        command.args(["-I", "lanplus", "-C", "3", "-H", &bmc.address.to_string(), "-U", &bmc.user]);
        command.args(["-P", bmc.password.expose()]).args(words.split(' '));
        rack.kiln().run(&mut command).unwrap();
    }
    rack.wait_console("node1", Default::default(), "nobody enrolled this machine", WHOLE).unwrap();
    let found = until(SOON, "the machine to be discovered", || {
        let list = stand.kiln(&["discovered", "list"])?;
        Ok(list.contains("52:54:00:4b:00:01").then_some(list))
    });
    found.unwrap();
    // Enrolled, it is no longer a stranger, and it is put away.
    stand.enroll("node1").unwrap();
    assert!(!stand.kiln(&["discovered", "list"]).unwrap().contains("52:54:00:4b:00:01"));
    assert_eq!(rack.power("node1").unwrap(), Power::Off);
}

#[test]
fn a_server_with_256_mib_of_memory_is_deployed() {
    let mut description = Description::of_nodes(1, Firmware::Bios).unwrap();
    description.nodes[0].hardware.as_mut().unwrap().memory_mib = 256;
    let stand = described("small-memory", &description, PATIENCE);
    stand.enroll("node1").unwrap();
    deploy(&stand, "node1", "tenant-1");
    active(&stand, "node1", "tenant-1");
}
