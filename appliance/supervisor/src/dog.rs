use core::time::Duration;
use sansio::Time;

/// A machine is restarted when it was not fed for so long; a driver may take another time.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);
/// It is fed so often within its time.
const MEALS: u32 = 4;
/// Not even for a driver that takes no more than a second.
const OFTEN: Duration = Duration::from_millis(200);
/// A device that cannot be opened, or takes no more food, is tried again after this.
const AGAIN: Duration = Duration::from_secs(5);

/// The machine's watchdog, as a value: when its device is to be opened, and when to be fed.
///
/// It is never let go of here: whoever starts the supervisor again has the rest of its time for that, and when nobody
/// does, the machine restarts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dog {
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The machine has none.
    None,
    /// To be opened at this time.
    Away(Time),
    /// Open, to be fed again at this time, and every so often.
    Fed { next: Time, every: Duration },
}

/// What to do for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Care {
    /// Open its device.
    Open,
    /// Feed it.
    Feed,
}

impl Dog {
    /// One that is opened at once, or none at all.
    pub(crate) fn new(is_there: bool, now: Time) -> Dog {
        Dog { state: if is_there { State::Away(now) } else { State::None } }
    }

    /// What to do now.
    pub(crate) fn poll(&mut self, now: Time) -> Option<Care> {
        match self.state {
            State::Away(at) if at <= now => Some(Care::Open),
            State::Fed { next, every } if next <= now => {
                self.state = State::Fed { next: now + every, every };
                Some(Care::Feed)
            }
            _ => None,
        }
    }

    /// When [`Dog::poll`] wants to be asked again.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        match self.state {
            State::None => None,
            State::Away(at) | State::Fed { next: at, .. } => Some(at),
        }
    }

    /// It is open, was fed by that, and bites after this time.
    pub(crate) fn handle_opened(&mut self, timeout: Duration, now: Time) {
        let every = (timeout / MEALS).max(OFTEN);
        self.state = State::Fed { next: now + every, every };
    }

    /// It could not be opened, or takes no food.
    pub(crate) fn handle_lost(&mut self, now: Time) {
        self.state = State::Away(now + AGAIN);
    }
}

#[cfg(test)]
mod tests;
