//! One step of the world, and who has the next one.

use super::{AWAY, MOST_STEPS, Victim, World};
use crate::judge;
use crate::machine::Net;
use control::{Control, Hand, Heard};
use core::time::Duration;
use sansio::Time;
use store::Failing;

impl World {
    /// One step. Whether time had to pass for it.
    pub(crate) fn step(&mut self) -> bool {
        let due: Vec<Victim> =
            self.kills.extract_if(.., |(step, _)| *step == self.steps).map(|(_, victim)| victim).collect();
        due.into_iter().for_each(|victim| self.kill(victim, AWAY));
        assert!(self.steps < MOST_STEPS, "it goes round and round");
        if self.is_full {
            self.store.fail_after(0, Failing::Refused);
        }
        self.steps += 1;
        self.start_processes();
        let passed = !self.deliver();
        if passed {
            self.advance();
        }
        self.dhcp.desk.flush();
        self.tftp.desk.flush();
        self.http.desk.flush();
        self.iscsi.desk.flush();
        self.power.flush();
        self.switch.flush();
        judge::isolation(self);
        judge::one_writer(self);
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
                Hand::Iscsi => (self.iscsi.desk.has_down(), self.iscsi.desk.has_up()),
                Hand::Power => (self.power.has_down(), self.power.has_up()),
                Hand::Switch => (self.switch.has_down(), self.switch.has_up()),
                // This appliance is no image.
                Hand::Host => (false, false),
            };
            ways.extend(down.then_some((hand, false)));
            ways.extend((up && self.control.is_some()).then_some((hand, true)));
        }
        if let (Some(control), Some(hand)) = (&mut self.control, self.gone.pop()) {
            control.handle_hand(Heard::Away(hand), self.now);
            self.inputs += 1;
            self.send_plans();
            self.crash_if_broken();
            return true;
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
            Hand::Iscsi => self.iscsi.desk.deliver_up().map(Heard::Iscsi),
            Hand::Power => self.power.deliver_up().map(Heard::Power),
            Hand::Switch => self.switch.deliver_up().map(Heard::Switch),
            Hand::Host => None,
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
            Hand::Iscsi if self.iscsi.desk.deliver_down() => self.iscsi.take_plan(now),
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
            Iscsi,
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
            self.iscsi.desk.poll_timeout(there),
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
        let iscsi = self.iscsi.poll_timeout().filter(|_| self.iscsi.desk.is_alive());
        due.extend(iscsi.map(|at| (at, Who::Iscsi)));
        let power = self.power_hand.poll_timeout().filter(|_| self.power.is_alive());
        due.extend(power.map(|at| (at, Who::Power)));
        let switch = self.switch_hand.poll_timeout().filter(|_| self.switch.is_alive());
        due.extend(switch.map(|at| (at, Who::Switch)));
        due.extend(self.tor.poll_timeout().map(|at| (at, Who::Tor)));
        let next = due.iter().map(|(at, _)| *at).min();
        self.now = self.now.max(next.unwrap_or(self.now + Duration::from_secs(1)));
        let ready: Vec<Who> = due.iter().filter(|(at, _)| *at <= self.now).map(|(_, who)| *who).collect();
        let now = self.now;
        if ready.is_empty() {
            return;
        }
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
            Who::Iscsi => self.iscsi.handle_timeout(now, &mut self.machines),
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
                let (interfaces, dhcp, tftp, http, iscsi) =
                    (&self.interfaces, &mut self.dhcp, &mut self.tftp, &mut self.http, &mut self.iscsi);
                machine.handle_timeout(port, &mut Net { vlan, interfaces, dhcp, tftp, http, iscsi, now });
            }
        }
    }
}
