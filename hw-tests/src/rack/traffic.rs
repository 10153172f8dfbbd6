//! Judging by traffic: what is reached from where, and what goes over a wire.

use super::{namespace::Namespace, process::Process, wait};
use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use std::{
    fs::{self, File},
    io::{ErrorKind, Read as _},
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(3);
const LONGEST_GREETING: u64 = 4096;

/// Connects by TCP from inside a namespace and returns what is said first: at most 4 KiB, until the other
/// side closes or says nothing for three seconds.
///
/// # Errors
/// Nobody accepts within three seconds.
pub fn reach(from: &Namespace, to: SocketAddrV4) -> Result<String> {
    from.inside(|| {
        let stream = TcpStream::connect_timeout(&to.into(), PATIENCE);
        let stream = stream.with_context(|| format!("{from} does not reach {to}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut greeting = Vec::new();
        match stream.take(LONGEST_GREETING).read_to_end(&mut greeting) {
            Err(e) if !matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionReset) => {
                Err(e.into())
            }
            _ => Ok(String::from_utf8_lossy(&greeting).into_owned()),
        }
    })?
}

/// Whether an address answers an echo request from inside a namespace, within two seconds.
///
/// # Errors
/// `ping` cannot be run.
pub fn ping(from: &Namespace, to: Ipv4Addr) -> Result<bool> {
    let output =
        from.output(Command::new("ping").args(["-n", "-c", "2", "-i", "0.2", "-W", "1", &to.to_string()]))?;
    Ok(output.status.success())
}

/// A recording of what goes over one interface; it ends when dropped, and the file stays.
#[derive(Debug)]
pub struct Capture {
    file: PathBuf,
    tcpdump: Child,
}

impl Capture {
    /// Returns when every packet from now on is recorded.
    pub(super) fn start(inside: &Namespace, interface: &str, file: PathBuf) -> Result<Capture> {
        ensure!(
            super::tools::find("tcpdump").is_some(),
            "tcpdump is missing: run hw-tests/setup, or apt-get install tcpdump"
        );
        use std::os::unix::process::CommandExt as _;
        let said = file.with_extension("log");
        let mut command = Command::new("tcpdump");
        command.args(["-i", interface, "-n", "-U", "-Z", "root", "-w"]).arg(&file).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&said)?);
        let capture = Capture { file, tcpdump: inside.spawn(&mut command)? };
        wait::until(Duration::from_secs(10), &format!("tcpdump on {interface}"), || {
            let said = fs::read_to_string(&said).unwrap_or_default();
            ensure!(capture.process().is_some(), "tcpdump on {interface} ended: {}", said.trim());
            Ok(said.contains("listening on").then_some(()))
        })?;
        Ok(capture)
    }

    /// Where the packets are, in pcap format; each is there as soon as it was seen.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The packets so far that match a filter (pcap-filter(7)), a line each as `tcpdump -e -n` prints it.
    ///
    /// # Errors
    /// The filter is none.
    pub fn packets(&self, filter: &str) -> Result<Vec<String>> {
        let said = Command::new("tcpdump").args(["-e", "-n", "-r"]).arg(&self.file).arg(filter).output()?;
        // A packet being written while this reads ends the file too early; those before it are told.
        let said_why = String::from_utf8_lossy(&said.stderr);
        ensure!(
            said.status.success() || said_why.contains("truncated"),
            "tcpdump {filter}: {}",
            said_why.trim()
        );
        Ok(String::from_utf8_lossy(&said.stdout).lines().map(str::to_owned).collect())
    }

    fn process(&self) -> Option<Process> {
        Process::of(i32::try_from(self.tcpdump.id()).ok()?)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if let Some(process) = self.process() {
            process.signal(Signal::SIGTERM);
            let _ = wait::until(Duration::from_secs(2), "tcpdump", || Ok((!process.runs()).then_some(())));
        }
        let _ = self.tcpdump.kill().and_then(|()| self.tcpdump.wait());
    }
}
