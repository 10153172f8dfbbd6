//! Asking, in an active session.

use super::{Console, Event, Job, LONGEST_WAIT, Privilege, Purpose, Stage, wait};
use crate::Command;
use crate::codec::{BMC_ADDRESS, CONSOLE_ADDRESS, LanMessage, Packet};
use crate::crypto::{Exchange, Keys};
use crate::error::{Failure, Misbehaviour};
use crate::window::Window;
use core::time::Duration;
use ipmi_rs_core::connection::NetFn;
use sansio::Time;

/// How often a BMC may say that it is busy.
const BUSY_TRIES: u8 = 6;
const BUSY_WAIT: Duration = Duration::from_millis(100);
/// How long the answer to a command is waited for that must not be sent twice.
const ONLY_WAIT: Duration = Duration::from_secs(5);

pub(super) struct Session {
    keys: Keys,
    console_session: [u8; 4],
    bmc_session: [u8; 4],
    /// The last session sequence number that was sent.
    sequence: u32,
    seen: Window,
    request_sequence: u8,
    pub(super) asked: Option<Asked>,
    /// When the BMC was last heard.
    pub(super) heard: Time,
    /// The privilege level is set.
    pub(super) up: bool,
}

pub(super) struct Asked {
    pub(super) job: Job,
    message: LanMessage,
    tries: u8,
    pub(super) due: Time,
}

impl Session {
    pub(super) fn new(exchange: &Exchange, now: Time) -> Session {
        Session {
            keys: exchange.keys(),
            console_session: exchange.console_session,
            bmc_session: exchange.bmc_session,
            sequence: 0,
            // A BMC may be as far ahead as it likes: what it signs with this session's key is not old.
            seen: Window::new(i32::MAX as u32),
            request_sequence: 0,
            asked: None,
            heard: now,
            up: false,
        }
    }

    /// A Close Session; for a session that is not used any more.
    pub(super) fn close(&self, iv: [u8; 16]) -> Vec<u8> {
        let message = request(0x3f, NetFn::App.request_value(), 0x3c, self.bmc_session.to_vec());
        self.keys.seal(self.bmc_session, self.sequence.wrapping_add(1).max(1), &message.bytes(), iv)
    }

    fn seal(&mut self, message: &LanMessage, iv: [u8; 16]) -> Vec<u8> {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.keys.seal(self.bmc_session, self.sequence, &message.bytes(), iv)
    }

    /// The answer to what is being asked.
    fn receive(&mut self, packet: &Packet<'_>) -> Result<(Asked, LanMessage), Misbehaviour> {
        let Packet::Framed(frame) = packet else {
            return Err(Misbehaviour::NotSealed);
        };
        if frame.session != self.console_session {
            return Err(Misbehaviour::OtherSession);
        }
        let payload = self.keys.open(frame)?;
        if !self.seen.take(frame.sequence) {
            return Err(Misbehaviour::Replayed);
        }
        let answer = LanMessage::parse(&payload)?;
        let answers = |asked: &mut Asked| {
            let question = &asked.message;
            (answer.netfn, answer.command, answer.sequence)
                == (question.netfn | 1, question.command, question.sequence)
                && !answer.data.is_empty()
        };
        match self.asked.take_if(answers) {
            Some(asked) => Ok((asked, answer)),
            None => Err(Misbehaviour::NotAsked),
        }
    }
}

fn request(sequence: u8, netfn: u8, command: u8, data: Vec<u8>) -> LanMessage {
    LanMessage { to: BMC_ADDRESS, netfn, from: CONSOLE_ADDRESS, sequence, command, data }
}

/// Section 22.18.
fn set_privilege(privilege: Privilege) -> Command {
    Command::Raw { netfn: NetFn::App, command: 0x3b, data: vec![privilege.byte()] }
}

/// Completion codes that mean "not now", and what was asked was not done.
fn is_busy(code: u8, twice_is_once: bool) -> bool {
    // Node busy; firmware update mode and initialization in progress (table 5-2).
    matches!(code, 0xc0 | 0xd1 | 0xd2) || code == 0xc3 && twice_is_once
}

impl Console {
    pub(super) fn begin_session(&mut self, now: Time, exchange: &Exchange) {
        self.stage = Stage::Session(Box::new(Session::new(exchange, now)));
        // "Upon completion of session activation the privilege level is set to USER" (section 22.18).
        self.queue.push_front(Job::new(Purpose::Privilege, set_privilege(self.role)));
    }

    /// Asks the next thing, when it is time.
    pub(super) fn proceed(&mut self, now: Time) {
        let Stage::Session(session) = &mut self.stage else { return };
        if session.asked.is_some() {
            return;
        }
        if self.queue.is_empty() && now >= session.heard + self.config.keep_alive {
            self.queue.push_back(Job::new(Purpose::KeepAlive, Command::GetDeviceId));
        }
        if now < self.quiet_until {
            return;
        }
        let Some(job) = self.queue.pop_front() else { return };
        session.request_sequence = (session.request_sequence + 1) & 0x3f;
        let message = job.command.message();
        let message =
            request(session.request_sequence, message.netfn_raw(), message.cmd(), message.data().to_vec());
        self.out.push_back(session.seal(&message, self.random.bytes()));
        self.quiet_until = now + self.config.pace;
        self.thrown_away = None;
        let due = now + if job.twice_is_once() { wait(self.config.first_wait, 0) } else { ONLY_WAIT };
        session.asked = Some(Asked { job, message, tries: 1, due });
    }

    /// Repeats what is being asked, or gives the session up for lost.
    pub(super) fn session_unanswered(&mut self, now: Time) {
        let Stage::Session(session) = &mut self.stage else { return };
        let Some(mut asked) = session.asked.take() else { return };
        if !asked.job.twice_is_once() {
            let failure = self.unanswered(asked.job.command.name(), asked.tries);
            return self.reply(&asked.job, Err(failure));
        }
        if asked.tries < self.config.tries {
            asked.due = now + wait(self.config.first_wait, asked.tries);
            asked.tries += 1;
            // Section 6.12.12: a retransmission has a new session sequence number; its rqSeq stays.
            self.out.push_back(session.seal(&asked.message, self.random.bytes()));
            session.asked = Some(asked);
            return;
        }
        let was_up = session.up;
        let failure = self.unanswered(asked.job.command.name(), asked.tries);
        let mut job = asked.job;
        if matches!(job.purpose, Purpose::Caller(_)) {
            if job.reopened {
                self.reply(&job, Err(failure.clone()));
                return self.down(failure);
            }
            job.reopened = true;
            self.queue.push_front(job);
        }
        if was_up {
            self.handshakes = 0;
        }
        self.again(now, failure);
    }

    pub(super) fn handle_session(&mut self, now: Time, packet: Packet<'_>) -> Result<(), Misbehaviour> {
        let Stage::Session(session) = &mut self.stage else { return Err(Misbehaviour::NotAsked) };
        let (asked, answer) = session.receive(&packet)?;
        session.heard = now;
        let (code, data) = answer.data.split_first().ok_or(Misbehaviour::Truncated)?;
        let mut job = asked.job;
        if is_busy(*code, job.twice_is_once()) {
            job.busy += 1;
            let command = job.command.name();
            if job.busy < BUSY_TRIES {
                self.quiet_until = now + wait(BUSY_WAIT, job.busy - 1).min(LONGEST_WAIT);
                self.queue.push_front(job);
            } else if job.purpose == Purpose::Privilege {
                self.down(Failure::Busy { command: "Set Session Privilege Level", tries: BUSY_TRIES });
            } else {
                self.reply(&job, Err(Failure::Busy { command, tries: BUSY_TRIES }));
            }
            return Ok(());
        }
        match job.purpose {
            Purpose::KeepAlive => {}
            Purpose::Privilege => self.privilege_answered(*code),
            Purpose::Caller(_) => {
                let result = match code {
                    0x00 => job.command.parse(data).map_err(Failure::PeerMisbehaved),
                    0xd4 => Err(Failure::NoPrivilege),
                    code => Err(Failure::Refused { command: job.command.name(), code: *code }),
                };
                self.reply(&job, result);
            }
        }
        Ok(())
    }

    fn privilege_answered(&mut self, code: u8) {
        let Stage::Session(session) = &mut self.stage else { return };
        match code {
            0x00 => {
                session.up = true;
                self.proven = Some((self.suite, self.role));
                self.handshakes = 0;
                self.events.push_back(Event::Up { suite: self.suite, privilege: self.role });
            }
            // Not available to the user, or above its or the channel's limit (section 22.18).
            0x80 | 0x81 | 0xd4 if self.role == Privilege::Administrator => {
                self.role = Privilege::Operator;
                self.queue.push_front(Job::new(Purpose::Privilege, set_privilege(self.role)));
            }
            0x80 | 0x81 | 0xd4 => self.down(Failure::NoPrivilege),
            code => self.down(Failure::Refused { command: "Set Session Privilege Level", code }),
        }
    }
}
