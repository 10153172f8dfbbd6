//! The full feature phase: commands, their data and answers, and what else a target says.

use super::{
    Why,
    command::{Command, Data},
    intake::{Intake, Piece},
    sense::Sense,
    task::Task,
    transmit::Transmit,
};
use crate::{
    keys::Parameters,
    pdu::{
        AsyncEvent, FromInitiator, FromTarget, Logout, LogoutReason, Lun, NopIn, NopOut, Residual, Serial,
        Tag, Windows,
    },
};
use bytes::Bytes;
use sansio::Time;
use std::{collections::VecDeque, time::Duration};

/// The most answers to pings that wait to be sent.
const MOST_PONGS: usize = 8;
/// The most of a response's data that is kept: sense data and little else.
const MOST_KEPT: usize = 4096;

/// How a command ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) key: u64,
    /// None: the target failed to carry it out at all.
    pub(super) status: Option<u8>,
    pub(super) sense: Option<Sense>,
    pub(super) data: Bytes,
    /// Octets that were to be transferred and were not: the residual count of an underflow.
    pub(super) unmoved: u32,
}

/// The PDU whose data are coming in.
#[derive(Debug)]
enum Incoming {
    None,
    /// Its data go to the task.
    DataIn(Tag, Option<(u8, Residual)>),
    /// Its data are kept.
    Other(FromTarget, Vec<u8>),
}

#[derive(Debug)]
pub(super) struct Session {
    parameters: Parameters,
    lun: Lun,
    tasks: Vec<Task>,
    next_tag: u32,
    cmd_sn: Serial,
    exp_stat_sn: Serial,
    max_cmd_sn: Serial,
    exp_cmd_sn: Serial,
    urgent: VecDeque<FromInitiator>,
    incoming: Incoming,
    heard: Time,
    pinged: bool,
    /// No new command is to be sent; a logout follows the last answer.
    leaving: bool,
    logout_sent: bool,
    /// The target answered our logout.
    pub(super) left: bool,
    /// The target asks us to log out, at this moment at the latest.
    pub(super) asked_to_leave: Option<Time>,
    /// The target said that it will be away for so long.
    pub(super) away: Duration,
    pub(super) ended: VecDeque<Ended>,
}

impl Session {
    /// Begins where the login ended, with the windows of its last response.
    pub(super) fn new(
        parameters: Parameters,
        lun: Lun,
        cmd_sn: Serial,
        exp_stat_sn: Serial,
        windows: &Windows,
        now: Time,
    ) -> Session {
        let mut session = Session {
            parameters,
            lun,
            tasks: Vec::new(),
            next_tag: 1,
            cmd_sn,
            exp_stat_sn,
            // A target that says nothing else takes one command.
            max_cmd_sn: cmd_sn,
            exp_cmd_sn: cmd_sn,
            urgent: VecDeque::new(),
            incoming: Incoming::None,
            heard: now,
            pinged: false,
            leaving: false,
            logout_sent: false,
            left: false,
            asked_to_leave: None,
            away: Duration::ZERO,
            ended: VecDeque::new(),
        };
        session.widen(windows);
        session
    }

    /// Whether one more command may be sent.
    pub(super) fn has_room(&self, depth: usize) -> bool {
        !self.leaving && self.tasks.len() < depth && self.max_cmd_sn.past(self.cmd_sn) >= 0
    }

    /// The keys of all commands that are not answered, in the order in which they were sent.
    pub(super) fn unanswered(&self) -> impl DoubleEndedIterator<Item = u64> {
        self.tasks.iter().map(|task| task.key)
    }

    /// Sends a command.
    pub(super) fn start(&mut self, key: u64, command: Command, now: Time) -> Transmit {
        let itt = Tag(self.next_tag);
        self.next_tag = self.next_tag.wrapping_add(1) & 0x7fff_ffff;
        let mut task = Task::new(key, itt, command, now);
        let (pdu, data) = task.begin(&self.parameters, self.lun, (self.cmd_sn, self.exp_stat_sn));
        self.cmd_sn = self.cmd_sn.plus(1);
        self.tasks.push(task);
        self.sealed(&pdu, data)
    }

    /// From now on nothing new is sent but, after the last answer, a logout.
    pub(super) fn leave(&mut self) {
        self.leaving = true;
    }

    /// What has to go before new commands: answers to pings, and data that belong right behind their command.
    pub(super) fn poll_urgent(&mut self) -> Option<Transmit> {
        // RFC 7143, 4.2.5.2: unsolicited data go in the order of their commands, so that only the last may have any.
        let (longest, exp_stat_sn) = (self.parameters.max_send, self.exp_stat_sn);
        if let Some((pdu, data)) =
            self.tasks.last_mut().and_then(|task| task.next_unsolicited(longest, exp_stat_sn))
        {
            return Some(self.sealed(&pdu, data));
        }
        if let Some(mut pdu) = self.urgent.pop_front() {
            if let FromInitiator::NopOut(nop) = &mut pdu {
                (nop.cmd_sn, nop.exp_stat_sn) = (self.cmd_sn, self.exp_stat_sn);
            }
            return Some(self.sealed(&pdu, Bytes::new()));
        }
        if self.leaving && self.tasks.is_empty() && !self.logout_sent {
            self.logout_sent = true;
            let pdu = Logout {
                immediate: true,
                reason: LogoutReason::CloseSession,
                itt: Tag(0x8000_0000),
                cid: 0,
                cmd_sn: self.cmd_sn,
                exp_stat_sn: self.exp_stat_sn,
            };
            return Some(self.sealed(&FromInitiator::Logout(pdu), Bytes::new()));
        }
        None
    }

    /// Data that the target asked for; the oldest command's first.
    pub(super) fn poll_solicited(&mut self, now: Time) -> Option<Transmit> {
        let (longest, exp_stat_sn) = (self.parameters.max_send, self.exp_stat_sn);
        let (pdu, data) = self.tasks.iter_mut().find_map(|task| {
            let sent = task.next_solicited(longest, exp_stat_sn)?;
            task.touched = now;
            Some(sent)
        })?;
        Some(self.sealed(&pdu, data))
    }

    fn sealed(&self, pdu: &FromInitiator, data: Bytes) -> Transmit {
        Transmit::new(pdu, data, self.parameters.header_digest, self.parameters.data_digest)
    }

    /// When something must have been heard or a command must have been answered.
    pub(super) fn deadline(&self, silence: Duration, patience: Duration) -> Time {
        let heard = self.heard + if self.pinged { silence } else { silence / 2 };
        self.tasks.iter().map(|task| task.due(patience)).fold(heard, Time::min)
    }

    /// The deadline is reached: pings, or finds the target dead.
    pub(super) fn handle_timeout(
        &mut self,
        silence: Duration,
        patience: Duration,
        now: Time,
    ) -> Result<(), Why> {
        if self.tasks.iter().any(|task| task.due(patience) <= now) {
            return Err(Why::Unanswered);
        }
        if self.heard + silence <= now {
            return Err(Why::Silent);
        }
        if !self.pinged && self.heard + silence / 2 <= now {
            self.pinged = true;
            let ping = NopOut {
                immediate: true,
                lun: self.lun,
                itt: Tag(0x8000_0001),
                ttt: Tag::NONE,
                cmd_sn: self.cmd_sn,
                exp_stat_sn: self.exp_stat_sn,
            };
            self.urgent.push_back(FromInitiator::NopOut(ping));
        }
        Ok(())
    }

    /// Takes all of `octets`.
    pub(super) fn handle_bytes(
        &mut self,
        intake: &mut Intake,
        octets: &mut &[u8],
        now: Time,
    ) -> Result<(), Why> {
        self.heard = now;
        self.pinged = false;
        while let Some(piece) = intake.next(octets).map_err(Why::Garbled)? {
            match piece {
                Piece::Header(pdu, length) => self.begin(pdu, length, now)?,
                Piece::Data(data) => match &mut self.incoming {
                    Incoming::DataIn(itt, _) => {
                        let itt = *itt;
                        if let Some(task) = self.tasks.iter_mut().find(|task| task.itt == itt) {
                            task.take(data);
                        }
                    }
                    Incoming::Other(_, kept) => {
                        let room = MOST_KEPT.saturating_sub(kept.len());
                        kept.extend_from_slice(&data[..data.len().min(room)]);
                    }
                    Incoming::None => {}
                },
                Piece::End => match std::mem::replace(&mut self.incoming, Incoming::None) {
                    Incoming::DataIn(itt, Some((status, residual))) => {
                        self.end(itt, Some(status), None, residual)?
                    }
                    Incoming::Other(pdu, data) => self.handle(pdu, &data, now)?,
                    _ => {}
                },
            }
            if self.left {
                break;
            }
        }
        Ok(())
    }

    fn begin(&mut self, pdu: FromTarget, length: usize, now: Time) -> Result<(), Why> {
        let FromTarget::DataIn(data_in) = pdu else {
            self.incoming = Incoming::Other(pdu, Vec::new());
            return Ok(());
        };
        self.widen(&data_in.windows);
        if data_in.status.is_some() {
            self.counted(&data_in.windows);
        }
        let task = self.tasks.iter_mut().find(|task| task.itt == data_in.itt);
        let task = task.ok_or(Why::Protocol("it sends data of a command that there is not"))?;
        task.handle_data_in(&data_in, length, now).map_err(Why::Protocol)?;
        self.incoming = Incoming::DataIn(data_in.itt, data_in.status);
        Ok(())
    }

    /// RFC 7143, 4.2.2.1: a MaxCmdSN less than ExpCmdSN−1 is passed over, and both only ever grow.
    fn widen(&mut self, windows: &Windows) {
        if windows.max_cmd_sn.past(windows.exp_cmd_sn) < -1 {
            return;
        }
        if windows.exp_cmd_sn.past(self.exp_cmd_sn) > 0 {
            self.exp_cmd_sn = windows.exp_cmd_sn;
        }
        if windows.max_cmd_sn.past(self.max_cmd_sn) > 0 {
            self.max_cmd_sn = windows.max_cmd_sn;
        }
    }

    fn counted(&mut self, windows: &Windows) {
        if windows.stat_sn.past(self.exp_stat_sn) >= 0 {
            self.exp_stat_sn = windows.stat_sn.plus(1);
        }
    }

    fn handle(&mut self, pdu: FromTarget, data: &[u8], now: Time) -> Result<(), Why> {
        match pdu {
            FromTarget::Response(response) => {
                self.widen(&response.windows);
                self.counted(&response.windows);
                // RFC 7143, 11.4.7: two octets of length, then sense data.
                let length = usize::from(u16::from_be_bytes([
                    data.first().copied().unwrap_or(0),
                    data.get(1).copied().unwrap_or(0),
                ]));
                let sense = data.get(2..).and_then(|rest| Sense::parse(&rest[..rest.len().min(length)]));
                let status = (response.response == 0).then_some(response.status);
                self.end(response.itt, status, sense, response.residual)
            }
            FromTarget::R2t(r2t) => {
                self.widen(&r2t.windows);
                let task = self.tasks.iter_mut().find(|task| task.itt == r2t.itt);
                let task = task.ok_or(Why::Protocol("it asks for data of a command that there is not"))?;
                task.handle_r2t(&r2t, &self.parameters, now).map_err(Why::Protocol)
            }
            FromTarget::NopIn(nop) => {
                self.widen(&nop.windows);
                if nop.itt != Tag::NONE {
                    self.counted(&nop.windows);
                }
                self.answer_ping(&nop)
            }
            FromTarget::Async(message) => {
                self.widen(&message.windows);
                self.counted(&message.windows);
                let seconds = |count: u16| Duration::from_secs(count.into());
                match message.event {
                    AsyncEvent::LogoutRequest(within) | AsyncEvent::Negotiate(within) => {
                        self.asked_to_leave.get_or_insert(now + seconds(within.clamp(1, 60)));
                        self.leave();
                    }
                    AsyncEvent::DropConnection(_, wait, _) | AsyncEvent::DropSession(wait, _) => {
                        self.away = seconds(wait.min(60));
                        return Err(Why::Dropped);
                    }
                    AsyncEvent::Sense | AsyncEvent::Other(_) => {}
                }
                Ok(())
            }
            FromTarget::Logout(response) => {
                if !self.logout_sent {
                    return Err(Why::Protocol("it answers a logout that there was not"));
                }
                self.away = Duration::from_secs(response.time2wait.min(60).into());
                self.left = true;
                Ok(())
            }
            FromTarget::Reject(reject) => Err(Why::Rejected(reject.reason)),
            FromTarget::TaskResponse(_)
            | FromTarget::Text(_)
            | FromTarget::Login(_)
            | FromTarget::DataIn(_) => Err(Why::Protocol("it sends an answer that nothing asked for")),
        }
    }

    fn answer_ping(&mut self, nop: &NopIn) -> Result<(), Why> {
        if nop.ttt == Tag::NONE {
            return Ok(());
        }
        if self.urgent.len() >= MOST_PONGS {
            return Err(Why::Protocol("it pings faster than it reads the answers"));
        }
        let pong = NopOut {
            immediate: true,
            lun: nop.lun,
            itt: Tag::NONE,
            ttt: nop.ttt,
            cmd_sn: self.cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
        };
        self.urgent.push_back(FromInitiator::NopOut(pong));
        Ok(())
    }

    fn end(
        &mut self,
        itt: Tag,
        status: Option<u8>,
        sense: Option<Sense>,
        residual: Residual,
    ) -> Result<(), Why> {
        let at = self.tasks.iter().position(|task| task.itt == itt);
        let task = self.tasks.remove(at.ok_or(Why::Protocol("it answers a command that there is not"))?);
        let key = task.key;
        let data = if matches!(task.command.data, Data::In(_)) { task.into_data() } else { Bytes::new() };
        let unmoved = if let Residual::Underflow(count) = residual { count } else { 0 };
        self.ended.push_back(Ended { key, status, sense, data, unmoved });
        Ok(())
    }
}
