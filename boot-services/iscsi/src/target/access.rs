//! What there is to log in to, and who may.

use crate::chap::Chap;
use scsi::{LogicalUnit, Lun};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A logical unit, what the driver knows its volume by, and nothing of who uses it.
///
/// The same value may stand in several targets; its state, reservations and reset are one.
pub struct Unit<V> {
    logical: Mutex<LogicalUnit>,
    volume: V,
}

impl<V> Unit<V> {
    /// Joins what answers CDBs and what holds the data.
    pub fn new(logical: LogicalUnit, volume: V) -> Arc<Unit<V>> {
        Arc::new(Unit { logical: Mutex::new(logical), volume })
    }

    /// What the driver gave.
    pub fn volume(&self) -> &V {
        &self.volume
    }

    /// The state machine of the unit; held only for as long as one command takes to be decided.
    pub fn logical(&self) -> MutexGuard<'_, LogicalUnit> {
        self.logical.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> fmt::Debug for Unit<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unit").finish_non_exhaustive()
    }
}

/// A target, and who may log in to it, from where, by which proof.
#[derive(Clone, Debug)]
pub struct Access<V> {
    /// Its iSCSI name.
    pub name: String,
    /// Who.
    pub initiators: Who,
    /// From where; empty: from anywhere.
    pub networks: Vec<Network>,
    /// At which of the appliance's addresses; empty: at any. An unspecified address means every one of that port.
    pub portals: Vec<SocketAddr>,
    /// By which proof.
    pub auth: Auth,
    /// What is in it.
    pub luns: Vec<(Lun, Arc<Unit<V>>)>,
}

/// Whose name may be at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Anybody's.
    Anybody,
    /// One of these iSCSI names.
    Named(Vec<String>),
}

/// How the initiator proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Not at all.
    None,
    /// By CHAP, and the target too if that has credentials.
    Chap(Chap),
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Any address in it.
    pub address: IpAddr,
    /// How many leading bits are the network's; more than there are mean all.
    pub prefix: u8,
}

impl Network {
    /// Whether an address is in it. An IPv4 address mapped into IPv6 is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        fn same(one: &[u8], other: &[u8], prefix: u8) -> bool {
            let whole = usize::from(prefix / 8).min(one.len());
            let rest = one.get(whole).zip(other.get(whole)).is_none_or(|(one, other)| {
                let shift = 8 - u32::from(prefix % 8);
                u16::from(one ^ other) >> shift == 0
            });
            one[..whole] == other[..whole] && rest
        }
        match (self.address.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(one), IpAddr::V4(other)) => same(&one.octets(), &other.octets(), self.prefix),
            (IpAddr::V6(one), IpAddr::V6(other)) => same(&one.octets(), &other.octets(), self.prefix),
            _ => false,
        }
    }
}

/// The two ends of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The initiator's.
    pub peer: SocketAddr,
    /// Ours, as the initiator knows it: not the unspecified address.
    pub portal: SocketAddr,
}

impl<V> Access<V> {
    /// Whether this initiator, coming this way, is to know of the target.
    pub fn admits(&self, initiator: &str, link: Link) -> bool {
        let named = match &self.initiators {
            Who::Anybody => true,
            Who::Named(names) => names.iter().any(|name| name.eq_ignore_ascii_case(initiator)),
        };
        let near = |network: &Network| network.contains(link.peer.ip());
        let here = |portal: &SocketAddr| {
            portal.port() == link.portal.port()
                && (portal.ip().is_unspecified()
                    || portal.ip().to_canonical() == link.portal.ip().to_canonical())
        };
        named
            && (self.networks.is_empty() || self.networks.iter().any(near))
            && (self.portals.is_empty() || self.portals.iter().any(here))
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}
