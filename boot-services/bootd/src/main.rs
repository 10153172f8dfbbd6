//! `bootd`: the hands that boot nodes, one a process.

use anyhow::{Context as _, Result, bail, ensure};
use bootd::desk::{Channel, Door};
use clap::{Args, Parser, Subcommand};
use nix::unistd::Uid;
use std::{
    env,
    os::{
        fd::{FromRawFd as _, OwnedFd},
        unix::net::UnixListener,
    },
    path::PathBuf,
    pin::Pin,
    process::ExitCode,
};
use tokio::signal::unix::{SignalKind, signal};

/// Boots the machines of a rack: each subcommand is one service.
///
/// Plans come from the appliance's control, over the Unix socket that the supervisor passes (LISTEN_FDS) or
/// that --control-socket makes, or from a file with --plan.
#[derive(Parser)]
#[command(name = "bootd", version)]
struct Command {
    #[command(subcommand)]
    hand: Hand,
}

#[derive(Subcommand)]
enum Hand {
    /// Gives addresses and boot files (DHCPv4).
    Dhcp(Setting),
    /// Gives the first boot file to firmware that speaks no HTTP (TFTP).
    Tftp(Setting),
    /// Serves boot files, scripts and images, and talks with deploy agents (HTTP).
    Http(Setting),
    /// Keeps volumes and exports them to the machines that boot from them (iSCSI).
    Iscsi(Setting),
}

#[derive(Args)]
struct Setting {
    /// Serve this plan, a JSON file, without a control; SIGHUP reads it again. Facts go to standard output.
    #[arg(long, value_name = "FILE", conflicts_with = "control_socket")]
    plan: Option<PathBuf>,
    /// Make this Unix socket for control to connect to.
    #[arg(long, value_name = "PATH")]
    control_socket: Option<PathBuf>,
    /// The user that control runs as, beside root and our own.
    #[arg(long, value_name = "UID")]
    control_uid: Option<u32>,
    /// Keep the newest plan here, and what else must survive a restart.
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
}

impl Setting {
    fn door(self, hand: &'static str, rows: usize) -> Result<Door> {
        let channel = match (self.plan, self.control_socket) {
            (Some(plan), _) => Channel::File(plan),
            (None, Some(path)) => {
                if path.exists() {
                    // One that nobody listens on any more would be in the way.
                    ensure!(
                        std::os::unix::net::UnixStream::connect(&path).is_err(),
                        "{} is in use: another bootd {hand} runs",
                        path.display()
                    );
                    std::fs::remove_file(&path)
                        .with_context(|| format!("cannot replace {}", path.display()))?;
                }
                let listener = UnixListener::bind(&path);
                Channel::Listener(listener.with_context(|| format!("cannot listen on {}", path.display()))?)
            }
            (None, None) => Channel::Listener(inherited(hand)?),
        };
        let control = self.control_uid.map(Uid::from_raw);
        Ok(Door { hand, channel, run_dir: self.run_dir, control, rows })
    }
}

/// The socket passed by the supervisor, by the convention of sd_listen_fds(3): the first one is number 3.
fn inherited(hand: &str) -> Result<UnixListener> {
    let for_us = env::var("LISTEN_PID").map_or(true, |pid| pid == std::process::id().to_string());
    let passed = env::var("LISTEN_FDS").ok().and_then(|count| count.parse().ok()).unwrap_or(0);
    if !for_us || passed < 1 {
        bail!(
            "bootd {hand} has no plan: give it --plan FILE or --control-socket PATH, or start it by the supervisor"
        );
    }
    // SAFETY: the supervisor says that 3 is open and ours; nothing of this process has opened or taken a
    // descriptor yet, and this is called once.
    // JUSTIFICATION: the convention hands over a bare number; std has no safe way to take it.
    let socket = unsafe { OwnedFd::from_raw_fd(3) };
    bootd::held::take_in(1);
    nix::sys::socket::getsockname::<nix::sys::socket::UnixAddr>(std::os::fd::AsRawFd::as_raw_fd(&socket))
        .context("descriptor 3, which the supervisor passed, is no Unix socket")?;
    Ok(UnixListener::from(socket))
}

async fn run(work: impl Future<Output = Result<()>>) -> Result<()> {
    let told = told_to_stop()?;
    tokio::select! {
        done = work => done,
        () = bootd::notify::watchdog() => Ok(()),
        () = told => {
            bootd::notify::stopping();
            Ok(())
        }
    }
}

/// The same for a hand that has to do something before it ends.
async fn run_to_its_end<W: Future<Output = Result<()>>>(work: impl FnOnce(BoxedStop) -> W) -> Result<()> {
    let told: BoxedStop = Box::pin(told_to_stop()?);
    tokio::select! {
        done = work(told) => done,
        () = bootd::notify::watchdog() => Ok(()),
    }
}

type BoxedStop = Pin<Box<dyn Future<Output = ()>>>;

fn told_to_stop() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen to SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen to SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn start() -> Result<()> {
    let hand = Command::parse().hand;
    bootd::logging::start();
    // The inherited socket is taken before the runtime opens descriptors of its own.
    match hand {
        Hand::Dhcp(setting) => block_on(run(bootd::dhcp::run(setting.door("dhcp", 8192)?))),
        Hand::Tftp(setting) => block_on(run(bootd::tftp::run(setting.door("tftp", 1024)?))),
        Hand::Http(setting) => block_on(run(bootd::http::run(setting.door("http", 8192)?))),
        Hand::Iscsi(setting) => {
            let door = setting.door("iscsi", 8192)?;
            block_on(run_to_its_end(|told| bootd::iscsi::run(door, told)))
        }
    }
}

fn block_on(work: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(work)
}

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!(target: "bootd", "{error:#}");
            ExitCode::FAILURE
        }
    }
}
