//! Any one process is killed at every step on the way to a system that runs from its volume, and while it
//! runs; nothing is begun again, and nothing that was written is lost.

use crate::guest::Guest;
use crate::scene::{WHOLE, chassis, deploy, diskless, stand};
use hw_tests::rack::{Firmware, until};

const STEPS: [&str; 4] = ["clone", "release-port", "boot", "verify"];
/// What the node says on its way, within the last step.
const MARKS: [&str; 4] = ["Press Ctrl-B", "Registered SAN device", "GRUB", "KILN boots from"];

fn killed_all_the_way(test: &str, victims: &[&str]) {
    let stand = stand(test, &diskless(1, Firmware::Bios));
    let power_cycles = || chassis(&stand, "node1").iter().filter(|line| line.starts_with("on, ")).count();
    let before = power_cycles();
    deploy(&stand, "node1", "tenant-1", &[]);
    let mut seen: Vec<String> = Vec::new();
    until(WHOLE, "the deployment to end", || {
        // The API is away while control is being restarted.
        let Ok(view) = stand.node("node1") else { return Ok(None) };
        let Some(step) = view.step else { return Ok(Some(())) };
        let console = stand.rack().console("node1")?;
        let marks = MARKS.iter().filter(|mark| console.contains(**mark)).map(|mark| (*mark).to_owned());
        let new = [step.step.to_string()].into_iter().chain(marks).filter(|at| !seen.contains(at));
        let new: Vec<String> = new.collect();
        if !new.is_empty() {
            seen.extend(new);
            for victim in victims {
                stand.kill(victim)?;
            }
        }
        Ok(None)
    })
    .unwrap();
    let guest = Guest::active(&stand, "node1", "tenant-1", 1);
    println!("killed {victims:?} at {seen:?}");
    assert!(seen.iter().any(|at| at == "verify"), "never killed at verify: {seen:?}");
    assert!(seen.iter().all(|at| STEPS.contains(&at.as_str()) || MARKS.contains(&at.as_str())), "{seen:?}");
    let timeline = stand.kiln(&["-o", "json", "node", "timeline", "node1"]).unwrap();
    assert!(!timeline.contains("\"kind\":\"again\""), "a step was begun again:\n{timeline}");
    assert_eq!(power_cycles() - before, 1, "{:?}", chassis(&stand, "node1"));

    // And while it runs.
    for round in 0..3u8 {
        guest.keep("before", &[b'a' + round]);
        for victim in victims {
            stand.kill(victim).unwrap();
        }
        guest.keep("after", &[b'a' + round]);
        assert_eq!(guest.kept("before").unwrap(), [b'a' + round]);
    }
    assert_eq!(guest.trouble(), "");
    // A ROM asks for its script once; who serves it is away for a third of a second.
    until(WHOLE, "all services to be back", || {
        let Ok(status) = stand.kiln_json::<control::StatusView>(&["status"]) else { return Ok(None) };
        let serves = |hand: &control::HandView| hand.connected && hand.holds == Some(hand.newest);
        Ok(status.hands.iter().all(serves).then_some(()))
    })
    .unwrap();
    stand.rack().ipmitool("node1", "chassis power cycle").unwrap();
    guest.booted(2);
    assert_eq!(guest.kept("after").unwrap(), b"c");
}

#[test]
fn control_is_killed_on_the_way_to_a_volume() {
    killed_all_the_way("kill-control", &["control"]);
}

#[test]
fn the_iscsi_hand_is_killed_on_the_way_to_a_volume() {
    killed_all_the_way("kill-iscsi", &["iscsi"]);
}

#[test]
fn the_boot_hands_are_killed_on_the_way_to_a_volume() {
    killed_all_the_way("kill-boot", &["dhcp", "tftp", "http"]);
}

#[test]
fn the_power_and_switch_hands_are_killed_on_the_way_to_a_volume() {
    killed_all_the_way("kill-reach", &["power", "switch"]);
}

#[test]
fn the_supervisor_is_killed_on_the_way_to_a_volume_and_everything_with_it() {
    killed_all_the_way("kill-supervisor", &["supervisor"]);
}
