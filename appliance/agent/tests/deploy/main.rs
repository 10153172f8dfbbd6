//! The agent as a process, working on a file, against an appliance in this process.

#![allow(clippy::unwrap_used, reason = "all of it is test")]

mod appliance;
mod export;
mod push;

use agent_proto::{ImageRef, Job, JobState, Order, Outcome, Phase, Task, VERSION};
use appliance::{Appliance, Said};
use boot::DiskHint;
use image::EXTENT;
use std::{
    fs,
    io::Read,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

/// So much of an image is data, without a hole.
const EXTENTS: usize = 8;

/// A file that stands for a disk, and an agent that works on it; both go when this does.
struct Node {
    directory: tempfile::TempDir,
    agent: Option<Child>,
}

impl Node {
    fn new(size: u64) -> Node {
        let directory = tempfile::tempdir().unwrap();
        fs::File::create(directory.path().join("disk")).unwrap().set_len(size).unwrap();
        Node { directory, agent: None }
    }

    fn disk(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    fn start(&mut self, appliance: &Appliance) {
        let url = appliance.url();
        let mut command = Command::new(env!("CARGO_BIN_EXE_agent"));
        command.args(["--url", &url, "--attempt", "n1-4-2", "--token", "s3cret", "--disk"]).arg(self.disk());
        self.agent = Some(command.stderr(Stdio::null()).spawn().unwrap());
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

fn octets(seed: u32, extents: usize) -> Vec<u8> {
    let mut number = seed;
    let next = std::iter::repeat_with(|| {
        number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (number >> 24) as u8
    });
    next.take(extents * EXTENT).collect()
}

fn write(id: &str, appliance: &Appliance) -> Order {
    let image = ImageRef { digest: appliance.image_id(), size: appliance.image_size() };
    let task = Task::WriteImage { image, disk: DiskHint::default(), config_drive: None };
    Order { version: VERSION, job: Some(Job { id: id.into(), task }) }
}

/// Waits until the job `id` is over and returns what came of it.
fn over(appliance: &Appliance, id: &str) -> JobState {
    let said = appliance.wait(|said| match said {
        Said::Status(status) => {
            status.job.as_ref().is_some_and(|job| job.id == id && !matches!(job.state, JobState::Running(_)))
        }
        _ => false,
    });
    let Said::Status(status) = said else { unreachable!() };
    status.job.unwrap().state
}

/// received, kept
fn done(state: JobState) -> (u64, u64) {
    match state {
        JobState::Done(Outcome::Written { received_bytes, kept_bytes, .. }) => (received_bytes, kept_bytes),
        other => panic!("not written but {other:?}"),
    }
}

#[test]
fn an_image_is_written_and_the_whole_way_is_told() {
    let image = octets(1, EXTENTS);
    let appliance = Appliance::new(&image);
    let mut node = Node::new(16 << 20);
    node.start(&appliance);
    let Said::Head(head) = appliance.wait(|said| matches!(said, Said::Head(_))) else { unreachable!() };
    assert!(head.starts_with("POST /agent/n1-4-2 HTTP/1.1\r\n"), "{head}");
    for header in ["Authorization: Bearer s3cret", "Upgrade: kiln-agent", "Connection: upgrade"] {
        assert!(head.contains(&format!("\r\n{header}\r\n")), "{head}");
    }
    let Said::Status(status) = appliance.wait(|said| matches!(said, Said::Status(_))) else { unreachable!() };
    assert_eq!(status.job, None);
    assert_eq!(status.inventory.disks[0].size, 16 << 20);
    appliance.order(&write("write", &appliance));
    assert_eq!(done(over(&appliance, "write")), (image.len() as u64, 0));
    assert!(fs::read(node.disk()).unwrap()[..image.len()] == image);
    appliance.wait(|said| matches!(said, Said::Log(line) if line.contains("job done")));
    assert!(!appliance.log().contains("s3cret"));
}

#[test]
fn an_order_that_is_said_again_is_not_done_again() {
    let appliance = Appliance::new(&octets(1, EXTENTS));
    let mut node = Node::new(16 << 20);
    node.start(&appliance);
    appliance.order(&write("write", &appliance));
    done(over(&appliance, "write"));
    let asked = appliance.asked();
    appliance.order(&write("write", &appliance));
    appliance.cut();
    // The next connection begins with the whole status: the job is still done.
    done(over(&appliance, "write"));
    assert_eq!(appliance.asked(), asked);
}

#[test]
fn an_agent_that_is_killed_while_it_writes_goes_on_when_it_is_started_again() {
    let image = octets(1, EXTENTS);
    let appliance = Appliance::new(&image);
    let mut node = Node::new(16 << 20);
    appliance.order(&write("write", &appliance));
    appliance.stall_after(5 * EXTENT + EXTENT / 2);
    node.start(&appliance);
    // Five extents are on the disk when five were said to be done.
    appliance.wait(|said| at_least(said, Phase::Write, 5 * EXTENT as u64));
    node.kill();
    appliance.stall_after(usize::MAX);
    node.start(&appliance);
    let (received, kept) = done(over(&appliance, "write"));
    assert_eq!((received, kept), (3 * EXTENT as u64, 5 * EXTENT as u64));
    assert!(fs::read(node.disk()).unwrap()[..image.len()] == image);
}

fn at_least(said: &Said, wanted: Phase, octets: u64) -> bool {
    let Said::Status(status) = said else { return false };
    let Some(JobState::Running(progress)) = status.job.as_ref().map(|job| &job.state) else { return false };
    progress.phase == wanted && progress.done >= octets
}

#[test]
fn a_job_goes_on_while_the_connection_is_gone() {
    let image = octets(1, EXTENTS);
    let appliance = Appliance::new(&image);
    let mut node = Node::new(16 << 20);
    appliance.order(&write("write", &appliance));
    appliance.stall_after(2 * EXTENT);
    node.start(&appliance);
    appliance.wait(|said| at_least(said, Phase::Write, 2 * EXTENT as u64));
    appliance.cut();
    appliance.stall_after(usize::MAX);
    let (received, kept) = done(over(&appliance, "write"));
    assert_eq!((received, kept), (image.len() as u64, 0), "begun once");
    assert!(fs::read(node.disk()).unwrap()[..image.len()] == image);
}

#[test]
fn another_job_stops_the_one_under_way() {
    let appliance = Appliance::new(&octets(1, EXTENTS));
    let mut node = Node::new(16 << 20);
    appliance.order(&write("write", &appliance));
    appliance.stall_after(2 * EXTENT);
    node.start(&appliance);
    appliance.wait(|said| at_least(said, Phase::Write, 2 * EXTENT as u64));
    let erase = Task::EraseMetadata { disk: DiskHint::default() };
    appliance.order(&Order { version: VERSION, job: Some(Job { id: "erase".into(), task: erase }) });
    let erased = over(&appliance, "erase");
    assert_eq!(erased, JobState::Done(Outcome::Erased { disks: vec!["disk".into()] }));
    assert!(fs::read(node.disk()).unwrap()[..4 << 20].iter().all(|octet| *octet == 0));
}

#[test]
fn a_task_this_agent_does_not_know_is_a_failed_job() {
    let appliance = Appliance::new(&octets(1, 1));
    let mut node = Node::new(16 << 20);
    node.start(&appliance);
    appliance.wait(|said| matches!(said, Said::Status(_)));
    appliance.say(r#"{"order":{"version":9,"job":{"id":"fly","task":{"fly-away":{}}}}}"#);
    assert!(matches!(over(&appliance, "fly"), JobState::Failed(_)));
}

#[test]
fn nonsense_from_the_appliance_ends_at_most_the_connection() {
    let appliance = Appliance::new(&octets(1, 1));
    let mut node = Node::new(16 << 20);
    node.start(&appliance);
    appliance.wait(|said| matches!(said, Said::Status(_)));
    appliance.say("\u{0}\u{1}{]");
    appliance.say(&"x".repeat(300_000));
    // Its next connection.
    appliance.wait(|said| matches!(said, Said::Head(_)));
    appliance.order(&write("write", &appliance));
    done(over(&appliance, "write"));
}

#[test]
fn what_is_wrong_with_the_arguments_is_said() {
    let table: [(&[&str], &str); 4] = [
        (&[], "--url is missing"),
        (&["--url"], "--url needs a value"),
        (&["--fast"], "\"--fast\" is not an option"),
        (
            &["--url", "http://127.0.0.1", "--attempt", "n1", "--token", "t", "--disk", "/nonexistent"],
            "--disk: /nonexistent is not a file",
        ),
    ];
    for (args, expected) in table {
        let mut agent =
            Command::new(env!("CARGO_BIN_EXE_agent")).args(args).stderr(Stdio::piped()).spawn().unwrap();
        let mut text = String::new();
        agent.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(agent.wait().unwrap().code(), Some(2));
        assert!(text.contains(expected) && text.contains("usage:"), "{text}");
    }
}
