//! BMCs, and a hand that pursues what is wished of them as the real one does: it looks, acts, looks again.

use crate::line::Line;
use boot::NodeName;
use core::time::Duration;
use rack::{BmcTrouble, BootDevice, Power, PowerFact, PowerPlan, PowerWish};
use sansio::Time;
use std::collections::BTreeMap;

const WATCH: Duration = Duration::from_secs(10);
const REPEAT: Duration = Duration::from_secs(3);
const INERT: u32 = 3;
/// From one command to the next.
const ROUND: Duration = Duration::from_millis(20);
/// From a power command to its effect.
const SWITCHING: Duration = Duration::from_millis(300);

/// A BMC, and the bugs it may have.
#[derive(Debug)]
pub(crate) struct Bmc {
    pub(crate) password: String,
    pub(crate) is_deaf: bool,
    pub(crate) is_inert: bool,
    /// The override for the next boot.
    pub(crate) boot: Option<BootDevice>,
    pub(crate) is_on: bool,
    switching: Option<(Time, bool)>,
    /// Power commands that it took.
    pub(crate) commands: u32,
}

/// What a power command led to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Switched {
    On(BootDevice),
    Off,
}

impl Bmc {
    pub(crate) fn new(password: &str) -> Bmc {
        Bmc {
            password: password.to_owned(),
            is_deaf: false,
            is_inert: false,
            boot: None,
            is_on: false,
            switching: None,
            commands: 0,
        }
    }

    fn control(&mut self, on: bool, now: Time) {
        self.commands += 1;
        let under_way = self.switching.is_some_and(|(_, towards)| towards == on);
        if !self.is_inert && self.is_on != on && !under_way {
            self.switching = Some((now + SWITCHING, on));
        }
    }

    /// Somebody presses the button.
    pub(crate) fn press_power(&mut self, now: Time) {
        self.switching = Some((now, !self.is_on));
    }

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.switching.map(|(at, _)| at)
    }

    /// The relay closes or opens. A boot override is used up by the boot it is for.
    pub(crate) fn handle_timeout(&mut self, now: Time) -> Option<Switched> {
        let (_, on) = self.switching.take_if(|(at, _)| *at <= now)?;
        self.is_on = on;
        Some(if on { Switched::On(self.boot.take().unwrap_or(BootDevice::None)) } else { Switched::Off })
    }
}

#[derive(Debug)]
struct Pursuit {
    wish: Option<PowerWish>,
    fact: PowerFact,
    look_at: Time,
    acted_at: Time,
    vain: u32,
    disarmed: bool,
    failures: u32,
}

/// The hand. Its facts go to its desk.
#[derive(Debug, Default)]
pub(crate) struct PowerHand {
    pursuits: BTreeMap<NodeName, Pursuit>,
}

impl PowerHand {
    pub(crate) fn take_plan(&mut self, plan: &PowerPlan, now: Time) {
        self.pursuits.retain(|node, _| plan.bmcs.iter().any(|bmc| bmc.node == *node));
        for bmc in &plan.bmcs {
            let fresh = || Pursuit {
                wish: None,
                fact: PowerFact {
                    node: bmc.node.clone(),
                    revision: bmc.revision,
                    power: None,
                    boot: None,
                    fulfilled: None,
                    acted: 0,
                    trouble: None,
                },
                look_at: now,
                acted_at: Time::ZERO,
                vain: 0,
                disarmed: false,
                failures: 0,
            };
            let pursuit = self.pursuits.entry(bmc.node.clone()).or_insert_with(fresh);
            if pursuit.fact.revision != bmc.revision {
                *pursuit = fresh();
            }
            if pursuit.wish != bmc.wish {
                pursuit.wish = bmc.wish.clone();
                (pursuit.look_at, pursuit.vain, pursuit.disarmed) = (now, 0, false);
                pursuit.fact.fulfilled = None;
                pursuit.fact.acted = 0;
            }
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.pursuits.values().map(|pursuit| pursuit.look_at).min()
    }

    /// One BMC whose turn it is.
    pub(crate) fn handle_timeout<'a>(
        &mut self,
        now: Time,
        desk: &mut Line<PowerPlan, PowerFact>,
        bmc_of: impl FnOnce(&NodeName) -> Option<&'a mut Bmc>,
    ) {
        let Some(plan) = desk.plan().cloned() else { return };
        let Some((node, pursuit)) = self.pursuits.iter_mut().find(|(_, pursuit)| pursuit.look_at <= now)
        else {
            return;
        };
        let password = plan.bmcs.iter().find(|bmc| bmc.node == *node).map(|bmc| bmc.password.clone());
        match bmc_of(node).filter(|bmc| !bmc.is_deaf) {
            None => {
                let text = format!("the BMC of {node} does not answer: look at its cable and address");
                pursuit.unreached(now, BmcTrouble::Silent(text));
            }
            Some(bmc) if password.is_none_or(|password| password.expose() != bmc.password) => {
                let text = format!("the BMC of {node} refuses the password: describe the node anew");
                pursuit.unreached(now, BmcTrouble::Credentials(text));
            }
            Some(bmc) => pursuit.look(now, bmc),
        }
        desk.tell(node.to_string(), pursuit.fact.clone());
    }
}

impl Pursuit {
    fn unreached(&mut self, now: Time, trouble: BmcTrouble) {
        let is_credentials = matches!(trouble, BmcTrouble::Credentials(_));
        self.fact.trouble = Some(trouble);
        self.failures += 1;
        self.look_at = now + Duration::from_secs(if is_credentials && self.failures > 1 { 30 } else { 5 });
    }

    fn look(&mut self, now: Time, bmc: &mut Bmc) {
        self.failures = 0;
        self.fact.power = Some(if bmc.is_on { Power::On } else { Power::Off });
        self.fact.boot = Some(bmc.boot.unwrap_or(BootDevice::None));
        self.fact.trouble = None;
        let Some(wish) = self.wish.clone() else {
            self.look_at = now + Duration::from_secs(30);
            return;
        };
        let is_met = bmc.is_on == (wish.power == Power::On);
        match (wish.power, is_met) {
            (Power::On, true) => self.fulfilled(now, &wish),
            (Power::Off, true) if self.disarmed => self.fulfilled(now, &wish),
            (Power::Off, true) => {
                bmc.boot = None;
                self.disarmed = true;
                self.look_at = now + ROUND;
            }
            (_, false) if self.vain > 0 && now < self.acted_at + REPEAT => {
                self.fact.fulfilled = None;
                self.look_at = now + Duration::from_millis(500);
            }
            (power, false) => {
                self.fact.fulfilled = None;
                if power == Power::On {
                    bmc.boot = wish.boot.map(|boot| boot.device).filter(|device| *device != BootDevice::None);
                }
                bmc.control(power == Power::On, now);
                self.fact.acted += 1;
                self.vain += 1;
                self.disarmed = false;
                self.acted_at = now;
                self.look_at = now + ROUND;
            }
        }
        if !is_met && self.vain >= INERT {
            let text = format!("the BMC accepts power {} and the machine does not obey", wish.power);
            self.fact.trouble = Some(BmcTrouble::Inert(text));
        }
    }

    fn fulfilled(&mut self, now: Time, wish: &PowerWish) {
        self.vain = 0;
        self.fact.fulfilled = Some(wish.attempt.clone());
        self.look_at = now + WATCH;
    }
}
