//! What answers nodes on the boot networks: the real DHCP engine, and a TFTP and an HTTP hand that serve from
//! their plans as the real ones do.

use crate::line::Line;
use agent_proto::{Order, Status};
use boot::{
    Attempt, DhcpFact, DhcpPlan, Digest, HttpFact, HttpPlan, Json, Mac, Secret, SessionState, TftpFact,
    TftpPlan,
};
use core::time::Duration;
use dhcp::{Event, Lease, Server, Transmit};
use rack::Vlan;
use sansio::Time;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// An agent that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(20);
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 7, 0, 99)), 40_000);

/// The VLAN behind each of the appliance's interfaces.
pub(crate) type Interfaces = BTreeMap<String, Vlan>;

/// The DHCP hand: its engine, and its file of leases.
pub(crate) struct DhcpHand {
    pub(crate) desk: Line<DhcpPlan, DhcpFact>,
    server: Server,
    file: BTreeMap<(String, Mac), Lease>,
}

impl DhcpHand {
    pub(crate) fn new(now: Time) -> DhcpHand {
        DhcpHand { desk: Line::new("dhcp", now), server: Server::new(), file: BTreeMap::new() }
    }

    /// The process starts: the leases are read back, the kept plan is served.
    pub(crate) fn begin(&mut self, now: Time) {
        self.server = Server::new();
        self.server.handle_restored(self.file.values().cloned(), now);
        self.take_plan(now);
    }

    pub(crate) fn take_plan(&mut self, now: Time) {
        let Some(plan) = self.desk.plan().cloned() else { return };
        self.server.handle_plan(&plan, now);
        for network in &plan.networks {
            self.server.handle_link(&network.name, Some(Mac([2, 0, 0, 0, 0, 1])), now);
        }
        self.flush();
    }

    /// A client's packet on a VLAN; the frames that answer it.
    pub(crate) fn datagram(
        &mut self,
        on: Vlan,
        interfaces: &Interfaces,
        packet: &[u8],
        now: Time,
    ) -> Vec<Vec<u8>> {
        self.arrive(on, interfaces, now, |server, network, now| server.handle_datagram(network, packet, now))
    }

    /// Another frame on a VLAN.
    pub(crate) fn frame(&mut self, on: Vlan, interfaces: &Interfaces, frame: &[u8], now: Time) {
        self.arrive(on, interfaces, now, |server, network, now| server.handle_frame(network, frame, now));
    }

    fn arrive(
        &mut self,
        on: Vlan,
        interfaces: &Interfaces,
        now: Time,
        what: impl FnOnce(&mut Server, &str, Time),
    ) -> Vec<Vec<u8>> {
        let Some(plan) = self.desk.plan() else { return Vec::new() };
        let heard = plan.networks.iter().find(|network| interfaces.get(network.device.as_str()) == Some(&on));
        let Some(name) = heard.map(|network| network.name.clone()) else { return Vec::new() };
        what(&mut self.server, &name, now);
        self.flush()
    }

    fn flush(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        loop {
            while let Some(transmit) = self.server.poll_transmit() {
                if let Transmit::Frame { frame, .. } = transmit {
                    frames.push(frame);
                }
            }
            match self.server.poll_event() {
                Some(Event::Fact(fact)) => self.desk.tell(dhcp::key(&fact), fact),
                Some(Event::Store(ticket, lease)) => {
                    self.file.insert((lease.network.clone(), lease.mac), lease);
                    self.server.handle_stored(ticket);
                }
                Some(Event::Gone { network, mac }) => drop(self.file.remove(&(network, mac))),
                Some(Event::Forget { network, mac }) => self.desk.forget(&format!("{network}/{mac}")),
                None => return frames,
            }
        }
    }
}

/// The TFTP hand.
pub(crate) struct TftpHand {
    pub(crate) desk: Line<TftpPlan, TftpFact>,
}

impl TftpHand {
    pub(crate) fn new(now: Time) -> TftpHand {
        TftpHand { desk: Line::new("tftp", now) }
    }

    /// Whether a file is had on a VLAN.
    pub(crate) fn get(&self, on: Vlan, interfaces: &Interfaces, name: &str) -> bool {
        let heard = |plan: &TftpPlan| {
            plan.listen
                .iter()
                .filter_map(|l| l.device.as_ref())
                .any(|d| interfaces.get(d.as_str()) == Some(&on))
        };
        let plan = self.desk.plan().filter(|plan| heard(plan));
        plan.is_some_and(|plan| plan.files.iter().any(|file| file.name == name))
    }
}

struct Session {
    token: Secret,
    status: Option<Json>,
    heard: Time,
    is_open: bool,
}

/// The HTTP hand.
pub(crate) struct HttpHand {
    pub(crate) desk: Line<HttpPlan, HttpFact>,
    sessions: BTreeMap<Attempt, Session>,
    fetched: BTreeMap<Attempt, u32>,
    /// Images of which an octet is wrong on the disk.
    pub(crate) corrupt: Vec<Digest>,
    /// Images whose octets are not there.
    pub(crate) missing: Vec<Digest>,
}

impl HttpHand {
    pub(crate) fn new(now: Time) -> HttpHand {
        HttpHand {
            desk: Line::new("http", now),
            sessions: BTreeMap::new(),
            fetched: BTreeMap::new(),
            corrupt: Vec::new(),
            missing: Vec::new(),
        }
    }

    /// The process starts: no connection survived.
    pub(crate) fn begin(&mut self) {
        self.sessions.clear();
        self.fetched.clear();
    }

    fn heard(&self, on: Vlan, interfaces: &Interfaces) -> Option<&HttpPlan> {
        let here = |plan: &&HttpPlan| {
            let devices = plan.listen.iter().filter_map(|(_, device)| device.as_ref());
            devices.into_iter().any(|device| interfaces.get(device.as_str()) == Some(&on))
        };
        self.desk.plan().filter(here)
    }

    /// A script, by its URL.
    pub(crate) fn script(&mut self, on: Vlan, interfaces: &Interfaces, url: &str) -> Option<Secret> {
        let path = format!("/{}", url.splitn(4, '/').nth(3)?);
        let plan = self.heard(on, interfaces)?;
        let script = plan.scripts.iter().find(|script| script.path == path)?;
        let (body, attempt) = (script.body.clone(), script.attempt.clone());
        if let Some(attempt) = attempt {
            let times = self.fetched.entry(attempt.clone()).or_default();
            *times += 1;
            let fact = HttpFact::Script { attempt: attempt.clone(), peer: PEER, times: *times };
            self.desk.tell(format!("script/{attempt}"), fact);
        }
        Some(body)
    }

    /// Whether kernel and initramfs are had.
    pub(crate) fn assets(&self, on: Vlan, interfaces: &Interfaces) -> bool {
        let has = |plan: &HttpPlan, name: &str| plan.assets.iter().any(|asset| asset.path == name);
        let plan = self.heard(on, interfaces);
        plan.is_some_and(|plan| has(plan, "/boot/vmlinuz") && has(plan, "/boot/initramfs"))
    }

    /// An agent comes to the door.
    pub(crate) fn enter(
        &mut self,
        on: Vlan,
        interfaces: &Interfaces,
        attempt: &Attempt,
        token: &str,
        now: Time,
    ) -> bool {
        let Some(plan) = self.heard(on, interfaces) else { return false };
        let planned = plan.sessions.iter().find(|session| session.attempt == *attempt);
        let Some(planned) = planned.filter(|session| session.token.matches(token)) else { return false };
        let token = planned.token.clone();
        let status = self.sessions.remove(attempt).and_then(|session| session.status);
        let session = Session { token, status: status.clone(), heard: now, is_open: true };
        self.sessions.insert(attempt.clone(), session);
        let fact = HttpFact::Agent { attempt: attempt.clone(), state: SessionState::Connected, status };
        self.desk.tell(format!("agent/{attempt}"), fact);
        true
    }

    /// An agent says its status; whether its connection still stands.
    pub(crate) fn say(
        &mut self,
        on: Vlan,
        interfaces: &Interfaces,
        attempt: &Attempt,
        status: &Status,
        now: Time,
    ) -> bool {
        if self.heard(on, interfaces).is_none() {
            return false;
        }
        let Some(session) = self.sessions.get_mut(attempt).filter(|session| session.is_open) else {
            return false;
        };
        let status = Json::of(status).expect("a status is JSON");
        session.heard = now;
        session.status = Some(status.clone());
        let state = SessionState::Connected;
        let fact = HttpFact::Agent { attempt: attempt.clone(), state, status: Some(status) };
        self.desk.tell(format!("agent/{attempt}"), fact);
        true
    }

    /// The order that stands for an agent on the line.
    pub(crate) fn order(&self, attempt: &Attempt) -> Option<Order> {
        self.sessions.get(attempt).filter(|session| session.is_open)?;
        let planned = self.desk.plan()?.sessions.iter().find(|session| session.attempt == *attempt)?;
        planned.order.as_ref()?.read().ok()
    }

    /// Whether a token reads an image.
    pub(crate) fn may_read(&self, on: Vlan, interfaces: &Interfaces, token: &str, image: &Digest) -> bool {
        let may = |plan: &HttpPlan| {
            plan.sessions.iter().any(|s| s.token.matches(token) && s.images.contains(image))
        };
        !self.missing.contains(image) && self.heard(on, interfaces).is_some_and(may)
    }

    /// Agents that the plan does not have any more are sent away.
    pub(crate) fn take_plan(&mut self) {
        let plan = self.desk.plan().cloned().unwrap_or_default();
        let planned = |attempt: &Attempt, session: &Session| {
            plan.sessions.iter().any(|s| s.attempt == *attempt && s.token.matches(session.token.expose()))
        };
        let gone: Vec<Attempt> = self
            .sessions
            .iter()
            .filter(|(attempt, session)| session.is_open && !planned(attempt, session))
            .map(|(attempt, _)| attempt.clone())
            .collect();
        gone.iter().for_each(|attempt| self.lose(attempt));
    }

    fn lose(&mut self, attempt: &Attempt) {
        let Some(session) = self.sessions.get_mut(attempt) else { return };
        session.is_open = false;
        let (attempt, status) = (attempt.clone(), session.status.clone());
        let key = format!("agent/{attempt}");
        self.desk.tell(key, HttpFact::Agent { attempt, state: SessionState::Lost, status });
    }

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        let open = self.sessions.values().filter(|session| session.is_open);
        open.map(|session| session.heard + SILENCE).min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Time) {
        let silent = |session: &Session| session.is_open && session.heard + SILENCE <= now;
        let gone: Vec<Attempt> =
            self.sessions.iter().filter(|(_, s)| silent(s)).map(|(attempt, _)| attempt.clone()).collect();
        gone.iter().for_each(|attempt| self.lose(attempt));
    }
}
