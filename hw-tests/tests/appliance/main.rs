//! The appliance as its users have it: its image, booted, in the middle of a rack.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod cut;
mod data;
mod figures;
mod lease;
mod lone;
mod menu;
mod operation;
mod plug;
mod ports;
mod secure;
mod signed;
mod table;
mod update;
mod writes;

use hw_tests::artifact::{Flavour, Workshop, appliance, tiny};
use hw_tests::rack::{Description, Firmware, Power, UPLINK, reach, until};
use hw_tests::stand::{PATIENCE, Stand};
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Two emulated machines at once, on a host that is busy with other tests.
const WHOLE: Duration = Duration::from_secs(600);

fn directory(test: &str) -> PathBuf {
    let directory = std::env::temp_dir().join("kiln-tests").join(test);
    println!("consoles, captures and logs are in {}", directory.display());
    directory
}

/// A rack around the image of this build, which knows its networks and its switch, and the tiny user image.
fn stand(test: &str, firmware: Firmware) -> Stand {
    let image = appliance::built(&Workshop::open().unwrap()).unwrap();
    stand_of(test, firmware, &image.disk)
}

/// The same around another image.
fn stand_of(test: &str, firmware: Firmware, disk: &Path) -> Stand {
    let workshop = Workshop::open().unwrap();
    let description = Description::of_nodes(1, Firmware::Bios).unwrap();
    let stand = Stand::raise_image(&description, &directory(test), PATIENCE, disk, firmware).unwrap();
    stand.describe().unwrap();
    let tiny = tiny::image(&workshop, Flavour::Cloud).unwrap();
    stand.kiln(&["image", "import", "tiny", &tiny.path.display().to_string()]).unwrap();
    stand
}

/// Waits for a step of the node's journey.
fn step(stand: &Stand, node: &str, wanted: &str) {
    until(WHOLE, &format!("{node} to come to {wanted}"), || {
        let view = stand.node(node)?;
        assert!(view.failure.is_none(), "{view:?}");
        Ok(view.step.filter(|at| at.step.to_string() == wanted).map(drop))
    })
    .unwrap();
}

/// A stick without a file system.
fn wipe(stick: &Path) {
    let length = std::fs::metadata(stick).unwrap().len();
    std::fs::write(stick, vec![0; usize::try_from(length).unwrap()]).unwrap();
}

#[test]
fn an_appliance_that_loses_its_power_in_the_middle_goes_on_with_what_it_has_on_its_disk() {
    let mut stand = stand("image-power-cut", Firmware::Bios);
    let ssh = SocketAddrV4::new(UPLINK, 22);
    assert!(reach(stand.rack().kiln(), ssh).is_err(), "nobody logs in unless it is said who may");
    stand.enroll("node1").unwrap();
    let words = ["node", "deploy", "node1", "--image", "tiny", "--network", "tenant-1", "--no-wait"];
    stand.kiln(&words).unwrap();
    step(&stand, "node1", "agent");
    // Its configuration is on its data partition by now, as are its store, its images and its token.
    wipe(&stand.rack().appliance_home().join("stick.img"));
    stand.rack_mut().power_cycle_appliance().unwrap();
    assert!(stand.node("node1").is_err(), "it is off");
    stand.wait_answer(WHOLE).unwrap();

    let view = stand.wait_state("node1", "active", WHOLE).unwrap();
    let (tenant, _) = stand.rack().tenant("tenant-1").unwrap();
    let at = SocketAddrV4::new(view.address.unwrap(), 80);
    let said = until(Duration::from_secs(60), "node1 to greet its tenant", || {
        Ok(reach(tenant, at).ok().filter(|said| !said.is_empty()))
    });
    assert!(said.unwrap().contains("node1"));
    assert_eq!(stand.rack().power("node1").unwrap(), Power::On);
    let timeline = stand.kiln(&["-o", "json", "node", "timeline", "node1"]).unwrap();
    assert!(!timeline.contains("\"kind\":\"again\""), "a step was begun again:\n{timeline}");
    let console = stand.rack().appliance_console();
    let made = console.matches("makes the data partition").count();
    assert_eq!(made, 1, "the data partition is made once:\n{console}");

    // Started twice on trial, GRUB passed over slot A once; from now on it knows better.
    until(WHOLE, "the appliance to say that its slot is good", || {
        Ok(stand.rack().appliance_console().contains("slot A is good").then_some(()))
    })
    .unwrap();
    let before = stand.rack().appliance_console().len();
    stand.rack_mut().power_cycle_appliance().unwrap();
    stand.wait_answer(WHOLE).unwrap();
    let console = stand.rack().appliance_console();
    assert!(!console[before..].contains("no slot is left"), "{}", &console[before..]);
    assert_eq!(stand.node("node1").unwrap().provision_state.to_string(), "active");
}
