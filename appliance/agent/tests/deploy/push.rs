//! The whole way of an image by push: the agent exports a file, the iSCSI hand (`bootd iscsi`, which has to be
//! built) writes to it, the agent finishes it. Either side is killed in the middle.

use crate::appliance::{Appliance, Said};
use agent_proto::{Export, ImageRef, Job, JobState, Order, Outcome, Task, VERSION};
use boot::{DiskHint, IscsiChap, IscsiFact, IscsiPlan, Push, PushState, Row, Secret};
use image::{EXTENT, Manifest, Sha256};
use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

const TARGET: &str = "iqn.2026-01.example:n1";
const INITIATOR: &str = "iqn.2026-01.example:kiln";
const SIZE: u64 = 200 << 20;
/// What is waited for happens within so many looks.
const LOOKS: usize = 60_000;

/// A directory with an image in a library, a disk that an earlier tenant filled, and both processes.
struct Stand {
    directory: tempfile::TempDir,
    octets: Vec<u8>,
    appliance: Appliance,
    port: u16,
    agent: Option<Child>,
    hand: Option<Child>,
}

impl Drop for Stand {
    fn drop(&mut self) {
        end(&mut self.agent);
        end(&mut self.hand);
    }
}

fn end(process: &mut Option<Child>) {
    if let Some(mut process) = process.take() {
        let _ = process.kill();
        let _ = process.wait();
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

/// Puts an image into a library as the appliance keeps it, and gives its manifest.
fn import(images: &Path, octets: &[u8]) -> Manifest {
    let mut extents = Vec::new();
    for extent in octets.chunks(EXTENT) {
        if extent.iter().all(|octet| *octet == 0) {
            extents.push(None);
            continue;
        }
        let digest = image::digest(extent);
        let name = digest.to_string();
        let place = images.join("extents").join(&name[..2]);
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join(&name), extent).unwrap();
        extents.push(Some(digest));
    }
    let manifest = Manifest::new(octets.len() as u64, Sha256::new([0; 32]), extents).unwrap();
    fs::create_dir_all(images.join("images")).unwrap();
    fs::write(images.join("images").join(format!("{}.json", manifest.id())), manifest.encode()).unwrap();
    manifest
}

fn chap() -> IscsiChap {
    IscsiChap {
        user: "kiln".into(),
        secret: Secret::new("initiators-own"),
        target_user: "n1".into(),
        target_secret: Some(Secret::new("targets-own-word")),
    }
}

impl Stand {
    fn new(extents: usize) -> Stand {
        let directory = tempfile::tempdir().unwrap();
        let octets = octets(extents);
        let manifest = import(&directory.path().join("images"), &octets);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        fs::write(directory.path().join("disk"), vec![0x55; SIZE as usize]).unwrap();
        let plan = IscsiPlan {
            images: Some(directory.path().join("images").to_str().unwrap().to_owned()),
            pushes: vec![Push {
                attempt: "n1-4-2".parse().unwrap(),
                portal: ([127, 0, 0, 1], port).into(),
                device: None,
                target: TARGET.parse().unwrap(),
                initiator: INITIATOR.parse().unwrap(),
                chap: chap(),
                lun: 0,
                image: manifest.id(),
            }],
            ..IscsiPlan::default()
        };
        fs::write(directory.path().join("plan"), serde_json::to_vec(&plan).unwrap()).unwrap();
        let appliance = Appliance::new(&octets);
        Stand { directory, octets, appliance, port, agent: None, hand: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn start_agent(&mut self) {
        end(&mut self.agent);
        let url = self.appliance.url();
        let mut command = Command::new(env!("CARGO_BIN_EXE_agent"));
        command.args(["--url", &url, "--attempt", "n1-4-2", "--token", "s3cret", "--disk"]);
        self.agent = Some(command.arg(self.path("disk")).stderr(Stdio::null()).spawn().unwrap());
    }

    fn start_hand(&mut self) {
        end(&mut self.hand);
        let bootd = Path::new(env!("CARGO_BIN_EXE_agent")).with_file_name("bootd");
        let mut command = Command::new(&bootd);
        command.arg("iscsi").arg("--plan").arg(self.path("plan")).arg("--run-dir").arg(self.path("run"));
        command.stdout(File::create(self.path("facts")).unwrap());
        command.stderr(File::options().append(true).create(true).open(self.path("log")).unwrap());
        let started = command.stdin(Stdio::null()).spawn();
        self.hand =
            Some(started.unwrap_or_else(|e| panic!("{}: {e}; cargo build -p bootd", bootd.display())));
    }

    fn export(&self) {
        let export = Export {
            target: TARGET.parse().unwrap(),
            initiator: INITIATOR.parse().unwrap(),
            chap: chap(),
            lun: 0,
            port: self.port,
        };
        let size = self.octets.len() as u64;
        let task = Task::ExportDisk { size, disk: DiskHint::default(), config_drive: None, export };
        self.order("export", task);
    }

    fn order(&self, id: &str, task: Task) {
        self.appliance.order(&Order { version: VERSION, job: Some(Job { id: id.into(), task }) });
    }

    /// Waits until the job stands so.
    fn state<T>(&self, id: &str, wanted: impl Fn(&JobState) -> Option<T>) -> T {
        let found = |said: &Said| match said {
            Said::Status(status) => {
                status.job.as_ref().filter(|job| job.id == id).and_then(|job| wanted(&job.state))
            }
            _ => None,
        };
        let said = self.appliance.wait(|said| found(said).is_some());
        found(&said).unwrap()
    }

    fn is_exported(&self) {
        self.state("export", |state| matches!(state, JobState::Exported(_)).then_some(()));
    }

    /// Waits until the hand says so since its last start.
    fn told<T>(&self, wanted: impl Fn(&PushState) -> Option<T>) -> T {
        for _ in 0..LOOKS {
            let text = fs::read_to_string(self.path("facts")).unwrap();
            let facts = text.lines().filter_map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).ok()?;
                serde_json::from_value::<Row<IscsiFact>>(line["say"]["fact"].clone()).ok()
            });
            let states = facts.filter_map(|row| match row.fact {
                IscsiFact::Push { state, .. } => wanted(&state),
                _ => None,
            });
            if let Some(found) = states.last() {
                return found;
            }
            thread::park_timeout(Duration::from_millis(1));
        }
        let read = |name| fs::read_to_string(self.path(name)).unwrap();
        panic!("not told; facts:\n{}\nlog:\n{}", read("facts"), read("log"));
    }

    /// Waits until so many octets are written, or all.
    fn written(&self, octets: u64) {
        self.told(|state| match state {
            PushState::Writing { done, .. } => (*done >= octets).then_some(()),
            PushState::ReadingBack { .. } | PushState::Done { .. } => Some(()),
            _ => None,
        });
    }

    /// Octets that were sent when it is done.
    fn pushed(&self) -> u64 {
        self.told(|state| match state {
            PushState::Done { sent, .. } => Some(*sent),
            PushState::Failed { why } => panic!("{why}"),
            _ => None,
        })
    }

    fn finish(&self) {
        self.order("finish", Task::FinishDisk { size: self.octets.len() as u64, config_drive: None });
        let outcome = self.state("finish", |state| match state {
            JobState::Done(outcome) => Some(outcome.clone()),
            JobState::Failed(failure) => panic!("{failure:?}"),
            _ => None,
        });
        assert_eq!(outcome, Outcome::Finished { disk: "disk".into() });
    }

    fn data(&self) -> u64 {
        let is_data = |extent: &&[u8]| extent.iter().any(|octet| *octet != 0);
        self.octets.chunks(EXTENT).filter(is_data).map(|extent| extent.len() as u64).sum()
    }

    fn disk(&self) -> Vec<u8> {
        fs::read(self.path("disk")).unwrap()
    }
}

#[test]
fn a_pushed_disk_is_byte_for_byte_what_the_agent_writes_itself() {
    let mut pushed = Stand::new(20);
    pushed.export();
    pushed.start_agent();
    pushed.is_exported();
    pushed.start_hand();
    assert_eq!(pushed.pushed(), pushed.data());
    pushed.finish();
    let mut direct = Stand::new(20);
    direct.start_agent();
    let image = ImageRef { digest: direct.appliance.image_id(), size: direct.appliance.image_size() };
    direct.order("write", Task::WriteImage { image, disk: DiskHint::default(), config_drive: None });
    direct.state("write", |state| matches!(state, JobState::Done(_)).then_some(()));
    assert!(pushed.disk() == direct.disk());
}

#[test]
fn whichever_side_is_killed_in_the_middle_the_push_goes_on_from_where_it_was() {
    for kill in [Stand::start_agent, Stand::start_hand] {
        let mut stand = Stand::new(160);
        stand.export();
        stand.start_agent();
        stand.is_exported();
        stand.start_hand();
        stand.written(80 << 20);
        kill(&mut stand);
        let (sent, data) = (stand.pushed(), stand.data());
        // What was sent since the last flush is sent again: up to 64 MiB, and what was under way.
        assert!((data..data + (80 << 20)).contains(&sent), "{sent} of {data}");
        stand.finish();
        let there = stand.disk();
        assert!(there[..stand.octets.len()] == stand.octets, "the disk does not hold the image");
    }
}
