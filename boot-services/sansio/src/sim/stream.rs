//! Two ends, byte streams with weather between them: cut at any octet, slow, in pieces of any size.
//!
//! One end dials, the other answers and may still hold streams that the first has long given up. What arrives, arrives
//! in order; a cut takes what is on its way from some octet on, and an end may never hear of it.

use super::{Dice, Stuck};
use crate::Time;
use core::time::Duration;
use std::collections::BTreeMap;

/// One end of many streams, one after the other or together; streams have numbers.
pub trait End {
    /// Whether a new stream is wanted; asked of the dialling end only.
    fn dials(&mut self, now: Time) -> bool;
    /// The stream is there.
    fn opened(&mut self, stream: u64, now: Time);
    /// Octets arrive.
    fn receive(&mut self, stream: u64, octets: &[u8], now: Time);
    /// The stream ended or broke, or could not be had.
    fn closed(&mut self, stream: u64, now: Time);
    /// The next octets to send.
    fn transmit(&mut self, stream: u64, now: Time) -> Option<Vec<u8>>;
    /// Whether this end hangs up, now that all is sent.
    fn hangs_up(&mut self, stream: u64) -> bool;
    /// A deadline is reached.
    fn timeout(&mut self, now: Time);
    /// When to call [`timeout`](End::timeout).
    fn deadline(&self) -> Option<Time>;
}

/// What happens to streams; shares are of 10 000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rapids {
    /// So many dials are refused.
    pub refused: u32,
    /// At so many pieces the stream is cut.
    pub cut: u32,
    /// So many ends of cut streams never hear of it.
    pub unheard: u32,
    /// The fewest and the most octets of a piece.
    pub piece: (usize, usize),
    /// The shortest and the longest delay of a piece.
    pub delay: (Duration, Duration),
    /// Octets that may be on their way in one direction before no more are taken.
    pub window: usize,
}

impl Rapids {
    /// Nothing breaks; large pieces, a tenth of a millisecond each way.
    pub const CALM: Rapids = Rapids {
        refused: 0,
        cut: 0,
        unheard: 0,
        piece: (65_536, 65_536),
        delay: (Duration::from_micros(100), Duration::from_micros(100)),
        window: 1 << 20,
    };
}

/// One stream as the link sees it; of pairs, the dialling end is the first.
#[derive(Debug, Default)]
struct Stream {
    open: [bool; 2],
    cut: bool,
    on_its_way: [usize; 2],
    last: [Time; 2],
}

enum Arrival {
    Octets(Vec<u8>),
    End,
    /// A dial comes through.
    Dial,
}

struct Link {
    rapids: Rapids,
    dice: Dice,
    streams: BTreeMap<u64, Stream>,
    flight: BTreeMap<(Time, u64), (u64, usize, Arrival)>,
    count: u64,
}

/// Runs two ends from time zero until `done`; returns when that was.
///
/// A step is one arrival or one deadline.
///
/// # Errors
/// It came to a standstill, or went on for more than `steps`.
pub fn run<A: End, B: End>(
    dialling: &mut A,
    answering: &mut B,
    rapids: Rapids,
    seed: u64,
    steps: usize,
    mut done: impl FnMut(&A, &B) -> bool,
) -> Result<Time, Stuck> {
    let mut link =
        Link { rapids, dice: Dice::new(seed), streams: BTreeMap::new(), flight: BTreeMap::new(), count: 0 };
    let mut now = Time::ZERO;
    for _ in 0..steps {
        link.dial(dialling, now);
        for stream in link.streams.keys().copied().collect::<Vec<u64>>() {
            link.pump(dialling, stream, 0, now);
            link.pump(answering, stream, 1, now);
        }
        link.streams.retain(|_, stream| stream.open != [false; 2] || stream.on_its_way != [0; 2]);
        if done(dialling, answering) {
            return Ok(now);
        }
        let arrival = link.flight.first_key_value().map(|((at, _), _)| *at);
        let Some(next) = [arrival, dialling.deadline(), answering.deadline()].into_iter().flatten().min()
        else {
            return Err(Stuck::Silent(now));
        };
        now = now.max(next);
        if arrival.is_some_and(|at| at <= now) {
            link.arrive(dialling, answering, now);
        } else if dialling.deadline().is_some_and(|at| at <= now) {
            dialling.timeout(now);
        } else {
            answering.timeout(now);
        }
    }
    Err(Stuck::Endless(now))
}

impl Link {
    fn chance(&mut self, share: u32) -> bool {
        self.dice.below(10_000) < u64::from(share)
    }

    fn dial(&mut self, end: &mut impl End, now: Time) {
        if end.dials(now) {
            self.count += 1;
            let stream = self.count;
            self.streams.insert(stream, Stream { open: [true, false], ..Stream::default() });
            let answer = if self.chance(self.rapids.refused) { Arrival::End } else { Arrival::Dial };
            self.send(stream, 0, answer, now);
        }
    }

    /// Puts something on its way to `to`, behind what is on its way already.
    fn send(&mut self, number: u64, to: usize, what: Arrival, now: Time) {
        let (least, most) = self.rapids.delay;
        let spread = u64::try_from(most.saturating_sub(least).as_micros()).unwrap_or(u64::MAX);
        let delay = least + Duration::from_micros(self.dice.below(spread.saturating_add(1)));
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let at = stream.last[to].max(now + delay);
        stream.last[to] = at;
        stream.on_its_way[to] += match &what {
            Arrival::Octets(octets) => octets.len(),
            Arrival::End | Arrival::Dial => 1,
        };
        self.count += 1;
        self.flight.insert((at, self.count), (number, to, what));
    }

    /// Takes what an end has to send.
    fn pump(&mut self, end: &mut impl End, number: u64, from: usize, now: Time) {
        let to = 1 - from;
        loop {
            let Some(stream) = self.streams.get(&number) else { return };
            if !stream.open[from] {
                return;
            }
            let full = !stream.cut && stream.on_its_way[to] >= self.rapids.window;
            let Some(octets) = (if full { None } else { end.transmit(number, now) }) else { break };
            self.cast(number, to, &octets, now);
        }
        if end.hangs_up(number)
            && let Some(stream) = self.streams.get_mut(&number)
        {
            stream.open[from] = false;
            if !stream.cut {
                self.send(number, to, Arrival::End, now);
            }
        }
    }

    /// Octets go out in pieces, until one of them is cut.
    fn cast(&mut self, number: u64, to: usize, mut octets: &[u8], now: Time) {
        let (least, most) = self.rapids.piece;
        while !octets.is_empty() && self.streams.get(&number).is_some_and(|stream| !stream.cut) {
            let spread = (most.saturating_sub(least) + 1) as u64;
            let length = (least.max(1) + self.dice.below(spread) as usize).min(octets.len());
            let (piece, rest) = octets.split_at(length);
            octets = rest;
            if !self.chance(self.rapids.cut) {
                self.send(number, to, Arrival::Octets(piece.to_vec()), now);
                continue;
            }
            let kept = self.dice.below(length as u64) as usize;
            if kept > 0 {
                self.send(number, to, Arrival::Octets(piece[..kept].to_vec()), now);
            }
            self.cut(number, now);
        }
    }

    fn cut(&mut self, number: u64, now: Time) {
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.cut = true;
        }
        for to in [0, 1] {
            // Of what is on its way, nothing or all arrives.
            if self.chance(5_000) {
                let lost = |flight: &(u64, usize, Arrival)| flight.0 == number && flight.1 == to;
                self.flight.retain(|_, flight| !lost(flight));
                if let Some(stream) = self.streams.get_mut(&number) {
                    stream.on_its_way[to] = 0;
                }
            }
            if !self.chance(self.rapids.unheard) {
                self.send(number, to, Arrival::End, now);
            }
        }
    }

    fn arrive(&mut self, dialling: &mut impl End, answering: &mut impl End, now: Time) {
        let Some((_, (number, to, what))) = self.flight.pop_first() else { return };
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let length = if let Arrival::Octets(octets) = &what { octets.len() } else { 1 };
        stream.on_its_way[to] = stream.on_its_way[to].saturating_sub(length);
        if !stream.open[to] {
            return;
        }
        match what {
            Arrival::Octets(octets) if to == 0 => dialling.receive(number, &octets, now),
            Arrival::Octets(octets) => answering.receive(number, &octets, now),
            Arrival::Dial => {
                stream.open[1] = true;
                answering.opened(number, now);
                dialling.opened(number, now);
            }
            Arrival::End => {
                stream.open[to] = false;
                if to == 0 { dialling.closed(number, now) } else { answering.closed(number, now) }
            }
        }
    }
}

#[cfg(test)]
mod tests;
