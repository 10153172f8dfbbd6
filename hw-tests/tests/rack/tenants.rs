//! Many nodes, and tenants that never meet. That they do not is judged at every step, here and everywhere.

use crate::judge;
use crate::stage::{
    IMAGE, PROVISIONING, TENANTS, active, deploy, described, mac, network, node, ready, undeploy, vlan,
};
use crate::world::{AWAY, Victim, World};
use boot::{DhcpFact, DhcpMoment, DhcpService, Row, Up};
use control::{Heard, Intent};
use core::time::Duration;
use rack::{NetworkDhcp, NetworkSpec, Purpose};

fn all_active(world: &mut World, nodes: usize) {
    for number in 1..=nodes {
        let name = format!("n{number}");
        let view = world.settle(&name, "active");
        judge::deployed_once(world, &name);
        let theirs = vlan(TENANTS[number % 2]);
        assert_eq!(world.vlan_of(world.machine(&name)), theirs);
        assert!(view.address.is_some());
    }
}

#[test]
fn two_tenants_nodes_are_deployed_at_once_and_each_ends_in_its_own_vlan() {
    for seed in 1..40 {
        let mut world = ready(2);
        world.weather(seed);
        world.intend(deploy(1, 2)).unwrap();
        world.intend(deploy(2, 1)).unwrap();
        all_active(&mut world, 2);
    }
}

#[test]
fn eight_nodes_of_two_tenants_are_deployed_at_once_with_somebody_killed_now_and_then() {
    for seed in 1..9 {
        let mut world = ready(8);
        world.weather(seed);
        for number in 1..=8 {
            world.intend(deploy(number, 1 + number % 2)).unwrap();
        }
        let at = |many: usize| (seed as usize * 37 * many, Victim::ALL[(seed as usize + many) % 7]);
        world.kills = vec![at(1), at(5), at(11), at(17)];
        all_active(&mut world, 8);
        let addresses: std::collections::BTreeSet<_> =
            (1..=8).map(|number| world.view(&format!("n{number}")).address).collect();
        assert_eq!(addresses.len(), 8, "no two nodes have one address");
    }
}

#[test]
fn a_node_goes_from_one_tenant_to_the_other_with_nothing_of_the_first_on_its_disk() {
    let mut world = active();
    world.intend(undeploy(1)).unwrap();
    world.settle("n1", "available");
    world.intend(deploy(1, 2)).unwrap();
    world.settle("n1", "active");
    let ledger = &world.machine("n1").ledger;
    let wiped = ledger.wipes_done.first().expect("it was wiped");
    let written = ledger.writes_done.first().expect("and written");
    assert_ne!(wiped, written);
    assert_eq!(world.vlan_of(world.machine("n1")), vlan(TENANTS[1]));
}

#[test]
fn a_node_on_a_network_with_somebody_elses_dhcp_is_seen_by_its_arp() {
    let mut world = ready(1);
    let spec = network("tenant-1", TENANTS[0], Purpose::Tenant, "10.21.0.1/24");
    world.intend(Intent::PutNetwork(NetworkSpec { dhcp: NetworkDhcp::Other, ..spec })).unwrap();
    let address = [10, 21, 0, 77].into();
    world.machine_mut("n1").faults.own_address = Some(address);
    world.intend(deploy(1, 1)).unwrap();
    let view = world.settle("n1", "active");
    assert_eq!(view.address, Some(address));
    let plans = world.control.as_ref().unwrap().plans();
    let theirs = plans.dhcp.networks.iter().find(|network| network.name == "tenant-1").unwrap();
    assert_eq!(theirs.service, DhcpService::Watch);
}

#[test]
fn a_machine_that_nobody_enrolled_is_discovered_once_and_forgotten_when_it_is_enrolled() {
    let mut world = described(1);
    world.pass(Duration::from_secs(1));
    let discovered = |world: &World| world.control.as_ref().unwrap().discovered_views();
    for _ in 0..3 {
        world.stranger(mac(1), vlan(PROVISIONING));
        world.stranger(mac(99), vlan(TENANTS[0]));
        world.pass(Duration::from_secs(5));
        world.kill(Victim::Supervisor, AWAY);
        world.pass(Duration::from_secs(5));
    }
    let found = discovered(&world);
    assert_eq!(found.len(), 1, "only who asks on a boot network");
    assert_eq!((found[0].mac, found[0].network.as_str()), (mac(1), "prov"));
    assert!(found[0].vendor_class.as_ref().unwrap().starts_with("PXEClient"));
    assert_eq!(world.events(&mac(1).to_string(), "discovered").len(), 1);
    world.intend(Intent::PutNode(node(1))).unwrap();
    assert_eq!(discovered(&world), Vec::new());
    world.stranger(mac(1), vlan(PROVISIONING));
    world.settle("n1", "manageable");
    assert_eq!(discovered(&world), Vec::new());
}

#[test]
fn a_machine_that_nobody_enrolled_runs_the_hold_script_and_nothing_else() {
    let mut world = described(1);
    let port = world.machine("n1").port.clone();
    world.tor.add(port, vlan(PROVISIONING));
    world.pass(Duration::from_secs(1));
    let now = world.now;
    world.machine_mut("n1").bmc.press_power(now);
    world.pass(Duration::from_secs(600));
    let control = world.control.as_ref().unwrap();
    assert_eq!(control.discovered_views().len(), 1);
    assert!(world.machine("n1").is_held(), "it asks for its script again now and then");
    assert_eq!(control.newest_event().0, world.events(&mac(1).to_string(), "discovered").len() as u64 + 6);
}

#[test]
fn thousands_of_strangers_push_no_node_out_of_sight() {
    let mut world = ready(1);
    world.intend(deploy(1, 1)).unwrap();
    world.pass(Duration::from_secs(22));
    let now = world.now;
    let control = world.control.as_mut().unwrap();
    for number in 0..6000_u32 {
        let [_, a, b, c] = number.to_be_bytes();
        let mac = boot::Mac([0x0a, 0, 0, a, b, c]);
        let fact = DhcpFact::Client {
            network: "prov".into(),
            mac,
            attempt: None,
            moment: DhcpMoment::Ignored,
            address: None,
            architecture: None,
            vendor_class: None,
            ipxe: false,
            uuid: None,
        };
        let row = Row { seq: 1_000_000 + u64::from(number), key: dhcp::key(&fact), fact };
        control.handle_hand(Heard::Dhcp(Up::Fact(row)), now);
    }
    assert_eq!(control.discovered_views().len(), 1024);
    world.settle("n1", "active");
    judge::deployed_once(&world, "n1");
}

#[test]
fn no_two_attempts_share_a_token_and_each_opens_only_its_own_image() {
    let mut world = ready(2);
    world.machine_mut("n1").faults.agent_dies = 1;
    world.intend(deploy(1, 1)).unwrap();
    world.intend(deploy(2, 2)).unwrap();
    let mut tokens = std::collections::BTreeMap::new();
    for _ in 0..2000 {
        world.step();
        for session in &world.control.as_ref().unwrap().plans().http.sessions {
            tokens.insert(session.attempt.clone(), session.token.expose().to_owned());
            assert!(session.images.iter().all(|image| *image == IMAGE));
        }
    }
    assert_eq!(tokens.len(), 3, "n1 twice, n2 once: {:?}", tokens.keys());
    let distinct: std::collections::BTreeSet<&String> = tokens.values().collect();
    assert_eq!(distinct.len(), 3);
}
