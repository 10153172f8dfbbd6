//! What must hold at every step, and what must have happened once at the end.

use crate::world::World;
use control::NodeRecord;
use rack::{BootDevice, DeployInterface, ProvisionState, Purpose, Vlan};

use crate::stage::{PROVISIONING, TENANTS, vlan};

/// Tenants are kept apart, whatever happens: what runs on a node in a tenant's VLAN is that tenant's, started
/// there from the disk; a node that is in no deployment is in no tenant's VLAN; nothing that was started
/// elsewhere runs in the provisioning VLAN.
pub(crate) fn isolation(world: &World) {
    for machine in &world.machines {
        if world.tor.is_tampered(&machine.port) {
            // Somebody else moved the port; it is to be put back.
            continue;
        }
        let is_in = world.vlan_of(machine);
        if machine.is_on() && is_in == vlan(PROVISIONING) {
            let started = machine.started.expect("what is on was started");
            assert_eq!(
                started.0,
                is_in,
                "{} runs what was started elsewhere\n{}",
                machine.name,
                world.story()
            );
        }
        if !TENANTS.iter().any(|id| vlan(*id) == is_in) {
            continue;
        }
        let record = world.record(machine.name.as_str());
        assert!(
            is_of(&record, is_in, world),
            "{} is in VLAN {is_in} and {}\n{}",
            machine.name,
            record.state,
            world.story()
        );
        if machine.is_on() {
            // What boots from a volume is offered nothing but its tenant's there.
            let by_network =
                (record.deployment.as_ref()).is_some_and(|d| d.interface == DeployInterface::San);
            let started = machine.started.map(|(vlan, from_disk)| (vlan, from_disk || by_network));
            assert_eq!(
                started,
                Some((is_in, true)),
                "{} runs in a tenant's VLAN what was not started there from its disk\n{}",
                machine.name,
                world.story()
            );
        }
    }
}

/// Whether a node may be in a tenant's VLAN: it is deployed for that tenant, or is being taken away from it.
fn is_of(record: &NodeRecord, is_in: Vlan, world: &World) -> bool {
    use ProvisionState as P;
    let Some(deployment) = &record.deployment else { return false };
    let networks = world.control.as_ref().map(|control| control.network_views()).unwrap_or_default();
    let theirs = networks.iter().find(|network| network.spec.name == deployment.network);
    let is_theirs = theirs.is_none_or(|n| n.spec.vlan == is_in && n.spec.purpose == Purpose::Tenant);
    let said_unsafe = record.failure.as_ref().is_some_and(|failure| !failure.unsafe_left.is_empty());
    let may_be = match record.state {
        P::Active | P::Deploying | P::Deleting => true,
        P::WaitCallBack | P::DeployFailed | P::Error => said_unsafe,
        _ => false,
    };
    is_theirs && may_be
}

/// Nobody but the node that has it can write on a volume, and nobody at all on one whose node is not on.
pub(crate) fn one_writer(world: &World) {
    for (volume, writers) in world.iscsi.writers() {
        assert!(writers.len() <= 1, "{writers:?} can write on {volume}\n{}", world.story());
    }
}

/// A deployment that was never begun again: each thing that must be once was once.
pub(crate) fn deployed_once(world: &World, name: &str) {
    let machine = world.machine(name);
    let record = world.record(name);
    let story = || world.story();
    let [first] = machine.ledger.writes_begun.as_slice() else {
        panic!("written {:?}\n{}", machine.ledger.writes_begun, story());
    };
    assert_eq!(machine.ledger.writes_done, std::slice::from_ref(first), "{}", story());
    assert!(first.as_str().ends_with("-1"), "attempt {first}");
    let devices: Vec<BootDevice> = machine.ledger.power_ons.iter().map(|(device, _)| *device).collect();
    assert_eq!(devices, [BootDevice::Pxe, BootDevice::Disk], "{}", story());
    let deployment = record.deployment.expect("it is deployed");
    let drive = deployment.config_drive.map(|(digest, _)| digest);
    assert_eq!(machine.disk.content, crate::machine::Content::Image(deployment.digest, drive));
    assert_eq!(world.events(name, "again"), Vec::new());
    assert_eq!(world.events(name, "failed"), Vec::new());
    let steps = world.events(name, "step").into_iter().filter_map(|event| event.step);
    let deploys = steps.filter(|step| step.goal == deploy::Goal::Deploy);
    let taken: Vec<String> = deploys.map(|step| step.step.to_string()).collect();
    let route = ["secure-port", "pxe", "agent", "write-image", "release-port", "boot", "verify"];
    assert_eq!(taken, route, "{}", story());
    assert!(machine.is_on() && machine.is_up(), "{}", story());
}

/// Nobody can reach a node that was put away: off, in quarantine, with nothing armed.
pub(crate) fn put_away(world: &World, name: &str) {
    let machine = world.machine(name);
    assert!(!machine.is_on(), "{}", world.story());
    assert_eq!(world.vlan_of(machine), vlan(crate::stage::QUARANTINE), "{}", world.story());
    assert_eq!(machine.bmc.boot, None, "{}", world.story());
}
