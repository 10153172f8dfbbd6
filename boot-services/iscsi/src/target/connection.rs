//! The connection: what it holds, and what the driver sees of it.

use super::{
    Alarm, ConnectionId, Done, Event, Job, Link, Misbehaviour, Place, Session, Targets, TaskId, Want, Why,
    intake::Intake,
    login::Login,
    phase::{Held, Management, PendingText},
    targets::{Abort, Inbox, Notice},
    task::{Seat, Stage, Task},
};
use crate::{
    chap::Nonce,
    keys::{Negotiation, Parameters, SessionType},
    pdu::{Async, AsyncEvent, FromTarget, Isid, Lun, NopIn, Serial, Tag},
    text::Gather,
};
use bytes::Bytes;
use sansio::Time;
use scsi::InitiatorPort;
use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// How many numbered commands may be under way in a session.
pub const MOST_TASKS: u32 = 128;
/// How many immediate ones beside them.
pub(super) const MOST_IMMEDIATE: usize = 8;
/// Octets of a session's commands that may be in memory: data-out of all commands but plain writes.
pub(super) const BUDGET: usize = 1 << 20;
/// Octets of checked data that wait to be stored; beyond, nothing is received.
const MOST_UNSTORED: usize = 512 << 10;
/// PDUs that wait to be sent: when there are so many, no more is taken until some have been polled.
const ENOUGH_OUT: usize = 256;
/// And a peer for which there are so many all the same is cut off.
const MOST_OUT: usize = 2048;
/// RFC 7143 leaves it to the target; nobody needs this long.
const LOGIN_TIME: Duration = Duration::from_secs(15);
/// After so long a silence the initiator is asked whether it is there.
const IDLE: Duration = Duration::from_secs(20);
/// And has so long to answer.
const ANSWER: Duration = Duration::from_secs(20);
/// How long an initiator may take to log out when asked to.
const LOGOUT_TIME: u16 = 10;

pub(super) enum State {
    Login(Box<Login>),
    Full,
    /// Whatever is still to be sent is sent; nothing is received.
    Over,
}

pub(super) enum Out {
    Pdu(FromTarget, Bytes),
    /// The next piece of a task's data.
    Task(TaskId),
}

/// One TCP connection, and the session that is on it.
pub struct Connection<V> {
    pub(super) id: ConnectionId,
    pub(super) link: Link,
    pub(super) targets: Targets<V>,
    pub(super) alarm: Arc<dyn Alarm>,
    inbox: Arc<Inbox<V>>,
    pub(super) state: State,
    pub(super) intake: Intake,
    pub(super) out: VecDeque<Out>,
    pub(super) jobs: VecDeque<Job<V>>,
    pub(super) events: VecDeque<Event>,

    pub(super) initiator: Option<String>,
    pub(super) target: Option<String>,
    /// Who proved himself in a discovery session.
    pub(super) user: Option<String>,
    pub(super) negotiation: Negotiation,
    pub(super) parameters: Parameters,
    pub(super) stat_sn: Serial,
    pub(super) exp_cmd_sn: Serial,
    pub(super) max_cmd_sn: Serial,
    pub(super) held: Vec<Held>,

    pub(super) seats: Vec<Seat<V>>,
    pub(super) tasks: Vec<Task<V>>,
    pub(super) last_task: u64,
    /// A task ended since those that wait were looked at.
    pub(super) ended: bool,
    pub(super) last_ttt: u32,
    pub(super) rejects: u32,
    /// The portal group was told.
    pub(super) told_group: bool,
    /// The connection's own number, as its login gave it.
    pub(super) cid: u16,
    pub(super) isid: Isid,
    pub(super) budget: usize,
    pub(super) unstored: usize,
    pub(super) managements: Vec<Management>,
    pub(super) gather: Gather,
    pub(super) text: Option<PendingText>,

    pub(super) login_by: Option<Time>,
    heard: Time,
    pinged: Option<Time>,
    pub(super) logout_by: Option<Time>,
    pub(super) told: bool,
    pub(super) left: bool,
}

impl<V> Connection<V> {
    /// A connection that was just accepted. `nonce` is drawn anew for each.
    pub fn new(
        targets: &Targets<V>,
        link: Link,
        alarm: Arc<dyn Alarm>,
        nonce: Nonce,
        now: Time,
    ) -> Connection<V> {
        let inbox = Inbox::new();
        let (id, refusal) = targets.join(link, Arc::clone(&alarm), Arc::clone(&inbox));
        Connection {
            id,
            link,
            targets: targets.clone(),
            alarm,
            inbox,
            state: State::Login(Box::new(Login::new(nonce, refusal))),
            intake: Intake::default(),
            out: VecDeque::new(),
            jobs: VecDeque::new(),
            events: VecDeque::new(),
            initiator: None,
            target: None,
            user: None,
            negotiation: Negotiation::target(super::offer()),
            parameters: Parameters::default(),
            stat_sn: Serial(1),
            exp_cmd_sn: Serial(0),
            max_cmd_sn: Serial(0),
            held: Vec::new(),
            seats: Vec::new(),
            tasks: Vec::new(),
            last_task: 0,
            ended: false,
            last_ttt: 0,
            rejects: 0,
            told_group: false,
            cid: 0,
            isid: Isid::default(),
            budget: 0,
            unstored: 0,
            managements: Vec::new(),
            gather: Gather::default(),
            text: None,
            login_by: Some(now + LOGIN_TIME),
            heard: now,
            pinged: None,
            logout_by: None,
            told: false,
            left: false,
        }
    }

    /// Its number, as [`Targets::set`] and [`Targets::remove`] give it.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// What the next octets of the stream are for.
    pub fn want(&self) -> Want<V> {
        if self.unstored >= MOST_UNSTORED {
            return Want::Wait;
        }
        match self.intake.place() {
            Some((id, offset, length)) => match self.task(id).and_then(|task| task.seat.as_ref()) {
                Some(seat) => Want::Place(Place { unit: Arc::clone(&seat.unit), task: id, offset, length }),
                None => Want::Octets(1),
            },
            None => Want::Octets(self.intake.missing()),
        }
    }

    /// Octets of the stream; gives how many were used. It stops short where data belong on a medium
    /// ([`Want::Place`]), at [`Want::Wait`], and where there is much to send.
    pub fn handle_octets(&mut self, octets: &[u8], now: Time) -> usize {
        self.listen(now);
        self.heard(now);
        let mut used = 0;
        while used < octets.len() {
            if matches!(self.state, State::Over) {
                return octets.len();
            }
            let full = self.out.len() >= ENOUGH_OUT && used > 0;
            if full || self.unstored >= MOST_UNSTORED || self.intake.place().is_some() {
                break;
            }
            used += self.take(&octets[used..], now);
            self.go_on(now);
            if self.out.len() > MOST_OUT {
                self.misbehaved(Misbehaviour::Unread);
            }
        }
        used
    }

    /// So many octets of the place that was wanted have been received, and are on the medium or could not be
    /// written.
    pub fn handle_placed(&mut self, count: usize, result: Result<(), scsi::MediumError>, now: Time) {
        self.heard(now);
        let Some((id, _, length)) = self.intake.place() else { return };
        if let (Err(error), Some(task)) = (result, self.task_mut(id))
            && let Stage::Receiving(incoming) = &mut task.stage
        {
            incoming.fail_medium(error);
        }
        self.intake.placed(count.min(length));
        if self.intake.is_done() {
            self.end_segment(now);
        }
        self.go_on(now);
        self.listen(now);
    }

    /// What the medium has to do next.
    pub fn poll_job(&mut self) -> Option<Job<V>> {
        let job = self.jobs.pop_front();
        if let Some(Job::Store { data, .. }) = &job {
            self.unstored -= data.len();
        }
        job
    }

    /// A job is done.
    pub fn handle_done(&mut self, id: TaskId, done: Done, now: Time) {
        self.listen(now);
        self.job_done(id, done, now);
        self.go_on(now);
        self.retire();
    }

    /// What is worth telling.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Connection::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Time> {
        if matches!(self.state, State::Over) {
            return None;
        }
        let idle = match (&self.state, self.pinged) {
            (State::Full, None) => Some(self.heard + IDLE),
            (State::Full, Some(at)) => Some(at + ANSWER),
            _ => None,
        };
        let managements = self.managements.iter().map(|management| management.until).min();
        [self.login_by, self.logout_by, idle, managements].into_iter().flatten().min()
    }

    /// Time has passed; calling early does no harm.
    pub fn handle_timeout(&mut self, now: Time) {
        self.listen(now);
        if matches!(self.state, State::Over) {
            return;
        }
        if self.login_by.is_some_and(|by| by <= now) {
            return self.close(Why::LoginTimeout);
        }
        if self.logout_by.is_some_and(|by| by <= now) {
            return self.close(Why::ShutDown);
        }
        self.managements_due(now);
        if !matches!(self.state, State::Full) {
            return;
        }
        match self.pinged {
            Some(at) if at + ANSWER <= now => {
                self.out.clear();
                self.close(Why::Silent);
            }
            None if self.heard + IDLE <= now => {
                self.pinged = Some(now);
                // RFC 7143, 11.19: a NOP-In that wants an answer has a Target Transfer Tag and no task tag.
                let ttt = self.next_ttt();
                self.say(FromTarget::NopIn(NopIn {
                    lun: Lun(0),
                    itt: Tag::NONE,
                    ttt,
                    windows: Default::default(),
                }));
            }
            _ => {}
        }
    }

    /// Another thread has something for it.
    pub fn handle_alarm(&mut self, now: Time) {
        self.listen(now);
        self.managements_due(now);
        self.duties_due(now);
        self.claim_again(now);
        self.go_on(now);
        self.retire();
    }

    /// The socket ended or broke.
    pub fn handle_end(&mut self, now: Time) {
        self.listen(now);
        self.out.clear();
        self.close(Why::Ended);
    }

    /// Nothing more comes or goes, once [`Connection::poll_transmit`] gives nothing: the socket may be closed
    /// and the connection dropped. A helper that still has a job of it must be waited for before.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over) && self.out.is_empty()
    }

    fn heard(&mut self, now: Time) {
        self.heard = now;
        self.pinged = None;
    }

    /// What the others had to say.
    fn listen(&mut self, now: Time) {
        if !self.inbox.has_any() {
            return;
        }
        for notice in self.inbox.take() {
            match notice {
                Notice::Close(why) => {
                    self.out.clear();
                    self.close(why);
                }
                Notice::AskLogout => self.ask_logout(now),
                Notice::Luns(luns) => self.seat(&luns),
                Notice::Abort(abort) => self.abort_for(&abort),
            }
        }
        self.retire();
    }

    /// Ends the tasks that another session's function means.
    fn abort_for(&mut self, abort: &Abort<V>) {
        let before = self.tasks.len();
        let mut lost = None;
        self.abort_tasks(Some(&abort.token), |task| {
            let Some(seat) = task.seat.as_ref().filter(|_| task.is_of(&abort.unit)) else { return false };
            abort.nexuses.as_ref().is_none_or(|nexuses| nexuses.contains(&seat.nexus))
        });
        if self.tasks.len() < before {
            lost = self.seats.iter().find(|seat| Arc::ptr_eq(&seat.unit, &abort.unit));
        }
        if let (Some(seat), Some(by)) = (lost, abort.cleared_by) {
            seat.unit.logical().tasks_cleared(by, &[seat.nexus]);
        }
    }

    fn ask_logout(&mut self, now: Time) {
        if matches!(self.state, State::Full) && self.logout_by.is_none() {
            self.logout_by = Some(now + Duration::from_secs(u64::from(LOGOUT_TIME)));
            self.say(FromTarget::Async(Async {
                lun: Lun(0),
                windows: Default::default(),
                event: AsyncEvent::LogoutRequest(LOGOUT_TIME),
            }));
        }
    }

    pub(super) fn say(&mut self, pdu: FromTarget) {
        self.out.push_back(Out::Pdu(pdu, Bytes::new()));
    }

    pub(super) fn say_with(&mut self, pdu: FromTarget, data: impl Into<Bytes>) {
        self.out.push_back(Out::Pdu(pdu, data.into()));
    }

    pub(super) fn next_ttt(&mut self) -> Tag {
        self.last_ttt = if self.last_ttt >= u32::MAX - 1 { 1 } else { self.last_ttt + 1 };
        Tag(self.last_ttt)
    }

    pub(super) fn task(&self, id: TaskId) -> Option<&Task<V>> {
        self.tasks.iter().find(|task| task.id == id)
    }

    pub(super) fn task_mut(&mut self, id: TaskId) -> Option<&mut Task<V>> {
        self.tasks.iter_mut().find(|task| task.id == id)
    }

    /// Takes its seat at every unit that it had not.
    pub(super) fn seat(&mut self, luns: &[(scsi::Lun, Arc<super::Unit<V>>)]) {
        let State::Full = self.state else { return };
        for (lun, unit) in luns {
            if !self.seats.iter().any(|seat| seat.lun == *lun) {
                let name = self.initiator.clone().unwrap_or_default();
                let nexus = unit.logical().attach(InitiatorPort { name, isid: self.isid.0 });
                self.seats.push(Seat { lun: *lun, unit: Arc::clone(unit), nexus });
            }
        }
    }

    /// The login is done.
    pub(super) fn begin_full_feature(&mut self, luns: &[(scsi::Lun, Arc<super::Unit<V>>)]) {
        self.state = State::Full;
        self.login_by = None;
        if self.parameters.session == SessionType::Normal {
            self.seat(luns);
        }
        let session = Session {
            connection: self.id,
            initiator: self.initiator.clone().unwrap_or_default(),
            target: self.target.clone(),
            link: self.link,
        };
        self.events.push_back(Event::LoggedIn(session));
    }

    pub(super) fn is_gone(flag: &Arc<std::sync::atomic::AtomicBool>) -> bool {
        flag.load(Ordering::Acquire)
    }
}

impl<V> Drop for Connection<V> {
    fn drop(&mut self) {
        self.close(Why::Ended);
        self.tasks.clear();
        self.retire();
    }
}
