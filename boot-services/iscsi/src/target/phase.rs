//! The full feature phase but for commands: order, pings, text, logout, rejects.

use super::{
    Connection, Misbehaviour, TaskId, Why,
    connection::{MOST_TASKS, Out, State},
    intake::Route,
};
use crate::{
    keys::{self, SessionType},
    pdu::{
        FromInitiator, FromTarget, Header, Logout, LogoutAnswer, LogoutReason, LogoutResponse, Malformed,
        NopIn, NopOut, Reject, RejectReason, Serial, Tag, TaskAnswer, Text, TextResponse, Windows,
    },
    text::{self, Pair},
};
use bytes::Bytes;
use sansio::Time;
use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
};

/// Octets of commands out of their order that are kept.
const MOST_HELD: usize = 256 << 10;
/// Rejects without a command between them after which a peer is not worth talking to.
const MOST_REJECTS: u32 = 64;

/// A numbered PDU that came before its turn; without a header: the number is to be passed over.
pub(super) struct Held {
    pub(super) cmd_sn: Serial,
    pub(super) pdu: Option<(Header, Vec<u8>, Vec<u8>)>,
}

/// A task management function that waits for others.
pub(super) struct Management {
    pub(super) itt: Tag,
    pub(super) gone: Arc<AtomicBool>,
    pub(super) until: Time,
    /// The session ends when it is answered: a cold reset.
    pub(super) ends: bool,
}

/// The rest of a text that is too long for one response.
pub(super) struct PendingText {
    itt: Tag,
    ttt: Tag,
    rest: Bytes,
}

enum Turn {
    Now,
    Later,
    Never,
}

impl<V> Connection<V> {
    /// A PDU is whole, its data in memory.
    pub(super) fn dispatch(&mut self, header: &Header, additional: &[u8], data: Vec<u8>, now: Time) {
        if matches!(self.state, State::Login(_)) {
            return self.login(header, &data, now);
        }
        if matches!(self.state, State::Over) {
            return;
        }
        let pdu = match FromInitiator::parse(header) {
            Ok(pdu) => pdu,
            Err(Malformed::Opcode(_)) => return self.reject(header, RejectReason::NotSupported),
            // RFC 7143, 7.7: "Explicit violations of the PDU layout rules" are format errors: who receives one "MUST
            // immediately terminate all transport connections in the session".
            Err(malformed) => return self.misbehaved(Misbehaviour::Header(malformed)),
        };
        let number = match &pdu {
            FromInitiator::NopOut(p) => Some((p.immediate, p.cmd_sn)),
            FromInitiator::Command(p) => Some((p.immediate, p.cmd_sn)),
            FromInitiator::TaskManagement(p) => Some((p.immediate, p.cmd_sn)),
            FromInitiator::Text(p) => Some((p.immediate, p.cmd_sn)),
            FromInitiator::Logout(p) => Some((p.immediate, p.cmd_sn)),
            FromInitiator::Login(_) | FromInitiator::DataOut(_) | FromInitiator::Snack(_) => None,
        };
        if let Some((false, cmd_sn)) = number {
            match self.turn(cmd_sn) {
                Turn::Now => self.exp_cmd_sn = self.exp_cmd_sn.plus(1),
                Turn::Later => return self.hold(cmd_sn, header, additional, data),
                Turn::Never => return,
            }
            // Commands keep their place in the window until they are done.
            if !matches!(pdu, FromInitiator::Command(_)) {
                self.max_cmd_sn = self.max_cmd_sn.plus(1);
            }
        }
        match pdu {
            FromInitiator::Command(command) => {
                let route = self.command(&command, header, additional, data.len(), now);
                self.feed(route.unwrap_or(Route::NOWHERE), data, now);
            }
            FromInitiator::DataOut(data_out) => {
                let route = self.data_out(&data_out, data.len());
                self.feed(route, data, now);
            }
            _ if !additional.is_empty() => self.reject(header, RejectReason::InvalidField),
            FromInitiator::NopOut(ping) => self.pinged_by(&ping, data),
            FromInitiator::TaskManagement(management) => self.manage(&management, header, now),
            FromInitiator::Text(request) => self.text(&request, header, &data),
            FromInitiator::Logout(logout) => self.logout(&logout, header),
            FromInitiator::Snack(_) => self.reject(header, RejectReason::Snack),
            // RFC 7143, 6.3: the login phase is over.
            FromInitiator::Login(_) => self.reject(header, RejectReason::Protocol),
        }
    }

    /// RFC 7143, 4.2.2.1: "the target MUST silently ignore any non-immediate command outside of this range or
    /// non-immediate duplicates within the range."
    fn turn(&self, cmd_sn: Serial) -> Turn {
        let ahead = cmd_sn.past(self.exp_cmd_sn);
        if ahead == 0 && cmd_sn.past(self.max_cmd_sn) <= 0 {
            Turn::Now
        } else if ahead < 0
            || cmd_sn.past(self.max_cmd_sn) > 0
            || self.held.iter().any(|held| held.cmd_sn == cmd_sn)
        {
            Turn::Never
        } else {
            Turn::Later
        }
    }

    /// RFC 7143, 4.2.2.1: "iSCSI performs ordered command delivery": it waits for those before it.
    fn hold(&mut self, cmd_sn: Serial, header: &Header, additional: &[u8], data: Vec<u8>) {
        let octets = |held: &Held| held.pdu.as_ref().map_or(0, |(_, more, data)| more.len() + data.len());
        let kept: usize = self.held.iter().map(octets).sum();
        if kept + data.len() + additional.len() > MOST_HELD || self.held.len() >= MOST_TASKS as usize {
            return self.misbehaved(Misbehaviour::OutOfOrder);
        }
        self.held.push(Held { cmd_sn, pdu: Some((*header, additional.to_vec(), data)) });
    }

    /// Takes up what was held, as far as it is its turn.
    pub(super) fn replay(&mut self, now: Time) {
        while let Some(at) = self.held.iter().position(|held| held.cmd_sn == self.exp_cmd_sn) {
            match self.held.swap_remove(at).pdu {
                Some((header, additional, data)) => {
                    let before = self.exp_cmd_sn;
                    self.dispatch(&header, &additional, data, now);
                    if self.exp_cmd_sn == before {
                        return;
                    }
                }
                None => {
                    self.exp_cmd_sn = self.exp_cmd_sn.plus(1);
                    self.max_cmd_sn = self.max_cmd_sn.plus(1);
                }
            }
        }
    }

    /// Answers a PDU with itself.
    pub(super) fn reject(&mut self, header: &Header, reason: RejectReason) {
        self.rejects += 1;
        if self.rejects > MOST_REJECTS {
            let malformed = FromInitiator::parse(header).err().unwrap_or(Malformed::Opcode(header[0] & 0x3f));
            return self.misbehaved(Misbehaviour::Header(malformed));
        }
        let data = Bytes::copy_from_slice(header);
        let reject = Reject { reason, windows: Windows::default(), data_sn: Serial(0) };
        self.say_with(FromTarget::Reject(reject), data);
    }

    /// RFC 7143, 11.18: a NOP-Out with a task tag is answered with the same data; one with a transfer tag answers
    /// ours, and that it came is all there is to it.
    fn pinged_by(&mut self, ping: &NopOut, data: Vec<u8>) {
        if ping.itt == Tag::NONE {
            return;
        }
        let mut data = data;
        data.truncate(self.parameters.max_send as usize);
        let pdu = NopIn { lun: ping.lun, itt: ping.itt, ttt: Tag::NONE, windows: Windows::default() };
        self.say_with(FromTarget::NopIn(pdu), data);
    }

    fn logout(&mut self, logout: &Logout, header: &Header) {
        let answer = match logout.reason {
            LogoutReason::CloseSession => LogoutAnswer::Closed,
            LogoutReason::CloseConnection if logout.cid == self.cid => LogoutAnswer::Closed,
            LogoutReason::CloseConnection => LogoutAnswer::CidNotFound,
            // RFC 7143, 11.15.1: connection recovery is for error recovery level 2.
            LogoutReason::RemoveForRecovery => LogoutAnswer::RecoveryNotSupported,
            LogoutReason::Other(_) => return self.reject(header, RejectReason::InvalidField),
        };
        self.say(FromTarget::Logout(LogoutResponse {
            answer,
            itt: logout.itt,
            windows: Windows::default(),
            time2wait: self.parameters.time2wait,
            time2retain: 0,
        }));
        if answer == LogoutAnswer::Closed {
            self.close(Why::LoggedOut);
        }
    }

    /// RFC 7143, 11.10 and Appendix C.
    fn text(&mut self, request: &Text, header: &Header, data: &[u8]) {
        if request.itt == Tag::NONE || request.last && request.more {
            return self.reject(header, RejectReason::InvalidField);
        }
        if request.ttt != Tag::NONE {
            let open = self.text.take_if(|text| text.itt == request.itt && text.ttt == request.ttt);
            let Some(open) = open else { return self.reject(header, RejectReason::InvalidField) };
            if !open.rest.is_empty() {
                return self.text_out(request, open.rest);
            }
        } else {
            // RFC 7143, 11.10.4: a request without a transfer tag begins anew.
            self.text = None;
            self.gather = text::Gather::default();
        }
        let pairs = match self.gather.push(data, request.more) {
            Ok(Some(pairs)) => pairs,
            Ok(None) => return self.text_open(request),
            Err(malformed) => return self.misbehaved(Misbehaviour::Text(malformed)),
        };
        let mut answers = match self.negotiation.handle(&pairs, keys::Stage::FullFeature) {
            Ok(answers) => answers,
            Err(refused) => return self.misbehaved(Misbehaviour::Keys(refused)),
        };
        self.parameters.max_send = self.negotiation.parameters().max_send;
        for pair in pairs.iter().filter(|pair| pair.key == "SendTargets") {
            answers.extend(self.send_targets(&pair.value));
        }
        self.text_out(request, text::emit(&answers).into());
    }

    /// Names with the address that this connection itself came by: others may not be reachable from there, or
    /// not be the initiator's to know.
    fn send_targets(&self, which: &str) -> Vec<Pair> {
        let discovery = self.parameters.session == SessionType::Discovery;
        let named = |name: &String| which.is_empty() || name.eq_ignore_ascii_case(which);
        let names: Vec<String> = match (&self.target, &self.initiator) {
            (None, Some(initiator)) => {
                let all = self.targets.names(initiator, self.user.as_deref(), self.link);
                all.into_iter().filter(|name| which == "All" || named(name)).collect()
            }
            // RFC 7143, Appendix C: in an operational session an empty value asks for "the target to which the
            // session is logged in", and others MUST NOT be returned.
            (Some(target), _) => Some(target.clone()).into_iter().filter(|name| named(name)).collect(),
            (None, None) => Vec::new(),
        };
        // Appendix C: "All" is for discovery sessions, an empty value for operational ones.
        if which == "All" && !discovery || which.is_empty() && discovery {
            return vec![Pair::new("SendTargets", "Reject")];
        }
        let portal = SocketAddr::new(self.link.portal.ip().to_canonical(), self.link.portal.port());
        let address = format!("{portal},{}", super::PORTAL_GROUP);
        let both = |name| [Pair::new("TargetName", name), Pair::new("TargetAddress", &address)];
        names.into_iter().flat_map(both).collect()
    }

    /// As much of a text as the other end takes at once; the rest when it asks for it.
    fn text_out(&mut self, request: &Text, mut octets: Bytes) {
        let now = octets.split_to(octets.len().min(self.parameters.max_send as usize));
        let more = !octets.is_empty();
        let last = request.last && !more;
        let ttt = if last { Tag::NONE } else { self.next_ttt() };
        if !last {
            self.text = Some(PendingText { itt: request.itt, ttt, rest: octets });
        }
        let pdu =
            TextResponse { last, more, lun: request.lun, itt: request.itt, ttt, windows: Windows::default() };
        self.say_with(FromTarget::Text(pdu), now);
    }

    fn text_open(&mut self, request: &Text) {
        let ttt = self.next_ttt();
        self.text = Some(PendingText { itt: request.itt, ttt, rest: Bytes::new() });
        let (lun, itt) = (request.lun, request.itt);
        self.say(FromTarget::Text(TextResponse {
            last: false,
            more: false,
            lun,
            itt,
            ttt,
            windows: Windows::default(),
        }));
    }

    pub(super) fn answer_management(&mut self, itt: Tag, answer: TaskAnswer) {
        let windows = Windows::default();
        self.say(FromTarget::TaskResponse(crate::pdu::TaskResponse { answer, itt, windows }));
    }

    /// The next piece of a task's data may be sent.
    pub(super) fn queue(&mut self, id: TaskId) {
        self.out.push_back(Out::Task(id));
    }
}
