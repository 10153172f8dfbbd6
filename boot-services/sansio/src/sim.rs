//! Two stations, a link with weather between them, and a time that jumps; byte streams are in [`stream`].
//!
//! Everything follows from the seed: what failed once fails again. Time goes straight to the next arrival
//! or deadline, so that hours pass in milliseconds. A run that does not end within its steps, or in which
//! nothing can happen any more, is a failure and says so.

pub mod stream;

use crate::Time;
use core::{fmt, time::Duration};
use std::collections::BTreeMap;

/// An engine, or many, at one end of the link.
pub trait Station {
    /// What travels; it carries its own addresses if there are several.
    type Packet: Clone;
    /// A packet arrives.
    fn receive(&mut self, packet: Self::Packet, now: Time);
    /// A deadline is reached.
    fn timeout(&mut self, now: Time);
    /// The next packet to send.
    fn transmit(&mut self, now: Time) -> Option<Self::Packet>;
    /// When to call [`timeout`](Station::timeout).
    fn deadline(&self) -> Option<Time>;
}

/// What the link does to packets; shares are of 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    /// So many are lost.
    pub lost: u32,
    /// So many arrive twice.
    pub doubled: u32,
    /// So many are held up by ten times the longest delay, so that later ones overtake them.
    pub held_up: u32,
    /// The shortest and the longest delay of the others.
    pub delay: (Duration, Duration),
}

impl Weather {
    /// Nothing is lost, doubled or held up; a tenth of a millisecond each way.
    pub const FAIR: Weather = Weather {
        lost: 0,
        doubled: 0,
        held_up: 0,
        delay: (Duration::from_micros(100), Duration::from_micros(100)),
    };

    /// Bad weather: one in seven lost, one in ten doubled, one in ten held up; up to 40 ms each way.
    pub const FOUL: Weather = Weather {
        lost: 143,
        doubled: 100,
        held_up: 100,
        delay: (Duration::from_millis(1), Duration::from_millis(40)),
    };
}

/// Numbers that follow from a seed (SplitMix64); nothing secret may depend on them.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The numbers of one seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// The next, of 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next, below `sides`; 0 if that is 0.
    pub fn below(&mut self, sides: u64) -> u64 {
        self.roll().checked_rem(sides).unwrap_or(0)
    }
}

/// Why a run is no success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// Nothing is on its way and nobody waits for a moment, and yet it is not done.
    Silent(Time),
    /// It was still going on after so many steps.
    Endless(Time),
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stuck::Silent(at) => write!(f, "at {at} nothing can happen any more, and it is not done"),
            Stuck::Endless(at) => write!(f, "at {at} it still goes on, and there are no steps left"),
        }
    }
}

impl core::error::Error for Stuck {}

/// Runs two stations from time zero until `done`; returns when that was.
///
/// A step is one arrival or one deadline.
///
/// # Errors
/// It came to a standstill, or went on for more than `steps`.
pub fn run<A, B>(
    a: &mut A,
    b: &mut B,
    weather: Weather,
    seed: u64,
    steps: usize,
    mut done: impl FnMut(&A, &B) -> bool,
) -> Result<Time, Stuck>
where
    A: Station,
    B: Station<Packet = A::Packet>,
{
    let mut sky = Sky { weather, dice: Dice::new(seed), flight: BTreeMap::new(), count: 0 };
    let mut now = Time::ZERO;
    for _ in 0..steps {
        while let Some(packet) = a.transmit(now) {
            sky.send(false, packet, now);
        }
        while let Some(packet) = b.transmit(now) {
            sky.send(true, packet, now);
        }
        if done(a, b) {
            return Ok(now);
        }
        let arrival = sky.flight.first_key_value().map(|((at, _), _)| *at);
        let Some(next) = [arrival, a.deadline(), b.deadline()].into_iter().flatten().min() else {
            return Err(Stuck::Silent(now));
        };
        now = now.max(next);
        // A deadline and an arrival at one moment: the packet was there first.
        if arrival.is_some_and(|at| at <= now) {
            match sky.flight.pop_first() {
                Some((_, (true, packet))) => a.receive(packet, now),
                Some((_, (false, packet))) => b.receive(packet, now),
                None => {}
            }
        } else if a.deadline().is_some_and(|at| at <= now) {
            a.timeout(now);
        } else {
            b.timeout(now);
        }
    }
    Err(Stuck::Endless(now))
}

struct Sky<P> {
    weather: Weather,
    dice: Dice,
    flight: BTreeMap<(Time, u64), (bool, P)>,
    count: u64,
}

impl<P: Clone> Sky<P> {
    fn send(&mut self, to_a: bool, packet: P, now: Time) {
        let chance = |dice: &mut Dice, share: u32| dice.below(1000) < u64::from(share);
        if chance(&mut self.dice, self.weather.lost) {
            return;
        }
        let copies = if chance(&mut self.dice, self.weather.doubled) { 2 } else { 1 };
        for _ in 0..copies {
            let (least, most) = self.weather.delay;
            let spread = u64::try_from(most.saturating_sub(least).as_micros()).unwrap_or(u64::MAX);
            let mut delay = least + Duration::from_micros(self.dice.below(spread.saturating_add(1)));
            if chance(&mut self.dice, self.weather.held_up) {
                delay += most * 10;
            }
            self.count += 1;
            self.flight.insert((now + delay, self.count), (to_a, packet.clone()));
        }
    }
}

#[cfg(test)]
mod tests;
