use super::*;
use ipmi::{BootOption, ChassisStatus};

/// A machine and its BMC, as far as the pursuit can tell them apart.
struct Machine {
    now: Time,
    pursuit: Pursuit,
    on: bool,
    flags: BootFlags,
    /// Accepts power commands and does nothing.
    inert: bool,
    /// Accepts boot flags and does not keep them.
    forgetful: bool,
    /// Every command ends like this.
    failure: Option<Failure>,
    /// Every command of that name is refused.
    refuses: Option<&'static str>,
    asked: Vec<(Time, Command)>,
    facts: Vec<PowerFact>,
}

fn wish(power: Power, boot: Option<BootDevice>, attempt: &str) -> Option<PowerWish> {
    let boot = boot.map(|device| BootWish { device, uefi: true, persistent: false });
    Some(PowerWish { power, boot, attempt: attempt.parse().unwrap() })
}

impl Machine {
    fn new(on: bool, wish: Option<PowerWish>) -> Machine {
        let now = Time::from_secs(100);
        Machine {
            now,
            pursuit: Pursuit::new("n1".parse().unwrap(), 1, wish, now),
            on,
            flags: BootFlags::none(),
            inert: false,
            forgetful: false,
            failure: None,
            refuses: None,
            asked: Vec::new(),
            facts: Vec::new(),
        }
    }

    fn answer(&mut self, command: &Command) -> Result<Reply, Failure> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if self.refuses == Some(command.name()) {
            return Err(Failure::Refused { command: command.name(), code: 0xd5 });
        }
        Ok(match command {
            Command::GetChassisStatus => Reply::Chassis(ChassisStatus {
                power: self.on,
                overload: false,
                interlock: false,
                power_fault: false,
                control_fault: false,
            }),
            Command::GetBootFlags => Reply::BootFlags(self.flags),
            Command::SetBootOption(BootOption::Flags(flags)) if !self.forgetful => {
                self.flags = *flags;
                Reply::Done
            }
            Command::ChassisControl(control) if !self.inert => {
                self.on = *control == Control::On;
                Reply::Done
            }
            _ => Reply::Done,
        })
    }

    fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            while let Some(command) = self.pursuit.poll_command(self.now) {
                self.asked.push((self.now, command.clone()));
                let answer = self.answer(&command);
                self.pursuit.handle_answer(self.now, answer, false);
                self.facts.extend(self.pursuit.poll_fact());
            }
            let due = self.pursuit.poll_timeout().expect("a deadline, when nothing is asked");
            if due > end {
                self.now = end;
                return;
            }
            assert!(due > self.now, "time goes on");
            self.now = due;
        }
    }

    fn settle(&mut self) -> PowerFact {
        self.run_for(Duration::from_millis(100));
        self.fact()
    }

    fn fact(&self) -> PowerFact {
        self.facts.last().unwrap().clone()
    }

    fn acts(&self) -> Vec<(Time, Control)> {
        let act = |(at, command): &(Time, Command)| match command {
            Command::ChassisControl(control) => Some((*at, *control)),
            _ => None,
        };
        self.asked.iter().filter_map(act).collect()
    }
}

#[test]
fn a_machine_that_is_off_is_told_its_device_and_switched_on() {
    let mut machine = Machine::new(false, wish(Power::On, Some(BootDevice::Pxe), "a1"));
    let fact = machine.settle();
    assert_eq!((fact.power, fact.boot, fact.acted), (Some(Power::On), Some(BootDevice::Pxe), 1));
    assert_eq!((fact.fulfilled, fact.trouble), ("a1".parse().ok(), None));
    assert_eq!(machine.flags, BootFlags::once(ipmi::BootDevice::Pxe, true));
    let order: Vec<_> = machine.asked.iter().map(|(_, command)| command.name()).collect();
    assert_eq!(order[0], "Get Chassis Status");
    assert_eq!(order[7..], ["Get System Boot Options", "Chassis Control", "Get Chassis Status"]);
}

#[test]
fn a_machine_that_is_on_already_is_left_as_it_is() {
    let mut machine = Machine::new(true, wish(Power::On, Some(BootDevice::Pxe), "a1"));
    let fact = machine.settle();
    assert_eq!((fact.fulfilled, fact.acted), ("a1".parse().ok(), 0));
    assert_eq!(machine.asked.len(), 1);
}

#[test]
fn a_machine_is_switched_off_and_disarmed() {
    let mut machine = Machine::new(true, wish(Power::Off, None, "a1"));
    machine.flags = BootFlags::once(ipmi::BootDevice::Pxe, false);
    let fact = machine.settle();
    assert_eq!((fact.power, fact.boot, fact.acted), (Some(Power::Off), Some(BootDevice::None), 1));
    assert_eq!(fact.fulfilled, "a1".parse().ok());
    assert_eq!(machine.flags, BootFlags::none());
    assert!(machine.facts.iter().all(|fact| fact.fulfilled.is_none() || fact.boot == Some(BootDevice::None)));
}

#[test]
fn a_machine_that_is_off_and_disarmed_is_only_looked_at() {
    let mut machine = Machine::new(false, wish(Power::Off, None, "a1"));
    assert_eq!(machine.settle().fulfilled, "a1".parse().ok());
    let asked: Vec<_> = machine.asked.iter().map(|(_, command)| command.name()).collect();
    assert_eq!(asked, ["Get Chassis Status", "Get System Boot Options"]);
}

#[test]
fn a_bmc_that_accepts_and_does_nothing_is_asked_for_ever_and_told() {
    let mut machine = Machine::new(false, wish(Power::On, None, "a1"));
    machine.inert = true;
    machine.run_for(Duration::from_secs(60));
    let fact = machine.fact();
    assert!(matches!(fact.trouble, Some(BmcTrouble::Inert(_))), "{fact:?}");
    assert!((10..=20).contains(&machine.acts().len()), "{:?}", machine.acts());
    assert_eq!(fact.acted as usize, machine.acts().len());
    assert_eq!(fact.fulfilled, None);
    machine.inert = false;
    machine.run_for(Duration::from_secs(10));
    let fact = machine.fact();
    assert_eq!((fact.fulfilled, fact.trouble), ("a1".parse().ok(), None));
}

#[test]
fn looks_after_a_power_command_come_ever_later() {
    let mut machine = Machine::new(false, wish(Power::On, None, "a1"));
    machine.inert = true;
    machine.run_for(Duration::from_secs(2));
    let looks: Vec<_> = machine
        .asked
        .iter()
        .filter(|(_, command)| *command == Command::GetChassisStatus)
        .map(|(at, _)| at.since(Time::from_secs(100)).as_millis())
        .collect();
    assert_eq!(looks, [0, 0, 200, 700, 1_700]);
}

#[test]
fn a_wrong_password_is_tried_twice_and_then_once_in_30_seconds() {
    let mut machine = Machine::new(false, wish(Power::On, None, "a1"));
    machine.failure = Some(Failure::WrongPassword);
    machine.run_for(Duration::from_secs(100));
    let fact = machine.fact();
    assert!(matches!(fact.trouble, Some(BmcTrouble::Credentials(_))), "{fact:?}");
    assert_eq!(machine.facts.len(), 1, "told once");
    let seconds: Vec<_> =
        machine.asked.iter().map(|(at, _)| at.since(Time::from_secs(100)).as_secs()).collect();
    assert_eq!(seconds, [0, 0, 30, 60, 90]);
    machine.pursuit.handle_wish(machine.now, wish(Power::Off, None, "a2"));
    machine.run_for(Duration::from_secs(1));
    assert_eq!(machine.asked.len(), 5, "another wish is no other password");
}

#[test]
fn a_silent_bmc_is_told_once_and_looked_at_again() {
    let mut machine = Machine::new(false, wish(Power::On, None, "a1"));
    machine.settle();
    machine.failure = Some(Failure::NoAnswer { to: "Open Session Request", tries: 4, thrown_away: None });
    machine.run_for(Duration::from_secs(30));
    machine.failure = Some(Failure::NoAnswer { to: "RAKP message 1", tries: 4, thrown_away: None });
    machine.run_for(Duration::from_secs(30));
    let fact = machine.fact();
    assert!(matches!(fact.trouble, Some(BmcTrouble::Silent(_))), "{fact:?}");
    assert_eq!(fact.power, Some(Power::On), "as last seen");
    assert_eq!(machine.facts.iter().filter(|fact| fact.trouble.is_some()).count(), 1);
    machine.failure = None;
    machine.run_for(Duration::from_secs(6));
    assert_eq!(machine.fact().trouble, None);
}

#[test]
fn an_answer_to_an_older_wish_says_nothing_of_the_new_one() {
    let mut machine = Machine::new(true, wish(Power::On, None, "a1"));
    let look = machine.pursuit.poll_command(machine.now).unwrap();
    let answer = machine.answer(&look);
    machine.pursuit.handle_wish(machine.now, wish(Power::Off, None, "a2"));
    machine.pursuit.handle_answer(machine.now, answer, false);
    let fact = machine.pursuit.poll_fact().unwrap();
    assert_eq!((fact.power, fact.fulfilled), (Some(Power::On), None));
    assert_eq!(machine.settle().fulfilled, "a2".parse().ok());
}

#[test]
fn a_new_wish_is_pursued_at_once() {
    let mut machine = Machine::new(false, None);
    machine.run_for(Duration::from_secs(3));
    machine.pursuit.handle_wish(machine.now, wish(Power::On, None, "a1"));
    assert_eq!(machine.settle().fulfilled, "a1".parse().ok());
    machine.pursuit.handle_wish(machine.now, wish(Power::Off, None, "a1"));
    let fact = machine.settle();
    assert_eq!((fact.power, fact.fulfilled, fact.acted), (Some(Power::Off), "a1".parse().ok(), 1));
}

#[test]
fn without_a_wish_a_machine_is_looked_at_every_30_seconds() {
    let mut machine = Machine::new(false, None);
    machine.run_for(Duration::from_secs(95));
    assert_eq!(machine.asked.len(), 4);
    assert!(machine.asked.iter().all(|(_, command)| *command == Command::GetChassisStatus));
    assert_eq!(machine.facts.len(), 1);
}

#[test]
fn a_machine_switched_off_behind_our_back_is_switched_on_again_as_wished() {
    let mut machine = Machine::new(false, wish(Power::On, None, "a1"));
    for _ in 0..5 {
        machine.settle();
        machine.on = false;
        machine.run_for(Duration::from_secs(11));
        assert_eq!((machine.fact().fulfilled, machine.fact().trouble), ("a1".parse().ok(), None));
    }
    assert!(machine.acts().len() >= 6);
}

#[test]
fn a_bmc_that_forgets_the_device_is_reported_and_switched_on_all_the_same() {
    let mut machine = Machine::new(false, wish(Power::On, Some(BootDevice::Pxe), "a1"));
    machine.forgetful = true;
    let fact = machine.settle();
    assert_eq!((fact.power, fact.boot), (Some(Power::On), Some(BootDevice::None)));
    assert_eq!(fact.fulfilled, "a1".parse().ok());
}

#[test]
fn a_bmc_that_refuses_boot_options_is_reported_and_switched_on_all_the_same() {
    let mut machine = Machine::new(false, wish(Power::On, Some(BootDevice::Pxe), "a1"));
    machine.refuses = Some("Set System Boot Options");
    let fact = machine.settle();
    assert_eq!(fact.fulfilled, "a1".parse().ok());
    assert!(matches!(fact.trouble, Some(BmcTrouble::Refuses(_))), "{fact:?}");
}

#[test]
fn a_bmc_that_does_not_tell_its_boot_flags_is_tolerated() {
    let mut machine = Machine::new(false, wish(Power::On, Some(BootDevice::Disk), "a1"));
    machine.refuses = Some("Get System Boot Options");
    let fact = machine.settle();
    assert_eq!((fact.fulfilled, fact.boot, fact.trouble), ("a1".parse().ok(), None, None));
    machine.pursuit.handle_wish(machine.now, wish(Power::Off, None, "a2"));
    let fact = machine.settle();
    assert_eq!((fact.fulfilled, fact.boot, fact.trouble), ("a2".parse().ok(), None, None));
    assert_eq!(machine.flags, BootFlags::none(), "cleared blindly");
}

#[test]
fn a_refused_power_command_is_reported_until_it_is_not() {
    let mut machine = Machine::new(false, wish(Power::On, None, "a1"));
    machine.refuses = Some("Chassis Control");
    machine.run_for(Duration::from_secs(2));
    let fact = machine.fact();
    assert!(matches!(fact.trouble, Some(BmcTrouble::Refuses(_))), "{fact:?}");
    machine.refuses = None;
    machine.run_for(Duration::from_secs(10));
    assert_eq!((machine.fact().fulfilled, machine.fact().trouble), ("a1".parse().ok(), None));
}

#[test]
fn a_machine_that_is_to_boot_so_for_good_is_told_that_too() {
    let mut wish = wish(Power::On, Some(BootDevice::Pxe), "a1");
    if let Some(PowerWish { boot: Some(boot), .. }) = &mut wish {
        boot.persistent = true;
    }
    let mut machine = Machine::new(false, wish);
    assert_eq!(machine.settle().boot, Some(BootDevice::Pxe));
    let flags = BootFlags { persistent: true, ..BootFlags::once(ipmi::BootDevice::Pxe, true) };
    assert_eq!(machine.flags, flags);
}
