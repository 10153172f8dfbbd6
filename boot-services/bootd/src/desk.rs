//! The loop around a hand's desk: plans come in from control, or from a file; facts go out.
//!
//! ```text
//!   control ══ Unix socket ══► task ──► watch of plans ──► the hand's own loop
//!           ◄═════════════════      ◄── facts by key ◄──
//! ```
//!
//! A plan is on disk in the run directory before the hand is told of it, and a hand that starts serves
//! from the kept one at once. One control at a time: a newer connection ends the older. The queue of facts
//! is bounded, and so is what waits to be written: while control does not read, the table changes and
//! nothing piles up.

use crate::clock::Clock;
use anyhow::{Context as _, Result, bail};
use boot::Desk;
use nix::unistd::Uid;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::Interest,
    net::{UnixListener, UnixStream},
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::Instant,
};

const QUEUE: usize = 1024;
const REST: Duration = Duration::from_secs(1);

/// Where plans come from.
#[derive(Debug)]
pub enum Channel {
    /// Control connects here.
    Listener(std::os::unix::net::UnixListener),
    /// A file that holds a plan in JSON, read again on SIGHUP; facts are printed on standard output, one
    /// JSON object a line.
    File(PathBuf),
}

/// What a hand says of itself to get a desk.
#[derive(Debug)]
pub struct Door {
    /// Its name in the contract: `dhcp`, `tftp`, `http`, `power`, `switch`.
    pub hand: &'static str,
    /// Where its plans come from.
    pub channel: Channel,
    /// Where the newest plan is kept, as `HAND.plan`; none: nowhere.
    pub run_dir: Option<PathBuf>,
    /// Whom it takes for control, beside root and its own user.
    pub control: Option<Uid>,
    /// The most facts it keeps; past it the one that changed longest ago is forgotten.
    pub rows: usize,
}

/// A desk that is served by a task.
#[derive(Debug)]
pub struct Served<P, F> {
    /// The newest plan; `None` before the first.
    pub plans: watch::Receiver<Option<Arc<P>>>,
    /// Where facts go.
    pub facts: FactSender<F>,
    /// The task: it ends when both of the others are dropped.
    pub task: JoinHandle<()>,
}

/// Takes what a hand sees to its desk.
#[derive(Debug)]
pub struct FactSender<F>(mpsc::Sender<(String, Option<F>)>);

impl<F> Clone for FactSender<F> {
    fn clone(&self) -> FactSender<F> {
        FactSender(self.0.clone())
    }
}

impl<F> FactSender<F> {
    /// Something is seen; telling it twice is telling it once. Waits while the desk is busy.
    pub async fn tell(&self, key: impl Into<String>, fact: F) {
        // Without a desk the process ends; there is nobody left to tell.
        let _ = self.0.send((key.into(), Some(fact))).await;
    }

    /// A fact no longer says anything.
    pub async fn forget(&self, key: impl Into<String>) {
        let _ = self.0.send((key.into(), None)).await;
    }
}

/// Opens a desk: the kept plan, or the file's, is in the watch when this returns.
///
/// # Errors
/// The run directory cannot be made, or the plan's file cannot be read or does not hold a plan.
pub fn serve<P, F>(door: Door) -> Result<Served<P, F>>
where
    P: DeserializeOwned + Serialize + PartialEq + Clone + Send + Sync + 'static,
    F: Serialize + PartialEq + Clone + Send + 'static,
{
    let Door { hand, channel, run_dir, control, rows } = door;
    let mut desk = Desk::new(hand, Clock::start().now().micros(), rows);
    let kept = run_dir.map(|run_dir| Kept::open(&run_dir, hand)).transpose()?;
    let (sender, facts) = mpsc::channel(QUEUE);
    let (plan, mut plans) = watch::channel(None);
    let task = match channel {
        Channel::Listener(listener) => {
            if let Some(bytes) = kept.as_ref().and_then(Kept::read) {
                desk.recall(&bytes);
            }
            plan.send_replace(desk.plan().cloned().map(Arc::new));
            listener.set_nonblocking(true).context("cannot prepare the control socket")?;
            let listener = UnixListener::from_std(listener).context("cannot use the control socket")?;
            let allowed = [Some(Uid::from_raw(0)), Some(Uid::current()), control].into_iter().flatten();
            let listening = Listening {
                hand,
                listener,
                rest: None,
                allowed: allowed.map(Uid::as_raw).collect(),
                line: None,
                out: Vec::new(),
                desk,
                kept,
                plan,
            };
            tokio::spawn(listening.run(facts))
        }
        Channel::File(path) => {
            plan.send_replace(Some(Arc::new(read_plan(&path)?)));
            let hangup = signal(SignalKind::hangup()).context("cannot listen to SIGHUP")?;
            tokio::spawn(alone(desk, path, hangup, plan, facts))
        }
    };
    // Whoever waits for a change waits for the next.
    plans.mark_unchanged();
    Ok(Served { plans, facts: FactSender(sender), task })
}

fn read_plan<P: DeserializeOwned>(path: &Path) -> Result<P> {
    let text = fs::read(path).with_context(|| format!("cannot read the plan {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{} is not a plan of this hand", path.display()))
}

async fn alone<P, F>(
    mut desk: Desk<P, F>,
    path: PathBuf,
    mut hangup: Signal,
    plan: watch::Sender<Option<Arc<P>>>,
    mut facts: mpsc::Receiver<(String, Option<F>)>,
) where
    P: DeserializeOwned + Serialize + PartialEq,
    F: Serialize + PartialEq + Clone,
{
    desk.handle_connect();
    loop {
        if print_facts(&desk.poll_transmit().unwrap_or_default()).is_err() {
            return;
        }
        tokio::select! {
            word = facts.recv() => match word {
                Some((key, Some(fact))) => desk.tell(key, fact),
                Some((key, None)) => desk.forget(&key),
                None => return,
            },
            _ = hangup.recv() => match read_plan(&path) {
                Ok(body) => {
                    plan.send_replace(Some(Arc::new(body)));
                    log::info!(target: "desk", plan:% = path.display(); "plan read again");
                }
                Err(error) => log::error!(target: "desk", error:% = format!("{error:#}"); "plan not taken, the one before stays"),
            },
        }
    }
}

/// Of the lines to control those with a fact are worth a person's while.
fn print_facts(lines: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        if line.windows(8).any(|part| part == b"{\"fact\":") {
            out.write_all(line)?;
        }
    }
    out.flush()
}

struct Listening<P, F> {
    hand: &'static str,
    listener: UnixListener,
    rest: Option<Instant>,
    allowed: Vec<u32>,
    line: Option<UnixStream>,
    out: Vec<u8>,
    desk: Desk<P, F>,
    kept: Option<Kept>,
    plan: watch::Sender<Option<Arc<P>>>,
}

impl<P, F> Listening<P, F>
where
    P: DeserializeOwned + Serialize + PartialEq + Clone + Send + Sync + 'static,
    F: Serialize + PartialEq + Clone + Send + 'static,
{
    async fn run(mut self, mut facts: mpsc::Receiver<(String, Option<F>)>) {
        let mut bytes = vec![0; 64 << 10];
        loop {
            if self.out.is_empty() {
                self.out = self.desk.poll_transmit().unwrap_or_default();
            }
            let interest = if self.out.is_empty() {
                Interest::READABLE
            } else {
                Interest::READABLE | Interest::WRITABLE
            };
            let ready = async {
                match &self.line {
                    Some(line) => line.ready(interest).await,
                    None => core::future::pending().await,
                }
            };
            let accepted = async {
                if let Some(until) = self.rest {
                    tokio::time::sleep_until(until).await;
                }
                self.listener.accept().await
            };
            tokio::select! {
                word = facts.recv() => match word {
                    Some((key, Some(fact))) => self.desk.tell(key, fact),
                    Some((key, None)) => self.desk.forget(&key),
                    None => return,
                },
                ready = ready => {
                    if let Err(why) = ready.map_err(anyhow::Error::new).and_then(|_| self.exchange(&mut bytes)) {
                        log::info!(target: "desk", hand = self.hand, why:% = format!("{why:#}"); "control is gone");
                        self.drop_line();
                    }
                }
                accepted = accepted => {
                    self.rest = None;
                    match accepted {
                        Ok((line, _)) => self.take(line),
                        Err(error) => {
                            log::warn!(target: "desk", hand = self.hand, error:% = error; "control not accepted");
                            self.rest = Some(Instant::now() + REST);
                        }
                    }
                }
            }
        }
    }

    fn drop_line(&mut self) {
        self.line = None;
        self.out.clear();
        self.desk.handle_disconnect();
    }

    fn take(&mut self, line: UnixStream) {
        match line.peer_cred() {
            Ok(peer) if self.allowed.contains(&peer.uid()) => {
                self.drop_line();
                self.line = Some(line);
                self.desk.handle_connect();
                log::info!(target: "desk", hand = self.hand, uid = peer.uid(); "control is on the line");
            }
            Ok(peer) => {
                log::warn!(target: "desk", hand = self.hand, uid = peer.uid(); "refused a user that is not control's (--control-uid)");
            }
            Err(error) => log::warn!(target: "desk", hand = self.hand, error:% = error; "control not known"),
        }
    }

    /// Reads and writes what goes without waiting.
    fn exchange(&mut self, bytes: &mut [u8]) -> Result<()> {
        let Some(line) = &self.line else { return Ok(()) };
        if !self.out.is_empty() {
            match line.try_write(&self.out) {
                Ok(written) => drop(self.out.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        let read = match line.try_read(bytes) {
            Ok(0) => bail!("it closed the connection"),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if self.desk.handle_bytes(&bytes[..read])? {
            if let (Some(kept), Some(plan)) = (&self.kept, self.desk.keep())
                && let Err(error) = kept.write(&plan)
            {
                log::error!(target: "desk", hand = self.hand, error:% = format!("{error:#}"); "plan not kept, a restart will begin without it");
            }
            log::info!(target: "desk", hand = self.hand, generation = self.desk.holds().map(|g| g.0); "plan taken");
            self.plan.send_replace(self.desk.plan().cloned().map(Arc::new));
        }
        Ok(())
    }
}

/// A file of the run directory that is replaced as a whole.
#[derive(Clone, Debug)]
struct Kept {
    path: PathBuf,
}

impl Kept {
    fn open(run_dir: &Path, hand: &str) -> Result<Kept> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(run_dir)
            .with_context(|| format!("cannot make the run directory {}", run_dir.display()))?;
        Ok(Kept { path: run_dir.join(format!("{hand}.plan")) })
    }

    fn read(&self) -> Option<Vec<u8>> {
        match fs::read(&self.path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                log::warn!(target: "desk", file:% = self.path.display(), error:% = error; "kept plan not read");
                None
            }
        }
    }

    fn write(&self, bytes: &[u8]) -> Result<()> {
        replace(&self.path, bytes).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// Replaces a file as a whole: after a cut it holds the old content or the new. Mode 0600.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    path.parent().map_or(Ok(()), |directory| fs::File::open(directory)?.sync_all())
}

#[cfg(test)]
mod tests;
