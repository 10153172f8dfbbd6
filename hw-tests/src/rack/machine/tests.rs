use super::{BootDevice, Chassis, Machine, uuid};
use crate::rack::description::{Description, Firmware};
use std::path::Path;

fn command_line(firmware: Firmware, device: BootDevice) -> String {
    let description = Description::of_nodes(1, firmware).unwrap();
    let machine = Machine::of(&description.nodes[0], 9100).unwrap();
    let chassis = Chassis { directory: Path::new("/rack/nodes/node1").to_owned(), machine };
    let qemu = chassis.qemu(device);
    qemu.get_args().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_uuid_is_of_version_8_and_a_names_own() {
    assert_eq!(uuid("node1"), "cd7ba486-5283-894f-b081-2bd06e3b493c");
    for number in 0..1000 {
        let one = uuid(&format!("node{number}"));
        assert_eq!((one.len(), &one[14..15]), (36, "8"), "{one}");
        assert!(matches!(&one[19..20], "8" | "9" | "a" | "b"), "{one}");
    }
    assert_ne!(uuid("node1"), uuid("node2"));
}

#[test]
fn the_disk_comes_first_but_for_a_network_override() {
    for device in [BootDevice::None, BootDevice::Disk, BootDevice::Cdrom, BootDevice::Bios] {
        let line = command_line(Firmware::Bios, device);
        assert!(line.contains("serial=node1,bootindex=1") && line.contains(":01,bootindex=2"), "{line}");
    }
    let line = command_line(Firmware::Bios, BootDevice::Pxe);
    assert!(line.contains("serial=node1,bootindex=2") && line.contains(":01,bootindex=1"), "{line}");
}

#[test]
fn a_second_nic_comes_after_the_first_and_a_node_may_have_no_disk() {
    let description = Description::of_nodes(1, Firmware::Bios).unwrap();
    let description = description.with_storage_network().unwrap().without_disks();
    let machine = Machine::of(&description.nodes[0], 9100).unwrap();
    let chassis = Chassis { directory: "/rack".into(), machine };
    for (device, first) in [(BootDevice::Pxe, 1), (BootDevice::None, 2)] {
        let qemu = chassis.qemu(device);
        let line = qemu.get_args().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ");
        for (mac, tap, index) in [("00:01", "node1", first), ("01:01", "node1-b", first + 1)] {
            assert!(line.contains(&format!("mac=52:54:00:4b:{mac},bootindex={index}")), "{line}");
            assert!(line.contains(&format!("ifname={tap},")), "{line}");
        }
        assert!(!line.contains("disk.img") && !line.contains("disk0"), "{line}");
    }
}

#[test]
fn a_firmware_that_was_set_so_tries_the_storage_port_first() {
    let mut description = Description::of_nodes(1, Firmware::Uefi).unwrap().with_storage_network().unwrap();
    description.nodes[0].hardware.as_mut().unwrap().storage_first = true;
    let machine = Machine::of(&description.nodes[0], 9100).unwrap();
    let qemu = Chassis { directory: "/rack".into(), machine }.qemu(BootDevice::Pxe);
    let line = qemu.get_args().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" ");
    for end in ["4b:00:01,bootindex=2", "4b:01:01,bootindex=1", "serial=node1,bootindex=3"] {
        assert!(line.contains(end), "{end}: {line}");
    }
}

#[test]
fn a_nic_without_a_rom_says_so() {
    let mut description = Description::of_nodes(1, Firmware::Uefi).unwrap();
    description.nodes[0].hardware.as_mut().unwrap().rom = false;
    let machine = Machine::of(&description.nodes[0], 9100).unwrap();
    let chassis = Chassis { directory: "/rack".into(), machine };
    let qemu = chassis.qemu(BootDevice::Pxe);
    assert!(qemu.get_args().any(|word| word.to_str().unwrap().ends_with("bootindex=1,romfile=")));
    assert!(!command_line(Firmware::Uefi, BootDevice::Pxe).contains("romfile"));
}

#[test]
fn boot_devices_are_read_as_they_are_written() {
    for device in [BootDevice::None, BootDevice::Pxe, BootDevice::Disk, BootDevice::Cdrom, BootDevice::Bios] {
        assert_eq!(device.to_string().parse::<BootDevice>().unwrap(), device);
    }
    assert!("floppy".parse::<BootDevice>().is_err());
}

#[test]
fn a_node_of_a_real_rack_is_no_machine() {
    let mut description = Description::of_nodes(1, Firmware::Bios).unwrap();
    description.nodes[0].hardware = None;
    let said = Machine::of(&description.nodes[0], 9100).unwrap_err().to_string();
    assert!(said.contains("node1") && said.contains("virtual"), "{said}");
}
