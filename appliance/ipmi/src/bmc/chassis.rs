//! Power and boot options of the machine that the BMC belongs to.

use super::BmcEvent;
use crate::command::{BootFlags, Control};
use crate::{BootDevice, Bug};
use core::time::Duration;
use sansio::Time;
use std::collections::VecDeque;

const OK: u8 = 0x00;
const NOT_SUPPORTED: u8 = 0x80;
/// "Attempt to set the 'set in progress' value when not in the 'set complete' state" (table 28-12).
const IN_PROGRESS: u8 = 0x81;
const LENGTH_INVALID: u8 = 0xc7;
const INVALID_FIELD: u8 = 0xcc;

/// Table 28-4: a power cycle is off for at least a second.
const CYCLE: Duration = Duration::from_secs(1);
/// Table 28-14, parameter 3: without Chassis Control the flags are valid for 60 s, give or take 10 %.
const FLAGS: Duration = Duration::from_secs(60);
/// Bit 3 of parameter 3: they stay.
const KEEP_FLAGS: u8 = 0x08;
/// Events that nobody asked for are not kept for ever.
const EVENTS: usize = 64;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    On,
    Off,
}

pub(super) struct Chassis {
    pub(super) on: bool,
    pub(super) flags: BootFlags,
    /// The five bytes as they were set.
    flag_bytes: [u8; 5],
    flags_until: Option<Time>,
    keep: u8,
    in_progress: bool,
    acknowledge: [u8; 2],
    /// Power that is yet to change, in order.
    turns: VecDeque<(Time, Turn)>,
    pub(super) events: VecDeque<BmcEvent>,
}

impl Default for Chassis {
    fn default() -> Chassis {
        Chassis {
            on: false,
            flags: BootFlags::none(),
            flag_bytes: [0; 5],
            flags_until: None,
            keep: 0,
            in_progress: false,
            acknowledge: [0; 2],
            turns: VecDeque::new(),
            events: VecDeque::new(),
        }
    }
}

impl Chassis {
    pub(super) fn handle_timeout(&mut self, now: Time) {
        while let Some((due, turn)) = self.turns.front().copied()
            && due <= now
        {
            self.turns.pop_front();
            self.turn(turn);
        }
        if self.flags_until.is_some_and(|until| until <= now) {
            self.flags_until = None;
            self.set_flags([0; 5]);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Time> {
        self.turns.front().map(|(due, _)| *due).into_iter().chain(self.flags_until).min()
    }

    /// Table 28-3.
    pub(super) fn status(&self) -> [u8; 3] {
        [u8::from(self.on), 0, 0]
    }

    /// Section 28.3.
    pub(super) fn control(&mut self, now: Time, data: &[u8], bugs: &[Bug]) -> u8 {
        let [byte] = *data else { return LENGTH_INVALID };
        let Some(control) = Control::from_byte(byte) else { return INVALID_FIELD };
        let slow = bugs.iter().find_map(|bug| match bug {
            Bug::SlowPower(by) => Some(*by),
            _ => None,
        });
        let at = now + slow.unwrap_or_default();
        self.flags_until = None;
        self.turns.clear();
        match control {
            Control::On if bugs.contains(&Bug::IgnoresPowerOn) => {}
            Control::Off if bugs.contains(&Bug::IgnoresPowerOff) => {}
            Control::On => self.turns.push_back((at, Turn::On)),
            Control::Off | Control::Soft => self.turns.push_back((at, Turn::Off)),
            // Table 28-4: no effect where power is off.
            Control::Cycle if self.on => {
                self.turns.extend([(at, Turn::Off), (at + CYCLE, Turn::On)]);
            }
            Control::Reset if self.on => {
                let flags = self.boot();
                self.tell(BmcEvent::Reset(flags));
            }
            // Command not supported in the present state.
            Control::Cycle | Control::Reset => return 0xd5,
        }
        self.handle_timeout(now);
        OK
    }

    fn turn(&mut self, turn: Turn) {
        match turn {
            Turn::On if !self.on => {
                self.on = true;
                let flags = self.boot();
                self.tell(BmcEvent::On(flags));
            }
            Turn::Off if self.on => {
                self.on = false;
                self.tell(BmcEvent::Off);
            }
            Turn::On | Turn::Off => {}
        }
    }

    /// The flags of the boot that begins now; those for one boot are used up.
    fn boot(&mut self) -> BootFlags {
        let flags = self.flags;
        if flags.valid && !flags.persistent {
            self.set_flags([0; 5]);
        }
        flags
    }

    fn tell(&mut self, event: BmcEvent) {
        if self.events.len() >= EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn set_flags(&mut self, bytes: [u8; 5]) {
        self.flag_bytes = bytes;
        self.flags = BootFlags::parse(&bytes).unwrap_or(BootFlags::none());
    }

    /// Section 28.12.
    pub(super) fn set_option(&mut self, now: Time, data: &[u8], bugs: &[Bug]) -> u8 {
        let [selector, ref value @ ..] = *data else { return LENGTH_INVALID };
        let selector = selector & 0x7f;
        if selector != 5 && bugs.contains(&Bug::OnlyBootFlags) {
            return NOT_SUPPORTED;
        }
        match (selector, value) {
            (0, [0 | 2]) => self.in_progress = false,
            (0, [1]) if self.in_progress => return IN_PROGRESS,
            (0, [1]) => self.in_progress = true,
            (3, [bits]) => self.keep = *bits,
            (4, [mask, bits]) => {
                self.acknowledge = [0, self.acknowledge[1] & !mask | bits & mask];
            }
            (5, &[a, b, c, d, e]) => {
                if !bugs.contains(&Bug::ForgetsBootFlags) {
                    self.set_flags([a, b, c, d, e]);
                    let is_override = self.flags.effective() != BootDevice::None;
                    let expires = is_override && self.keep & KEEP_FLAGS == 0;
                    self.flags_until = expires.then(|| now + FLAGS);
                }
            }
            (0 | 3 | 4 | 5, _) => return LENGTH_INVALID,
            _ => return NOT_SUPPORTED,
        }
        OK
    }

    /// Section 28.13: parameter version, selector and parameter.
    pub(super) fn option(&self, data: &[u8]) -> Option<Vec<u8>> {
        let [selector, _, _] = *data else { return None };
        let selector = selector & 0x7f;
        let mut out = vec![0x01, selector];
        match selector {
            0 => out.push(u8::from(self.in_progress)),
            3 => out.push(self.keep),
            4 => out.extend_from_slice(&self.acknowledge),
            5 => out.extend_from_slice(&self.flag_bytes),
            _ => return None,
        }
        Some(out)
    }
}
