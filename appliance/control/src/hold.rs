//! Who has which volumes, by what names and secrets, and on which network.

use crate::intent::{Refusal, RefusalKind, refuse};
use crate::record::NodeRecord;
use crate::{Control, Event, Holder, VolumeRecord};
use boot::{Device, Iqn, IscsiChap, NodeName, VolumeId, VolumeState};
use deploy::{Goal, Journey};
use rack::{
    DeployInterface, NetworkDhcp, NetworkName, NetworkSpec, NodeSpec, PortSpec, ProvisionState, Purpose,
};
use sansio::Time;
use store::{Batch, Store, StoreError};

/// By what names and secrets a node reaches its volumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) target: Iqn,
    pub(crate) initiator: Iqn,
    pub(crate) chap: IscsiChap,
}

impl NodeRecord {
    /// Whether its system runs, or is to run, from a volume.
    pub(crate) fn boots_from_volume(&self) -> bool {
        self.deployment.as_ref().is_some_and(|deployment| deployment.interface == DeployInterface::San)
    }

    /// Whether its volumes are open to it: while it is active, and while it is on its way there from one.
    pub(crate) fn reaches_volumes(&self) -> bool {
        match &self.journey {
            Some(journey) => journey.exports(),
            None => self.state == ProvisionState::Active,
        }
    }
}

impl<S> Control<S> {
    /// The volumes of a node.
    pub(crate) fn held_by<'a>(
        &'a self,
        node: &'a NodeName,
    ) -> impl Iterator<Item = (&'a VolumeRecord, &'a Holder)> + 'a {
        let held = self.volumes.values().filter_map(|volume| Some((volume, volume.holder.as_ref()?)));
        held.filter(move |(_, holder)| holder.node == *node)
    }

    /// The names and secrets of a node's present deployment.
    pub(crate) fn access(&self, node: &NodeRecord) -> Access {
        let (name, number) = (node.spec.name.as_str().to_ascii_lowercase(), node.access);
        Access {
            target: self.site.iqn.name(&format!("{name}.{number}")),
            initiator: self.site.iqn.name(&format!("initiator.{name}.{number}")),
            chap: IscsiChap {
                user: format!("{name}.{number}"),
                secret: self.master.chap(&format!("initiator {} {number}", node.spec.name)),
                target_user: format!("kiln.{name}.{number}"),
                target_secret: Some(self.master.chap(&format!("target {} {number}", node.spec.name))),
            },
        }
    }

    /// The names and secrets by which the appliance logs in to the disk of one attempt's agent.
    pub(crate) fn push_access(&self, journey: &Journey) -> Access {
        let (attempt, node) = (journey.attempt(), journey.node.as_str().to_ascii_lowercase());
        Access {
            target: self.site.iqn.name(&format!("disk.{node}.{}.{}", journey.number, journey.attempt)),
            initiator: self.site.iqn.name("appliance"),
            chap: IscsiChap {
                user: "kiln".to_owned(),
                secret: self.master.chap(&format!("push {attempt}")),
                target_user: node,
                target_secret: Some(self.master.chap(&format!("pushed {attempt}"))),
            },
        }
    }

    /// The appliance's interface on a network.
    pub(crate) fn device<'a>(&'a self, network: &'a NetworkSpec) -> Option<&'a Device> {
        network.device.as_ref().or_else(|| self.site.interfaces.get(&network.name))
    }

    /// The network by which a node on a tenant's network reaches its volumes, and the port it does so by.
    pub(crate) fn storage_of<'n>(
        &self,
        tenant: &NetworkName,
        node: &'n NodeSpec,
    ) -> Option<(&NetworkSpec, &'n PortSpec)> {
        let tenant = self.networks.get(tenant)?;
        match &tenant.storage {
            Some(storage) => Some((self.networks.get(storage)?, node.storage_port()?)),
            None => Some((tenant, node.pxe_port()?)),
        }
    }

    /// The same, with what to do where it cannot be.
    pub(crate) fn storage_network(
        &self,
        tenant: &NetworkName,
        node: &NodeSpec,
    ) -> Result<&NetworkSpec, Refusal> {
        let name = &node.name;
        let Some((network, _)) = self.storage_of(tenant, node) else {
            let storage = self.networks.get(tenant).and_then(|network| network.storage.as_ref());
            let storage = storage.map(ToString::to_string).unwrap_or_default();
            let text = format!(
                "network {tenant} has its volumes on network {storage}, for which node {name} needs a second port that it may boot by"
            );
            return refuse(RefusalKind::Conflict, text);
        };
        if self.device(network).is_none() {
            let text = format!(
                "the appliance has no interface on network {}, so nobody reaches volumes there: name one with kiln network create --device",
                network.name
            );
            return refuse(RefusalKind::Conflict, text);
        }
        Ok(network)
    }

    /// The same for a node that boots by it.
    pub(crate) fn san_network(&self, tenant: &NetworkName, node: &NodeSpec) -> Result<NetworkName, Refusal> {
        let network = self.storage_network(tenant, node)?;
        if network.dhcp != NetworkDhcp::Kiln {
            let text = format!(
                "network {} has somebody else's DHCP, and a node boots from its volume by what Kiln's says: give {tenant} a storage network",
                network.name
            );
            return refuse(RefusalKind::Conflict, text);
        }
        Ok(network.name.clone())
    }

    /// The network and port by which a node boots from its volume, while it is offered to it.
    pub(crate) fn san_offer<'a>(&'a self, node: &'a NodeRecord) -> Option<(&'a NetworkSpec, &'a PortSpec)> {
        let deployment = node.deployment.as_ref().filter(|_| node.boots_from_volume())?;
        let offered = match &node.journey {
            Some(journey) => journey.exports() && deploy::leg(journey).wish.offer == deploy::Offer::San,
            None => node.state == ProvisionState::Active,
        };
        offered.then(|| self.storage_of(&deployment.network, &node.spec)).flatten()
    }

    /// What is still open to a node of the volumes it has, or cannot be known not to be.
    pub(crate) fn open_to(&self, node: &NodeName) -> Vec<String> {
        let mut open = Vec::new();
        let mut has = false;
        for (volume, _) in self.held_by(node).filter(|(volume, _)| volume.made) {
            has = true;
            match self.facts.volume(&volume.id) {
                Some((_, None)) => {}
                Some((_, Some((target, lun)))) => {
                    open.push(format!(
                        "volume {} is still exported as logical unit {lun} of {target}",
                        volume.id
                    ));
                }
                None => open.push(format!("the iscsi service has said nothing of volume {} yet", volume.id)),
            }
        }
        let line = self.facts.hand(crate::Hand::Iscsi);
        if has && (!line.connected || line.holds != Some(self.generations.of(crate::Hand::Iscsi))) {
            open.push("the iscsi service has not taken up the newest plan yet".to_owned());
        }
        open
    }
}

impl<S: Store> Control<S> {
    /// Writes down which volumes were made, and forgets those that are no more.
    pub(crate) fn settle(&mut self, now: Time) -> Result<(), StoreError> {
        let changed: Vec<VolumeRecord> = self
            .volumes
            .values()
            .filter(|volume| match self.facts.volume(&volume.id) {
                Some((VolumeState::Gone, _)) => volume.gone,
                Some((VolumeState::Ready { .. }, _)) => !volume.made && !volume.gone,
                _ => false,
            })
            .cloned()
            .collect();
        for mut volume in changed {
            let id = volume.id.clone();
            if volume.gone {
                let event = Event::new(now, "volume", &id, "removed", "no more");
                self.commit(Batch::new().delete_as::<VolumeRecord>(id.as_str()).event_as(&event))?;
                self.volumes.remove(&id);
                self.facts.forget_volume(&id);
            } else {
                volume.made = true;
                let event = Event::new(now, "volume", &id, "made", "there, to be used");
                self.commit(Batch::new().put_as(id.as_str(), &volume).event_as(&event))?;
                self.volumes.insert(id, volume);
            }
        }
        Ok(())
    }

    /// What becomes of a node's volumes, and of the node that is to take its place, when its journey is at an
    /// end: to be committed with it.
    pub(crate) fn passed_on(
        &self,
        before: &NodeRecord,
        after: &mut NodeRecord,
        now: Time,
    ) -> (Vec<VolumeRecord>, Option<NodeRecord>, Vec<Event>) {
        let name = &before.spec.name;
        let mut events = Vec::new();
        let ended = |goal| {
            let was = before.journey.as_ref().is_some_and(|j| j.goal == goal && j.failure.is_none());
            let is = after.journey.as_ref().is_some_and(|j| j.goal == goal);
            was && !is
        };
        let failed = before.replaced_by.is_some()
            && after.journey.as_ref().is_none_or(|journey| journey.failure.is_some());
        if ended(Goal::Fence) {
            let Some(spare) = before.replaced_by.as_ref().and_then(|spare| self.nodes.get(spare)) else {
                return (Vec::new(), None, events);
            };
            let mut spare = spare.clone();
            let to = spare.spec.name.clone();
            let volumes = self.held_by(name).map(|(volume, holder)| {
                let holder = Holder { node: to.clone(), ..holder.clone() };
                VolumeRecord { holder: Some(holder), ..volume.clone() }
            });
            let volumes: Vec<VolumeRecord> = volumes.collect();
            spare.reserved_for = None;
            spare.deployment = after.deployment.take();
            spare.access = self.newest_event().0 + 1;
            spare.tenant_address = None;
            spare.written = None;
            spare.failure = None;
            let purposes = [Purpose::Tenant, Purpose::Storage];
            let theirs = |network: &NetworkName| {
                self.networks.get(network).is_some_and(|network| purposes.contains(&network.purpose))
            };
            let moved: Vec<_> = after.addresses.keys().filter(|n| theirs(n)).cloned().collect();
            for network in moved {
                spare.addresses.extend(after.addresses.remove_entry(&network));
            }
            (after.replaced_by, after.access, after.tenant_address) = (None, 0, None);
            events.push(Event::new(now, "node", name, "replaced", format!("node {to} takes its place")));
            let text = format!("takes the place of node {name}, with its volumes and addresses");
            events.push(Event::new(now, "node", &to, "replaces", text));
            crate::walk::begin(&mut spare, Goal::Deploy, now, &mut |kind, text| {
                events.push(Event::new(now, "node", &to, kind, text));
            });
            return (volumes, Some(spare), events);
        }
        if failed && before.journey.as_ref().is_some_and(|j| j.goal == Goal::Fence) {
            let spare = after.replaced_by.take().and_then(|spare| self.nodes.get(&spare).cloned());
            let spare = spare.map(|spare| NodeRecord { reserved_for: None, ..spare });
            return (Vec::new(), spare, events);
        }
        let mut volumes = Vec::new();
        if ended(Goal::Delete) {
            for (volume, holder) in self.held_by(name) {
                let text =
                    if holder.root { "ends with the deployment" } else { "detached with the deployment" };
                events.push(Event::new(now, "volume", &volume.id, "detached", text));
                volumes.push(VolumeRecord {
                    holder: None,
                    gone: volume.gone || holder.root,
                    ..volume.clone()
                });
            }
            after.access = 0;
        }
        if ended(Goal::Deploy) && after.state == ProvisionState::Active {
            for (volume, holder) in self.held_by(name).filter(|(_, holder)| holder.root && !holder.lived) {
                let holder = Holder { lived: true, ..holder.clone() };
                volumes.push(VolumeRecord { holder: Some(holder), ..volume.clone() });
            }
        }
        (volumes, None, events)
    }

    /// The volume that a node is to boot from: the one it has, if a system ran from it, else a new clone.
    pub(crate) fn root_volume(&self, node: &NodeRecord, size: u64) -> Option<(VolumeId, Vec<VolumeRecord>)> {
        let deployment = node.deployment.as_ref()?;
        let name = &node.spec.name;
        let mut changed = Vec::new();
        for (volume, holder) in self.held_by(name).filter(|(_, holder)| holder.root) {
            if holder.lived {
                return Some((volume.id.clone(), changed));
            }
            changed.push(VolumeRecord { holder: None, gone: true, ..volume.clone() });
        }
        // Somebody may have called a volume of his own so.
        let named = (node.access..).map(|number| format!("{name}-{number}").parse::<VolumeId>());
        let id = named.flatten().find(|id| !self.volumes.contains_key(id))?;
        changed.push(VolumeRecord {
            id: id.clone(),
            size,
            source: boot::VolumeSource::Image(deployment.digest),
            from: Some(format!("image {}", deployment.image)),
            created: Time::ZERO,
            made: false,
            flat: false,
            gone: false,
            holder: Some(Holder { node: name.clone(), lun: 0, read_only: false, root: true, lived: false }),
        });
        Some((id, changed))
    }
}
