//! Processes that are away for long: what waits for them waits, and says so.

use crate::judge;
use crate::stage::{active, deploy, ready};
use crate::world::{Victim, World};
use boot::Up;
use control::{Control, Hand, Heard};
use core::time::Duration;
use deploy::Step;
use store::Memory;

/// A deployment, with somebody away for so long from before this step of the world; none: it was over by then.
fn away(victim: Victim, from: usize, time: Duration) -> Option<World> {
    let mut world = ready(1);
    world.intend(deploy(1, 1)).unwrap();
    while world.steps < from && world.record("n1").journey.is_some() {
        world.step();
    }
    world.record("n1").journey.as_ref()?;
    world.kill(victim, time);
    world.settle("n1", "active");
    Some(world)
}

#[test]
fn control_may_be_away_for_longer_than_any_patience_and_nothing_is_held_against_the_node() {
    for step in (0..).step_by(2) {
        let Some(world) = away(Victim::Control, step, Duration::from_secs(1000)) else { break };
        judge::deployed_once(&world, "n1");
    }
}

#[test]
fn a_hand_may_be_away_for_as_long_as_patience_lasts() {
    for hand in Hand::ALL {
        for step in (0..).step_by(5) {
            let Some(world) = away(Victim::Hand(hand), step, Duration::from_secs(15)) else { break };
            judge::deployed_once(&world, "n1");
        }
    }
}

#[test]
fn a_hand_that_stays_away_is_named() {
    for (hand, step) in [(Hand::Power, Step::SecurePort), (Hand::Switch, Step::SecurePort)] {
        let mut world = ready(1);
        world.pass(Duration::from_secs(1));
        world.kill(Victim::Hand(hand), Duration::from_secs(300));
        world.intend(deploy(1, 1)).unwrap();
        let view = world.settle("n1", "deploy failed");
        let failure = view.failure.unwrap();
        assert_eq!(failure.step, step);
        let says = format!("the {hand} service is away");
        assert!(failure.reason.contains(&says), "{}", failure.reason);
        assert!(!failure.unsafe_left.is_empty());
        world.pass(Duration::from_secs(300));
        judge::put_away(&world, "n1");
        world.intend(deploy(1, 1)).unwrap();
        world.settle("n1", "active");
    }
}

#[test]
fn a_tenant_notices_nothing_of_an_appliance_that_is_away() {
    let mut world = active();
    for _ in 0..3 {
        world.kill(Victim::Supervisor, Duration::from_secs(600));
        world.pass(Duration::from_secs(700));
        assert!(world.machine("n1").is_up());
        assert_eq!(world.machine("n1").ledger.power_ons, Vec::new());
        assert_eq!(world.view("n1").provision_state.to_string(), "active");
    }
}

#[test]
fn with_every_hand_gone_after_a_restart_patience_still_ends() {
    let mut world = ready(1);
    world.intend(deploy(1, 1)).unwrap();
    world.pass(Duration::from_secs(10));
    Hand::ALL.into_iter().for_each(|hand| world.kill(Victim::Hand(hand), Duration::from_secs(3000)));
    world.kill(Victim::Control, Duration::from_secs(1));
    world.run_until("the failure", |world| world.record("n1").failure.is_some());
    let failure = world.record("n1").failure.unwrap();
    assert!(failure.reason.contains("the power and the switch and the dhcp and the http service is away"));
}

#[test]
fn what_a_hand_told_holds_while_its_line_is_down_and_not_beyond_its_process() {
    let mut world = ready(1);
    world.intend(deploy(1, 1)).unwrap();
    world.run_until("the agent's job", |world| {
        world.view("n1").agent.is_some_and(|agent| agent.progress.is_some())
    });
    let (now, name) = (world.now, crate::stage::node(1).name);
    let control = world.control.as_mut().unwrap();
    let agent = |control: &Control<Memory>| control.node_view(&name, now).unwrap().agent;
    let hello = |epoch| Heard::Http(Up::Hello { hand: "http".into(), epoch, holds: None });
    control.handle_hand(Heard::Away(Hand::Http), now);
    assert!(agent(control).unwrap().progress.is_some());
    control.handle_hand(hello(1), now);
    assert!(agent(control).unwrap().progress.is_some());
    control.handle_hand(hello(2), now);
    assert_eq!(agent(control), None);
}
