//! The end that answers: a BMC with users, sessions and a chassis, all in memory.

mod chassis;
mod commands;
mod session;

use crate::codec::{self, Head, Kind, LanMessage, OpenRequest, Packet, Rakp1};
use crate::console::{Password, Privilege, UserName};
use crate::crypto::{CipherSuite, Exchange, Random};
use crate::{BootDevice, BootFlags, Bug};
use chassis::Chassis;
use sansio::Time;
use session::{Active, Phase, Session};
use std::collections::VecDeque;
use std::net::SocketAddr;

/// Datagrams that wait to be sent; what does not fit is lost, as on any network.
const OUT: usize = 256;

/// A user of a BMC.
#[derive(Clone, Debug)]
pub struct Account {
    /// The name.
    pub user: UserName,
    /// The password.
    pub password: Password,
    /// What the user may be at most.
    pub limit: Privilege,
}

/// What a BMC is made of.
#[derive(Clone, Debug)]
pub struct BmcConfig {
    /// The system's GUID.
    pub guid: [u8; 16],
    /// Its users.
    pub accounts: Vec<Account>,
    /// How many sessions it holds at a time, half-open ones included.
    pub slots: usize,
}

/// What a BMC did to the machine it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BmcEvent {
    /// It was switched on, and boots from there.
    On(BootFlags),
    /// It was switched off.
    Off,
    /// It was reset, and boots from there.
    Reset(BootFlags),
}

/// The end that answers: any number of consoles, one machine.
pub struct Bmc {
    config: BmcConfig,
    random: Random,
    bugs: Vec<Bug>,
    chassis: Chassis,
    sessions: Vec<Session>,
    /// For [`Bug::Late`] and [`Bug::BusyEvery`].
    answers: u32,
    commands: u32,
    late: Vec<(Time, SocketAddr, Vec<u8>)>,
    out: VecDeque<(SocketAddr, Vec<u8>)>,
}

impl Bmc {
    /// A BMC whose machine is off. The seed must differ between BMCs and between runs.
    pub fn new(config: BmcConfig, seed: [u8; 32]) -> Bmc {
        Bmc {
            config,
            random: Random::new(seed),
            bugs: Vec::new(),
            chassis: Chassis::default(),
            sessions: Vec::new(),
            answers: 0,
            commands: 0,
            late: Vec::new(),
            out: VecDeque::new(),
        }
    }

    /// Gives it these bugs, in place of those it had.
    pub fn set_bugs(&mut self, bugs: Vec<Bug>) {
        self.bugs = bugs;
    }

    /// Sets the password of a user that it has.
    pub fn set_password(&mut self, user: &UserName, password: Password) {
        for account in self.config.accounts.iter_mut().filter(|account| account.user == *user) {
            account.password = password.clone();
        }
    }

    /// Whether the machine is on.
    pub fn is_on(&self) -> bool {
        self.chassis.on
    }

    /// Whether the machine is on was decided elsewhere: by its button, or its operating system.
    pub fn set_on(&mut self, on: bool) {
        self.chassis.on = on;
    }

    /// From where the machine boots next.
    pub fn next_boot(&self) -> BootDevice {
        self.chassis.flags.effective()
    }

    /// How many sessions there are, half-open ones included.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Forgets every session, as a BMC does that restarts. The machine runs on.
    pub fn restart(&mut self) {
        self.sessions.clear();
        self.late.clear();
        self.out.clear();
    }

    /// Takes what a console sent.
    pub fn handle_datagram(&mut self, now: Time, from: SocketAddr, datagram: &[u8]) {
        self.expire(now);
        if self.has(Bug::Deaf) {
            return;
        }
        match codec::parse(datagram) {
            Ok(Packet::Plain { message }) => self.handle_plain(now, from, message),
            Ok(Packet::Framed(frame)) => match frame.kind {
                Kind::Ipmi if frame.session == [0; 4] => self.handle_unframed(now, from, frame.payload),
                Kind::IpmiSealed => self.handle_sealed(now, from, &frame),
                Kind::OpenRequest => self.handle_open(now, from, frame.payload),
                Kind::Rakp1 => self.handle_rakp1(now, from, frame.payload),
                Kind::Rakp3 => self.handle_rakp3(now, from, frame.payload),
                Kind::Ipmi | Kind::OpenResponse | Kind::Rakp2 | Kind::Rakp4 => {}
            },
            Err(_) => {}
        }
    }

    /// To be called at the moment that `poll_timeout` gives; earlier does no harm.
    pub fn handle_timeout(&mut self, now: Time) {
        self.expire(now);
        self.chassis.handle_timeout(now);
        let mut at = 0;
        while at < self.late.len() {
            if self.late[at].0 <= now {
                let (_, to, datagram) = self.late.remove(at);
                self.send(to, datagram);
            } else {
                at += 1;
            }
        }
    }

    /// When `handle_timeout` is to be called.
    pub fn poll_timeout(&self) -> Option<Time> {
        let late = self.late.iter().map(|(due, ..)| *due);
        let sessions = self.sessions.iter().map(Session::due).filter(|_| !self.has(Bug::LeaksSessions));
        late.chain(sessions).chain(self.chassis.poll_timeout()).min()
    }

    /// The next datagram, and for whom.
    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.out.pop_front()
    }

    /// What was done to the machine.
    pub fn poll_event(&mut self) -> Option<BmcEvent> {
        self.chassis.events.pop_front()
    }

    fn has(&self, bug: Bug) -> bool {
        self.bugs.contains(&bug)
    }

    fn expire(&mut self, now: Time) {
        if !self.has(Bug::LeaksSessions) {
            self.sessions.retain(|session| now < session.due());
        }
    }

    fn send(&mut self, to: SocketAddr, datagram: Vec<u8>) {
        if self.out.len() < OUT {
            self.out.push_back((to, datagram));
        }
    }

    fn answer(&mut self, now: Time, to: SocketAddr, datagram: Vec<u8>) {
        self.answers = self.answers.wrapping_add(1);
        let late = self.bugs.iter().find_map(|bug| match bug {
            Bug::Late(every, by) if self.answers.is_multiple_of((*every).max(1)) => Some(*by),
            _ => None,
        });
        match late {
            Some(by) if self.late.len() < OUT => self.late.push((now + by, to, datagram)),
            Some(_) => {}
            None => self.send(to, datagram),
        }
    }

    fn answer_framed(&mut self, now: Time, to: SocketAddr, kind: Kind, payload: &[u8]) {
        let datagram = codec::frame(kind, [0; 4], 0, payload);
        self.answer(now, to, datagram);
        if self.has(Bug::AnswersTwice) {
            self.answer(now, to, codec::frame(kind, [0; 4], 0, payload));
        }
    }

    fn handle_plain(&mut self, now: Time, from: SocketAddr, message: &[u8]) {
        if let Some(answer) = self.outside_of_session(message) {
            self.answer(now, from, codec::plain(&answer.bytes()));
        }
    }

    fn handle_unframed(&mut self, now: Time, from: SocketAddr, message: &[u8]) {
        if let Some(answer) = self.outside_of_session(message) {
            self.answer_framed(now, from, Kind::Ipmi, &answer.bytes());
        }
    }

    fn outside_of_session(&mut self, message: &[u8]) -> Option<LanMessage> {
        let request = LanMessage::parse(message).ok().filter(|request| request.netfn & 1 == 0)?;
        if self.has(Bug::NoCapabilities) {
            return None;
        }
        Some(commands::answer_to(&request, self.carry_out_outside(&request)))
    }

    /// Section 13.17.
    fn handle_open(&mut self, now: Time, from: SocketAddr, payload: &[u8]) {
        let Some(request) = OpenRequest::parse(payload) else { return };
        let refuse = |status| Head { tag: request.tag, status, session: request.console_session }.bytes();
        let mut suite = CipherSuite::from_algorithms(request.algorithms);
        if suite == Some(CipherSuite::Seventeen) {
            if self.has(Bug::SilentOnSuite17) {
                return;
            }
            if self.has(Bug::RefusesSuite17) {
                suite = None;
            }
        }
        if self.has(Bug::AlwaysSuite3) {
            suite = Some(CipherSuite::Three);
        }
        let Some(suite) = suite else {
            // Invalid authentication algorithm.
            return self.answer_framed(now, from, Kind::OpenResponse, &refuse(0x04));
        };
        let known = self.sessions.iter().position(|session| {
            session.peer == from
                && session.exchange.console_session == request.console_session
                && session.open_tag == request.tag
                && matches!(session.phase, Phase::Open)
        });
        let at = match known {
            Some(at) => at,
            None if self.sessions.len() >= self.config.slots => {
                // Insufficient resources to create a session.
                return self.answer_framed(now, from, Kind::OpenResponse, &refuse(0x01));
            }
            None => {
                let bmc_session = self.random.session_id();
                self.sessions.push(Session::open(now, from, &request, suite, bmc_session, self.config.guid));
                self.sessions.len() - 1
            }
        };
        let session = &self.sessions[at];
        let mut answer = vec![request.tag, 0, Privilege::Administrator.byte(), 0];
        answer.extend_from_slice(&request.console_session);
        answer.extend_from_slice(&session.exchange.bmc_session);
        answer.extend_from_slice(&codec::algorithm_records(session.exchange.suite.algorithms()));
        self.answer_framed(now, from, Kind::OpenResponse, &answer);
    }

    fn find(&self, id: [u8; 4], from: SocketAddr) -> Option<usize> {
        self.sessions.iter().position(|session| session.exchange.bmc_session == id && session.peer == from)
    }

    /// Section 13.20.
    fn handle_rakp1(&mut self, now: Time, from: SocketAddr, payload: &[u8]) {
        let Some(request) = Rakp1::parse(payload) else { return };
        let Some(at) = self.find(request.bmc_session, from) else {
            // Invalid session id; nobody knows which console it was.
            let head = Head { tag: request.tag, status: 0x02, session: [0; 4] };
            return self.answer_framed(now, from, Kind::Rakp2, &head.bytes());
        };
        let console_session = self.sessions[at].exchange.console_session;
        let refuse = |status| Head { tag: request.tag, status, session: console_session }.bytes();
        let account = self.config.accounts.iter().find(|account| account.user.bytes() == request.user);
        let Some(account) = account else {
            self.sessions.remove(at);
            return self.answer_framed(now, from, Kind::Rakp2, &refuse(0x0d));
        };
        let role = request.role & 0x0f;
        if role == 0 || role > account.limit.byte() {
            self.sessions.remove(at);
            return self.answer_framed(now, from, Kind::Rakp2, &refuse(0x0a));
        }
        let (key, limit) = (account.password.key(), account.limit);
        let fresh = self.has(Bug::FreshRandom);
        let random = self.random.bytes();
        let session = &mut self.sessions[at];
        let exchange = &mut session.exchange;
        let repeated = exchange.console_random == request.random && exchange.user == request.user;
        match session.phase {
            Phase::Challenged if repeated && !fresh => {}
            Phase::Open | Phase::Challenged => {
                exchange.console_random = request.random;
                exchange.bmc_random = random;
                exchange.role = request.role;
                exchange.user = request.user;
                exchange.key = key;
                session.limit = limit;
                session.phase = Phase::Challenged;
            }
            Phase::Active(_) => return,
        }
        let mut answer = Head { tag: request.tag, status: 0, session: console_session }.bytes();
        answer.extend_from_slice(&session.exchange.bmc_random);
        answer.extend_from_slice(&session.exchange.guid);
        answer.extend_from_slice(session.exchange.rakp2_code().bytes());
        self.answer_framed(now, from, Kind::Rakp2, &answer);
    }

    /// Section 13.22.
    fn handle_rakp3(&mut self, now: Time, from: SocketAddr, payload: &[u8]) {
        let Some((head, code)) = Head::parse(payload) else { return };
        let Some(at) = self.find(head.session, from) else { return };
        let session = &mut self.sessions[at];
        let exchange = &session.exchange;
        let console_session = exchange.console_session;
        if matches!(session.phase, Phase::Open) {
            return;
        }
        if head.status != 0 {
            if matches!(session.phase, Phase::Challenged) {
                self.sessions.remove(at);
            }
            return;
        }
        let len = exchange.suite.code_len();
        if !exchange.rakp3_code().begins_like(code, len) {
            if matches!(session.phase, Phase::Challenged) {
                self.sessions.remove(at);
                let refusal = Head { tag: head.tag, status: 0x0f, session: console_session };
                self.answer_framed(now, from, Kind::Rakp4, &refusal.bytes());
            }
            return;
        }
        let mut answer = Head { tag: head.tag, status: 0, session: console_session }.bytes();
        answer.extend_from_slice(&exchange.rakp4_check().bytes()[..exchange.suite.check_len()]);
        if matches!(session.phase, Phase::Challenged) {
            session.phase = Phase::Active(Box::new(Active::new(exchange.keys())));
            session.touched = now;
        }
        self.answer_framed(now, from, Kind::Rakp4, &answer);
    }
}

impl Session {
    fn open(
        now: Time,
        peer: SocketAddr,
        request: &OpenRequest,
        suite: CipherSuite,
        bmc_session: [u8; 4],
        guid: [u8; 16],
    ) -> Session {
        Session {
            peer,
            open_tag: request.tag,
            exchange: Exchange {
                suite,
                console_session: request.console_session,
                bmc_session,
                console_random: [0; 16],
                bmc_random: [0; 16],
                guid,
                role: 0,
                user: Vec::new(),
                key: [0; 20],
            },
            limit: Privilege::Operator,
            phase: Phase::Open,
            touched: now,
        }
    }
}

#[cfg(test)]
mod tests;
