//! The iSCSI hand as a process that writes an image to targets: tgt's, and our own. Either side is killed in
//! the middle.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use boot::{
    Backing, IscsiChap, IscsiFact, IscsiLun, IscsiPlan, IscsiTarget, Push, PushState, Row, Secret,
    VolumePlan, VolumeSource, VolumeState, VolumeWish,
};
use bootd::library::Library;
use image::{EXTENT, Terms};
use serde_json::Value;
use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

const BOOTD: &str = env!("CARGO_BIN_EXE_bootd");
const TARGET: &str = "iqn.2026-01.example:n1";
const INITIATOR: &str = "iqn.2026-01.example:kiln";
const SECRET: &str = "initiators-own";
const TARGET_SECRET: &str = "targets-own-word";
/// What is waited for happens within so many looks.
const LOOKS: usize = 60_000;

/// A process that ends with this.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Process {
        let name = command.get_program().to_string_lossy().into_owned();
        Process(
            command
                .stdin(Stdio::null())
                .spawn()
                .unwrap_or_else(|e| panic!("{name}: {e}; run hw-tests/setup")),
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A hand that serves a plan in a file, and what it tells.
struct Hand {
    directory: PathBuf,
    process: Option<Process>,
}

impl Hand {
    fn new(directory: &Path, name: &str, plan: &IscsiPlan) -> Hand {
        let directory = directory.join(name);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("plan"), serde_json::to_vec(plan).unwrap()).unwrap();
        let mut hand = Hand { directory, process: None };
        hand.start();
        hand
    }

    /// Starts it, anew if it runs: the other is killed without a word.
    fn start(&mut self) {
        self.process = None;
        let facts = File::create(self.directory.join("facts")).unwrap();
        let log = File::options().append(true).create(true).open(self.directory.join("log")).unwrap();
        let mut command = Command::new(BOOTD);
        command.arg("iscsi").arg("--plan").arg(self.directory.join("plan"));
        command.arg("--run-dir").arg(self.directory.join("run")).stdout(facts).stderr(log);
        self.process = Some(Process::start(&mut command));
    }

    /// Waits for a fact since the last start.
    fn wait<T>(&self, what: &str, wanted: impl Fn(&IscsiFact) -> Option<T>) -> T {
        for _ in 0..LOOKS {
            let text = fs::read_to_string(self.directory.join("facts")).unwrap();
            let facts = text.lines().filter_map(|line| {
                let line: Value = serde_json::from_str(line).ok()?;
                serde_json::from_value::<Row<IscsiFact>>(line["say"]["fact"].clone()).ok()
            });
            if let Some(found) = facts.filter_map(|row| wanted(&row.fact)).last() {
                return found;
            }
            thread::park_timeout(Duration::from_millis(1));
        }
        let read = |name| fs::read_to_string(self.directory.join(name)).unwrap();
        panic!("not told: {what}; facts:\n{}\nlog:\n{}", read("facts"), read("log"));
    }

    /// Waits until so many octets are written, or all.
    fn written(&self, octets: u64) {
        self.wait("it writes", |fact| match fact {
            IscsiFact::Push { state: PushState::Writing { done, .. }, .. } if *done >= octets => Some(()),
            IscsiFact::Push { state: PushState::ReadingBack { .. } | PushState::Done { .. }, .. } => Some(()),
            _ => None,
        });
    }

    /// Octets that were sent when it is done.
    fn done(&self) -> u64 {
        self.wait("the push is done", |fact| match fact {
            IscsiFact::Push { state: PushState::Done { sent, .. }, .. } => Some(*sent),
            IscsiFact::Push { state: PushState::Failed { why }, .. } => panic!("{why}"),
            _ => None,
        })
    }
}

fn chap() -> IscsiChap {
    IscsiChap {
        user: "kiln".into(),
        secret: Secret::new(SECRET),
        target_user: "n1".into(),
        target_secret: Some(Secret::new(TARGET_SECRET)),
    }
}

/// Noise with holes, and an end that is no whole extent.
fn octets(extents: usize) -> Vec<u8> {
    let mut number = 7u64;
    let mut octets = vec![0; extents * EXTENT + 1536];
    for (at, word) in octets.chunks_exact_mut(8).enumerate() {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if (at * 8 / EXTENT) % 8 != 3 {
            word.copy_from_slice(&number.to_le_bytes());
        }
    }
    octets
}

/// A library with one image, and a plan to push it.
fn plan(directory: &Path, octets: &[u8], portal: SocketAddr, lun: u16) -> IscsiPlan {
    let images = directory.join("images");
    let imported = Library::new(&images).import(octets, &Terms::default(), &mut |_| {}).unwrap();
    let push = Push {
        attempt: "n1-4-2".parse().unwrap(),
        portal,
        device: None,
        target: TARGET.parse().unwrap(),
        initiator: INITIATOR.parse().unwrap(),
        chap: chap(),
        lun,
        image: imported.id,
    };
    let images = Some(images.to_str().unwrap().to_owned());
    IscsiPlan { images, pushes: vec![push], ..IscsiPlan::default() }
}

fn data(octets: &[u8]) -> u64 {
    octets
        .chunks(EXTENT)
        .filter(|extent| extent.iter().any(|octet| *octet != 0))
        .map(|e| e.len() as u64)
        .sum()
}

/// A port that nobody has for now.
fn port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Debian's tgt, with one disk on a file.
struct Tgt {
    number: String,
    _process: Process,
}

impl Tgt {
    fn start(directory: &Path, portal: SocketAddr, size: u64) -> (Tgt, PathBuf) {
        // Its control socket is named by a number of at most 32767.
        let number = (std::process::id() % 32_000 + 1).to_string();
        let disk = directory.join("disk");
        fs::write(&disk, vec![0x55; size as usize]).unwrap();
        let log = File::create(directory.join("tgtd.log")).unwrap();
        let portals = format!("portal={portal}");
        let mut command = Command::new("tgtd");
        command.args(["-f", "-C", &number, "-t", "2", "--iscsi", &portals]).stdout(Stdio::null()).stderr(log);
        let tgt = Tgt { number, _process: Process::start(&mut command) };
        for look in 0.. {
            assert!(
                look < LOOKS,
                "tgtd does not answer: {}",
                fs::read_to_string(directory.join("tgtd.log")).unwrap()
            );
            if tgt.is_told("--op show --mode sys") {
                break;
            }
            thread::park_timeout(Duration::from_millis(20));
        }
        let disk_name = disk.to_str().unwrap();
        for words in [
            format!("--op new --mode target --tid 1 -T {TARGET}"),
            format!("--op new --mode logicalunit --tid 1 --lun 1 -b {disk_name}"),
            format!("--op new --mode account --user kiln --password {SECRET}"),
            "--op bind --mode account --tid 1 --user kiln".to_owned(),
            format!("--op new --mode account --user n1 --password {TARGET_SECRET}"),
            "--op bind --mode account --tid 1 --user n1 --outgoing".to_owned(),
            "--op bind --mode target --tid 1 -I ALL".to_owned(),
        ] {
            assert!(tgt.is_told(&words), "tgtadm {words}");
        }
        (tgt, disk)
    }

    fn is_told(&self, words: &str) -> bool {
        let mut command = Command::new("tgtadm");
        command.args(["-C", &self.number, "--lld", "iscsi"]).args(words.split(' '));
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }
}

impl Drop for Tgt {
    fn drop(&mut self) {
        // What a killed tgtd leaves behind.
        let _ = fs::remove_file(format!("/var/run/tgtd/socket.{}", self.number));
        let _ = fs::remove_file(format!("/var/run/tgtd/socket.{}.lock", self.number));
    }
}

#[test]
fn tgt_gets_the_image_though_the_hand_is_killed_in_the_middle() {
    let directory = tempfile::tempdir().unwrap();
    let octets = octets(160);
    let portal = port();
    let (_tgt, disk) = Tgt::start(directory.path(), portal, 200 << 20);
    let mut hand = Hand::new(directory.path(), "hand", &plan(directory.path(), &octets, portal, 1));
    hand.written(80 << 20);
    hand.start();
    let sent = hand.done();
    // What was sent since the last flush is sent again: up to 64 MiB, and what was under way.
    assert!((data(&octets)..data(&octets) + (80 << 20)).contains(&sent), "{sent} of {}", data(&octets));
    let there = fs::read(disk).unwrap();
    assert!(there[..octets.len()] == octets, "the disk does not hold the image");
    assert!(there[octets.len()..].iter().all(|octet| *octet == 0x55), "what is behind the image");
}

#[test]
fn our_own_target_gets_the_image_though_it_is_killed_in_the_middle() {
    let directory = tempfile::tempdir().unwrap();
    let octets = octets(160);
    let portal = port();
    let id: boot::VolumeId = "v1".parse().unwrap();
    let wish = VolumeWish::Kept { source: Some(VolumeSource::Blank), size: 200 << 20, flat: false };
    let volumes = directory.path().join("volumes");
    fs::create_dir(&volumes).unwrap();
    let serving = IscsiPlan {
        listen: vec![(portal, None)],
        directory: Some(volumes.to_str().unwrap().to_owned()),
        volumes: vec![VolumePlan { id: id.clone(), wish }],
        targets: vec![IscsiTarget {
            name: TARGET.parse().unwrap(),
            initiator: INITIATOR.parse().unwrap(),
            portals: vec![portal],
            from: Vec::new(),
            chap: chap(),
            luns: vec![IscsiLun { lun: 0, backing: Backing::Volume(id), read_only: false }],
        }],
        ..IscsiPlan::default()
    };
    let mut target = Hand::new(directory.path(), "target", &serving);
    let exported = |fact: &IscsiFact| match fact {
        IscsiFact::Volume { state: VolumeState::Ready { .. }, exported: Some(_), .. } => Some(()),
        _ => None,
    };
    target.wait("the volume is exported", exported);
    let hand = Hand::new(directory.path(), "hand", &plan(directory.path(), &octets, portal, 0));
    hand.written(80 << 20);
    target.start();
    let sent = hand.done();
    assert!((data(&octets)..data(&octets) + (80 << 20)).contains(&sent), "{sent} of {}", data(&octets));
    // Somebody else's initiator reads the same.
    drop(hand);
    let back = directory.path().join("back");
    let disk = format!(
        "driver=raw,file.driver=iscsi,file.transport=tcp,file.portal={portal},file.target={TARGET},file.lun=0,\
         file.user=kiln,file.password-secret=secret,file.initiator-name={INITIATOR}"
    );
    let secret = format!("secret,id=secret,data={SECRET}");
    let mut command = Command::new("qemu-img");
    command.args(["convert", "--object", &secret, "--image-opts", "-O", "raw", &disk]).arg(&back);
    assert!(command.status().expect("run hw-tests/setup").success());
    let there = fs::read(back).unwrap();
    assert!(there[..octets.len()] == octets, "the disk does not hold the image");
    assert!(there[octets.len()..].iter().all(|octet| *octet == 0), "what is behind the image");
}
