use crate::{Journey, Step};
use agent_proto::{Exported, FailureKind, JobState, Outcome, Phase, Progress, Status};
use boot::{Architecture, Attempt, DhcpMoment, PushState, VolumeId, VolumeState};
use rack::{BmcTrouble, LinkState, LocalLink, PortMode, Power, Vlan};
use std::net::Ipv4Addr;

/// What is seen of one node now, put together by control from what the hands told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sight {
    /// Its power; none: not known.
    pub power: Option<Power>,
    /// The power wish that was last seen fulfilled.
    pub power_wish: Option<Attempt>,
    /// How often the BMC was told and nothing came of it.
    pub power_acts: u32,
    /// Where its BMC is, for sentences.
    pub bmc: String,
    /// What is wrong with its BMC.
    pub bmc_trouble: Option<BmcTrouble>,
    /// What stands between control and the hand that is asked, by hand; such as `power`.
    pub hands_away: Vec<&'static str>,
    /// Its ports.
    pub ports: Vec<PortSight>,
    /// What was seen of it on the network it is to boot from.
    pub boot_client: Option<ClientSight>,
    /// The attempt whose boot script was fetched last.
    pub script: Option<Attempt>,
    /// Its agent.
    pub agent: Option<AgentSight>,
    /// What was seen of it on the tenant's network.
    pub tenant_client: Option<ClientSight>,
    /// What was seen of it on the network it boots from a volume on.
    pub san_client: Option<ClientSight>,
    /// The boot whose script, to boot from its volume, was fetched last.
    pub san_script: Option<Attempt>,
    /// The attempt whose disk the appliance writes, and how that stands.
    pub push: Option<(Attempt, PushState)>,
    /// The volume it boots from.
    pub root: Option<VolumeSight>,
    /// From where it is logged in to its volumes.
    pub sessions: Vec<String>,
    /// What is still open to it, or cannot be known not to be, of the volumes it had; for sentences.
    pub open_to_it: Vec<String>,
}

/// A volume.
#[derive(Clone, Debug, PartialEq)]
pub struct VolumeSight {
    /// Which.
    pub id: VolumeId,
    /// How it stands; none: not known.
    pub state: Option<VolumeState>,
    /// Whether this node, and nobody else, can log in to it.
    pub exported: bool,
    /// What keeps its target from being exported.
    pub trouble: Option<String>,
}

/// One of its switch ports.
#[derive(Clone, Debug, PartialEq)]
pub struct PortSight {
    /// Which.
    pub link: LocalLink,
    /// Where it should be.
    pub wanted: Vlan,
    /// Where the switch says it is; none: not known.
    pub mode: Option<PortMode>,
    /// The wish under which that was read.
    pub wish: Option<Attempt>,
    /// Whether there is light.
    pub state: LinkState,
    /// How often somebody else moved it under this wish.
    pub drifts: u32,
    /// What is wrong with it or with its switch.
    pub trouble: Option<String>,
}

/// What DHCP or ARP saw of it on a network.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientSight {
    /// The attempt it happened in.
    pub attempt: Option<Attempt>,
    /// How far it came.
    pub moment: DhcpMoment,
    /// Its address.
    pub address: Option<Ipv4Addr>,
    /// What its firmware says it is.
    pub architecture: Option<Architecture>,
    /// Whether it was the firmware that asked, or iPXE, and not a system that runs from the disk.
    pub firmware: bool,
}

/// Its agent.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentSight {
    /// The attempt whose ramdisk it runs in.
    pub attempt: Attempt,
    /// Whether it is on the line.
    pub connected: bool,
    /// What it said last; none: nothing that can be read.
    pub status: Option<Status>,
}

impl Sight {
    /// Whether the BMC answers.
    pub fn bmc_answers(&self) -> bool {
        self.power.is_some() && self.bmc_trouble.is_none()
    }

    /// Whether it is off, seen so since this step wished it.
    pub fn is_off(&self, journey: &Journey) -> bool {
        self.power == Some(Power::Off) && self.power_wish.as_ref() == Some(&journey.wish())
    }

    /// Whether it is on, seen so since this step wished it.
    pub fn is_on(&self, journey: &Journey) -> bool {
        self.power == Some(Power::On) && self.power_wish.as_ref() == Some(&journey.wish())
    }

    /// Whether every port is where this step wants it, read back since this step wished it.
    pub fn ports_placed(&self, journey: &Journey) -> bool {
        let wish = journey.wish();
        let placed = |port: &PortSight| port.is_placed() && port.wish.as_ref() == Some(&wish);
        !self.ports.is_empty() && self.ports.iter().all(placed)
    }

    /// Whether this attempt's boot script was fetched.
    pub fn script_fetched(&self, journey: &Journey) -> bool {
        self.script.as_ref() == Some(&journey.attempt())
    }

    /// This attempt's agent.
    pub fn agent(&self, journey: &Journey) -> Option<&AgentSight> {
        self.agent.as_ref().filter(|agent| agent.attempt == journey.attempt())
    }

    /// Whether this attempt's agent has said who it is.
    pub fn agent_connected(&self, journey: &Journey) -> bool {
        self.agent(journey).is_some_and(|agent| agent.status.is_some())
    }

    fn job(&self, journey: &Journey) -> Option<&JobState> {
        let job = self.agent(journey)?.status.as_ref()?.job.as_ref()?;
        Some(&job.state)
    }

    /// Whether this attempt's job is done: the one that this step asks for.
    pub fn job_done(&self, journey: &Journey) -> bool {
        match self.job(journey) {
            Some(JobState::Done(Outcome::Written { .. })) => journey.step == Step::WriteImage,
            Some(JobState::Done(Outcome::Finished { .. })) => journey.step == Step::Finish,
            Some(JobState::Done(Outcome::Erased { .. })) => journey.step == Step::Erase,
            _ => false,
        }
    }

    /// The disk that this attempt's agent exports.
    pub fn exported(&self, journey: &Journey) -> Option<&Exported> {
        match self.job(journey) {
            Some(JobState::Exported(exported)) => Some(exported),
            _ => None,
        }
    }

    /// Whether the appliance has written this attempt's disk and read it back.
    pub fn pushed(&self, journey: &Journey) -> bool {
        matches!(self.push(journey), Some(PushState::Done { .. }))
    }

    /// How the writing of this attempt's disk by the appliance stands.
    pub fn push(&self, journey: &Journey) -> Option<&PushState> {
        self.push.as_ref().filter(|(attempt, _)| *attempt == journey.attempt()).map(|(_, state)| state)
    }

    /// Whether it has fetched this boot's script to boot from its volume.
    pub fn san_script_fetched(&self, journey: &Journey) -> bool {
        self.san_script.as_ref() == Some(&journey.system())
    }

    /// How far this attempt's job is.
    pub fn job_progress(&self, journey: &Journey) -> Option<Progress> {
        let at = |phase, done: u64, total: u64| Some(Progress { phase, done, total });
        match (self.push(journey), self.job(journey)) {
            (Some(PushState::Writing { done, total }), _) => at(Phase::Write, *done, *total),
            (Some(PushState::ReadingBack { done, total }), _) => at(Phase::Verify, *done, *total),
            (_, Some(JobState::Running(progress))) => Some(*progress),
            _ => None,
        }
    }

    /// Why this attempt's job cannot be done, and whether another attempt may find it otherwise.
    pub fn job_failure(&self, journey: &Journey) -> Option<(&str, bool)> {
        match (self.push(journey), self.job(journey)) {
            (Some(PushState::Failed { why }), _) => Some((why, false)),
            // The hand that serves images may have been away.
            (_, Some(JobState::Failed(failure))) => {
                Some((&failure.text, failure.kind == FailureKind::NoImage))
            }
            _ => None,
        }
    }

    /// Whether the volume it boots from is there and exported to it.
    pub fn root_exported(&self) -> bool {
        self.root.as_ref().is_some_and(|root| {
            root.exported && root.trouble.is_none() && matches!(root.state, Some(VolumeState::Ready { .. }))
        })
    }

    /// Whether it is logged in to nothing, and cannot be.
    pub fn shut_out(&self) -> bool {
        self.open_to_it.is_empty()
    }

    /// Whether this boot's system has an address on the tenant's network, or was seen using one.
    pub fn seen_by_tenant(&self, journey: &Journey) -> bool {
        self.tenant_client.as_ref().is_some_and(|client| {
            client.attempt.as_ref() == Some(&journey.system())
                && !client.firmware
                && matches!(client.moment, DhcpMoment::Bound | DhcpMoment::Seen)
        })
    }
}

impl PortSight {
    /// Whether the switch says that it is where it should be.
    pub fn is_placed(&self) -> bool {
        self.mode == Some(PortMode::Access(self.wanted))
    }
}
