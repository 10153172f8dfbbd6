//! A node fails, and another boots as it. Never two writers.

use crate::guest::Guest;
use crate::scene::{SOON, Still, WHOLE, deploy, diskless, stand, with_sessions};
use hw_tests::rack::{Capture, Firmware, Power, Vlan, until};
use hw_tests::stand::Stand;
use std::process::Command;

/// A node with a system that has written, and a spare.
fn worn(test: &str) -> Stand {
    let stand = stand(test, &diskless(2, Firmware::Bios));
    deploy(&stand, "node1", "tenant-1", &[]);
    let guest = Guest::active(&stand, "node1", "tenant-1", 1);
    guest.keep("ledger", b"a hundred");
    stand.kiln(&["volume", "create", "more", "--size", "16M"]).unwrap();
    stand.kiln(&["volume", "attach", "more", "--to", "node1"]).unwrap();
    let disk = guest.disk(2, true).unwrap();
    guest.write(&disk.name, b"and one").unwrap();
    stand
}

/// The spare is what the failed node was, and has what it had.
fn took_over(stand: &Stand, before: std::net::Ipv4Addr) -> Guest<'_> {
    let view = stand.wait_state("node2", "active", WHOLE).unwrap();
    let (beside, _) = stand.rack().tenant("tenant-1").unwrap();
    let guest = Guest::of(beside, view.address.unwrap());
    assert_eq!(guest.address, before, "the same address");
    guest.booted(2);
    assert_eq!(guest.named("node2").mac, stand.rack().description().node("node2").unwrap().port.mac);
    assert_eq!(guest.kept("ledger").unwrap(), b"a hundred");
    let disk = guest.disks().into_iter().find(|disk| disk.lun == Some(2)).unwrap();
    assert!(guest.read(&disk.name).starts_with(b"and one"));
    assert_eq!(guest.trouble(), "");
    with_sessions(stand, "node2", 1);
    guest
}

/// Waits until a node's port is in quarantine again.
fn put_back(stand: &Stand, node: &str) {
    until(SOON, "the port to be put back", || {
        Ok((stand.rack().vlan(node)?.map(u16::from) == Some(666)).then_some(()))
    })
    .unwrap();
}

/// What a node sends to an iSCSI target.
fn asks(stand: &Stand, wires: &[Capture], node: &str) -> usize {
    let mac = stand.rack().description().node(node).unwrap().port.mac;
    wires.iter().map(|wire| wire.packets(&format!("tcp port 3260 and ether src {mac}")).unwrap().len()).sum()
}

#[test]
fn a_spare_takes_a_failed_nodes_place_with_its_data_and_its_address() {
    let stand = worn("replace");
    let address = stand.node("node1").unwrap().address.unwrap();
    stand.rack().qemu_kill("node1").unwrap();
    stand.kiln(&["node", "replace", "node1", "--with", "node2", "--no-wait"]).unwrap();
    let guest = took_over(&stand, address);
    let failed = stand.wait_state("node1", "manageable", WHOLE).unwrap();
    assert_eq!((failed.image, failed.storage.is_none()), (None, true));
    assert_eq!(stand.rack().power("node1").unwrap(), Power::Off);
    assert_eq!(stand.rack().vlan("node1").unwrap().map(u16::from), Some(666), "in quarantine");

    // It comes back by itself: somebody presses its button, and moves its cable besides.
    let wires = ["tenant-1", "quarantine"].map(|name| stand.rack().capture(name).unwrap());
    let mark = stand.rack().console_mark("node1").unwrap();
    {
        let _still = Still::stand(&stand, "switch");
        stand.rack().set_vlan_behind_our_back("node1", Vlan::new(201).unwrap()).unwrap();
        stand.rack().ipmitool("node1", "chassis power on").unwrap();
        until(WHOLE, "the failed node to give up", || {
            let said = stand.rack().console_after("node1", mark)?;
            let off = stand.rack().power("node1")? == Power::Off;
            let over = ["Nothing to boot", "No bootable device", "Kiln:"];
            Ok((off || over.iter().any(|end| said.contains(end))).then_some(()))
        })
        .unwrap();
    }
    put_back(&stand, "node1");
    let said = stand.rack().console_after("node1", mark).unwrap();
    assert!(!said.contains("Registered SAN device") && !said.contains("KILN"), "{said}");
    assert_eq!(asks(&stand, &wires, "node1"), 0, "the failed node reaches for a volume");
    guest.keep("ledger", b"still mine");
    assert_eq!(guest.kept("ledger").unwrap(), b"still mine");
    with_sessions(&stand, "node2", 1);
}

#[test]
fn a_node_that_still_runs_and_cannot_be_switched_off_never_writes_beside_its_successor() {
    let stand = worn("two-writers");
    let rack = stand.rack();
    let address = stand.node("node1").unwrap().address.unwrap();
    rack.bmc_deaf("node1").unwrap();
    stand.kiln(&["node", "replace", "node1", "--with", "node2", "--no-wait"]).unwrap();
    // Nobody says that it is off, so nothing of it is given away; it is shut out all the same.
    until(WHOLE, "the fence to be given up", || {
        let view = stand.node("node1")?;
        Ok((view.step.is_none() && view.failure.is_some()).then_some(()))
    })
    .unwrap();
    assert_eq!(stand.node("node2").unwrap().provision_state.to_string(), "available");
    assert_eq!(rack.power("node1").unwrap(), Power::On, "its BMC was deaf");
    assert_eq!(rack.vlan("node1").unwrap().map(u16::from), Some(666));

    // Somebody answers for it, wrongly.
    let words = ["node", "replace", "node1", "--with", "node2", "--off-by-hand", "--no-wait"];
    stand.kiln(&words).unwrap();
    let guest = took_over(&stand, address);
    guest.keep("ledger", b"the successor's");
    assert_eq!(rack.power("node1").unwrap(), Power::On, "it is still there");

    // Back on the tenant's wire, by the very address that its successor has, it asks to be let in with what
    // it knows.
    let wires = [rack.capture("tenant-1").unwrap()];
    {
        let _still = Still::stand(&stand, "switch");
        rack.set_vlan_behind_our_back("node1", Vlan::new(201).unwrap()).unwrap();
        until(WHOLE, "the failed node to ask for its volume", || {
            Ok((asks(&stand, &wires, "node1") > 3).then_some(()))
        })
        .unwrap();
    }
    put_back(&stand, "node1");
    // Which of the two it is must be known from here on.
    guest.beside.run(Command::new("ip").args(["neigh", "flush", "all"])).unwrap();
    let mac = rack.description().node("node2").unwrap().port.mac;
    until(SOON, "the successor to be heard again", || {
        Ok(guest.greeting().filter(|greeting| greeting.mac == mac).map(drop))
    })
    .unwrap();
    assert_eq!(guest.kept("ledger").unwrap(), b"the successor's");
    assert_eq!(guest.trouble(), "");
    until(SOON, "one session, the successor's", || {
        let sessions = crate::scene::sessions(&stand, "node2");
        Ok((sessions.len() == 1 && crate::scene::sessions(&stand, "node1").is_empty()).then_some(()))
    })
    .unwrap();

    // A power cycle reads what is on the volume, and not what is in the successor's memory.
    rack.qemu_kill("node1").unwrap();
    rack.ipmitool("node2", "chassis power cycle").unwrap();
    guest.booted(3);
    assert_eq!(guest.kept("ledger").unwrap(), b"the successor's");
    rack.bmc_hears("node1").unwrap();
}
