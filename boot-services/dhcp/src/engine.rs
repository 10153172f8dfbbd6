//! The server as a value.

use crate::{
    codec,
    exchange::Exchange,
    frame::{self, Heard},
    lease::{Binding, Hold, Lease, Table},
    network::Network,
};
use boot::{DhcpFact, DhcpPlan, Mac};
use sansio::Time;
use std::{
    collections::{BTreeMap, VecDeque},
    net::{Ipv6Addr, SocketAddrV4},
    time::Duration,
};

/// The most ACKs that wait for their lease to be on disk.
const PENDING: usize = 1024;
/// The most packets and events that wait to be fetched.
const QUEUE: usize = 4096;
/// The most machines without an entry that control is told of at a time. Who invents addresses must not drive
/// what is told of the known ones out of control's sight.
const STRANGERS: usize = 1024;
/// RFC 4861, 6.2.1: MaxRtrAdvInterval is "no less than 4 seconds and no greater than 1800 seconds".
const ADVERTISE: Duration = Duration::from_secs(200);
/// RFC 4861, 10: MIN_DELAY_BETWEEN_RAS.
const ADVERTISE_AGAIN: Duration = Duration::from_secs(3);

/// What goes out on a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// A datagram from the server's port, through the system's own IP.
    Datagram {
        /// The network.
        network: String,
        /// Where to.
        to: SocketAddrV4,
        /// The payload.
        payload: Vec<u8>,
    },
    /// An Ethernet frame, header and all.
    Frame {
        /// The network.
        network: String,
        /// The frame.
        frame: Vec<u8>,
    },
}

/// What the driver is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// To be told to control.
    Fact(DhcpFact),
    /// To be written to disk, and then reported by [`Server::handle_stored`]: the client waits for it.
    Store(Ticket, Lease),
    /// Nothing is to be told any more of a machine that the plan does not know: there were too many since.
    Forget {
        /// The network.
        network: String,
        /// The machine.
        mac: Mac,
    },
    /// The lease of a client is over before its time.
    Gone {
        /// The network.
        network: String,
        /// The client.
        mac: Mac,
    },
}

/// Names a lease that is on its way to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// The server. Networks are those of the plan; what is not in the plan is not answered.
#[derive(Debug, Default)]
pub struct Server {
    networks: BTreeMap<String, Network>,
    tables: BTreeMap<String, Table>,
    pending: BTreeMap<Ticket, (Option<Transmit>, Lease)>,
    tickets: u64,
    out: VecDeque<Transmit>,
    events: VecDeque<Event>,
    strangers: VecDeque<(String, Mac)>,
}

impl Server {
    /// A server without a plan.
    pub fn new() -> Server {
        Server::default()
    }

    /// The whole of what to do from now on.
    pub fn handle_plan(&mut self, plan: &DhcpPlan, now: Time) {
        let mut before = core::mem::take(&mut self.networks);
        for network in &plan.networks {
            let network = Network::new(network.clone(), before.remove(&network.name));
            self.tables.entry(network.plan.name.clone()).or_default();
            self.networks.insert(network.plan.name.clone(), network);
        }
        self.schedule(now);
    }

    /// The interface of a network is there, with this MAC; or it is not, and nothing goes out.
    pub fn handle_link(&mut self, network: &str, mac: Option<Mac>, now: Time) {
        if let Some(network) = self.networks.get_mut(network) {
            network.link = mac;
            network.advertise = None;
        }
        self.schedule(now);
    }

    fn schedule(&mut self, now: Time) {
        for network in self.networks.values_mut() {
            let wanted = network.plan.router_advertisements && network.link.is_some();
            network.advertise = wanted.then(|| network.advertise.unwrap_or(now));
        }
    }

    /// The leases that an earlier run wrote, each told to control again while it lasts.
    pub fn handle_restored(&mut self, leases: impl IntoIterator<Item = Lease>, now: Time) {
        for lease in leases {
            if lease.until <= now {
                continue;
            }
            let table = self.tables.entry(lease.network).or_default();
            self.events.push_back(Event::Fact(lease.fact.clone()));
            let Lease { mac, address, until, fact, .. } = lease;
            table.insert(mac, Binding { address, hold: Hold::Leased, until, fact }, now);
        }
    }

    /// All leases that last: what the driver keeps when it writes its file afresh.
    pub fn leases(&self, now: Time) -> Vec<Lease> {
        self.tables.iter().flat_map(|(network, table)| table.leases(network, now)).collect()
    }

    /// The lease is on disk: its client is told.
    pub fn handle_stored(&mut self, ticket: Ticket) {
        if let Some((reply, lease)) = self.pending.remove(&ticket) {
            self.out.extend(reply);
            self.events.push_back(Event::Fact(lease.fact));
        }
    }

    /// The lease could not be written: its client is not told, and will ask again.
    pub fn handle_not_stored(&mut self, ticket: Ticket) {
        self.pending.remove(&ticket);
    }

    /// A datagram to the server's port, that came in by a network's interface.
    pub fn handle_datagram(&mut self, network: &str, bytes: &[u8], now: Time) {
        let Some(request) = codec::parse(bytes) else { return };
        let name = if request.giaddr.is_unspecified() {
            network
        } else {
            // RFC 3527, 3: the link selection, and else 'giaddr', says where the client is.
            let link = request.link_selection.unwrap_or(request.giaddr);
            let there = self.networks.values().find(|network| network.plan.address.contains(link));
            let Some(there) = there else { return };
            &there.plan.name.clone()
        };
        if self.out.len() >= QUEUE || self.events.len() >= QUEUE {
            return;
        }
        let (Some(network), Some(table)) = (self.networks.get(name), self.tables.get_mut(name)) else {
            return;
        };
        let answer = Exchange { network, table, request: &request, now }.answer();
        self.events.extend(answer.events);
        let forgotten =
            (!network.knows(request.mac)).then(|| note(&mut self.strangers, name, request.mac)).flatten();
        if let Some((network, mac)) = forgotten
            && !self.networks.get(&network).is_some_and(|network| network.knows(mac))
        {
            self.events.push_back(Event::Forget { network, mac });
        }
        let reply = answer.reply.and_then(|reply| network.address(&reply, &request));
        let Some(lease) = answer.lease else {
            self.out.extend(reply);
            return;
        };
        if self.pending.len() >= PENDING {
            return;
        }
        self.tickets += 1;
        self.pending.insert(Ticket(self.tickets), (reply, lease.clone()));
        self.events.push_back(Event::Store(Ticket(self.tickets), lease));
    }

    /// A frame that came in by a network's interface: ARP and router solicitations matter.
    pub fn handle_frame(&mut self, network: &str, frame: &[u8], now: Time) {
        let Some(heard) = frame::parse(frame) else { return };
        if self.out.len() >= QUEUE || self.events.len() >= QUEUE {
            return;
        }
        let (Some(there), Some(table)) = (self.networks.get_mut(network), self.tables.get_mut(network))
        else {
            return;
        };
        match heard {
            Heard::Arp { mac, .. } if there.link == Some(mac) => {}
            Heard::Arp { mac, address } => {
                if table.get(mac).is_none_or(|binding| binding.address != address)
                    && there.plan.pool.is_some_and(|pool| (pool.first..=pool.last).contains(&address))
                {
                    table.shun(address, Some(mac), now);
                }
                self.events.extend(there.sighted(table, mac, address, now).map(Event::Fact));
            }
            Heard::RouterSolicitation { mac, source } => {
                let Some(link) = there.link.filter(|link| there.plan.router_advertisements && *link != mac)
                else {
                    return;
                };
                let recent = there.advertised.is_some_and(|last| now.since(last) < ADVERTISE_AGAIN);
                let to = if source.is_unspecified() {
                    if recent {
                        return;
                    }
                    there.advertised = Some(now);
                    frame::ALL_NODES
                } else {
                    (mac, source)
                };
                self.out.push_back(advertisement(network, link, to));
            }
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time) {
        for (name, network) in &mut self.networks {
            let (Some(at), Some(link)) = (network.advertise, network.link) else { continue };
            if at <= now && self.out.len() < QUEUE {
                network.advertise = Some(now + ADVERTISE);
                network.advertised = Some(now);
                self.out.push_back(advertisement(name, link, frame::ALL_NODES));
            }
        }
    }

    /// The next packet to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.out.pop_front()
    }

    /// The next thing to tell or to write.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Server::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Time> {
        self.networks.values().filter_map(|network| network.advertise).min()
    }
}

fn advertisement(network: &str, link: Mac, to: (Mac, Ipv6Addr)) -> Transmit {
    let frame = frame::router_advertisement((link, frame::link_local(link)), to);
    Transmit::Frame { network: network.to_owned(), frame }
}

/// Makes a stranger the newest of them; returns one that is too many.
fn note(strangers: &mut VecDeque<(String, Mac)>, network: &str, mac: Mac) -> Option<(String, Mac)> {
    if strangers.back().is_some_and(|(n, m)| n == network && *m == mac) {
        return None;
    }
    strangers.retain(|(n, m)| n != network || *m != mac);
    strangers.push_back((network.to_owned(), mac));
    if strangers.len() > STRANGERS { strangers.pop_front() } else { None }
}

/// The key of a fact in the hand's table.
pub fn key(fact: &DhcpFact) -> String {
    match fact {
        DhcpFact::Client { network, mac, .. } => format!("{network}/{mac}"),
        DhcpFact::Network { network, .. } => format!("network/{network}"),
    }
}

#[cfg(test)]
mod tests;
