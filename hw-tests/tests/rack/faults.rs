//! What can go wrong ends as it should: in quarantine, disarmed, with the arrow that is missing; and once it is
//! mended, the node is deployed.

use crate::judge;
use crate::stage::{IMAGE, QUARANTINE, TENANTS, deploy, node, ready, vlan};
use crate::world::World;
use boot::Secret;
use control::{Intent, NodeView};
use core::time::Duration;
use deploy::{Seen, Step};

/// A deployment with something wrong, up to its end.
fn fails(world: &mut World) -> NodeView {
    world.intend(deploy(1, 1)).unwrap();
    world.settle("n1", "deploy failed")
}

/// It failed at this step, the reason says this, and this is the arrow that is missing.
fn told(view: &NodeView, step: Step, reason: &str, missing: &str) {
    let failure = view.failure.as_ref().expect("it failed");
    assert_eq!(failure.step, step, "{}", failure.reason);
    assert!(failure.reason.contains(reason), "{reason:?} is not in {:?}", failure.reason);
    let arrow = failure.evidence.iter().find(|arrow| arrow.seen == Seen::Missing);
    let arrow = arrow.expect("an arrow is missing");
    assert!(arrow.what.contains(missing), "{missing:?} is not {:?}", arrow.what);
}

/// Nothing is left that is not safe, and so it is in fact.
fn safe(world: &World, view: &NodeView) {
    assert_eq!(view.failure.as_ref().unwrap().unsafe_left, Vec::<String>::new());
    judge::put_away(world, "n1");
}

fn left_unsafe(view: &NodeView, says: &str) {
    let left = &view.failure.as_ref().unwrap().unsafe_left;
    assert!(left.iter().any(|left| left.contains(says)), "{says:?} is not in {left:?}");
}

/// Mended, the same deployment ends active.
fn mended(world: &mut World) {
    world.intend(deploy(1, 1)).unwrap();
    let view = world.settle("n1", "active");
    assert!(view.failure.is_none());
    assert!(world.machine("n1").is_up(), "{}", world.story());
}

fn at_step(world: &mut World, step: Step) {
    world.run_until(&format!("step {step}"), |world| {
        world.record("n1").journey.is_some_and(|journey| journey.step == step)
    });
}

#[test]
fn a_wrong_bmc_password_is_told_at_once_and_mended_by_describing_the_node_anew() {
    let mut world = ready(1);
    world.machine_mut("n1").bmc.password = "another".into();
    world.intend(deploy(1, 1)).unwrap();
    let began = world.now;
    world.run_until("the failure to be known", |world| world.record("n1").failure.is_some());
    assert!(world.now.since(began) < Duration::from_secs(40), "{}", world.story());
    let view = world.settle("n1", "deploy failed");
    told(&view, Step::SecurePort, "refuses the password", "the BMC says the node is off");
    left_unsafe(&view, "disarm: waits until the BMC says the node is off");
    judge::put_away(&world, "n1");
    let mut spec = node(1);
    spec.bmc.password = Secret::new("another");
    world.intend(Intent::PutNode(spec)).unwrap();
    mended(&mut world);
}

#[test]
fn a_deaf_bmc_is_named_and_what_could_not_be_made_safe_is_said() {
    let mut world = ready(1);
    world.machine_mut("n1").bmc.is_deaf = true;
    let view = fails(&mut world);
    told(&view, Step::SecurePort, "does not answer", "the BMC says the node is off");
    left_unsafe(&view, "disarm");
    judge::put_away(&world, "n1");
    world.machine_mut("n1").bmc.is_deaf = false;
    mended(&mut world);
}

#[test]
fn a_bmc_that_falls_deaf_while_the_ramdisk_runs_leaves_it_running_in_quarantine_and_never_with_a_tenant() {
    let mut world = ready(1);
    world.intend(deploy(1, 1)).unwrap();
    at_step(&mut world, Step::WriteImage);
    world.machine_mut("n1").bmc.is_deaf = true;
    let view = world.settle("n1", "deploy failed");
    told(&view, Step::ReleasePort, "does not answer", "the BMC says the node is off");
    left_unsafe(&view, "disarm");
    assert!(world.machine("n1").is_on());
    assert_eq!(world.vlan_of(world.machine("n1")), vlan(QUARANTINE));
    world.machine_mut("n1").bmc.is_deaf = false;
    mended(&mut world);
}

#[test]
fn a_bmc_that_accepts_and_does_nothing_is_told_from_a_slow_one() {
    let mut world = ready(1);
    world.machine_mut("n1").bmc.is_inert = true;
    let view = fails(&mut world);
    told(&view, Step::Pxe, "the machine does not obey", "the BMC says the node is on");
    safe(&world, &view);
    assert_eq!(world.machine("n1").ledger.power_ons, Vec::new());
    world.machine_mut("n1").bmc.is_inert = false;
    mended(&mut world);
}

#[test]
fn a_cable_that_is_out_is_named_with_its_port() {
    let mut world = ready(1);
    world.cable("n1", false);
    let view = fails(&mut world);
    let arrow = "a DHCP DISCOVER comes from it on port n1 of switch tor, VLAN 100";
    told(&view, Step::Pxe, "the port has no link: look at the cable", arrow);
    assert!(view.failure.as_ref().unwrap().reason.contains("attempt 3 of 3"));
    safe(&world, &view);
    world.cable("n1", true);
    mended(&mut world);
}

#[test]
fn a_port_moved_once_behind_our_back_at_any_step_is_put_back_and_the_node_ends_active() {
    use Step::{Agent, Boot, Pxe, ReleasePort, SecurePort, Verify, WriteImage};
    for step in [SecurePort, Pxe, Agent, WriteImage, ReleasePort, Boot, Verify] {
        for somewhere in [TENANTS[1], 100, QUARANTINE] {
            let mut world = ready(1);
            world.intend(deploy(1, 1)).unwrap();
            at_step(&mut world, step);
            world.pass(Duration::from_millis(10));
            world.tamper("n1", vlan(somewhere));
            world.settle("n1", "active");
            judge::deployed_once(&world, "n1");
            world.pass(Duration::from_secs(5));
            assert_eq!(world.vlan_of(world.machine("n1")), vlan(TENANTS[0]), "{}", world.story());
        }
    }
}

#[test]
fn a_port_that_somebody_keeps_moving_ends_the_deployment_and_says_so() {
    for (step, wanted) in [(Step::Pxe, 100), (Step::WriteImage, 100), (Step::Verify, TENANTS[0])] {
        let mut world = ready(1);
        world.intend(deploy(1, 1)).unwrap();
        at_step(&mut world, step);
        let port = world.machine("n1").port.clone();
        world.tor.meddler = Some((port, vlan(TENANTS[1]), Duration::from_millis(300)));
        world.tamper("n1", vlan(TENANTS[1]));
        world.run_until("the failure", |world| world.record("n1").failure.is_some());
        world.tor.meddler = None;
        let view = world.settle("n1", "deploy failed");
        let reason = format!("was moved out of VLAN {wanted} by somebody else");
        let failure = view.failure.as_ref().unwrap();
        assert_eq!(failure.step, step);
        assert!(failure.reason.contains(&reason), "{}", failure.reason);
        world.pass(Duration::from_secs(5));
        safe(&world, &view);
        mended(&mut world);
    }
}

#[test]
fn a_port_that_was_moved_in_earlier_years_does_not_end_a_deployment_today() {
    let mut world = ready(1);
    for _ in 0..9 {
        world.tamper("n1", vlan(TENANTS[1]));
        world.pass(Duration::from_secs(60));
    }
    world.intend(deploy(1, 1)).unwrap();
    world.settle("n1", "active");
    judge::deployed_once(&world, "n1");
}

#[test]
fn a_corrupted_image_is_given_up_with_the_extent() {
    let mut world = ready(1);
    world.http.corrupt.push(IMAGE);
    let view = fails(&mut world);
    told(&view, Step::WriteImage, "extent 7 of image", "the image is written and read back");
    safe(&world, &view);
    world.http.corrupt.clear();
    mended(&mut world);
}

#[test]
fn an_image_that_cannot_be_had_is_tried_once_more_and_then_given_up() {
    let mut world = ready(1);
    world.http.missing.push(IMAGE);
    let view = fails(&mut world);
    told(&view, Step::WriteImage, "not found on the appliance", "the image is written and read back");
    assert_eq!(world.events("n1", "again").len(), 1, "{}", world.story());
    safe(&world, &view);
    world.http.missing.clear();
    mended(&mut world);
}

#[test]
fn a_ramdisk_that_dies_once_while_it_writes_is_begun_again_and_the_second_attempt_ends_active() {
    let mut world = ready(1);
    world.machine_mut("n1").faults.agent_dies = 1;
    world.intend(deploy(1, 1)).unwrap();
    world.settle("n1", "active");
    let ledger = &world.machine("n1").ledger;
    assert_eq!((ledger.writes_begun.len(), ledger.writes_done.len()), (2, 1));
    assert!(ledger.writes_done[0].as_str().ends_with("-2"));
    let again = world.events("n1", "again");
    assert!(again[0].text.contains("write-image begins again at secure-port, attempt 2"), "{again:?}");
}

#[test]
fn a_ramdisk_that_dies_whenever_it_writes_ends_the_deployment() {
    let mut world = ready(1);
    world.machine_mut("n1").faults.agent_dies = u32::MAX;
    let view = fails(&mut world);
    told(&view, Step::WriteImage, "the agent is off the line (waited", "the image is written and read back");
    assert_eq!(world.events("n1", "again").len(), 2, "{}", world.story());
    safe(&world, &view);
    world.machine_mut("n1").faults.agent_dies = 0;
    mended(&mut world);
}

#[test]
fn a_disk_that_is_too_small_is_told_with_both_sizes() {
    let mut world = ready(1);
    world.machine_mut("n1").disk.size = 12 << 20;
    let view = fails(&mut world);
    told(&view, Step::WriteImage, "12582912 octets and the image needs 52428800", "written and read back");
    safe(&world, &view);
    world.machine_mut("n1").disk.size = 4 << 30;
    mended(&mut world);
}

#[test]
fn a_switch_that_refuses_the_tenants_vlan_is_quoted() {
    let mut world = ready(1);
    world.tor.refuses.insert(vlan(TENANTS[0]));
    let view = fails(&mut world);
    let arrow = "switch tor says port n1 is in VLAN 201 (the tenant's)";
    told(&view, Step::ReleasePort, "the switch refuses VLAN 201", arrow);
    safe(&world, &view);
    world.tor.refuses.clear();
    mended(&mut world);
}

#[test]
fn a_switch_that_refuses_even_the_quarantine_vlan_leaves_a_port_that_is_said_not_to_be_safe() {
    let mut world = ready(1);
    world.intend(deploy(1, 1)).unwrap();
    at_step(&mut world, Step::Pxe);
    world.tor.refuses.extend([vlan(TENANTS[0]), vlan(QUARANTINE)]);
    let view = world.settle("n1", "deploy failed");
    told(&view, Step::ReleasePort, "the switch refuses VLAN 201", "VLAN 201");
    left_unsafe(&view, "quarantine: waits until switch tor says port n1 is in VLAN 666 (quarantine)");
    assert!(!world.machine("n1").is_on());
    world.tor.refuses.clear();
    world.pass(Duration::from_secs(5));
    judge::put_away(&world, "n1");
    mended(&mut world);
}

#[test]
fn a_switch_that_does_not_answer_is_named() {
    let mut world = ready(1);
    world.tor.is_away = true;
    let view = fails(&mut world);
    told(&view, Step::SecurePort, "switch tor does not answer", "switch tor says port n1 is in VLAN 100");
    left_unsafe(&view, "quarantine: waits until switch tor");
    world.tor.is_away = false;
    mended(&mut world);
}

#[test]
fn a_switch_that_accepts_and_does_nothing_is_found_out_by_reading_back() {
    let mut world = ready(1);
    world.tor.is_lying = true;
    let view = fails(&mut world);
    told(&view, Step::SecurePort, "accepts VLAN 100", "switch tor says port n1 is in VLAN 100");
    judge::put_away(&world, "n1");
    world.tor.is_lying = false;
    mended(&mut world);
}

#[test]
fn a_tenants_system_that_never_asks_for_an_address_ends_the_deployment() {
    let mut world = ready(1);
    world.machine_mut("n1").faults.system_is_silent = true;
    let view = fails(&mut world);
    let arrow = "it is seen on the tenant's network on port n1 of switch tor, VLAN 201";
    told(&view, Step::Verify, "nothing from it on the tenant's network", arrow);
    assert_eq!(world.machine("n1").ledger.writes_done.len(), 1, "it is booted again, not written again");
    safe(&world, &view);
    world.machine_mut("n1").faults.system_is_silent = false;
    mended(&mut world);
}

#[test]
fn a_firmware_that_finds_no_system_and_asks_on_the_tenants_network_is_not_taken_for_one() {
    let mut world = ready(1);
    world.machine_mut("n1").faults.no_system = true;
    let view = fails(&mut world);
    let failure = view.failure.as_ref().unwrap();
    assert_eq!(failure.step, Step::Verify);
    assert!(failure.reason.contains("it is seen on the tenant's network"), "{}", failure.reason);
    safe(&world, &view);
    world.machine_mut("n1").faults.no_system = false;
    mended(&mut world);
}

#[test]
fn a_fault_that_passes_within_patience_leaves_no_trace() {
    let passing: [fn(&mut World, bool); 3] = [
        |world, on| world.tor.is_away = on,
        |world, on| world.machine_mut("n1").bmc.is_deaf = on,
        |world, on| world.cable("n1", !on),
    ];
    use Step::{Agent, Boot, Pxe, ReleasePort, SecurePort, Verify, WriteImage};
    for fault in passing {
        for step in [SecurePort, Pxe, Agent, WriteImage, ReleasePort, Boot, Verify] {
            let mut world = ready(1);
            world.intend(deploy(1, 1)).unwrap();
            at_step(&mut world, step);
            fault(&mut world, true);
            world.pass(Duration::from_secs(12));
            fault(&mut world, false);
            world.settle("n1", "active");
            judge::deployed_once(&world, "n1");
        }
    }
}

#[test]
fn a_slow_switch_has_its_own_patience_after_a_slow_bmc() {
    for step in [Step::SecurePort, Step::ReleasePort] {
        let mut world = ready(1);
        world.pass(Duration::from_secs(1));
        world.intend(deploy(1, 1)).unwrap();
        at_step(&mut world, step);
        world.machine_mut("n1").bmc.is_deaf = true;
        world.tor.is_away = true;
        world.pass(Duration::from_secs(20));
        world.machine_mut("n1").bmc.is_deaf = false;
        world.pass(Duration::from_secs(20));
        world.tor.is_away = false;
        world.settle("n1", "active");
        judge::deployed_once(&world, "n1");
    }
}
