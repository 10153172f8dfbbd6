//! What a rack leaves in the system, and how it is removed whatever happens to the one who raised it.
//!
//! Everything a rack runs lives in network namespaces whose names begin with its prefix, `k` and the number
//! of the process that raised it. So there is nothing to keep a list of: whoever lives in them is killed,
//! then they are removed, and with them every TAP and veth. Four do so:
//! [`Footprint`]'s `Drop`; [`end_on_signal`]; the guard, a process that waits for the end of the one who
//! raised the rack (even by `kill -9`); and the next rack, for whatever the guard could not remove.
//!
//! Rejected: `PR_SET_PDEATHSIG` (it fires when the *thread* that started a child ends, and QEMU is the
//! child of a chassis that is gone at once) and pid files for each process (a process between its start and
//! its file is missed).

use super::{namespace::Namespace, process::Process, tools};
use anyhow::{Context as _, Result, bail};
use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

static RAISED: AtomicU32 = AtomicU32::new(0);
static LIVE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A rack's claim on its directory and on its prefix; gone with everything under them when dropped.
#[derive(Debug)]
pub(super) struct Footprint {
    directory: PathBuf,
    prefix: String,
    guard: Option<Child>,
    children: Vec<Child>,
}

impl Footprint {
    /// Claims `directory`, after removing what racks of dead processes left in the system.
    pub(super) fn claim(directory: &Path) -> Result<Footprint> {
        let owner = directory.join("owner");
        if let Some(process) = Process::read(&owner)?.filter(|process| process.runs()) {
            bail!(
                "process {} has a rack in {}: end it, or take another directory",
                process.pid,
                directory.display()
            );
        }
        remove_orphans()?;
        for old in ["nodes", "switch", "logs", "captures", "appliance-machine"] {
            match fs::remove_dir_all(directory.join(old)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot empty {}", directory.display()));
                }
                _ => fs::create_dir_all(directory.join(old))
                    .with_context(|| format!("cannot make {}", directory.display()))?,
            }
        }
        let own = Process::own().context("cannot see itself in /proc: is it mounted?")?;
        own.write(&owner)?;
        let number = RAISED.fetch_add(1, Ordering::Relaxed);
        let prefix = if number == 0 { format!("k{}", own.pid) } else { format!("k{}x{number}", own.pid) };
        fs::write(directory.join("prefix"), &prefix)?;
        let guard = Command::new(tools::chassis()?)
            .args(["guard".as_ref(), directory.as_os_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(directory.join("logs/guard.log"))?)
            .spawn()
            .context("cannot start the guard")?;
        live().push(prefix.clone());
        Ok(Footprint { directory: directory.to_owned(), prefix, guard: Some(guard), children: Vec::new() })
    }

    /// Makes a namespace of this rack.
    pub(super) fn namespace(&self, name: &str) -> Result<Namespace> {
        Namespace::create(format!("{}-{name}", self.prefix))
    }

    /// Starts a process that is to run as long as the rack, its output in `logs/NAME.log`; returns its pid.
    pub(super) fn start(&mut self, name: &str, inside: &Namespace, command: &mut Command) -> Result<Process> {
        use std::os::unix::process::CommandExt as _;
        let log = File::create(self.log(name)).with_context(|| format!("cannot write {name}.log"))?;
        // A process group of its own: Ctrl-C is for the one who raised the rack.
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let child = inside.spawn(command)?;
        let pid = i32::try_from(child.id()).context("a pid out of range")?;
        self.children.push(child);
        let started = Process::of(pid);
        started.with_context(|| format!("{name} ended at once: see {}", self.log(name).display()))
    }

    /// Where a process's output goes.
    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.directory.join("logs").join(format!("{name}.log"))
    }
}

impl Drop for Footprint {
    fn drop(&mut self) {
        if let Err(error) = sweep(&self.prefix) {
            eprintln!("the virtual rack {} is not wholly removed: {error:#}", self.prefix);
        }
        for child in &mut self.children {
            // Killed by the sweep; this takes the zombie off the table.
            let _ = child.kill().and_then(|()| child.wait());
        }
        let _ = fs::remove_file(self.directory.join("owner"));
        if let Some(mut guard) = self.guard.take() {
            drop(guard.stdin.take());
            let _ = guard.wait();
        }
        live().retain(|prefix| *prefix != self.prefix);
    }
}

fn live() -> std::sync::MutexGuard<'static, Vec<String>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills and removes all that one rack has in the system; nothing if it has nothing.
fn sweep(prefix: &str) -> Result<()> {
    let of_it = Namespace::all().into_iter().filter(|(begins, _)| begins == prefix);
    Namespace::remove(&of_it.map(|(_, namespace)| namespace).collect::<Vec<_>>())
}

/// Removes what racks of dead processes left.
fn remove_orphans() -> Result<()> {
    let orphan = |prefix: &str| {
        let number = prefix.strip_prefix('k').map(|rest| rest.split_once('x').map_or(rest, |(pid, _)| pid));
        number.and_then(|pid| pid.parse().ok()).is_some_and(|pid| Process::of(pid).is_none())
    };
    let all = Namespace::all().into_iter().filter(|(prefix, _)| orphan(prefix));
    Namespace::remove(&all.map(|(_, namespace)| namespace).collect::<Vec<_>>())
        .context("cannot remove what an earlier rack left")
}

/// Waits until standard input closes, then removes what the rack in `directory` has in the system.
///
/// # Errors
/// Something could not be removed; the next rack tries again.
pub fn guard(directory: &Path) -> Result<()> {
    let prefix = fs::read_to_string(directory.join("prefix")).context("there never was a rack to guard")?;
    let mut stdin = io::stdin().lock();
    let mut nothing = [0; 64];
    while stdin.read(&mut nothing).context("cannot watch the one who raised the rack")? > 0 {}
    sweep(&prefix)
}

/// From now on SIGINT and SIGTERM remove every rack of this process and end it with 130 or 143.
///
/// # Errors
/// The signals cannot be caught.
pub fn end_on_signal() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let code = runtime.block_on(async {
            tokio::select! { _ = interrupt.recv() => 130, _ = terminate.recv() => 143 }
        });
        for prefix in live().iter() {
            if let Err(error) = sweep(prefix) {
                eprintln!("the virtual rack {prefix} is not wholly removed: {error:#}");
            }
        }
        std::process::exit(code)
    })?;
    Ok(())
}
