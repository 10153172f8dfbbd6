use crate::{Control, Discovered, Event};
use boot::Mac;
use rack::Purpose;
use sansio::Time;
use store::{Batch, Store, StoreError};

/// Most machines that nobody enrolled that are remembered.
const MOST: usize = 1024;

impl<S: Store> Control<S> {
    /// Takes up a machine that asked for an address, if it is a boot network's and nobody's.
    pub(crate) fn meet(&mut self, found: Discovered) {
        let boots = self.networks.values().any(|network| {
            network.name.as_str() == found.network
                && matches!(network.purpose, Purpose::Provisioning | Purpose::Cleaning)
        });
        let has_room = self.discovered.len() + self.facts.strangers.len() < MOST;
        if boots && has_room && self.is_stranger(found.mac) {
            self.facts.strangers.entry(found.mac).or_insert(found);
        }
    }

    fn is_stranger(&self, mac: Mac) -> bool {
        let mut ports = self.nodes.values().flat_map(|node| &node.spec.ports);
        !self.discovered.contains_key(&mac) && ports.all(|port| port.mac != mac)
    }

    /// Writes down the machines that were met. They wait while that cannot be done.
    pub(crate) fn discover(&mut self, now: Time) -> Result<(), StoreError> {
        while let Some((mac, found)) = self.facts.strangers.pop_first() {
            if !self.is_stranger(mac) {
                continue;
            }
            let text = format!("a machine that nobody enrolled asked for an address on {}", found.network);
            let event = Event::new(now, "discovered", mac, "discovered", text);
            let batch = Batch::new().put_as(mac.to_string(), &found).event_as(&event);
            if let Err(e) = self.commit(batch) {
                self.facts.strangers.insert(mac, found);
                return Err(e);
            }
            self.discovered.insert(mac, found);
        }
        Ok(())
    }
}
