//! What is asked of one BMC next, given what is wished and what was seen. Pure.

use boot::NodeName;
use core::time::Duration;
use ipmi::{BootFlags, Command, Control, Failure, Reply};
use rack::{BmcTrouble, BootDevice, BootWish, Power, PowerFact, PowerWish};
use sansio::Time;

/// How often a BMC is looked at of which nothing is wished.
const IDLE: Duration = Duration::from_secs(30);
/// How often one is looked at that is as wished.
const WATCH: Duration = Duration::from_secs(10);
/// How long after a power command the machine is looked at again, and again; the last goes on for ever.
const LOOKS: [Duration; 6] = [
    Duration::ZERO,
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];
/// A power command is repeated when it showed no effect for so long.
const REPEAT: Duration = Duration::from_secs(3);
/// So many power commands without effect are a BMC that does nothing.
const INERT: u32 = 3;
/// How long a BMC is left alone that does not answer, or refuses.
const TROUBLE: [Duration; 4] =
    [Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5)];
/// BMCs lock accounts: after the second time that the credentials were refused, one try per this.
const LOCK_OUT: Duration = Duration::from_secs(30);

const NOBODY: &str =
    "nothing listens at the BMC's address: check the address, and that IPMI over LAN is enabled";

/// What is asked at the moment, or next.
#[derive(Clone, Debug)]
enum Step {
    Look,
    /// Whether a boot override has to be cleared.
    CheckDisarmed,
    /// The boot flags, one request after another.
    Flags {
        flags: BootFlags,
        at: usize,
    },
    /// Whether the BMC kept them.
    ReadBack {
        flags: BootFlags,
    },
    Act(Control),
}

pub(crate) struct Pursuit {
    wish: Option<PowerWish>,
    fact: PowerFact,
    told: Option<PowerFact>,
    step: Step,
    /// A command is out, and its answer still to come.
    is_asking: bool,
    /// The wish changed meanwhile: the answer says nothing of the new one.
    is_stale: bool,
    look_at: Time,
    /// Looks since the last power command, or refusals.
    looks: usize,
    acted_at: Time,
    disarmed: bool,
    /// Power commands since the machine was last as wished.
    vain: u32,
    /// Answers missed in a row.
    failures: usize,
    /// Why the BMC could not be asked the last time.
    unreached: Option<BmcTrouble>,
    /// Why it refused the last power command, or look.
    refused: Option<BmcTrouble>,
    /// Why it refused the boot flags of this wish.
    flags_refused: Option<BmcTrouble>,
}

impl Pursuit {
    pub(crate) fn new(node: NodeName, revision: u64, wish: Option<PowerWish>, now: Time) -> Pursuit {
        let fact =
            PowerFact { node, revision, power: None, boot: None, fulfilled: None, acted: 0, trouble: None };
        Pursuit {
            wish,
            fact,
            told: None,
            step: Step::Look,
            is_asking: false,
            is_stale: false,
            look_at: now,
            looks: 0,
            acted_at: now,
            disarmed: false,
            vain: 0,
            failures: 0,
            unreached: None,
            refused: None,
            flags_refused: None,
        }
    }

    /// Takes what is wished now.
    pub(crate) fn handle_wish(&mut self, now: Time, wish: Option<PowerWish>) {
        if self.wish == wish {
            return;
        }
        self.wish = wish;
        self.is_stale = self.is_asking;
        self.step = Step::Look;
        self.looks = 0;
        self.disarmed = false;
        self.vain = 0;
        self.refused = None;
        self.flags_refused = None;
        self.fact.fulfilled = None;
        self.fact.acted = 0;
        // Another wish is no reason to be locked out.
        if !matches!(self.unreached, Some(BmcTrouble::Credentials(_))) {
            self.look_at = now;
        }
        self.review();
    }

    /// The next command for the BMC, if it is time for one.
    pub(crate) fn poll_command(&mut self, now: Time) -> Option<Command> {
        if self.is_asking || matches!(self.step, Step::Look) && now < self.look_at {
            return None;
        }
        self.is_asking = true;
        self.is_stale = false;
        Some(match &self.step {
            Step::Look => Command::GetChassisStatus,
            Step::CheckDisarmed | Step::ReadBack { .. } => Command::GetBootFlags,
            Step::Flags { flags, at } => ipmi::set_boot_flags(*flags)[*at].clone(),
            Step::Act(control) => {
                self.fact.acted = self.fact.acted.saturating_add(1);
                self.vain = self.vain.saturating_add(1);
                self.acted_at = now;
                self.looks = 0;
                Command::ChassisControl(*control)
            }
        })
    }

    /// When `poll_command` will have one; none while one is out.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        (!self.is_asking).then_some(self.look_at)
    }

    /// What is known, if it is not what was told last.
    pub(crate) fn poll_fact(&mut self) -> Option<PowerFact> {
        if self.told.as_ref() == Some(&self.fact) {
            return None;
        }
        self.told = Some(self.fact.clone());
        self.told.clone()
    }

    pub(crate) fn has_fact(&self) -> bool {
        self.told.as_ref() != Some(&self.fact)
    }

    /// Takes the answer to the command that is out. `nobody`: the network says that nothing listens there.
    pub(crate) fn handle_answer(&mut self, now: Time, answer: Result<Reply, Failure>, nobody: bool) {
        self.is_asking = false;
        self.take(now, answer, nobody);
        self.review();
    }

    fn take(&mut self, now: Time, answer: Result<Reply, Failure>, nobody: bool) {
        if let Ok(Reply::Chassis(status)) = &answer {
            self.fact.power = Some(if status.power { Power::On } else { Power::Off });
        }
        let refusal = match &answer {
            Err(failure @ Failure::Refused { .. }) => Some(BmcTrouble::Refuses(failure.to_string())),
            Err(failure) => return self.failed(now, failure, nobody),
            Ok(_) => None,
        };
        self.failures = 0;
        self.unreached = None;
        if core::mem::take(&mut self.is_stale) {
            self.step = Step::Look;
            self.look_at = now;
            return;
        }
        match core::mem::replace(&mut self.step, Step::Look) {
            Step::Look => match answer {
                Ok(Reply::Chassis(status)) => self.decide(now, status.power),
                _ => self.troubled(now, refusal),
            },
            Step::CheckDisarmed => match answer {
                Ok(Reply::BootFlags(flags)) => {
                    self.fact.boot = device(flags.effective());
                    // A device that stands there without being valid may be a BMC that keeps no such bit.
                    if flags.valid || flags.device != ipmi::BootDevice::None {
                        self.step = Step::Flags { flags: BootFlags::none(), at: 0 };
                    } else {
                        self.disarmed = true;
                        self.fulfilled(now);
                    }
                }
                // A BMC that does not tell is told all the same.
                _ => self.step = Step::Flags { flags: BootFlags::none(), at: 0 },
            },
            Step::Flags { flags, at } => {
                let sequence = ipmi::set_boot_flags(flags);
                let is_courtesy = !matches!(sequence[at], Command::SetBootOption(ipmi::BootOption::Flags(_)));
                if let Some(refusal) = refusal.filter(|_| !is_courtesy) {
                    self.flags_refused = Some(refusal);
                }
                self.step = if at + 1 < sequence.len() {
                    Step::Flags { flags, at: at + 1 }
                } else {
                    Step::ReadBack { flags }
                };
            }
            Step::ReadBack { flags } => {
                self.fact.boot = match answer {
                    // Some BMCs keep the device and not the bit that makes it valid.
                    Ok(Reply::BootFlags(kept)) if kept.device == flags.device => device(kept.device),
                    Ok(Reply::BootFlags(kept)) => device(kept.effective()),
                    _ => None,
                };
                if self.wish.as_ref().is_some_and(|wish| wish.power == Power::On) {
                    self.step = Step::Act(Control::On);
                } else {
                    self.disarmed = true;
                    self.fulfilled(now);
                }
            }
            Step::Act(_) => match refusal {
                None => {
                    self.refused = None;
                    self.look_at = now;
                }
                refusal => self.troubled(now, refusal),
            },
        }
    }

    /// What a look leads to.
    fn decide(&mut self, now: Time, is_on: bool) {
        let Some(wish) = &self.wish else {
            self.refused = None;
            self.look_at = now + IDLE;
            return;
        };
        let is_wished = is_on == (wish.power == Power::On);
        if !is_wished {
            self.fact.fulfilled = None;
        }
        match (wish.power, is_on) {
            (Power::On, true) => self.fulfilled(now),
            (Power::Off, false) if self.disarmed => self.fulfilled(now),
            (Power::Off, false) => self.step = Step::CheckDisarmed,
            _ if self.vain > 0 && now < self.acted_at + REPEAT => {
                self.looks += 1;
                self.look_at = now + LOOKS[self.looks.min(LOOKS.len() - 1)];
            }
            (Power::Off, true) => {
                self.disarmed = false;
                self.step = Step::Act(Control::Off);
            }
            (Power::On, false) => {
                self.step = match wish.boot {
                    None => Step::Act(Control::On),
                    Some(BootWish { device, uefi, persistent }) => {
                        let flags = match device {
                            BootDevice::None => BootFlags::none(),
                            _ => BootFlags { persistent, ..BootFlags::once(code(device), uefi) },
                        };
                        Step::Flags { flags, at: 0 }
                    }
                }
            }
        }
    }

    fn fulfilled(&mut self, now: Time) {
        self.vain = 0;
        self.refused = None;
        self.fact.fulfilled = self.wish.as_ref().map(|wish| wish.attempt.clone());
        self.look_at = now + WATCH;
    }

    fn troubled(&mut self, now: Time, trouble: Option<BmcTrouble>) {
        self.refused = trouble;
        self.looks += 1;
        self.look_at = now + TROUBLE[self.looks.min(TROUBLE.len() - 1)];
    }

    /// No session, or no answer in it.
    fn failed(&mut self, now: Time, failure: &Failure, nobody: bool) {
        self.step = Step::Look;
        self.is_stale = false;
        let is_credentials =
            matches!(failure, Failure::WrongPassword | Failure::UnknownUser | Failure::NoPrivilege);
        self.unreached = Some(match failure {
            _ if is_credentials => BmcTrouble::Credentials(failure.to_string()),
            Failure::NoAnswer { .. } if nobody => BmcTrouble::Silent(NOBODY.to_owned()),
            // Which request stayed unanswered varies from one try to the next; it is the same silence.
            Failure::NoAnswer { .. } => match self.unreached.take() {
                Some(BmcTrouble::Silent(text)) if text != NOBODY => BmcTrouble::Silent(text),
                _ => BmcTrouble::Silent(failure.to_string()),
            },
            _ => BmcTrouble::Refuses(failure.to_string()),
        });
        let pause = match self.failures {
            1.. if is_credentials => LOCK_OUT,
            failures if self.wish.is_some() => TROUBLE[failures.min(TROUBLE.len() - 1)],
            0 => TROUBLE[TROUBLE.len() - 1],
            _ => IDLE,
        };
        self.failures += 1;
        self.look_at = now + pause;
    }

    /// The one trouble that is told: what stands in the way of the others first.
    fn review(&mut self) {
        let power = self.wish.as_ref().map(|wish| wish.power);
        let is_unmet = power != self.fact.power;
        let inert =
            power.filter(|_| is_unmet && self.vain >= INERT).map(|power| BmcTrouble::Inert(inert(power)));
        self.fact.trouble = [&self.unreached, &inert, &self.refused, &self.flags_refused]
            .into_iter()
            .find_map(|trouble| trouble.clone());
    }
}

fn inert(power: Power) -> String {
    format!(
        "the BMC accepts power {power} and the machine does not obey: look at its power supply and interlocks, or restart the BMC"
    )
}

fn code(device: BootDevice) -> ipmi::BootDevice {
    match device {
        BootDevice::None => ipmi::BootDevice::None,
        BootDevice::Pxe => ipmi::BootDevice::Pxe,
        BootDevice::Disk => ipmi::BootDevice::Disk,
    }
}

/// None: one that is not spoken of.
fn device(device: ipmi::BootDevice) -> Option<BootDevice> {
    match device {
        ipmi::BootDevice::None => Some(BootDevice::None),
        ipmi::BootDevice::Pxe => Some(BootDevice::Pxe),
        ipmi::BootDevice::Disk => Some(BootDevice::Disk),
        ipmi::BootDevice::Setup | ipmi::BootDevice::Other(_) => None,
    }
}

#[cfg(test)]
mod tests;
