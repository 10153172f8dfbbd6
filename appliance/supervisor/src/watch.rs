use core::time::Duration;
use sansio::Time;
use serde::{Deserialize, Serialize};

/// A process that dies young is not started more often than this.
const FIRST_REST: Duration = Duration::from_millis(50);
/// Nor is a process that dies young again and again left alone for longer than this.
const LONGEST_REST: Duration = Duration::from_secs(5);
/// One that lived as long as this is not young.
const GROWN: Duration = Duration::from_secs(20);
/// How long a process that has fed its watchdog may go without feeding it.
const WATCHDOG: Duration = Duration::from_secs(30);

/// One service's life, as a value.
#[derive(Clone, Debug)]
pub struct Watch {
    state: State,
    rest: Duration,
    started: Time,
    fed: Option<Time>,
    restarts: u32,
    last: String,
}

/// Where a service is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It will be started at this time.
    Resting(Time),
    /// It was started and has not said that it is ready.
    Starting(i32),
    /// It said that it is ready.
    Ready(i32),
}

/// What to do about a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start it.
    Start,
    /// It hangs: end it with SIGKILL.
    Kill(i32),
}

/// What can be said of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Its state.
    pub state: State,
    /// How often it was started again.
    pub restarts: u32,
    /// What it is waited for, or how it ended last.
    pub says: String,
}

impl Watch {
    /// A service that is to be started at once.
    pub fn new(now: Time) -> Watch {
        Watch {
            state: State::Resting(now),
            rest: FIRST_REST,
            started: now,
            fed: None,
            restarts: 0,
            last: "never started".into(),
        }
    }

    /// It was started.
    pub fn handle_started(&mut self, pid: i32, now: Time) {
        self.state = State::Starting(pid);
        self.started = now;
        self.fed = None;
    }

    /// It could not be started.
    pub fn handle_not_started(&mut self, why: String, now: Time) {
        self.last = format!("could not be started: {why}");
        self.rest_until(now);
    }

    /// It said that it is ready.
    pub fn handle_ready(&mut self) {
        if let State::Starting(pid) = self.state {
            self.state = State::Ready(pid);
        }
    }

    /// It fed its watchdog.
    pub fn handle_watchdog(&mut self, now: Time) {
        self.fed = Some(now);
    }

    /// It ended. `false`: the process was not this service's.
    pub fn handle_exited(&mut self, pid: i32, how: &str, now: Time) -> bool {
        if self.pid() != Some(pid) {
            return false;
        }
        self.last = how.to_owned();
        self.restarts = self.restarts.saturating_add(1);
        if now.since(self.started) >= GROWN {
            self.rest = FIRST_REST;
        }
        self.rest_until(now);
        true
    }

    fn rest_until(&mut self, now: Time) {
        self.state = State::Resting(now + self.rest);
        self.rest = (self.rest * 2).min(LONGEST_REST);
    }

    /// Whether it runs and said that it is ready.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready(_))
    }

    /// Its process.
    pub fn pid(&self) -> Option<i32> {
        match self.state {
            State::Resting(_) => None,
            State::Starting(pid) | State::Ready(pid) => Some(pid),
        }
    }

    /// When [`poll_action`](Watch::poll_action) wants to be asked again.
    pub fn poll_timeout(&self) -> Option<Time> {
        match self.state {
            State::Resting(until) => Some(until),
            _ => self.fed.map(|fed| fed + WATCHDOG),
        }
    }

    /// What to do now.
    pub fn poll_action(&mut self, now: Time) -> Option<Action> {
        match self.state {
            State::Resting(until) if until <= now => Some(Action::Start),
            State::Starting(pid) | State::Ready(pid) if self.fed.is_some_and(|fed| fed + WATCHDOG <= now) => {
                self.fed = None;
                Some(Action::Kill(pid))
            }
            _ => None,
        }
    }

    /// What can be said of it.
    pub fn report(&self, now: Time) -> Report {
        let says = match self.state {
            State::Resting(until) => {
                format!("{}; starts again in {} ms", self.last, until.since(now).as_millis())
            }
            State::Starting(_) => {
                format!("started {} ms ago, waits for its READY=1", now.since(self.started).as_millis())
            }
            State::Ready(_) => "ready".into(),
        };
        Report { state: self.state, restarts: self.restarts, says }
    }
}

#[cfg(test)]
mod tests;
