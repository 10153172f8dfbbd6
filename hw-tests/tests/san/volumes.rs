//! More volumes on a node that runs.

use crate::guest::Guest;
use crate::scene::{WHOLE, deploy, diskless, stand, volume, volumes};
use boot::VolumeState;
use hw_tests::rack::{Firmware, until};

#[test]
fn a_volume_comes_to_a_running_node_and_goes_and_its_snapshot_stays_as_it_was() {
    let stand = stand("volumes", &diskless(2, Firmware::Bios));
    deploy(&stand, "node1", "tenant-1", &[]);
    let guest = Guest::active(&stand, "node1", "tenant-1", 1);
    stand.kiln(&["volume", "create", "data", "--size", "48M"]).unwrap();
    assert_eq!(guest.disk(2, false), None);

    stand.kiln(&["volume", "attach", "data", "--to", "node1"]).unwrap();
    let disk = guest.disk(2, true).unwrap();
    assert_eq!(disk.octets, 48 << 20);
    guest.write(&disk.name, b"in January").unwrap();
    stand.kiln(&["volume", "snapshot", "data", "--name", "january"]).unwrap();
    guest.write(&disk.name, b"in February").unwrap();
    assert!(guest.read(&disk.name).starts_with(b"in February"));
    for (command, said) in [
        (["volume", "delete", "data"].as_slice(), "detach"),
        (&["volume", "attach", "data", "--to", "node2"], "node1"),
    ] {
        let refused = stand.kiln(command).unwrap_err().to_string();
        assert!(refused.contains(said), "{command:?}: {refused}");
    }

    // What was written goes on being there after the node has let go of it and taken it up again.
    stand.kiln(&["volume", "detach", "data"]).unwrap();
    assert_eq!(guest.disk(2, false), None);
    assert_eq!(volume(&stand, "data").exported, None);
    stand.kiln(&["volume", "attach", "january", "--to", "node1", "--read-only"]).unwrap();
    let old = guest.disk(2, true).unwrap();
    assert!(guest.read(&old.name).starts_with(b"in January"));
    assert_eq!(guest.write(&old.name, b"in March"), None, "it is only to be read");
    stand.kiln(&["volume", "attach", "data", "--to", "node1"]).unwrap();
    let new = guest.disk(3, true).unwrap();
    assert!(guest.read(&new.name).starts_with(b"in February"));

    // The system's own volume is not for taking.
    let root = volumes(&stand).into_iter().find(|volume| volume.root).unwrap().name;
    let refused = stand.kiln(&["volume", "detach", root.as_str()]).unwrap_err().to_string();
    assert!(refused.contains("node1"), "{refused}");

    // All of it is there after a power cycle, without a scan.
    stand.rack().ipmitool("node1", "chassis power cycle").unwrap();
    guest.booted(2);
    let luns: Vec<_> = guest.disks().into_iter().filter_map(|disk| disk.lun).collect();
    assert_eq!(luns, [0, 2, 3]);

    stand.kiln(&["volume", "detach", "january"]).unwrap();
    stand.kiln(&["volume", "delete", "january"]).unwrap();
    assert_eq!(guest.disk(2, false), None);
    stand.kiln(&["node", "undeploy", "node1", "--no-wait"]).unwrap();
    stand.wait_state("node1", "available", crate::scene::WHOLE).unwrap();

    // A volume outlives the deployment that used it, and comes to another tenant's node.
    deploy(&stand, "node2", "tenant-2", &[]);
    let guest = Guest::active(&stand, "node2", "tenant-2", 1);
    stand.kiln(&["volume", "attach", "data", "--to", "node2"]).unwrap();
    let disk = guest.disk(2, true).unwrap();
    assert!(guest.read(&disk.name).starts_with(b"in February"));

    // Both come to need nothing of what they were made from, under a system that runs and writes.
    let root = volumes(&stand).into_iter().find(|volume| volume.root).unwrap();
    let held = |name: &str| match volume(&stand, name).state {
        Some(VolumeState::Ready { allocated, flat }) => (allocated, flat),
        other => panic!("{name} is {other:?}"),
    };
    let before = held(root.name.as_str());
    assert!(!before.1 && before.0 < root.size / 2, "a clone that holds little: {before:?}");
    for name in [root.name.as_str(), "data"] {
        stand.kiln(&["volume", "flatten", name]).unwrap();
        guest.write(&disk.name, b"in April").unwrap();
        until(WHOLE, "the volume to need nothing", || Ok(held(name).1.then_some(()))).unwrap();
    }
    assert!(held(root.name.as_str()).0 > before.0, "it holds what it read of the image before");
    stand.rack().ipmitool("node2", "chassis power cycle").unwrap();
    guest.booted(2);
    let disk = guest.disk(2, true).unwrap();
    assert!(guest.read(&disk.name).starts_with(b"in April"));
}
