//! A server's place and a client's place, joined by a wire: two network namespaces without names, which end
//! with the last process in them.

use hw_tests::rack::until;
use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::signal::{Signal, kill},
    unistd::{Gid, Pid, Uid, chown},
};
use std::{
    env, fs,
    fs::File,
    os::{fd::AsRawFd as _, unix::fs::PermissionsExt as _},
    panic,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Machines under an emulated processor, two cores for many of them.
pub(crate) const PATIENCE: Duration = Duration::from_secs(150);
/// The server's address; its end of the wire is `s0`.
pub(crate) const SERVER: &str = "10.7.0.1";
/// The client's interface is `c0`, with this MAC.
pub(crate) const CLIENT_MAC: &str = "52:54:00:00:00:01";
/// Whom the hands run as.
const NOBODY: u32 = 65534;

pub(crate) struct Wire {
    pub(crate) directory: PathBuf,
    server: File,
    client: File,
}

/// Runs a test on a wire of its own. Its files are removed if it passes.
pub(crate) fn on_a_wire(name: &str, test: impl FnOnce(&Wire) + Send) {
    let directory = env::temp_dir().join(format!("kiln-peers-{}-{name}", process::id()));
    let done = thread::scope(|scope| {
        // A thread of its own, as it changes namespaces; and what it starts ends with it.
        scope.spawn(|| test(&Wire::new(&directory))).join()
    });
    match done {
        Ok(()) => drop(fs::remove_dir_all(&directory)),
        Err(panicked) => {
            println!("logs are in {}", directory.display());
            panic::resume_unwind(panicked);
        }
    }
}

fn fresh_namespace() -> File {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace takes root");
    File::open("/proc/thread-self/ns/net").unwrap()
}

impl Wire {
    fn new(directory: &Path) -> Wire {
        let _ = fs::remove_dir_all(directory);
        fs::create_dir_all(directory).unwrap();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
        chown(directory, Some(Uid::from_raw(NOBODY)), Some(Gid::from_raw(NOBODY))).unwrap();
        let client = fresh_namespace();
        let server = fresh_namespace();
        let wire = Wire { directory: directory.to_owned(), server, client };
        let there = format!("/proc/{}/fd/{}", process::id(), wire.client.as_raw_fd());
        wire.run("ip link set lo up");
        wire.run("ip link add s0 type veth peer name c0");
        wire.run(&format!("ip link set c0 address {CLIENT_MAC} netns {there}"));
        wire.run(&format!("ip address add {SERVER}/24 dev s0"));
        wire.run("ip link set s0 up");
        // Packet sockets see checksums that the kernel leaves to hardware, and clients refuse those.
        wire.run("ethtool -K s0 tx off");
        wire.at_client(|| {
            wire.run("ip link set lo up");
            wire.run("ip link set c0 up");
            wire.run("ethtool -K c0 tx off");
        });
        wire
    }

    /// Does something in the client's place.
    pub(crate) fn at_client<T>(&self, work: impl FnOnce() -> T) -> T {
        setns(&self.client, CloneFlags::CLONE_NEWNET).unwrap();
        let done = work();
        setns(&self.server, CloneFlags::CLONE_NEWNET).unwrap();
        done
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.directory.join(name), text).unwrap();
        self.path(name)
    }

    /// A shell script that the peers call.
    pub(crate) fn script(&self, name: &str, text: &str) -> String {
        let path = self.write(name, text);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    pub(crate) fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.directory.join(name)).unwrap_or_default()).into_owned()
    }

    /// Runs a command that must succeed; returns what it said.
    pub(crate) fn run(&self, command: &str) -> String {
        self.run_words(&command.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    /// The same, of words that may hold blanks.
    pub(crate) fn run_words(&self, words: &[String]) -> String {
        let (success, said) = self.try_words(words);
        assert!(success, "{words:?}: {said}");
        said
    }

    /// Runs a command, which may fail; returns whether it did not, and what it said.
    pub(crate) fn try_words(&self, words: &[String]) -> (bool, String) {
        let output = Command::new(&words[0])
            .args(&words[1..])
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .output();
        let output = output.unwrap_or_else(|error| panic!("{}: {error}: run hw-tests/setup", words[0]));
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), said)
    }

    /// Starts a command; it writes `NAME.out` and `NAME.log`.
    pub(crate) fn start(&self, name: &str, command: &str) -> Daemon {
        let words: Vec<&str> = command.split(' ').filter(|word| !word.is_empty()).collect();
        let log = |kind: &str| File::create(self.directory.join(format!("{name}.{kind}"))).unwrap();
        // Killed with the thread that started it, should that end without a chance to clean up.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .args(words)
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(log("out"))
            .stderr(log("log"))
            .spawn();
        Daemon(child.unwrap_or_else(|error| panic!("setpriv: {error}: run hw-tests/setup")))
    }

    /// A copy of bootd where nobody may run it.
    pub(crate) fn program(&self) -> String {
        let own = env::current_exe().unwrap();
        let built = own.parent().and_then(Path::parent).unwrap().join("bootd");
        assert!(built.exists(), "{} is not built: cargo build -p bootd", built.display());
        let program = self.directory.join("bootd");
        if !program.exists() {
            // By another process: a file that this one writes is busy in all that its other threads start.
            self.run(&format!("cp {} {}", built.display(), program.display()));
        }
        program.display().to_string()
    }

    /// Starts `bootd HAND` alone with a plan, as nobody, with the capabilities that the supervisor gives it.
    pub(crate) fn bootd(&self, hand: &str, plan: &serde_json::Value) -> Daemon {
        self.bootd_with(hand, plan, "\"trouble\":null")
    }

    /// The same, when the first thing it says is another.
    pub(crate) fn bootd_with(&self, hand: &str, plan: &serde_json::Value, said: &str) -> Daemon {
        let program = self.program();
        let plan = self.write(&format!("{hand}.plan.json"), &plan.to_string());
        let capabilities = "-all,+net_raw,+net_bind_service";
        let user = format!("--reuid {NOBODY} --regid {NOBODY} --clear-groups --no-new-privs");
        let limits = format!(
            "{user} --inh-caps {capabilities} --ambient-caps {capabilities} --bounding-set {capabilities}"
        );
        let command = format!(
            "{limits} env KILN_LOG=debug {program} {hand} --plan {plan} --run-dir {}",
            self.path("run")
        );
        let mut daemon = self.start(hand, &command);
        let (out, log) = (format!("{hand}.out"), format!("{hand}.log"));
        until(PATIENCE, said, || {
            let ended = daemon.0.try_wait()?;
            assert!(ended.is_none(), "bootd {hand} ended: {}", self.read(&log));
            Ok(self.read(&out).contains(said).then_some(()))
        })
        .unwrap();
        daemon
    }

    /// Waits until a file holds a text.
    pub(crate) fn await_text(&self, file: &str, text: &str) {
        let what = format!("{text} in {}", self.path(file));
        until(PATIENCE, &what, || Ok(self.read(file).contains(text).then_some(()))).unwrap();
    }
}

/// A process that ends with this value.
pub(crate) struct Daemon(Child);

impl Daemon {
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().try_into().unwrap()), signal).unwrap();
    }

    /// Waits until it ends by itself.
    pub(crate) fn ended(&mut self) -> bool {
        until(PATIENCE, "a client to end", || Ok(self.0.try_wait()?)).unwrap().success()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How long something took.
pub(crate) struct Watch(Instant);

impl Watch {
    #[allow(clippy::disallowed_methods, reason = "a driver of real machines: somebody must read the clock")]
    pub(crate) fn start() -> Watch {
        Watch(Instant::now())
    }

    #[allow(clippy::disallowed_methods, reason = "a driver of real machines: somebody must read the clock")]
    pub(crate) fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}
