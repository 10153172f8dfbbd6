//! A hand's process as far as control sees it: its desk, its run directory, and the line between the two.

use boot::{Desk, Down, Generation, Up};
use core::fmt::Debug;
use core::time::Duration;
use sansio::Time;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;

/// How long after a line broke it is made again.
const REST: Duration = Duration::from_millis(100);

/// A desk with a line to control. Both ends speak bytes, as over the socket.
pub(crate) struct Line<P, F> {
    name: &'static str,
    desk: Option<Desk<P, F>>,
    /// The run directory.
    kept: Option<Vec<u8>>,
    epoch: u64,
    starts_at: Option<Time>,
    connected: bool,
    connects_at: Time,
    down: VecDeque<Vec<u8>>,
    up: VecDeque<Vec<u8>>,
}

impl<P, F> Line<P, F>
where
    P: DeserializeOwned + Serialize + PartialEq + Clone,
    F: DeserializeOwned + Serialize + PartialEq + Clone + Debug,
{
    pub(crate) fn new(name: &'static str, now: Time) -> Line<P, F> {
        Line {
            name,
            desk: None,
            kept: None,
            epoch: 0,
            starts_at: Some(now),
            connected: false,
            connects_at: now,
            down: VecDeque::new(),
            up: VecDeque::new(),
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.desk.is_some()
    }

    /// SIGKILL: all but the run directory is lost; the supervisor starts it again after `rest`.
    pub(crate) fn kill(&mut self, now: Time, rest: Duration) {
        self.desk = None;
        self.cut(now);
        self.starts_at = Some(now + rest);
    }

    /// The line breaks.
    pub(crate) fn cut(&mut self, now: Time) {
        self.connected = false;
        self.connects_at = now + REST;
        self.down.clear();
        self.up.clear();
        if let Some(desk) = &mut self.desk {
            desk.handle_disconnect();
        }
    }

    /// Starts the process if it is time; says so.
    pub(crate) fn start(&mut self, now: Time) -> bool {
        if self.desk.is_some() || self.starts_at.is_none_or(|at| now < at) {
            return false;
        }
        self.epoch += 1;
        let mut desk = Desk::new(self.name, self.epoch, 4096);
        if let Some(kept) = &self.kept {
            desk.recall(kept);
        }
        self.desk = Some(desk);
        self.starts_at = None;
        true
    }

    /// Control connects if it can; the newest plan, if it has one, is sent first.
    pub(crate) fn connect(&mut self, now: Time, newest: Option<Generation>, body: &P) {
        let Some(desk) = self.desk.as_mut().filter(|_| !self.connected && now >= self.connects_at) else {
            return;
        };
        desk.handle_connect();
        self.connected = true;
        if let Some(generation) = newest {
            self.send(generation, body);
        }
        self.flush();
    }

    /// Control sends a plan, if somebody is there.
    pub(crate) fn send(&mut self, generation: Generation, body: &P) {
        if self.connected {
            self.down.push_back(Down::Plan { generation, body: body.clone() }.line());
        }
    }

    pub(crate) fn tell(&mut self, key: impl Into<String>, fact: F) {
        if let Some(desk) = &mut self.desk {
            desk.tell(key, fact);
        }
    }

    pub(crate) fn forget(&mut self, key: &str) {
        if let Some(desk) = &mut self.desk {
            desk.forget(key);
        }
    }

    /// Puts on the line what there is to say.
    pub(crate) fn flush(&mut self) {
        let Some(desk) = &mut self.desk else { return };
        while let Some(bytes) = desk.poll_transmit() {
            let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            self.up.extend(lines.map(<[u8]>::to_vec));
        }
    }

    pub(crate) fn plan(&self) -> Option<&P> {
        self.desk.as_ref()?.plan()
    }

    /// Whether a plan is on its way down.
    pub(crate) fn has_down(&self) -> bool {
        !self.down.is_empty()
    }

    /// Whether a line is on its way up.
    pub(crate) fn has_up(&self) -> bool {
        !self.up.is_empty()
    }

    /// The next plan arrives; whether it is another one. It is in the run directory before the hand knows.
    pub(crate) fn deliver_down(&mut self) -> bool {
        let (Some(line), Some(desk)) = (self.down.pop_front(), &mut self.desk) else { return false };
        let changed = desk.handle_bytes(&line).expect("control speaks the contract");
        if changed {
            self.kept = desk.keep();
        }
        changed
    }

    /// The next line for control.
    pub(crate) fn deliver_up(&mut self) -> Option<Up<F>> {
        let line = self.up.pop_front()?;
        Some(Up::parse(&line).expect("a hand speaks the contract"))
    }

    /// When it has something to do by itself.
    pub(crate) fn poll_timeout(&self, control_is_there: bool) -> Option<Time> {
        match &self.desk {
            None => self.starts_at,
            Some(_) if !self.connected && control_is_there => Some(self.connects_at),
            Some(_) => None,
        }
    }
}
