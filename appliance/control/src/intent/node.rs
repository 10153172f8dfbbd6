use super::{Done, Refusal, RefusalKind, not_found, refuse};
use crate::walk::begin;
use crate::{Control, Event, NodeRecord, VolumeRecord};
use boot::{Digest, NodeName};
use deploy::{Deployment, Goal, Journey};
use rack::{DeployInterface, ImageName, NetworkName, NodeSpec, ProvisionState, Purpose};
use sansio::Time;
use std::collections::BTreeMap;
use store::{Batch, Store};

/// What a node is to be deployed with.
pub(super) struct Wanted {
    pub(super) image: ImageName,
    pub(super) network: NetworkName,
    pub(super) config_drive: Option<(Digest, u64)>,
    pub(super) interface: DeployInterface,
}

impl<S: Store> Control<S> {
    pub(super) fn put_node(&mut self, spec: NodeSpec, now: Time) -> Result<Done, Refusal> {
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
            access: 0,
            reserved_for: None,
            replaced_by: None,
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

    pub(super) fn delete_node(&mut self, name: &NodeName, now: Time) -> Result<Done, Refusal> {
        let node = self.free_node(name)?;
        if node.journey.is_some() || node.state == ProvisionState::Active || node.boots_from_volume() {
            let text = format!("node {name} is {}: kiln node undeploy {name} first, or wait", node.state);
            return refuse(RefusalKind::Conflict, text);
        }
        let event = Event::new(now, "node", name, "deleted", "forgotten; its ports stay as they are");
        self.keep(Batch::new().delete_as::<NodeRecord>(name.as_str()).event_as(&event))?;
        self.nodes.remove(name);
        Ok(Done::Changed)
    }

    /// A node that is not meant for something else.
    fn free_node(&self, name: &NodeName) -> Result<&NodeRecord, Refusal> {
        let node = self.node(name)?;
        if let Some(failed) = &node.reserved_for {
            let text = format!("node {name} is to take the place of node {failed}: wait until that is over");
            return refuse(RefusalKind::Conflict, text);
        }
        Ok(node)
    }

    /// Begins a journey, with room for what else changes in the record.
    pub(super) fn set_out(
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

    pub(super) fn manage(&mut self, name: &NodeName, now: Time) -> Result<Done, Refusal> {
        use ProvisionState as P;
        let node = self.free_node(name)?;
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

    pub(super) fn provide(&mut self, name: &NodeName, clean: bool, now: Time) -> Result<Done, Refusal> {
        use ProvisionState as P;
        let node = self.node(name)?;
        match node.state {
            P::Available => Ok(Done::Already),
            P::Manageable if clean && !node.spec.diskless => {
                let address = self.boot_address(name, deploy::Place::Cleaning)?;
                self.set_out(name, Goal::Clean, None, now, |node| {
                    node.addresses.extend([address]);
                })
            }
            P::Manageable => {
                let mut node = node.clone();
                node.state = P::Available;
                node.since = now;
                let how = if node.spec.diskless { "it has no disks" } else { "not cleaned" };
                let text = format!("manageable -> available, {how}");
                let event = Event::new(now, "node", name, "state", text);
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

    pub(super) fn boot_address(
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

    pub(super) fn address_on(
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

    pub(super) fn deploy(&mut self, name: &NodeName, wanted: Wanted, now: Time) -> Result<Done, Refusal> {
        use ProvisionState as P;
        let Wanted { image, network, config_drive, interface } = wanted;
        let node = self.free_node(name)?;
        let Some(image) = self.images.get(&image) else {
            return not_found("image", &image, "kiln image list");
        };
        let Some(tenant) = self.networks.get(&network) else {
            return not_found("network", &network, "kiln network list");
        };
        if tenant.purpose != Purpose::Tenant {
            let text = format!(
                "network {network} is for {}; a node is deployed to a tenant's network",
                tenant.purpose
            );
            return refuse(RefusalKind::Invalid, text);
        }
        if node.spec.diskless && interface != DeployInterface::San {
            let text = format!(
                "node {name} has no disks to put an image on: --interface san boots it from a volume"
            );
            return refuse(RefusalKind::Invalid, text);
        }
        let root = node.deployment.as_ref().and_then(|deployment| deployment.root.clone());
        let deployment = Deployment {
            image: image.name.clone(),
            digest: image.digest,
            size: image.size,
            network: network.clone(),
            config_drive,
            interface,
            root,
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
        let lived = self.held_by(name).find(|(_, holder)| holder.lived).map(|(volume, _)| volume.id.clone());
        if let Some(volume) = lived.filter(|_| !same) {
            let text = format!(
                "node {name} still has volume {volume}, from which a system ran: deploy it again as it was to go on with that, give it to another node with kiln node replace, or kiln node undeploy {name} to be rid of it"
            );
            return refuse(RefusalKind::Conflict, text);
        }
        let size = deployment.size;
        let mut addresses = vec![self.address_on(name, &network)?];
        if interface == DeployInterface::San {
            let storage = self.san_network(&network, &node.spec)?;
            addresses.push(self.address_on(name, &storage)?);
        } else {
            addresses.push(self.boot_address(name, deploy::Place::Provisioning)?);
        }
        let mut node = node.clone();
        node.addresses.extend(addresses);
        node.deployment = Some(deployment);
        node.tenant_address = None;
        node.written = None;
        node.then = None;
        node.failure = None;
        node.access = self.newest_event().0 + 1;
        let mut volumes = Vec::new();
        if interface == DeployInterface::San {
            let Some((root, changed)) = self.root_volume(&node, size) else {
                return refuse(RefusalKind::Conflict, format!("node {name} can be given no volume"));
            };
            volumes = changed.into_iter().map(|volume| VolumeRecord { created: now, ..volume }).collect();
            if let Some(deployment) = &mut node.deployment {
                deployment.root = Some(root);
            }
        }
        let mut events = Vec::new();
        begin(&mut node, Goal::Deploy, now, &mut |kind, text| {
            events.push(Event::new(now, "node", name, kind, text))
        });
        self.keep_all(vec![node], volumes, &events)
    }

    pub(super) fn undeploy(&mut self, name: &NodeName, now: Time) -> Result<Done, Refusal> {
        use ProvisionState as P;
        let node = self.free_node(name)?;
        if let Some(spare) = node.replaced_by.as_ref().filter(|_| !node.is_failing()) {
            let text = format!("node {name} is being replaced by node {spare}: wait until that is over");
            return refuse(RefusalKind::Conflict, text);
        }
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
        if node.spec.diskless {
            return self.set_out(name, Goal::Delete, None, now, |_| {});
        }
        let address = self.boot_address(name, deploy::Place::Cleaning)?;
        self.set_out(name, Goal::Delete, Some(Goal::Clean), now, |node| {
            node.addresses.extend([address]);
        })
    }

    pub(super) fn replace(
        &mut self,
        name: &NodeName,
        spare: &NodeName,
        off_by_hand: bool,
        now: Time,
    ) -> Result<Done, Refusal> {
        use ProvisionState as P;
        let conflict = |text: String| refuse(RefusalKind::Conflict, text);
        let (mut node, mut other) = (self.free_node(name)?.clone(), self.node(spare)?.clone());
        if node.replaced_by.as_ref() == Some(spare)
            && node.journey.as_ref().is_some_and(|j| j.off_by_hand == off_by_hand)
        {
            return Ok(Done::Already);
        }
        if let Some(failed) = other.reserved_for.as_ref().filter(|failed| *failed != name) {
            return conflict(format!("node {spare} is to take the place of node {failed}: choose another"));
        }
        let Some(deployment) = node.deployment.clone().filter(|_| node.boots_from_volume()) else {
            return conflict(format!(
                "node {name} does not boot from a volume: what is on its own disks cannot be had without it"
            ));
        };
        if name == spare || other.state != P::Available || other.journey.is_some() {
            return conflict(format!(
                "node {spare} is {}: only a node that is available can take the place of another",
                other.state
            ));
        }
        match node.state {
            P::Active | P::DeployFailed | P::Error if node.journey.is_none() => {}
            P::Deleting if node.replaced_by.is_some() => {}
            state => return conflict(format!("node {name} is {state}: wait until that is over")),
        }
        self.san_network(&deployment.network, &other.spec)?;
        node.replaced_by = Some(spare.clone());
        node.failure = None;
        node.then = None;
        let mut events =
            vec![Event::new(now, "node", name, "replace", format!("to be replaced by node {spare}"))];
        begin(&mut node, Goal::Fence, now, &mut |kind, text| {
            events.push(Event::new(now, "node", name, kind, text));
        });
        if off_by_hand {
            node.journey = node.journey.map(Journey::off_by_hand);
            let text = "the operator answers for its being off";
            events.push(Event::new(now, "node", name, "off-by-hand", text));
        }
        other.reserved_for = Some(name.clone());
        self.keep_all(vec![node, other], Vec::new(), &events)
    }

    /// Writes nodes and volumes down together.
    fn keep_all(
        &mut self,
        nodes: Vec<NodeRecord>,
        volumes: Vec<VolumeRecord>,
        events: &[Event],
    ) -> Result<Done, Refusal> {
        let batch = events.iter().fold(Batch::new(), Batch::event_as);
        let batch = nodes.iter().fold(batch, |batch, node| batch.put_as(node.spec.name.as_str(), node));
        let batch = volumes.iter().fold(batch, |batch, volume| batch.put_as(volume.id.as_str(), volume));
        self.keep(batch)?;
        self.nodes.extend(nodes.into_iter().map(|node| (node.spec.name.clone(), node)));
        self.volumes.extend(volumes.into_iter().map(|volume| (volume.id.clone(), volume)));
        Ok(Done::Changed)
    }
}
