//! The one loop's mind: looks, asks `deploy`, journals, and says what the hands should be doing.
//!
//! [`Control`] is a value that owns all state. What comes in: intents of people and controllers, rows of
//! the hands' tables of facts, and time. What goes out: one whole plan per hand, computed from the state
//! and nothing else. A change is committed to the store before any plan made from it can be asked for,
//! so a crash at any point is answered by reading, looking, and going on.
//!
//! ```text
//!   intent ─┐                        ┌─► refusal or done
//!   fact ───┼─► handle_* ─► commit ──┤
//!   timeout ┘      │   ▲             └─► poll_plan: dhcp, tftp, http, iscsi, power, switch, host
//!                  ▼   │
//!            deploy::consider(journey, sight)
//! ```
//!
//! This crate knows nothing of sockets, processes, HTTP or files.

mod address;
mod appliance;
mod discover;
mod drive;
mod event;
mod hold;
mod intent;
mod plan;
mod record;
mod script;
mod seen;
mod site;
mod view;
mod walk;

pub use appliance::{ApplianceView, UpdateView};
pub use drive::{ConfigDriveError, config_drive};
pub use event::{Event, StepEnded, Subject};
pub use intent::{Done, Intent, Refusal, RefusalKind};
pub use plan::{Hand, Plans};
pub use record::{Discovered, Holder, ImageRecord, NodeRecord, VolumeRecord};
pub use seen::Heard;
pub use site::{BootFiles, Site};
pub use view::{
    AgentView, BmcView, CredentialsView, DiscoveredView, HandView, ImageView, LunView, NetworkView, NodeView,
    PortView, ProgressView, StatusView, StepView, StorageView, SwitchView, VolumeView,
};

use boot::{Generation, NodeName};
use rack::{NetworkName, NetworkSpec, SwitchName, SwitchSpec};
use record::{Generations, MasterSecret};
use sansio::Time;
use seen::Facts;
use std::collections::{BTreeMap, BTreeSet};
use store::{Batch, EventNumber, Store, StoreError, Typed};

/// All that is known and decided.
#[derive(Debug)]
pub struct Control<S> {
    store: S,
    site: Site,
    master: MasterSecret,
    nodes: BTreeMap<NodeName, NodeRecord>,
    networks: BTreeMap<NetworkName, NetworkSpec>,
    switches: BTreeMap<SwitchName, SwitchSpec>,
    images: BTreeMap<rack::ImageName, ImageRecord>,
    volumes: BTreeMap<boot::VolumeId, VolumeRecord>,
    discovered: BTreeMap<boot::Mac, Discovered>,
    update: Option<record::UpdateRecord>,
    /// Whether the box is to be as it was flashed.
    reset: bool,
    generations: Generations,
    facts: Facts,
    last: Plans,
    due: BTreeSet<Hand>,
    progress: BTreeMap<NodeName, agent_proto::Progress>,
    deadline: Option<Time>,
    trouble: Option<String>,
    stopped: bool,
    /// Whether plans were given out since the start.
    planned: bool,
}

/// How long to wait before a change that the store refused is tried again.
const RETRY: core::time::Duration = core::time::Duration::from_secs(2);

impl<S: Store> Control<S> {
    /// Reads everything back. `random` is used once in an appliance's life, to make the secret from
    /// which agents' tokens are derived.
    pub fn open(mut store: S, site: Site, random: [u8; 32], now: Time) -> Result<Control<S>, StoreError> {
        let master = match store.get_as::<MasterSecret>("tokens")? {
            Some(master) => master,
            None => {
                let master = MasterSecret::new(random);
                store.commit(Batch::new().put_as("tokens", &master))?;
                master
            }
        };
        fn named<S: Store, T: store::Record, K: Ord>(
            store: &S,
            name: impl Fn(&T) -> K,
        ) -> Result<BTreeMap<K, T>, StoreError> {
            Ok(store.scan_as::<T>("")?.into_iter().map(|(_, value)| (name(&value), value)).collect())
        }
        let nodes = named(&store, |node: &NodeRecord| node.spec.name.clone())?;
        let images = named(&store, |image: &ImageRecord| image.name.clone())?;
        let volumes = named(&store, |volume: &VolumeRecord| volume.id.clone())?;
        let discovered = named(&store, |found: &Discovered| found.mac)?;
        let networks: BTreeMap<_, record::NetworkRecord> =
            named(&store, |network: &record::NetworkRecord| network.0.name.clone())?;
        let switches: BTreeMap<_, record::SwitchRecord> =
            named(&store, |switch: &record::SwitchRecord| switch.0.name.clone())?;
        let update = store.get_as::<record::UpdateRecord>(appliance::KEY)?;
        let generations = store.get_as::<Generations>("plans")?.unwrap_or_default();
        let mut control = Control {
            store,
            site,
            master,
            nodes,
            networks: networks.into_iter().map(|(name, network)| (name, network.0)).collect(),
            switches: switches.into_iter().map(|(name, switch)| (name, switch.0)).collect(),
            images,
            volumes,
            discovered,
            update,
            reset: false,
            generations,
            facts: Facts::default(),
            last: Plans::default(),
            due: BTreeSet::new(),
            progress: BTreeMap::new(),
            deadline: None,
            trouble: None,
            stopped: false,
            planned: false,
        };
        // Deadlines go on where they stood: patience spent while control was away is given back, since
        // nobody looked meanwhile.
        for node in control.nodes.values_mut() {
            if let Some(journey) = &mut node.journey {
                journey.heard = journey.heard.max(now);
            }
        }
        match control.replan() {
            // Without room for the plans' numbers it is there to be asked, and goes on when there is some.
            Err(e) if !e.is_refusal() => return Err(e),
            _ => control.walk(now),
        }
        Ok(control)
    }

    /// Everything it knows but for some records, for a copy elsewhere.
    pub fn export(&self, leave_out: &dyn Fn(store::Table, &str) -> bool) -> Result<Vec<u8>, StoreError> {
        self.store.export(leave_out)
    }

    /// Whether it knows of nothing that somebody described or made.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
            && self.networks.is_empty()
            && self.switches.is_empty()
            && self.images.is_empty()
            && self.volumes.is_empty()
    }

    /// The newest numbers it gave.
    pub fn newest(&self) -> (store::CommitNumber, EventNumber) {
        (self.store.newest_commit(), self.newest_event())
    }

    /// What the hand in question tells, or that it came or went.
    pub fn handle_hand(&mut self, heard: Heard, now: Time) {
        self.note(heard, now);
        self.walk(now);
    }

    /// Time has come to look again.
    pub fn handle_timeout(&mut self, now: Time) {
        self.walk(now);
    }

    /// When to call [`handle_timeout`](Control::handle_timeout), unless something else comes first.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.deadline
    }

    /// The next hand whose plan changed, with its newest plan.
    pub fn poll_plan(&mut self) -> Option<(Hand, Generation)> {
        let hand = self.due.pop_first()?;
        Some((hand, self.generations.of(hand)))
    }

    /// The newest plans of all hands.
    pub fn plans(&self) -> &Plans {
        &self.last
    }

    /// The number of the hand's newest plan.
    pub fn generation(&self, hand: Hand) -> Generation {
        self.generations.of(hand)
    }

    /// Events after a number, oldest first, and which events there are.
    pub fn events(
        &self,
        after: EventNumber,
        limit: usize,
    ) -> Result<(Vec<(EventNumber, Event)>, store::EventSpan), StoreError> {
        Ok((self.store.events_as(after, limit)?, self.store.event_span()))
    }

    /// The number of the newest event.
    pub fn newest_event(&self) -> EventNumber {
        self.store.event_span().newest
    }

    /// Whether the store failed in the middle of a commit: nobody can say what is on disk until it is
    /// opened again, so the process must end and be started anew.
    pub fn must_restart(&self) -> bool {
        self.stopped
    }

    /// Commits; what is wrong is kept to be shown.
    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        match self.store.commit(batch) {
            Ok(_) => {
                self.trouble = None;
                Ok(())
            }
            Err(e) => {
                let text = e.to_string();
                if self.trouble.as_ref() != Some(&text) {
                    log::error!(error = text.as_str(); "store refused a commit");
                }
                self.trouble = Some(text);
                self.stopped |= !e.is_refusal();
                Err(e)
            }
        }
    }
}
