use crate::keeper::Keeper;
use crate::ovsdb::Ovsdb;
use crate::{Error, Switch};
use core::{error::Error as _, fmt::Write, time::Duration};
use log::{info, warn};
use rack::{PortWish, SwitchDriver, SwitchEntry, SwitchFact, SwitchName, SwitchPlan};
use sansio::Time;
use std::collections::BTreeMap;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

/// The pause before a switch is connected to again; doubled each time, up to [`LONGEST_PAUSE`].
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// This hand's clock: counts from its start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock(Instant::now())
    }

    pub(crate) fn now(self) -> Time {
        Time::ZERO + self.0.elapsed()
    }

    pub(crate) fn instant(self, time: Time) -> Instant {
        self.0 + time.since(Time::ZERO)
    }
}

/// Keeps every port of the plan where the plan wants it, until the other end of `plans` or of `facts` is
/// gone. Facts are told when they change.
pub async fn run(plans: watch::Receiver<SwitchPlan>, facts: mpsc::Sender<SwitchFact>) {
    run_with(plans, facts, |entry| match &entry.driver {
        SwitchDriver::Ovsdb { address } => Ovsdb::new(address),
    })
    .await;
}

/// [`run`], with other switches: `switch` makes the one that an entry means.
pub async fn run_with<S: Switch + 'static>(
    mut plans: watch::Receiver<SwitchPlan>,
    facts: mpsc::Sender<SwitchFact>,
    mut switch: impl FnMut(&SwitchEntry) -> S,
) {
    let mut tasks = JoinSet::new();
    let mut tended: BTreeMap<SwitchName, Tended> = BTreeMap::new();
    loop {
        let plan = plans.borrow_and_update().clone();
        tended.retain(|name, old| {
            let stays = plan.switches.iter().any(|entry| entry.name == *name && entry.driver == old.driver);
            if !stays {
                old.task.abort();
            }
            stays
        });
        for entry in plan.switches {
            if let Some(old) = tended.get(&entry.name) {
                old.wishes.send_if_modified(|wishes| {
                    let differ = *wishes != entry.ports;
                    *wishes = entry.ports;
                    differ
                });
            } else {
                let made = switch(&entry);
                let (wishes, receiver) = watch::channel(entry.ports);
                let task = tasks.spawn(tend(made, entry.name.clone(), receiver, facts.clone()));
                tended.insert(entry.name, Tended { driver: entry.driver, wishes, task });
            }
        }
        loop {
            tokio::select! {
                changed = plans.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                () = facts.closed() => return,
                // A task ends when it is aborted, or with this hand, or by a fault of ours: then so does
                // the hand, and its supervisor starts it afresh.
                Some(ended) = tasks.join_next() => if let Err(e) = ended && e.is_panic() {
                    std::panic::resume_unwind(e.into_panic());
                },
            }
        }
    }
}

struct Tended {
    driver: SwitchDriver,
    wishes: watch::Sender<Vec<PortWish>>,
    task: AbortHandle,
}

/// One switch, for as long as it is in the plan.
async fn tend<S: Switch>(
    switch: S,
    name: SwitchName,
    wishes: watch::Receiver<Vec<PortWish>>,
    facts: mpsc::Sender<SwitchFact>,
) {
    let keeper = Keeper::new(name);
    let mut tender = Tender { switch, keeper, wishes, facts, clock: Clock::start() };
    let mut pause = SHORTEST_PAUSE;
    tender.take_plan();
    loop {
        let began = tender.clock.now();
        let error = match tender.switch.connect().await {
            Ok(()) => match tender.session().await {
                Ok(Over) => return,
                Err(error) => error,
            },
            Err(error) => error,
        };
        tender.keeper.handle_reach(Some(explain(&error)));
        let now = tender.clock.now();
        if now.since(began) > LONGEST_PAUSE {
            pause = SHORTEST_PAUSE;
        }
        if let Err(Over) = tender.idle(now + pause).await {
            return;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The hand's other end is gone.
struct Over;

struct Tender<S> {
    switch: S,
    keeper: Keeper,
    wishes: watch::Receiver<Vec<PortWish>>,
    facts: mpsc::Sender<SwitchFact>,
    clock: Clock,
}

impl<S: Switch> Tender<S> {
    fn take_plan(&mut self) {
        let now = self.clock.now();
        self.keeper.handle_plan(now, &self.wishes.borrow_and_update());
    }

    async fn session(&mut self) -> Result<Over, Error> {
        self.keeper.handle_reach(None);
        loop {
            let ports = self.keeper.ports();
            let seen = self.switch.look(&ports).await?;
            let now = self.clock.now();
            self.keeper.handle_seen(now, ports.into_iter().zip(seen));
            let orders = self.keeper.orders(now);
            if !orders.is_empty() {
                let outcomes = self.switch.set(&orders).await?;
                let now = self.clock.now();
                for (order, outcome) in orders.iter().zip(outcomes) {
                    self.keeper.handle_outcome(now, order, outcome);
                }
                continue;
            }
            if let Some(over) = self.wait().await? {
                return Ok(over);
            }
        }
    }

    /// Until another look is due; tells facts meanwhile.
    async fn wait(&mut self) -> Result<Option<Over>, Error> {
        loop {
            let now = self.clock.now();
            let due = self.clock.instant(self.keeper.poll_timeout(now).unwrap_or(now + LONGEST_PAUSE));
            let facts = self.facts.clone();
            let fact = self.keeper.fact(now);
            tokio::select! {
                changed = self.switch.changed() => return changed.map(|()| None),
                wishes = self.wishes.changed() => {
                    self.take_plan();
                    return Ok(wishes.is_err().then_some(Over));
                }
                permit = facts.reserve(), if fact.is_some() => {
                    if let Err(over) = self.tell(permit, fact) {
                        return Ok(Some(over));
                    }
                }
                () = sleep_until(due) => return Ok(None),
            }
        }
    }

    /// Without a session, until this moment; tells facts meanwhile.
    async fn idle(&mut self, until: Time) -> Result<(), Over> {
        let due = self.clock.instant(until);
        loop {
            let facts = self.facts.clone();
            let fact = self.keeper.fact(self.clock.now());
            tokio::select! {
                wishes = self.wishes.changed() => {
                    self.take_plan();
                    wishes.map_err(|_| Over)?;
                }
                permit = facts.reserve(), if fact.is_some() => self.tell(permit, fact)?,
                () = sleep_until(due) => return Ok(()),
            }
        }
    }

    fn tell(
        &mut self,
        permit: Result<mpsc::Permit<'_, SwitchFact>, mpsc::error::SendError<()>>,
        fact: Option<SwitchFact>,
    ) -> Result<(), Over> {
        let permit = permit.map_err(|_| Over)?;
        if let Some(fact) = fact {
            record(&fact);
            self.keeper.handle_told(&fact);
            permit.send(fact);
        }
        Ok(())
    }
}

/// A fact is told when it changes, so this is the one place that logs.
fn record(fact: &SwitchFact) {
    match fact {
        SwitchFact::Reach { switch, trouble: None } => info!(switch = switch.as_str(); "switch connected"),
        SwitchFact::Reach { switch, trouble: Some(trouble) } => {
            warn!(switch = switch.as_str(), trouble = trouble.as_str(); "switch out of reach");
        }
        SwitchFact::Port(fact) => {
            let mode = fact.mode.map_or("not known".to_owned(), |mode| mode.to_string());
            let (switch, port, drifts) = (fact.switch.as_str(), fact.port.as_str(), fact.drifts);
            match fact.trouble.as_deref() {
                None => info!(switch, port, mode = mode.as_str(), drifts; "port as read back"),
                Some(trouble) => {
                    warn!(switch, port, mode = mode.as_str(), drifts, trouble; "port not as wished");
                }
            }
        }
    }
}

/// An error with what it came from.
fn explain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let _ = write!(text, " ({cause})");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
