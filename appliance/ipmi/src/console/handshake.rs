//! From nothing to an active session.

use super::session::Session;
use super::{Console, Privilege, Stage, wait};
use crate::codec::{self, CONSOLE_ADDRESS, Frame, Head, Kind, LanMessage, OpenRequest, Packet, Rakp1};
use crate::crypto::Exchange;
use crate::error::{Failure, Misbehaviour};
use sansio::Time;

/// Enough for two suites and two privilege levels, each with one try that the network spoilt.
const HANDSHAKES: u8 = 6;
/// Section 13.20: user name look-up by name only, not by name and privilege level.
const NAME_ONLY: u8 = 0x10;
/// Table 13-15.
const INVALID_CHECK: u8 = 0x0f;

/// A message of the handshake that waits for its answer. It is repeated byte for byte: a BMC must not see
/// two handshakes in it.
pub(super) struct Flight {
    step: Step,
    tag: u8,
    exchange: Exchange,
    pub(super) datagram: Vec<u8>,
    pub(super) tries: u8,
    pub(super) limit: u8,
    pub(super) due: Time,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Capabilities,
    Open,
    Rakp1,
    Rakp3,
}

impl Step {
    const fn name(self) -> &'static str {
        match self {
            Step::Capabilities => "Get Channel Authentication Capabilities",
            Step::Open => "Open Session Request",
            Step::Rakp1 => "RAKP message 1",
            Step::Rakp3 => "RAKP message 3",
        }
    }
}

impl Console {
    fn fly(&mut self, now: Time, step: Step, tag: u8, exchange: Exchange, datagram: Vec<u8>) {
        self.out.push_back(datagram.clone());
        self.thrown_away = None;
        let limit = if step == Step::Capabilities { self.config.tries.min(2) } else { self.config.tries };
        let due = now + wait(self.config.first_wait, 0);
        self.stage = Stage::Handshake(Flight { step, tag, exchange, datagram, tries: 1, limit, due });
    }

    fn next_tag(&mut self) -> u8 {
        self.tag = self.tag.wrapping_add(1);
        self.tag
    }

    fn fresh_exchange(&mut self) -> Exchange {
        Exchange {
            suite: self.suite,
            console_session: self.random.session_id(),
            bmc_session: [0; 4],
            console_random: self.random.bytes(),
            bmc_random: [0; 16],
            guid: [0; 16],
            role: NAME_ONLY | self.role.byte(),
            user: self.config.user.bytes().to_vec(),
            key: self.config.password.key(),
        }
    }

    /// Section 22.13. Its answer changes nothing but tells a deaf BMC from one that refuses sessions.
    pub(super) fn ask_capabilities(&mut self, now: Time) {
        let tag = self.next_tag() & 0x3f;
        let message = LanMessage {
            to: codec::BMC_ADDRESS,
            netfn: 0x06,
            from: CONSOLE_ADDRESS,
            sequence: tag,
            command: 0x38,
            // This channel, with the v2.0 data.
            data: vec![0x8e, self.role.byte()],
        };
        let exchange = self.fresh_exchange();
        self.fly(now, Step::Capabilities, tag, exchange, codec::plain(&message.bytes()));
    }

    fn ask_open(&mut self, now: Time) {
        let tag = self.next_tag();
        let exchange = self.fresh_exchange();
        self.handshakes += 1;
        let request = OpenRequest {
            tag,
            // 0: the highest that the algorithms allow.
            privilege: 0,
            console_session: exchange.console_session,
            algorithms: exchange.suite.algorithms(),
        };
        let datagram = codec::frame(Kind::OpenRequest, [0; 4], 0, &request.bytes());
        self.fly(now, Step::Open, tag, exchange, datagram);
    }

    /// A new handshake in place of the one at hand, unless there were enough.
    pub(super) fn again(&mut self, now: Time, otherwise: Failure) {
        if self.handshakes >= HANDSHAKES {
            self.down(otherwise);
            return;
        }
        let stage = core::mem::replace(&mut self.stage, Stage::Down);
        self.farewell(&stage);
        self.ask_open(now);
    }

    /// Section 22.19, to a session that is given up: its slot is one of few.
    pub(super) fn farewell(&mut self, stage: &Stage) {
        let close = match stage {
            Stage::Session(session) => session.close(self.random.bytes()),
            // The BMC may have taken RAKP message 3 for good, and only its answer got lost.
            Stage::Handshake(Flight { step: Step::Rakp3, exchange, .. }) => {
                Session::new(exchange, Time::ZERO).close(self.random.bytes())
            }
            _ => return,
        };
        self.out.push_back(close);
    }

    /// The next suite, for a BMC that will not have this one.
    fn other_suite(&mut self, now: Time, otherwise: Failure) {
        match self.config.fallback {
            Some(fallback) if self.suite != fallback => {
                self.suite = fallback;
                self.again(now, otherwise);
            }
            _ => self.down(otherwise),
        }
    }

    pub(super) fn handshake_unanswered(&mut self, now: Time) {
        let Stage::Handshake(flight) = &self.stage else { return };
        let failure = self.unanswered(flight.step.name(), flight.tries);
        match flight.step {
            Step::Capabilities => self.ask_open(now),
            // Some BMCs say nothing to algorithms they do not know.
            Step::Open if self.heard => self.other_suite(now, failure),
            Step::Open => self.down(failure),
            Step::Rakp1 | Step::Rakp3 => self.again(now, failure),
        }
    }

    pub(super) fn handle_handshake(&mut self, now: Time, packet: Packet<'_>) -> Result<(), Misbehaviour> {
        let Stage::Handshake(flight) = &self.stage else { return Err(Misbehaviour::NotAsked) };
        let expected = match (flight.step, &packet) {
            (Step::Capabilities, Packet::Plain { message }) => {
                let answer = LanMessage::parse(message)?;
                if (answer.netfn, answer.command, answer.sequence) != (0x07, 0x38, flight.tag) {
                    return Err(Misbehaviour::NotAsked);
                }
                self.heard = true;
                self.ask_open(now);
                return Ok(());
            }
            (Step::Open, _) => Kind::OpenResponse,
            (Step::Rakp1, _) => Kind::Rakp2,
            (Step::Rakp3, _) => Kind::Rakp4,
            (Step::Capabilities, _) => return Err(Misbehaviour::NotAsked),
        };
        let Packet::Framed(Frame { kind, payload, .. }) = packet else {
            return Err(Misbehaviour::NotAsked);
        };
        if kind != expected {
            return Err(Misbehaviour::NotAsked);
        }
        let (head, rest) = Head::parse(payload).ok_or(Misbehaviour::Truncated)?;
        let ours = flight.exchange.console_session;
        // BMCs that refuse have been seen to leave the session id 0.
        if head.tag != flight.tag || (head.session != ours && (head.status == 0 || head.session != [0; 4])) {
            return Err(Misbehaviour::NotAsked);
        }
        self.heard = true;
        let exchange = flight.exchange.clone();
        match flight.step {
            _ if head.status != 0 => {
                let step = flight.step;
                self.refused(now, step, head.status);
            }
            Step::Capabilities => {}
            Step::Open => self.opened(now, exchange, rest),
            Step::Rakp1 => self.challenged(now, exchange, rest),
            Step::Rakp3 => self.activated(now, &exchange, rest),
        }
        Ok(())
    }

    /// Table 13-15.
    fn refused(&mut self, now: Time, step: Step, status: u8) {
        let misbehaved = Failure::PeerMisbehaved(Misbehaviour::Status(status));
        match status {
            0x01 | 0x0b => self.down(Failure::NoSlot),
            // Invalid or inactive session id: the handshake got out of step.
            0x02 | 0x08 => self.again(now, Failure::PeerMisbehaved(Misbehaviour::HandshakeBrokenOff)),
            0x03..=0x07 | 0x10..=0x12 => self.other_suite(now, Failure::NoCipherSuite),
            0x09 | 0x0a if self.role == Privilege::Administrator => {
                self.role = Privilege::Operator;
                self.again(now, Failure::NoPrivilege);
            }
            0x09 | 0x0a => self.down(Failure::NoPrivilege),
            0x0c | 0x0d => self.down(Failure::UnknownUser),
            // The BMC's own code was right, so the password is. A BMC that draws a new random number for a
            // doubled RAKP message 1 gets out of step; only one that insists means the password.
            INVALID_CHECK if step == Step::Rakp3 && self.handshakes < 3 => {
                self.again(now, Failure::WrongPassword);
            }
            INVALID_CHECK => self.down(Failure::WrongPassword),
            _ => self.down(misbehaved),
        }
    }

    fn opened(&mut self, now: Time, mut exchange: Exchange, rest: &[u8]) {
        let Some((bmc_session, records)) = rest.split_first_chunk::<4>() else {
            return self.misbehaved(Misbehaviour::ShortResponse(Step::Open.name()));
        };
        let Some(algorithms) = codec::parse_algorithms(records) else {
            return self.misbehaved(Misbehaviour::ShortResponse(Step::Open.name()));
        };
        if algorithms != exchange.suite.algorithms() {
            // Some BMCs answer suite 3 whatever was proposed.
            let other = Misbehaviour::OtherAlgorithms { proposed: exchange.suite };
            return self.other_suite(now, Failure::PeerMisbehaved(other));
        }
        if *bmc_session == [0; 4] {
            return self.misbehaved(Misbehaviour::NoSessionId);
        }
        exchange.bmc_session = *bmc_session;
        let tag = self.next_tag();
        let message = Rakp1 {
            tag,
            bmc_session: *bmc_session,
            random: exchange.console_random,
            role: exchange.role,
            user: exchange.user.clone(),
        };
        let datagram = codec::frame(Kind::Rakp1, [0; 4], 0, &message.bytes());
        self.fly(now, Step::Rakp1, tag, exchange, datagram);
    }

    fn challenged(&mut self, now: Time, mut exchange: Exchange, rest: &[u8]) {
        let short = Misbehaviour::ShortResponse(Step::Rakp1.name());
        let Some((random, rest)) = rest.split_first_chunk::<16>() else {
            return self.misbehaved(short);
        };
        let Some((guid, code)) = rest.split_first_chunk::<16>() else {
            return self.misbehaved(short);
        };
        let len = exchange.suite.code_len();
        if code.len() < len {
            return self.misbehaved(short);
        }
        exchange.bmc_random = *random;
        exchange.guid = *guid;
        let tag = self.next_tag();
        let head = |status| Head { tag, status, session: exchange.bmc_session }.bytes();
        if !exchange.rakp2_code().begins_like(code, len) {
            // Section 13.22: the status tells the BMC to give the session up.
            self.out.push_back(codec::frame(Kind::Rakp3, [0; 4], 0, &head(INVALID_CHECK)));
            return self.down(Failure::WrongPassword);
        }
        let mut payload = head(0);
        payload.extend_from_slice(exchange.rakp3_code().bytes());
        let datagram = codec::frame(Kind::Rakp3, [0; 4], 0, &payload);
        self.fly(now, Step::Rakp3, tag, exchange, datagram);
    }

    fn activated(&mut self, now: Time, exchange: &Exchange, check: &[u8]) {
        if !exchange.rakp4_check().begins_like(check, exchange.suite.check_len()) {
            return self.misbehaved(Misbehaviour::Rakp4Check);
        }
        self.begin_session(now, exchange);
    }

    fn misbehaved(&mut self, how: Misbehaviour) {
        self.down(Failure::PeerMisbehaved(how));
    }
}
