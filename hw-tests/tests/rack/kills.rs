//! Any process may be killed at any moment: deployments go on, and nothing is done twice that must be once.

use crate::judge;
use crate::machine::Content;
use crate::stage::{active, deploy, ready, undeploy};
use crate::world::{Victim, World};
use control::Intent;
use store::Failing;

/// A whole deployment on a rack of one node.
fn deployed(kills: &[(usize, Victim)], weather: Option<u64>) -> World {
    let mut world = ready(1);
    if let Some(seed) = weather {
        world.weather(seed);
    }
    world.kills = kills.to_vec();
    world.insist(&deploy(1, 1));
    world.settle("n1", "active");
    world
}

/// A node that was active, taken back.
fn taken_back(kills: &[(usize, Victim)]) -> World {
    let mut world = active();
    world.kills = kills.to_vec();
    world.insist(&undeploy(1));
    world.settle("n1", "available");
    world
}

fn wiped_once(world: &World) {
    judge::put_away(world, "n1");
    let machine = world.machine("n1");
    assert_eq!(machine.disk.content, Content::Blank);
    assert_eq!(machine.ledger.wipes_done.len(), 1, "{}", world.story());
    assert_eq!(machine.ledger.power_ons.len(), 1, "{}", world.story());
    assert_eq!(world.events("n1", "again"), Vec::new());
    let before = active().record("n1").journeys;
    assert_eq!(world.record("n1").journeys, before + 2, "to be deleted, to be cleaned");
}

fn numbers(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move |most| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) as usize % most
    }
}

#[test]
fn whoever_is_killed_between_any_two_steps_of_a_deployment_it_ends_active_and_all_was_done_once() {
    let steps = deployed(&[], None).steps;
    assert!(steps > 100, "a deployment takes only {steps} steps");
    for victim in Victim::ALL {
        for step in 0..steps {
            let world = deployed(&[(step, victim)], None);
            judge::deployed_once(&world, "n1");
        }
    }
}

#[test]
fn whoever_is_killed_between_any_two_steps_of_taking_a_node_back_it_is_wiped_once() {
    let steps = taken_back(&[]).steps;
    assert!(steps > 80, "taking a node back takes only {steps} steps");
    for victim in Victim::ALL {
        for step in 0..steps {
            wiped_once(&taken_back(&[(step, victim)]));
        }
    }
}

#[test]
fn two_kills_of_anybody_at_any_two_moments_change_nothing_either() {
    let steps = deployed(&[], None).steps;
    for seed in 0..400 {
        let mut pick = numbers(seed + 1);
        let kills = [0; 2].map(|_| (pick(steps), Victim::ALL[pick(Victim::ALL.len())]));
        let world = deployed(&kills, Some(seed + 1));
        judge::deployed_once(&world, "n1");
    }
}

#[test]
fn a_deployment_is_the_same_in_whatever_order_what_is_on_its_way_arrives() {
    for seed in 1..200 {
        judge::deployed_once(&deployed(&[], Some(seed)), "n1");
    }
}

/// The intent, and everything after it, with the store's disk broken at its `at`th commit from here.
fn broken_at(mut world: World, intent: &Intent, state: &str, at: u64, failing: Failing) -> (World, bool) {
    world.store.fail_after(at, failing);
    world.insist(intent);
    world.settle("n1", state);
    let crashed = world.crashes > 0;
    (world, crashed)
}

#[test]
fn a_crash_in_the_middle_of_any_commit_loses_nothing_whether_the_commit_is_on_disk_or_not() {
    for failing in [Failing::Lost, Failing::Kept] {
        let mut commits = 0;
        loop {
            let (world, crashed) = broken_at(ready(1), &deploy(1, 1), "active", commits, failing);
            judge::deployed_once(&world, "n1");
            if !crashed {
                break;
            }
            commits += 1;
        }
        assert!(commits >= 15, "a deployment takes only {commits} commits");
        commits = 0;
        loop {
            let (world, crashed) = broken_at(active(), &undeploy(1), "available", commits, failing);
            wiped_once(&world);
            if !crashed {
                break;
            }
            commits += 1;
        }
        assert!(commits >= 10, "taking back takes only {commits} commits");
    }
}
