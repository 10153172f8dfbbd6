//! The sockets and timers: one task per BMC, and the one that starts and ends them.

use crate::pursuit::Pursuit;
use boot::NodeName;
use ipmi::{Config, Console, Event, Password, UserName};
use rack::{BmcPlan, BmcTrouble, Power, PowerFact, PowerPlan, PowerWish};
use sansio::Time;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Longer than anything an IPMI BMC sends; what is longer is cut and thus refused.
const DATAGRAM: usize = 2048;
/// Datagrams and events that are taken in one go before the others get their turn.
const BURST: usize = 64;

/// The time of one run of the hand.
#[derive(Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock(Instant::now())
    }

    pub(crate) fn now(self) -> Time {
        Time::ZERO + self.0.elapsed()
    }

    pub(crate) fn at(self, time: Time) -> Instant {
        self.0 + time.since(Time::ZERO)
    }
}

/// A BMC that is seen to.
struct Desk {
    plan: BmcPlan,
    wish: watch::Sender<Option<PowerWish>>,
}

/// Does what the plans say until there are no more to come, and tells what is seen, when it changes. Every
/// BMC of the plan is told of at least once. On the way out every session is closed.
///
/// Facts of a BMC that no longer stands in the plan, or stands there described otherwise, end with it.
pub async fn run(mut plans: watch::Receiver<PowerPlan>, facts: mpsc::Sender<PowerFact>) {
    let clock = Clock::start();
    let mut desks: BTreeMap<NodeName, Desk> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let plan = plans.borrow_and_update().clone();
        // A desk whose end of the channel is dropped closes its session and ends.
        desks.retain(|node, desk| {
            plan.bmcs.iter().any(|bmc| bmc.node == *node && is_same_bmc(bmc, &desk.plan))
        });
        for bmc in plan.bmcs {
            match desks.get_mut(&bmc.node) {
                Some(desk) => {
                    desk.wish.send_if_modified(|wish| {
                        let is_other = *wish != bmc.wish;
                        wish.clone_from(&bmc.wish);
                        is_other
                    });
                }
                None => {
                    let (wish, wishes) = watch::channel(bmc.wish.clone());
                    tasks.spawn(tend(bmc.clone(), wishes, facts.clone(), clock));
                    desks.insert(bmc.node.clone(), Desk { plan: bmc, wish });
                }
            }
        }
        loop {
            tokio::select! {
                changed = plans.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => {
                        drop(desks);
                        while tasks.join_next().await.is_some() {}
                        return;
                    }
                },
                Some(ended) = tasks.join_next() => {
                    // A task that panicked takes the hand with it: the supervisor starts it anew.
                    if let Err(ended) = ended && ended.is_panic() {
                        std::panic::resume_unwind(ended.into_panic());
                    }
                }
            }
        }
    }
}

fn is_same_bmc(a: &BmcPlan, b: &BmcPlan) -> bool {
    (a.revision, a.address, &a.user, &a.password) == (b.revision, b.address, &b.user, &b.password)
}

/// One BMC, until its desk is dropped.
async fn tend(
    bmc: BmcPlan,
    mut wishes: watch::Receiver<Option<PowerWish>>,
    facts: mpsc::Sender<PowerFact>,
    clock: Clock,
) {
    let trouble = match prepare(&bmc).await {
        Ok((console, socket)) => return Tending::new(&bmc, console, socket, clock).run(wishes, facts).await,
        Err(trouble) => trouble,
    };
    log::warn!(node:% = bmc.node, why:% = trouble; "this BMC cannot be asked");
    let node = bmc.node.clone();
    let revision = bmc.revision;
    let fact = PowerFact {
        node,
        revision,
        power: None,
        boot: None,
        fulfilled: None,
        acted: 0,
        trouble: Some(trouble),
    };
    // Nobody listens any more: the hand is about to end.
    if facts.send(fact).await.is_ok() {
        while wishes.changed().await.is_ok() {}
    }
}

async fn prepare(bmc: &BmcPlan) -> Result<(Console, UdpSocket), BmcTrouble> {
    let refused = |why: &dyn core::fmt::Display| BmcTrouble::Credentials(why.to_string());
    let user = UserName::new(&bmc.user).map_err(|why| refused(&why))?;
    let password = Password::new(bmc.password.expose()).map_err(|why| refused(&why))?;
    let silent = |what: &str, why: &io::Error| {
        BmcTrouble::Silent(format!("{what} for {}: {why}: check the appliance's addresses", bmc.address))
    };
    let seed = seed().map_err(|why| silent("no random numbers", &why))?;
    let socket = connect(bmc.address).await.map_err(|why| silent("no socket", &why))?;
    Ok((Console::new(Config::new(user, password), seed), socket))
}

/// A connected socket: the kernel lets in what comes from the BMC's address only.
async fn connect(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    Ok(socket)
}

pub(crate) fn seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    Ok(seed)
}

struct Tending {
    node: NodeName,
    console: Console,
    pursuit: Pursuit,
    socket: UdpSocket,
    clock: Clock,
    /// The kernel said so of the last datagram; silence has a better explanation then.
    unreachable: bool,
    /// What the log was told last.
    logged: (Option<Power>, Option<BmcTrouble>),
}

impl Tending {
    fn new(bmc: &BmcPlan, console: Console, socket: UdpSocket, clock: Clock) -> Tending {
        let pursuit = Pursuit::new(bmc.node.clone(), bmc.revision, bmc.wish.clone(), clock.now());
        Tending {
            node: bmc.node.clone(),
            console,
            pursuit,
            socket,
            clock,
            unreachable: false,
            logged: (None, None),
        }
    }

    async fn run(mut self, mut wishes: watch::Receiver<Option<PowerWish>>, facts: mpsc::Sender<PowerFact>) {
        let mut buffer = [0; DATAGRAM];
        loop {
            let is_quiet = self.pump().await;
            let due = [self.console.poll_timeout(), self.pursuit.poll_timeout()].into_iter().flatten().min();
            let due = if is_quiet { due.map(|due| self.clock.at(due)) } else { Some(Instant::now()) };
            tokio::select! {
                received = self.socket.recv(&mut buffer) => match received {
                    Ok(len) => {
                        self.unreachable = false;
                        self.console.handle_datagram(self.clock.now(), &buffer[..len]);
                    }
                    Err(_) => self.unreachable = true,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.console.handle_timeout(self.clock.now());
                }
                changed = wishes.changed() => match changed {
                    Ok(()) => {
                        let wish = wishes.borrow_and_update().clone();
                        self.pursuit.handle_wish(self.clock.now(), wish);
                    }
                    Err(_) => break,
                },
                permit = facts.reserve(), if self.pursuit.has_fact() => match permit {
                    Ok(permit) => if let Some(fact) = self.pursuit.poll_fact() {
                        self.log(&fact);
                        permit.send(fact);
                    },
                    Err(_) => break,
                },
            }
        }
        self.console.close();
        self.pump().await;
    }

    fn log(&mut self, fact: &PowerFact) {
        let (power, trouble) = (fact.power, fact.trouble.clone());
        if self.logged == (power, trouble.clone()) {
            return;
        }
        let seen = power.map_or("unknown".to_owned(), |power| power.to_string());
        match &trouble {
            Some(why) => log::warn!(node:% = self.node, power:% = seen, why:% = why; "trouble with a BMC"),
            None => log::info!(node:% = self.node, power:% = seen; "power seen"),
        }
        self.logged = (power, trouble);
    }

    /// Carries between the engine, the pursuit and the socket until none of them has anything to say, or
    /// it is the others' turn.
    async fn pump(&mut self) -> bool {
        for _ in 0..BURST {
            let now = self.clock.now();
            let mut is_quiet = true;
            while let Some(event) = self.console.poll_event() {
                is_quiet = false;
                match event {
                    Event::Reply { result, .. } => {
                        self.pursuit.handle_answer(now, result, self.unreachable);
                    }
                    Event::Up { suite, privilege } => {
                        log::debug!(node:% = self.node, suite:% = suite, privilege:? = privilege; "session opened");
                    }
                    Event::Down { why } => {
                        log::debug!(node:% = self.node, why:% = why; "session closed");
                    }
                }
            }
            if let Some(command) = self.pursuit.poll_command(now) {
                is_quiet = false;
                // The pursuit asks one thing at a time, so there is room.
                if self.console.request(now, command).is_err() {
                    log::error!(node:% = self.node; "a console refused its only request");
                }
            }
            while let Some(datagram) = self.console.poll_transmit() {
                is_quiet = false;
                // A datagram that cannot be sent is one that got lost: it is sent again.
                self.unreachable |= self.socket.send(&datagram).await.is_err();
            }
            if is_quiet {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests;
