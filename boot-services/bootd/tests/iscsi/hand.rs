//! A hand of its own: a process, a directory, a plan, and what it tells.

use boot::{
    Backing, Iqn, IscsiChap, IscsiFact, IscsiLun, IscsiPlan, IscsiSession, IscsiTarget, Row, Secret, Up,
    VolumeId, VolumePlan, VolumeSource, VolumeState, VolumeWish,
};
use nix::{
    fcntl::{PosixFadviseAdvice, posix_fadvise},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

const BOOTD: &str = env!("CARGO_BIN_EXE_bootd");
/// For anything that is awaited on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const MIB: u64 = 1 << 20;

/// Each initiator's secret; the target's is another.
pub(crate) const SECRET: &str = "twelve-or-more";
pub(crate) const MUTUAL: &str = "and-the-other-way";

type Facts = Arc<(Mutex<BTreeMap<String, IscsiFact>>, Condvar)>;

#[derive(serde::Deserialize)]
struct Line {
    say: Up<IscsiFact>,
}

pub(crate) struct Hand {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) portal: SocketAddr,
    pub(crate) plan: IscsiPlan,
    facts: Facts,
    child: Option<Child>,
}

pub(crate) fn id(name: &str) -> VolumeId {
    name.parse().unwrap()
}

pub(crate) fn iqn(name: &str) -> Iqn {
    format!("iqn.2026-01.test:{name}").parse().unwrap()
}

pub(crate) fn kept(name: &str, size: u64) -> VolumePlan {
    let wish = VolumeWish::Kept { source: Some(VolumeSource::Blank), size, flat: false };
    VolumePlan { id: id(name), wish }
}

pub(crate) fn lun(number: u16, volume: &str) -> IscsiLun {
    IscsiLun { lun: number, backing: Backing::Volume(id(volume)), read_only: false }
}

pub(crate) fn chap() -> IscsiChap {
    IscsiChap {
        user: "node".to_owned(),
        secret: Secret::new(SECRET),
        target_user: "kiln".to_owned(),
        target_secret: Some(Secret::new(MUTUAL)),
    }
}

impl Hand {
    /// A directory and a free port; nothing runs yet.
    pub(crate) fn new() -> Hand {
        let directory = tempfile::tempdir().unwrap();
        let free = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let portal = free.local_addr().unwrap();
        let plan = IscsiPlan {
            listen: vec![(portal, None)],
            directory: Some(directory.path().join("volumes").to_str().unwrap().to_owned()),
            images: Some(directory.path().join("images").to_str().unwrap().to_owned()),
            ..IscsiPlan::default()
        };
        Hand { directory, portal, plan, facts: Facts::default(), child: None }
    }

    /// A volume behind LUN 0 of a target of its own, for the initiator of the same name; it runs.
    pub(crate) fn with(name: &str, size: u64) -> Hand {
        let mut hand = Hand::new();
        hand.add(name, size);
        hand.start();
        hand.wait("the volume is exported", |facts| is_exported(facts, name));
        hand
    }

    /// Puts a volume, and a target for it, into the plan.
    pub(crate) fn add(&mut self, name: &str, size: u64) {
        self.plan.volumes.push(kept(name, size));
        self.plan.targets.push(IscsiTarget {
            name: iqn(name),
            initiator: iqn(&format!("from-{name}")),
            portals: vec![self.portal],
            from: Vec::new(),
            chap: chap(),
            luns: vec![lun(0, name)],
        });
    }

    fn write_plan(&self) -> std::path::PathBuf {
        let path = self.directory.path().join("plan.json");
        let fresh = path.with_extension("new");
        fs::write(&fresh, serde_json::to_vec(&self.plan).unwrap()).unwrap();
        fs::rename(&fresh, &path).unwrap();
        path
    }

    pub(crate) fn start(&mut self) {
        let path = self.write_plan();
        let mut command = Command::new(BOOTD);
        command.arg("iscsi").arg("--plan").arg(path).env("RUST_LOG", "info").stdout(Stdio::piped());
        command.stderr(fs::File::options().create(true).append(true).open(self.log()).unwrap());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        self.facts = Facts::default();
        let facts = Arc::clone(&self.facts);
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                let Ok(Line { say: Up::Fact(Row { key, fact, .. }) }) = serde_json::from_str(&line) else {
                    continue;
                };
                facts.0.lock().unwrap().insert(key, fact);
                facts.1.notify_all();
            }
        });
        self.child = Some(child);
    }

    fn log(&self) -> std::path::PathBuf {
        self.directory.path().join("log")
    }

    /// What it said on standard error.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().try_into().unwrap()), signal).unwrap();
    }

    /// It takes the plan as it is now.
    pub(crate) fn apply(&self) {
        self.write_plan();
        self.signal(Signal::SIGHUP);
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ended(&mut self) -> std::process::ExitStatus {
        self.child.take().unwrap().wait().unwrap()
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Waits until the facts say it.
    pub(crate) fn wait(&self, what: &str, is: impl Fn(&BTreeMap<String, IscsiFact>) -> bool) {
        let facts = self.facts.0.lock().unwrap();
        let (facts, late) = self.facts.1.wait_timeout_while(facts, PATIENCE, |facts| !is(facts)).unwrap();
        assert!(!late.timed_out(), "waited in vain until {what}: {facts:#?}\n{}", self.said());
    }

    pub(crate) fn fact(&self, key: &str) -> Option<IscsiFact> {
        self.facts.0.lock().unwrap().get(key).cloned()
    }

    /// How libiscsi's tools name a logical unit.
    pub(crate) fn url(&self, name: &str, secret: &str) -> String {
        format!("iscsi://node%{secret}@{}/{}/0", self.portal, iqn(name))
    }

    /// One of libiscsi's tools, as the initiator of that name.
    pub(crate) fn tool(&self, tool: &str, name: &str, secret: &str) -> Output {
        let mut command = Command::new("timeout");
        command.args(["60", tool, "-i", iqn(&format!("from-{name}")).as_str(), &self.url(name, secret)]);
        command.output().unwrap_or_else(|error| panic!("{tool} is missing (libiscsi-bin): {error}"))
    }

    /// How QEMU names a logical unit.
    pub(crate) fn drive(&self, name: &str) -> String {
        format!(
            "driver=raw,file.driver=iscsi,file.transport=tcp,file.portal={},file.target={},file.lun=0,\
             file.user=node,file.password={SECRET},file.initiator-name={}",
            self.portal,
            iqn(name),
            iqn(&format!("from-{name}"))
        )
    }

    /// QEMU's own commands on a logical unit.
    pub(crate) fn io(&self, name: &str, commands: &[&str]) -> Output {
        let mut command = Command::new("timeout");
        command.args(["60", "qemu-io", "--image-opts", &self.drive(name)]);
        for line in commands {
            command.args(["-c", line]);
        }
        command.output().unwrap_or_else(|error| panic!("qemu-io is missing (qemu-utils): {error}"))
    }

    /// Octets of the process that are in memory.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    pub(crate) fn write(&self, name: &str, file: &Path) -> Output {
        qemu_img(&[
            "convert",
            "-n",
            "-W",
            "-f",
            "raw",
            "--target-image-opts",
            file.to_str().unwrap(),
            &self.drive(name),
        ])
    }

    pub(crate) fn read(&self, name: &str, file: &Path) -> Output {
        qemu_img(&["convert", "-O", "raw", "--image-opts", &self.drive(name), file.to_str().unwrap()])
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}", self.said());
        }
    }
}

pub(crate) fn qemu_img(arguments: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["120", "qemu-img"]).args(arguments);
    command
        .output()
        .unwrap_or_else(|error| panic!("qemu-img is missing (qemu-utils, qemu-block-extra): {error}"))
}

pub(crate) fn good(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    text
}

pub(crate) fn is_exported(facts: &BTreeMap<String, IscsiFact>, name: &str) -> bool {
    let volume = matches!(
        facts.get(&format!("volume/{name}")),
        Some(IscsiFact::Volume { state: VolumeState::Ready { .. }, exported: Some(_), .. })
    );
    let listens = facts.values().any(|fact| matches!(fact, IscsiFact::Listen { trouble: None, .. }));
    volume && listens && facts.contains_key(&format!("target/{}", iqn(name)))
}

pub(crate) fn sessions(facts: &BTreeMap<String, IscsiFact>, name: &str) -> Vec<IscsiSession> {
    match facts.get(&format!("target/{}", iqn(name))) {
        Some(IscsiFact::Target { sessions, .. }) => sessions.clone(),
        _ => Vec::new(),
    }
}

/// Octets that look like nothing else; the same for the same seed.
pub(crate) fn noise(seed: u64, length: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut octets = Vec::with_capacity(length as usize);
    while (octets.len() as u64) < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        octets.extend_from_slice(&state.to_le_bytes());
    }
    octets
}

impl Hand {
    /// Puts a target into the plan, over a volume that is in it.
    pub(crate) fn add_target(&mut self, name: &str, volume: &str) {
        self.plan.targets.push(IscsiTarget {
            name: iqn(name),
            initiator: iqn(&format!("from-{name}")),
            portals: vec![self.portal],
            from: Vec::new(),
            chap: chap(),
            luns: vec![lun(0, volume)],
        });
    }
}

/// Somebody who writes for as long as he can.
pub(crate) struct Load(Child);

impl Load {
    pub(crate) fn start(hand: &Hand, name: &str) -> Load {
        Load::start_at(hand, name, 0)
    }

    /// From that octet on.
    pub(crate) fn start_at(hand: &Hand, name: &str, offset: u64) -> Load {
        let offset = offset.to_string();
        let mut command = Command::new("qemu-img");
        command.args(["bench", "-w", "-c", "1000000000", "-d", "8", "-s", "65536", "-o", &offset]);
        command.args(["--image-opts", &hand.drive(name)]).stdout(Stdio::null()).stderr(Stdio::null());
        Load(command.spawn().unwrap_or_else(|error| panic!("qemu-img is missing (qemu-utils): {error}")))
    }

    /// One that reads, at a depth.
    pub(crate) fn reading(hand: &Hand, name: &str) -> Load {
        let initiator = iqn(&format!("from-{name}"));
        let mut command = Command::new("iscsi-perf");
        command.args(["-i", initiator.as_str(), "-m", "8", "-b", "512", "-t", "600", "-r"]);
        command.arg(hand.url(name, SECRET)).stdout(Stdio::null()).stderr(Stdio::null());
        Load(command.spawn().unwrap_or_else(|error| panic!("iscsi-perf is missing (libiscsi-bin): {error}")))
    }

    pub(crate) fn goes_on(mut self) {
        assert!(self.0.try_wait().unwrap().is_none(), "it was cut");
    }

    pub(crate) fn end(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// When something in a directory was written last.
pub(crate) fn newest(directory: &Path) -> Option<std::time::SystemTime> {
    let entries = fs::read_dir(directory).ok()?;
    let times = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        if entry.file_type().ok()?.is_dir() {
            newest(&entry.path())
        } else {
            entry.metadata().ok()?.modified().ok()
        }
    });
    times.max()
}

/// Has the kernel forget what it holds in memory of the files in a directory.
pub(crate) fn forget(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            forget(&entry.path());
        } else {
            let file = fs::File::open(entry.path()).unwrap();
            file.sync_all().unwrap();
            posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).unwrap();
        }
    }
}
