use crate::record::{NetworkRecord, SwitchRecord};
use crate::walk::begin;
use crate::{Control, Event, ImageRecord, NodeRecord};
use boot::{Digest, NodeName, Prefix};
use core::fmt;
use deploy::{Deployment, Goal};
use rack::{ImageName, NetworkName, NetworkSpec, NodeSpec, ProvisionState, Purpose, SwitchName, SwitchSpec};
use sansio::Time;
use std::collections::BTreeMap;
use store::{Batch, Store};

/// What somebody wants.
#[derive(Clone, Debug)]
pub enum Intent {
    /// A node is described, for the first time or anew.
    PutNode(NodeSpec),
    /// A node is forgotten.
    DeleteNode(NodeName),
    /// Its BMC is checked and its ports go to quarantine.
    Manage(NodeName),
    /// It becomes available, cleaned before or not.
    Provide {
        /// Which.
        node: NodeName,
        /// Whether its disks are wiped first.
        clean: bool,
    },
    /// It is deployed.
    Deploy {
        /// Which.
        node: NodeName,
        /// With which image.
        image: ImageName,
        /// For the tenant on which network.
        network: NetworkName,
        /// The config drive that was made of the user data.
        config_drive: Option<(Digest, u64)>,
    },
    /// It is taken from its tenant and cleaned; a deployment under way is abandoned.
    Undeploy(NodeName),
    /// A network is described.
    PutNetwork(NetworkSpec),
    /// A network is forgotten.
    DeleteNetwork(NetworkName),
    /// A switch is described.
    PutSwitch(SwitchSpec),
    /// A switch is forgotten.
    DeleteSwitch(SwitchName),
    /// An image was imported.
    PutImage(ImageRecord),
    /// An image is forgotten; its octets may be removed when nobody else names them.
    DeleteImage(ImageName),
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It was so already.
    Already,
    /// It is so now, or has begun to be.
    Changed,
}

/// Why it is not done. The text says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Of what sort.
    pub kind: RefusalKind,
    /// For people.
    pub text: String,
}

/// Of what sort a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// What is named does not exist.
    NotFound,
    /// It cannot be done now, as things stand.
    Conflict,
    /// It can never be done as it is asked.
    Invalid,
    /// The appliance cannot write it down.
    Storage,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

fn refuse<T>(kind: RefusalKind, text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { kind, text: text.into() })
}

fn not_found<T>(what: &str, name: impl fmt::Display, list: &str) -> Result<T, Refusal> {
    refuse(RefusalKind::NotFound, format!("there is no {what} {name}: {list} shows those there are"))
}

impl<S: Store> Control<S> {
    /// Takes up an intent: refuses it, or writes it down and sees to it.
    pub fn handle_intent(&mut self, intent: Intent, now: Time) -> Result<Done, Refusal> {
        let done = match intent {
            Intent::PutNode(spec) => self.put_node(spec, now),
            Intent::DeleteNode(name) => self.delete_node(&name, now),
            Intent::Manage(name) => self.manage(&name, now),
            Intent::Provide { node, clean } => self.provide(&node, clean, now),
            Intent::Deploy { node, image, network, config_drive } => {
                self.deploy(&node, &image, &network, config_drive, now)
            }
            Intent::Undeploy(name) => self.undeploy(&name, now),
            Intent::PutNetwork(spec) => self.put_network(spec, now),
            Intent::DeleteNetwork(name) => self.delete_network(&name, now),
            Intent::PutSwitch(spec) => self.put_switch(spec, now),
            Intent::DeleteSwitch(name) => self.delete_switch(&name, now),
            Intent::PutImage(image) => self.put_image(image, now),
            Intent::DeleteImage(name) => self.delete_image(&name, now),
        }?;
        self.walk(now);
        Ok(done)
    }

    fn keep(&mut self, batch: Batch) -> Result<(), Refusal> {
        let refused = |e: store::StoreError| Refusal {
            kind: RefusalKind::Storage,
            text: format!("the appliance cannot write this down, so it is not done: {e}"),
        };
        self.commit(batch).map_err(refused)
    }

    fn keep_node(&mut self, node: NodeRecord, events: Vec<Event>) -> Result<Done, Refusal> {
        let name = node.spec.name.clone();
        let batch = events.iter().fold(Batch::new(), Batch::event_as);
        self.keep(batch.put_as(name.as_str(), &node))?;
        self.nodes.insert(name, node);
        Ok(Done::Changed)
    }

    fn node(&self, name: &NodeName) -> Result<&NodeRecord, Refusal> {
        self.nodes.get(name).map_or_else(|| not_found("node", name, "kiln node list"), Ok)
    }

    fn put_node(&mut self, spec: NodeSpec, now: Time) -> Result<Done, Refusal> {
        self.check_node(&spec)?;
        let name = spec.name.clone();
        if let Some(known) = self.nodes.get(&name) {
            if known.spec == spec {
                return Ok(Done::Already);
            }
            let links = |spec: &NodeSpec| {
                spec.ports.iter().map(|p| (p.mac, p.local_link.clone())).collect::<Vec<_>>()
            };
            let settled = known.journey.is_none() && known.state != ProvisionState::Active;
            if links(&known.spec) != links(&spec) && !settled {
                return refuse(
                    RefusalKind::Conflict,
                    format!("node {name} is {}: its ports can be changed once it is undeployed", known.state),
                );
            }
            let generation = known.generation + 1;
            let mut events = vec![Event::new(now, "node", &name, "changed", "described anew")];
            let mut node = NodeRecord { spec, generation, ..known.clone() };
            // One that was never verified is verified as it is described now.
            if node.state == ProvisionState::Enroll && node.journey.is_none() {
                node.failure = None;
                let mut say = |kind: &str, text| events.push(Event::new(now, "node", &name, kind, text));
                begin(&mut node, Goal::Manage, now, &mut say);
            }
            return self.keep_node(node, events);
        }
        let mut node = NodeRecord {
            spec,
            generation: 1,
            state: ProvisionState::Enroll,
            since: now,
            journey: None,
            then: None,
            // A node of the same name may have been here before: its attempts are not this one's.
            journeys: self.newest_event().0,
            deployment: None,
            failure: None,
            addresses: BTreeMap::new(),
            tenant_address: None,
            written: None,
        };
        let mut events = vec![Event::new(now, "node", &name, "enrolled", "enrolled")];
        begin(&mut node, Goal::Manage, now, &mut |kind, text| {
            events.push(Event::new(now, "node", &name, kind, text))
        });
        let macs: Vec<boot::Mac> = node.spec.ports.iter().map(|port| port.mac).collect();
        let mut batch = events.iter().fold(Batch::new(), Batch::event_as).put_as(name.as_str(), &node);
        for mac in &macs {
            batch = batch.delete_as::<crate::Discovered>(mac.to_string());
        }
        self.keep(batch)?;
        self.discovered.retain(|mac, _| !macs.contains(mac));
        self.nodes.insert(name, node);
        Ok(Done::Changed)
    }

    fn check_node(&self, spec: &NodeSpec) -> Result<(), Refusal> {
        let invalid = |text: String| refuse(RefusalKind::Invalid, text);
        let name = &spec.name;
        if spec.pxe_port().is_none() {
            return invalid(format!(
                "node {name} has no port that it may boot by: give it a port with its MAC and local_link"
            ));
        }
        if spec.ports.len() > 32 {
            return invalid(format!("node {name} has {} ports; 32 are the most", spec.ports.len()));
        }
        if spec.bmc.user.len() > 16 || spec.bmc.password.expose().len() > 20 {
            return invalid(format!(
                "the BMC of node {name}: IPMI takes 16 octets of user name and 20 of password"
            ));
        }
        for (at, port) in spec.ports.iter().enumerate() {
            let mac = port.mac;
            if !mac.is_station() {
                return invalid(format!(
                    "{mac} cannot be an interface's address: look at the node's label or its BMC"
                ));
            }
            if !self.switches.contains_key(&port.local_link.switch) {
                let switch = &port.local_link.switch;
                return refuse(
                    RefusalKind::NotFound,
                    format!(
                        "port {mac} is on switch {switch}, which is not known: kiln switch add comes first"
                    ),
                );
            }
            if spec.ports[..at].iter().any(|p| p.mac == mac || p.local_link == port.local_link) {
                return invalid(format!("node {name} names port {mac} or its switch port twice"));
            }
            for other in self.nodes.values().filter(|other| other.spec.name != *name) {
                if let Some(same) =
                    other.spec.ports.iter().find(|p| p.mac == mac || p.local_link == port.local_link)
                {
                    return refuse(
                        RefusalKind::Conflict,
                        format!(
                            "node {} has the port {} on {} port {} already: one of the two descriptions is wrong",
                            other.spec.name, same.mac, same.local_link.switch, same.local_link.port
                        ),
                    );
                }
                if other.spec.bmc.address == spec.bmc.address && other.spec.bmc.port == spec.bmc.port {
                    return refuse(
                        RefusalKind::Conflict,
                        format!(
                            "node {} has the BMC {} already: one of the two is wrong",
                            other.spec.name, spec.bmc.address
                        ),
                    );
                }
            }
        }
        for purpose in [Purpose::Quarantine, Purpose::Provisioning] {
            if !self.networks.values().any(|network| network.purpose == purpose) {
                return refuse(
                    RefusalKind::Conflict,
                    format!(
                        "there is no {purpose} network to put node {name} in: kiln network create comes first"
                    ),
                );
            }
        }
        Ok(())
    }

    fn delete_node(&mut self, name: &NodeName, now: Time) -> Result<Done, Refusal> {
        let node = self.node(name)?;
        if node.journey.is_some() || node.state == ProvisionState::Active {
            let text = format!("node {name} is {}: kiln node undeploy {name} first, or wait", node.state);
            return refuse(RefusalKind::Conflict, text);
        }
        let event = Event::new(now, "node", name, "deleted", "forgotten; its ports stay as they are");
        self.keep(Batch::new().delete_as::<NodeRecord>(name.as_str()).event_as(&event))?;
        self.nodes.remove(name);
        Ok(Done::Changed)
    }

    /// Begins a journey, with room for what else changes in the record.
    fn set_out(
        &mut self,
        name: &NodeName,
        goal: Goal,
        then: Option<Goal>,
        now: Time,
        change: impl FnOnce(&mut NodeRecord),
    ) -> Result<Done, Refusal> {
        let mut node = self.node(name)?.clone();
        change(&mut node);
        node.then = then;
        node.failure = None;
        let mut events = Vec::new();
        begin(&mut node, goal, now, &mut |kind, text| events.push(Event::new(now, "node", name, kind, text)));
        self.keep_node(node, events)
    }

    fn manage(&mut self, name: &NodeName, now: Time) -> Result<Done, Refusal> {
        use ProvisionState as P;
        let node = self.node(name)?;
        match node.state {
            P::Verifying => Ok(Done::Already),
            P::Enroll | P::Manageable | P::Available | P::CleanFailed if node.journey.is_none() => {
                self.set_out(name, Goal::Manage, None, now, |_| {})
            }
            state => refuse(
                RefusalKind::Conflict,
                format!(
                    "node {name} is {state}; manage works from enroll, manageable, available and clean failed"
                ),
            ),
        }
    }

    fn provide(&mut self, name: &NodeName, clean: bool, now: Time) -> Result<Done, Refusal> {
        use ProvisionState as P;
        let node = self.node(name)?;
        match node.state {
            P::Available => Ok(Done::Already),
            P::Manageable if clean => {
                let address = self.boot_address(name, deploy::Place::Cleaning)?;
                self.set_out(name, Goal::Clean, None, now, |node| {
                    node.addresses.extend([address]);
                })
            }
            P::Manageable => {
                let mut node = node.clone();
                node.state = P::Available;
                node.since = now;
                let event = Event::new(now, "node", name, "state", "manageable -> available, not cleaned");
                self.keep_node(node, vec![event])
            }
            state => refuse(
                RefusalKind::Conflict,
                format!(
                    "node {name} is {state}; provide works from manageable: kiln node manage {name} first"
                ),
            ),
        }
    }

    fn boot_address(
        &self,
        name: &NodeName,
        place: deploy::Place,
    ) -> Result<(NetworkName, std::net::Ipv4Addr), Refusal> {
        let Some(network) = self.network_of(name, place) else {
            return refuse(
                RefusalKind::Conflict,
                "there is no provisioning network: kiln network create makes one".to_owned(),
            );
        };
        self.address_on(name, &network.name)
    }

    fn address_on(
        &self,
        name: &NodeName,
        network: &NetworkName,
    ) -> Result<(NetworkName, std::net::Ipv4Addr), Refusal> {
        match self.address_for(name, network) {
            Some(address) => Ok((network.clone(), address)),
            None => refuse(
                RefusalKind::Conflict,
                format!(
                    "network {network} has no address left for {name}: undeploy a node or give it a larger pool"
                ),
            ),
        }
    }

    fn deploy(
        &mut self,
        name: &NodeName,
        image: &ImageName,
        network: &NetworkName,
        config_drive: Option<(Digest, u64)>,
        now: Time,
    ) -> Result<Done, Refusal> {
        use ProvisionState as P;
        let node = self.node(name)?;
        let Some(image) = self.images.get(image) else { return not_found("image", image, "kiln image list") };
        let Some(tenant) = self.networks.get(network) else {
            return not_found("network", network, "kiln network list");
        };
        if tenant.purpose != Purpose::Tenant {
            let text = format!(
                "network {network} is for {}; a node is deployed to a tenant's network",
                tenant.purpose
            );
            return refuse(RefusalKind::Invalid, text);
        }
        let deployment = Deployment {
            image: image.name.clone(),
            digest: image.digest,
            size: image.size,
            network: network.clone(),
            config_drive,
        };
        let same = node.deployment.as_ref() == Some(&deployment);
        if node.is_failing() {
            let text = format!(
                "what was done with node {name} failed, and it is being put in quarantine: deploy it when that is over"
            );
            return refuse(RefusalKind::Conflict, text);
        }
        match node.state {
            P::Active | P::Deploying | P::WaitCallBack if same => return Ok(Done::Already),
            P::Available | P::DeployFailed if node.journey.is_none() => {}
            P::Manageable | P::Enroll => {
                return refuse(
                    RefusalKind::Conflict,
                    format!("node {name} is {}: kiln node provide {name} makes it available", node.state),
                );
            }
            state => {
                return refuse(
                    RefusalKind::Conflict,
                    format!(
                        "node {name} is {state}: kiln node undeploy {name} first, or wait until it is available"
                    ),
                );
            }
        }
        let boot = self.boot_address(name, deploy::Place::Provisioning)?;
        let tenant = self.address_on(name, network)?;
        self.set_out(name, Goal::Deploy, None, now, |node| {
            node.addresses.extend([boot, tenant]);
            node.deployment = Some(deployment);
            node.tenant_address = None;
            node.written = None;
        })
    }

    fn undeploy(&mut self, name: &NodeName, now: Time) -> Result<Done, Refusal> {
        use ProvisionState as P;
        let node = self.node(name)?;
        match node.state {
            P::Available => return Ok(Done::Already),
            P::Deleting | P::Cleaning | P::CleanWait if !node.is_failing() => return Ok(Done::Already),
            P::Active | P::DeployFailed | P::Deploying | P::WaitCallBack => {}
            P::Deleting | P::Error | P::Cleaning | P::CleanWait | P::CleanFailed => {}
            state => {
                return refuse(
                    RefusalKind::Conflict,
                    format!("node {name} is {state}: there is nothing to undeploy"),
                );
            }
        }
        let address = self.boot_address(name, deploy::Place::Cleaning)?;
        self.set_out(name, Goal::Delete, Some(Goal::Clean), now, |node| {
            node.addresses.extend([address]);
        })
    }

    fn put_network(&mut self, spec: NetworkSpec, now: Time) -> Result<Done, Refusal> {
        let name = spec.name.clone();
        if self.networks.get(&name) == Some(&spec) {
            return Ok(Done::Already);
        }
        let pool = spec.pool();
        if !spec.subnet.contains(pool.first) || !spec.subnet.contains(pool.last) || pool.first > pool.last {
            let text = format!("the pool {} to {} is not within {}", pool.first, pool.last, spec.subnet);
            return refuse(RefusalKind::Invalid, text);
        }
        if spec.purpose != Purpose::Tenant
            && let Some(other) = self.networks.values().find(|o| o.purpose == spec.purpose && o.name != name)
        {
            let text = format!("network {} is for {} already; a rack has one", other.name, spec.purpose);
            return refuse(RefusalKind::Conflict, text);
        }
        let others = self.networks.values().filter(|other| other.name != name);
        for other in others {
            if other.vlan == spec.vlan {
                let text =
                    format!("network {} is VLAN {} already: give {name} another", other.name, spec.vlan);
                return refuse(RefusalKind::Conflict, text);
            }
            if overlap(other.subnet, spec.subnet) {
                let text =
                    format!("network {} has {}, which overlaps {}", other.name, other.subnet, spec.subnet);
                return refuse(RefusalKind::Conflict, text);
            }
        }
        if let Some(known) = self.networks.get(&name)
            && (known.vlan != spec.vlan || known.purpose != spec.purpose || known.subnet != spec.subnet)
            && let Some(user) = self.user_of(&name)
        {
            let text = format!("node {user} is on network {name}: undeploy it before the network is changed");
            return refuse(RefusalKind::Conflict, text);
        }
        if spec.purpose == Purpose::Cleaning
            && !self.networks.contains_key(&name)
            && let Some(user) = self.nodes.values().find(|node| node.is_being_cleaned())
        {
            let user = &user.spec.name;
            let text = format!("node {user} is being cleaned on another network: wait until it is available");
            return refuse(RefusalKind::Conflict, text);
        }
        let event =
            Event::new(now, "network", &name, "created", format!("VLAN {} for {}", spec.vlan, spec.purpose));
        self.keep(Batch::new().put_as(name.as_str(), &NetworkRecord(spec.clone())).event_as(&event))?;
        self.networks.insert(name, spec);
        Ok(Done::Changed)
    }

    /// A node that is on a network now, or will be put there.
    fn user_of(&self, network: &NetworkName) -> Option<&NodeName> {
        let purpose = self.networks.get(network)?.purpose;
        let uses = |node: &NodeRecord| match purpose {
            Purpose::Tenant => node.deployment.as_ref().is_some_and(|d| d.network == *network),
            Purpose::Quarantine => true,
            Purpose::Provisioning | Purpose::Cleaning => node.journey.is_some(),
        };
        self.nodes.values().find(|node| uses(node)).map(|node| &node.spec.name)
    }

    fn delete_network(&mut self, name: &NetworkName, now: Time) -> Result<Done, Refusal> {
        if !self.networks.contains_key(name) {
            return not_found("network", name, "kiln network list");
        }
        if let Some(user) = self.user_of(name) {
            let text = format!("node {user} needs network {name}: undeploy or delete the node first");
            return refuse(RefusalKind::Conflict, text);
        }
        let event = Event::new(now, "network", name, "deleted", "forgotten");
        self.keep(Batch::new().delete_as::<NetworkRecord>(name.as_str()).event_as(&event))?;
        self.networks.remove(name);
        Ok(Done::Changed)
    }

    fn put_switch(&mut self, spec: SwitchSpec, now: Time) -> Result<Done, Refusal> {
        let name = spec.name.clone();
        if self.switches.get(&name) == Some(&spec) {
            return Ok(Done::Already);
        }
        let event = Event::new(now, "switch", &name, "created", "described");
        self.keep(Batch::new().put_as(name.as_str(), &SwitchRecord(spec.clone())).event_as(&event))?;
        self.switches.insert(name, spec);
        Ok(Done::Changed)
    }

    fn delete_switch(&mut self, name: &SwitchName, now: Time) -> Result<Done, Refusal> {
        if !self.switches.contains_key(name) {
            return not_found("switch", name, "kiln switch list");
        }
        let on = |node: &&NodeRecord| node.spec.ports.iter().any(|port| port.local_link.switch == *name);
        if let Some(node) = self.nodes.values().find(on) {
            let text = format!("node {} hangs on switch {name}: delete the node first", node.spec.name);
            return refuse(RefusalKind::Conflict, text);
        }
        let event = Event::new(now, "switch", name, "deleted", "forgotten");
        self.keep(Batch::new().delete_as::<SwitchRecord>(name.as_str()).event_as(&event))?;
        self.switches.remove(name);
        Ok(Done::Changed)
    }

    fn put_image(&mut self, image: ImageRecord, now: Time) -> Result<Done, Refusal> {
        let name = image.name.clone();
        if let Some(known) = self.images.get(&name) {
            if known.digest == image.digest {
                return Ok(Done::Already);
            }
            return refuse(
                RefusalKind::Conflict,
                format!("image {name} exists with other content: delete it first, or choose another name"),
            );
        }
        let event =
            Event::new(now, "image", &name, "imported", format!("{} octets, {}", image.size, image.digest));
        self.keep(Batch::new().put_as(name.as_str(), &image).event_as(&event))?;
        self.images.insert(name, image);
        Ok(Done::Changed)
    }

    fn delete_image(&mut self, name: &ImageName, now: Time) -> Result<Done, Refusal> {
        if !self.images.contains_key(name) {
            return not_found("image", name, "kiln image list");
        }
        let uses = |node: &&NodeRecord| {
            node.journey.is_some() && node.deployment.as_ref().is_some_and(|d| d.image == *name)
        };
        if let Some(node) = self.nodes.values().find(uses) {
            let text =
                format!("node {} is being deployed with image {name}: wait until it is done", node.spec.name);
            return refuse(RefusalKind::Conflict, text);
        }
        let event = Event::new(now, "image", name, "deleted", "forgotten");
        self.keep(Batch::new().delete_as::<ImageRecord>(name.as_str()).event_as(&event))?;
        self.images.remove(name);
        Ok(Done::Changed)
    }
}

fn overlap(a: Prefix, b: Prefix) -> bool {
    a.contains(b.address) || b.contains(a.address)
}
