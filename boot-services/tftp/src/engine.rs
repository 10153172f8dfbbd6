//! One transfer as a value.

use crate::{
    codec::{self, Mode, Packet, Request},
    netascii,
};
use sansio::Time;
use std::{collections::VecDeque, time::Duration};

/// The most octets in a block: with the headers of TFTP, UDP and IP, 1500.
pub const MOST_BLOCK: usize = 1468;
/// The most blocks sent without waiting.
pub const MOST_WINDOW: u64 = 64;
/// RFC 1350, 2.
const BLOCK: usize = 512;
/// The most octets asked of the file at once.
const READ: usize = 64 << 10;
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(8);
/// How often the same window is sent again; with the waits above, it takes 31 seconds to give up.
const TRIES: u32 = 5;
const PROGRESS: Duration = Duration::from_secs(1);

/// What the driver should read from the file and hand to [`Transfer::handle_read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// From where, in octets.
    pub offset: u64,
    /// How much at most, in octets.
    pub length: usize,
}

/// What is worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// So many octets were acknowledged; at most once a second.
    Progress(u64),
    /// It is over: all was acknowledged.
    Done(u64),
    /// It is over, and why.
    Failed(u64, String),
}

#[derive(Debug, PartialEq)]
enum State {
    /// The options were granted; block 0 is to be acknowledged.
    Greeting,
    Sending,
    Over,
}

/// A file on its way to a client.
///
/// Blocks are numbered from 1 without end; on the wire they wrap.
#[derive(Debug)]
pub struct Transfer {
    state: State,
    mode: Mode,
    block: usize,
    window: u64,
    option_ack: Option<Vec<u8>>,
    wait: Option<Duration>,

    offset: u64,
    reading: bool,
    complete: bool,
    staged: VecDeque<u8>,
    /// Blocks that are not acknowledged, from number `base`.
    blocks: VecDeque<Vec<u8>>,
    base: u64,
    next: u64,
    last: Option<u64>,

    deadline: Option<Time>,
    tries: u32,
    /// A repeated ACK has made us go back to `base` already.
    back: bool,
    sent: u64,
    told: Time,
    out: VecDeque<Vec<u8>>,
    events: VecDeque<Event>,
}

impl Transfer {
    /// A transfer of a file of `size` octets.
    pub fn new(request: &Request, size: u64, now: Time) -> Transfer {
        let mode = request.mode.unwrap_or(Mode::Octet);
        let mut transfer = Transfer {
            state: State::Sending,
            mode,
            block: BLOCK,
            window: 1,
            option_ack: None,
            wait: None,
            offset: 0,
            reading: false,
            complete: false,
            staged: VecDeque::new(),
            blocks: VecDeque::new(),
            base: 1,
            next: 1,
            last: None,
            deadline: None,
            tries: 0,
            back: false,
            sent: 0,
            told: now,
            out: VecDeque::new(),
            events: VecDeque::new(),
        };
        transfer.negotiate(request, size, now);
        transfer
    }

    /// RFC 2347: "The server MUST NOT include in the OACK any option which had not been specifically
    /// requested by the client", and one that it cannot grant it leaves out.
    fn negotiate(&mut self, request: &Request, size: u64, now: Time) {
        let mut granted: Vec<(&str, u64)> = Vec::new();
        for (name, value) in &request.options {
            let Ok(value) = value.trim().parse::<u64>() else { continue };
            let grant = match name.as_str() {
                // RFC 2348: "Valid values range between '8' and '65464' octets, inclusive"; "The server may
                // also respond with a value smaller than that requested".
                "blksize" if (8..=65464).contains(&value) => {
                    self.block = usize::try_from(value).unwrap_or(MOST_BLOCK).min(MOST_BLOCK);
                    ("blksize", self.block as u64)
                }
                // RFC 2349: "In Read Request packets, a size of '0' is specified in the request and the size
                // of the file, in octets, is returned". As text it would have another size.
                "tsize" if self.mode == Mode::Octet => ("tsize", size),
                "timeout" if (1..=255).contains(&value) => {
                    self.wait = Some(Duration::from_secs(value));
                    ("timeout", value)
                }
                // RFC 7440, 3: "The valid values range MUST be between 1 and 65535 blocks, inclusive."
                "windowsize" if (1..=65535).contains(&value) => {
                    self.window = value.min(MOST_WINDOW);
                    ("windowsize", self.window)
                }
                _ => continue,
            };
            if !granted.iter().any(|(name, _)| *name == grant.0) {
                granted.push(grant);
            }
        }
        if !granted.is_empty() {
            let packet = codec::option_ack(&granted);
            self.state = State::Greeting;
            self.out.push_back(packet.clone());
            self.option_ack = Some(packet);
            self.arm(now);
        }
    }

    fn arm(&mut self, now: Time) {
        let doubled = FIRST_WAIT.saturating_mul(1 << self.tries.min(8)).min(LONGEST_WAIT);
        self.deadline = Some(now + self.wait.unwrap_or(doubled));
    }

    fn end(&mut self, event: Event) {
        self.state = State::Over;
        self.deadline = None;
        self.blocks.clear();
        self.staged.clear();
        self.events.push_back(event);
    }

    /// A datagram from the client's port.
    pub fn handle_datagram(&mut self, bytes: &[u8], now: Time) {
        if self.state == State::Over {
            return;
        }
        match codec::parse(bytes) {
            Some(Packet::Ack(number)) => self.acknowledged(number, now),
            Some(Packet::Error(code, text)) => {
                let text: String = text.chars().filter(|c| !c.is_control()).take(100).collect();
                self.end(Event::Failed(self.sent, format!("the client stopped it: error {code} {text}")));
            }
            Some(_) => {
                self.out.push_back(codec::error(4, "not expected here"));
                self.end(Event::Failed(self.sent, "the client sent what no reader sends".to_owned()));
            }
            None => {}
        }
    }

    fn acknowledged(&mut self, number: u16, now: Time) {
        if self.state == State::Greeting {
            if number != 0 {
                return;
            }
            self.state = State::Sending;
            self.option_ack = None;
            self.progress(now);
            return self.pump(now);
        }
        // Of the numbers that look like this on the wire the one that is not before `base` − 1.
        let before = self.base - 1;
        let ahead = u64::from(number.wrapping_sub(wire(before)));
        let acknowledged = before + ahead;
        if acknowledged >= self.next {
            return;
        }
        if ahead == 0 {
            // RFC 7440, 4: a client that misses the first block of a window acknowledges the one before
            // again. With a window of one it is a duplicate, and to answer it is the Sorcerer's Apprentice
            // (RFC 1123, 4.2.3.1); so is every further one.
            if self.window > 1 && !self.back && self.next > self.base {
                self.back = true;
                self.next = self.base;
                self.pump(now);
            }
            return;
        }
        for _ in 0..ahead {
            self.sent += self.blocks.pop_front().map_or(0, |block| block.len() as u64);
        }
        self.base = acknowledged + 1;
        // "the sender […] SHOULD resume with the block after the one that was acknowledged".
        self.next = self.base;
        self.back = false;
        if self.last.is_some_and(|last| acknowledged >= last) {
            return self.end(Event::Done(self.sent));
        }
        self.progress(now);
        self.pump(now);
    }

    fn progress(&mut self, now: Time) {
        self.tries = 0;
        self.deadline = None;
        if now.since(self.told) >= PROGRESS {
            self.told = now;
            self.events.push_back(Event::Progress(self.sent));
        }
    }

    /// What was read at the place of the last [`Read`]; nothing: the file ends there.
    pub fn handle_read(&mut self, octets: &[u8], now: Time) {
        if !self.reading || self.state == State::Over {
            return;
        }
        self.reading = false;
        self.offset += octets.len() as u64;
        self.complete = octets.is_empty();
        match self.mode {
            Mode::Octet => self.staged.extend(octets),
            Mode::Netascii => netascii::append(&mut self.staged, octets),
        }
        self.pump(now);
    }

    /// The file cannot be read.
    pub fn handle_read_failed(&mut self, why: &str) {
        if self.state != State::Over {
            self.out.push_back(codec::error(0, "the file cannot be read"));
            self.end(Event::Failed(self.sent, why.to_owned()));
        }
    }

    /// Nobody listens at the client's port any more.
    pub fn handle_refused(&mut self) {
        if self.state == State::Over {
            return;
        }
        // RFC 1350, 6: who has acknowledged the last block may be gone before we know.
        self.end(match self.last {
            Some(last) if self.base == last => {
                Event::Done(self.sent + self.blocks.front().map_or(0, |block| block.len() as u64))
            }
            _ => Event::Failed(self.sent, "the client closed its port".to_owned()),
        });
    }

    /// Cuts blocks, and sends those that the window allows.
    fn pump(&mut self, now: Time) {
        while self.last.is_none()
            && (self.blocks.len() as u64) < self.window
            && (self.staged.len() >= self.block || self.complete)
        {
            let length = self.staged.len().min(self.block);
            self.blocks.push_back(self.staged.drain(..length).collect());
            if length < self.block {
                self.last = Some(self.base + self.blocks.len() as u64 - 1);
            }
        }
        let first = self.next;
        while self.next < self.base + self.blocks.len() as u64 {
            let place = usize::try_from(self.next - self.base).unwrap_or(usize::MAX);
            if let Some(block) = self.blocks.get(place) {
                self.out.push_back(codec::data(wire(self.next), block));
            }
            self.next += 1;
        }
        if self.next > first {
            self.arm(now);
        }
    }

    /// Sends again what was not acknowledged in time, or gives up.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        if self.tries >= TRIES {
            let why = match self.state {
                State::Greeting => "the client did not take up our answer",
                _ => "the client fell silent",
            };
            return self.end(Event::Failed(self.sent, why.to_owned()));
        }
        self.tries += 1;
        self.arm(now);
        match &self.option_ack {
            Some(packet) => self.out.push_back(packet.clone()),
            None => {
                self.next = self.base;
                self.pump(now);
            }
        }
    }

    /// The next packet to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    /// What to read next, if anything; asked for once.
    pub fn poll_read(&mut self) -> Option<Read> {
        let room = self.blocks.len() + self.staged.len() / self.block;
        let enough = self.complete || self.reading || self.last.is_some() || room as u64 >= self.window;
        if self.state != State::Sending || enough {
            return None;
        }
        self.reading = true;
        Some(Read { offset: self.offset, length: READ })
    }

    /// The next thing to tell.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Transfer::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Time> {
        self.deadline
    }
}

fn wire(number: u64) -> u16 {
    (number & 0xffff) as u16
}

#[cfg(test)]
mod tests;
