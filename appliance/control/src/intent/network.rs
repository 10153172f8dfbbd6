use super::{Done, Refusal, RefusalKind, not_found, refuse};
use crate::record::{NetworkRecord, SwitchRecord};
use crate::{Control, Event, NodeRecord};
use boot::{NodeName, Prefix};
use rack::{NetworkName, NetworkSpec, Purpose, SwitchName, SwitchSpec};
use sansio::Time;
use store::{Batch, Store};

impl<S: Store> Control<S> {
    pub(super) fn put_network(&mut self, spec: NetworkSpec, now: Time) -> Result<Done, Refusal> {
        let name = spec.name.clone();
        if self.networks.get(&name) == Some(&spec) {
            return Ok(Done::Already);
        }
        let pool = spec.pool();
        if !spec.subnet.contains(pool.first) || !spec.subnet.contains(pool.last) || pool.first > pool.last {
            let text = format!("the pool {} to {} is not within {}", pool.first, pool.last, spec.subnet);
            return refuse(RefusalKind::Invalid, text);
        }
        if let Some(storage) = &spec.storage {
            let there = self.networks.get(storage).is_some_and(|network| network.purpose == Purpose::Storage);
            if spec.purpose != Purpose::Tenant || !there {
                let text = format!(
                    "network {name} is to have its volumes on network {storage}: that is for tenants' networks, and for a network that was made with --purpose storage"
                );
                return refuse(RefusalKind::Invalid, text);
            }
        }
        if !matches!(spec.purpose, Purpose::Tenant | Purpose::Storage)
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
            && (known.vlan != spec.vlan
                || known.purpose != spec.purpose
                || known.subnet != spec.subnet
                || known.storage != spec.storage)
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
            Purpose::Storage => node.deployment.as_ref().is_some_and(|d| {
                self.networks.get(&d.network).is_some_and(|tenant| tenant.storage.as_ref() == Some(network))
            }),
            Purpose::Quarantine => true,
            Purpose::Provisioning | Purpose::Cleaning => node.journey.is_some(),
        };
        self.nodes.values().find(|node| uses(node)).map(|node| &node.spec.name)
    }

    pub(super) fn delete_network(&mut self, name: &NetworkName, now: Time) -> Result<Done, Refusal> {
        if !self.networks.contains_key(name) {
            return not_found("network", name, "kiln network list");
        }
        if let Some(user) = self.user_of(name) {
            let text = format!("node {user} needs network {name}: undeploy or delete the node first");
            return refuse(RefusalKind::Conflict, text);
        }
        if let Some(user) = self.networks.values().find(|other| other.storage.as_ref() == Some(name)) {
            let text = format!("network {} has its volumes on network {name}: change it first", user.name);
            return refuse(RefusalKind::Conflict, text);
        }
        let event = Event::new(now, "network", name, "deleted", "forgotten");
        self.keep(Batch::new().delete_as::<NetworkRecord>(name.as_str()).event_as(&event))?;
        self.networks.remove(name);
        Ok(Done::Changed)
    }

    pub(super) fn put_switch(&mut self, spec: SwitchSpec, now: Time) -> Result<Done, Refusal> {
        let name = spec.name.clone();
        if self.switches.get(&name) == Some(&spec) {
            return Ok(Done::Already);
        }
        let event = Event::new(now, "switch", &name, "created", "described");
        self.keep(Batch::new().put_as(name.as_str(), &SwitchRecord(spec.clone())).event_as(&event))?;
        self.switches.insert(name, spec);
        Ok(Done::Changed)
    }

    pub(super) fn delete_switch(&mut self, name: &SwitchName, now: Time) -> Result<Done, Refusal> {
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
}

fn overlap(a: Prefix, b: Prefix) -> bool {
    a.contains(b.address) || b.contains(a.address)
}
