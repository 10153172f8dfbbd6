//! The racks that stories begin with.

use crate::machine::{Content, Machine};
use crate::power::Bmc;
use crate::services::Interfaces;
use crate::world::World;
use boot::{Digest, Mac, NodeName};
use control::{ImageRecord, Intent, Site};
use deploy::Patience;
use rack::{
    BmcSpec, DeployInterface, Firmware, LocalLink, NetworkDhcp, NetworkSpec, NodeSpec, PortSpec, Purpose,
    SwitchDriver, SwitchSpec, Vlan,
};
use sansio::Time;
use std::sync::{Mutex, OnceLock};
use store::{Memory, Options};

pub(crate) const PROVISIONING: u16 = 100;
pub(crate) const QUARANTINE: u16 = 666;
pub(crate) const TENANTS: [u16; 2] = [201, 202];
pub(crate) const IMAGE: Digest = Digest([0x1a; 32]);
const CONFIG_DRIVE: Digest = Digest([0xcd; 32]);
pub(crate) const IMAGE_SIZE: u64 = 50 << 20;
const DISK: u64 = 4 << 30;
const BEGIN: Time = Time::from_secs(1_800_000_000);

pub(crate) fn vlan(id: u16) -> Vlan {
    Vlan::try_from(id).unwrap()
}

fn networks() -> [(&'static str, u16, Purpose, &'static str); 4] {
    [
        ("prov", PROVISIONING, Purpose::Provisioning, "10.7.0.1/24"),
        ("quarantine", QUARANTINE, Purpose::Quarantine, "10.9.0.1/24"),
        ("tenant-1", TENANTS[0], Purpose::Tenant, "10.21.0.1/24"),
        ("tenant-2", TENANTS[1], Purpose::Tenant, "10.22.0.1/24"),
    ]
}

pub(crate) fn network(name: &str, id: u16, purpose: Purpose, subnet: &str) -> NetworkSpec {
    NetworkSpec {
        name: name.parse().unwrap(),
        purpose,
        vlan: vlan(id),
        subnet: subnet.parse().unwrap(),
        dhcp: NetworkDhcp::Kiln,
        pool: None,
        router: None,
        dns: Vec::new(),
        device: None,
        storage: None,
    }
}

pub(crate) fn site() -> Site {
    let interfaces = networks().map(|(name, ..)| (name.parse().unwrap(), name.parse().unwrap()));
    let patience = Patience { hand: 30, firmware: 120, ramdisk: 60, progress: 30, system: 120, tries: 3 };
    Site {
        interfaces: interfaces.into(),
        http_port: 80,
        tftp_port: 69,
        iscsi_port: 3260,
        patience,
        ..Site::default()
    }
}

fn interfaces() -> Interfaces {
    networks().map(|(name, id, ..)| (name.to_owned(), vlan(id))).into()
}

pub(crate) fn mac(number: usize) -> Mac {
    Mac([0x52, 0x54, 0, 0, 0, u8::try_from(number).unwrap()])
}

pub(crate) fn node(number: usize) -> NodeSpec {
    let name: NodeName = format!("n{number}").parse().unwrap();
    NodeSpec {
        bmc: BmcSpec {
            address: [10, 8, 0, u8::try_from(10 + number).unwrap()].into(),
            port: 623,
            user: "admin".into(),
            password: boot::Secret::new(format!("secret-{number}")),
        },
        ports: vec![PortSpec {
            mac: mac(number),
            local_link: LocalLink { switch: "tor".parse().unwrap(), port: name.as_str().parse().unwrap() },
            pxe_enabled: true,
        }],
        firmware: Firmware::Bios,
        root_disk: rack::DiskHint::default(),
        diskless: false,
        name,
    }
}

pub(crate) fn image() -> ImageRecord {
    ImageRecord {
        name: "tiny".parse().unwrap(),
        digest: IMAGE,
        size: IMAGE_SIZE,
        data: IMAGE_SIZE / 2,
        sha256: "0".repeat(64),
        imported: BEGIN,
    }
}

pub(crate) fn deploy(number: usize, tenant: usize) -> Intent {
    deploy_by(DeployInterface::Direct, number, tenant)
}

pub(crate) fn deploy_by(interface: DeployInterface, number: usize, tenant: usize) -> Intent {
    Intent::Deploy {
        interface,
        node: node(number).name,
        image: image().name,
        network: format!("tenant-{tenant}").parse().unwrap(),
        config_drive: Some((CONFIG_DRIVE, 4 << 20)),
    }
}

pub(crate) fn undeploy(number: usize) -> Intent {
    Intent::Undeploy(node(number).name)
}

fn world_on(store: &Memory, nodes: usize) -> World {
    let mut world = World::open(store, site(), interfaces(), BEGIN);
    for number in 1..=nodes {
        let spec = node(number);
        let port = spec.ports[0].local_link.port.clone();
        world.tor.add(port.clone(), vlan(QUARANTINE));
        let bmc = Bmc::new(spec.bmc.password.expose());
        world.machines.push(Machine::new(spec.name, mac(number), port, bmc, DISK));
    }
    world
}

/// A rack that is described, with no node enrolled.
pub(crate) fn described(nodes: usize) -> World {
    let mut world = world_on(&Memory::new(Options::default()), nodes);
    world.intend(Intent::PutSwitch(tor())).unwrap();
    for (name, id, purpose, subnet) in networks() {
        world.intend(Intent::PutNetwork(network(name, id, purpose, subnet))).unwrap();
    }
    world.intend(Intent::PutImage(image())).unwrap();
    world
}

pub(crate) fn tor() -> SwitchSpec {
    let driver = SwitchDriver::Ovsdb { address: "10.8.0.2:6640".into() };
    SwitchSpec { name: "tor".parse().unwrap(), driver }
}

/// A rack whose nodes are available. Made once for each number of nodes; each test has its own.
pub(crate) fn ready(nodes: usize) -> World {
    static MADE: Mutex<Vec<(usize, Memory)>> = Mutex::new(Vec::new());
    let mut made = MADE.lock().unwrap();
    if let Some((_, store)) = made.iter().find(|(many, _)| *many == nodes) {
        return world_on(store, nodes);
    }
    let mut world = described(nodes);
    for number in 1..=nodes {
        world.intend(Intent::PutNode(node(number))).unwrap();
    }
    for number in 1..=nodes {
        let name = node(number).name;
        world.settle(name.as_str(), "manageable");
        world.intend(Intent::Provide { node: name, clean: false }).unwrap();
    }
    made.push((nodes, world.store.after_crash()));
    world_on(&world.store, nodes)
}

/// A rack of one node that has been active for tenant 1.
pub(crate) fn active() -> World {
    static MADE: OnceLock<Memory> = OnceLock::new();
    let store = MADE.get_or_init(|| {
        let mut world = ready(1);
        world.intend(deploy(1, 1)).unwrap();
        world.settle("n1", "active");
        world.store.after_crash()
    });
    let mut world = world_on(store, 1);
    let (drive, theirs) = (Some(CONFIG_DRIVE), vlan(TENANTS[0]));
    world.machine_mut("n1").run_system(Content::Image(IMAGE, drive), theirs);
    let port = world.machine("n1").port.clone();
    world.tor.add(port, theirs);
    world
}
