//! A private Open vSwitch: its own namespace, directory, database server and switch daemon.

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use std::{env, fs, panic, process, thread};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{interval, timeout};

/// Where it listens, in its own namespace.
pub(super) const ADDRESS: &str = "127.0.0.1:6640";
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
/// Two cores may be shared with six machines under emulation.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// The switch. Its processes end with it, and its directory is kept if the test failed.
pub(super) struct OpenVswitch {
    directory: PathBuf,
    database: Option<Child>,
    daemon: Option<Child>,
}

/// Runs a test with a switch that has the bridge `br0`, the access ports `n1` and `n2` in VLAN 10, and the
/// trunk `up`. `schema` may change the text of the schema first.
pub(super) fn with(
    name: &'static str,
    schema: fn(String) -> String,
    test: impl AsyncFnOnce(&mut OpenVswitch) + Send,
) {
    // A namespace without a name ends with the last process in it; nothing of it can be left over.
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace takes root");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut switch = OpenVswitch::start(name, schema).await;
                test(&mut switch).await;
            });
        });
        if let Err(panicked) = thread.join() {
            panic::resume_unwind(panicked);
        }
    });
}

impl OpenVswitch {
    async fn start(name: &str, schema: fn(String) -> String) -> OpenVswitch {
        let directory = env::temp_dir().join(format!("kiln-ovs-{}-{name}", process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let text = fs::read_to_string(SCHEMA)
            .expect("the package openvswitch-switch is not installed: run hw-tests/setup");
        fs::write(directory.join("schema"), schema(text)).unwrap();
        let mut switch = OpenVswitch { directory, database: None, daemon: None };
        run("ip", &["link", "set", "lo", "up"]).await;
        run("ovsdb-tool", &["create", &switch.path("conf.db"), &switch.path("schema")]).await;
        switch.start_database().await;
        switch.vsctl(&["--no-wait", "init"]).await;
        switch.start_daemon().await;
        for port in ["n1", "n2", "up"] {
            run("ip", &["tuntap", "add", "dev", port, "mode", "tap"]).await;
        }
        switch.vsctl(&["add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev"]).await;
        switch.vsctl(&["add-port", "br0", "n1", "tag=10", "--", "add-port", "br0", "n2", "tag=10"]).await;
        switch.vsctl(&["add-port", "br0", "up", "trunks=10,100,200"]).await;
        switch
    }

    pub(super) async fn start_database(&mut self) {
        let _ = fs::remove_file(self.directory.join("db.sock"));
        let (local, control) = (format!("punix:{}", self.path("db.sock")), self.path("ovsdb.ctl"));
        let server = self.daemon(&[
            "ovsdb-server",
            &self.path("conf.db"),
            &format!("--remote={local}"),
            "--remote=ptcp:6640:127.0.0.1",
            &format!("--unixctl={control}"),
            "--no-chdir",
        ]);
        self.database = Some(server);
        let socket = self.directory.join("db.sock");
        // The file is there before anybody listens.
        until("the database server", async || UnixStream::connect(&socket).await.is_ok()).await;
    }

    pub(super) async fn start_daemon(&mut self) {
        let (database, control) = (format!("unix:{}", self.path("db.sock")), self.path("vswitchd.ctl"));
        let control = format!("--unixctl={control}");
        self.daemon =
            Some(self.daemon(&["ovs-vswitchd", &database, &control, "--no-chdir", "--disable-system"]));
    }

    /// Ends the database server as a power cut would.
    pub(super) async fn kill_database(&mut self) {
        let mut server = self.database.take().expect("it runs");
        server.kill().await.unwrap();
    }

    /// Ends the switch daemon as a power cut would.
    pub(super) async fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().expect("it runs");
        daemon.kill().await.unwrap();
    }

    /// Stops the switch daemon, or lets it go on.
    pub(super) fn signal_daemon(&self, signal: Signal) {
        let pid = self.daemon.as_ref().and_then(Child::id).expect("it runs");
        kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
    }

    /// The reference client; it waits until what it did is in force, unless told otherwise.
    pub(super) async fn vsctl(&self, arguments: &[&str]) -> String {
        let database = format!("--db=unix:{}", self.path("db.sock"));
        let mut all = vec![database.as_str(), "--timeout=20"];
        all.extend(arguments);
        run("ovs-vsctl", &all).await
    }

    /// Which VLANs a broadcast that comes in by this port leaves the trunk with, as the daemon forwards now.
    pub(super) async fn forwards(&self, port: &str) -> String {
        let flow = format!("in_port={port},dl_src=02:00:00:00:00:01,dl_dst=ff:ff:ff:ff:ff:ff");
        let said =
            run("ovs-appctl", &["-t", &self.path("vswitchd.ctl"), "ofproto/trace", "br0", &flow]).await;
        said.lines().rfind(|line| line.starts_with("Datapath actions")).unwrap_or_default().to_owned()
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn daemon(&self, command: &[&str]) -> Child {
        let log = fs::File::create(self.directory.join(format!("{}.log", command[0]))).unwrap();
        // Killed with the thread that started it, should that end without a chance to clean up.
        Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .args(command)
            .envs([
                ("OVS_RUNDIR", &self.directory),
                ("OVS_LOGDIR", &self.directory),
                ("OVS_DBDIR", &self.directory),
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("the package openvswitch-switch is not installed: run hw-tests/setup")
    }
}

impl Drop for OpenVswitch {
    fn drop(&mut self) {
        for child in [&mut self.daemon, &mut self.database].into_iter().flatten() {
            let _ = child.start_kill();
        }
        if thread::panicking() {
            eprintln!("kept: {}", self.directory.display());
        } else {
            let _ = fs::remove_dir_all(Path::new(&self.directory));
        }
    }
}

/// Runs a command that must succeed.
async fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).kill_on_drop(true).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {said}", arguments.join(" "));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Asks again and again, for as long as patience lasts.
pub(super) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let asking = async {
        let mut ticks = interval(Duration::from_millis(5));
        while !condition().await {
            ticks.tick().await;
        }
    };
    timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("waited in vain for {what}"));
}
