//! Deployment by push: the ramdisk exports the disk over iSCSI, and the appliance writes it.

use crate::scene::{WHOLE, active, at_step, failed, image, stand};
use deploy::Patience;
use hw_tests::rack::{Firmware, until};
use hw_tests::stand::{PATIENCE, Stand};
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

/// The tiny image with so much more behind it that the writing lasts.
fn large(stand: &Stand) -> PathBuf {
    let path = stand.home().join("large.raw");
    fs::copy(image(), &path).unwrap();
    let mut file = File::options().append(true).open(&path).unwrap();
    // The same octets every time, and no two extents alike.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..160 {
        let mut extent = Vec::with_capacity(1 << 20);
        while extent.len() < 1 << 20 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            extent.extend(state.to_le_bytes());
        }
        file.write_all(&extent).unwrap();
        // A hole after every other one.
        file.set_len(file.metadata().unwrap().len() + ((state & 1) << 20)).unwrap();
        file.seek(SeekFrom::End(0)).unwrap();
    }
    stand.kiln(&["image", "import", "large", &path.display().to_string()]).unwrap();
    path
}

fn deploy(stand: &Stand, node: &str, image: &str, interface: &str) {
    stand
        .kiln(&[
            "node",
            "deploy",
            node,
            "--image",
            image,
            "--network",
            "tenant-1",
            "--interface",
            interface,
            "--no-wait",
        ])
        .unwrap();
}

fn disk(stand: &Stand, node: &str) -> PathBuf {
    stand.rack().disk(node).unwrap()
}

/// Octets that a disk has and another has not, as offsets of 4 KiB blocks.
fn differing(one: &PathBuf, other: &PathBuf) -> Vec<usize> {
    let read = |path: &PathBuf| {
        let mut octets = Vec::new();
        File::open(path).unwrap().read_to_end(&mut octets).unwrap();
        octets
    };
    let (one, other) = (read(one), read(other));
    assert_eq!(one.len(), other.len());
    let blocks = one.chunks(4096).zip(other.chunks(4096)).enumerate();
    blocks.filter(|(_, (a, b))| a != b).map(|(at, _)| at * 4096).collect()
}

/// Fills a node's disk with what an earlier tenant may have left.
fn litter(stand: &Stand, node: &str) {
    let path = disk(stand, node);
    let size = fs::metadata(&path).unwrap().len();
    let mut file = File::options().write(true).open(&path).unwrap();
    let old = vec![0xa5; 1 << 20];
    for _ in 0..size >> 20 {
        file.write_all(&old).unwrap();
    }
}

#[test]
fn a_disk_that_the_appliance_writes_holds_the_same_octets_as_one_that_the_agent_wrote() {
    let stand = stand("push-same", 2, Firmware::Bios, PATIENCE);
    for node in ["node1", "node2"] {
        litter(&stand, node);
        stand.enroll(node).unwrap();
    }
    deploy(&stand, "node1", "tiny", "direct");
    deploy(&stand, "node2", "tiny", "iscsi");
    active(&stand, "node1", "tenant-1");
    let view = active(&stand, "node2", "tenant-1");
    assert_eq!(differing(&disk(&stand, "node1"), &disk(&stand, "node2")), Vec::<usize>::new());
    let written = view.written.expect("it says what was written");
    assert!(matches!(written, agent_proto::Outcome::Written { received_bytes, .. } if received_bytes > 0));
}

/// Kills services in the middle of the writing, once the image is so far, in MiB.
fn killed_while_writing(test: &str, victims: &[&str], far: &[u64]) {
    let stand = stand(test, 1, Firmware::Bios, PATIENCE);
    let image = large(&stand);
    litter(&stand, "node1");
    stand.enroll("node1").unwrap();
    deploy(&stand, "node1", "large", "iscsi");
    at_step(&stand, "node1", "write-image");
    let mut killed = 0;
    for far in far {
        let reached = until(WHOLE, "the writing to be far enough", || {
            let Ok(view) = stand.node("node1") else { return Ok(None) };
            if view.step.is_none_or(|step| step.step.to_string() != "write-image") {
                return Ok(Some(false));
            }
            let done = view.agent.and_then(|agent| agent.progress).map_or(0, |progress| progress.done >> 20);
            Ok((done >= *far).then_some(true))
        });
        if reached.unwrap() {
            victims.iter().for_each(|victim| stand.kill(victim).unwrap());
            killed += 1;
        }
    }
    assert!(killed > 0, "the writing was over before anybody was killed");
    let view = active(&stand, "node1", "tenant-1");
    let timeline = stand.kiln(&["-o", "json", "node", "timeline", "node1"]).unwrap();
    assert!(!timeline.contains("\"kind\":\"again\""), "a step was begun again:\n{timeline}");
    assert!(view.written.is_some());
    // All of the image is there; its partition table's second half moved to the disk's end.
    let (mut there, mut meant) = (File::open(disk(&stand, "node1")).unwrap(), File::open(image).unwrap());
    let size = meant.metadata().unwrap().len();
    let tiny = fs::metadata(crate::scene::image()).unwrap().len();
    for at in (tiny..size).step_by(1 << 20) {
        let read = |file: &mut File| {
            let mut octets = vec![0; (size - at).min(1 << 20) as usize];
            file.seek(SeekFrom::Start(at)).unwrap();
            file.read_exact(&mut octets).unwrap();
            octets
        };
        assert!(read(&mut there) == read(&mut meant), "the disk differs from the image in the MiB at {at}");
    }
}

#[test]
fn the_iscsi_hand_is_killed_while_it_writes_and_goes_on() {
    killed_while_writing("push-kill-iscsi", &["iscsi"], &[20, 100]);
}

#[test]
fn control_and_the_http_hand_are_killed_while_a_disk_is_written() {
    killed_while_writing("push-kill-control", &["control", "http"], &[20]);
}

#[test]
fn a_node_that_loses_its_power_while_its_disk_is_written_is_written_again_from_the_beginning() {
    let stand = stand("push-power", 1, Firmware::Bios, Patience { progress: 15, ..PATIENCE });
    large(&stand);
    stand.enroll("node1").unwrap();
    deploy(&stand, "node1", "large", "iscsi");
    at_step(&stand, "node1", "write-image");
    stand.rack().qemu_kill("node1").unwrap();
    active(&stand, "node1", "tenant-1");
    let timeline = stand.kiln(&["-o", "json", "node", "timeline", "node1"]).unwrap();
    assert!(timeline.contains("\"kind\":\"again\""), "{timeline}");
}

#[test]
fn a_disk_that_is_too_small_for_a_push_is_said_with_both_sizes() {
    let stand = stand("push-small", 1, Firmware::Bios, PATIENCE);
    let path = stand.home().join("wide.raw");
    fs::copy(image(), &path).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(64 << 30).unwrap();
    stand.kiln(&["image", "import", "wide", &path.display().to_string()]).unwrap();
    stand.enroll("node1").unwrap();
    deploy(&stand, "node1", "wide", "iscsi");
    let view = failed(&stand, "node1");
    let failure = view.failure.unwrap();
    assert_eq!(failure.step.to_string(), "export", "{}", failure.reason);
    assert!(failure.reason.contains("68719"), "{}", failure.reason);
}
