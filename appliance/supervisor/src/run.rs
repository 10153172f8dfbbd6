use crate::spawn::spawn;
use crate::trial::Trial;
use crate::watchdog::Watchdog;
use crate::{Action, Privilege, Report, Watch};
use core::fmt;
use core::time::Duration;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use sansio::Time;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A row of the static table.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name, in messages and in the status file.
    pub name: &'static str,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its environment, beside ours.
    pub environment: Vec<(String, String)>,
    /// As whom it runs; none: as we do.
    pub privilege: Option<Privilege>,
    /// What is made for it and passed to it, in this order.
    pub sockets: Vec<Socket>,
    /// Whether it says READY=1, and a boot is good only with it. Another's program does not: it counts as ready when it
    /// runs.
    pub essential: bool,
    /// Whether it may ask for everything to be prepared and started anew.
    pub may_start_all_anew: bool,
}

/// A listening socket.
#[derive(Clone, Debug)]
pub enum Socket {
    /// A Unix socket at this path, for the user and the group of these ids.
    Unix(PathBuf, Option<(u32, u32)>),
    /// A TCP socket.
    Tcp(SocketAddr),
}

/// What the status file says, for people and tests.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Our own process.
    pub supervisor: u32,
    /// How many milliseconds after our start all services were ready first.
    pub all_ready: Option<u64>,
    /// The services.
    pub services: BTreeMap<&'static str, Report>,
}

/// Why the supervisor could not begin or go on.
#[derive(Debug)]
pub enum RunError {
    /// A socket could not be made.
    Socket {
        /// Which.
        socket: String,
        /// Why.
        source: io::Error,
    },
    /// The run directory cannot be used.
    Run {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused something that it does not refuse.
    System(nix::Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Socket { socket, source } if source.kind() == io::ErrorKind::AddrNotAvailable => {
                write!(f, "cannot listen on {socket}: no interface has this address")
            }
            RunError::Socket { socket, .. } => {
                write!(f, "cannot listen on {socket}: is another appliance running?")
            }
            RunError::Run { path, .. } => write!(f, "cannot use the run directory {}", path.display()),
            RunError::System(_) => f.write_str("the kernel refused a system call of the supervisor"),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RunError::Socket { source, .. } | RunError::Run { source, .. } => Some(source),
            RunError::System(source) => Some(source),
        }
    }
}

impl From<nix::Error> for RunError {
    fn from(e: nix::Error) -> RunError {
        RunError::System(e)
    }
}

/// Why all services have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// We were told to end.
    Told,
    /// A service that may do so asked for all of it to be prepared and started anew.
    Anew,
}

struct Running {
    service: Service,
    sockets: Vec<OwnedFd>,
    notify: UnixDatagram,
    notify_path: PathBuf,
    watch: Watch,
    /// What it left with us by name, for itself when it is started again.
    held: Vec<(String, OwnedFd)>,
}

/// The most descriptors that are held for one service.
const MOST_HELD: usize = 64;

/// How long services have to end by themselves.
const GRACE: Duration = Duration::from_secs(5);

/// Runs the table until SIGTERM or SIGINT, then ends all of it; at SIGPWR, too, which says that the machine ends.
/// `good`, a program and its arguments, is run once when all services were ready for a minute; empty: nothing is.
/// After that there is [`GOOD`] in `run_dir`. `watchdog` is the device of the machine's, if it has one. `now` is the
/// driver's clock.
///
/// # Errors
/// A socket or the run directory cannot be used; a service that does not start is no error.
pub fn run(
    table: Vec<Service>,
    run_dir: &Path,
    good: &[String],
    watchdog: Option<&Path>,
    now: impl Fn() -> Time,
) -> Result<Ended, RunError> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGPWR] {
        mask.add(signal);
    }
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let began = now();
    let mut watchdog = Watchdog::new(watchdog, began);
    let mut running = Vec::new();
    for service in table {
        running.push(prepare(service, run_dir, now())?);
    }
    // An earlier system's, where the directory outlives it.
    std::fs::remove_file(run_dir.join(GOOD)).ok();
    let mut ending: Option<Time> = None;
    let mut machine_ends = false;
    let mut all_ready_after = None;
    let (mut ended, mut anew) = (Ended::Told, false);
    let mut trial = Trial::new();
    loop {
        let time = now();
        watchdog.care(time);
        for one in running.iter_mut() {
            match one.watch.poll_action(time) {
                Some(Action::Start) if ending.is_none() => start(one, time),
                Some(Action::Kill(pid)) => {
                    log::error!(service = one.service.name, pid; "service fed no watchdog, it is ended");
                    kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
                }
                _ => {}
            }
        }
        let all_ready = running.iter().filter(|one| one.service.essential).all(|one| one.watch.is_ready());
        if all_ready && all_ready_after.is_none() {
            all_ready_after = u64::try_from(time.since(began).as_millis()).ok();
        }
        if ending.is_none() && trial.poll(all_ready, time) {
            match good {
                [program, arguments @ ..] => trial.handle_started(tell_good(program, arguments), time),
                [] => {
                    trial.handle_proved();
                    write_good(run_dir);
                }
            }
        }
        write_status(&running, run_dir, all_ready_after, time);
        if let Some(until) = ending {
            let left = running.iter().filter_map(|one| one.watch.pid()).collect::<Vec<_>>();
            if left.is_empty() {
                if machine_ends {
                    watchdog.farewell();
                }
                return Ok(ended);
            }
            if until <= time {
                left.iter().for_each(|pid| kill(Pid::from_raw(*pid), Signal::SIGKILL).unwrap_or(()));
            }
        }
        let next = running.iter().filter_map(|one| one.watch.poll_timeout()).chain(ending);
        let next = next.chain(trial.poll_timeout()).chain(watchdog.poll_timeout()).min();
        let wait = next.map_or(PollTimeout::NONE, |next| {
            let millis = next.since(time).as_millis() + 1;
            PollTimeout::try_from(millis.min(60_000)).unwrap_or(PollTimeout::MAX)
        });
        let mut polled: Vec<PollFd<'_>> =
            running.iter().map(|one| PollFd::new(one.notify.as_fd(), PollFlags::POLLIN)).collect();
        polled.push(PollFd::new(signals.as_fd(), PollFlags::POLLIN));
        match poll(&mut polled, wait) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let time = now();
        for one in running.iter_mut() {
            if hear(one, time) && ending.is_none() {
                log::info!(service = one.service.name; "service wants all to be started anew");
                ended = Ended::Anew;
                anew = true;
            }
        }
        if core::mem::take(&mut anew) {
            ending = Some(end_all(&running, time));
        }
        while let Ok(Some(signal)) = signals.read_signal() {
            machine_ends |= signal.ssi_signo == Signal::SIGPWR as u32;
            if signal.ssi_signo != Signal::SIGCHLD as u32 {
                ended = Ended::Told;
                ending = ending.or_else(|| Some(end_all(&running, time)));
            }
        }
        reap(&mut running, &mut trial, run_dir, time);
    }
}

/// Asks every service to end; until when it has time to.
fn end_all(running: &[Running], now: Time) -> Time {
    for pid in running.iter().filter_map(|one| one.watch.pid()) {
        kill(Pid::from_raw(pid), Signal::SIGTERM).ok();
    }
    now + GRACE
}

fn prepare(service: Service, run_dir: &Path, now: Time) -> Result<Running, RunError> {
    let notify_path = run_dir.join(format!("{}.notify", service.name));
    let in_run = |source| RunError::Run { path: run_dir.to_owned(), source };
    std::fs::remove_file(&notify_path).ok();
    let notify = UnixDatagram::bind(&notify_path).map_err(in_run)?;
    notify.set_nonblocking(true).map_err(in_run)?;
    if let Some(privilege) = &service.privilege {
        chown(&notify_path, Some(privilege.user), Some(privilege.group)).map_err(in_run)?;
    }
    let mut sockets = Vec::new();
    for socket in &service.sockets {
        sockets.push(match socket {
            Socket::Unix(path, owner) => {
                let named = |source| RunError::Socket { socket: path.display().to_string(), source };
                std::fs::remove_file(path).ok();
                let listener = UnixListener::bind(path).map_err(named)?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(named)?;
                if let Some((user, group)) = owner {
                    chown(path, Some(*user), Some(*group)).map_err(named)?;
                }
                OwnedFd::from(listener)
            }
            Socket::Tcp(address) => {
                let named = |source| RunError::Socket { socket: address.to_string(), source };
                OwnedFd::from(TcpListener::bind(address).map_err(named)?)
            }
        });
    }
    Ok(Running { service, sockets, notify, notify_path, watch: Watch::new(now), held: Vec::new() })
}

fn start(one: &mut Running, now: Time) {
    let mut command = Command::new(&one.service.program);
    command
        .args(&one.service.arguments)
        .envs(one.service.environment.iter().map(|(k, v)| (k, v)))
        .env("NOTIFY_SOCKET", &one.notify_path)
        .env("WATCHDOG_USEC", "20000000")
        .env_remove("LISTEN_PID")
        .env("LISTEN_FDS", (one.sockets.len() + one.held.len()).to_string())
        .env("LISTEN_FDNAMES", names(one))
        .stdin(std::process::Stdio::null());
    let sockets: Vec<BorrowedFd<'_>> =
        one.sockets.iter().chain(one.held.iter().map(|(_, held)| held)).map(AsFd::as_fd).collect();
    match spawn(command, one.service.privilege.as_ref(), &sockets) {
        Ok(child) => {
            let pid = i32::try_from(child.id()).unwrap_or(0);
            log::info!(service = one.service.name, pid; "service started");
            one.watch.handle_started(pid, now);
            if !one.service.essential {
                one.watch.handle_ready();
            }
        }
        Err(e) => {
            let program = one.service.program.display();
            log::error!(service = one.service.name, program:% = program, error:% = e; "service not started");
            one.watch.handle_not_started(format!("{program}: {e}"), now);
        }
    }
}

/// The names of what is passed to a service, in order: its own sockets have the service's.
fn names(one: &Running) -> String {
    let own = one.sockets.iter().map(|_| one.service.name);
    own.chain(one.held.iter().map(|(name, _)| name.as_str())).collect::<Vec<_>>().join(":")
}

/// Starts the command that tells that this system is good; its process.
fn tell_good(program: &str, arguments: &[String]) -> Option<i32> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(std::process::Stdio::null());
    match spawn(command, None, &[]) {
        Ok(child) => i32::try_from(child.id()).ok(),
        Err(e) => {
            log::error!(program, error:% = e; "cannot tell that this system is good, it is tried again");
            None
        }
    }
}

/// Takes what a service says of itself, and what it leaves with us. `true`: all are to be started anew.
fn hear(one: &mut Running, now: Time) -> bool {
    let mut anew = false;
    let mut text = [0; 4096];
    // A service that says more than this at once is not listened to before the next turn.
    for _ in 0..64 {
        // As many as one message can carry (SCM_MAX_FD): of a message cut short nobody could close them.
        let mut space = nix::cmsg_space!([RawFd; 253]);
        let mut parts = [IoSliceMut::new(&mut text)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let heard = recvmsg::<UnixAddr>(one.notify.as_raw_fd(), &mut parts, Some(&mut space), flags);
        let Ok(heard) = heard else { return anew };
        let mut left = Vec::new();
        for message in heard.cmsgs().into_iter().flatten() {
            if let ControlMessageOwned::ScmRights(descriptors) = message {
                // SAFETY: the kernel has just put these into our table, and nobody else knows of them.
                // JUSTIFICATION: nix hands over bare numbers, and so does every other crate.
                left.extend(descriptors.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
            }
        }
        let length = heard.bytes;
        let said = String::from_utf8_lossy(text.get(..length).unwrap_or_default()).into_owned();
        let name = said.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored");
        for line in said.lines() {
            match line {
                "READY=1" => {
                    log::info!(service = one.service.name; "service ready");
                    one.watch.handle_ready();
                }
                "WATCHDOG=1" => one.watch.handle_watchdog(now),
                "FDSTORE=1" => hold(one, name, left.drain(..)),
                ANEW if one.service.may_start_all_anew => anew = true,
                "FDSTOREREMOVE=1" => one.held.retain(|(held, _)| held != name),
                _ => {}
            }
        }
    }
    anew
}

/// What a service says that wants everything to be prepared and started anew; not one of sd_notify(3).
const ANEW: &str = "X_KILN_ANEW=1";

/// Keeps descriptors for the service's next life; by name, the newest counts.
fn hold(one: &mut Running, name: &str, left: impl Iterator<Item = OwnedFd>) {
    // sd_pid_notify_with_fds(3): at most 255 characters, printable ASCII, no colon.
    if name.len() > 255 || !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':') {
        log::warn!(service = one.service.name; "descriptors under an unfit name are not held");
        return;
    }
    for descriptor in left {
        one.held.retain(|(held, _)| held != name);
        if one.held.len() == MOST_HELD {
            log::warn!(service = one.service.name, name; "too many descriptors, this one is not held");
            return;
        }
        one.held.push((name.to_owned(), descriptor));
    }
}

/// How a process that did what it was to do ended.
const WELL: &str = "ended with status 0";

fn reap(running: &mut [Running], trial: &mut Trial, run_dir: &Path, now: Time) {
    loop {
        let (pid, how) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => (pid, format!("ended with status {code}")),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, format!("was ended by {signal}")),
            Ok(WaitStatus::StillAlive) | Err(_) => return,
            Ok(_) => continue,
        };
        if trial.handle_exited(pid.as_raw(), how == WELL, now) {
            match how.as_str() {
                WELL => {
                    log::info!("boot loader told that this system is good");
                    write_good(run_dir);
                }
                how => log::error!(how; "boot loader not told that this system is good, it is tried again"),
            }
        }
        for one in running.iter_mut() {
            if one.watch.handle_exited(pid.as_raw(), &how, now) {
                log::warn!(service = one.service.name, pid = pid.as_raw(), how = how.as_str(); "service ended");
            }
        }
    }
}

/// In the run directory since this system is proved good, for services that keep a way back until then.
pub const GOOD: &str = "good";

fn write_good(run_dir: &Path) {
    let path = run_dir.join(GOOD);
    if let Err(e) = std::fs::write(&path, "") {
        log::warn!(path:% = path.display(), error:% = e; "services not told that this system is good");
    }
}

/// The status file is replaced as a whole; a full disk costs only the news.
fn write_status(running: &[Running], run_dir: &Path, all_ready: Option<u64>, now: Time) {
    let services = running.iter().map(|one| (one.service.name, one.watch.report(now))).collect();
    let status = Status { supervisor: std::process::id(), all_ready, services };
    let path = run_dir.join("status.json");
    let aside = run_dir.join("status.json.new");
    if let Ok(text) = serde_json::to_vec(&status) {
        std::fs::write(&aside, text).and_then(|()| std::fs::rename(&aside, &path)).ok();
    }
}
