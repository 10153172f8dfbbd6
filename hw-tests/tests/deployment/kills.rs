//! Any one process is killed at every step of the route; the deployment ends active, and what must be done
//! once is done once.

use crate::scene::{SOON, active, chassis, deploy, directory, stand};
use hw_tests::rack::{Description, Firmware, until};
use hw_tests::stand::{PATIENCE, Stand};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;

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

/// A node's iPXE asks once: who is refused in the third of a second that a restart takes boots nothing.
#[test]
fn nobody_is_refused_while_the_http_hand_is_started_again() {
    let description = Description::of_nodes(1, Firmware::Bios).unwrap();
    let stand = Stand::raise(&description, &directory("refused"), PATIENCE).unwrap();
    stand.describe().unwrap();
    let client = stand.rack().move_tenant("tenant-1", "prov", Ipv4Addr::new(10, 7, 0, 200)).unwrap();
    let at = SocketAddr::from((description.network("prov").unwrap().subnet.address, 80));
    let ask = || -> io::Result<String> {
        let asked = client.inside(|| {
            let mut stream = TcpStream::connect_timeout(&at, SOON)?;
            stream.set_read_timeout(Some(SOON))?;
            stream.write_all(b"GET /nothing HTTP/1.1\r\nHost: kiln\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        });
        asked.unwrap()
    };
    until(SOON, "the http hand to listen", || Ok(ask().ok())).unwrap();
    for life in 0..5 {
        let pid = stand.service("http").unwrap();
        stand.kill("http").unwrap();
        until(SOON, "it to be gone", || Ok((!Path::new(&format!("/proc/{pid}")).exists()).then_some(())))
            .unwrap();
        let answer = ask().unwrap_or_else(|error| panic!("refused after kill {life}: {error}"));
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        until(SOON, "its successor", || Ok(stand.service("http").filter(|now| *now != pid))).unwrap();
    }
}
