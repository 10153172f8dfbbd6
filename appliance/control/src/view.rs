mod volume;

pub use volume::{CredentialsView, LunView, StorageView, VolumeView};

use crate::{Control, Discovered, Hand, ImageRecord, NodeRecord, VolumeRecord};
use agent_proto::{Inventory, Outcome, Phase};
use boot::{NodeName, VolumeSource};
use deploy::{Arrow, Failure, Goal, Step, Verdict, arrows, consider, position};
use rack::{DeployInterface, LinkState, NetworkSpec, PortMode, Power, ProvisionState, SwitchDriver};
use sansio::Time;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use store::Store;

/// A node, as it is shown. Times are microseconds since 1970.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its name.
    pub name: NodeName,
    /// When this was so, by the appliance's clock.
    pub now: Time,
    /// Where it is in its life.
    pub provision_state: ProvisionState,
    /// Since when.
    pub since: Time,
    /// Its power, as last seen.
    pub power: Option<Power>,
    /// What is being done with it.
    pub step: Option<StepView>,
    /// What it is deployed with, or was to be.
    pub image: Option<String>,
    /// How the image came or comes to it.
    pub interface: Option<DeployInterface>,
    /// On whose network.
    pub network: Option<String>,
    /// The address it was seen with there.
    pub address: Option<Ipv4Addr>,
    /// Why its last journey failed.
    pub failure: Option<Failure>,
    /// Its BMC.
    pub bmc: BmcView,
    /// Its ports.
    pub ports: Vec<PortView>,
    /// What its agent says or said.
    pub agent: Option<AgentView>,
    /// What was written on its disk.
    pub written: Option<Outcome>,
    /// Its volumes.
    pub storage: Option<StorageView>,
    /// The node whose place it is to take.
    pub reserved_for: Option<NodeName>,
    /// The node that is to take its place.
    pub replaced_by: Option<NodeName>,
    /// Numbers its descriptions.
    pub generation: u64,
}

/// A BMC, as it is shown: never its password.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BmcView {
    /// Where it is.
    pub address: String,
    /// Who we are to it.
    pub user: String,
    /// What is wrong with it.
    pub trouble: Option<String>,
}

/// What is being done with a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepView {
    /// What for.
    pub goal: Goal,
    /// Where it is.
    pub step: Step,
    /// Which step of how many.
    pub position: (usize, usize),
    /// Since when.
    pub since: Time,
    /// When the journey began.
    pub began: Time,
    /// What it waits for.
    pub waits_for: String,
    /// Until when.
    pub until: Option<Time>,
    /// Which attempt of how many.
    pub attempt: (u32, u32),
    /// The arrows of this step.
    pub arrows: Vec<Arrow>,
}

/// A port, as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PortView {
    /// Its address.
    pub mac: String,
    /// Its switch.
    pub switch: String,
    /// The switch's port.
    pub switch_port: String,
    /// What the switch says of it.
    pub mode: Option<PortMode>,
    /// Whether there is light.
    pub link: LinkState,
}

/// An agent, as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentView {
    /// Whether it is on the line.
    pub connected: bool,
    /// How far its job is.
    pub progress: Option<ProgressView>,
    /// What machine it runs on.
    pub inventory: Option<Inventory>,
}

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProgressView {
    /// At what.
    pub phase: Phase,
    /// Octets done.
    pub done: u64,
    /// Octets in all.
    pub total: u64,
}

/// A network, as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkView {
    /// As its administrator describes it.
    pub spec: NetworkSpec,
    /// The appliance's interface on it.
    pub device: Option<String>,
    /// Nodes that are on it.
    pub nodes: Vec<NodeName>,
}

/// A switch, as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SwitchView {
    /// Its name.
    pub name: String,
    /// How it is driven.
    pub driver: SwitchDriver,
    /// What is wrong with it.
    pub trouble: Option<String>,
    /// The ports that are ours to set, and who is on them.
    pub ports: Vec<(NodeName, PortView)>,
}

/// An image, as it is shown.
pub type ImageView = ImageRecord;

/// A machine that nobody enrolled, as it is shown.
pub type DiscoveredView = Discovered;

/// A hand, as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HandView {
    /// Which.
    pub hand: Hand,
    /// Whether it is on the line.
    pub connected: bool,
    /// The plan it serves from.
    pub holds: Option<u64>,
    /// The newest plan.
    pub newest: u64,
    /// What is wrong.
    pub troubles: Vec<String>,
}

/// The appliance, as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// Its release.
    pub version: String,
    /// Its hands.
    pub hands: Vec<HandView>,
    /// Why it cannot write anything down; none: it can.
    pub store_trouble: Option<String>,
    /// The newest event.
    pub newest_event: u64,
    /// How many nodes there are.
    pub nodes: usize,
}

impl<S: Store> Control<S> {
    /// All nodes, by name.
    pub fn node_views(&self, now: Time) -> Vec<NodeView> {
        self.nodes.values().map(|node| self.view(node, now)).collect()
    }

    /// One node.
    pub fn node_view(&self, name: &NodeName, now: Time) -> Option<NodeView> {
        Some(self.view(self.nodes.get(name)?, now))
    }

    fn view(&self, node: &NodeRecord, now: Time) -> NodeView {
        let name = &node.spec.name;
        let power = self.facts.power(node);
        let step = node.journey.as_ref().map(|journey| {
            let sight = self.sight(name, journey);
            let (waits_for, until) = match consider(journey, &sight, &self.site.patience, now) {
                Verdict::Wait { until, waits_for } => (waits_for, Some(until)),
                _ => (format!("{} is about to end", journey.step), None),
            };
            StepView {
                goal: journey.goal,
                step: journey.step,
                position: position(journey),
                since: journey.since,
                began: journey.began,
                waits_for,
                until,
                attempt: (journey.attempt, self.site.patience.tries),
                arrows: arrows(journey, &sight),
            }
        });
        let agent = node.journey.as_ref().and_then(|journey| {
            let (connected, status) = self.facts.agent(&journey.attempt())?;
            let progress = self.sight(name, journey).job_progress(journey);
            let progress = progress.map(|p| ProgressView { phase: p.phase, done: p.done, total: p.total });
            let inventory = status.as_ref().map(|status| status.inventory.clone());
            Some(AgentView { connected: *connected, progress, inventory })
        });
        NodeView {
            name: name.clone(),
            now,
            provision_state: node.state,
            since: node.since,
            power: power.and_then(|fact| fact.power),
            step,
            image: node.deployment.as_ref().map(|d| d.image.to_string()),
            interface: node.deployment.as_ref().map(|d| d.interface),
            network: node.deployment.as_ref().map(|d| d.network.to_string()),
            address: node.tenant_address,
            failure: node.failure.clone(),
            bmc: BmcView {
                address: format!("{}:{}", node.spec.bmc.address, node.spec.bmc.port),
                user: node.spec.bmc.user.clone(),
                trouble: power.and_then(|fact| fact.trouble.as_ref()).map(ToString::to_string),
            },
            ports: node.spec.ports.iter().map(|port| self.port_view(port)).collect(),
            agent,
            written: node.written.clone(),
            storage: self.storage_view(node),
            reserved_for: node.reserved_for.clone(),
            replaced_by: node.replaced_by.clone(),
            generation: node.generation,
        }
    }

    fn port_view(&self, port: &rack::PortSpec) -> PortView {
        let fact = self.facts.port(&port.local_link);
        PortView {
            mac: port.mac.to_string(),
            switch: port.local_link.switch.to_string(),
            switch_port: port.local_link.port.to_string(),
            mode: fact.and_then(|fact| fact.mode),
            link: fact.map(|fact| fact.link).unwrap_or_default(),
        }
    }

    /// All networks, by name.
    pub fn network_views(&self) -> Vec<NetworkView> {
        let view = |spec: &NetworkSpec| {
            let device = spec.device.as_ref().or_else(|| self.site.interfaces.get(&spec.name));
            let on = |node: &&NodeRecord| {
                let theirs = node.deployment.as_ref().is_some_and(|d| d.network == spec.name);
                theirs && node.state == ProvisionState::Active
            };
            NetworkView {
                spec: spec.clone(),
                device: device.map(ToString::to_string),
                nodes: self.nodes.values().filter(on).map(|node| node.spec.name.clone()).collect(),
            }
        };
        self.networks.values().map(view).collect()
    }

    /// All switches, by name.
    pub fn switch_views(&self) -> Vec<SwitchView> {
        let view = |switch: &rack::SwitchSpec| {
            let ports = self.nodes.values().flat_map(|node| {
                let here = node.spec.ports.iter().filter(|port| port.local_link.switch == switch.name);
                here.map(|port| (node.spec.name.clone(), self.port_view(port)))
            });
            SwitchView {
                name: switch.name.to_string(),
                driver: switch.driver.clone(),
                trouble: self.facts.switch_trouble(&switch.name).map(ToOwned::to_owned),
                ports: ports.collect(),
            }
        };
        self.switches.values().map(view).collect()
    }

    /// All images, by name.
    pub fn image_views(&self) -> Vec<ImageView> {
        self.images.values().cloned().collect()
    }

    /// Whether anything still needs the octets of an image.
    pub fn names_image(&self, digest: &boot::Digest) -> bool {
        let deploying = |node: &NodeRecord| {
            node.journey.is_some() && node.deployment.as_ref().is_some_and(|d| d.digest == *digest)
        };
        let made_from = |volume: &VolumeRecord| {
            !volume.made && !volume.gone && volume.source == VolumeSource::Image(*digest)
        };
        self.images.values().any(|image| image.digest == *digest)
            || self.nodes.values().any(deploying)
            || self.volumes.values().any(made_from)
    }

    /// All machines that nobody enrolled, by address.
    pub fn discovered_views(&self) -> Vec<DiscoveredView> {
        self.discovered.values().cloned().collect()
    }

    /// The appliance itself.
    pub fn status_view(&self) -> StatusView {
        let hand = |hand: Hand| {
            let line = self.facts.hand(hand);
            HandView {
                hand,
                connected: line.connected,
                holds: line.holds.map(|generation| generation.0),
                newest: self.generation(hand).0,
                troubles: self.facts.troubles(hand).map(ToOwned::to_owned).collect(),
            }
        };
        StatusView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hands: Hand::ALL
                .into_iter()
                .filter(|hand| *hand != Hand::Host || self.site.image)
                .map(hand)
                .collect(),
            store_trouble: self.trouble.clone(),
            newest_event: self.newest_event().0,
            nodes: self.nodes.len(),
        }
    }
}
