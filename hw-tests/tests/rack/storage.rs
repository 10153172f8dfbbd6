//! What is not on disk is not so: a store without room holds everything up, and loses nothing.

use crate::judge;
use crate::stage::{PROVISIONING, active, deploy, described, image, mac, node, ready, undeploy, vlan};
use crate::world::{AWAY, Victim, World};
use control::{Intent, RefusalKind};
use core::time::Duration;

/// What control says of the node is what is on disk.
fn agrees(world: &World) {
    let (Some(_), record) = (&world.control, world.record("n1")) else { return };
    let view = world.view("n1");
    assert_eq!(view.provision_state, record.state);
    assert_eq!(view.failure, record.failure);
    let there = record.journey.map(|journey| (journey.goal, journey.step, journey.attempt));
    assert_eq!(view.step.map(|step| (step.goal, step.step, step.attempt.0)), there);
}

/// Lets the disk be full for a while.
fn full(world: &mut World, time: Duration) {
    world.is_full = true;
    let end = world.now + time;
    let before = world.store.after_crash();
    while world.now < end {
        world.step();
        agrees(world);
    }
    assert_eq!(world.record("n1"), {
        use store::Typed as _;
        before.get_as("n1").unwrap().unwrap()
    });
    world.is_full = false;
}

#[test]
fn with_a_full_disk_at_any_moment_nothing_goes_on_and_with_room_everything_does() {
    let mut steps = 0..;
    loop {
        let step = steps.next().unwrap();
        let mut world = ready(1);
        world.intend(deploy(1, 1)).unwrap();
        while world.steps < step && world.record("n1").journey.is_some() {
            world.step();
        }
        if world.record("n1").journey.is_none() {
            break;
        }
        full(&mut world, Duration::from_secs(20));
        world.settle("n1", "active");
        judge::deployed_once(&world, "n1");
    }
}

#[test]
fn a_restart_while_the_disk_is_full_answers_people_and_goes_on_when_there_is_room() {
    let mut steps = (0..).step_by(3);
    loop {
        let step = steps.next().unwrap();
        let mut world = ready(1);
        world.intend(deploy(1, 1)).unwrap();
        while world.steps < step && world.record("n1").journey.is_some() {
            world.step();
        }
        if world.record("n1").journey.is_none() {
            break;
        }
        world.is_full = true;
        world.pass(Duration::from_secs(1));
        world.kill(Victim::Control, AWAY);
        world.store.fail_after(0, store::Failing::Refused);
        full(&mut world, Duration::from_secs(10));
        assert!(world.control.is_some(), "it is there to be asked");
        world.settle("n1", "active");
        judge::deployed_once(&world, "n1");
    }
}

#[test]
fn what_people_want_is_refused_with_the_reason_while_it_cannot_be_written_down() {
    let mut world = active();
    world.pass(Duration::from_secs(1));
    let other = image();
    let intents = [
        undeploy(1),
        Intent::PutImage(control::ImageRecord { name: "other".parse().unwrap(), ..other }),
        Intent::PutNode(rack::NodeSpec { firmware: rack::Firmware::Uefi, ..node(1) }),
    ];
    for intent in intents {
        world.store.fail_after(0, store::Failing::Refused);
        let refusal = world.intend(intent.clone()).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Storage);
        assert!(refusal.text.starts_with("the appliance cannot write this down, so it is not done: "));
        agrees(&world);
    }
    assert_eq!(world.record("n1").generation, 1);
    assert_eq!(world.insist(&undeploy(1)), control::Done::Changed);
    world.settle("n1", "available");
    judge::put_away(&world, "n1");
}

#[test]
fn a_machine_that_nobody_enrolled_is_remembered_once_there_is_room_for_it() {
    let mut world = described(0);
    world.pass(Duration::from_secs(1));
    world.store.fail_after(0, store::Failing::Refused);
    world.stranger(mac(77), vlan(PROVISIONING));
    world.pass(Duration::from_secs(10));
    assert_eq!(world.control.as_ref().unwrap().discovered_views().len(), 1);
}
