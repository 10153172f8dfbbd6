//! Who has which address on one network.

use boot::{DhcpFact, Mac, Pool};
use sansio::Time;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

/// An address that a client has until a moment: what must be on disk before the client is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    /// The network.
    pub network: String,
    /// The client.
    pub mac: Mac,
    /// Its address.
    pub address: Ipv4Addr,
    /// When it ends, in microseconds since 1970.
    pub until: Time,
    /// What control was told of it, or is to be told: with the attempt it happened in.
    pub fact: DhcpFact,
}

/// How firmly an address is a client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// It was offered.
    Offered,
    /// It was given.
    Leased,
}

#[derive(Clone, Debug)]
pub(crate) struct Binding {
    pub(crate) address: Ipv4Addr,
    pub(crate) hold: Hold,
    pub(crate) until: Time,
    pub(crate) fact: DhcpFact,
}

impl Binding {
    /// Whether the client has the address now.
    pub(crate) fn leased(&self, now: Time) -> bool {
        self.hold == Hold::Leased && self.until > now
    }
}

/// The most clients that a network remembers.
const MOST: usize = 65_536;
/// The most addresses looked at to find a free one.
const LOOKS: u32 = 65_536;
/// The most addresses remembered as used by strangers.
const STRANGERS: usize = 4096;
/// How long an address that a stranger uses is not offered.
const SHUNNED: Duration = Duration::from_secs(600);

#[derive(Debug, Default)]
pub(crate) struct Table {
    bindings: BTreeMap<Mac, Binding>,
    addresses: BTreeMap<Ipv4Addr, Mac>,
    strangers: BTreeMap<Ipv4Addr, (Option<Mac>, Time)>,
}

impl Table {
    pub(crate) fn get(&self, mac: Mac) -> Option<&Binding> {
        self.bindings.get(&mac)
    }

    pub(crate) fn insert(&mut self, mac: Mac, binding: Binding, now: Time) {
        self.remove(mac);
        if self.bindings.len() >= MOST {
            self.prune(now);
        }
        if let Some(other) = self.addresses.insert(binding.address, mac)
            && other != mac
        {
            self.bindings.remove(&other);
        }
        self.bindings.insert(mac, binding);
    }

    pub(crate) fn remove(&mut self, mac: Mac) -> Option<Binding> {
        let binding = self.bindings.remove(&mac)?;
        self.addresses.remove(&binding.address);
        Some(binding)
    }

    pub(crate) fn leases(&self, network: &str, now: Time) -> impl Iterator<Item = Lease> {
        let live = self.bindings.iter().filter(move |(_, binding)| binding.leased(now));
        live.map(move |(mac, binding)| Lease {
            network: network.to_owned(),
            mac: *mac,
            address: binding.address,
            until: binding.until,
            fact: binding.fact.clone(),
        })
    }

    /// An address that is used by somebody whom we did not give it to: `mac` as ARP shows it, or a client's
    /// word (DHCPDECLINE) without one.
    pub(crate) fn shun(&mut self, address: Ipv4Addr, mac: Option<Mac>, now: Time) {
        if self.strangers.len() >= STRANGERS && !self.strangers.contains_key(&address) {
            self.strangers.retain(|_, (_, until)| *until > now);
            if self.strangers.len() >= STRANGERS {
                return;
            }
        }
        self.strangers.insert(address, (mac, now + SHUNNED));
    }

    /// Whether `mac` may have the address.
    pub(crate) fn free(&self, address: Ipv4Addr, mac: Mac, now: Time) -> bool {
        let holder = self.addresses.get(&address).filter(|holder| **holder != mac);
        let held =
            holder.and_then(|holder| self.bindings.get(holder)).is_some_and(|binding| binding.until > now);
        let strange = self.strangers.get(&address);
        !held && !strange.is_some_and(|(user, until)| *user != Some(mac) && *until > now)
    }

    /// A free address of a pool: the one that the client had, or wishes, or the first from a place that
    /// follows from its MAC; in need, one that was offered to somebody who did not take it.
    pub(crate) fn choose(
        &self,
        mac: Mac,
        wish: Option<Ipv4Addr>,
        pool: Pool,
        reserved: &BTreeSet<Ipv4Addr>,
        now: Time,
    ) -> Option<Ipv4Addr> {
        let (first, last) = (pool.first.to_bits(), pool.last.to_bits());
        let size = last.checked_sub(first)?.saturating_add(1);
        let possible = |address: &Ipv4Addr| {
            (first..=last).contains(&address.to_bits())
                && !reserved.contains(address)
                && self.free(*address, mac, now)
        };
        let had = self.get(mac).map(|binding| binding.address);
        if let Some(address) = [had, wish].into_iter().flatten().find(possible) {
            return Some(address);
        }
        // FNV-1a: the same client begins at the same place after our state is lost.
        let hash = mac
            .0
            .iter()
            .fold(0x811c_9dc5_u32, |hash, octet| (hash ^ u32::from(*octet)).wrapping_mul(0x0100_0193));
        let start = hash % size;
        let mut walk = (0..size.min(LOOKS)).map(|step| {
            let place = (u64::from(start) + u64::from(step)) % u64::from(size);
            Ipv4Addr::from_bits(first + u32::try_from(place).unwrap_or(0))
        });
        walk.find(possible).or_else(|| self.oldest_offer(pool, reserved))
    }

    fn oldest_offer(&self, pool: Pool, reserved: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        let inside = |a: &Ipv4Addr| (pool.first..=pool.last).contains(a) && !reserved.contains(a);
        let offers = self.bindings.values().filter(|b| b.hold == Hold::Offered && inside(&b.address));
        offers.min_by_key(|binding| binding.until).map(|binding| binding.address)
    }

    /// Makes room: what is over, or else the offer or lease that ends first.
    fn prune(&mut self, now: Time) {
        let over: Vec<Mac> =
            self.bindings.iter().filter(|(_, b)| b.until <= now).map(|(mac, _)| *mac).collect();
        over.iter().for_each(|mac| drop(self.remove(*mac)));
        if self.bindings.len() >= MOST
            && let Some(mac) =
                self.bindings.iter().min_by_key(|(_, b)| (b.hold == Hold::Leased, b.until)).map(|(m, _)| *m)
        {
            self.remove(mac);
        }
    }
}
