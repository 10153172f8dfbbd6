//! The hand that updates the box: `host::update` in a thread that may wait, around it plans and facts.

use crate::config::Config;
use crate::hand;
use anyhow::Result;
use core::time::Duration;
use host::update::{self, Record};
use host::{data, good};
use rack::{HostFact, HostPlan, Stage, UpdatePlan};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// How often a trial is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long control has to hear what is so before the box starts again; without it, it hears it afterwards.
const HEARD: Duration = Duration::from_secs(1);

pub(crate) fn run(config: &Config) -> Result<()> {
    hand::run::<HostPlan, HostFact, _>(config, "host", work, |fact| match fact {
        HostFact::Box(_) => "box".to_owned(),
        HostFact::Update { .. } => "update".to_owned(),
    })
}

/// Where the facts go.
struct Teller(mpsc::Sender<HostFact>);

impl Teller {
    async fn box_(&self) {
        match blocking(update::look).await {
            // Nobody listens any more: the hand is about to end.
            Ok(box_) => drop(self.0.send(HostFact::Box(box_)).await),
            Err(e) => log::error!("the box cannot be looked at: {e:#}"),
        }
    }

    async fn update(&self, record: &Record) {
        let Record { number, stage } = record.clone();
        drop(self.0.send(HostFact::Update { number, stage }).await);
    }
}

async fn work(mut plans: watch::Receiver<HostPlan>, facts: mpsc::Sender<HostFact>) {
    let teller = Teller(facts);
    let mut record = match blocking(update::settle).await {
        Ok(record) => record,
        Err(e) => {
            log::error!("how the last update ended cannot be told: {e:#}");
            None
        }
    };
    teller.box_().await;
    loop {
        if let Some(record) = &record {
            teller.update(record).await;
        }
        let plan = plans.borrow_and_update().clone();
        if plan.reset {
            reset().await;
        }
        let known = |wanted: &UpdatePlan| record.as_ref().filter(|record| record.number == wanted.number);
        let mut tried = false;
        if let Some(wanted) = &plan.update {
            match known(wanted).map(|record| &record.stage) {
                // A writing that was broken off begins again.
                None | Some(Stage::Writing { .. }) => {
                    record = Some(install(wanted, &teller).await);
                    continue;
                }
                Some(Stage::Installed { .. }) if wanted.restart => restart().await,
                Some(Stage::Trial { .. }) => tried = true,
                _ => {}
            }
        }
        let look = Instant::now() + LOOK;
        tokio::select! {
            changed = plans.changed() => if changed.is_err() { return },
            () = sleep_until(look), if tried => {
                let now = Record::read();
                if now != record && now.is_some() {
                    record = now;
                    teller.box_().await;
                }
            }
        }
    }
}

/// Writes the slot, and what came of it into the record.
async fn install(wanted: &UpdatePlan, teller: &Teller) -> Record {
    let number = wanted.number;
    let writing = |percent, doing: &str| Stage::Writing { percent, doing: doing.to_owned() };
    let begun = Record { number, stage: writing(0, "begins") };
    if let Err(e) = begun.keep() {
        return Record {
            number,
            stage: Stage::Failed { why: format!("{e:#}: make room on the data partition") },
        };
    }
    teller.update(&begun).await;
    let (wanted, facts) = (wanted.clone(), teller.0.clone());
    let done = blocking(move || {
        update::install(&wanted, &mut |percent, doing| {
            let fact = HostFact::Update { number, stage: writing(percent, doing) };
            // Full: control is busy, and hears of a later step.
            drop(facts.try_send(fact));
        })
    });
    let stage = match done.await {
        Ok(stage) => {
            log::info!(update = number; "{stage}");
            stage
        }
        Err(e) => {
            log::error!(update = number; "update failed: {e:#}");
            Stage::Failed { why: format!("{e:#}") }
        }
    };
    let record = Record { number, stage };
    if let Err(e) = record.keep() {
        // After the restart the boot loader's variables tell.
        log::error!("{e:#}");
    }
    teller.box_().await;
    record
}

async fn restart() {
    log::info!("box starts again, into the slot that was written");
    sleep_until(Instant::now() + HEARD).await;
    let Err(e) = blocking(good::restart).await;
    log::error!("{e:#}");
}

async fn reset() {
    log::warn!("box starts again, and wipes all that it keeps");
    if let Err(e) = blocking(data::mark_reset).await {
        log::error!("nothing is wiped: {e:#}");
        return;
    }
    restart().await;
}

/// Does what waits in a thread of its own.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        // A thread that panicked takes the hand with it: the supervisor starts it anew.
        Err(ended) => std::panic::resume_unwind(ended.into_panic()),
    }
}
