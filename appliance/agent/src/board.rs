//! What the agent's threads know in common: the machine, the order, the job, the log.
//!
//! One lock, held for moments; one bell, rung at every change.

use crate::{clock, pace::Pace};
use agent_proto::{
    Failure, FailureKind, Inventory, Job, JobId, JobState, JobStatus, Order, Progress, Status,
};
use sansio::Time;
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Log lines that wait for a connection.
const LINES: usize = 1000;
/// A line is cut to so many octets.
const LINE: usize = 1000;
/// Lines said at once.
const BATCH: usize = 100;
/// Log lines wait so long for company.
const GATHER: Duration = Duration::from_millis(250);
/// Ids of jobs that are remembered.
const JOBS: usize = 1000;

/// What the threads know in common.
pub(crate) struct Board {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    inventory: Inventory,
    job: Option<JobStatus>,
    /// Counts changes that are to be said at once.
    steps: u64,
    /// Counts changes that can wait for company.
    ticks: u64,
    lines: Lines,
    /// The job that stands, if it was not begun yet.
    wanted: Option<Job>,
    begun: BTreeSet<JobId>,
    /// Every disk driver had its chance.
    settled: bool,
    /// Counts leases, at each of which a connection is worth another try.
    leases: u64,
    /// The connection that is known to have ended; they are counted from 1.
    ended: u64,
}

#[derive(Default)]
struct Lines {
    waiting: VecDeque<String>,
    /// The number of the first that waits.
    first: u64,
    lost: u64,
    since: Option<Time>,
}

/// What there is to say.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct News {
    /// The whole status, when it is time.
    pub(crate) status: Option<Status>,
    /// Log lines, and the number to confirm them by.
    pub(crate) lines: Option<(Vec<String>, u64)>,
    /// The connection is over.
    pub(crate) ended: bool,
}

impl Board {
    /// An empty one.
    pub(crate) fn new() -> Board {
        Board { state: Mutex::new(State::default()), bell: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is one assignment or one push: what a panicking thread left is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&'a self, guard: MutexGuard<'a, State>, until: Time) -> MutexGuard<'a, State> {
        let left = until.since(clock::now());
        self.bell.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Takes the machine as it is now.
    pub(crate) fn set_inventory(&self, inventory: Inventory) {
        let mut state = self.lock();
        if state.inventory != inventory {
            state.inventory = inventory;
            state.steps += 1;
            self.bell.notify_all();
        }
    }

    /// The machine, as it was last seen.
    pub(crate) fn inventory(&self) -> Inventory {
        self.lock().inventory.clone()
    }

    /// Waits until the machine is another than `seen`, or `until`.
    pub(crate) fn wait_inventory(&self, seen: &Inventory, until: Time) {
        let mut state = self.lock();
        while state.inventory == *seen && clock::now() < until {
            state = self.wait(state, until);
        }
    }

    /// Every disk driver had its chance.
    pub(crate) fn set_settled(&self) {
        self.lock().settled = true;
        self.bell.notify_all();
    }

    /// Waits until every disk driver had its chance, or `until`.
    pub(crate) fn wait_settled(&self, until: Time) {
        let mut state = self.lock();
        while !state.settled && clock::now() < until {
            state = self.wait(state, until);
        }
    }

    /// An interface has an address.
    pub(crate) fn lease(&self) {
        self.lock().leases += 1;
        self.bell.notify_all();
    }

    /// How many leases there were.
    pub(crate) fn leases(&self) -> u64 {
        self.lock().leases
    }

    /// Waits until there was another lease than `seen`, or `until`.
    pub(crate) fn wait_lease(&self, seen: u64, until: Time) {
        let mut state = self.lock();
        while state.leases == seen && clock::now() < until {
            state = self.wait(state, until);
        }
    }

    /// Keeps a log line for the connection; when too many wait, the oldest goes.
    pub(crate) fn line(&self, mut line: String, now: Time) {
        if line.len() > LINE {
            let end = (0..=LINE).rev().find(|&at| line.is_char_boundary(at)).unwrap_or(0);
            line.truncate(end);
        }
        let mut state = self.lock();
        let lines = &mut state.lines;
        lines.waiting.push_back(line);
        lines.since.get_or_insert(now);
        if lines.waiting.len() > LINES {
            lines.waiting.pop_front();
            lines.first += 1;
            lines.lost += 1;
        }
        self.bell.notify_all();
    }

    /// Lines up to that number arrived.
    pub(crate) fn lines_said(&self, number: u64) {
        let mut state = self.lock();
        let lines = &mut state.lines;
        while lines.first < number && lines.waiting.pop_front().is_some() {
            lines.first += 1;
        }
        lines.lost = 0;
        lines.since = None;
        if !lines.waiting.is_empty() {
            lines.since = Some(clock::now());
        }
    }

    /// Takes an order. The same job is not begun twice; an order to wait lets the one under way go on.
    pub(crate) fn order(&self, order: Order) {
        let mut state = self.lock();
        state.wanted = order.job.filter(|job| !state.begun.contains(&job.id));
        self.bell.notify_all();
    }

    /// An order that cannot be read, or only its job's id can.
    pub(crate) fn refuse(&self, id: JobId, text: String) {
        let mut state = self.lock();
        if state.begun.insert(id.clone()) {
            let failure = Failure { kind: FailureKind::BadOrder, text };
            state.job = Some(JobStatus { id, state: JobState::Failed(failure) });
            state.steps += 1;
            self.bell.notify_all();
        }
    }

    /// Waits for a job that is to be done, and takes it as begun.
    pub(crate) fn next_job(&self) -> Job {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.wanted.take() {
                if state.begun.len() >= JOBS {
                    state.begun.clear();
                }
                state.begun.insert(job.id.clone());
                return job;
            }
            state = self.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether another job waits for the one under way to stop.
    pub(crate) fn is_superseded(&self) -> bool {
        self.lock().wanted.is_some()
    }

    /// Waits until another job waits for the one under way to stop, or `until`. Whether one does.
    pub(crate) fn wait_superseded(&self, until: Time) -> bool {
        let mut state = self.lock();
        while state.wanted.is_none() && clock::now() < until {
            state = self.wait(state, until);
        }
        state.wanted.is_some()
    }

    /// A job was stopped before its end; ordered again, it is begun again.
    pub(crate) fn stopped(&self, id: &str) {
        self.lock().begun.remove(id);
    }

    /// Says how a job stands.
    pub(crate) fn set_job(&self, id: &str, now: JobState) {
        let mut state = self.lock();
        let only_progress = match (&state.job, &now) {
            (
                Some(JobStatus { id: old, state: JobState::Running(Progress { phase: before, .. }) }),
                JobState::Running(Progress { phase, .. }),
            ) => old == id && before == phase,
            _ => false,
        };
        state.job = Some(JobStatus { id: id.to_owned(), state: now });
        if only_progress {
            state.ticks += 1;
        } else {
            state.steps += 1;
        }
        self.bell.notify_all();
    }

    /// Connection number `line` is over.
    pub(crate) fn end(&self, line: u64) {
        let mut state = self.lock();
        state.ended = state.ended.max(line);
        self.bell.notify_all();
    }

    /// Waits until there is something to say on connection number `line`, or until it is over.
    pub(crate) fn news(&self, line: u64, pace: &mut Pace) -> News {
        let mut state = self.lock();
        loop {
            if state.ended >= line {
                return News { ended: true, ..News::default() };
            }
            let now = clock::now();
            let mut news = News::default();
            let mut until = pace.due(state.steps, state.ticks);
            if until <= now {
                pace.said(now, state.steps, state.ticks);
                news.status = Some(state.status());
            }
            if let Some(since) = state.lines.since {
                if since + GATHER <= now || news.status.is_some() || state.lines.waiting.len() >= BATCH {
                    news.lines = Some(state.lines.batch());
                } else {
                    until = until.min(since + GATHER);
                }
            }
            if news != News::default() {
                return news;
            }
            state = self.wait(state, until);
        }
    }
}

impl State {
    fn status(&self) -> Status {
        Status {
            version: agent_proto::VERSION,
            agent: env!("CARGO_PKG_VERSION").to_owned(),
            inventory: self.inventory.clone(),
            job: self.job.clone(),
        }
    }
}

impl Lines {
    fn batch(&self) -> (Vec<String>, u64) {
        let taken = self.waiting.len().min(BATCH);
        let note = (self.lost > 0).then(|| format!("log lines lost count={}", self.lost));
        let lines = note.into_iter().chain(self.waiting.iter().take(taken).cloned()).collect();
        (lines, self.first + taken as u64)
    }
}

#[cfg(test)]
mod tests;
