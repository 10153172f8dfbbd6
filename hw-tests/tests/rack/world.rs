//! A rack in memory: the real control over a store in memory, hands and machines, and virtual time.
//!
//! One step of the world is one thing that happens to one part: a plan or a line of facts arrives, or a moment
//! comes that somebody waits for. Between any two steps anybody may be killed.

mod turn;

use crate::iscsi::IscsiHand;
use crate::line::Line;
use crate::machine::Machine;
use crate::power::PowerHand;
use crate::services::{DhcpHand, HttpHand, Interfaces, TftpHand};
use crate::switch::{SwitchHand, Tor};
use boot::{Mac, NodeName};
use control::{Control, Done, Hand, Intent, NodeRecord, NodeView, Plans, Refusal, Site};
use core::time::Duration;
use rack::{LinkState, PowerFact, PowerPlan, SwitchFact, SwitchPlan, Vlan};
use sansio::Time;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use store::{CommitNumber, Memory, Store as _, Typed as _};

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    Control,
    Hand(Hand),
    /// The supervisor takes all with it.
    Supervisor,
}

impl Victim {
    pub(crate) const ALL: [Victim; 8] = [
        Victim::Control,
        Victim::Hand(Hand::Dhcp),
        Victim::Hand(Hand::Tftp),
        Victim::Hand(Hand::Http),
        Victim::Hand(Hand::Iscsi),
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
    pub(crate) iscsi: IscsiHand,
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
    /// How often control ended since its store broke.
    pub(crate) crashes: usize,
    plans_before: Option<Plans>,
    /// Hands whose line to control broke, which it does not know yet.
    gone: Vec<Hand>,
    /// The hands that this run of control has a plan for.
    planned: BTreeSet<Hand>,
    /// The store has no room.
    pub(crate) is_full: bool,
    /// Records as they were read after a commit.
    read: RefCell<BTreeMap<String, (CommitNumber, NodeRecord)>>,
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
            iscsi: IscsiHand::new(now),
            power: Line::new("power", now),
            power_hand: PowerHand::default(),
            switch: Line::new("switch", now),
            switch_hand: SwitchHand::default(),
            tor: Tor::default(),
            machines: Vec::new(),
            kills: Vec::new(),
            weather: None,
            inputs: 0,
            crashes: 0,
            plans_before: None,
            gone: Vec::new(),
            planned: BTreeSet::new(),
            is_full: false,
            read: RefCell::default(),
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
        let commit = self.store.newest_commit();
        let mut read = self.read.borrow_mut();
        if let Some((_, record)) = read.get(name).filter(|(at, _)| *at == commit) {
            return record.clone();
        }
        let record = self.store.get_as::<NodeRecord>(name).unwrap().expect("a node of this rack");
        read.insert(name.to_owned(), (commit, record.clone()));
        record
    }

    /// SIGKILL, now.
    pub(crate) fn kill(&mut self, victim: Victim, away: Duration) {
        let now = self.now;
        if let Victim::Hand(hand) = victim {
            self.gone.push(hand);
        }
        match victim {
            Victim::Control => {
                let Some(control) = self.control.take() else { return };
                self.gone.clear();
                self.plans_before = Some(control.plans().clone());
                self.control_starts = Some(now + away);
                self.store = self.store.after_crash();
                self.dhcp.desk.cut(now);
                self.tftp.desk.cut(now);
                self.http.desk.cut(now);
                self.iscsi.desk.cut(now);
                self.power.cut(now);
                self.switch.cut(now);
            }
            Victim::Hand(Hand::Dhcp) => self.dhcp.desk.kill(now, away),
            Victim::Hand(Hand::Tftp) => self.tftp.desk.kill(now, away),
            Victim::Hand(Hand::Http) => self.http.desk.kill(now, away),
            Victim::Hand(Hand::Iscsi) => self.iscsi.kill(now, away),
            Victim::Hand(Hand::Power) => {
                self.power.kill(now, away);
                self.power_hand = PowerHand::default();
            }
            Victim::Hand(Hand::Switch) => {
                self.switch.kill(now, away);
                self.switch_hand = SwitchHand::default();
            }
            Victim::Hand(Hand::Host) => {}
            Victim::Supervisor => {
                self.kill(Victim::Control, away);
                Hand::ALL.into_iter().for_each(|hand| self.kill(Victim::Hand(hand), away));
            }
        }
    }

    fn crash_if_broken(&mut self) {
        if self.control.as_ref().is_some_and(Control::must_restart) {
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
            if let Some(before) = self.plans_before.take().filter(|_| !self.is_full) {
                assert!(*control.plans() == before, "a restart changed a plan");
            }
            self.control = Some(control);
            self.planned.clear();
            self.send_plans();
        }
        if self.dhcp.desk.start(now) {
            self.dhcp.begin(now);
        }
        self.tftp.desk.start(now);
        if self.http.desk.start(now) {
            self.http.begin();
        }
        if self.iscsi.desk.start(now) {
            self.iscsi.begin(now);
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
            let newest = |hand| self.planned.contains(&hand).then(|| control.generation(hand));
            self.dhcp.desk.connect(now, newest(Hand::Dhcp), &plans.dhcp);
            self.tftp.desk.connect(now, newest(Hand::Tftp), &plans.tftp);
            self.http.desk.connect(now, newest(Hand::Http), &plans.http);
            self.iscsi.desk.connect(now, newest(Hand::Iscsi), &plans.iscsi);
            self.power.connect(now, newest(Hand::Power), &plans.power);
            self.switch.connect(now, newest(Hand::Switch), &plans.switch);
        }
        self.send_plans();
    }

    fn send_plans(&mut self) {
        let Some(control) = &mut self.control else { return };
        while let Some((hand, generation)) = control.poll_plan() {
            let plans = control.plans();
            self.planned.insert(hand);
            match hand {
                Hand::Dhcp => self.dhcp.desk.send(generation, &plans.dhcp),
                Hand::Tftp => self.tftp.desk.send(generation, &plans.tftp),
                Hand::Http => self.http.desk.send(generation, &plans.http),
                Hand::Iscsi => self.iscsi.desk.send(generation, &plans.iscsi),
                Hand::Power => self.power.send(generation, &plans.power),
                Hand::Switch => self.switch.send(generation, &plans.switch),
                Hand::Host => {}
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
