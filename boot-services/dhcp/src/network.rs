//! One network of the plan: what is answered there, and to where.

use crate::{
    choice,
    codec::{self, MessageType, Reply, Request},
    engine::Transmit,
    frame,
    lease::Table,
};
use boot::{Attempt, Boot, DhcpFact, DhcpHost, DhcpMoment, DhcpNetwork, Mac};
use dhcproto::v4::DhcpOption;
use sansio::Time;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

/// An address seen by ARP is told again at most this often when it changes.
const SEEN_AGAIN: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) plan: DhcpNetwork,
    hosts: HashMap<Mac, usize>,
    pub(crate) reserved: BTreeSet<Ipv4Addr>,
    pub(crate) link: Option<Mac>,
    pub(crate) advertise: Option<Time>,
    pub(crate) advertised: Option<Time>,
    seen: BTreeMap<Mac, (Ipv4Addr, Option<Attempt>, Time)>,
}

impl Network {
    pub(crate) fn new(plan: DhcpNetwork, before: Option<Network>) -> Network {
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

    pub(crate) fn host(&self, mac: Mac) -> Option<&DhcpHost> {
        self.hosts.get(&mac).and_then(|place| self.plan.hosts.get(*place))
    }

    fn boot(&self, mac: Mac) -> Option<&Boot> {
        self.host(mac).map_or(self.plan.boot.as_ref(), |host| host.boot.as_ref())
    }

    pub(crate) fn knows(&self, mac: Mac) -> bool {
        self.hosts.contains_key(&mac)
    }

    pub(crate) fn lease_time(&self) -> Duration {
        Duration::from_secs(u64::from(self.plan.lease_seconds.max(10)))
    }

    pub(crate) fn fact(&self, request: &Request, moment: DhcpMoment, address: Option<Ipv4Addr>) -> DhcpFact {
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

    pub(crate) fn reply(&self, kind: MessageType, request: &Request, address: Ipv4Addr) -> Reply {
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
    pub(crate) fn address(&self, reply: &Reply, request: &Request) -> Option<Transmit> {
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

    /// What an ARP packet of a known machine says that is not known already.
    pub(crate) fn sighted(
        &mut self,
        table: &Table,
        mac: Mac,
        address: Ipv4Addr,
        now: Time,
    ) -> Option<DhcpFact> {
        // RFC 3927: an address that it gave itself because nobody gave it one.
        if address.is_link_local() {
            return None;
        }
        let attempt = self.host(mac)?.attempt.clone();
        let bound = table.get(mac).filter(|binding| binding.leased(now) && binding.address == address);
        if let Some(binding) = bound
            && let DhcpFact::Client { attempt: then, .. } = &binding.fact
            && (attempt.is_none() || *then == attempt)
        {
            return None;
        }
        if let Some((last, then, when)) = self.seen.get(&mac)
            && *then == attempt
            && (*last == address || now.since(*when) < SEEN_AGAIN)
        {
            return None;
        }
        let hosts = &self.hosts;
        self.seen.retain(|mac, _| hosts.contains_key(mac));
        self.seen.insert(mac, (address, attempt.clone(), now));
        Some(DhcpFact::Client {
            network: self.plan.name.clone(),
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
}
