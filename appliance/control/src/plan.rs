mod iscsi;

use crate::address::strangers;
use crate::{Control, NodeRecord, script};
use agent_proto::{ConfigDrive, Export, ImageRef, Job, Order, Task};
use boot::{
    Attempt, Boot, Device, DhcpHost, DhcpNetwork, DhcpPlan, DhcpService, HttpAsset, HttpPlan, IscsiPlan,
    Json, Script, Session, TftpFile, TftpListen, TftpPlan,
};
use core::fmt;
use deploy::{Deployment, Journey, Offer, Place, Work, leg};
use rack::{
    BmcPlan, BootDevice, BootWish, Firmware, HostPlan, NetworkDhcp, NetworkSpec, PortWish, Power, PowerPlan,
    PowerWish, ProvisionState, Purpose, SwitchEntry, SwitchPlan,
};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use store::{Batch, Store, StoreError};

/// The hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hand {
    /// Addresses and boot files.
    Dhcp,
    /// First-stage boot files.
    Tftp,
    /// Scripts, kernel, images, agents.
    Http,
    /// Volumes, and disks that are written by push.
    Iscsi,
    /// BMCs.
    Power,
    /// Switches.
    Switch,
    /// The box itself.
    Host,
}

impl Hand {
    /// All of them.
    pub const ALL: [Hand; 7] =
        [Hand::Dhcp, Hand::Tftp, Hand::Http, Hand::Iscsi, Hand::Power, Hand::Switch, Hand::Host];

    /// As it stands in messages and in the name of its socket.
    pub fn name(self) -> &'static str {
        match self {
            Hand::Dhcp => "dhcp",
            Hand::Tftp => "tftp",
            Hand::Http => "http",
            Hand::Iscsi => "iscsi",
            Hand::Power => "power",
            Hand::Switch => "switch",
            Hand::Host => "host",
        }
    }
}

impl fmt::Display for Hand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What every hand should be doing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plans {
    /// Addresses and boot files.
    pub dhcp: DhcpPlan,
    /// First-stage boot files.
    pub tftp: TftpPlan,
    /// Scripts, kernel, images, agents.
    pub http: HttpPlan,
    /// Volumes, and disks that are written by push.
    pub iscsi: IscsiPlan,
    /// BMCs.
    pub power: PowerPlan,
    /// Switches.
    pub switch: SwitchPlan,
    /// The box itself.
    pub host: HostPlan,
}

const IPXE_BIOS: &str = "undionly.kpxe";
const IPXE_UEFI: &str = "snponly.efi";
/// A tenant's machine renews every hour; a ramdisk never lives as long.
const LEASE_SECONDS: u32 = 7200;

impl<S: Store> Control<S> {
    /// Computes all plans anew. Those that changed, and all of them after a start, get their next number,
    /// journalled before anyone can ask for them.
    pub(crate) fn replan(&mut self) -> Result<(), StoreError> {
        let plans = self.compute();
        let changed = [
            (Hand::Dhcp, plans.dhcp != self.last.dhcp),
            (Hand::Tftp, plans.tftp != self.last.tftp),
            (Hand::Http, plans.http != self.last.http),
            (Hand::Iscsi, plans.iscsi != self.last.iscsi),
            (Hand::Power, plans.power != self.last.power),
            (Hand::Switch, plans.switch != self.last.switch),
            (Hand::Host, plans.host != self.last.host),
        ];
        let mut generations = self.generations.clone();
        let mut due = Vec::new();
        for (hand, changed) in changed {
            if changed || !self.planned {
                generations.bump(hand);
                due.push(hand);
            }
        }
        if due.is_empty() {
            return Ok(());
        }
        self.commit(Batch::new().put_as("plans", &generations))?;
        self.generations = generations;
        self.last = plans;
        self.planned = true;
        self.due.extend(due);
        Ok(())
    }

    fn compute(&self) -> Plans {
        let served: Vec<(&NetworkSpec, Device)> = self
            .networks
            .values()
            .filter_map(|network| Some((network, self.device(network)?.clone())))
            .collect();
        Plans {
            dhcp: DhcpPlan {
                networks: served.iter().map(|(network, device)| self.dhcp(network, device)).collect(),
            },
            tftp: self.tftp(&served),
            http: self.http(&served),
            iscsi: self.iscsi(&served),
            power: PowerPlan { bmcs: self.nodes.values().map(bmc).collect() },
            switch: self.switch(),
            host: self.host(),
        }
    }

    fn url(&self, network: &NetworkSpec) -> String {
        match self.site.http_port {
            80 => format!("http://{}", network.subnet.address),
            port => format!("http://{}:{port}", network.subnet.address),
        }
    }

    fn dhcp(&self, network: &NetworkSpec, device: &Device) -> DhcpNetwork {
        let boots = boots(network);
        let url = self.url(network);
        let boot = |script: String| Boot {
            bios: IPXE_BIOS.to_owned(),
            uefi_x64: IPXE_UEFI.to_owned(),
            uefi_arm64: None,
            http_x64: format!("{url}/boot/{IPXE_UEFI}"),
            http_arm64: None,
            ipxe: format!("{url}/boot/{script}.ipxe"),
        };
        let mut san = false;
        let hosts: Vec<DhcpHost> = self
            .nodes
            .values()
            .filter_map(|node| {
                let address = *node.addresses.get(&network.name)?;
                let journey = node.journey.as_ref();
                let host = |mac, boot, attempt| DhcpHost {
                    mac,
                    address,
                    hostname: node.spec.name.to_string(),
                    boot,
                    attempt,
                };
                if boots {
                    let journey = journey?;
                    let leg = leg(journey);
                    let place = deploy::place(journey);
                    let here = self.network_of(&node.spec.name, place)?.name == network.name
                        && place != Place::Tenant;
                    let offered = leg.wish.offer == Offer::Ramdisk && leg.wish.work == Work::Nothing;
                    let attempt = journey.attempt();
                    let mac = node.spec.pxe_port()?.mac;
                    here.then(|| host(mac, offered.then(|| boot(attempt.to_string())), Some(attempt)))
                } else {
                    let here = match journey {
                        Some(journey) => deploy::place(journey) == Place::Tenant,
                        None => node.state == ProvisionState::Active,
                    };
                    let mut ports = node.spec.ports.iter().filter(|_| here);
                    let port = ports.find(|port| {
                        self.port_network(node, port.mac, Place::Tenant)
                            .is_some_and(|at| at.name == network.name)
                    })?;
                    let offer = self.san_offer(node).filter(|(_, by)| by.mac == port.mac);
                    san |= offer.is_some();
                    let offer = offer.map(|_| boot(self.san_script(node)));
                    Some(host(port.mac, offer, journey.map(Journey::system)))
                }
            })
            .collect();
        DhcpNetwork {
            name: network.name.to_string(),
            device: device.clone(),
            address: network.subnet,
            service: match (network.purpose, network.dhcp) {
                (Purpose::Quarantine, _) | (_, NetworkDhcp::Other | NetworkDhcp::None) => DhcpService::Watch,
                (_, NetworkDhcp::Kiln) => DhcpService::Full,
            },
            pool: (network.purpose != Purpose::Quarantine).then(|| strangers(network)).flatten(),
            router: network.router,
            dns: network.dns.clone(),
            lease_seconds: LEASE_SECONDS,
            router_advertisements: boots || san,
            boot: boots.then(|| boot("hold".to_owned())),
            hosts,
        }
    }

    fn tftp(&self, served: &[(&NetworkSpec, Device)]) -> TftpPlan {
        let listen =
            served.iter().filter(|(network, _)| self.serves_boots(network)).map(|(network, device)| {
                TftpListen {
                    address: SocketAddr::new(network.subnet.address.into(), self.site.tftp_port),
                    device: Some(device.clone()),
                }
            });
        let file = |name: &str, path: &str| TftpFile { name: name.to_owned(), path: path.to_owned() };
        TftpPlan {
            listen: listen.collect(),
            files: vec![
                file(IPXE_BIOS, &self.site.files.ipxe_bios),
                file(IPXE_UEFI, &self.site.files.ipxe_uefi),
            ],
        }
    }

    fn http(&self, served: &[(&NetworkSpec, Device)]) -> HttpPlan {
        let served: Vec<_> = served.iter().filter(|(network, _)| self.serves_boots(network)).collect();
        let mut scripts = Vec::new();
        // Several boot networks differ in the address that scripts name; the first is the provisioning one.
        if let Some((network, _)) = served.iter().find(|(network, _)| boots(network)) {
            let body = script::hold(&self.url(network));
            scripts.push(Script { path: "/boot/hold.ipxe".to_owned(), body, attempt: None });
        }
        let mut sessions = Vec::new();
        for node in self.nodes.values() {
            scripts.extend(self.san_offer(node).map(|(network, _)| Script {
                path: format!("/boot/{}.ipxe", self.san_script(node)),
                body: script::san(
                    &self.url(network),
                    &self.san_script(node),
                    &node.spec.name,
                    self.portal(network),
                    &self.access(node),
                ),
                attempt: node.journey.as_ref().map(Journey::system),
            }));
            let Some(journey) = &node.journey else { continue };
            let Some(port) = node.spec.pxe_port() else { continue };
            let wish = leg(journey).wish;
            let Some(network) = self.network_of(&node.spec.name, wish.place) else { continue };
            if wish.offer != Offer::Ramdisk {
                continue;
            }
            let attempt = journey.attempt();
            let token = self.master.token(&attempt);
            if wish.work == Work::Nothing {
                let url = self.url(network);
                let body = script::ramdisk(&url, &attempt, &token, port.mac, &self.site.kernel_args);
                let path = format!("/boot/{attempt}.ipxe");
                scripts.push(Script { path, body, attempt: Some(attempt.clone()) });
            }
            sessions.push(self.session(node, journey, attempt, token));
        }
        let asset =
            |path: &str, file: &str| HttpAsset { path: format!("/boot/{path}"), file: file.to_owned() };
        HttpPlan {
            listen: served
                .iter()
                .map(|(network, device)| {
                    (
                        SocketAddr::new(network.subnet.address.into(), self.site.http_port),
                        Some(device.clone()),
                    )
                })
                .collect(),
            assets: vec![
                asset("vmlinuz", &self.site.files.kernel),
                asset("initramfs", &self.site.files.initramfs),
                asset(IPXE_BIOS, &self.site.files.ipxe_bios),
                asset(IPXE_UEFI, &self.site.files.ipxe_uefi),
            ],
            scripts,
            images: Some(self.site.images.clone()),
            logs: Some(self.site.logs.clone()),
            sessions,
        }
    }

    /// Whether machines fetch boot files on a network.
    fn serves_boots(&self, network: &NetworkSpec) -> bool {
        let san = |node: &NodeRecord| self.san_offer(node).is_some_and(|(at, _)| at.name == network.name);
        boots(network) || self.nodes.values().any(san)
    }

    /// What the boot script of a node with a volume is called: nobody else can guess it, for it holds its
    /// secrets.
    fn san_script(&self, node: &NodeRecord) -> String {
        let name = format!("san-{}-{}", node.spec.name, node.access);
        let attempt: Attempt = name.parse().expect("a node's name and a number fit");
        self.master.token(&attempt).expose().to_owned()
    }

    fn session(
        &self,
        node: &NodeRecord,
        journey: &Journey,
        attempt: Attempt,
        token: boot::Secret,
    ) -> Session {
        let work = leg(journey).wish.work;
        let writes = matches!(work, Work::Write | Work::Export | Work::Push | Work::Finish);
        let deployment = node.deployment.as_ref().filter(|_| writes);
        let disk = node.spec.root_disk.clone();
        let task = match (work, deployment) {
            (Work::Erase, _) => Some(("erase", Task::EraseMetadata { disk: rack::DiskHint::default() })),
            (Work::Nothing, _) | (_, None) => None,
            (Work::Write, Some(deployment)) => Some((
                "write",
                Task::WriteImage {
                    image: ImageRef { digest: deployment.digest, size: deployment.size },
                    disk,
                    config_drive: config_drive(deployment),
                },
            )),
            (Work::Export | Work::Push, Some(deployment)) => {
                let access = self.push_access(journey);
                Some((
                    "export",
                    Task::ExportDisk {
                        size: deployment.size,
                        disk,
                        config_drive: config_drive(deployment),
                        export: Export {
                            target: access.target,
                            initiator: access.initiator,
                            chap: access.chap,
                            lun: 0,
                            port: self.site.iscsi_port,
                        },
                    },
                ))
            }
            (Work::Finish, Some(deployment)) => Some((
                "finish",
                Task::FinishDisk { size: deployment.size, config_drive: config_drive(deployment) },
            )),
        };
        let job = task.map(|(id, task)| Job { id: id.to_owned(), task });
        let order = Order { version: agent_proto::VERSION, job };
        let drive = deployment.and_then(|deployment| deployment.config_drive);
        // An image that is pushed is not for fetching.
        let images = deployment.filter(|_| work == Work::Write).map(|deployment| deployment.digest);
        Session {
            attempt,
            token,
            order: Json::of(&order).ok(),
            images: images.into_iter().collect(),
            config_drive: drive.map(|(digest, _)| format!("{}/{digest}", self.site.drives)),
        }
    }

    fn switch(&self) -> SwitchPlan {
        let entry = |switch: &rack::SwitchSpec| {
            let mut ports = Vec::new();
            for node in self.nodes.values() {
                for port in node.spec.ports.iter().filter(|port| port.local_link.switch == switch.name) {
                    let Some(network) = self.port_network(node, port.mac, place(node)) else { continue };
                    ports.push(PortWish {
                        port: port.local_link.port.clone(),
                        vlan: network.vlan,
                        attempt: node.journey.as_ref().map(Journey::wish),
                    });
                }
            }
            SwitchEntry { name: switch.name.clone(), driver: switch.driver.clone(), ports }
        };
        SwitchPlan { switches: self.switches.values().map(entry).collect() }
    }
}

fn config_drive(deployment: &Deployment) -> Option<ConfigDrive> {
    deployment.config_drive.map(|(digest, size)| ConfigDrive { digest, size })
}

/// Whether machines boot from it.
fn boots(network: &NetworkSpec) -> bool {
    matches!(network.purpose, Purpose::Provisioning | Purpose::Cleaning)
}

/// Where a node's boot port belongs now. A node is in a tenant's network only while a leg says so, or while
/// it is active; whatever else it is, it is in quarantine.
fn place(node: &NodeRecord) -> Place {
    match &node.journey {
        Some(journey) => deploy::place(journey),
        None if node.state == ProvisionState::Active => Place::Tenant,
        None => Place::Quarantine,
    }
}

fn bmc(node: &NodeRecord) -> BmcPlan {
    let uefi = node.spec.firmware == Firmware::Uefi;
    let wish = node.journey.as_ref().and_then(|journey| {
        let wish = leg(journey).wish;
        let (power, device) = wish.power?;
        // A node without a system of its own must find its volume whenever it is switched on.
        let persistent = wish.offer == Offer::San;
        let boot = match power {
            Power::On => Some(BootWish { device, uefi, persistent }),
            Power::Off => Some(BootWish { device: BootDevice::None, uefi, persistent: false }),
        };
        Some(PowerWish { power, boot, attempt: journey.wish() })
    });
    BmcPlan {
        node: node.spec.name.clone(),
        revision: node.generation,
        address: SocketAddr::new(node.spec.bmc.address, node.spec.bmc.port),
        user: node.spec.bmc.user.clone(),
        password: node.spec.bmc.password.clone(),
        wish,
    }
}
