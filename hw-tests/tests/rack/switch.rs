//! A switch, and a hand that keeps its ports where they are wished, as the real one does.

use crate::line::Line;
use boot::Attempt;
use core::time::Duration;
use rack::{LinkState, PortFact, PortMode, PortWish, SwitchFact, SwitchName, SwitchPlan, SwitchPort, Vlan};
use sansio::Time;
use std::collections::{BTreeMap, BTreeSet};

/// From an order to its being in force.
const SETTING: Duration = Duration::from_millis(20);
const PAUSE: Duration = Duration::from_secs(1);

/// A switch, and what can be wrong with it.
#[derive(Debug, Default)]
pub(crate) struct Tor {
    ports: BTreeMap<SwitchPort, Port>,
    pub(crate) is_away: bool,
    pub(crate) refuses: BTreeSet<Vlan>,
    /// Accepts orders and changes nothing.
    pub(crate) is_lying: bool,
    /// Somebody who moves a port again and again, so long after it was put back.
    pub(crate) meddler: Option<(SwitchPort, Vlan, Duration)>,
    meddles_at: Option<Time>,
}

#[derive(Debug)]
struct Port {
    vlan: Vlan,
    link: LinkState,
    /// Moved by somebody else, and not put back since.
    is_tampered: bool,
}

impl Tor {
    pub(crate) fn add(&mut self, port: SwitchPort, vlan: Vlan) {
        self.ports.insert(port, Port { vlan, link: LinkState::Up, is_tampered: false });
    }

    pub(crate) fn vlan(&self, port: &SwitchPort) -> Vlan {
        self.ports[port].vlan
    }

    pub(crate) fn is_tampered(&self, port: &SwitchPort) -> bool {
        self.ports[port].is_tampered
    }

    pub(crate) fn set_link(&mut self, port: &SwitchPort, link: LinkState) {
        if let Some(port) = self.ports.get_mut(port) {
            port.link = link;
        }
    }

    /// Somebody else moves a port.
    pub(crate) fn tamper(&mut self, port: &SwitchPort, vlan: Vlan) {
        if let Some(port) = self.ports.get_mut(port) {
            port.is_tampered = port.vlan != vlan || port.is_tampered;
            port.vlan = vlan;
        }
    }

    fn set(&mut self, port: &SwitchPort, vlan: Vlan, now: Time) -> Result<(), String> {
        if self.refuses.contains(&vlan) {
            return Err(format!("the switch refuses VLAN {vlan}: allow it on the switch"));
        }
        let is_lying = self.is_lying;
        if let Some(port) = self.ports.get_mut(port).filter(|_| !is_lying) {
            (port.vlan, port.is_tampered) = (vlan, false);
        }
        if let Some((_, _, after)) = self.meddler.as_ref().filter(|(moved, ..)| moved == port) {
            self.meddles_at = Some(now + *after);
        }
        Ok(())
    }

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.meddles_at
    }

    /// Whether the meddler was at work.
    pub(crate) fn handle_timeout(&mut self, now: Time) -> bool {
        if self.meddles_at.take_if(|at| *at <= now).is_none() {
            return false;
        }
        if let Some((port, vlan, _)) = self.meddler.clone() {
            self.tamper(&port, vlan);
        }
        true
    }
}

#[derive(Debug)]
struct Kept {
    wish: PortWish,
    seen: Option<PortMode>,
    attempt: Option<Attempt>,
    settled: bool,
    drifts: u32,
    due: Option<Time>,
    refusal: Option<String>,
    vain: u32,
}

/// The hand.
#[derive(Debug, Default)]
pub(crate) struct SwitchHand {
    switches: BTreeMap<SwitchName, BTreeMap<SwitchPort, Kept>>,
    look_at: Option<Time>,
    is_away: bool,
}

impl SwitchHand {
    pub(crate) fn take_plan(&mut self, plan: &SwitchPlan, now: Time) {
        self.switches.retain(|name, _| plan.switches.iter().any(|entry| entry.name == *name));
        for entry in &plan.switches {
            let ports = self.switches.entry(entry.name.clone()).or_default();
            ports.retain(|port, _| entry.ports.iter().any(|wish| wish.port == *port));
            for wish in &entry.ports {
                let kept = ports.entry(wish.port.clone()).or_insert_with(|| Kept {
                    wish: wish.clone(),
                    seen: None,
                    attempt: None,
                    settled: false,
                    drifts: 0,
                    due: None,
                    refusal: None,
                    vain: 0,
                });
                if kept.wish.vlan != wish.vlan {
                    (kept.settled, kept.vain, kept.refusal, kept.due) = (false, 0, None, None);
                }
                kept.wish = wish.clone();
            }
        }
        self.look_at = Some(now + SETTING);
    }

    /// The switch says that something changed.
    pub(crate) fn handle_change(&mut self, now: Time) {
        self.look_at = Some(now);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.look_at
    }

    pub(crate) fn handle_timeout(
        &mut self,
        now: Time,
        tor: &mut Tor,
        desk: &mut Line<SwitchPlan, SwitchFact>,
    ) {
        self.look_at = None;
        for (name, ports) in &mut self.switches {
            let reach = tor.is_away.then(|| format!("switch {name} does not answer: look at its cable"));
            desk.tell(name.to_string(), SwitchFact::Reach { switch: name.clone(), trouble: reach.clone() });
            for (port, kept) in ports.iter_mut() {
                if reach.is_some() {
                    kept.seen = None;
                } else {
                    kept.look(now, port, tor);
                }
                let link = tor.ports.get(port).map(|port| port.link).unwrap_or_default();
                let fact = PortFact {
                    switch: name.clone(),
                    port: port.clone(),
                    mode: kept.seen,
                    link,
                    drifts: kept.drifts,
                    attempt: kept.attempt.clone(),
                    trouble: kept.trouble(),
                };
                desk.tell(format!("{name}/{port}"), SwitchFact::Port(fact));
            }
            let due = ports.values().filter_map(|kept| kept.due).min();
            let due = if reach.is_some() { Some(now + PAUSE) } else { due };
            self.look_at = [self.look_at, due].into_iter().flatten().min();
        }
        self.is_away = tor.is_away;
    }
}

impl Kept {
    fn look(&mut self, now: Time, name: &SwitchPort, tor: &mut Tor) {
        let Some(port) = tor.ports.get(name) else {
            self.seen = Some(PortMode::Absent);
            return;
        };
        let is_wanted = port.vlan == self.wish.vlan;
        if is_wanted {
            (self.settled, self.vain, self.refusal, self.due) = (true, 0, None, None);
        } else if core::mem::take(&mut self.settled) {
            self.drifts += 1;
            self.due = None;
        }
        self.seen = Some(PortMode::Access(port.vlan));
        self.attempt.clone_from(&self.wish.attempt);
        if !is_wanted && self.due.is_none_or(|due| due <= now) {
            self.refusal = tor.set(name, self.wish.vlan, now).err();
            // It is looked at again once the order can be in force.
            let again = if self.vain == 0 && self.refusal.is_none() { SETTING } else { PAUSE };
            self.vain += 1;
            self.due = Some(now + again);
        }
    }

    fn trouble(&self) -> Option<String> {
        let vain = || {
            let text = format!("the switch accepts VLAN {} and the port is not in it", self.wish.vlan);
            (self.vain > 2).then_some(text)
        };
        self.refusal.clone().or_else(vain)
    }
}
