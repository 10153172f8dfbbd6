//! Nodes that boot from volumes, disks that are written by push, and nodes that take another's place.

use crate::judge;
use crate::machine::Content;
use crate::stage::{IMAGE, QUARANTINE, TENANTS, deploy_by, ready, undeploy, vlan};
use crate::world::{Victim, World};
use boot::{NodeName, VolumeId};
use control::{Done, Intent, RefusalKind};
use rack::{BootDevice, DeployInterface, VolumeSpec};

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn volume(text: &str) -> VolumeId {
    text.parse().unwrap()
}

fn blank(text: &str, size: u64) -> Intent {
    Intent::PutVolume(VolumeSpec { name: volume(text), size: Some(size), image: None, volume: None })
}

fn replace(node: &str, spare: &str) -> Intent {
    Intent::Replace { node: name(node), spare: name(spare), off_by_hand: false }
}

/// A rack of so many nodes, the first active from a volume.
fn booted(nodes: usize, kills: &[(usize, Victim)]) -> World {
    let mut world = ready(nodes);
    world.kills = kills.to_vec();
    world.insist(&deploy_by(DeployInterface::San, 1, 1));
    world.settle("n1", "active");
    world
}

fn root(world: &World, node: &str) -> VolumeId {
    world.record(node).deployment.and_then(|deployment| deployment.root).expect("it has a volume")
}

#[test]
fn a_node_boots_from_a_clone_and_nothing_is_written_on_its_disk() {
    let world = booted(1, &[]);
    judge_san(&world);
    let view = world.view("n1");
    let storage = view.storage.expect("it has a volume");
    assert_eq!(storage.luns.len(), 1);
    assert_eq!(storage.sessions.len(), 1, "{storage:?}");
}

fn judge_san(world: &World) {
    let machine = world.machine("n1");
    assert!(machine.is_on() && machine.is_up(), "{}", world.story());
    assert_eq!(machine.disk.content, Content::Blank);
    assert_eq!(world.vlan_of(machine), vlan(TENANTS[0]));
    let root = root(world, "n1");
    let made = world.iscsi.volumes.get(&root).expect("it was made");
    assert_eq!(made.image, Some(IMAGE));
    assert_eq!(made.writers, [name("n1")], "{}", world.story());
    let devices: Vec<BootDevice> = machine.ledger.power_ons.iter().map(|(device, _)| *device).collect();
    assert_eq!(devices, [BootDevice::Pxe], "{}", world.story());
    assert_eq!(world.events("n1", "again"), Vec::new(), "{}", world.story());
}

#[test]
fn whoever_is_killed_between_any_two_steps_of_a_boot_from_a_volume_it_ends_active_and_all_was_done_once() {
    let steps = booted(1, &[]).steps;
    assert!(steps > 60, "it takes only {steps} steps");
    for victim in Victim::ALL {
        for step in 0..steps {
            judge_san(&booted(1, &[(step, victim)]));
        }
    }
}

fn pushed(kills: &[(usize, Victim)]) -> World {
    let mut world = ready(1);
    world.kills = kills.to_vec();
    world.insist(&deploy_by(DeployInterface::Iscsi, 1, 1));
    world.settle("n1", "active");
    world
}

fn judge_push(world: &World) {
    let machine = world.machine("n1");
    let story = || world.story();
    assert!(machine.is_on() && machine.is_up(), "{}", story());
    assert_eq!(machine.ledger.writes_begun.len(), 1, "{}", story());
    assert_eq!(machine.ledger.writes_done.len(), 1, "{}", story());
    assert_eq!(world.events("n1", "again"), Vec::new(), "{}", story());
    let drive = world.record("n1").deployment.and_then(|d| d.config_drive).map(|(digest, _)| digest);
    assert_eq!(machine.disk.content, Content::Image(IMAGE, drive));
    assert!(machine.disk.exported.is_none(), "nothing is exported after it");
    let steps = world.events("n1", "step").into_iter().filter_map(|event| event.step);
    let taken: Vec<String> = steps.map(|step| step.step.to_string()).collect();
    let route =
        ["secure-port", "pxe", "agent", "export", "write-image", "finish", "release-port", "boot", "verify"];
    assert!(taken.ends_with(&route.map(str::to_owned)), "{taken:?}");
}

#[test]
fn whoever_is_killed_between_any_two_steps_of_a_deployment_by_push_it_ends_active_and_all_was_done_once() {
    let world = pushed(&[]);
    judge_push(&world);
    for victim in Victim::ALL {
        for step in 0..world.steps {
            judge_push(&pushed(&[(step, victim)]));
        }
    }
}

fn replaced(kills: &[(usize, Victim)]) -> World {
    let mut world = booted(2, &[]);
    let begun = world.steps;
    world.kills = kills.iter().map(|(step, victim)| (begun + step, *victim)).collect();
    world.insist(&replace("n1", "n2"));
    world.settle("n1", "manageable");
    world.settle("n2", "active");
    world
}

fn judge_replaced(world: &World, before: &World) {
    let story = || world.story();
    judge::put_away(world, "n1");
    let (failed, spare) = (world.machine("n1"), world.machine("n2"));
    assert!(spare.is_on() && spare.is_up(), "{}", story());
    assert!(!failed.is_on());
    let (old, new) = (before.record("n1"), world.record("n2"));
    assert_eq!(root(world, "n2"), root(before, "n1"), "the same volume");
    assert_eq!(new.tenant_address, old.tenant_address, "the same address");
    assert_eq!(world.vlan_of(spare), vlan(TENANTS[0]));
    let made = &world.iscsi.volumes[&root(world, "n2")];
    assert_eq!(made.writers, [name("n1"), name("n2")], "the same data, written by one after the other");
    let fenced = world.record("n1");
    assert_eq!((fenced.deployment, fenced.replaced_by, fenced.access), (None, None, 0));
    assert_eq!(new.reserved_for, None);
    assert_eq!(world.events("n2", "again"), Vec::new(), "{}", story());
}

#[test]
fn a_node_that_takes_anothers_place_boots_as_it_with_its_data_and_its_address() {
    let before = booted(2, &[]);
    judge_replaced(&replaced(&[]), &before);
}

#[test]
fn whoever_is_killed_while_a_node_takes_anothers_place_nobody_ever_writes_beside_it() {
    let before = booted(2, &[]);
    let steps = replaced(&[]).steps - before.steps;
    assert!(steps > 60, "it takes only {steps} steps");
    for victim in Victim::ALL {
        for step in 0..steps {
            judge_replaced(&replaced(&[(step, victim)]), &before);
        }
    }
}

#[test]
fn a_failed_node_that_is_switched_on_by_somebody_reaches_nothing_of_what_it_had() {
    let mut world = replaced(&[]);
    let login = world.machine("n2").volume.clone().expect("it runs from a volume");
    let interfaces = world.interfaces.clone();
    let here = vlan(QUARANTINE);
    assert_eq!(world.iscsi.log_in(here, &interfaces, &login, &name("n1")), None, "not from quarantine");
    let old = booted(2, &[]).machine("n1").volume.clone().expect("it ran from a volume");
    for at in [QUARANTINE, TENANTS[0]] {
        assert_eq!(world.iscsi.log_in(vlan(at), &interfaces, &old, &name("n1")), None, "nor as who it was");
    }
    judge::one_writer(&world);
}

#[test]
fn a_node_whose_bmc_is_deaf_is_not_replaced_unless_somebody_answers_for_it() {
    let mut world = booted(2, &[]);
    world.machine_mut("n1").bmc.is_deaf = true;
    world.intend(replace("n1", "n2")).unwrap();
    let view = world.settle("n1", "error");
    let failure = view.failure.expect("it says why");
    assert!(failure.reason.contains("the BMC says the node is off"), "{}", failure.reason);
    assert_eq!(world.record("n2").reserved_for, None, "the spare is free again");
    assert!(world.record("n1").deployment.is_some(), "and nothing of it is lost");
    let by_hand = Intent::Replace { node: name("n1"), spare: name("n2"), off_by_hand: true };
    world.intend(by_hand).unwrap();
    world.settle("n1", "manageable");
    world.settle("n2", "active");
    assert_eq!(world.vlan_of(world.machine("n1")), vlan(QUARANTINE));
    let made = &world.iscsi.volumes[&root(&world, "n2")];
    assert_eq!(made.writers, [name("n1"), name("n2")]);
}

#[test]
fn a_spare_that_is_reserved_is_for_nothing_else_and_only_an_available_one_will_do() {
    let mut world = booted(2, &[]);
    let refused = |world: &mut World, intent: Intent| world.intend(intent).unwrap_err().kind;
    assert_eq!(refused(&mut world, replace("n2", "n1")), RefusalKind::Conflict, "n2 has no volume");
    assert_eq!(refused(&mut world, replace("n1", "n1")), RefusalKind::Conflict);
    world.intend(replace("n1", "n2")).unwrap();
    assert_eq!(world.intend(replace("n1", "n2")).unwrap(), Done::Already);
    for intent in
        [deploy_by(DeployInterface::Direct, 2, 2), undeploy(2), undeploy(1), Intent::DeleteNode(name("n2"))]
    {
        assert_eq!(refused(&mut world, intent), RefusalKind::Conflict);
    }
    world.settle("n1", "manageable");
    world.settle("n2", "active");
}

#[test]
fn a_volume_is_attached_copied_detached_and_deleted_and_a_root_ends_with_its_deployment() {
    let mut world = booted(1, &[]);
    world.intend(blank("data", 1 << 30)).unwrap();
    assert_eq!(world.intend(blank("data", 1 << 30)).unwrap(), Done::Already);
    assert_eq!(world.intend(blank("data", 2 << 30)).unwrap_err().kind, RefusalKind::Conflict);
    let state = |world: &World, id: &str| {
        world.control.as_ref().unwrap().volume_view(&volume(id)).and_then(|view| view.state)
    };
    world.run_until("it to be made", |world| state(world, "data").is_some());
    world.run_until("it to be noted", |world| {
        world.control.as_ref().is_some_and(|control| {
            control
                .events(store::EventNumber(0), 10_000)
                .unwrap()
                .0
                .iter()
                .any(|(_, e)| e.kind == "made" && e.subject.name == "data")
        })
    });
    let attach = Intent::Attach { volume: volume("data"), node: name("n1"), read_only: false };
    assert_eq!(world.intend(attach.clone()).unwrap(), Done::Changed);
    assert_eq!(world.intend(attach).unwrap(), Done::Already);
    world.run_until("it to be exported", |world| world.iscsi.writers().contains_key(&volume("data")));
    assert_eq!(world.intend(Intent::DeleteVolume(volume("data"))).unwrap_err().kind, RefusalKind::Conflict);
    let copy = VolumeSpec { name: volume("copy"), size: None, image: None, volume: Some(volume("data")) };
    world.intend(Intent::PutVolume(copy)).unwrap();
    world.intend(Intent::Detach(volume("data"))).unwrap();
    world.run_until("it to be out of reach", |world| !world.iscsi.writers().contains_key(&volume("data")));
    world.run_until("the copy to be made", |world| world.iscsi.volumes.contains_key(&volume("copy")));
    world.run_until("that to be known", |world| state(world, "copy").is_some());
    world.intend(Intent::DeleteVolume(volume("data"))).unwrap();
    world.run_until("it to be gone", |world| state(world, "data").is_none());
    let root = root(&world, "n1");
    let refusal = world.intend(Intent::DeleteVolume(root.clone())).unwrap_err();
    assert!(refusal.text.contains("kiln node undeploy n1"), "{refusal}");
    world.intend(undeploy(1)).unwrap();
    world.settle("n1", "available");
    world.run_until("its root to be gone", |world| !world.iscsi.volumes.contains_key(&root));
    assert_eq!(world.iscsi.volumes.keys().collect::<Vec<_>>(), [&volume("copy")]);
}

#[test]
fn a_volume_that_was_made_and_is_lost_is_said_and_never_made_anew() {
    let mut world = booted(1, &[]);
    let root = root(&world, "n1");
    world.iscsi.volumes.clear();
    world.kill(Victim::Hand(control::Hand::Iscsi), crate::world::AWAY);
    world.run_until("it to be missed", |world| {
        let view = world.control.as_ref().unwrap().volume_view(&root).unwrap();
        matches!(view.state, Some(boot::VolumeState::Failed { .. }))
    });
    assert!(!world.iscsi.volumes.contains_key(&root), "a tenant's data is not replaced by an image's");
}

#[test]
fn without_room_for_its_clone_a_node_fails_with_the_reason_and_ends_put_away() {
    let mut world = ready(1);
    world.iscsi.is_full = true;
    world.intend(deploy_by(DeployInterface::San, 1, 1)).unwrap();
    let view = world.settle("n1", "deploy failed");
    let failure = view.failure.expect("it says why");
    assert!(failure.reason.contains("there is no room for it"), "{}", failure.reason);
    judge::put_away(&world, "n1");
    world.iscsi.is_full = false;
    world.intend(deploy_by(DeployInterface::San, 1, 1)).unwrap();
    world.settle("n1", "active");
    assert_eq!(world.iscsi.volumes.len(), 1, "the clone that was not made is forgotten");
}
