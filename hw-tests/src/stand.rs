//! A rack with an appliance in it: what the demo and the end-to-end tests stand on.
//!
//! The appliance's programs run in the rack's namespace for it, as they would on a distribution; this module
//! is init (it starts the supervisor again when it ends) and the operator, who has `kiln`. Or the appliance is
//! its image in a machine of its own, and the operator is on its uplink.

use crate::artifact::{Ramdisk, Workshop, ramdisk};
use crate::rack::{
    Appliance, Description, Firmware, MACS, Namespace, OPERATOR, Purpose, UPLINK, VirtualRack, until,
};
use anyhow::{Context as _, Result, bail, ensure};
use deploy::Patience;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// Enough patience for a machine that is busy with other things: QEMU emulates the nodes' processors.
pub const PATIENCE: Patience =
    Patience { hand: 60, firmware: 240, ramdisk: 240, progress: 90, system: 300, tries: 3 };

/// A rack with an appliance in it. Dropped: the appliance ends, then the rack is removed; the files stay.
#[derive(Debug)]
pub struct Stand {
    init: Option<Init>,
    home: PathBuf,
    operator: Operator,
    rack: VirtualRack,
}

/// What the operator drives the appliance with.
#[derive(Debug)]
struct Operator {
    kiln: PathBuf,
    token: PathBuf,
    url: String,
}

/// What an appliance that is a machine is given beside what it must have.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// Public keys of who may log in.
    pub keys: Vec<String>,
    /// Whether it has a time server: where the operator is, with this machine's time.
    pub time_server: bool,
    /// What its hardware clock says at first, as QEMU writes it.
    pub clock: Option<String>,
}

/// What starts the supervisor, again and again.
#[derive(Debug)]
struct Init {
    /// Dropped to end it.
    alive: Sender<()>,
    thread: JoinHandle<()>,
    pid_file: PathBuf,
}

/// How long init waits before it starts a supervisor that ended again.
const RESPAWN: Duration = Duration::from_millis(300);

/// The programs of the appliance.
const PROGRAMS: [&str; 3] = ["applianced", "bootd", "kiln"];

impl Stand {
    /// Raises the rack, installs the appliance beside it and starts it; returns when its API answers.
    /// Everything it writes is in `directory`, which must be one that unprivileged users can enter.
    ///
    /// # Errors
    /// Whatever cannot be had, in a line that says what to do.
    pub fn raise(description: &Description, directory: &Path, patience: Patience) -> Result<Stand> {
        let mut stand = Stand::prepare(description, directory, patience)?;
        stand.start()?;
        Ok(stand)
    }

    /// The same, with the appliance installed and not started.
    ///
    /// # Errors
    /// As [`Stand::raise`].
    pub fn prepare(description: &Description, directory: &Path, patience: Patience) -> Result<Stand> {
        let rack = VirtualRack::raise(description, directory)?;
        let home = rack.directory().join("appliance");
        // What an appliance of an earlier run knew is not this one's.
        match fs::remove_dir_all(&home) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("cannot empty {}", home.display()));
            }
            _ => {}
        }
        let operator = Operator {
            kiln: home.join("bin/kiln"),
            token: home.join("data/token"),
            url: "http://127.0.0.1:8080".to_owned(),
        };
        let stand = Stand { init: None, home, operator, rack };
        stand.install()?;
        stand.configure(patience)?;
        Ok(stand)
    }

    /// Raises the rack around the appliance's image, flashed on a machine that starts from this firmware, with
    /// its configuration on a USB stick; returns when its API answers on the uplink.
    ///
    /// # Errors
    /// As [`Stand::raise`]; and the API does not answer within three minutes: with the end of its console.
    pub fn raise_image(
        description: &Description,
        directory: &Path,
        patience: Patience,
        image: &Path,
        firmware: Firmware,
    ) -> Result<Stand> {
        Stand::raise_image_with(description, directory, patience, image, firmware, &Given::default())
    }

    /// The same, with more in its configuration.
    ///
    /// # Errors
    /// As [`Stand::raise_image`].
    pub fn raise_image_with(
        description: &Description,
        directory: &Path,
        patience: Patience,
        image: &Path,
        firmware: Firmware,
        given: &Given,
    ) -> Result<Stand> {
        let home = directory.join("operator");
        fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
        let token = "0123456789abcdef0123456789abcdef";
        let operator = Operator {
            kiln: programs()?.join("kiln"),
            token: home.join("token"),
            url: format!("http://{UPLINK}:8080"),
        };
        fs::write(&operator.token, token)?;
        let appliance = Appliance {
            image: image.to_owned(),
            firmware,
            memory_mib: 512,
            disk_mib: 4096,
            configuration: configuration(description, patience, token, given)?,
            clock: given.clock.clone(),
        };
        let rack = VirtualRack::raise_around(description, directory, appliance)?;
        let stand = Stand { init: None, home, operator, rack };
        if given.time_server {
            stand.start_time_server()?;
        }
        stand.wait_answer(Duration::from_secs(180)).with_context(|| {
            let said = stand.rack.appliance_console();
            let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
            let last = lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n  ");
            format!("its console, in {}, ends with:\n  {last}", stand.rack.appliance_home().display())
        })?;
        Ok(stand)
    }

    /// Long before the box asks it, which takes a firmware and a kernel; it goes with the rack.
    fn start_time_server(&self) -> Result<()> {
        let mut server = Command::new("chronyd");
        // -x: it leaves this machine's own clock alone.
        server.args([
            "-d",
            "-x",
            "local stratum 5",
            "allow all",
            "port 123",
            "cmdport 0",
            "bindcmdaddress /",
        ]);
        server.arg(format!("bindaddress {OPERATOR}"));
        let pid = self.home.join("time-server.pid");
        // Of an earlier run; chrony would take a process of that number for another chrony.
        let _ = fs::remove_file(&pid);
        server.arg(format!("pidfile {}", pid.display()));
        let log = fs::File::create(self.home.join("time-server.log"))?;
        let quiet = server.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.rack.kiln().spawn(quiet).context("run hw-tests/setup").map(drop)
    }

    /// Waits until the API answers.
    ///
    /// # Errors
    /// It does not in time.
    pub fn wait_answer(&self, patience: Duration) -> Result<()> {
        until(patience, "the appliance's API to answer", || Ok(self.kiln(&["status"]).ok().map(drop)))
    }

    /// The rack, to be changed.
    pub fn rack_mut(&mut self) -> &mut VirtualRack {
        &mut self.rack
    }

    /// The rack.
    pub fn rack(&self) -> &VirtualRack {
        &self.rack
    }

    /// The appliance's directory: `data`, `run`, `log`.
    pub fn home(&self) -> &Path {
        &self.home
    }

    fn install(&self) -> Result<()> {
        let built = programs()?;
        let place = self.home.join("bin");
        fs::create_dir_all(&place)?;
        for name in PROGRAMS {
            let from = built.join(name);
            fs::copy(&from, place.join(name))
                .with_context(|| format!("cannot install {}", from.display()))?;
        }
        let made = deploy_ramdisk()?;
        let boot = self.home.join("boot");
        fs::create_dir_all(&boot)?;
        for (from, name) in [(&made.kernel, "kernel"), (&made.initramfs, "initramfs")] {
            let to = boot.join(name);
            fs::copy(from, &to)?;
            fs::set_permissions(&to, fs::Permissions::from_mode(0o644))?;
        }
        Ok(())
    }

    fn configure(&self, patience: Patience) -> Result<()> {
        let home = self.home.display();
        let mut text = format!(
            "[appliance]\n\
             data = \"{home}/data\"\n\
             run = \"{home}/run\"\n\
             api = \"127.0.0.1:8080\"\n\
             kernel_args = \"console=ttyS0 quiet no_timer_check panic=5\"\n\n\
             [files]\n\
             ipxe_bios = \"/usr/lib/ipxe/undionly.kpxe\"\n\
             ipxe_uefi = \"/usr/lib/ipxe/snponly.efi\"\n\
             kernel = \"{home}/boot/kernel\"\n\
             initramfs = \"{home}/boot/initramfs\"\n\n\
             [patience]\n{}",
            toml::to_string(&patience)?
        );
        for network in &self.rack.description().networks {
            let name = &network.name;
            text.push_str(&format!("\n[[interface]]\nnetwork = \"{name}\"\ndevice = \"{name}\"\n"));
        }
        fs::write(self.home.join("kiln.toml"), text).context("cannot write the appliance's configuration")
    }

    /// Starts the supervisor, and starts it again whenever it ends, as init would.
    ///
    /// # Errors
    /// The API does not answer within 30 seconds.
    pub fn start(&mut self) -> Result<()> {
        let (alive, ended) = channel();
        let pid_file = self.home.join("supervisor.pid");
        let log = fs::File::create(self.home.join("log")).context("cannot write the appliance's log")?;
        let (home, namespace) = (self.home.clone(), self.rack.kiln().clone());
        let pids = pid_file.clone();
        let work = move || {
            loop {
                let mut command = Command::new(home.join("bin/applianced"));
                command.arg("--config").arg(home.join("kiln.toml")).arg("supervisor");
                command.stdin(Stdio::null()).env("KILN_LOG", "info");
                let (Ok(out), Ok(err)) = (log.try_clone(), log.try_clone()) else { return };
                let Ok(mut child) = namespace.spawn(command.stdout(out).stderr(err)) else { return };
                fs::write(&pids, child.id().to_string()).ok();
                child.wait().ok();
                if let Err(RecvTimeoutError::Disconnected) = ended.recv_timeout(RESPAWN) {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("init".into()).spawn(work)?;
        self.init = Some(Init { alive, thread, pid_file });
        self.wait_answer(Duration::from_secs(30))
            .with_context(|| format!("its log is {}", self.home.join("log").display()))
    }

    /// Runs `kiln` as the operator would, and returns what it printed.
    ///
    /// # Errors
    /// What `kiln` says went wrong.
    pub fn kiln(&self, arguments: &[&str]) -> Result<String> {
        let output = self.rack.kiln().output(self.command(arguments).stdin(Stdio::null()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{}", said.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The same, read as JSON.
    ///
    /// # Errors
    /// What `kiln` says went wrong, or it printed something else.
    pub fn kiln_json<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T> {
        let text = self.kiln(&[&["-o", "json"], arguments].concat())?;
        serde_json::from_str(&text)
            .with_context(|| format!("kiln {} printed no such JSON", arguments.join(" ")))
    }

    /// `kiln` with these arguments, not run yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.operator.kiln);
        command.env("KILN_TOKEN_FILE", &self.operator.token).env("KILN_URL", &self.operator.url);
        command.args(arguments);
        command
    }

    /// How a person reaches the appliance, in lines.
    pub fn reached(&self) -> Vec<String> {
        let Operator { kiln, token, url } = &self.operator;
        let namespace = self.rack.kiln();
        let log = match &self.init {
            Some(_) => self.home.join("log"),
            None => self.rack.appliance_home().join("console.log"),
        };
        vec![
            format!("the appliance:  export KILN_URL={url} KILN_TOKEN_FILE={}", token.display()),
            format!("                ip netns exec {namespace} {} node list", kiln.display()),
            format!("its API:        {url} in the namespace {namespace}"),
            format!("its log:        {}", log.display()),
        ]
    }

    /// Tells the appliance of the rack's networks and switches, as an administrator does once.
    ///
    /// # Errors
    /// What `kiln` says went wrong.
    pub fn describe(&self) -> Result<()> {
        let description = self.rack.description();
        for network in &description.networks {
            let Some(vlan) = network.vlan else { continue };
            let purpose = match network.purpose {
                Purpose::Oob => continue,
                Purpose::Provisioning => "provisioning",
                Purpose::Cleaning => "cleaning",
                Purpose::Tenant => "tenant",
                Purpose::Quarantine => "quarantine",
                Purpose::Storage => "storage",
            };
            let (name, vlan, subnet) =
                (network.name.to_string(), vlan.to_string(), network.subnet.to_string());
            let mut words =
                vec!["network", "create", &name, "--vlan", &vlan, "--purpose", purpose, "--subnet", &subnet];
            let pool = network.pool.map(|pool| (pool.first.to_string(), pool.last.to_string()));
            if let Some((first, last)) = &pool {
                words.extend(["--pool-first", first, "--pool-last", last]);
            }
            let storage = network.storage.as_ref().map(ToString::to_string);
            if let Some(storage) = &storage {
                words.extend(["--storage", storage]);
            }
            self.kiln(&words)?;
        }
        for switch in &description.switches {
            self.kiln(&["switch", "add", switch.name.as_str(), "--ovsdb", &switch.address.to_string()])?;
        }
        Ok(())
    }

    /// Describes a node to the appliance, and makes it available, its empty disk not wiped.
    ///
    /// # Errors
    /// What `kiln` says went wrong.
    pub fn enroll(&self, node: &str) -> Result<()> {
        self.enroll_as(node, |_| {})?;
        self.kiln(&["node", "provide", node, "--no-clean"]).map(drop)
    }

    /// Describes a node to the appliance with changes to its description.
    ///
    /// # Errors
    /// What `kiln` says went wrong.
    pub fn enroll_as(&self, node: &str, change: impl FnOnce(&mut Value)) -> Result<()> {
        let of = self.rack.description().node(node)?;
        let mut spec = json!({
            "name": of.name,
            "bmc": {
                "address": of.bmc.address, "port": of.bmc.port, "user": of.bmc.user,
                "password": of.bmc.password.expose(),
            },
            "ports": of.ports().map(|port| json!({
                "mac": port.mac,
                "local_link": { "switch": port.switch, "port": port.switch_port },
            })).collect::<Vec<_>>(),
            "firmware": of.hardware.as_ref().map(|hardware| hardware.firmware),
            "diskless": of.hardware.as_ref().is_some_and(|hardware| hardware.disk_mib == 0),
        });
        change(&mut spec);
        let file = self.home.join(format!("{node}.json"));
        fs::write(&file, spec.to_string())?;
        self.kiln(&["node", "enroll", "--file", &file.display().to_string()]).map(drop)
    }

    /// A node as the appliance shows it.
    ///
    /// # Errors
    /// There is no such node, or no appliance.
    pub fn node(&self, node: &str) -> Result<control::NodeView> {
        self.kiln_json(&["node", "show", node])
    }

    /// Waits until a node is in a state, and at rest.
    ///
    /// # Errors
    /// It is not in time, with what it waits for; or it failed, with the reason.
    pub fn wait_state(&self, node: &str, state: &str, patience: Duration) -> Result<control::NodeView> {
        let waited = until(patience, &format!("node {node} to be {state}"), || {
            // An appliance that is being killed and restarted under a test answers again soon.
            let Ok(view) = self.node(node) else { return Ok(None) };
            if view.step.is_some() {
                return Ok(None);
            }
            if view.provision_state.to_string() == state {
                return Ok(Some(view));
            }
            match view.failure {
                Some(failure) => bail!("{node} is {}: {}", view.provision_state, failure.reason),
                None => Ok(None),
            }
        });
        waited.with_context(|| self.kiln(&["node", "explain", node]).unwrap_or_default())
    }

    /// The process of a service, or of the supervisor; none while it is being restarted.
    pub fn service(&self, name: &str) -> Option<i32> {
        if name == "supervisor" {
            let pid = fs::read_to_string(&self.init.as_ref()?.pid_file).ok()?;
            return pid.trim().parse().ok();
        }
        let text = fs::read(self.home.join("run/status.json")).ok()?;
        let status: Value = serde_json::from_slice(&text).ok()?;
        let state = status.get("services")?.get(name)?.get("state")?;
        let pid = state.get("ready").or_else(|| state.get("starting"))?.as_i64()?;
        i32::try_from(pid).ok()
    }

    /// Ends a service as the worst moment would: SIGKILL.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&self, name: &str) -> Result<()> {
        let pid =
            until(Duration::from_secs(20), &format!("service {name} to run"), || Ok(self.service(name)))?;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
            .with_context(|| format!("cannot kill {name}, process {pid}"))
    }

    /// The appliance's log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.join("log")).unwrap_or_default()
    }

    /// The namespace that the appliance runs in.
    pub fn namespace(&self) -> &Namespace {
        self.rack.kiln()
    }
}

impl Stand {
    /// Ends the appliance, as init does when the machine is switched off; returns when it has ended.
    pub fn stop(&mut self) {
        let Some(init) = self.init.take() else { return };
        drop(init.alive);
        let pid = fs::read_to_string(&init.pid_file).ok().and_then(|pid| pid.trim().parse().ok());
        if let Some(pid) = pid {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).ok();
        }
        init.thread.join().ok();
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The text of the `kiln.toml` of an appliance that is a machine in this rack.
fn configuration(
    description: &Description,
    patience: Patience,
    token: &str,
    given: &Given,
) -> Result<String> {
    let [uplink, oob, trunk] = MACS;
    let mut text = format!(
        "[host]\nname = \"kiln\"\n\n\
         [uplink]\ndevice = \"{uplink}\"\naddress = \"{UPLINK}/24\"\nntp = {:?}\n\n\
         [ssh]\nkeys = {:?}\n\n\
         [trunk]\ndevice = \"{trunk}\"\n\n\
         [api]\ntoken = \"{token}\"\n\n\
         [appliance]\nkernel_args = \"console=ttyS0 quiet no_timer_check panic=5\"\n\n\
         [patience]\n{}",
        given.time_server.then(|| OPERATOR.to_string()).as_slice(),
        given.keys,
        toml::to_string(&patience)?
    );
    for network in &description.networks {
        let (name, subnet) = (&network.name, network.subnet);
        match network.vlan {
            Some(vlan) => text.push_str(&format!(
                "\n[[network]]\nname = \"{name}\"\nvlan = {vlan}\naddress = \"{subnet}\"\n"
            )),
            None => text.push_str(&format!("\n[oob]\ndevice = \"{oob}\"\naddress = \"{subnet}\"\n")),
        }
    }
    Ok(text)
}

/// Where the programs of this build are: beside the one that runs, or one directory above a test's.
pub(crate) fn programs() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find the own program")?;
    let places = own.ancestors().skip(1).take(2);
    for place in places {
        if PROGRAMS.iter().chain(&["agent"]).all(|name| place.join(name).is_file()) {
            return Ok(place.to_owned());
        }
    }
    bail!(
        "the appliance is not built: cargo build --workspace builds it, hw-tests/demo and hw-tests/check do so too"
    )
}

/// One of the programs of this build.
///
/// # Errors
/// They were not built.
pub fn built(program: &str) -> Result<PathBuf> {
    Ok(programs()?.join(program))
}

/// The deploy ramdisk with this build's agent.
fn deploy_ramdisk() -> Result<Ramdisk> {
    let workshop = Workshop::open()?;
    let agent = programs()?.join("agent");
    let kernel = ramdisk::kernel(&workshop)?;
    let out = workshop.target().join("artifacts/ramdisk");
    let made = ramdisk::build(&kernel, &agent, &out)?;
    ensure!(made.kernel.is_file() && made.initramfs.is_file(), "the deploy ramdisk was not made");
    Ok(made)
}
