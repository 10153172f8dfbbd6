//! Any one process is killed at every step of the route; the deployment ends active, and what must be done
//! once is done once.

use crate::scene::{active, chassis, deploy, stand};
use hw_tests::rack::{Firmware, until};
use hw_tests::stand::{PATIENCE, Stand};

const STEPS: [&str; 7] = ["secure-port", "pxe", "agent", "write-image", "release-port", "boot", "verify"];

/// Kills services whenever the node enters another step, until it is active.
fn killed_at_every_step(test: &str, victims: &[&str]) {
    let stand = stand(test, 1, Firmware::Bios, PATIENCE);
    stand.enroll("node1").unwrap();
    let power_cycles =
        |stand: &Stand| chassis(stand, "node1").iter().filter(|line| line.starts_with("on, ")).count();
    let before = power_cycles(&stand);
    deploy(&stand, "node1", "tenant-1");
    let mut seen: Vec<String> = Vec::new();
    until(crate::scene::WHOLE, "the deployment to end", || {
        // The API is away while control is being restarted.
        let Ok(view) = stand.node("node1") else { return Ok(None) };
        let Some(step) = view.step else { return Ok(Some(())) };
        let step = step.step.to_string();
        if !seen.contains(&step) {
            seen.push(step);
            for victim in victims {
                stand.kill(victim)?;
            }
        }
        Ok(None)
    })
    .unwrap();
    let view = active(&stand, "node1", "tenant-1");
    println!("killed {victims:?} at {seen:?}");
    // Steps of milliseconds may pass between two looks; the long ones cannot.
    for step in ["pxe", "agent", "verify"] {
        assert!(seen.iter().any(|at| at == step), "never killed at {step}: {seen:?}");
    }
    assert!(seen.iter().all(|at| STEPS.contains(&at.as_str())), "{seen:?}");

    let timeline = stand.kiln(&["-o", "json", "node", "timeline", "node1"]).unwrap();
    assert!(!timeline.contains("\"kind\":\"again\""), "a step was begun again:\n{timeline}");
    assert_eq!(
        power_cycles(&stand) - before,
        2,
        "once for the ramdisk, once for the system: {:?}",
        chassis(&stand, "node1")
    );
    let logs = std::fs::read_dir(stand.home().join("data/logs")).unwrap();
    let log: String =
        logs.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap_or_default()).collect();
    let written = log.lines().filter(|line| line.contains("job done")).count();
    assert_eq!(written, 1, "the image is written once: {log}");
    assert!(view.written.is_some(), "and the outcome is known");
}

#[test]
fn control_is_killed_at_every_step() {
    killed_at_every_step("kill-control", &["control"]);
}

#[test]
fn the_dhcp_hand_is_killed_at_every_step() {
    killed_at_every_step("kill-dhcp", &["dhcp"]);
}

#[test]
fn the_tftp_and_http_hands_are_killed_at_every_step() {
    killed_at_every_step("kill-boot-files", &["tftp", "http"]);
}

#[test]
fn the_power_and_switch_hands_are_killed_at_every_step() {
    killed_at_every_step("kill-reach", &["power", "switch"]);
}

#[test]
fn the_supervisor_is_killed_at_every_step_and_everything_with_it() {
    killed_at_every_step("kill-supervisor", &["supervisor"]);
}
