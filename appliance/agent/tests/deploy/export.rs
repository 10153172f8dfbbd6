//! The agent as a process that exports a file by iSCSI, and other people's initiators.

use crate::appliance::{Appliance, Said};
use agent_proto::{ConfigDrive, Export, Exported, ImageRef, Job, JobState, Order, Outcome, Task, VERSION};
use boot::{DiskHint, IscsiChap, Secret};
use image::EXTENT;
use std::{
    fs,
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

const TARGET: &str = "iqn.2026-01.example:n1";
const INITIATOR: &str = "iqn.2026-01.example:kiln";
const SECRET: &str = "initiators-own";
const TARGET_SECRET: &str = "targets-own-word";
const SIZE: u64 = 24 << 20;

/// A file that stands for a disk, and an agent that works on it; both go when this does.
struct Node {
    directory: tempfile::TempDir,
    agent: Option<Child>,
}

impl Node {
    /// A disk that an earlier tenant filled.
    fn new() -> Node {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("disk"), vec![0x55; SIZE as usize]).unwrap();
        Node { directory, agent: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn start(&mut self, appliance: &Appliance) {
        self.kill();
        let url = appliance.url();
        let mut command = Command::new(env!("CARGO_BIN_EXE_agent"));
        command.args(["--url", &url, "--attempt", "n1-4-2", "--token", "s3cret", "--disk"]);
        self.agent = Some(command.arg(self.path("disk")).stderr(Stdio::null()).spawn().unwrap());
    }

    fn kill(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().unwrap();
            agent.wait().unwrap();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Data, two holes, and an end that is no whole extent.
fn image() -> Vec<u8> {
    let mut number = 1u32;
    let mut octets = vec![0; 9 * EXTENT + 1536];
    for (at, octet) in octets.iter_mut().enumerate() {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if !(2 * EXTENT..4 * EXTENT).contains(&at) && at / EXTENT != 7 {
            *octet = (number >> 24) as u8;
        }
    }
    octets
}

fn order(id: &str, task: Task) -> Order {
    Order { version: VERSION, job: Some(Job { id: id.into(), task }) }
}

fn export(size: u64) -> Order {
    let chap = IscsiChap {
        user: "kiln".into(),
        secret: Secret::new(SECRET),
        target_user: "n1".into(),
        target_secret: Some(Secret::new(TARGET_SECRET)),
    };
    let export = Export {
        target: TARGET.parse().unwrap(),
        initiator: INITIATOR.parse().unwrap(),
        chap,
        lun: 0,
        port: 0,
    };
    order("export", Task::ExportDisk { size, disk: DiskHint::default(), config_drive: None, export })
}

fn finish(size: u64) -> Order {
    order("finish", Task::FinishDisk { size, config_drive: None })
}

/// Waits until the job stands so.
fn state<T>(appliance: &Appliance, id: &str, wanted: impl Fn(&JobState) -> Option<T>) -> T {
    let found = |said: &Said| match said {
        Said::Status(status) => {
            status.job.as_ref().filter(|job| job.id == id).and_then(|job| wanted(&job.state))
        }
        _ => None,
    };
    let said = appliance.wait(|said| found(said).is_some());
    found(&said).unwrap()
}

fn exported(appliance: &Appliance, sessions: u32) -> Exported {
    state(appliance, "export", |state| match state {
        JobState::Exported(exported) if exported.sessions == sessions => Some(exported.clone()),
        _ => None,
    })
}

fn finished(appliance: &Appliance) {
    let outcome = state(appliance, "finish", |state| match state {
        JobState::Done(outcome) => Some(outcome.clone()),
        JobState::Failed(failure) => panic!("{failure:?}"),
        _ => None,
    });
    assert_eq!(outcome, Outcome::Finished { disk: "disk".into() });
}

fn url(port: u16, secret: &str) -> String {
    format!(
        "iscsi://kiln%{secret}@127.0.0.1:{port}/{TARGET}/0?target_user=n1&target_password={TARGET_SECRET}"
    )
}

fn run(command: &mut Command) -> Output {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{name}: {e}; run hw-tests/setup"))
}

fn inquire(initiator: &str, url: &str) -> Output {
    run(Command::new("iscsi-inq").args(["-i", initiator, url]))
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What `qemu-img` is to know of the exported disk.
fn options(port: u16) -> String {
    format!(
        "driver=raw,file.driver=iscsi,file.transport=tcp,file.portal=127.0.0.1:{port},file.target={TARGET},\
         file.lun=0,file.user=kiln,file.password-secret=secret,file.initiator-name={INITIATOR}"
    )
}

fn qemu_img(arguments: &[&str]) {
    let mut command = Command::new("qemu-img");
    command.arg(arguments[0]).args(["--object", &format!("secret,id=secret,data={SECRET}")]);
    let output = run(command.args(&arguments[1..]));
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
}

fn written_and_read_back(node: &Node, port: u16, image: &[u8]) {
    let raw = node.path("image.raw");
    fs::write(&raw, image).unwrap();
    let raw = raw.to_str().unwrap();
    let disk = options(port);
    qemu_img(&["convert", "-n", "--target-image-opts", "-f", "raw", raw, &disk]);
    let back = node.path("back.raw");
    let back = back.to_str().unwrap();
    qemu_img(&["convert", "--image-opts", "-O", "raw", &disk, back]);
    let there = fs::read(back).unwrap();
    assert_eq!(there.len() as u64, SIZE);
    assert!(there[..image.len()] == *image, "what is read back is not what was written");
}

/// What the agent itself makes of a disk like this one.
fn written_by_the_agent_itself(image: &[u8]) -> Vec<u8> {
    let appliance = Appliance::new(image);
    let mut node = Node::new();
    node.start(&appliance);
    let image = ImageRef { digest: appliance.image_id(), size: appliance.image_size() };
    let task = Task::WriteImage { image, disk: DiskHint::default(), config_drive: None };
    appliance.order(&order("write", task));
    state(&appliance, "write", |state| matches!(state, JobState::Done(_)).then_some(()));
    fs::read(node.path("disk")).unwrap()
}

#[test]
fn an_image_pushed_by_qemu_img_and_finished_is_what_the_agent_writes_itself() {
    let image = image();
    let size = image.len() as u64;
    let appliance = Appliance::new(&image);
    let mut node = Node::new();
    appliance.order(&export(size));
    node.start(&appliance);
    let exported = exported(&appliance, 0);
    assert_eq!((exported.disk.as_str(), exported.size), ("disk", SIZE));
    written_and_read_back(&node, exported.port, &image);
    appliance.order(&finish(size));
    finished(&appliance);
    assert!(TcpStream::connect(("127.0.0.1", exported.port)).is_err(), "nothing listens after the job");
    assert!(fs::read(node.path("disk")).unwrap() == written_by_the_agent_itself(&image));
}

#[test]
fn the_one_initiator_gets_in_with_its_secret_and_nobody_else() {
    let appliance = Appliance::new(&image());
    let mut node = Node::new();
    appliance.order(&export(EXTENT as u64));
    node.start(&appliance);
    let port = exported(&appliance, 0).port;
    let let_in = inquire(INITIATOR, &url(port, SECRET));
    assert!(let_in.status.success() && text(&let_in).contains("KILN"), "{}", text(&let_in));
    let anonymous = format!("iscsi://127.0.0.1:{port}/{TARGET}/0");
    let other = "iqn.2026-01.example:other";
    for (initiator, url) in
        [(INITIATOR, url(port, "not-the-secret")), (other, url(port, SECRET)), (INITIATOR, anonymous)]
    {
        let refused = inquire(initiator, &url);
        assert!(!refused.status.success(), "{initiator} {url}: {}", text(&refused));
    }
    let log = appliance.log();
    assert!(!log.contains(SECRET) && !log.contains(TARGET_SECRET), "{log}");
}

#[test]
fn an_initiator_that_is_logged_in_is_counted_and_cut_off_when_another_job_comes() {
    let appliance = Appliance::new(&image());
    let mut node = Node::new();
    appliance.order(&export(EXTENT as u64));
    node.start(&appliance);
    let port = exported(&appliance, 0).port;
    let mut client = Command::new("iscsi-perf");
    client.args(["-i", INITIATOR, "-t", "60", &url(port, SECRET)]).stdin(Stdio::null()).stdout(Stdio::null());
    let mut client = Client(client.stderr(Stdio::null()).spawn().expect("run hw-tests/setup"));
    exported(&appliance, 1);
    appliance.order(&order("erase", Task::EraseMetadata { disk: DiskHint::default() }));
    state(&appliance, "erase", |state| matches!(state, JobState::Done(_)).then_some(()));
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    client.0.kill().unwrap();
}

struct Client(Child);

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_agent_that_is_killed_exports_again_when_it_is_started_again() {
    let appliance = Appliance::new(&image());
    let mut node = Node::new();
    appliance.order(&export(EXTENT as u64));
    node.start(&appliance);
    exported(&appliance, 0);
    node.start(&appliance);
    let port = exported(&appliance, 0).port;
    assert!(inquire(INITIATOR, &url(port, SECRET)).status.success());
}

#[test]
fn a_disk_that_was_not_exported_is_not_finished() {
    let appliance = Appliance::new(&image());
    let mut node = Node::new();
    appliance.order(&finish(EXTENT as u64));
    node.start(&appliance);
    let failure = state(&appliance, "finish", |state| match state {
        JobState::Failed(failure) => Some(failure.text.clone()),
        _ => None,
    });
    assert!(failure.contains("nothing was exported"), "{failure}");
}

#[test]
fn a_disk_without_room_for_the_config_drive_is_not_exported() {
    let appliance = Appliance::new(&image());
    let mut node = Node::new();
    let Order { version, job: Some(Job { id, task: Task::ExportDisk { size: _, disk, export, .. } }) } =
        export(0)
    else {
        unreachable!()
    };
    let config_drive = Some(ConfigDrive { digest: appliance.image_id(), size: 70_000 });
    let task = Task::ExportDisk { size: SIZE - EXTENT as u64, disk, config_drive, export };
    appliance.order(&Order { version, job: Some(Job { id, task }) });
    node.start(&appliance);
    let failure = state(&appliance, "export", |state| match state {
        JobState::Failed(failure) => Some(failure.text.clone()),
        _ => None,
    });
    assert!(failure.contains("octets and the image with its config drive"), "{failure}");
}
