use crate::config::Config;
use crate::inherited;
use anyhow::{Context as _, Result};
use bootd::desk::{Channel, Door, Served, serve};
use nix::unistd::Uid;
use rack::{PowerFact, PowerPlan, SwitchFact, SwitchPlan};
use serde::{Serialize, de::DeserializeOwned};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// Facts that wait for the desk.
const QUEUE: usize = 256;

/// The hand that talks to BMCs.
pub(crate) fn power(config: &Config) -> Result<()> {
    run::<PowerPlan, PowerFact, _>(config, "power", power::run, |fact| fact.node.to_string())
}

/// The hand that talks to switches.
pub(crate) fn switch(config: &Config) -> Result<()> {
    run::<SwitchPlan, SwitchFact, _>(config, "switch", switch::run, |fact| match fact {
        SwitchFact::Reach { switch, .. } => switch.to_string(),
        SwitchFact::Port(port) => format!("{}/{}", port.switch, port.port),
    })
}

pub(crate) fn run<P, F, W>(
    config: &Config,
    hand: &'static str,
    work: impl FnOnce(watch::Receiver<P>, mpsc::Sender<F>) -> W,
    key: impl Fn(&F) -> String,
) -> Result<()>
where
    P: DeserializeOwned + Serialize + PartialEq + Clone + Default + Send + Sync + 'static,
    F: Serialize + PartialEq + Clone + Send + 'static,
    W: Future<Output = ()>,
{
    let channel = Channel::Listener(UnixListener::from(inherited::socket(hand)?));
    let run_dir = Some(config.appliance.run.join(hand));
    let control = Some(Uid::from_raw(config.appliance.first_user));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(async move {
        let door = Door { hand, channel, run_dir, control, rows: 4096 };
        let Served { mut plans, facts, task } = serve::<P, F>(door)?;
        let current = |plan: &Option<Arc<P>>| plan.as_deref().cloned().unwrap_or_default();
        let (plan, taken) = watch::channel(current(&plans.borrow_and_update()));
        let (told, mut heard) = mpsc::channel(QUEUE);
        let work = work(taken, told);
        let pass = async {
            loop {
                tokio::select! {
                    changed = plans.changed() => match changed {
                        Ok(()) => drop(plan.send_replace(current(&plans.borrow_and_update()))),
                        Err(_) => return,
                    },
                    fact = heard.recv() => match fact {
                        Some(fact) => facts.tell(key(&fact), fact).await,
                        None => return,
                    },
                }
            }
        };
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen to SIGTERM")?;
        bootd::notify::ready();
        tokio::select! {
            () = work => {}
            () = pass => {}
            _ = task => {}
            () = bootd::notify::watchdog() => {}
            _ = terminate.recv() => bootd::notify::stopping(),
        }
        Ok(())
    })
}
