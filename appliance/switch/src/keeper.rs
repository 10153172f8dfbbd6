use crate::{Did, Order, Refusal, Seen, Standing};
use boot::Attempt;
use core::time::Duration;
use rack::{LinkState, PortFact, PortMode, PortWish, SwitchFact, SwitchName, SwitchPort, Vlan};
use sansio::Time;
use std::collections::{BTreeMap, VecDeque};

/// The pause before a port is set again that was set and is not as wished; doubled each time.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// So many drifts in [`FIGHT`] are taken for a person, or a program, that wants something else.
const MOST_DRIFTS: usize = 5;
const FIGHT: Duration = Duration::from_secs(60);

/// The ports of one switch against what is wished of them: says what to set and what to tell.
///
/// Knows nothing of the kind of switch, and has no session; whoever has one looks, and hands in.
#[derive(Debug)]
pub(crate) struct Keeper {
    switch: SwitchName,
    ports: BTreeMap<SwitchPort, Kept>,
    /// None: it was not tried yet.
    reach: Option<Option<String>>,
    told: Option<Option<String>>,
}

#[derive(Debug)]
struct Kept {
    wish: PortWish,
    seen: Option<Seen>,
    /// The attempt that was wished for when it was last seen.
    attempt: Option<Attempt>,
    /// Whether it was seen as wished, so that anything else is a change behind our back.
    settled: bool,
    drifts: u32,
    /// When it drifted last; at most one more than is put up with.
    recent: VecDeque<Time>,
    /// Where it was found when it drifted.
    drifted_to: Option<PortMode>,
    set_at: Option<Time>,
    not_before: Time,
    /// Sets that did not help, one after the other.
    vain: u32,
    refusal: Option<Refusal>,
    told: Option<PortFact>,
}

impl Kept {
    fn new(wish: PortWish) -> Kept {
        Kept {
            wish,
            seen: None,
            attempt: None,
            settled: false,
            drifts: 0,
            recent: VecDeque::new(),
            drifted_to: None,
            set_at: None,
            not_before: Time::ZERO,
            vain: 0,
            refusal: None,
            told: None,
        }
    }

    fn is_wanted(&self, mode: PortMode) -> bool {
        mode == PortMode::Access(self.wish.vlan)
    }

    /// What is in force. Between two configurations it may be either, so nothing is said.
    fn mode(&self) -> Option<PortMode> {
        self.seen.as_ref().filter(|seen| seen.standing == Standing::InForce).map(|seen| seen.mode)
    }

    fn fights(&self, now: Time) -> bool {
        self.recent.len() > MOST_DRIFTS && self.recent.front().is_some_and(|first| now.since(*first) <= FIGHT)
    }

    fn wants(&self) -> Option<Vlan> {
        let mode = self.seen.as_ref()?.mode;
        (!self.is_wanted(mode) && mode != PortMode::Absent).then_some(self.wish.vlan)
    }

    fn handle_seen(&mut self, now: Time, seen: Seen) {
        if self.is_wanted(seen.mode) {
            self.settled = true;
            self.vain = 0;
            self.refusal = None;
        } else if self.settled {
            self.settled = false;
            self.not_before = now;
            if seen.mode != PortMode::Absent {
                self.drifts = self.drifts.saturating_add(1);
                self.drifted_to = Some(seen.mode);
                self.recent.push_back(now);
                if self.recent.len() > MOST_DRIFTS + 1 {
                    self.recent.pop_front();
                }
                if self.fights(now) {
                    self.not_before = self.set_at.map_or(now, |set| set + LONGEST_PAUSE);
                }
            }
        }
        self.attempt.clone_from(&self.wish.attempt);
        self.seen = Some(seen);
    }

    fn handle_outcome(&mut self, now: Time, outcome: Result<Did, Refusal>) {
        self.set_at = Some(now);
        self.refusal = outcome.err();
        self.not_before = now + (SHORTEST_PAUSE * 2_u32.saturating_pow(self.vain)).min(LONGEST_PAUSE);
        self.vain = self.vain.saturating_add(1).min(16);
    }

    fn trouble(&self, now: Time) -> Option<String> {
        let seen = self.seen.as_ref()?;
        if self.fights(now) {
            let found = self.drifted_to.unwrap_or(seen.mode);
            return Some(format!(
                "somebody else keeps changing this port (more than {MOST_DRIFTS} times in a minute, last found {found}); \
                 it is put back, and no more often than every {} s: find who else configures the switch",
                LONGEST_PAUSE.as_secs()
            ));
        }
        if let Some(trouble) = &seen.trouble {
            return Some(trouble.clone());
        }
        if let Some(refusal) = &self.refusal {
            return Some(refusal.to_string());
        }
        (self.vain > 1 && self.wants().is_some()).then(|| {
            format!(
                "the switch accepts VLAN {} for this port and still says that it is {}: see whether it is locked \
                 there, or part of a bond",
                self.wish.vlan, seen.mode
            )
        })
    }

    fn fact(&self, switch: &SwitchName, now: Time) -> Option<PortFact> {
        let link = self.seen.as_ref().map_or(LinkState::Unknown, |seen| seen.link);
        let trouble =
            self.trouble(now).map(|trouble| format!("switch {switch}, port {}: {trouble}", self.wish.port));
        if self.told.is_none() && self.mode().is_none() && trouble.is_none() {
            return None;
        }
        let fact = PortFact {
            switch: switch.clone(),
            port: self.wish.port.clone(),
            mode: self.mode(),
            link,
            drifts: self.drifts,
            attempt: self.attempt.clone(),
            trouble,
        };
        (self.told.as_ref() != Some(&fact)).then_some(fact)
    }
}

impl Keeper {
    pub(crate) fn new(switch: SwitchName) -> Keeper {
        Keeper { switch, ports: BTreeMap::new(), reach: None, told: None }
    }

    /// Takes what is wished from now on. Of two wishes for one port the last counts.
    pub(crate) fn handle_plan(&mut self, now: Time, wishes: &[PortWish]) {
        self.ports.retain(|port, _| wishes.iter().any(|wish| wish.port == *port));
        for wish in wishes {
            match self.ports.get_mut(&wish.port) {
                Some(kept) => {
                    if kept.wish.vlan != wish.vlan {
                        kept.settled = false;
                        kept.vain = 0;
                        kept.refusal = None;
                        kept.not_before = now;
                        kept.recent.clear();
                    }
                    kept.wish = wish.clone();
                }
                None => {
                    self.ports.insert(wish.port.clone(), Kept::new(wish.clone()));
                }
            }
        }
    }

    /// Takes whether the switch can be talked to: none, or what is wrong. Without a session no port can be
    /// vouched for.
    pub(crate) fn handle_reach(&mut self, trouble: Option<String>) {
        if trouble.is_some() {
            for kept in self.ports.values_mut() {
                kept.seen = None;
            }
        }
        self.reach = Some(trouble);
    }

    /// Takes what a look showed.
    pub(crate) fn handle_seen(&mut self, now: Time, seen: impl IntoIterator<Item = (SwitchPort, Seen)>) {
        for (port, seen) in seen {
            if let Some(kept) = self.ports.get_mut(&port) {
                kept.handle_seen(now, seen);
            }
        }
    }

    /// Takes the switch's word on an order.
    pub(crate) fn handle_outcome(&mut self, now: Time, order: &Order, outcome: Result<Did, Refusal>) {
        if let Some(kept) = self.ports.get_mut(&order.port) {
            kept.handle_outcome(now, outcome);
        }
    }

    /// Takes that a fact was told.
    pub(crate) fn handle_told(&mut self, fact: &SwitchFact) {
        match fact {
            SwitchFact::Reach { trouble, .. } => self.told = Some(trouble.clone()),
            SwitchFact::Port(fact) => {
                if let Some(kept) = self.ports.get_mut(&fact.port) {
                    kept.told = Some(fact.clone());
                }
            }
        }
    }

    /// The ports to look at.
    pub(crate) fn ports(&self) -> Vec<SwitchPort> {
        self.ports.keys().cloned().collect()
    }

    /// What to set now.
    pub(crate) fn orders(&self, now: Time) -> Vec<Order> {
        let due = self.ports.values().filter(|kept| kept.not_before <= now);
        due.filter_map(|kept| Some(Order { vlan: kept.wants()?, port: kept.wish.port.clone() })).collect()
    }

    /// When to look again although nothing changed.
    pub(crate) fn poll_timeout(&self, now: Time) -> Option<Time> {
        let sets = self.ports.values().filter(|kept| kept.wants().is_some()).map(|kept| kept.not_before);
        let fights = self.ports.values().filter(|kept| kept.fights(now));
        let peace = fights.filter_map(|kept| Some(*kept.recent.front()? + FIGHT + Duration::from_millis(1)));
        sets.chain(peace).min()
    }

    /// A fact that was not told yet, the switch's own before its ports'.
    pub(crate) fn fact(&self, now: Time) -> Option<SwitchFact> {
        if let Some(trouble) = &self.reach
            && self.told.as_ref() != Some(trouble)
        {
            return Some(SwitchFact::Reach { switch: self.switch.clone(), trouble: trouble.clone() });
        }
        self.ports.values().find_map(|kept| kept.fact(&self.switch, now)).map(SwitchFact::Port)
    }
}

#[cfg(test)]
mod tests;
