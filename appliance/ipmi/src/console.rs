//! The end that asks.

mod handshake;
mod session;

use crate::codec;
use crate::crypto::{CipherSuite, Random};
use crate::error::{Failure, Misbehaviour};
use crate::{Command, Reply};
use core::{fmt, time::Duration};
use handshake::Flight;
use sansio::Time;
use session::{Asked, Session};
use std::collections::VecDeque;

/// No wait for an answer is longer.
const LONGEST_WAIT: Duration = Duration::from_secs(4);
/// Requests that may wait in a console.
const QUEUE: usize = 32;

/// A user name: at most 16 bytes (section 22.28).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserName(Vec<u8>);

/// A password: at most 20 bytes (section 22.30). Prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Password([u8; 20]);

/// A user name or password that no BMC can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong {
    /// Which of the two.
    pub what: &'static str,
    /// How many bytes it may have.
    pub limit: usize,
}

impl UserName {
    /// Takes a name. Empty is the anonymous user.
    ///
    /// # Errors
    /// More than 16 bytes.
    pub fn new(name: &str) -> Result<UserName, TooLong> {
        if name.len() > 16 {
            return Err(TooLong { what: "user name", limit: 16 });
        }
        Ok(UserName(name.as_bytes().to_vec()))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Password {
    /// Takes a password.
    ///
    /// # Errors
    /// More than 20 bytes.
    pub fn new(text: &str) -> Result<Password, TooLong> {
        let mut key = [0; 20];
        let Some(place) = key.get_mut(..text.len()) else {
            return Err(TooLong { what: "password", limit: 20 });
        };
        place.copy_from_slice(text.as_bytes());
        Ok(Password(key))
    }

    /// Kuid: the password, filled up with zeros.
    pub(crate) fn key(&self) -> [u8; 20] {
        self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a BMC's {} has at most {} bytes: choose a shorter one", self.what, self.limit)
    }
}

impl core::error::Error for TooLong {}

/// How a console goes about it.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who asks.
    pub user: UserName,
    /// With what password.
    pub password: Password,
    /// The cipher suite that is tried first.
    pub suite: CipherSuite,
    /// The one for a BMC that refuses the first.
    pub fallback: Option<CipherSuite>,
    /// At least so long between two requests of a session: BMCs freeze under bursts.
    pub pace: Duration,
    /// How long the first answer is waited for; twice as long each time after, at most 4 s.
    pub first_wait: Duration,
    /// How often a message is sent before it counts as unanswered.
    pub tries: u8,
    /// When a session was idle for so long, something is asked, lest the BMC close it: BMCs do so after
    /// 60 s, give or take 3 (section 6.12.15).
    pub keep_alive: Duration,
}

impl Config {
    /// What suits a BMC on the out-of-band network of a rack.
    pub fn new(user: UserName, password: Password) -> Config {
        Config {
            user,
            password,
            suite: CipherSuite::Seventeen,
            fallback: Some(CipherSuite::Three),
            pace: Duration::from_millis(5),
            first_wait: Duration::from_millis(500),
            tries: 4,
            keep_alive: Duration::from_secs(40),
        }
    }
}

/// The privilege level of a session (section 6.8), as far as they are of use here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Privilege {
    /// May control power and boot options.
    Operator,
    /// May do everything.
    Administrator,
}

impl Privilege {
    pub(crate) const fn byte(self) -> u8 {
        match self {
            Privilege::Operator => 3,
            Privilege::Administrator => 4,
        }
    }
}

/// Says which request a reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// Too many requests wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{QUEUE} requests wait for this BMC already: wait for a reply")
    }
}

impl core::error::Error for TooMany {}

/// What a console has to tell.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A session was opened, or opened again.
    Up {
        /// How it is protected.
        suite: CipherSuite,
        /// What may be done in it.
        privilege: Privilege,
    },
    /// A request was answered, or never will be. Exactly one for each ticket.
    Reply {
        /// Which.
        ticket: Ticket,
        /// With what.
        result: Result<Reply, Failure>,
    },
    /// There is no session any more; the next request opens one.
    Down {
        /// The reason.
        why: Failure,
    },
}

/// Why something is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Caller(Ticket),
    Privilege,
    KeepAlive,
}

/// Something to ask in a session.
#[derive(Clone, Debug)]
struct Job {
    purpose: Purpose,
    command: Command,
    /// How often the BMC was too busy for it.
    busy: u8,
    /// Its session was lost once, and opened again for it.
    reopened: bool,
}

impl Job {
    fn new(purpose: Purpose, command: Command) -> Job {
        Job { purpose, command, busy: 0, reopened: false }
    }

    fn twice_is_once(&self) -> bool {
        matches!(self.purpose, Purpose::Privilege | Purpose::KeepAlive) || self.command.twice_is_once()
    }
}

enum Stage {
    Down,
    Handshake(Flight),
    Session(Box<Session>),
}

/// The end that asks: one session with one BMC, opened when something is asked.
///
/// Requests are answered in the order they are made, one at a time. No answer is ever taken for that of
/// another request, whatever the network does to the datagrams.
pub struct Console {
    config: Config,
    random: Random,
    stage: Stage,
    /// Of the handshake at hand. What led to a session is remembered, until it does no more.
    suite: CipherSuite,
    role: Privilege,
    proven: Option<(CipherSuite, Privilege)>,
    /// Handshakes begun since there was last a session.
    handshakes: u8,
    /// The BMC answered something since there was last a session.
    heard: bool,
    tag: u8,
    queue: VecDeque<Job>,
    /// Nothing is asked before.
    quiet_until: Time,
    next_ticket: u64,
    thrown_away: Option<Misbehaviour>,
    out: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
}

impl Console {
    /// A console without a session. The seed must differ between consoles and between runs: keys and
    /// session ids are drawn out of it.
    pub fn new(config: Config, seed: [u8; 32]) -> Console {
        Console {
            suite: config.suite,
            config,
            random: Random::new(seed),
            stage: Stage::Down,
            role: Privilege::Administrator,
            proven: None,
            handshakes: 0,
            heard: false,
            tag: 0,
            queue: VecDeque::new(),
            quiet_until: Time::ZERO,
            next_ticket: 0,
            thrown_away: None,
            out: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Asks something, opening a session if there is none.
    ///
    /// # Errors
    /// 32 requests wait already.
    pub fn request(&mut self, now: Time, command: Command) -> Result<Ticket, TooMany> {
        if self.queue.len() >= QUEUE {
            return Err(TooMany);
        }
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.queue.push_back(Job::new(Purpose::Caller(ticket), command));
        self.open(now);
        self.proceed(now);
        Ok(ticket)
    }

    /// Opens a session, if there is none.
    pub fn open(&mut self, now: Time) {
        if matches!(self.stage, Stage::Down) {
            self.handshakes = 0;
            self.heard = false;
            (self.suite, self.role) = self.proven.unwrap_or((self.config.suite, Privilege::Administrator));
            self.ask_capabilities(now);
        }
    }

    /// Closes the session, without waiting for the BMC to agree. Requests that wait fail.
    pub fn close(&mut self) {
        if !matches!(self.stage, Stage::Down) {
            self.down(Failure::Closed);
        }
    }

    /// Whether there is a session in which something can be asked at once.
    pub fn is_up(&self) -> bool {
        matches!(&self.stage, Stage::Session(session) if session.up)
    }

    /// Takes what the BMC sent. Whatever does not belong here is thrown away.
    pub fn handle_datagram(&mut self, now: Time, datagram: &[u8]) {
        let taken = codec::parse(datagram).and_then(|packet| match &self.stage {
            Stage::Down => Err(Misbehaviour::NotAsked),
            Stage::Handshake(_) => self.handle_handshake(now, packet),
            Stage::Session(_) => self.handle_session(now, packet),
        });
        if let Err(why) = taken {
            self.thrown_away = Some(why);
        }
        self.proceed(now);
    }

    /// To be called at the moment that `poll_timeout` gives; earlier does no harm.
    pub fn handle_timeout(&mut self, now: Time) {
        match &mut self.stage {
            Stage::Down => {}
            Stage::Handshake(flight) if now >= flight.due => {
                if flight.tries < flight.limit {
                    flight.due = now + wait(self.config.first_wait, flight.tries);
                    flight.tries += 1;
                    self.out.push_back(flight.datagram.clone());
                } else {
                    self.handshake_unanswered(now);
                }
            }
            Stage::Handshake(_) => {}
            Stage::Session(session) => {
                if session.asked.as_ref().is_some_and(|asked| now >= asked.due) {
                    self.session_unanswered(now);
                }
            }
        }
        self.proceed(now);
    }

    /// When `handle_timeout` is to be called; none: not before something comes or is asked.
    pub fn poll_timeout(&self) -> Option<Time> {
        match &self.stage {
            Stage::Down => None,
            Stage::Handshake(flight) => Some(flight.due),
            Stage::Session(session) => Some(match &session.asked {
                Some(asked) => asked.due,
                None if self.queue.is_empty() => session.heard + self.config.keep_alive,
                None => self.quiet_until,
            }),
        }
    }

    /// The next datagram for the BMC.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    /// The next thing to tell.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn reply(&mut self, job: &Job, result: Result<Reply, Failure>) {
        if let Purpose::Caller(ticket) = job.purpose {
            self.events.push_back(Event::Reply { ticket, result });
        }
    }

    /// Ends whatever there is; everything that waits fails for the same reason.
    fn down(&mut self, why: Failure) {
        let stage = core::mem::replace(&mut self.stage, Stage::Down);
        self.farewell(&stage);
        match stage {
            Stage::Session(session) => {
                if let Some(Asked { job, .. }) = session.asked {
                    self.reply(&job, Err(why.clone()));
                }
            }
            Stage::Handshake(_) | Stage::Down => self.proven = None,
        }
        for job in core::mem::take(&mut self.queue) {
            self.reply(&job, Err(why.clone()));
        }
        self.events.push_back(Event::Down { why });
    }

    fn unanswered(&self, to: &'static str, tries: u8) -> Failure {
        Failure::NoAnswer { to, tries, thrown_away: self.thrown_away }
    }
}

/// How long the answer to the try after `tries` others is waited for.
fn wait(first: Duration, tries: u8) -> Duration {
    first.saturating_mul(1 << tries.min(16)).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests;
