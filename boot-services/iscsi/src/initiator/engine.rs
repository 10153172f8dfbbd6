//! The machine: connections come and go, operations stay until they are over.

use super::{
    Disk, Event, Failure, MOST_DEPTH, MOST_OPERATIONS, NotTaken, Operation, OperationId, Sense, Settings,
    Transmit, Why,
    disk::{Holes, Next, Probe, Question},
    intake::{Intake, Piece},
    job::{Job, Purpose},
    login::{Login, Step},
    retry::{GOOD, put_off},
    session::{Ended, Session},
};
use crate::{
    chap::Nonce,
    pdu::{FromTarget, LoginResponse, Serial},
};
use bytes::Bytes;
use sansio::Time;
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// The most that a login response's text may have in one PDU.
const MOST_LOGIN_DATA: usize = 8192;
/// How long a logout may take.
const LOGOUT: Duration = Duration::from_secs(10);
/// A connection that was of use for so long ends a row of losses.
const LASTED: Duration = Duration::from_secs(10);
/// The first wait before a connection is tried again; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(8);

#[derive(Debug)]
enum Phase {
    /// Until it is time to connect.
    Waiting(Time),
    /// The driver was told to connect.
    Connecting,
    LoggingIn {
        login: Box<Login>,
        response: Option<(LoginResponse, Vec<u8>)>,
        deadline: Time,
    },
    LoggedIn(Box<Session>),
    Over,
}

/// The initiator; see the module's description.
#[derive(Debug)]
pub struct Initiator {
    settings: Settings,
    phase: Phase,
    intake: Intake,
    out: VecDeque<Transmit>,
    events: VecDeque<Event>,

    /// What was seen on this connection.
    probe: Option<Probe>,
    /// Seen on some connection.
    disk: Option<Disk>,
    jobs: BTreeMap<u64, Job>,
    /// Jobs that wait to be sent, in this order.
    waiting: VecDeque<u64>,
    next_key: u64,
    zeros: Bytes,

    losses: u32,
    /// Since when the disk has been known on this connection.
    ready: Option<Time>,
    /// Event::Over was told.
    ended: bool,
    /// The caller wants no more.
    leaving: bool,
    leave_by: Option<Time>,
}

impl Initiator {
    /// Wants to be connected at once.
    pub fn new(settings: Settings, now: Time) -> Initiator {
        let settings = Settings { depth: settings.depth.clamp(1, MOST_DEPTH), ..settings };
        let mut initiator = Initiator {
            settings,
            phase: Phase::Waiting(now),
            intake: Intake::new(),
            out: VecDeque::new(),
            events: VecDeque::new(),
            probe: None,
            disk: None,
            jobs: BTreeMap::new(),
            waiting: VecDeque::new(),
            next_key: 0,
            zeros: Bytes::new(),
            losses: 0,
            ready: None,
            ended: false,
            leaving: false,
            leave_by: None,
        };
        initiator.handle_timeout(now);
        initiator
    }

    /// The disk, once it was seen.
    pub fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }

    /// How many more operations may be submitted now.
    pub fn room(&self) -> usize {
        let ready = self.disk.is_some() && !self.leaving && !matches!(self.phase, Phase::Over);
        if ready { MOST_OPERATIONS.saturating_sub(self.callers()) } else { 0 }
    }

    /// How many operations are submitted and not over.
    pub fn pending(&self) -> usize {
        self.callers()
    }

    fn callers(&self) -> usize {
        self.jobs.values().filter(|job| matches!(job.purpose, Purpose::Caller(_))).count()
    }

    /// Takes an operation; [`Event::Done`] says when it is over, whatever becomes of the connection.
    ///
    /// # Errors
    /// It is not taken, and nothing will be told of it.
    pub fn submit(&mut self, operation: Operation) -> Result<OperationId, NotTaken> {
        let Some(disk) = &self.disk else { return Err(NotTaken::NotReady) };
        if self.leaving || matches!(self.phase, Phase::Over) {
            return Err(NotTaken::NotReady);
        }
        if self.callers() >= MOST_OPERATIONS {
            return Err(NotTaken::Full);
        }
        disk.takes(&operation)?;
        let key = self.add(Purpose::Caller(operation));
        self.waiting.push_back(key);
        Ok(OperationId(key))
    }

    fn add(&mut self, purpose: Purpose) -> u64 {
        let key = self.next_key;
        self.next_key += 1;
        self.jobs.insert(key, Job::new(purpose));
        key
    }

    /// Finishes what was submitted, then logs out; [`Event::Over`] says when.
    pub fn log_out(&mut self, now: Time) {
        self.leaving = true;
        self.leave_when_idle(now);
    }

    /// Ends at once: what is under way fails with [`Failure::Stopped`].
    pub fn stop(&mut self) {
        self.over(Why::LoggedOut, &Failure::Stopped);
    }

    /// The stream is there; `nonce` is drawn anew for each connection.
    pub fn handle_connected(&mut self, nonce: Nonce, now: Time) {
        if !matches!(self.phase, Phase::Connecting) {
            return;
        }
        self.intake = Intake::new();
        let (login, request, text) = Login::new(&self.settings, nonce, Serial(1));
        self.out.push_back(Transmit::new(&request, text.into(), false, false));
        let deadline = now + self.settings.login;
        self.phase = Phase::LoggingIn { login: Box::new(login), response: None, deadline };
    }

    /// The stream ended or broke, or could not be had; `why` is told again in [`Event::Lost`].
    pub fn handle_disconnected(&mut self, why: &str, now: Time) {
        if matches!(self.phase, Phase::Connecting | Phase::LoggingIn { .. } | Phase::LoggedIn(_)) {
            self.lose(Why::Disconnected(why.chars().take(200).collect()), now);
        }
    }

    /// Octets of the stream, any number of them.
    pub fn handle_bytes(&mut self, mut octets: &[u8], now: Time) {
        while !octets.is_empty() {
            match &mut self.phase {
                Phase::LoggingIn { .. } => {
                    if let Err(why) = self.handle_login(&mut octets, now) {
                        return self.lose(why, now);
                    }
                }
                Phase::LoggedIn(session) => {
                    let result = session.handle_bytes(&mut self.intake, &mut octets, now);
                    // What was answered before the fault was answered.
                    self.settle(now);
                    if let Err(why) = result {
                        return self.lose(why, now);
                    }
                    self.leave_when_idle(now);
                }
                Phase::Waiting(_) | Phase::Connecting | Phase::Over => return,
            }
        }
    }

    fn handle_login(&mut self, octets: &mut &[u8], now: Time) -> Result<(), Why> {
        let Phase::LoggingIn { login, response, .. } = &mut self.phase else { return Ok(()) };
        while let Some(piece) = self.intake.next(octets).map_err(Why::Garbled)? {
            match piece {
                Piece::Header(FromTarget::Login(header), _) => *response = Some((header, Vec::new())),
                Piece::Header(FromTarget::Reject(reject), _) => return Err(Why::Rejected(reject.reason)),
                Piece::Header(..) => return Err(Why::Protocol("it answers a login with something else")),
                Piece::Data(data) => {
                    if let Some((_, kept)) = response {
                        let room = MOST_LOGIN_DATA.saturating_sub(kept.len());
                        kept.extend_from_slice(&data[..data.len().min(room)]);
                    }
                }
                Piece::End => {
                    let Some((header, data)) = response.take() else { continue };
                    match login.handle(&header, &data)? {
                        Step::Send(request, text) => {
                            self.out.push_back(Transmit::new(&request, text.into(), false, false));
                        }
                        Step::Done(parameters) => {
                            let agreed =
                                (parameters.header_digest, parameters.data_digest, parameters.max_recv);
                            self.intake.agreed(agreed.0, agreed.1, agreed.2);
                            let exp_stat_sn = login.exp_stat_sn();
                            let session = Session::new(
                                parameters,
                                self.settings.lun,
                                Serial(1),
                                exp_stat_sn,
                                &header.windows,
                                now,
                            );
                            self.phase = Phase::LoggedIn(Box::new(session));
                            self.begin_probe();
                            return Ok(());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn begin_probe(&mut self) {
        self.probe = Some(Probe::default());
        self.ask(Question::Ready);
    }

    fn ask(&mut self, question: Question) {
        let key = self.add(Purpose::Probe(question));
        self.waiting.push_front(key);
    }

    /// What to send next; none when there is nothing to send now.
    pub fn poll_transmit(&mut self, now: Time) -> Option<Transmit> {
        if let Some(transmit) = self.out.pop_front() {
            return Some(transmit);
        }
        loop {
            let Phase::LoggedIn(session) = &mut self.phase else { return None };
            if let Some(transmit) = session.poll_urgent() {
                return Some(transmit);
            }
            let Some(key) = self.next_job(now) else { break };
            let Phase::LoggedIn(session) = &mut self.phase else { return None };
            let unknown = Disk::default();
            let disk = self.disk.as_ref().unwrap_or(&unknown);
            let Some(job) = self.jobs.get_mut(&key) else { continue };
            match job.command(disk, &mut self.zeros) {
                Some(command) => return Some(session.start(key, command, now)),
                None => self.finish(key, Ok(Bytes::new())),
            }
        }
        let Phase::LoggedIn(session) = &mut self.phase else { return None };
        session.poll_solicited(now)
    }

    /// The next job that may be sent now, out of the queue.
    fn next_job(&mut self, now: Time) -> Option<u64> {
        let Phase::LoggedIn(session) = &self.phase else { return None };
        if !session.has_room(self.settings.depth) {
            return None;
        }
        let probing = self.probe.is_some();
        let may_go = |key: &u64| {
            self.jobs.get(key).is_some_and(|job| {
                job.not_before.is_none_or(|at| at <= now)
                    && (!probing || matches!(job.purpose, Purpose::Probe(_)))
            })
        };
        let at = self.waiting.iter().position(may_go)?;
        self.waiting.remove(at)
    }

    /// What there is to know or to do, in its order.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Initiator::handle_timeout`] should be called.
    pub fn poll_timeout(&self) -> Option<Time> {
        match &self.phase {
            Phase::Waiting(until) => Some(*until),
            Phase::Connecting | Phase::Over => None,
            Phase::LoggingIn { deadline, .. } => Some(*deadline),
            Phase::LoggedIn(session) => {
                let put_off = self.waiting.iter().filter_map(|key| self.jobs.get(key)?.not_before);
                let own = [self.leave_by, session.asked_to_leave].into_iter().flatten();
                let first = session.deadline(self.settings.silence, self.settings.patience);
                Some(put_off.chain(own).fold(first, Time::min))
            }
        }
    }

    /// It is `now`; calling early does no harm.
    pub fn handle_timeout(&mut self, now: Time) {
        match &mut self.phase {
            Phase::Waiting(until) if *until <= now => {
                self.phase = Phase::Connecting;
                self.events.push_back(Event::Connect);
            }
            Phase::LoggingIn { deadline, .. } if *deadline <= now => self.lose(Why::LoginTimeout, now),
            Phase::LoggedIn(session) => {
                let due = |at: &Option<Time>| at.is_some_and(|at| at <= now);
                let result = if due(&self.leave_by) {
                    Err(Why::LoggedOut)
                } else if due(&session.asked_to_leave) {
                    Err(Why::AskedToLeave)
                } else {
                    session.handle_timeout(self.settings.silence, self.settings.patience, now)
                };
                if let Err(why) = result {
                    return self.lose(why, now);
                }
                // Those that may go now need no deadline any more.
                for key in &self.waiting {
                    if let Some(job) = self.jobs.get_mut(key)
                        && due(&job.not_before)
                    {
                        job.not_before = None;
                    }
                }
            }
            _ => {}
        }
    }

    /// Takes what commands ended with.
    fn settle(&mut self, now: Time) {
        loop {
            let Phase::LoggedIn(session) = &mut self.phase else { return };
            match session.ended.pop_front() {
                Some(ended) => self.handle_ended(ended, now),
                None => return,
            }
        }
    }

    fn handle_ended(&mut self, ended: Ended, now: Time) {
        let Ended { key, status, sense, data, unmoved } = ended;
        let Some(job) = self.jobs.get_mut(&key) else { return };
        if let Some(wait) = put_off(status, sense, job.put_off) {
            job.put_off += 1;
            job.sent = job.sent.saturating_sub(1);
            job.not_before = wait.map(|wait| now + wait);
            return self.waiting.push_front(key);
        }
        let good = status == Some(GOOD);
        if let Purpose::Probe(question) = job.purpose {
            self.jobs.remove(&key);
            return self.answered(question, if good { Ok(&data) } else { Err(sense) }, now);
        }
        if good {
            let (expected, came) = (job.expected(), u32::try_from(data.len()).unwrap_or(u32::MAX));
            self.losses = 0;
            if came < expected || unmoved > 0 {
                let (expected, came) = if expected > 0 { (expected, came) } else { (unmoved, 0) };
                self.finish(key, Err(Failure::Short { expected, came }));
            } else if job.advance() {
                self.finish(key, Ok(data));
            } else {
                self.waiting.push_front(key);
            }
            return;
        }
        if job.is_zero() && self.lower_holes(sense) {
            return self.waiting.push_front(key);
        }
        self.losses = 0;
        self.finish(key, Err(status.map_or(Failure::Target, |status| Failure::Status(status, sense))));
    }

    /// The way in which zeros were made is none of the target's: takes the next. INVALID COMMAND OPERATION CODE,
    /// INVALID FIELD IN CDB.
    fn lower_holes(&mut self, sense: Option<Sense>) -> bool {
        let refused =
            sense.is_some_and(|sense| sense.key == 5 && matches!(sense.code, (0x20 | 0x24 | 0x26, _)));
        let Some(disk) = self.disk.as_mut().filter(|disk| refused && disk.holes != Holes::Write) else {
            return false;
        };
        disk.holes = if disk.holes == Holes::Unmap { Holes::Same } else { Holes::Write };
        true
    }

    fn answered(&mut self, question: Question, answer: Result<&[u8], Option<Sense>>, now: Time) {
        let Some(probe) = &mut self.probe else { return };
        match probe.handle(question, answer) {
            Next::Ask(question) => self.ask(question),
            Next::Unfit(why) => self.lose(Why::Unfit(why), now),
            Next::Known(disk) => {
                self.probe = None;
                match &mut self.disk {
                    Some(known) if !known.is(&disk) => return self.lose(Why::OtherDisk, now),
                    // What it refused once it refuses again.
                    Some(_) => {}
                    unknown => *unknown = Some(*disk.clone()),
                }
                self.ready = Some(now);
                self.events.push_back(Event::Ready(*disk));
                self.leave_when_idle(now);
            }
        }
    }

    fn finish(&mut self, key: u64, result: Result<Bytes, Failure>) {
        if let Some(job) = self.jobs.remove(&key)
            && matches!(job.purpose, Purpose::Caller(_))
        {
            self.events.push_back(Event::Done { id: OperationId(key), result });
        }
    }

    /// Goes on with a logout, the caller's or the one that the target asked for.
    fn leave_when_idle(&mut self, now: Time) {
        let done = self.leaving && self.callers() == 0;
        match &mut self.phase {
            Phase::LoggedIn(session) => {
                if done {
                    session.leave();
                    self.leave_by.get_or_insert(now + LOGOUT);
                }
                if session.left {
                    let why = if done { Why::LoggedOut } else { Why::AskedToLeave };
                    self.lose(why, now);
                }
            }
            // There is nobody to log out from.
            Phase::Waiting(_) | Phase::Connecting | Phase::LoggingIn { .. } if done => {
                self.over(Why::LoggedOut, &Failure::Stopped)
            }
            _ => {}
        }
    }

    /// The connection is at its end; what was not answered waits for the next.
    fn lose(&mut self, why: Why, now: Time) {
        // What was seen first is why; a stream may hold more faults than one.
        if matches!(self.phase, Phase::Waiting(_) | Phase::Over) {
            return;
        }
        let mut away = Duration::ZERO;
        if let Phase::LoggedIn(session) = &self.phase {
            away = session.away;
            for key in session.unanswered().rev() {
                self.waiting.push_front(key);
            }
        }
        let jobs = &mut self.jobs;
        jobs.retain(|_, job| matches!(job.purpose, Purpose::Caller(_)));
        self.waiting.retain(|key| jobs.contains_key(key));
        self.probe = None;
        self.out.clear();
        // A connection that lasted is no sign of trouble that goes on.
        if self.ready.take().is_some_and(|since| now.since(since) >= LASTED) {
            self.losses = 0;
        }
        self.losses += 1;
        self.phase = Phase::Over;
        self.events.push_back(Event::Lost { why: why.clone(), losses: self.losses });
        if self.leaving && self.jobs.is_empty() {
            return self.over(Why::LoggedOut, &Failure::Stopped);
        }
        if why.is_final() || self.losses > self.settings.tries {
            return self.over(why.clone(), &Failure::Lost(why));
        }
        let worn: Vec<u64> = self.worn();
        for key in worn {
            self.waiting.retain(|one| *one != key);
            self.finish(key, Err(Failure::Lost(why.clone())));
        }
        let doubled = FIRST_WAIT.saturating_mul(1 << (self.losses - 1).min(8)).min(LONGEST_WAIT);
        self.phase = Phase::Waiting(now + doubled.max(away));
    }

    /// Operations that were sent too often: it may be they that the target falls over.
    fn worn(&self) -> Vec<u64> {
        let worn = |(key, job): (&u64, &Job)| (job.sent >= self.settings.tries).then_some(*key);
        self.jobs.iter().filter_map(worn).collect()
    }

    fn over(&mut self, why: Why, failure: &Failure) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        self.phase = Phase::Over;
        self.waiting.clear();
        self.out.clear();
        let keys: Vec<u64> = self.jobs.keys().copied().collect();
        for key in keys {
            self.finish(key, Err(failure.clone()));
        }
        self.events.push_back(Event::Over(why));
    }
}
