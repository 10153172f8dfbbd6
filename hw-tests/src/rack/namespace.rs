//! Network namespaces with names, and running things inside them.

use super::{process, process::Process, wait};
use anyhow::{Context as _, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use std::{
    collections::HashSet,
    fmt, fs,
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    thread,
    time::Duration,
};

const DIRECTORY: &str = "/run/netns";

/// A network namespace that `ip netns` knows by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Namespace(String);

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Namespace {
    /// Makes it, with no interface up but the loopback.
    ///
    /// # Errors
    /// The name is taken, or this process may not.
    pub(super) fn create(name: String) -> Result<Namespace> {
        run(Command::new("ip").args(["netns", "add", &name])).with_context(|| {
            format!("cannot make the network namespace {name}: it takes root and CAP_SYS_ADMIN")
        })?;
        let namespace = Namespace(name);
        // A new namespace may take the host's settings over, and a host with containers routes.
        namespace.set("net/ipv4/ip_forward", "0")?;
        namespace.set("net/ipv6/conf/all/forwarding", "0")?;
        namespace.links("link set lo up\n")?;
        Ok(namespace)
    }

    /// All that exist, with the name's beginning before its last hyphen.
    pub(super) fn all() -> Vec<(String, Namespace)> {
        let entries = fs::read_dir(DIRECTORY).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| Some((name.rsplit_once('-')?.0.to_owned(), Namespace(name)))).collect()
    }

    /// Kills every process that lives in one of these, then removes them with their interfaces.
    ///
    /// # Errors
    /// A process outlived its kill by five seconds, or a namespace cannot be removed.
    pub(super) fn remove(all: &[Namespace]) -> Result<()> {
        if all.is_empty() {
            return Ok(());
        }
        // A namespace that somebody removed meanwhile holds nothing to kill.
        let inodes: HashSet<u64> =
            all.iter().filter_map(|n| Some(fs::metadata(n.path()).ok()?.ino())).collect();
        let kill = || {
            wait::until(Duration::from_secs(5), "killed processes to end", || {
                let living = inhabitants(&inodes);
                living.iter().for_each(|process| process.kill());
                Ok(living.is_empty().then_some(()))
            })
        };
        kill()?;
        for namespace in all {
            if namespace.path().exists() {
                run(Command::new("ip").args(["netns", "del", &namespace.0]))?;
            }
        }
        // Whoever starts again what dies may have been in between; without its name nobody enters any more.
        kill()
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(DIRECTORY).join(&self.0)
    }

    /// Calls `work` on a thread that lives inside; sockets it opens stay there.
    ///
    /// # Errors
    /// The namespace is gone or this process may not enter it.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let door =
            fs::File::open(self.path()).with_context(|| format!("the network namespace {self} is gone"))?;
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&door, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter {self}"))?;
                Ok(work())
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts a command inside.
    ///
    /// # Errors
    /// The namespace is gone or the program cannot be started.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        let program = command.get_program().to_string_lossy().into_owned();
        self.inside(|| command.spawn())?.with_context(|| format!("cannot start {program} in {self}"))
    }

    /// Runs a command inside to its end and keeps what it says.
    ///
    /// # Errors
    /// The namespace is gone or the program cannot be started; a program that fails is no error.
    pub fn output(&self, command: &mut Command) -> Result<Output> {
        let program = command.get_program().to_string_lossy().into_owned();
        self.inside(|| command.stdin(Stdio::null()).output())?
            .with_context(|| format!("cannot start {program} in {self}"))
    }

    /// Runs a command inside that must succeed; returns its standard output.
    ///
    /// # Errors
    /// It could not be started, or failed: then with what it said.
    pub fn run(&self, command: &mut Command) -> Result<String> {
        self.inside(|| run(command))?.with_context(|| format!("in {self}"))
    }

    /// Feeds lines to `ip -batch` inside.
    pub(super) fn links(&self, lines: &str) -> Result<()> {
        feed(Command::new("ip").args(["-n", &self.0, "-batch", "-"]), lines)
    }

    /// Sets a file under `/proc/sys`; one that the kernel lacks stays lacking.
    pub(super) fn set(&self, sysctl: &str, value: &str) -> Result<()> {
        let path = PathBuf::from("/proc/sys").join(sysctl);
        if !path.exists() {
            return Ok(());
        }
        self.inside(|| fs::write(&path, value))?
            .with_context(|| format!("cannot set {} in {self}", path.display()))
    }
}

fn inhabitants(inodes: &HashSet<u64>) -> Vec<Process> {
    let lives_there = |pid: &i32| {
        let inode = fs::metadata(format!("/proc/{pid}/ns/net")).map(|namespace| namespace.ino());
        inode.is_ok_and(|inode| inodes.contains(&inode))
    };
    let own = Process::own().map(|own| own.pid);
    let pids = process::all().into_iter().filter(|pid| Some(*pid) != own);
    pids.filter(lives_there).filter_map(Process::of).collect()
}

/// Runs a command that must succeed; returns its standard output.
pub(super) fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output();
    judge(command, output.with_context(|| format!("cannot start {}", command.get_program().display()))?)
}

/// Runs a command that must succeed, with `input` on its standard input.
pub(super) fn feed(command: &mut Command, input: &str) -> Result<()> {
    let name = command.get_program().display().to_string();
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().with_context(|| format!("cannot start {name}"))?;
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(input.as_bytes()));
    judge(command, child.wait_with_output()?)?;
    written.with_context(|| format!("{name} did not read its input"))
}

fn judge(command: &Command, output: Output) -> Result<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = if said.trim().is_empty() { String::from_utf8_lossy(&output.stdout) } else { said };
    let arguments: Vec<_> = command.get_args().map(|a| a.to_string_lossy()).collect();
    ensure!(output.status.code().is_some(), "{} was killed", command.get_program().display());
    bail!("{} {}: {}", command.get_program().display(), arguments.join(" "), said.trim().replace('\n', "; "))
}
