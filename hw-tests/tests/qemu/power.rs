//! BMCs: what they are told happens to a machine.

use crate::stage::{PATIENCE, ipmitool, ipmitool_as, rack, raise, tell};
use hw_tests::rack::{Description, Firmware, Nic, Power, VirtualRack};
use std::{io::Write as _, os::unix::net::UnixStream};

const NETWORK: &str = "iPXE initialising devices";
const DISK: &str = "Booting from Hard Disk";

#[test]
fn a_node_is_switched_on_and_off_by_its_own_bmc_only() {
    let rack = rack("on-off", 2, Firmware::Bios);
    assert_eq!(tell(&rack, "node1", "chassis power status"), "Chassis Power is off\n");
    for _twice in 0..2 {
        tell(&rack, "node1", "chassis power on");
        assert_eq!(tell(&rack, "node1", "chassis power status"), "Chassis Power is on\n");
    }
    assert_eq!((rack.power("node1").unwrap(), rack.power("node2").unwrap()), (Power::On, Power::Off));
    rack.wait_console("node1", Default::default(), "SeaBIOS", PATIENCE).unwrap();
    for _twice in 0..2 {
        tell(&rack, "node1", "chassis power off");
        assert_eq!(tell(&rack, "node1", "chassis power status"), "Chassis Power is off\n");
    }
    assert_eq!(rack.power("node1").unwrap(), Power::Off);
    tell(&rack, "node1", "chassis power on");
    rack.qemu_kill("node1").unwrap();
    assert_eq!(tell(&rack, "node1", "chassis power status"), "Chassis Power is off\n");
}

#[test]
fn a_boot_override_holds_for_one_start() {
    let rack = rack("override", 1, Firmware::Bios);
    tell(&rack, "node1", "chassis bootdev pxe");
    tell(&rack, "node1", "chassis power on");
    let said = rack.wait_console("node1", Default::default(), NETWORK, PATIENCE).unwrap();
    assert!(!said.contains(DISK), "the disk was tried first: {said}");

    let mark = rack.console_mark("node1").unwrap();
    tell(&rack, "node1", "chassis power reset");
    let said = rack.wait_console("node1", mark, NETWORK, PATIENCE).unwrap();
    assert!(said.contains(DISK), "the override outlived its start: {said}");

    let mark = rack.console_mark("node1").unwrap();
    tell(&rack, "node1", "chassis bootdev pxe");
    tell(&rack, "node1", "chassis power reset");
    let said = rack.wait_console("node1", mark, NETWORK, PATIENCE).unwrap();
    assert!(!said.contains(DISK), "a reset forgot the override: {said}");
}

#[test]
fn a_node_that_resets_itself_has_used_its_override_up() {
    let rack = rack("reboot", 1, Firmware::Bios);
    tell(&rack, "node1", "chassis bootdev pxe");
    tell(&rack, "node1", "chassis power on");
    rack.wait_console("node1", Default::default(), NETWORK, PATIENCE).unwrap();
    let mark = rack.console_mark("node1").unwrap();
    let mut qmp = UnixStream::connect(rack.directory().join("nodes/node1/qmp.sock")).unwrap();
    qmp.write_all(b"{\"execute\":\"qmp_capabilities\"}{\"execute\":\"system_reset\"}").unwrap();
    let said = rack.wait_console("node1", mark, DISK, PATIENCE).unwrap();
    let before_the_disk = said.split(DISK).next().unwrap();
    assert!(!before_the_disk.contains(NETWORK), "the override outlived its start: {said}");
}

#[test]
fn a_wrong_password_is_refused() {
    let rack = rack("password", 2, Firmware::Bios);
    for password in ["wrong", "", "secret-node2"] {
        let output = ipmitool_as(&rack, "node1", password, "chassis power on");
        assert!(!output.status.success(), "{output:?}");
    }
    assert_eq!(rack.power("node1").unwrap(), Power::Off);
}

#[test]
fn a_deaf_bmc_answers_nothing_until_it_hears_again() {
    let rack = rack("deaf", 1, Firmware::Bios);
    rack.bmc_deaf("node1").unwrap();
    assert!(!ipmitool(&rack, "node1", "chassis power status").status.success());
    rack.bmc_hears("node1").unwrap();
    tell(&rack, "node1", "chassis power status");
}

#[test]
fn an_inert_bmc_says_yes_and_does_nothing() {
    let rack = rack("inert", 1, Firmware::Bios);
    rack.bmc_inert("node1", true).unwrap();
    tell(&rack, "node1", "chassis bootdev pxe");
    tell(&rack, "node1", "chassis power on");
    assert_eq!(tell(&rack, "node1", "chassis power status"), "Chassis Power is off\n");
    assert_eq!(rack.power("node1").unwrap(), Power::Off);
    rack.bmc_inert("node1", false).unwrap();
    tell(&rack, "node1", "chassis power on");
    assert_eq!(rack.power("node1").unwrap(), Power::On);
}

#[test]
fn a_uefi_node_boots_by_its_firmwares_own_network_stack_and_obeys_an_override_once() {
    let mut description = Description::of_nodes(1, Firmware::Uefi).unwrap();
    description.nodes[0].hardware.as_mut().unwrap().rom = false;
    let rack = raise("uefi", &description);
    let network = "Start PXE over IPv4";
    let disk = "failed to load Boot0001";
    network_boots(&rack, network);
    let said = rack.console("node1").unwrap();
    assert!(!said.contains(disk), "the disk was tried first: {said}");
    let mark = rack.console_mark("node1").unwrap();
    tell(&rack, "node1", "chassis power cycle");
    let said = rack.wait_console("node1", mark, network, PATIENCE).unwrap();
    assert!(said.contains(disk), "the override outlived its start: {said}");
}

#[test]
fn an_e1000_boots_by_its_rom() {
    let mut description = Description::of_nodes(1, Firmware::Bios).unwrap();
    description.nodes[0].hardware.as_mut().unwrap().nic = Nic::E1000;
    network_boots(&raise("e1000", &description), "net0: 52:54:00:4b:00:01 using 82540em");
}

fn network_boots(rack: &VirtualRack, says: &str) {
    tell(rack, "node1", "chassis bootdev pxe");
    tell(rack, "node1", "chassis power on");
    rack.wait_console("node1", Default::default(), says, PATIENCE).unwrap();
}
