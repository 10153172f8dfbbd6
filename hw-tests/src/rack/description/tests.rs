use super::{Description, Firmware, Nic, Purpose, Vlan};

const ONE: &str = include_str!("../../../rack.toml");

fn refused(text: &str) -> String {
    format!("{:#}", Description::parse(text).unwrap_err())
}

fn replaced(from: &str, to: &str) -> String {
    assert!(ONE.contains(from), "{from}");
    ONE.replacen(from, to, 1)
}

#[test]
fn the_default_rack_has_two_nodes_and_five_networks() {
    let rack = Description::parse(ONE).unwrap();
    assert_eq!((rack.nodes.len(), rack.networks.len()), (2, 5));
    assert_eq!(rack.networks_for(Purpose::Tenant).count(), 2);
    assert_eq!(rack.network("prov").unwrap().vlan, Vlan::new(100));
    assert_eq!(rack.node("node2").unwrap().bmc.port, 623);
}

#[test]
fn what_is_written_is_read_back_the_same() {
    let rack = Description::of_nodes(80, Firmware::Uefi).unwrap();
    assert_eq!(Description::parse(&rack.to_toml().unwrap()).unwrap(), rack);
}

#[test]
fn a_generated_rack_has_no_two_nodes_alike() {
    let rack = Description::of_nodes(12, Firmware::Uefi).unwrap();
    let last = &rack.nodes[11];
    assert_eq!(last.name.as_str(), "node12");
    assert_eq!(last.bmc.address.to_string(), "10.8.0.22");
    assert_eq!(last.port.mac.to_string(), "52:54:00:4b:00:0c");
    assert_eq!(last.hardware.as_ref().unwrap().firmware, Firmware::Uefi);
    assert!(Description::of_nodes(0, Firmware::Bios).is_err());
    assert!(Description::of_nodes(81, Firmware::Bios).is_err());
}

#[test]
fn with_a_storage_network_every_node_has_a_second_nic_and_every_tenant_its_volumes_there() {
    let rack = Description::of_nodes(3, Firmware::Bios).unwrap().with_storage_network().unwrap();
    assert_eq!(Description::parse(&rack.to_toml().unwrap()).unwrap(), rack);
    assert_eq!(rack.network("storage").unwrap().purpose, Purpose::Storage);
    assert!(rack.networks_for(Purpose::Tenant).all(|network| network.storage.is_some()));
    let port = rack.nodes[2].storage_port.as_ref().unwrap();
    assert_eq!((port.mac.to_string().as_str(), port.switch_port.as_str()), ("52:54:00:4b:01:03", "node3-b"));
    assert!(rack.without_disks().nodes.iter().all(|n| n.hardware.as_ref().unwrap().disk_mib == 0));
    let said = refused(&replaced("vlan = 201", "vlan = 201\nstorage = \"prov\""));
    assert!(said.contains("tenant-1") && said.contains("prov"), "{said}");
}

#[test]
fn a_real_rack_has_no_virtual_tables() {
    let rack = Description::parse(&ONE.replace("[node.virtual]\nfirmware = \"bios\"", "")).unwrap();
    assert_eq!(rack.nodes[0].hardware, None);
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let said = refused(&replaced("vlan = 100", "vlna = 100"));
    assert!(said.contains("vlna") && said.contains("line"), "{said}");
    let said = refused(&replaced("firmware = \"bios\"", "firmware = \"bios\"\ncolour = \"red\""));
    assert!(said.contains("colour"), "{said}");
}

#[test]
fn a_password_is_never_shown() {
    assert!(!format!("{:?}", Description::parse(ONE).unwrap()).contains("secret-node1"));
}

#[test]
fn what_cannot_be_built_is_refused_by_name() {
    for (from, to, named) in [
        ("vlan = 100", "vlan = 4095", "4095"),
        ("vlan = 100", "vlan = 201", "VLAN 201"),
        ("vlan = 100", "", "prov"),
        ("purpose = \"oob\"", "purpose = \"oob\"\nvlan = 5", "oob"),
        ("last = \"10.7.0.99\"", "last = \"10.9.0.99\"", "10.9.0.99"),
        ("first = \"10.7.0.50\"", "first = \"10.7.0.1\"", "10.7.0.1"),
        ("first = \"10.7.0.50\"", "first = \"10.7.0.100\"", "prov"),
        ("name = \"node2\"", "name = \"node1\"", "node1"),
        ("switch = \"tor\"", "switch = \"top\"", "top"),
        ("switch_port = \"node2\"", "switch_port = \"node1\"", "tor node1"),
        ("52:54:00:4b:00:02", "52:54:00:4b:00:01", "52:54:00:4b:00:01"),
        ("52:54:00:4b:00:02", "53:54:00:4b:00:02", "53:54:00:4b:00:02"),
        ("10.8.0.12", "10.8.0.11", "10.8.0.11"),
        ("user = \"admin\"", "user = \"a b\"", "node1"),
        ("firmware = \"bios\"", "firmware = \"bios\"\nrom = false", "rom"),
        ("firmware = \"bios\"", "firmware = \"uefi\"\nrom = false\nnic = \"e1000\"", "OVMF"),
    ] {
        let said = refused(&replaced(from, to));
        assert!(said.contains(named), "{to}: {said}");
        assert!(!said.contains('\n') || said.contains("line"), "{said}");
    }
}

#[test]
fn a_nic_is_called_as_qemu_calls_it() {
    let text = replaced("firmware = \"bios\"", "firmware = \"bios\"\nnic = \"e1000\"");
    let hardware = Description::parse(&text).unwrap().nodes[0].hardware.clone().unwrap();
    assert_eq!((hardware.nic, hardware.nic.device()), (Nic::E1000, "e1000"));
}
