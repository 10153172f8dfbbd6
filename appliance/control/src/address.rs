use boot::{NodeName, Pool};
use rack::{NetworkName, NetworkSpec};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::Control;

/// The half of a network's pool that machines without an entry get: the lower one. Nodes' own addresses
/// are taken from the top, so that the two never meet.
pub(crate) fn strangers(network: &NetworkSpec) -> Option<Pool> {
    let pool = network.pool();
    let (first, last) = (pool.first.to_bits(), pool.last.to_bits());
    let middle = first + (last - first) / 2;
    (middle > first).then(|| Pool { first: pool.first, last: Ipv4Addr::from_bits(middle - 1) })
}

impl<S> Control<S> {
    /// The address that a node has or is to have on a network; none: the pool is full.
    pub(crate) fn address_for(&self, node: &NodeName, name: &NetworkName) -> Option<Ipv4Addr> {
        let network = self.networks.get(name)?;
        let pool = network.pool();
        let (first, last) = (pool.first.to_bits(), pool.last.to_bits());
        let middle = first + (last - first) / 2;
        if let Some(held) = self.nodes.get(node).and_then(|node| node.addresses.get(name))
            && (middle..=last).contains(&held.to_bits())
        {
            return Some(*held);
        }
        let others = self.nodes.iter().filter(|(other, _)| *other != node);
        let taken: BTreeSet<Ipv4Addr> =
            others.filter_map(|(_, other)| other.addresses.get(name)).copied().collect();
        let mut free = (middle..=last).map(Ipv4Addr::from_bits);
        free.find(|address| {
            !taken.contains(address) && *address != network.subnet.address && Some(*address) != network.router
        })
    }
}
