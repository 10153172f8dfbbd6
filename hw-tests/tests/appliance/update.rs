//! From slot to slot: updates that come about, and updates that must not.

use super::{WHOLE, stand_of, step};
use control::ApplianceView;
use hw_tests::artifact::Workshop;
use hw_tests::artifact::appliance::{Image, Owner, Programs, Recipe, Release, Signer, image};
use hw_tests::artifact::cpio::Archive;
use hw_tests::rack::Firmware;
use hw_tests::stand::Stand;
use rack::{Slot, Stage};
use std::path::{Path, PathBuf};

/// The image of this build under a version's name, its bundle signed by a signer of these tests, and its kernel image
/// by our owner: bundles are for boxes with Secure Boot and without.
pub(super) fn release(version: &str, signer: &str, more: &Archive) -> Image {
    let workshop = Workshop::open().unwrap();
    let own = std::env::current_exe().unwrap();
    let programs = Programs::built(own.ancestors().nth(2).unwrap());
    let signer = self::signer(signer);
    let release = Release { version: version.to_owned(), commit: "of-a-test".to_owned() };
    let owner = owner("ours");
    let recipe =
        Recipe { programs: &programs, release: &release, signer: Some(&signer), owner: Some(&owner), more };
    image(&workshop, &recipe).unwrap().0
}

/// A signer of these tests, who signs bundles.
pub(super) fn signer(name: &str) -> Signer {
    let workshop = Workshop::open().unwrap();
    Signer::of(&workshop.target().join("artifacts/signers").join(name)).unwrap()
}

/// An owner of these tests, whose keys are a box's firmware's.
pub(super) fn owner(name: &str) -> Owner {
    let workshop = Workshop::open().unwrap();
    Owner::of(&workshop.target().join("artifacts/owners").join(name)).unwrap()
}

/// A system whose first process ends at once: the kernel panics.
pub(super) fn broken() -> Archive {
    let mut more = Archive::default();
    more.file("init", b"#!/bin/false\n".to_vec(), true);
    more
}

fn view(stand: &Stand) -> ApplianceView {
    stand.kiln_json(&["appliance", "show"]).unwrap()
}

fn update(stand: &Stand, bundle: &Path) -> Result<String, String> {
    stand.kiln(&["appliance", "update", &bundle.display().to_string()]).map_err(|e| e.to_string())
}

/// What runs, and what is in the other slot.
fn versions(view: &ApplianceView) -> (Slot, String, Option<String>) {
    let here = view.box_.as_ref().unwrap();
    let of = |slot: Slot| here.slots.iter().find(|there| there.slot == slot).unwrap().version.clone();
    (here.slot, of(here.slot).unwrap(), of(here.slot.other()))
}

#[test]
fn a_box_is_updated_and_comes_back_from_an_update_that_fails_while_a_node_is_deployed() {
    let first = release("0.7.1", "ours", &Archive::default());
    let stand = stand_of("image-update", Firmware::Bios, &first.disk);
    stand.enroll("node1").unwrap();
    let deploy = ["node", "deploy", "node1", "--image", "tiny", "--network", "tenant-1", "--no-wait"];
    stand.kiln(&deploy).unwrap();
    step(&stand, "node1", "agent");
    let before = view(&stand);
    assert_eq!(versions(&before), (Slot::A, "0.7.1".to_owned(), None), "{before:?}");

    let second = release("0.7.2", "ours", &Archive::default());
    let said = update(&stand, &second.bundle).unwrap();
    println!("{said}");
    stand.wait_state("node1", "active", WHOLE).unwrap();
    let after = view(&stand);
    assert_eq!(versions(&after), (Slot::B, "0.7.2".to_owned(), Some("0.7.1".to_owned())), "{after:?}");
    assert!(matches!(after.update.unwrap().stage, Some(Stage::Good { slot: Slot::B, .. })));

    refused(&stand, &second.bundle);

    stand.kiln(&["node", "undeploy", "node1", "--no-wait"]).unwrap();
    stand.wait_state("node1", "available", WHOLE).unwrap();
    stand.kiln(&deploy).unwrap();
    step(&stand, "node1", "agent");
    let third = release("0.7.3", "ours", &broken());
    let why = update(&stand, &third.bundle).unwrap_err();
    assert!(why.contains("0.7.3 in slot A failed its trial"), "{why}");
    stand.wait_state("node1", "active", WHOLE).unwrap();
    let back = view(&stand);
    let here = back.box_.clone().unwrap();
    assert_eq!(versions(&back), (Slot::B, "0.7.2".to_owned(), Some("0.7.3".to_owned())), "{back:?}");
    assert!(here.slots.iter().any(|slot| slot.slot == Slot::A && !slot.good && !slot.trial), "{here:?}");
    let console = stand.rack().appliance_console();
    assert!(console.contains("slot A failed its trial"), "{console}");
}

/// Bundles that no box may take leave it as it is.
fn refused(stand: &Stand, bundle: &Path) {
    let stranger = release("0.7.9", "stranger", &Archive::default());
    let why = update(stand, &stranger.bundle).unwrap_err();
    assert!(why.contains("signature verification failed"), "{why}");

    let folder = stand.rack().appliance_home();
    let whole = std::fs::read(bundle).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let text = b"[update]\n".repeat(100);
    for (name, octets) in
        [("cut", &whole[..whole.len() / 2]), ("flipped", flipped.as_slice()), ("text", text.as_slice())]
    {
        let file: PathBuf = folder.join(name);
        std::fs::write(&file, octets).unwrap();
        let why = update(stand, &file).unwrap_err();
        println!("{name}: {why}");
        assert!(why.contains("the update failed: RAUC refused it"), "{name}: {why}");
        std::fs::remove_file(&file).unwrap();
    }
    let after = view(stand);
    assert_eq!(versions(&after).1, "0.7.2", "{after:?}");
    // What was begun to be written is not started.
    let other = after.box_.unwrap().slots.into_iter().find(|slot| slot.slot == Slot::A).unwrap();
    assert!(!other.trial || !other.good, "{other:?}");
}
