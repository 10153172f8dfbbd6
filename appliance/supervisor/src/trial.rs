use core::time::Duration;
use sansio::Time;

/// How long all services have to be ready without a break.
const PROOF: Duration = Duration::from_secs(60);
/// How long after telling failed it is told again.
const AGAIN: Duration = Duration::from_secs(60);

/// A boot on trial, as a value: once all services were ready for a minute, somebody is told that it is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trial {
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not all are ready.
    Waiting,
    /// All are ready; when that is enough.
    Proving(Time),
    /// It is being told, by this process.
    Telling(i32),
    /// There is nothing left to do.
    Over,
}

impl Trial {
    /// A boot that has proved nothing.
    pub(crate) fn new() -> Trial {
        Trial { state: State::Waiting }
    }

    /// Whether it is to be told now, given whether all services are ready.
    pub(crate) fn poll(&mut self, all_ready: bool, now: Time) -> bool {
        match self.state {
            State::Waiting if all_ready => self.state = State::Proving(now + PROOF),
            State::Proving(_) if !all_ready => self.state = State::Waiting,
            State::Proving(until) => return until <= now,
            _ => {}
        }
        false
    }

    /// When [`Trial::poll`] wants to be asked again.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        match self.state {
            State::Proving(until) => Some(until),
            _ => None,
        }
    }

    /// This process tells it; none: it could not be started.
    pub(crate) fn handle_started(&mut self, pid: Option<i32>, now: Time) {
        self.state = pid.map_or(State::Proving(now + AGAIN), State::Telling);
    }

    /// There is nobody to tell.
    pub(crate) fn handle_proved(&mut self) {
        self.state = State::Over;
    }

    /// A process ended. `false`: it was not the one that tells.
    pub(crate) fn handle_exited(&mut self, pid: i32, well: bool, now: Time) -> bool {
        if self.state != State::Telling(pid) {
            return false;
        }
        self.state = if well { State::Over } else { State::Proving(now + AGAIN) };
        true
    }
}

#[cfg(test)]
mod tests;
