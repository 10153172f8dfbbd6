//! The server as a value.

use crate::{
    choice,
    codec::{self, MessageType, Reply, Request},
    frame::{self, Heard},
    lease::{Binding, Hold, Lease, Table},
};
use boot::{Attempt, Boot, DhcpFact, DhcpHost, DhcpMoment, DhcpNetwork, DhcpPlan, DhcpService, Mac};
use dhcproto::v4::DhcpOption;
use sansio::Time;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    net::{Ipv4Addr, Ipv6Addr, SocketAddrV4},
    time::Duration,
};

/// How long an offered address waits for its client.
const OFFER: Duration = Duration::from_secs(60);
/// The most ACKs that wait for their lease to be on disk.
const PENDING: usize = 1024;
/// The most packets and events that wait to be fetched.
const QUEUE: usize = 4096;
/// RFC 4861, 6.2.1: MaxRtrAdvInterval is "no less than 4 seconds and no greater than 1800 seconds".
const ADVERTISE: Duration = Duration::from_secs(200);
/// RFC 4861, 10: MIN_DELAY_BETWEEN_RAS.
const ADVERTISE_AGAIN: Duration = Duration::from_secs(3);
/// An address seen by ARP is told again at most this often when it changes.
const SEEN_AGAIN: Duration = Duration::from_secs(5);

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
}

#[derive(Debug)]
struct Network {
    plan: DhcpNetwork,
    hosts: HashMap<Mac, usize>,
    reserved: BTreeSet<Ipv4Addr>,
    link: Option<Mac>,
    advertise: Option<Time>,
    advertised: Option<Time>,
    seen: BTreeMap<Mac, (Ipv4Addr, Option<Attempt>, Time)>,
}

impl Network {
    fn new(plan: DhcpNetwork, before: Option<Network>) -> Network {
        let hosts = plan.hosts.iter().enumerate().map(|(place, host)| (host.mac, place)).collect();
        let prefix = plan.address;
        let network = Ipv4Addr::from_bits(prefix.address.to_bits() & prefix.netmask().to_bits());
        let own = [prefix.address, network, prefix.broadcast()].into_iter().chain(plan.router);
        let reserved = own.chain(plan.hosts.iter().map(|host| host.address)).collect();
        let (link, advertise, advertised, seen) = match before {
            Some(before) => (before.link, before.advertise, before.advertised, before.seen),
            None => (None, None, None, BTreeMap::new()),
        };
        Network { plan, hosts, reserved, link, advertise, advertised, seen }
    }

    fn host(&self, mac: Mac) -> Option<&DhcpHost> {
        self.hosts.get(&mac).and_then(|place| self.plan.hosts.get(*place))
    }

    fn boot(&self, mac: Mac) -> Option<&Boot> {
        self.host(mac).map_or(self.plan.boot.as_ref(), |host| host.boot.as_ref())
    }

    fn lease_time(&self) -> Duration {
        Duration::from_secs(u64::from(self.plan.lease_seconds.max(10)))
    }

    fn fact(&self, request: &Request, moment: DhcpMoment, address: Option<Ipv4Addr>) -> DhcpFact {
        DhcpFact::Client {
            network: self.plan.name.clone(),
            mac: request.mac,
            attempt: self.host(request.mac).and_then(|host| host.attempt.clone()),
            moment,
            address,
            architecture: choice::architecture(request),
            vendor_class: request.vendor_class_text(),
            ipxe: request.ipxe,
            uuid: request.uuid.clone(),
        }
    }

    fn reply(&self, kind: MessageType, request: &Request, address: Ipv4Addr) -> Reply {
        let plan = &self.plan;
        let server = plan.address.address;
        let mut reply = Reply::new(kind, server);
        reply.yiaddr = address;
        reply.options.push(DhcpOption::SubnetMask(plan.address.netmask()));
        if !address.is_unspecified() {
            let seconds = u32::try_from(self.lease_time().as_secs()).unwrap_or(u32::MAX);
            reply.options.push(DhcpOption::AddressLeaseTime(seconds));
            reply.options.push(DhcpOption::Renewal(seconds / 2));
            reply.options.push(DhcpOption::Rebinding(seconds - seconds / 8));
        }
        if let Some(router) = plan.router {
            reply.options.push(DhcpOption::Router(vec![router]));
        }
        choice::apply(&mut reply, request, self.boot(request.mac), server);
        if !plan.dns.is_empty() {
            reply.options.push(DhcpOption::DomainNameServer(plan.dns.clone()));
        }
        if let Some(host) = self.host(request.mac) {
            reply.options.push(DhcpOption::Hostname(host.hostname.clone()));
        }
        reply.options.push(DhcpOption::BroadcastAddr(plan.address.broadcast()));
        reply
    }

    /// RFC 2131, 4.1, paragraph "If the 'giaddr' field in a DHCP message from a client is non-zero …".
    fn address(&self, reply: &Reply, request: &Request) -> Option<Transmit> {
        let network = self.plan.name.clone();
        let mut payload = codec::emit(reply, request);
        let everybody = Ipv4Addr::BROADCAST;
        if !request.giaddr.is_unspecified() {
            if reply.kind == MessageType::Nak {
                // RFC 2131, 4.3.2: "the server MUST set the broadcast bit in the DHCPNAK, so that the relay
                // agent will broadcast the DHCPNAK to the client".
                if let Some(flags) = payload.get_mut(10) {
                    *flags |= 0x80;
                }
            }
            return Some(Transmit::Datagram { network, to: SocketAddrV4::new(request.giaddr, 67), payload });
        }
        let (mac, to) = match reply.kind {
            MessageType::Nak => (frame::EVERYBODY, everybody),
            _ if !request.ciaddr.is_unspecified() => {
                if !self.plan.address.contains(request.ciaddr) {
                    return Some(Transmit::Datagram {
                        network,
                        to: SocketAddrV4::new(request.ciaddr, 68),
                        payload,
                    });
                }
                (request.mac, request.ciaddr)
            }
            _ if request.broadcast() => (frame::EVERYBODY, everybody),
            _ => (request.mac, reply.yiaddr),
        };
        let from = (self.link?, self.plan.address.address);
        Some(Transmit::Frame { network, frame: frame::udp4(from, (mac, to), &payload) })
    }
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
        for event in answer.events {
            self.events.push_back(event);
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
                if !table.get(mac).is_some_and(|binding| binding.address == address)
                    && there.plan.pool.is_some_and(|pool| (pool.first..=pool.last).contains(&address))
                {
                    table.shun(address, Some(mac), now);
                }
                self.events.extend(sighted(there, table, mac, address, now).map(Event::Fact));
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

/// What an ARP packet of a known machine says that is not known already.
fn sighted(network: &mut Network, table: &Table, mac: Mac, address: Ipv4Addr, now: Time) -> Option<DhcpFact> {
    let attempt = network.host(mac)?.attempt.clone();
    let bound = table.get(mac).filter(|binding| binding.leased(now) && binding.address == address);
    if let Some(binding) = bound
        && let DhcpFact::Client { attempt: then, .. } = &binding.fact
        && (attempt.is_none() || *then == attempt)
    {
        return None;
    }
    if let Some((last, then, when)) = network.seen.get(&mac)
        && *then == attempt
        && (*last == address || now.since(*when) < SEEN_AGAIN)
    {
        return None;
    }
    network.seen.retain(|mac, _| network.hosts.contains_key(mac));
    network.seen.insert(mac, (address, attempt.clone(), now));
    Some(DhcpFact::Client {
        network: network.plan.name.clone(),
        mac,
        attempt,
        moment: DhcpMoment::Seen,
        address: Some(address),
        architecture: None,
        vendor_class: None,
        ipxe: false,
        uuid: None,
    })
}

/// One request on one network.
struct Exchange<'a> {
    network: &'a Network,
    table: &'a mut Table,
    request: &'a Request,
    now: Time,
}

#[derive(Default)]
struct Answer {
    reply: Option<Reply>,
    lease: Option<Lease>,
    events: Vec<Event>,
}

impl Exchange<'_> {
    fn answer(self) -> Answer {
        if self.network.plan.service == DhcpService::Watch {
            // On somebody else's network every virtual machine asks; only ours are worth telling.
            return match self.request.kind {
                MessageType::Discover | MessageType::Request if self.known() => {
                    self.told(DhcpMoment::Ignored, None)
                }
                _ => Answer::default(),
            };
        }
        match self.request.kind {
            MessageType::Discover => self.discover(),
            MessageType::Request => self.ask(),
            MessageType::Decline => self.decline(),
            MessageType::Release => self.release(),
            MessageType::Inform => self.inform(),
            _ => Answer::default(),
        }
    }

    fn known(&self) -> bool {
        self.network.host(self.request.mac).is_some()
    }

    fn told(&self, moment: DhcpMoment, address: Option<Ipv4Addr>) -> Answer {
        let fact = self.network.fact(self.request, moment, address);
        Answer { events: vec![Event::Fact(fact)], ..Answer::default() }
    }

    /// The address that the client may have, whatever it asks for.
    fn entitled(&self) -> Option<Ipv4Addr> {
        let network = self.network;
        if let Some(host) = network.host(self.request.mac) {
            return Some(host.address);
        }
        let pool = network.plan.pool?;
        self.table.choose(self.request.mac, self.request.requested, pool, &network.reserved, self.now)
    }

    /// The address that the client has or was offered, while the plan allows it.
    fn recorded(&self) -> Option<Ipv4Addr> {
        let network = self.network;
        if let Some(host) = network.host(self.request.mac) {
            return Some(host.address);
        }
        let binding = self.table.get(self.request.mac)?;
        let pool = network.plan.pool.filter(|pool| (pool.first..=pool.last).contains(&binding.address))?;
        let allowed = !network.reserved.contains(&binding.address) && pool.first <= pool.last;
        allowed.then_some(binding.address)
    }

    fn bind(&mut self, address: Ipv4Addr, hold: Hold, until: Time, moment: DhcpMoment) -> DhcpFact {
        let fact = self.network.fact(self.request, moment, Some(address));
        self.table.insert(self.request.mac, Binding { address, hold, until, fact: fact.clone() }, self.now);
        fact
    }

    fn discover(mut self) -> Answer {
        let Some(address) = self.entitled() else { return self.told(DhcpMoment::Ignored, None) };
        let live = self.table.get(self.request.mac).filter(|b| b.leased(self.now) && b.address == address);
        if live.is_none() {
            self.bind(address, Hold::Offered, self.now + OFFER, DhcpMoment::Offered);
        }
        let mut answer = self.told(DhcpMoment::Offered, Some(address));
        answer.reply = Some(self.network.reply(MessageType::Offer, self.request, address));
        answer
    }

    fn ask(self) -> Answer {
        let ours = self.network.plan.address.address;
        let Request { server_id, requested, ciaddr, .. } = *self.request;
        match (server_id, requested) {
            (Some(server), _) if server != ours => self.elsewhere(),
            // RFC 2131, 4.3.2, "DHCPREQUEST generated during SELECTING state".
            (Some(_), Some(address)) => match self.recorded() {
                Some(right) if right == address => self.acknowledge(address),
                _ => self.refuse(Some(address)),
            },
            (Some(_), None) => Answer::default(),
            // "… during INIT-REBOOT state"; then "RENEWING" and "REBINDING".
            (None, Some(address)) => self.verify(address),
            (None, None) if !ciaddr.is_unspecified() => self.verify(ciaddr),
            (None, None) => Answer::default(),
        }
    }

    /// The client believes that it has an address.
    fn verify(self, address: Ipv4Addr) -> Answer {
        match self.recorded() {
            Some(right) if right == address => self.acknowledge(address),
            Some(_) => self.refuse(Some(address)),
            // "Server SHOULD send a DHCPNAK message to the client if the 'requested IP address' is incorrect,
            // or is on the wrong network."
            None if !self.network.plan.address.contains(address) => self.refuse(Some(address)),
            // We gave it something that the plan no longer gives.
            None if self.table.get(self.request.mac).is_some() => self.refuse(Some(address)),
            // "If the DHCP server has no record of this client, then it MUST remain silent".
            None => self.told(DhcpMoment::Ignored, None),
        }
    }

    /// RFC 2131, 3.1, 4: "Those servers not selected by the DHCPREQUEST message use the message as
    /// notification that the client has declined that server's offer."
    fn elsewhere(self) -> Answer {
        let offered = self.table.get(self.request.mac).is_some_and(|binding| binding.hold == Hold::Offered);
        if offered {
            self.table.remove(self.request.mac);
        }
        Answer::default()
    }

    fn acknowledge(mut self, address: Ipv4Addr) -> Answer {
        let until = self.now + self.network.lease_time();
        let fact = self.bind(address, Hold::Leased, until, DhcpMoment::Bound);
        let network = self.network.plan.name.clone();
        Answer {
            reply: Some(self.network.reply(MessageType::Ack, self.request, address)),
            lease: Some(Lease { network, mac: self.request.mac, address, until, fact }),
            events: Vec::new(),
        }
    }

    fn refuse(self, address: Option<Ipv4Addr>) -> Answer {
        let mut answer = self.told(DhcpMoment::Refused, address);
        let mut reply = Reply::new(MessageType::Nak, self.network.plan.address.address);
        reply.options.push(DhcpOption::Message("not your address here".to_owned()));
        answer.reply = Some(reply);
        answer
    }

    /// The address that it speaks of, if it is one that we gave or offered it.
    fn given(&self, address: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let ours = self.request.server_id.is_none_or(|server| server == self.network.plan.address.address);
        let binding = self.table.get(self.request.mac).filter(|_| ours)?;
        address.filter(|address| *address == binding.address)
    }

    /// The client has its address no more.
    fn gone(self, moment: DhcpMoment, address: Ipv4Addr) -> Answer {
        let had = self.table.remove(self.request.mac);
        let mut answer = self.told(moment, Some(address));
        if had.is_some_and(|binding| binding.hold == Hold::Leased) {
            let network = self.network.plan.name.clone();
            answer.events.push(Event::Gone { network, mac: self.request.mac });
        }
        answer
    }

    /// RFC 2131, 4.3.3: "the server MUST mark the network address as not available".
    fn decline(self) -> Answer {
        let Some(address) = self.given(self.request.requested) else { return Answer::default() };
        self.table.shun(address, None, self.now);
        self.gone(DhcpMoment::Declined, address)
    }

    /// RFC 2131, 4.3.4: "the server marks the network address as not allocated".
    fn release(self) -> Answer {
        match self.given(Some(self.request.ciaddr)) {
            Some(address) => self.gone(DhcpMoment::Released, address),
            None => Answer::default(),
        }
    }

    /// RFC 2131, 4.3.5: "The server MUST NOT send a lease expiration time to the client and SHOULD NOT fill
    /// in 'yiaddr'."
    fn inform(self) -> Answer {
        if self.request.ciaddr.is_unspecified() || (!self.known() && self.network.plan.pool.is_none()) {
            return Answer::default();
        }
        let reply = self.network.reply(MessageType::Ack, self.request, Ipv4Addr::UNSPECIFIED);
        Answer { reply: Some(reply), ..Answer::default() }
    }
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
