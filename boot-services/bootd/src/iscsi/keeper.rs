//! The owner of volumes, targets and portals: one thread that makes them what the plan says.

use super::{
    connections::{Connections, MOST},
    disk::Disk,
    exports::Exports,
    holdings::{Holdings, Place},
    portal::{Portal, advice},
    push::{Pushes, Tell},
};
use crate::{clock::Clock, desk::FactSender};
use anyhow::{Context as _, Result};
use boot::{Device, Iqn, IscsiFact, IscsiPlan, IscsiSession, VolumeId, VolumeState, VolumeWish};
use iscsi::target::{Limits, Targets};
use sansio::Time;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
};

/// How often what could not be done is tried again, and sockets and volumes are looked at.
const AGAIN: Duration = Duration::from_secs(5);
/// The same, for what may be done any moment.
const SOON: Duration = Duration::from_secs(1);
/// How long initiators have to log out when the hand ends.
const FAREWELL: Duration = Duration::from_secs(3);

/// What the keeper is woken with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Something may have changed.
    Look,
    /// It is over.
    Stop,
}

/// The owner.
pub(super) struct Keeper {
    plans: watch::Receiver<Option<Arc<IscsiPlan>>>,
    settled: Option<oneshot::Sender<()>>,
    words: SyncSender<Word>,
    clock: Clock,
    told: Told,
    targets: Targets<Disk>,
    connections: Arc<Connections>,
    exports: Exports,
    place: Option<Place>,
    holdings: Option<Holdings>,
    portals: BTreeMap<SocketAddr, (Option<Device>, Option<Portal>)>,
    pushes: Pushes,
}

impl Keeper {
    /// To be called on the runtime that takes the facts.
    pub(super) fn new(
        plans: watch::Receiver<Option<Arc<IscsiPlan>>>,
        facts: FactSender<IscsiFact>,
        run_dir: Option<PathBuf>,
        words: SyncSender<Word>,
        settled: oneshot::Sender<()>,
    ) -> Result<Keeper> {
        let clock = Clock::start();
        let (runtime, told) = (Handle::current(), facts.clone());
        let tell: Tell = Arc::new(move |key, fact| {
            runtime.block_on(async {
                match fact {
                    Some(fact) => told.tell(key, fact).await,
                    None => told.forget(key).await,
                }
            });
        });
        let targets = Targets::new(Limits { connections: MOST });
        let connections = Connections::new(targets.clone(), clock, words.clone());
        Ok(Keeper {
            plans,
            settled: Some(settled),
            words,
            clock,
            told: Told { runtime: Handle::current(), facts, rows: BTreeMap::new() },
            exports: Exports::new(targets.clone()),
            targets,
            connections: Arc::new(connections.context("cannot start threads")?),
            place: None,
            holdings: None,
            portals: BTreeMap::new(),
            pushes: Pushes::new(run_dir, tell),
        })
    }

    /// Until it is told to stop, or nobody can tell it any more.
    pub(super) fn run(mut self, heard: &Receiver<Word>) {
        let mut plan: Option<Arc<IscsiPlan>> = None;
        let mut due = Time::ZERO;
        loop {
            // A plan that comes while another is made true is taken up after it.
            let news = plan.is_none() || self.plans.has_changed().unwrap_or(false);
            if news {
                plan = self.plans.borrow_and_update().clone();
            }
            if let Some(plan) = &plan
                && (news || self.clock.now() >= due)
            {
                let again = self.apply(plan);
                due = self.clock.now() + again;
            }
            self.tell_sessions(plan.as_deref());
            if let Some(settled) = self.settled.take() {
                // Who waits for it may have given up.
                let _ = settled.send(());
            }
            let until = if plan.is_some() { due.since(self.clock.now()) } else { AGAIN };
            match heard.recv_timeout(until) {
                Ok(Word::Look) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Word::Stop) | Err(RecvTimeoutError::Disconnected) => return self.stop(heard),
            }
        }
    }

    /// Makes it so, as far as it goes, and says when to try again.
    fn apply(&mut self, plan: &IscsiPlan) -> Duration {
        self.pushes.set(plan.images.as_deref(), &plan.pushes);
        // First all that goes, so that nobody has two of anything.
        let place = plan.directory.clone().map(|directory| Place { directory, images: plan.images.clone() });
        let moved = self.place != place;
        self.exports.take_away(if moved { &[] } else { &plan.targets }, &self.connections);
        self.portals.retain(|address, (device, _)| plan.listen.contains(&(*address, device.clone())));
        let exported: BTreeSet<VolumeId> = self.exports.volumes().into_keys().collect();
        if moved {
            self.holdings = None;
            self.holdings = place.as_ref().map(|place| Holdings::new(place, self.words.clone()));
            self.place = place;
        }
        if let Some(holdings) = &mut self.holdings {
            let flat = |wish: &VolumeWish| matches!(wish, VolumeWish::Kept { flat: true, .. });
            let wished =
                plan.volumes.iter().filter(|volume| flat(&volume.wish)).map(|volume| volume.id.clone());
            if holdings.flattens_another(&wished.collect()) {
                holdings.stop_flattening(None);
            }
            holdings.close_others(&exported);
        }
        // Then what comes: those that make room first, then in the plan's order, in which sources stand first.
        let mut states: BTreeMap<VolumeId, VolumeState> = BTreeMap::new();
        let (gone, kept): (Vec<_>, Vec<_>) =
            plan.volumes.iter().partition(|volume| volume.wish == VolumeWish::Gone);
        for volume in gone.into_iter().chain(kept) {
            let state = match &mut self.holdings {
                Some(holdings) => holdings.fulfil(volume),
                None => VolumeState::Failed { why: "the plan names no directory of volumes".to_owned() },
            };
            states.insert(volume.id.clone(), state);
        }
        let stands = |state: &VolumeState| matches!(state, VolumeState::Ready { .. });
        let ready = states.iter().filter(|(_, state)| stands(state)).map(|(id, _)| id.clone()).collect();
        let mut troubles: BTreeMap<Iqn, String> = BTreeMap::new();
        for target in &plan.targets {
            if let Some(trouble) = self.exports.give(target, &ready, self.holdings.as_mut()) {
                troubles.insert(target.name.clone(), trouble);
            }
        }
        let listening = self.listen(plan);
        let exported = self.exports.volumes();
        let failed = states.values().any(|state| matches!(state, VolumeState::Failed { .. }));
        let busy = self.holdings.as_ref().is_some_and(Holdings::is_busy);
        for (id, state) in states {
            let exported = exported.get(&id).cloned();
            self.told.tell(format!("volume/{id}"), IscsiFact::Volume { id, state, exported });
        }
        self.told.troubles(troubles, plan);
        if busy || failed || !listening { SOON } else { AGAIN }
    }

    /// Opens portals that are not, or whose interface is another one by now; whether all are.
    fn listen(&mut self, plan: &IscsiPlan) -> bool {
        let mut all = true;
        for (address, device) in &plan.listen {
            let (_, portal) = self.portals.entry(*address).or_insert_with(|| (device.clone(), None));
            *portal = portal.take().filter(|portal| portal.is_sound(device.as_ref()));
            let mut trouble = None;
            if portal.is_none() {
                let connections = Arc::clone(&self.connections);
                let welcome = move |stream, peer, local| connections.welcome(stream, peer, local);
                match Portal::open(*address, device.as_ref(), Arc::new(welcome)) {
                    Ok(open) => {
                        log::info!(target: "iscsi", address:% = address; "listening");
                        *portal = Some(open);
                    }
                    Err(error) => trouble = Some(advice(*address, device.as_ref(), &error)),
                }
            }
            all &= trouble.is_none();
            let fact = IscsiFact::Listen { address: *address, trouble };
            self.told.tell(format!("listen/{address}"), fact);
        }
        all
    }

    /// Who is logged in, and who was refused.
    fn tell_sessions(&mut self, plan: Option<&IscsiPlan>) {
        let mut sessions: BTreeMap<String, Vec<IscsiSession>> = BTreeMap::new();
        for session in self.targets.sessions() {
            let (Some(target), Ok(initiator)) = (session.target, session.initiator.parse()) else { continue };
            let (peer, portal) = (session.link.peer, session.link.portal);
            sessions.entry(target.to_ascii_lowercase()).or_default().push(IscsiSession {
                initiator,
                peer,
                portal,
            });
        }
        for target in plan.iter().flat_map(|plan| &plan.targets) {
            let sessions = sessions.remove(target.name.as_str()).unwrap_or_default();
            self.told.sessions(target.name.clone(), sessions);
        }
        for (address, fact) in self.connections.refusals() {
            self.told.refusal(format!("refused/{address}"), fact);
        }
    }

    /// Asks all to log out, waits for a while, cuts the rest; what was written is flushed when this returns.
    fn stop(mut self, heard: &Receiver<Word>) {
        self.portals.clear();
        self.pushes.stop();
        self.targets.shut_down();
        let until = self.clock.now() + FAREWELL;
        while self.connections.count() > 0 {
            let left = until.since(self.clock.now());
            match heard.recv_timeout(left.min(Duration::from_millis(50))) {
                Err(RecvTimeoutError::Timeout) if left.is_zero() => break,
                _ => {}
            }
        }
        self.connections.end();
        self.exports.take_away(&[], &self.connections);
        self.holdings = None;
    }
}

/// What was told, so that nothing is told twice.
struct Told {
    runtime: Handle,
    facts: FactSender<IscsiFact>,
    rows: BTreeMap<String, IscsiFact>,
}

impl Told {
    fn tell(&mut self, key: String, fact: IscsiFact) {
        if self.rows.get(&key) == Some(&fact) {
            return;
        }
        match (&fact, self.rows.get(&key)) {
            (
                IscsiFact::Target { trouble: Some(trouble), .. },
                Some(IscsiFact::Target { trouble: Some(before), .. }),
            ) if trouble == before => {}
            (
                IscsiFact::Target { trouble: Some(why), .. }
                | IscsiFact::Listen { trouble: Some(why), .. }
                | IscsiFact::Volume { state: VolumeState::Failed { why }, .. },
                _,
            ) => log::warn!(target: "iscsi", what:% = key, why:% = why; "not as planned"),
            _ => {}
        }
        self.runtime.block_on(self.facts.tell(key.clone(), fact.clone()));
        self.rows.insert(key, fact);
    }

    /// One of many: the desk forgets the oldest.
    fn refusal(&self, key: String, fact: IscsiFact) {
        self.runtime.block_on(self.facts.tell(key, fact));
    }

    /// The troubles of all targets; forgets what the plan does not have.
    fn troubles(&mut self, mut troubles: BTreeMap<Iqn, String>, plan: &IscsiPlan) {
        for target in &plan.targets {
            let key = format!("target/{}", target.name);
            let sessions = match self.rows.get(&key) {
                Some(IscsiFact::Target { sessions, .. }) => sessions.clone(),
                _ => Vec::new(),
            };
            let trouble = troubles.remove(&target.name);
            self.tell(key, IscsiFact::Target { name: target.name.clone(), sessions, trouble });
        }
        let mut current: BTreeSet<String> =
            plan.targets.iter().map(|target| format!("target/{}", target.name)).collect();
        current.extend(plan.volumes.iter().map(|volume| format!("volume/{}", volume.id)));
        current.extend(plan.listen.iter().map(|(address, _)| format!("listen/{address}")));
        let ours = ["target/", "volume/", "listen/"];
        let stale = |key: &String| ours.iter().any(|kind| key.starts_with(kind)) && !current.contains(key);
        let gone: Vec<String> = self.rows.keys().filter(|key| stale(key)).cloned().collect();
        for key in gone {
            self.rows.remove(&key);
            self.runtime.block_on(self.facts.forget(key));
        }
    }

    fn sessions(&mut self, name: Iqn, mut sessions: Vec<IscsiSession>) {
        sessions.sort_by_key(|session| session.peer);
        let key = format!("target/{name}");
        let trouble = match self.rows.get(&key) {
            Some(IscsiFact::Target { trouble, .. }) => trouble.clone(),
            _ => None,
        };
        self.tell(key, IscsiFact::Target { name, sessions, trouble });
    }
}
