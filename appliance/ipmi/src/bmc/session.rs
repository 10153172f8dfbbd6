//! A session as the BMC holds it.

use super::{Bmc, commands};
use crate::codec::{Frame, LanMessage};
use crate::console::Privilege;
use crate::crypto::{Exchange, Keys};
use crate::window::Window;
use crate::{Bug, codec};
use core::time::Duration;
use sansio::Time;
use std::collections::VecDeque;
use std::net::SocketAddr;

/// Section 6.12.15: sessions time out after 60 s, give or take 3, of nothing heard.
const IDLE: Duration = Duration::from_secs(60);
/// A handshake that nobody goes on with.
const HALF_OPEN: Duration = Duration::from_secs(10);
/// Section 6.12.13: how far ahead a session sequence number may lie.
const AHEAD: u32 = 15;
/// Requests whose responses are kept, in case they come again.
const KEPT: usize = 8;

pub(super) struct Session {
    pub(super) peer: SocketAddr,
    /// The message tag of the request that opened it.
    pub(super) open_tag: u8,
    pub(super) exchange: Exchange,
    pub(super) limit: Privilege,
    pub(super) phase: Phase,
    pub(super) touched: Time,
}

pub(super) enum Phase {
    Open,
    Challenged,
    Active(Box<Active>),
}

pub(super) struct Active {
    keys: Keys,
    sequence: u32,
    seen: Window,
    /// The level that was set, as the standard numbers them; 2, USER, at first (section 22.18).
    pub(super) level: u8,
    done: VecDeque<(LanMessage, LanMessage)>,
}

impl Active {
    pub(super) fn new(keys: Keys) -> Active {
        Active { keys, sequence: 0, seen: Window::new(AHEAD), level: 2, done: VecDeque::new() }
    }
}

impl Session {
    /// When it is forgotten.
    pub(super) fn due(&self) -> Time {
        match self.phase {
            Phase::Active(_) => self.touched + IDLE,
            Phase::Open | Phase::Challenged => self.touched + HALF_OPEN,
        }
    }
}

impl Bmc {
    pub(super) fn handle_sealed(&mut self, now: Time, from: SocketAddr, frame: &Frame<'_>) {
        let Some(at) = self.find(frame.session, from) else { return };
        let session = &mut self.sessions[at];
        let role = session.exchange.role & 0x0f;
        let Phase::Active(active) = &mut session.phase else { return };
        let Ok(payload) = active.keys.open(frame) else { return };
        if !active.seen.take(frame.sequence) {
            return;
        }
        let Ok(request) = LanMessage::parse(&payload) else { return };
        if request.netfn & 1 == 1 || request.to != codec::BMC_ADDRESS {
            return;
        }
        session.touched = now;
        // Section 6.12.12: a repeated request has the rqSeq of the first, and is not carried out again.
        let done = active.done.iter().find(|(known, _)| *known == request).map(|(_, answer)| answer.clone());
        let (level, fresh) = (active.level, done.is_none());
        let answer = match done {
            Some(answer) => answer,
            None => {
                let limit = role.min(session.limit.byte());
                let (data, level) = self.carry_out(now, &request, level, limit, at);
                if let Some(Session { phase: Phase::Active(active), .. }) = self.sessions.get_mut(at) {
                    active.level = level;
                }
                commands::answer_to(&request, data)
            }
        };
        self.answer_sealed(now, at, &answer);
        if self.has(Bug::AnswersTwice) {
            self.answer_sealed(now, at, &answer);
        }
        if commands::is_close(&request) && answer.data == [0x00] {
            self.sessions.remove(at);
        } else if fresh && let Phase::Active(active) = &mut self.sessions[at].phase {
            active.done.truncate(KEPT - 1);
            active.done.push_front((request, answer));
        }
    }

    fn answer_sealed(&mut self, now: Time, at: usize, answer: &LanMessage) {
        let iv = self.random.bytes();
        let session = &mut self.sessions[at];
        let Phase::Active(active) = &mut session.phase else { return };
        active.sequence = active.sequence.wrapping_add(1).max(1);
        let peer = session.peer;
        let to = session.exchange.console_session;
        let datagram = active.keys.seal(to, active.sequence, &answer.bytes(), iv);
        self.answer(now, peer, datagram);
    }
}
