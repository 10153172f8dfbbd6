//! What serves volumes and writes the disks of nodes: an iSCSI hand that does as its plan says, over volumes
//! that outlive it.

use crate::line::Line;
use crate::machine::{Content, Machine};
use crate::services::Interfaces;
use boot::{
    Attempt, Backing, Digest, Iqn, IscsiFact, IscsiPlan, IscsiSession, IscsiTarget, NodeName, Push,
    PushState, VolumeId, VolumeSource, VolumeState, VolumeWish,
};
use core::time::Duration;
use rack::Vlan;
use sansio::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

const STRETCH: Duration = Duration::from_secs(2);
/// A disk is written in so many stretches, and read back in one more.
const STRETCHES: u64 = 5;
/// How often a target that does not answer is tried.
const AGAIN: Duration = Duration::from_secs(1);
const PEER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 21, 0, 99)), 40_000);

/// A volume on the appliance's disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) image: Option<Digest>,
    /// Who wrote on it, in order: a system writes once each time it starts.
    pub(crate) writers: Vec<NodeName>,
}

/// What a boot script says of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) portal: SocketAddr,
    pub(crate) target: Iqn,
    pub(crate) initiator: Iqn,
    pub(crate) secret: String,
}

impl Login {
    /// The volume that a boot script boots from; none: it boots from none.
    pub(crate) fn of(script: &str) -> Option<Login> {
        let word = |name: &str| {
            let line = script.lines().find_map(|line| line.trim().strip_prefix(name))?;
            line.split_whitespace().next()
        };
        let url = script.split_whitespace().find_map(|word| word.strip_prefix("iscsi:"))?;
        let mut parts = url.splitn(5, ':');
        let (address, port) = (parts.next()?, parts.nth(1)?);
        let target = parts.nth(1)?.parse().ok()?;
        Some(Login {
            portal: format!("{address}:{port}").parse().ok()?,
            target,
            initiator: word("set initiator-iqn ")?.parse().ok()?,
            secret: word("set password ")?.to_owned(),
        })
    }
}

/// The iSCSI hand.
pub(crate) struct IscsiHand {
    pub(crate) desk: Line<IscsiPlan, IscsiFact>,
    /// On the appliance's disk.
    pub(crate) volumes: BTreeMap<VolumeId, Volume>,
    /// How far each push was, on the appliance's disk.
    checkpoints: BTreeMap<Attempt, u64>,
    open: Vec<IscsiTarget>,
    sessions: BTreeMap<Iqn, BTreeSet<NodeName>>,
    pushes: BTreeMap<Attempt, (Push, Time)>,
    /// There is no room for another volume.
    pub(crate) is_full: bool,
}

impl IscsiHand {
    pub(crate) fn new(now: Time) -> IscsiHand {
        IscsiHand {
            desk: Line::new("iscsi", now),
            volumes: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
            open: Vec::new(),
            sessions: BTreeMap::new(),
            pushes: BTreeMap::new(),
            is_full: false,
        }
    }

    /// The process starts: no session survived, the kept plan is served.
    pub(crate) fn begin(&mut self, now: Time) {
        (self.open, self.sessions, self.pushes) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        self.take_plan(now);
    }

    /// SIGKILL: every session ends with the process.
    pub(crate) fn kill(&mut self, now: Time, away: Duration) {
        self.desk.kill(now, away);
        (self.open, self.sessions, self.pushes) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    }

    pub(crate) fn take_plan(&mut self, now: Time) {
        let Some(plan) = self.desk.plan().cloned() else { return };
        // What is taken away goes first.
        self.open.retain(|target| plan.targets.contains(target));
        let open = &self.open;
        self.sessions.retain(|name, _| open.iter().any(|target| target.name == *name));
        for volume in &plan.volumes {
            let there = self.volumes.contains_key(&volume.id);
            let state = match &volume.wish {
                VolumeWish::Gone => {
                    self.volumes.remove(&volume.id);
                    VolumeState::Gone
                }
                VolumeWish::Kept { .. } if there => VolumeState::Ready { allocated: 0, flat: false },
                VolumeWish::Kept { source: None, .. } => {
                    VolumeState::Failed { why: format!("volume {} is lost: restore it", volume.id) }
                }
                VolumeWish::Kept { .. } if self.is_full => {
                    VolumeState::Failed { why: "there is no room for it: remove images or volumes".into() }
                }
                VolumeWish::Kept { source: Some(source), .. } => {
                    let made = match source {
                        VolumeSource::Blank => Volume::default(),
                        VolumeSource::Image(image) => Volume { image: Some(*image), writers: Vec::new() },
                        VolumeSource::Volume(other) => self.volumes.get(other).cloned().unwrap_or_default(),
                    };
                    self.volumes.insert(volume.id.clone(), made);
                    VolumeState::Ready { allocated: 0, flat: false }
                }
            };
            let holds = |target: &&IscsiTarget| target.luns.iter().any(|lun| is_of(&lun.backing, &volume.id));
            let target = plan.targets.iter().find(holds).filter(|_| self.volumes.contains_key(&volume.id));
            let exported = target.map(|target| (target.name.clone(), 0));
            let fact = IscsiFact::Volume { id: volume.id.clone(), state, exported };
            self.desk.tell(format!("volume/{}", volume.id), fact);
        }
        self.open = plan.targets.clone();
        for target in &plan.targets {
            self.tell_sessions(&target.name);
        }
        self.pushes.retain(|attempt, _| plan.pushes.iter().any(|push| push.attempt == *attempt));
        for push in plan.pushes {
            self.pushes.entry(push.attempt.clone()).or_insert((push, now));
        }
    }

    fn tell_sessions(&mut self, target: &Iqn) {
        let initiator = self.open.iter().find(|open| open.name == *target).map(|open| open.initiator.clone());
        let Some(initiator) = initiator else { return };
        let many = self.sessions.get(target).map_or(0, BTreeSet::len);
        let session = IscsiSession { initiator, peer: PEER, portal: PEER };
        let sessions = vec![session; many];
        let fact = IscsiFact::Target { name: target.clone(), sessions, trouble: None };
        self.desk.tell(format!("target/{target}"), fact);
    }

    /// A machine on a VLAN logs in; gives the image its first logical unit began as.
    pub(crate) fn log_in(
        &mut self,
        on: Vlan,
        interfaces: &Interfaces,
        login: &Login,
        machine: &NodeName,
    ) -> Option<Digest> {
        if !self.desk.is_alive() {
            return None;
        }
        let plan = self.desk.plan()?;
        let (_, device) = plan.listen.iter().find(|(portal, _)| *portal == login.portal)?;
        if interfaces.get(device.as_ref()?.as_str()) != Some(&on) {
            return None;
        }
        let target = self.open.iter().find(|target| target.name == login.target)?;
        let right = target.initiator == login.initiator
            && target.chap.secret.matches(&login.secret)
            && target.portals.contains(&login.portal);
        let root = target.luns.iter().find(|lun| lun.lun == 0).filter(|_| right)?;
        let Backing::Volume(root) = &root.backing else { return None };
        let image = self.volumes.get(root)?.image;
        self.sessions.entry(login.target.clone()).or_default().insert(machine.clone());
        self.tell_sessions(&login.target.clone());
        image
    }

    /// A system writes on its volume, if its session stands.
    pub(crate) fn write(&mut self, login: &Login, machine: &NodeName) -> bool {
        if !self.sessions.get(&login.target).is_some_and(|who| who.contains(machine)) {
            return false;
        }
        let target = self.open.iter().find(|target| target.name == login.target);
        let backing =
            target.and_then(|target| target.luns.iter().find(|lun| lun.lun == 0)).map(|lun| &lun.backing);
        let Some(Backing::Volume(root)) = backing else { return false };
        self.volumes.get_mut(root).expect("it is open").writers.push(machine.clone());
        true
    }

    /// Who can write on each volume now.
    pub(crate) fn writers(&self) -> BTreeMap<VolumeId, BTreeSet<NodeName>> {
        let mut writers: BTreeMap<VolumeId, BTreeSet<NodeName>> = BTreeMap::new();
        for target in &self.open {
            let who = self.sessions.get(&target.name).cloned().unwrap_or_default();
            for lun in &target.luns {
                if let Backing::Volume(volume) = &lun.backing {
                    writers.entry(volume.clone()).or_default().extend(who.clone());
                }
            }
        }
        writers
    }

    pub(crate) fn log_out(&mut self, machine: &NodeName) {
        let theirs: Vec<Iqn> = self
            .sessions
            .iter()
            .filter(|(_, who)| who.contains(machine))
            .map(|(name, _)| name.clone())
            .collect();
        for target in theirs {
            self.sessions.entry(target.clone()).or_default().remove(machine);
            self.tell_sessions(&target);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.pushes.values().map(|(_, at)| *at).min()
    }

    /// The next stretch of a push that is due.
    pub(crate) fn handle_timeout(&mut self, now: Time, machines: &mut [Machine]) {
        let due = self.pushes.iter().find(|(_, (_, at))| *at <= now).map(|(attempt, _)| attempt.clone());
        let Some(attempt) = due else { return };
        let (push, at) = self.pushes.get_mut(&attempt).expect("it was just found");
        let exports = |machine: &&mut Machine| {
            machine.is_on() && machine.disk.exported.as_ref().is_some_and(|(name, _)| *name == push.target)
        };
        let state = match machines.iter_mut().find(exports) {
            None => {
                *at = now + AGAIN;
                PushState::Connecting { last: Some(format!("no answer from {}", push.portal)) }
            }
            Some(machine) => {
                *at = now + STRETCH;
                let secret = machine.disk.exported.as_ref().map(|(_, secret)| secret.clone());
                assert_eq!(secret.as_ref(), Some(&push.chap.secret), "the two are told the same secret");
                let done = self.checkpoints.entry(attempt.clone()).or_default();
                if *done == 0 {
                    machine.ledger.writes_begun.push(attempt.clone());
                    machine.disk.content = Content::Torn(push.image);
                }
                *done += 1;
                match *done {
                    done if done < STRETCHES => PushState::Writing { done, total: STRETCHES },
                    STRETCHES => PushState::ReadingBack { done: 0, total: STRETCHES },
                    _ => {
                        machine.disk.content = Content::Image(push.image, None);
                        *done = STRETCHES + 1;
                        *at = now + Duration::from_secs(3600);
                        PushState::Done { sent: 1, millis: (10_000, 2_000) }
                    }
                }
            }
        };
        let fact = IscsiFact::Push { attempt: attempt.clone(), state };
        self.desk.tell(format!("push/{attempt}"), fact);
    }
}

fn is_of(backing: &Backing, volume: &VolumeId) -> bool {
    matches!(backing, Backing::Volume(id) if id == volume)
}
