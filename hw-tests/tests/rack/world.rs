//! A rack in memory: the real control over a store in memory, hands and machines, and virtual time.
//!
//! One step of the world is one thing that happens to one part: a plan or a line of facts arrives, or a moment
//! comes that somebody waits for. Between any two steps anybody may be killed.

use crate::judge;
use crate::line::Line;
use crate::machine::{Machine, Net};
use crate::power::PowerHand;
use crate::services::{DhcpHand, HttpHand, Interfaces, TftpHand};
use crate::switch::{SwitchHand, Tor};
use boot::{Mac, NodeName};
use control::{Control, Done, Hand, Heard, Intent, NodeRecord, NodeView, Plans, Refusal, Site};
use core::time::Duration;
use rack::{LinkState, PowerFact, PowerPlan, SwitchFact, SwitchPlan, Vlan};
use sansio::Time;
use std::collections::BTreeMap;
use store::{Memory, Typed as _};

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    Control,
    Hand(Hand),
    /// The supervisor takes all with it.
    Supervisor,
}

impl Victim {
    pub(crate) const ALL: [Victim; 7] = [
        Victim::Control,
        Victim::Hand(Hand::Dhcp),
        Victim::Hand(Hand::Tftp),
        Victim::Hand(Hand::Http),
        Victim::Hand(Hand::Power),
        Victim::Hand(Hand::Switch),
        Victim::Supervisor,
    ];
}

/// How long a killed process is away.
pub(crate) const AWAY: Duration = Duration::from_millis(300);
/// More steps than any story takes: past it something goes round and round.
const MOST_STEPS: usize = 60_000;

/// A rack in memory.
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) steps: usize,
    pub(crate) control: Option<Control<Memory>>,
    control_starts: Option<Time>,
    pub(crate) store: Memory,
    pub(crate) site: Site,
    pub(crate) interfaces: Interfaces,
    pub(crate) dhcp: DhcpHand,
    pub(crate) tftp: TftpHand,
    pub(crate) http: HttpHand,
    pub(crate) power: Line<PowerPlan, PowerFact>,
    power_hand: PowerHand,
    pub(crate) switch: Line<SwitchPlan, SwitchFact>,
    switch_hand: SwitchHand,
    pub(crate) tor: Tor,
    pub(crate) machines: Vec<Machine>,
    /// Who is killed before which step.
    pub(crate) kills: Vec<(usize, Victim)>,
    /// Chooses among what may happen next; none: always in the same order.
    weather: Option<u64>,
    /// Inputs that control took.
    pub(crate) inputs: usize,
    /// Whether the store's refusals are a crash of control, as they are where the disk broke.
    pub(crate) crash_on_trouble: bool,
    /// How often it crashed so.
    pub(crate) crashes: usize,
    plans_before: Option<Plans>,
}

impl World {
    /// A rack whose control finds this store.
    pub(crate) fn open(store: &Memory, site: Site, interfaces: Interfaces, now: Time) -> World {
        let mut world = World {
            now,
            steps: 0,
            control: None,
            control_starts: Some(now),
            store: store.after_crash(),
            site,
            interfaces,
            dhcp: DhcpHand::new(now),
            tftp: TftpHand::new(now),
            http: HttpHand::new(now),
            power: Line::new("power", now),
            power_hand: PowerHand::default(),
            switch: Line::new("switch", now),
            switch_hand: SwitchHand::default(),
            tor: Tor::default(),
            machines: Vec::new(),
            kills: Vec::new(),
            weather: None,
            inputs: 0,
            crash_on_trouble: false,
            crashes: 0,
            plans_before: None,
        };
        world.start_processes();
        world
    }

    /// Lets what may happen at the same time happen in another order for each seed.
    pub(crate) fn weather(&mut self, seed: u64) {
        self.weather = Some(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    }

    fn chance(&mut self, most: usize) -> usize {
        let Some(state) = &mut self.weather else { return 0 };
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 20) as usize % most
    }

    pub(crate) fn vlan_of(&self, machine: &Machine) -> Vlan {
        self.tor.vlan(&machine.port)
    }

    pub(crate) fn machine(&self, name: &str) -> &Machine {
        self.machines.iter().find(|machine| machine.name.as_str() == name).expect("a machine of this rack")
    }

    pub(crate) fn machine_mut(&mut self, name: &str) -> &mut Machine {
        let found = self.machines.iter_mut().find(|machine| machine.name.as_str() == name);
        found.expect("a machine of this rack")
    }

    /// Takes a cable out, or puts it in.
    pub(crate) fn cable(&mut self, name: &str, is_in: bool) {
        let machine = self.machine_mut(name);
        machine.faults.cable_out = !is_in;
        let port = machine.port.clone();
        self.tor.set_link(&port, if is_in { LinkState::Up } else { LinkState::Down });
        self.switch_hand.handle_change(self.now);
    }

    /// Somebody else moves a port, and the switch tells.
    pub(crate) fn tamper(&mut self, name: &str, vlan: Vlan) {
        let port = self.machine(name).port.clone();
        self.tor.tamper(&port, vlan);
        self.switch_hand.handle_change(self.now);
    }

    /// Has control do something, as the API does; refusals come back.
    pub(crate) fn intend(&mut self, intent: Intent) -> Result<Done, Refusal> {
        let now = self.now;
        let control = self.control.as_mut().expect("control is up");
        let done = control.handle_intent(intent, now);
        self.inputs += 1;
        self.send_plans();
        self.crash_if_broken();
        done
    }

    /// The same, asked again as a client asks until it is done.
    pub(crate) fn insist(&mut self, intent: &Intent) -> Done {
        for _ in 0..200 {
            self.run_until("control to be up", |world| world.control.is_some());
            match self.intend(intent.clone()) {
                Ok(done) => return done,
                Err(refusal) => assert_eq!(refusal.kind, control::RefusalKind::Storage, "{refusal}"),
            }
            self.pass(Duration::from_secs(1));
        }
        panic!("never done: {intent:?}");
    }

    pub(crate) fn view(&self, name: &str) -> NodeView {
        let name: NodeName = name.parse().unwrap();
        let control = self.control.as_ref().expect("control is up");
        control.node_view(&name, self.now).expect("a node of this rack")
    }

    /// A node as it is on disk.
    pub(crate) fn record(&self, name: &str) -> NodeRecord {
        self.store.get_as::<NodeRecord>(name).unwrap().expect("a node of this rack")
    }

    /// SIGKILL, now.
    pub(crate) fn kill(&mut self, victim: Victim, away: Duration) {
        let now = self.now;
        match victim {
            Victim::Control => {
                let Some(control) = self.control.take() else { return };
                self.plans_before = Some(control.plans().clone());
                self.control_starts = Some(now + away);
                self.store = self.store.after_crash();
                self.dhcp.desk.cut(now);
                self.tftp.desk.cut(now);
                self.http.desk.cut(now);
                self.power.cut(now);
                self.switch.cut(now);
            }
            Victim::Hand(Hand::Dhcp) => self.dhcp.desk.kill(now, away),
            Victim::Hand(Hand::Tftp) => self.tftp.desk.kill(now, away),
            Victim::Hand(Hand::Http) => self.http.desk.kill(now, away),
            Victim::Hand(Hand::Power) => {
                self.power.kill(now, away);
                self.power_hand = PowerHand::default();
            }
            Victim::Hand(Hand::Switch) => {
                self.switch.kill(now, away);
                self.switch_hand = SwitchHand::default();
            }
            Victim::Supervisor => {
                self.kill(Victim::Control, away);
                Hand::ALL.into_iter().for_each(|hand| self.kill(Victim::Hand(hand), away));
            }
        }
    }

    fn crash_if_broken(&mut self) {
        let broken = |control: &Control<Memory>| control.status_view().store_trouble.is_some();
        if self.crash_on_trouble && self.control.as_ref().is_some_and(broken) {
            self.crashes += 1;
            self.kill(Victim::Control, AWAY);
            // What is on disk may be ahead of what was known.
            self.plans_before = None;
        }
    }

    /// Starts whoever is due, and makes lines.
    fn start_processes(&mut self) {
        let now = self.now;
        if self.control_starts.take_if(|at| *at <= now).is_some() {
            let opened = Control::open(self.store.clone(), self.site.clone(), [7; 32], now);
            let control = opened.expect("what was acknowledged is read back");
            if let Some(before) = self.plans_before.take() {
                assert!(*control.plans() == before, "a restart changed a plan");
            }
            self.control = Some(control);
        }
        if self.dhcp.desk.start(now) {
            self.dhcp.begin(now);
        }
        self.tftp.desk.start(now);
        if self.http.desk.start(now) {
            self.http.begin();
        }
        if self.power.start(now)
            && let Some(plan) = self.power.plan()
        {
            self.power_hand.take_plan(plan, now);
        }
        if self.switch.start(now)
            && let Some(plan) = self.switch.plan()
        {
            self.switch_hand.take_plan(plan, now);
        }
        if let Some(control) = &self.control {
            let plans = control.plans();
            self.dhcp.desk.connect(now, control.generation(Hand::Dhcp), &plans.dhcp);
            self.tftp.desk.connect(now, control.generation(Hand::Tftp), &plans.tftp);
            self.http.desk.connect(now, control.generation(Hand::Http), &plans.http);
            self.power.connect(now, control.generation(Hand::Power), &plans.power);
            self.switch.connect(now, control.generation(Hand::Switch), &plans.switch);
        }
        self.send_plans();
    }

    fn send_plans(&mut self) {
        let Some(control) = &mut self.control else { return };
        while let Some((hand, generation)) = control.poll_plan() {
            let plans = control.plans();
            match hand {
                Hand::Dhcp => self.dhcp.desk.send(generation, &plans.dhcp),
                Hand::Tftp => self.tftp.desk.send(generation, &plans.tftp),
                Hand::Http => self.http.desk.send(generation, &plans.http),
                Hand::Power => self.power.send(generation, &plans.power),
                Hand::Switch => self.switch.send(generation, &plans.switch),
            }
        }
    }

    /// One step. Whether time had to pass for it.
    pub(crate) fn step(&mut self) -> bool {
        let due: Vec<Victim> =
            self.kills.extract_if(.., |(step, _)| *step == self.steps).map(|(_, victim)| victim).collect();
        due.into_iter().for_each(|victim| self.kill(victim, AWAY));
        assert!(self.steps < MOST_STEPS, "it goes round and round");
        self.steps += 1;
        self.start_processes();
        let passed = !self.deliver();
        if passed {
            self.advance();
        }
        self.dhcp.desk.flush();
        self.tftp.desk.flush();
        self.http.desk.flush();
        self.power.flush();
        self.switch.flush();
        judge::isolation(self);
        passed
    }

    /// Delivers one thing that is on its way, if there is one.
    fn deliver(&mut self) -> bool {
        let mut ways: Vec<(Hand, bool)> = Vec::new();
        for hand in Hand::ALL {
            let (down, up) = match hand {
                Hand::Dhcp => (self.dhcp.desk.has_down(), self.dhcp.desk.has_up()),
                Hand::Tftp => (self.tftp.desk.has_down(), self.tftp.desk.has_up()),
                Hand::Http => (self.http.desk.has_down(), self.http.desk.has_up()),
                Hand::Power => (self.power.has_down(), self.power.has_up()),
                Hand::Switch => (self.switch.has_down(), self.switch.has_up()),
            };
            ways.extend(down.then_some((hand, false)));
            ways.extend((up && self.control.is_some()).then_some((hand, true)));
        }
        if ways.is_empty() {
            return false;
        }
        let (hand, is_up) = ways[self.chance(ways.len())];
        if is_up {
            self.deliver_up(hand)
        } else {
            self.deliver_down(hand)
        }
        true
    }

    fn deliver_up(&mut self, hand: Hand) {
        let heard = match hand {
            Hand::Dhcp => self.dhcp.desk.deliver_up().map(Heard::Dhcp),
            Hand::Tftp => self.tftp.desk.deliver_up().map(Heard::Tftp),
            Hand::Http => self.http.desk.deliver_up().map(Heard::Http),
            Hand::Power => self.power.deliver_up().map(Heard::Power),
            Hand::Switch => self.switch.deliver_up().map(Heard::Switch),
        };
        let (Some(heard), Some(control)) = (heard, &mut self.control) else { return };
        control.handle_hand(heard, self.now);
        self.inputs += 1;
        self.send_plans();
        self.crash_if_broken();
    }

    fn deliver_down(&mut self, hand: Hand) {
        let now = self.now;
        match hand {
            Hand::Dhcp if self.dhcp.desk.deliver_down() => self.dhcp.take_plan(now),
            Hand::Http if self.http.desk.deliver_down() => {
                self.http.take_plan();
                self.machines.iter_mut().for_each(|machine| machine.wake(now));
            }
            Hand::Tftp => drop(self.tftp.desk.deliver_down()),
            Hand::Power if self.power.deliver_down() => {
                if let Some(plan) = self.power.plan() {
                    self.power_hand.take_plan(plan, now);
                }
            }
            Hand::Switch if self.switch.deliver_down() => {
                if let Some(plan) = self.switch.plan() {
                    self.switch_hand.take_plan(plan, now);
                }
            }
            _ => {}
        }
    }

    /// Time goes on to the next moment that somebody waits for, and one of those who do has its turn.
    fn advance(&mut self) {
        #[derive(Clone, Copy)]
        enum Who {
            Process,
            Control,
            Http,
            Power,
            Switch,
            Tor,
            Machine(usize),
        }
        let there = self.control.is_some();
        let processes = [
            self.control_starts,
            self.dhcp.desk.poll_timeout(there),
            self.tftp.desk.poll_timeout(there),
            self.http.desk.poll_timeout(there),
            self.power.poll_timeout(there),
            self.switch.poll_timeout(there),
        ];
        let machines = self.machines.iter().enumerate();
        let mut due: Vec<(Time, Who)> =
            machines.filter_map(|(at, m)| Some((m.poll_timeout()?, Who::Machine(at)))).collect();
        due.extend(processes.into_iter().flatten().map(|at| (at, Who::Process)));
        let control = self.control.as_ref().and_then(Control::poll_timeout);
        due.extend(control.map(|at| (at, Who::Control)));
        let http = self.http.poll_timeout().filter(|_| self.http.desk.is_alive());
        due.extend(http.map(|at| (at, Who::Http)));
        let power = self.power_hand.poll_timeout().filter(|_| self.power.is_alive());
        due.extend(power.map(|at| (at, Who::Power)));
        let switch = self.switch_hand.poll_timeout().filter(|_| self.switch.is_alive());
        due.extend(switch.map(|at| (at, Who::Switch)));
        due.extend(self.tor.poll_timeout().map(|at| (at, Who::Tor)));
        let next = due.iter().map(|(at, _)| *at).min().expect("somebody waits for something");
        self.now = self.now.max(next);
        let ready: Vec<Who> = due.iter().filter(|(at, _)| *at <= self.now).map(|(_, who)| *who).collect();
        let now = self.now;
        match ready[self.chance(ready.len())] {
            Who::Process => self.start_processes(),
            Who::Control => {
                if let Some(control) = &mut self.control {
                    control.handle_timeout(now);
                    self.inputs += 1;
                }
                self.send_plans();
                self.crash_if_broken();
            }
            Who::Http => self.http.handle_timeout(now),
            Who::Power => {
                let machines = &mut self.machines;
                self.power_hand.handle_timeout(now, &mut self.power, |node| {
                    machines.iter_mut().find(|machine| machine.name == *node).map(|machine| &mut machine.bmc)
                });
            }
            Who::Switch => self.switch_hand.handle_timeout(now, &mut self.tor, &mut self.switch),
            Who::Tor => {
                if self.tor.handle_timeout(now) {
                    self.switch_hand.handle_change(now);
                }
            }
            Who::Machine(at) => {
                let machine = &mut self.machines[at];
                let port = self.tor.vlan(&machine.port);
                let vlan = Some(port).filter(|_| !machine.faults.cable_out);
                let (interfaces, dhcp, tftp, http) =
                    (&self.interfaces, &mut self.dhcp, &mut self.tftp, &mut self.http);
                machine.handle_timeout(port, &mut Net { vlan, interfaces, dhcp, tftp, http, now });
            }
        }
    }

    /// Runs until something is so, and not longer than an hour.
    pub(crate) fn run_until(&mut self, what: &str, is_so: impl Fn(&World) -> bool) {
        let end = self.now + Duration::from_secs(3600);
        while !is_so(self) {
            assert!(self.now < end, "waited for {what}:\n{}", self.story());
            self.step();
        }
    }

    /// Lets so much time pass.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    /// Runs until a node is in a state and at rest.
    pub(crate) fn settle(&mut self, name: &str, state: &str) -> NodeView {
        let at_rest = |world: &World| {
            world.control.is_some() && world.record(name).journey.is_none() && world.view(name).step.is_none()
        };
        self.run_until(&format!("{name} to be {state}"), at_rest);
        let view = self.view(name);
        assert_eq!(view.provision_state.to_string(), state, "{}", self.story());
        view
    }

    /// The log of events, for people.
    pub(crate) fn story(&self) -> String {
        let events = self.store.events_as::<control::Event>(store::EventNumber(0), 100_000).unwrap();
        let mut text: BTreeMap<u64, String> = BTreeMap::new();
        for (number, event) in events {
            let line = format!("{} {} {}: {}", event.at, event.subject.name, event.kind, event.text);
            text.insert(number.0, line);
        }
        let mut lines: Vec<String> = text.into_values().collect();
        if let Some(control) = &self.control {
            for view in control.node_views(self.now) {
                lines.push(format!("{} {} {:?}", view.name, view.provision_state, view.step));
            }
        }
        lines.push(format!("now {}, step {}", self.now, self.steps));
        lines.join("\n")
    }

    /// What was told of a node, by kind of event.
    pub(crate) fn events(&self, name: &str, kind: &str) -> Vec<control::Event> {
        let events = self.store.events_as::<control::Event>(store::EventNumber(0), 100_000).unwrap();
        let of = |event: &control::Event| event.subject.name == name && event.kind == kind;
        events.into_iter().map(|(_, event)| event).filter(of).collect()
    }

    /// A packet of a machine that nobody described, on a VLAN.
    pub(crate) fn stranger(&mut self, mac: Mac, vlan: Vlan) {
        let packet = crate::packet::request(mac, 77, crate::packet::Dress::Rom, None);
        self.dhcp.datagram(vlan, &self.interfaces, &packet, self.now);
        self.dhcp.desk.flush();
    }
}
