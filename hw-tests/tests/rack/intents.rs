//! What people want, in the middle of anything.

use crate::judge;
use crate::machine::Content;
use crate::stage::{PROVISIONING, TENANTS, active, deploy, image, network, node, ready, tor, undeploy, vlan};
use crate::world::World;
use boot::{Digest, HttpFact, Row, Up};
use control::{Control, Done, Heard, Intent, RefusalKind};
use core::time::Duration;
use deploy::Step;
use rack::{NetworkSpec, Purpose};

/// Something done before each step of a deployment, each time in a rack of its own.
fn at_every_step(mut what: impl FnMut(&mut World)) {
    for step in 0.. {
        let mut world = ready(1);
        world.intend(deploy(1, 1)).unwrap();
        while world.steps < step && world.record("n1").journey.is_some() {
            world.step();
        }
        if world.record("n1").journey.is_none() {
            assert!(step > 100, "a deployment takes only {step} steps");
            break;
        }
        what(&mut world);
    }
}

#[test]
fn a_node_taken_back_in_the_middle_of_any_step_is_wiped_and_ends_off_in_quarantine() {
    at_every_step(|world| {
        assert_eq!(world.intend(undeploy(1)).unwrap(), Done::Changed);
        world.settle("n1", "available");
        judge::put_away(world, "n1");
        let machine = world.machine("n1");
        assert_eq!(machine.disk.content, Content::Blank);
        assert_eq!(machine.ledger.wipes_done.len(), 1);
        assert_eq!(world.events("n1", "again"), Vec::new(), "{}", world.story());
    });
}

#[test]
fn the_same_deployment_asked_for_again_is_there_already_and_another_is_refused() {
    at_every_step(|world| {
        let before = world.record("n1");
        assert_eq!(world.intend(deploy(1, 1)).unwrap(), Done::Already);
        let refusal = world.intend(deploy(1, 2)).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Conflict);
        assert_eq!(world.record("n1").journeys, before.journeys);
    });
    let mut world = active();
    let before = world.record("n1");
    assert_eq!(world.intend(deploy(1, 1)).unwrap(), Done::Already);
    assert_eq!(world.record("n1"), before);
}

#[test]
fn a_restart_at_any_step_computes_the_same_plans_from_what_is_on_disk() {
    at_every_step(|world| {
        let site = world.site.clone();
        let again = Control::open(world.store.after_crash(), site, [9; 32], world.now).unwrap();
        assert!(again.plans() == world.control.as_ref().unwrap().plans());
        for hand in control::Hand::ALL {
            assert!(again.generation(hand) > world.control.as_ref().unwrap().generation(hand));
        }
    });
}

#[test]
fn what_is_in_use_cannot_be_deleted_nor_changed_beneath_its_users() {
    at_every_step(|world| {
        let name = |name: &str| name.parse().unwrap();
        let moved = network("tenant-1", 203, Purpose::Tenant, "10.21.0.1/24");
        let mut recabled = node(1);
        recabled.ports[0].local_link.port = "n7".parse().unwrap();
        let in_use = [
            Intent::DeleteNode(node(1).name),
            Intent::DeleteImage(image().name),
            Intent::DeleteNetwork(name("tenant-1")),
            Intent::DeleteNetwork(name("prov")),
            Intent::DeleteNetwork(name("quarantine")),
            Intent::DeleteSwitch(tor().name),
            Intent::PutNetwork(moved),
            Intent::PutNode(recabled),
        ];
        for intent in in_use {
            let refusal = world.intend(intent.clone()).unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::Conflict, "{intent:?}: {refusal}");
            assert!(refusal.text.contains("n1"), "it names who uses it: {refusal}");
        }
    });
}

#[test]
fn nothing_that_is_used_by_an_active_node_can_be_deleted_but_its_image() {
    let mut world = active();
    let refused = [
        Intent::DeleteNode(node(1).name),
        Intent::DeleteNetwork("tenant-1".parse().unwrap()),
        Intent::DeleteNetwork("quarantine".parse().unwrap()),
        Intent::DeleteSwitch(tor().name),
        Intent::Manage(node(1).name),
        Intent::Provide { node: node(1).name, clean: true },
    ];
    for intent in refused {
        assert_eq!(world.intend(intent).unwrap_err().kind, RefusalKind::Conflict);
    }
    assert_eq!(world.intend(Intent::DeleteImage(image().name)).unwrap(), Done::Changed);
    world.pass(Duration::from_secs(60));
    assert!(world.machine("n1").is_up());
    assert_eq!(world.vlan_of(world.machine("n1")), vlan(TENANTS[0]));
}

/// A deployment that failed and is on its way into quarantine, which takes its time as the BMC is deaf.
fn failing() -> World {
    let mut world = ready(1);
    world.machine_mut("n1").bmc.is_deaf = true;
    world.intend(deploy(1, 1)).unwrap();
    world.run_until("the failure", |world| world.record("n1").failure.is_some());
    assert!(world.record("n1").journey.is_some());
    world
}

#[test]
fn a_deployment_that_is_failing_is_not_said_to_be_under_way() {
    let mut world = failing();
    let refusal = world.intend(deploy(1, 1)).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Conflict);
    assert!(refusal.text.contains("failed"), "{refusal}");
    world.machine_mut("n1").bmc.is_deaf = false;
    world.settle("n1", "deploy failed");
    assert_eq!(world.intend(deploy(1, 1)).unwrap(), Done::Changed);
    world.settle("n1", "active");
}

#[test]
fn a_deployment_that_is_failing_can_be_taken_back() {
    let mut world = failing();
    world.machine_mut("n1").bmc.is_deaf = false;
    assert_eq!(world.intend(undeploy(1)).unwrap(), Done::Changed);
    world.settle("n1", "available");
    judge::put_away(&world, "n1");
}

#[test]
fn taking_back_that_is_failing_is_begun_again_when_it_is_asked_for_again() {
    let mut world = active();
    world.machine_mut("n1").bmc.is_deaf = true;
    world.intend(undeploy(1)).unwrap();
    assert_eq!(world.intend(undeploy(1)).unwrap(), Done::Already);
    world.run_until("the failure", |world| world.record("n1").failure.is_some());
    world.machine_mut("n1").bmc.is_deaf = false;
    assert_eq!(world.intend(undeploy(1)).unwrap(), Done::Changed);
    world.settle("n1", "available");
    judge::put_away(&world, "n1");
}

#[test]
fn a_node_that_could_not_be_taken_back_is_in_quarantine_and_can_be_taken_back_again() {
    let mut world = active();
    world.machine_mut("n1").bmc.is_deaf = true;
    world.intend(undeploy(1)).unwrap();
    let view = world.settle("n1", "error");
    assert!(view.failure.unwrap().unsafe_left.iter().any(|left| left.contains("disarm")));
    assert_eq!(world.vlan_of(world.machine("n1")), vlan(crate::stage::QUARANTINE));
    assert!(world.machine("n1").is_on());
    world.machine_mut("n1").bmc.is_deaf = false;
    world.intend(undeploy(1)).unwrap();
    world.settle("n1", "available");
    judge::put_away(&world, "n1");
}

#[test]
fn a_cleaning_network_cannot_appear_beneath_a_node_that_is_being_cleaned_elsewhere() {
    let cleaning = || network("cleaning", 101, Purpose::Cleaning, "10.6.0.1/24");
    let mut world = active();
    world.intend(undeploy(1)).unwrap();
    for step in [Step::Park, Step::SecurePort, Step::Pxe, Step::Erase] {
        world.run_until(&format!("step {step}"), |world| {
            world.record("n1").journey.is_some_and(|journey| journey.step == step)
        });
        let refusal = world.intend(Intent::PutNetwork(cleaning())).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Conflict);
        assert!(refusal.text.contains("n1"), "{refusal}");
    }
    world.settle("n1", "available");
    assert_eq!(world.intend(Intent::PutNetwork(cleaning())).unwrap(), Done::Changed);
}

#[test]
fn nodes_are_cleaned_on_the_cleaning_network_where_there_is_one() {
    let mut world = active();
    let spec = network("cleaning", 101, Purpose::Cleaning, "10.6.0.1/24");
    world.interfaces.insert("cleaning".into(), vlan(101));
    let device = Some("cleaning".parse().unwrap());
    world.intend(Intent::PutNetwork(NetworkSpec { device, ..spec })).unwrap();
    world.intend(undeploy(1)).unwrap();
    world.settle("n1", "available");
    let power_ons = &world.machine("n1").ledger.power_ons;
    assert_eq!(power_ons.last(), Some(&(rack::BootDevice::Pxe, vlan(101))));
    assert_ne!(vlan(101), vlan(PROVISIONING));
}

#[test]
fn what_thousands_of_earlier_attempts_left_behind_pushes_no_node_out_of_sight() {
    let mut world = ready(1);
    world.pass(Duration::from_secs(1));
    let now = world.now;
    let control = world.control.as_mut().unwrap();
    for number in 0..5000_u64 {
        let attempt: boot::Attempt = format!("zz-{number}-1").parse().unwrap();
        let fact = HttpFact::Script { attempt: attempt.clone(), peer: ([10, 7, 0, 9], 9).into(), times: 1 };
        let row = Row { seq: number + 1, key: format!("script/{attempt}"), fact };
        control.handle_hand(Heard::Http(Up::Fact(row)), now);
        let state = boot::SessionState::Lost;
        let fact = HttpFact::Agent { attempt: attempt.clone(), state, status: None };
        let row = Row { seq: number + 1, key: format!("agent/{attempt}"), fact };
        control.handle_hand(Heard::Http(Up::Fact(row)), now);
    }
    world.intend(deploy(1, 1)).unwrap();
    world.settle("n1", "active");
    judge::deployed_once(&world, "n1");
}

#[test]
fn an_image_of_the_same_name_with_other_content_is_refused() {
    let mut world = ready(1);
    assert_eq!(world.intend(Intent::PutImage(image())).unwrap(), Done::Already);
    let other = control::ImageRecord { digest: Digest([0xee; 32]), ..image() };
    assert_eq!(world.intend(Intent::PutImage(other)).unwrap_err().kind, RefusalKind::Conflict);
}
