//! Getting octets from the appliance, through cuts and refusals, but not for ever.

use crate::{
    clock,
    cmdline::Appliance,
    http::{Connection, Trouble},
    pace::BackOff,
};
use agent_proto::{Failure, FailureKind};
use sansio::Time;
use std::{ops::Range, thread, time::Duration};

/// Why a job ends before its end.
#[derive(Debug)]
pub(crate) enum Halt {
    /// It cannot be done.
    Failed(Failure),
    /// It was told to stop.
    Stopped,
}

impl Halt {
    /// It cannot be done.
    pub(crate) fn failed(kind: FailureKind, text: impl Into<String>) -> Halt {
        Halt::Failed(Failure { kind, text: text.into() })
    }
}

impl From<Failure> for Halt {
    fn from(failure: Failure) -> Halt {
        Halt::Failed(failure)
    }
}

/// How long nothing may arrive before an image is given up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// While there is no connection.
    pub(crate) cut: Duration,
    /// While the appliance says no, or nonsense: it may be starting and not know us yet.
    pub(crate) refused: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { cut: Duration::from_secs(120), refused: Duration::from_secs(20) }
    }
}

/// A connection that is made again when it breaks.
pub(crate) struct Source<'a> {
    appliance: &'a Appliance,
    patience: Patience,
    stopped: &'a (dyn Fn() -> bool + Sync),
    connection: Option<Connection>,
    rests: BackOff,
    /// When something arrived last.
    progress: Time,
}

impl<'a> Source<'a> {
    /// Connects when it is asked for something. `stopped` is asked every second at least.
    pub(crate) fn new(
        appliance: &'a Appliance,
        patience: Patience,
        stopped: &'a (dyn Fn() -> bool + Sync),
    ) -> Source<'a> {
        Source {
            appliance,
            patience,
            stopped,
            connection: None,
            rests: BackOff::default(),
            progress: clock::now(),
        }
    }

    /// All of `path` below the base URL, at most `limit` octets. `what` is its name for people.
    pub(crate) fn whole(&mut self, path: &str, limit: u64, what: &str) -> Result<Vec<u8>, Halt> {
        self.arrived();
        loop {
            match self.try_whole(path, limit) {
                Ok(octets) => return Ok(octets),
                Err(trouble) => self.endure(trouble, what)?,
            }
        }
    }

    fn try_whole(&mut self, path: &str, limit: u64) -> Result<Vec<u8>, Trouble> {
        let length = self.get(path, None)?;
        if length > limit {
            self.connection = None;
            return Err(Trouble::Nonsense("more than there should be"));
        }
        let mut octets = vec![0; length as usize];
        self.read(&mut octets)?;
        Ok(octets)
    }

    /// Asks for octets of `path` below the base URL; [`Source::read`] gives them.
    pub(crate) fn get(&mut self, path: &str, range: Option<&Range<u64>>) -> Result<u64, Trouble> {
        let path = format!("{}{path}", self.appliance.prefix);
        let kept = self.connection.take().filter(Connection::is_reusable);
        if let Some(mut connection) = kept {
            // The appliance may have closed a connection that was idle: once more on a new one.
            match connection.get(&path, range, self.stopped) {
                Ok(length) => {
                    self.connection = Some(connection);
                    return Ok(length);
                }
                Err(Trouble::Line(_)) => {}
                Err(other) => return Err(other),
            }
        }
        let mut connection = Connection::open(self.appliance)?;
        let length = connection.get(&path, range, self.stopped)?;
        self.connection = Some(connection);
        Ok(length)
    }

    /// Fills `buffer` from what was asked for.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<(), Trouble> {
        let connection = self.connection.as_mut().ok_or(Trouble::Nonsense("nothing"))?;
        let read = connection.read(buffer, self.stopped);
        if read.is_err() {
            self.connection = None;
        }
        read
    }

    /// Lets go of the connection, with what is still to come on it.
    pub(crate) fn hang_up(&mut self) {
        self.connection = None;
    }

    /// Something arrived that counts.
    pub(crate) fn arrived(&mut self) {
        self.progress = clock::now();
        self.rests.reset();
    }

    /// Rests after a trouble, or gives up when nothing arrived for too long.
    pub(crate) fn endure(&mut self, trouble: Trouble, what: &str) -> Result<(), Halt> {
        let patience = match trouble {
            Trouble::Halted => return Err(Halt::Stopped),
            Trouble::Line(_) => self.patience.cut,
            Trouble::Refused(..) | Trouble::Nonsense(_) => self.patience.refused,
        };
        self.connection = None;
        let now = clock::now();
        if now.since(self.progress) >= patience {
            let seconds = patience.as_secs();
            let text = format!(
                "{what}: nothing came for {seconds} s: {trouble}; look at the http hand and the provisioning network"
            );
            return Err(Halt::failed(FailureKind::NoImage, text));
        }
        if self.rests.tries() == 0 {
            log::warn!(what, trouble:%; "trying again");
        }
        let until = now + self.rests.next();
        while clock::now() < until {
            if (self.stopped)() {
                return Err(Halt::Stopped);
            }
            thread::park_timeout(until.since(clock::now()).min(Duration::from_millis(100)));
        }
        Ok(())
    }
}
