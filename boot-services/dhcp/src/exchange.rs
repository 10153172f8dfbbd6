//! What is decided about one request.

use crate::{
    codec::{MessageType, Reply, Request},
    engine::Event,
    lease::{Binding, Hold, Lease, Table},
    network::Network,
};
use boot::{DhcpFact, DhcpMoment, DhcpService};
use dhcproto::v4::DhcpOption;
use sansio::Time;
use std::{net::Ipv4Addr, time::Duration};

/// How long an offered address waits for its client.
const OFFER: Duration = Duration::from_secs(60);

/// One request on one network.
pub(crate) struct Exchange<'a> {
    pub(crate) network: &'a Network,
    pub(crate) table: &'a mut Table,
    pub(crate) request: &'a Request,
    pub(crate) now: Time,
}

#[derive(Default)]
pub(crate) struct Answer {
    pub(crate) reply: Option<Reply>,
    pub(crate) lease: Option<Lease>,
    pub(crate) events: Vec<Event>,
}

impl Exchange<'_> {
    pub(crate) fn answer(self) -> Answer {
        if self.network.plan.service == DhcpService::Watch {
            // On somebody else's network every virtual machine asks; only ours are worth telling.
            return match self.request.kind {
                MessageType::Discover | MessageType::Request if self.network.knows(self.request.mac) => {
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
        if self.request.ciaddr.is_unspecified()
            || (!self.network.knows(self.request.mac) && self.network.plan.pool.is_none())
        {
            return Answer::default();
        }
        let reply = self.network.reply(MessageType::Ack, self.request, Ipv4Addr::UNSPECIFIED);
        Answer { reply: Some(reply), ..Answer::default() }
    }
}
