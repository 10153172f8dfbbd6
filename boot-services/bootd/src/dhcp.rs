//! The DHCP hand: sockets, frames, timers and the file of leases around `dhcp::Server`.
//!
//! Per network two sockets on its interface. UDP port 67 hears requests and answers relays. A packet socket
//! sends what IP cannot address yet, and hears ARP and router solicitations. Only what a new plan changes is
//! closed and opened. An interface that is not there is tried again, after one second and then every five,
//! and control is told what it is that lacks.
//!
//! It needs CAP_NET_RAW and CAP_NET_BIND_SERVICE, and nothing of CAP_NET_ADMIN.

mod leases;
mod port;

use crate::{
    clock::Clock,
    desk::{self, Door, FactSender, Served},
    notify,
};
use ::dhcp::{Event, Server, Ticket, Transmit};
use anyhow::{Context as _, Result};
use boot::{Device, DhcpFact, DhcpMoment, DhcpPlan, Prefix};
use leases::{Entry, Journal};
use port::Port;
use sansio::Time;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
};

const FIRST_RETRY: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_secs(5);
/// The most packets that wait for the engine.
const ARRIVALS: usize = 1024;

/// What came in by a network's interface.
pub(crate) struct Arrival {
    network: Arc<str>,
    opened: u64,
    what: Heard,
}

pub(crate) enum Heard {
    Datagram(Vec<u8>),
    Frame(Vec<u8>),
    /// Nothing more will come, and why.
    Lost(std::io::Error),
}

/// One network of the plan.
struct Slot {
    device: Device,
    address: Prefix,
    advertises: bool,
    port: Option<Port>,
    opened: u64,
    retry: Option<Time>,
    told: Option<Option<String>>,
}

/// Leases on their way to the disk and back.
type Writing = JoinHandle<(Journal, Vec<Ticket>, Result<()>)>;

struct Hand {
    clock: Clock,
    server: Server,
    slots: BTreeMap<String, Slot>,
    facts: FactSender<DhcpFact>,
    arrivals: mpsc::Sender<Arrival>,
    opened: u64,
    journal: Option<Journal>,
    keeps: bool,
    queue: Vec<(Option<Ticket>, Entry)>,
    writing: Option<Writing>,
}

/// Serves until it is dropped.
///
/// # Errors
/// The desk cannot be opened, or the file of leases cannot be.
pub async fn run(door: Door) -> Result<()> {
    let clock = Clock::start();
    let journal = door.run_dir.clone();
    let Served { mut plans, facts, task: _desk } = desk::serve::<DhcpPlan, DhcpFact>(door)?;
    let (journal, restored) = match journal {
        Some(directory) => Journal::open(&directory).map(|(journal, leases)| (Some(journal), leases))?,
        None => (None, Vec::new()),
    };
    let (arrivals, mut arrived) = mpsc::channel(ARRIVALS);
    let mut hand = Hand {
        clock,
        server: Server::new(),
        slots: BTreeMap::new(),
        facts,
        arrivals,
        opened: 0,
        keeps: journal.is_some(),
        journal,
        queue: Vec::new(),
        writing: None,
    };
    hand.server.handle_restored(restored, clock.now());
    let plan = plans.borrow_and_update().clone();
    if let Some(plan) = plan {
        hand.take(&plan).await;
    }
    notify::ready();
    loop {
        hand.flush().await;
        let due = hand
            .server
            .poll_timeout()
            .into_iter()
            .chain(hand.slots.values().filter_map(|slot| slot.retry))
            .min();
        tokio::select! {
            changed = plans.changed() => {
                changed.context("the desk is gone")?;
                let plan = plans.borrow_and_update().clone();
                if let Some(plan) = plan {
                    hand.take(&plan).await;
                }
            }
            Some(arrival) = arrived.recv() => hand.heard(arrival).await,
            () = clock.until(due) => hand.due().await,
            written = written(&mut hand.writing) => hand.written(written),
        }
    }
}

async fn written(writing: &mut Option<Writing>) -> (Journal, Vec<Ticket>, Result<()>) {
    if let Some(task) = writing.as_mut() {
        // It panics only as our own code in it does; then so do we.
        let done = task.await.expect("the writer of leases does not panic");
        *writing = None;
        return done;
    }
    core::future::pending().await
}

impl Hand {
    async fn take(&mut self, plan: &DhcpPlan) {
        let gone: Vec<String> = self
            .slots
            .keys()
            .filter(|name| !plan.networks.iter().any(|n| n.name == **name))
            .cloned()
            .collect();
        for name in gone {
            self.slots.remove(&name);
            self.facts.forget(format!("network/{name}")).await;
            log::info!(target: "dhcp", network:% = name; "network no longer served");
        }
        self.server.handle_plan(plan, self.clock.now());
        for network in &plan.networks {
            let same = self.slots.get_mut(&network.name).filter(|slot| {
                slot.device == network.device && slot.advertises == network.router_advertisements
            });
            if let Some(slot) = same {
                slot.address = network.address;
                continue;
            }
            // The old sockets are closed before the new ones are opened.
            self.slots.remove(&network.name);
            let slot = Slot {
                device: network.device.clone(),
                address: network.address,
                advertises: network.router_advertisements,
                port: None,
                opened: 0,
                retry: None,
                told: None,
            };
            self.slots.insert(network.name.clone(), slot);
            self.open(&network.name, FIRST_RETRY).await;
        }
    }

    async fn open(&mut self, name: &str, again: Duration) {
        let Some(slot) = self.slots.get_mut(name) else { return };
        let now = self.clock.now();
        let mut trouble = None;
        if slot.port.is_none() {
            self.opened += 1;
            slot.opened = self.opened;
            let network = Arc::from(name);
            match Port::open(&slot.device, slot.advertises, network, self.opened, self.arrivals.clone()) {
                Ok(port) => {
                    self.server.handle_link(name, Some(port.mac), now);
                    log::info!(target: "dhcp", network:% = name, device:% = slot.device; "network served");
                    slot.port = Some(port);
                }
                Err(error) => trouble = Some(error),
            }
        }
        if trouble.is_none() && !port::has_address(&slot.device, slot.address.address) {
            trouble = Some(format!(
                "{} has not the address {}: nodes will not reach us; ip address add {} dev {}",
                slot.device, slot.address.address, slot.address, slot.device
            ));
        }
        slot.retry = trouble.as_ref().map(|_| now + again);
        if slot.told.as_ref() != Some(&trouble) {
            if let Some(trouble) = &trouble {
                log::warn!(target: "dhcp", network:% = name, trouble:% = trouble; "network in trouble");
            }
            slot.told = Some(trouble.clone());
            let fact = DhcpFact::Network { network: name.to_owned(), trouble };
            self.facts.tell(format!("network/{name}"), fact).await;
        }
    }

    async fn due(&mut self) {
        let now = self.clock.now();
        self.server.handle_timeout(now);
        let due = |slot: &Slot| slot.retry.is_some_and(|at| at <= now);
        let names: Vec<String> =
            self.slots.iter().filter(|(_, slot)| due(slot)).map(|(name, _)| name.clone()).collect();
        for name in names {
            self.open(&name, RETRY).await;
        }
    }

    async fn heard(&mut self, arrival: Arrival) {
        let Arrival { network, opened, what } = arrival;
        let now = self.clock.now();
        let current = self.slots.get(&*network).is_some_and(|slot| slot.opened == opened);
        match what {
            Heard::Datagram(bytes) if current => self.server.handle_datagram(&network, &bytes, now),
            Heard::Frame(bytes) if current => self.server.handle_frame(&network, &bytes, now),
            Heard::Lost(error) if current => {
                log::warn!(target: "dhcp", network:% = network, error:% = error; "interface lost");
                self.server.handle_link(&network, None, now);
                if let Some(slot) = self.slots.get_mut(&*network) {
                    slot.port = None;
                }
                self.open(&network, FIRST_RETRY).await;
            }
            // It came in by sockets that are closed.
            Heard::Datagram(_) | Heard::Frame(_) | Heard::Lost(_) => {}
        }
    }

    /// Sends, tells and writes what the engine has.
    async fn flush(&mut self) {
        loop {
            while let Some(transmit) = self.server.poll_transmit() {
                self.send(&transmit);
            }
            let Some(event) = self.server.poll_event() else { break };
            match event {
                Event::Fact(fact) => {
                    note(&fact);
                    self.facts.tell(::dhcp::key(&fact), fact).await;
                }
                Event::Forget { network, mac } => self.facts.forget(format!("{network}/{mac}")).await,
                Event::Store(ticket, _) if !self.keeps => self.server.handle_stored(ticket),
                Event::Store(ticket, lease) => self.queue.push((Some(ticket), Entry::Lease(lease))),
                Event::Gone { .. } if !self.keeps => {}
                Event::Gone { network, mac } => self.queue.push((None, Entry::Gone { network, mac })),
            }
        }
        if !self.queue.is_empty()
            && let Some(mut journal) = self.journal.take()
        {
            let (tickets, entries): (Vec<_>, Vec<_>) = core::mem::take(&mut self.queue).into_iter().unzip();
            let all = journal.is_long().then(|| self.server.leases(self.clock.now()));
            self.writing = Some(spawn_blocking(move || {
                let written = match all {
                    // What is to be appended is among the engine's leases already.
                    Some(all) => journal.rewrite(&all),
                    None => journal.append(&entries),
                };
                (journal, tickets.into_iter().flatten().collect(), written)
            }));
        }
    }

    fn written(&mut self, (journal, tickets, written): (Journal, Vec<Ticket>, Result<()>)) {
        self.journal = Some(journal);
        if let Err(error) = &written {
            log::error!(target: "dhcp", error:% = format!("{error:#}"); "leases not written, their clients are not answered");
        }
        for ticket in tickets {
            match written {
                Ok(()) => self.server.handle_stored(ticket),
                Err(_) => self.server.handle_not_stored(ticket),
            }
        }
    }

    fn send(&self, transmit: &Transmit) {
        let (Transmit::Datagram { network, .. } | Transmit::Frame { network, .. }) = transmit;
        let Some(port) = self.slots.get(network).and_then(|slot| slot.port.as_ref()) else { return };
        let sent = match transmit {
            Transmit::Datagram { to, payload, .. } => port.send_datagram(*to, payload),
            Transmit::Frame { frame, .. } => port.send_frame(frame),
        };
        if let Err(error) = sent {
            // As good as lost on the way: the client asks again.
            log::debug!(target: "dhcp", network:% = network, error:% = error; "packet not sent");
        }
    }
}

fn note(fact: &DhcpFact) {
    let DhcpFact::Client { network, mac, moment, address, ipxe, .. } = fact else { return };
    let level = match moment {
        DhcpMoment::Ignored | DhcpMoment::Offered | DhcpMoment::Seen => log::Level::Debug,
        DhcpMoment::Refused | DhcpMoment::Bound | DhcpMoment::Released | DhcpMoment::Declined => {
            log::Level::Info
        }
    };
    let address = address.map(|address| address.to_string()).unwrap_or_default();
    log::log!(target: "dhcp", level, network:% = network, mac:% = mac, moment:? = moment, address:% = address, ipxe = *ipxe; "client");
}
