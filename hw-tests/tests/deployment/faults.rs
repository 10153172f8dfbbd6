//! Injected faults end as they should: the node in quarantine, its boot override disarmed, and the missing
//! arrow named.

use crate::scene::{active, at_step, chassis, deploy, described, failed, image, stand};
use control::NodeView;
use deploy::{Patience, Seen};
use hw_tests::rack::{Description, Firmware, Power, Vlan, until};
use hw_tests::stand::{PATIENCE, Stand};
use serde_json::json;
use std::time::Duration;

/// Patience for faults: shorter than a person's, and one attempt.
fn hasty() -> Patience {
    Patience { hand: 15, firmware: 30, ramdisk: 120, progress: 25, system: 60, tries: 1 }
}

/// The node is in quarantine and off, and its failure names this step and says this of what is missing.
fn put_away(stand: &Stand, view: &NodeView, step: &str, says: &str) {
    let failure = view.failure.as_ref().unwrap();
    assert_eq!(view.provision_state.to_string(), "deploy failed");
    assert_eq!(failure.step.to_string(), step, "{}", failure.reason);
    let explained = stand.kiln(&["node", "explain", view.name.as_str()]).unwrap();
    assert!(explained.contains(says), "{says:?} is not in\n{explained}");
    assert!(failure.evidence.iter().any(|arrow| arrow.seen == Seen::Missing), "{explained}");
    assert_eq!(stand.rack().vlan(view.name.as_str()).unwrap().map(u16::from), Some(666), "in quarantine");
}

fn off(stand: &Stand, view: &NodeView) {
    assert_eq!(view.failure.as_ref().unwrap().unsafe_left, Vec::<String>::new());
    assert_eq!(stand.rack().power(view.name.as_str()).unwrap(), Power::Off);
    let boots = chassis(stand, view.name.as_str());
    let armed = boots.iter().rev().find(|line| line.starts_with("boot ") || line.starts_with("on, "));
    assert_ne!(armed.map(String::as_str), Some("boot pxe"), "the boot override is disarmed: {boots:?}");
}

#[test]
fn a_wrong_bmc_password_is_said_at_once() {
    let stand = stand("wrong-password", 1, Firmware::Bios, hasty());
    let refused =
        stand.enroll_as("node1", |spec| spec["bmc"]["password"] = json!("not-the-one")).unwrap_err();
    assert!(refused.to_string().contains("password"), "{refused:#}");
    let view = stand.node("node1").unwrap();
    assert_eq!(view.provision_state.to_string(), "enroll");
    // Mended, it goes on.
    stand.enroll("node1").unwrap();
}

#[test]
fn a_deaf_bmc_leaves_the_node_in_quarantine_and_says_what_is_not_safe() {
    let stand = stand("deaf-bmc", 1, Firmware::Bios, hasty());
    stand.enroll("node1").unwrap();
    stand.rack().bmc_deaf("node1").unwrap();
    deploy(&stand, "node1", "tenant-1");
    let view = failed(&stand, "node1");
    put_away(&stand, &view, "secure-port", "10.8.0.11");
    let left = &view.failure.unwrap().unsafe_left;
    assert!(left.iter().any(|left| left.contains("disarm")), "{left:?}");
    stand.rack().bmc_hears("node1").unwrap();
}

#[test]
fn a_bmc_that_accepts_and_does_nothing_is_told_from_a_slow_one() {
    let stand = stand("inert-bmc", 1, Firmware::Bios, hasty());
    stand.enroll("node1").unwrap();
    stand.rack().bmc_inert("node1", true).unwrap();
    deploy(&stand, "node1", "tenant-1");
    let view = failed(&stand, "node1");
    put_away(&stand, &view, "pxe", "the BMC says the node is on");
    off(&stand, &view);
}

#[test]
fn a_cable_that_is_out_is_named_and_mended_it_goes_on() {
    let stand = stand("cable-out", 1, Firmware::Bios, Patience { firmware: 20, ..hasty() });
    stand.enroll("node1").unwrap();
    stand.rack().cable_out("node1").unwrap();
    deploy(&stand, "node1", "tenant-1");
    let view = failed(&stand, "node1");
    put_away(&stand, &view, "pxe", "a DHCP DISCOVER comes from it on port node1 of switch tor, VLAN 100");
    off(&stand, &view);
    stand.rack().cable_in("node1").unwrap();
}

#[test]
fn a_port_moved_behind_our_back_is_put_back() {
    let stand = stand("moved-once", 1, Firmware::Bios, PATIENCE);
    stand.enroll("node1").unwrap();
    deploy(&stand, "node1", "tenant-1");
    at_step(&stand, "node1", "pxe");
    stand.rack().set_vlan_behind_our_back("node1", Vlan::new(202).unwrap()).unwrap();
    until(Duration::from_secs(5), "the port to be put back", || {
        Ok((stand.rack().vlan("node1")?.map(u16::from) == Some(100)).then_some(()))
    })
    .unwrap();
    active(&stand, "node1", "tenant-1");
}

#[test]
fn a_port_that_somebody_keeps_moving_ends_the_deployment() {
    let stand = stand("moved-always", 1, Firmware::Bios, hasty());
    stand.enroll("node1").unwrap();
    deploy(&stand, "node1", "tenant-1");
    at_step(&stand, "node1", "pxe");
    let view = until(Duration::from_secs(60), "the deployment to end", || {
        let view = stand.node("node1")?;
        if view.failure.is_some() {
            return Ok(view.step.is_none().then_some(view));
        }
        stand.rack().set_vlan_behind_our_back("node1", Vlan::new(202).unwrap())?;
        Ok(None)
    })
    .unwrap();
    put_away(&stand, &view, "pxe", "was moved out of VLAN 100 by somebody else");
    off(&stand, &view);
}

#[test]
fn a_corrupted_octet_of_the_image_never_becomes_a_tenants_disk() {
    let stand = stand("corrupt-image", 1, Firmware::Bios, hasty());
    stand.enroll("node1").unwrap();
    let extents = stand.home().join("data/images/extents");
    let folder = std::fs::read_dir(&extents).unwrap().next().unwrap().unwrap().path();
    let extent = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let mut octets = std::fs::read(&extent).unwrap();
    octets[4711] ^= 0x10;
    std::fs::write(&extent, octets).unwrap();
    deploy(&stand, "node1", "tenant-1");
    let view = failed(&stand, "node1");
    put_away(&stand, &view, "write-image", &extent.file_name().unwrap().to_string_lossy()[..16]);
    off(&stand, &view);
}

#[test]
fn a_node_that_loses_power_while_its_image_is_written_is_deployed_by_a_second_attempt() {
    let stand = stand("power-loss", 1, Firmware::Bios, Patience { progress: 15, tries: 3, ..PATIENCE });
    stand.enroll("node1").unwrap();
    deploy(&stand, "node1", "tenant-1");
    at_step(&stand, "node1", "write-image");
    stand.rack().qemu_kill("node1").unwrap();
    active(&stand, "node1", "tenant-1");
    let timeline = stand.kiln(&["node", "timeline", "node1"]).unwrap();
    assert!(timeline.contains("begins again at secure-port, attempt 2"), "{timeline}");
}

#[test]
fn a_disk_smaller_than_the_image_is_told_with_both_sizes() {
    let mut description = Description::of_nodes(1, Firmware::Bios).unwrap();
    description.nodes[0].hardware.as_mut().unwrap().disk_mib = 12;
    let stand = described("small-disk", &description, hasty());
    stand.enroll("node1").unwrap();
    deploy(&stand, "node1", "tenant-1");
    let view = failed(&stand, "node1");
    put_away(&stand, &view, "write-image", "12582912");
    let reason = view.failure.as_ref().unwrap().reason.clone();
    let size = std::fs::metadata(image()).unwrap().len();
    assert!(reason.contains(&size.to_string()), "{reason}");
    off(&stand, &view);
}

#[test]
fn a_switch_without_the_port_is_named() {
    let stand = stand("no-such-port", 1, Firmware::Bios, hasty());
    stand.enroll_as("node1", |spec| spec["ports"][0]["local_link"]["port"] = json!("node9")).unwrap_err();
    let explained = stand.kiln(&["node", "explain", "node1"]).unwrap();
    assert!(explained.contains("node9") && explained.contains("tor"), "{explained}");
    assert!(explained.contains("NOT SAFE"), "{explained}");
}

#[test]
fn an_image_without_a_system_never_becomes_active() {
    let stand = stand("no-system", 1, Firmware::Bios, Patience { system: 40, ..hasty() });
    stand.enroll("node1").unwrap();
    let blank = stand.home().join("blank.raw");
    std::fs::write(&blank, vec![0x5a; 1 << 20]).unwrap();
    stand.kiln(&["image", "import", "blank", &blank.display().to_string()]).unwrap();
    stand
        .kiln(&["node", "deploy", "node1", "--image", "blank", "--network", "tenant-1", "--no-wait"])
        .unwrap();
    let view = failed(&stand, "node1");
    put_away(&stand, &view, "verify", "it is seen on the tenant's network");
    off(&stand, &view);
}

/// A small disk of its own for the appliance's data.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(place: std::path::PathBuf, size: &str) -> SmallDisk {
        use nix::mount::{MsFlags, mount};
        std::fs::create_dir_all(&place).unwrap();
        mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::empty(), Some(size)).unwrap();
        SmallDisk(place)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH).ok();
    }
}

#[test]
fn a_full_disk_refuses_what_it_cannot_keep_and_loses_nothing() {
    let description = Description::of_nodes(1, Firmware::Bios).unwrap();
    let mut stand = Stand::prepare(&description, &crate::scene::directory("full-disk"), hasty()).unwrap();
    let disk = SmallDisk::mount(stand.home().join("data"), "size=96m,mode=755");
    stand.start().unwrap();
    stand.describe().unwrap();
    stand.kiln(&["image", "import", "tiny", &image().display().to_string()]).unwrap();
    stand.enroll("node1").unwrap();

    // An image that has no room leaves nothing behind.
    let large = stand.home().join("large.raw");
    let noise: Vec<u8> = (0..96u32 << 18).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    std::fs::write(&large, noise).unwrap();
    let refused = stand.kiln(&["image", "import", "large", &large.display().to_string()]).unwrap_err();
    assert!(refused.to_string().contains("free"), "{refused:#}");
    assert!(!stand.kiln(&["image", "list"]).unwrap().contains("large"));

    // Full to the last octet: intents are refused with the reason, and nothing is half done.
    let filler = disk.0.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    let piece = vec![0x5a; 1 << 16];
    while std::io::Write::write_all(&mut file, &piece).is_ok() {}
    let words = ["node", "deploy", "node1", "--image", "tiny", "--network", "tenant-1", "--no-wait"];
    let refused = stand.kiln(&words).unwrap_err();
    assert!(refused.to_string().contains("cannot write this down"), "{refused:#}");
    assert_eq!(stand.node("node1").unwrap().provision_state.to_string(), "available");
    assert_eq!(stand.rack().power("node1").unwrap(), Power::Off);

    // With room again it goes on, without a restart.
    drop(file);
    std::fs::remove_file(&filler).unwrap();
    stand.kiln(&words).unwrap();
    active(&stand, "node1", "tenant-1");
    drop(stand);
    drop(disk);
}
