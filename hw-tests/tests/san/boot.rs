//! The main job: booted from a clone, written to, power-cycled, taken back.

use crate::guest::Guest;
use crate::scene::{SOON, WHOLE, deploy, diskless, stand, volumes, with_sessions};
use hw_tests::rack::{Description, Firmware, Power, reach, until};
use hw_tests::stand::Stand;
use std::net::{Ipv4Addr, SocketAddrV4};

/// Writes user data where `kiln` can read it.
fn user_data(stand: &Stand, text: &str) -> String {
    let file = stand.home().join("user-data");
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

#[test]
fn a_node_without_disks_boots_from_its_volume_by_bios_and_keeps_what_it_writes() {
    let stand = stand("bios", &diskless(1, Firmware::Bios));
    let data = user_data(&stand, "what the tenant wants to say\n");
    deploy(&stand, "node1", "tenant-1", &["--user-data", &data]);
    let guest = Guest::active(&stand, "node1", "tenant-1", 1);
    assert_eq!(guest.user_data(), "what the tenant wants to say\n");
    let disks = guest.disks();
    assert_eq!(disks.iter().map(|disk| disk.lun).collect::<Vec<_>>(), [Some(0), Some(1)], "{disks:?}");
    with_sessions(&stand, "node1", 1);
    guest.keep("diary", b"first day");

    // The tenant's own power cycle, of which the appliance is not told.
    stand.rack().ipmitool("node1", "chassis power cycle").unwrap();
    guest.booted(2);
    assert_eq!(guest.kept("diary").unwrap(), b"first day");
    guest.named("node1");
    // A power cut in the middle of what it does.
    guest.keep("diary", b"second day");
    stand.rack().qemu_kill("node1").unwrap();
    stand.rack().ipmitool("node1", "chassis power on").unwrap();
    guest.booted(3);
    assert_eq!(guest.kept("diary").unwrap(), b"second day");
    assert_eq!(guest.trouble(), "");
    assert_eq!(stand.node("node1").unwrap().provision_state.to_string(), "active");

    stand.kiln(&["node", "undeploy", "node1", "--no-wait"]).unwrap();
    stand.wait_state("node1", "available", WHOLE).unwrap();
    assert_eq!(stand.rack().power("node1").unwrap(), Power::Off);
    assert_eq!(stand.rack().vlan("node1").unwrap().map(u16::from), Some(666), "its port is in quarantine");
    until(SOON, "its volume to be removed", || Ok(volumes(&stand).is_empty().then_some(()))).unwrap();

    // Another deployment begins with the image, not with what the last one left.
    deploy(&stand, "node1", "tenant-2", &[]);
    let guest = Guest::active(&stand, "node1", "tenant-2", 1);
    assert_eq!(guest.kept("diary"), None);
    assert_eq!(guest.user_data(), "");
}

#[test]
fn a_node_boots_from_its_volume_by_uefi_and_its_own_disk_is_not_touched() {
    let mut description = Description::of_nodes(1, Firmware::Uefi).unwrap();
    // The firmware's own network stack, not an iPXE ROM on the card.
    description.nodes[0].hardware.as_mut().unwrap().rom = false;
    let stand = stand("uefi", &description);
    let data = user_data(&stand, "#!/bin/sh\necho KILN runs what it was given\n");
    deploy(&stand, "node1", "tenant-1", &["--user-data", &data]);
    let guest = Guest::active(&stand, "node1", "tenant-1", 1);
    stand.rack().wait_console("node1", Default::default(), "KILN runs what it was given", SOON).unwrap();
    guest.keep("diary", b"first day");
    stand.rack().ipmitool("node1", "chassis power cycle").unwrap();
    guest.booted(2);
    assert_eq!(guest.kept("diary").unwrap(), b"first day");
    assert_eq!(guest.trouble(), "");
    let disk = std::fs::read(stand.rack().disk("node1").unwrap()).unwrap();
    assert!(disk.iter().all(|octet| *octet == 0), "something was written on the node's own disk");
}

#[test]
fn with_a_storage_network_nothing_of_its_volume_is_on_the_tenants_wire() {
    let description = diskless(1, Firmware::Bios).with_storage_network().unwrap();
    let stand = stand("storage-network", &description);
    let rack = stand.rack();
    let wires = ["tenant-1", "storage"].map(|name| rack.capture(name).unwrap());
    deploy(&stand, "node1", "tenant-1", &[]);
    let guest = Guest::active(&stand, "node1", "tenant-1", 1);
    assert_eq!(rack.vlan("node1").unwrap().map(u16::from), Some(201));
    assert_eq!(rack.storage_vlan("node1").unwrap().map(u16::from), Some(300));
    guest.keep("diary", b"first day");
    rack.ipmitool("node1", "chassis power cycle").unwrap();
    guest.booted(2);
    assert_eq!(guest.kept("diary").unwrap(), b"first day");
    assert_eq!(wires[0].packets("tcp port 3260").unwrap(), Vec::<String>::new());
    assert!(!wires[1].packets("tcp port 3260").unwrap().is_empty());
    // The boot script, which holds the secrets, is not there either.
    assert_eq!(wires[0].packets("tcp port 80 and src host 10.21.0.1").unwrap(), Vec::<String>::new());
    let (tenant, _) = rack.tenant("tenant-1").unwrap();
    for portal in [Ipv4Addr::new(10, 21, 0, 1), Ipv4Addr::new(10, 30, 0, 1)] {
        assert!(reach(tenant, SocketAddrV4::new(portal, 3260)).is_err(), "a tenant reaches {portal}");
    }

    stand.kiln(&["node", "undeploy", "node1", "--no-wait"]).unwrap();
    stand.wait_state("node1", "available", WHOLE).unwrap();
    assert_eq!(rack.storage_vlan("node1").unwrap().map(u16::from), Some(666));
}

#[test]
fn a_node_boots_from_its_volume_by_the_uefi_of_its_second_card() {
    let mut description = diskless(1, Firmware::Uefi).with_storage_network().unwrap();
    let hardware = description.nodes[0].hardware.as_mut().unwrap();
    (hardware.rom, hardware.storage_first) = (false, true);
    let stand = stand("storage-uefi", &description);
    deploy(&stand, "node1", "tenant-1", &[]);
    Guest::active(&stand, "node1", "tenant-1", 1).keep("diary", b"first day");
}
