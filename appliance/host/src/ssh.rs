//! A shell for operators: dropbear, with keys and never a password, on the uplink's address alone.
//!
//! init runs `host ssh` and starts it again, not the supervisor: an operator is to get in when it is the
//! services that are broken. What it needs is made by `host start`: the address, who may log in, the host key.

use crate::{
    config::{Ssh, SshKey},
    console::say,
    durable::keep,
    report,
};
use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, execv, pause},
};
use serde::{Deserialize, Serialize};
use std::{
    convert::Infallible,
    ffi::CString,
    fs::{self, DirBuilder, File},
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

/// Where it is to listen; not there: it is off.
const AT: &str = "/run/kiln/ssh";
const PID: &str = "/run/kiln/ssh.pid";
/// Root's home, by `/etc/passwd`: the root is read-only, and nobody is to leave anything there over a restart.
const HOME: &str = "/run/kiln/root";
/// Below the data partition: it stays the same over updates, or clients would warn.
const HOST_KEY: &str = "ssh/host_ed25519";
const SERVER: &str = "/usr/sbin/dropbear";
const KEY_TOOL: &str = "/usr/bin/dropbearkey";
/// What a key gives is a shell: no way through the box to where its legs are.
const NO_WAY_THROUGH: &str = "no-port-forwarding,no-agent-forwarding,no-X11-forwarding";
/// A port that is taken is tried again after this.
const REST: Duration = Duration::from_secs(10);
/// What the server's own troubles begin with; they end when it serves.
const UNSERVED: &str = "SSH cannot be served";

/// The shell, as the report says where it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shell {
    /// Where it listens.
    pub at: SocketAddrV4,
    /// The host key's, for an operator to compare with what the client shows.
    pub fingerprint: String,
}

/// Makes what `host ssh` needs, or takes it away when nobody may log in. Returns where it will be, and what is
/// wrong.
pub fn prepare(ssh: Option<&Ssh>, uplink: Option<Ipv4Addr>, data: &Path) -> (Option<Shell>, Vec<String>) {
    let mut troubles = Vec::new();
    let Some((ssh, address)) = ssh.zip(uplink) else {
        let _ = fs::remove_file(AT);
        let _ = fs::remove_dir_all(HOME);
        return (None, troubles);
    };
    let at = SocketAddrV4::new(address, ssh.port);
    let made = keep_keys(&ssh.keys).and_then(|()| host_key(data)).and_then(|(fingerprint, trouble)| {
        troubles.extend(trouble);
        keep(Path::new(AT), at.to_string().as_bytes(), 0o644)
            .with_context(|| format!("{AT} cannot be written"))?;
        Ok(Shell { at, fingerprint })
    });
    match made {
        Ok(shell) => (Some(shell), troubles),
        Err(e) => {
            let _ = fs::remove_file(AT);
            troubles.push(format!("SSH is off: {e:#}"));
            (None, troubles)
        }
    }
}

/// The server looks who may log in at every login; it wants nobody else to be able to write there.
fn keep_keys(keys: &[SshKey]) -> Result<()> {
    let folder = Path::new(HOME).join(".ssh");
    let text: String = keys.iter().map(|key| format!("{NO_WAY_THROUGH} {key}\n")).collect();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .and_then(|()| keep(&folder.join("authorized_keys"), text.as_bytes(), 0o600))
        .with_context(|| format!("{} cannot be written", folder.display()))
}

/// The host key's fingerprint, and what is wrong with it; made if there is none that can be read.
fn host_key(data: &Path) -> Result<(String, Option<String>)> {
    let key = data.join(HOST_KEY);
    if let Some(fingerprint) = fingerprint(&key) {
        return Ok((fingerprint, None));
    }
    let was_there = key.exists();
    let aside = key.with_extension("new");
    let folder = key.parent().unwrap_or(data);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("{} cannot be made: is the data partition full?", folder.display()))?;
    let _ = fs::remove_file(&aside);
    let output =
        Command::new(KEY_TOOL).args(["-t", "ed25519", "-f"]).arg(&aside).output().with_context(|| {
            format!("{KEY_TOOL} cannot be run: this system is not whole, install another")
        })?;
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or("it says nothing");
    ensure!(output.status.success(), "no host key can be made ({last}): is the data partition full?");
    File::open(&aside)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(&aside, &key))
        .and_then(|()| File::open(folder)?.sync_all())
        .with_context(|| format!("{} cannot be kept", key.display()))?;
    let fingerprint = fingerprint(&key).context("the host key that was made cannot be read")?;
    let trouble = was_there.then(|| {
        "SSH: the host key was damaged and is another now: compare its fingerprint, then let your client forget the old one".to_owned()
    });
    Ok((fingerprint, trouble))
}

/// Of a host key that can be read.
fn fingerprint(key: &Path) -> Option<String> {
    let output = Command::new(KEY_TOOL).arg("-y").arg("-f").arg(key).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    told_fingerprint(&text)
}

fn told_fingerprint(text: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix("Fingerprint: "))?;
    Some(line.trim().to_owned())
}

/// Becomes the server; while nobody may log in, waits to be ended.
///
/// # Errors
/// When it cannot listen or be started; said in the report too.
pub fn serve() -> Result<Infallible> {
    fs::write(PID, std::process::id().to_string()).with_context(|| format!("{PID} cannot be written"))?;
    let Ok(at) = fs::read_to_string(AT) else {
        loop {
            pause();
        }
    };
    let trouble = match TcpListener::bind(at.trim()) {
        Ok(_) => None,
        Err(e) => Some(format!("{UNSERVED} at {at} ({e}): give it another port = in [ssh]")),
    };
    amend(trouble.clone());
    if let Some(trouble) = trouble {
        return rest(trouble);
    }
    let key = Path::new("/data").join(HOST_KEY);
    let words: Vec<CString> = arguments(&at, &key).into_iter().map(CString::new).collect::<Result<_, _>>()?;
    let Err(e) = execv(&CString::new(SERVER)?, &words);
    let trouble =
        format!("{UNSERVED}: {SERVER} does not start ({e}): this system is not whole, install another");
    amend(Some(trouble.clone()));
    rest(trouble)
}

fn amend(trouble: Option<String>) {
    if let Err(e) = report::amend(UNSERVED, trouble) {
        say(&format!("{}: {e:#}", report::FILE));
    }
}

/// Leaves it to init to try again, not at once.
fn rest(trouble: String) -> Result<Infallible> {
    thread::park_timeout(REST);
    bail!("{trouble}; it is tried again every {} s", REST.as_secs())
}

/// dropbear(8): in the foreground, its log on the console, no password for anybody, no forwarding.
fn arguments(at: &str, key: &Path) -> Vec<String> {
    let key: PathBuf = key.into();
    let fixed = ["dropbear", "-F", "-E", "-m", "-s", "-j", "-k", "-T", "4", "-K", "60", "-P", PID];
    let mut words: Vec<String> = fixed.map(str::to_owned).into();
    words.extend(["-r".to_owned(), key.display().to_string(), "-p".to_owned(), at.trim().to_owned()]);
    words
}

/// Ends the server, which init starts again: where it listens is another now. Who is logged in stays so.
pub fn again() {
    let pid = fs::read_to_string(PID).ok().and_then(|text| text.trim().parse().ok());
    if let Some(pid) = pid.filter(|pid| *pid > 1) {
        // One that has ended is being started again.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
}

#[cfg(test)]
mod tests;
