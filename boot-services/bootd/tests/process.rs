//! The process as its supervisor sees it: sockets passed, readiness, watchdog, signals, and what it says when
//! it cannot begin.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use boot::{DhcpFact, DhcpPlan, Down, Generation, Up};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::{
        fd::OwnedFd,
        unix::net::{UnixDatagram, UnixListener, UnixStream},
    },
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

const BOOTD: &str = env!("CARGO_BIN_EXE_bootd");
const PATIENCE: Duration = Duration::from_secs(30);

/// A supervisor for one process.
struct Supervisor {
    directory: tempfile::TempDir,
    notify: UnixDatagram,
    child: Option<Child>,
}

impl Supervisor {
    fn new() -> Supervisor {
        let directory = tempfile::tempdir().unwrap();
        let notify = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        notify.set_read_timeout(Some(PATIENCE)).unwrap();
        Supervisor { directory, notify, child: None }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("control")
    }

    /// Starts it with its control socket as descriptor 3; a shell puts it there.
    fn start(&mut self) {
        self.kill();
        let _ = fs::remove_file(self.socket());
        let listener = OwnedFd::from(UnixListener::bind(self.socket()).unwrap());
        let line =
            format!("exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec {BOOTD} dhcp --run-dir run");
        let mut shell = Command::new("sh");
        shell.args(["-c", &line]).current_dir(self.directory.path()).stdin(Stdio::from(listener));
        shell.env("NOTIFY_SOCKET", self.directory.path().join("notify")).env("WATCHDOG_USEC", "200000");
        self.child = Some(shell.spawn().unwrap());
        assert_eq!(self.word(|word| word != "WATCHDOG=1"), "READY=1");
    }

    fn word(&self, wanted: impl Fn(&str) -> bool) -> String {
        let mut bytes = [0; 100];
        loop {
            let length = match self.notify.recv(&mut bytes) {
                Ok(length) => length,
                // signal(7): with a time limit it is not begun again after a stop of the process.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => panic!("nothing was said: {error}"),
            };
            let word = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if wanted(&word) {
                return word;
            }
        }
    }

    fn connect(&self) -> BufReader<UnixStream> {
        let line = UnixStream::connect(self.socket()).unwrap();
        line.set_read_timeout(Some(PATIENCE)).unwrap();
        BufReader::new(line)
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.kill();
    }
}

fn next(line: &mut BufReader<UnixStream>) -> Up<DhcpFact> {
    let mut text = String::new();
    line.read_line(&mut text).unwrap();
    Up::parse(text.trim_end().as_bytes()).unwrap()
}

#[test]
fn it_is_ready_without_a_plan_takes_one_and_holds_it_after_a_kill() {
    let mut supervisor = Supervisor::new();
    supervisor.start();
    let mut control = supervisor.connect();
    assert!(matches!(next(&mut control), Up::Hello { hand, holds: None, .. } if hand == "dhcp"));
    let plan = Down::Plan { generation: Generation(7), body: DhcpPlan::default() };
    control.get_mut().write_all(&plan.line()).unwrap();
    while next(&mut control) != Up::Holds(Generation(7)) {}
    supervisor.start();
    let mut control = supervisor.connect();
    assert!(matches!(next(&mut control), Up::Hello { holds: Some(Generation(7)), .. }));
}

#[test]
fn its_watchdog_is_fed_and_it_ends_in_order() {
    let mut supervisor = Supervisor::new();
    supervisor.start();
    for _ in 0..3 {
        supervisor.word(|word| word == "WATCHDOG=1");
    }
    let mut child = supervisor.child.take().unwrap();
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(supervisor.word(|word| word != "WATCHDOG=1"), "STOPPING=1");
    assert!(child.wait().unwrap().success());
}

fn fail(arguments: &[&str]) -> String {
    let Output { status, stderr, .. } =
        Command::new(BOOTD).args(arguments).env_remove("LISTEN_FDS").output().unwrap();
    assert!(!status.success());
    String::from_utf8(stderr).unwrap()
}

#[test]
fn what_keeps_it_from_beginning_is_said_in_a_line_with_what_to_do() {
    for hand in ["dhcp", "tftp", "http"] {
        let said = fail(&[hand]);
        assert!(said.starts_with("ERROR bootd: ") && said.lines().count() == 1, "{said}");
        assert!(said.contains("--plan FILE or --control-socket PATH"), "{said}");
    }
    let said = fail(&["tftp", "--plan", "/does/not/exist"]);
    assert!(said.contains("cannot read the plan /does/not/exist") && said.lines().count() == 1, "{said}");
    let directory = tempfile::tempdir().unwrap();
    let taken = directory.path().join("taken");
    let _listener = UnixListener::bind(&taken).unwrap();
    let said = fail(&["dhcp", "--control-socket", taken.to_str().unwrap()]);
    assert!(said.contains("is in use: another bootd dhcp runs"), "{said}");
}
