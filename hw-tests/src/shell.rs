//! The operator's way into an appliance that is a machine: OpenSSH's client.

use crate::rack::{Namespace, UPLINK};
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A key pair of an operator, and the machine that it is used from.
#[derive(Debug)]
pub struct Shell {
    namespace: Namespace,
    key: PathBuf,
}

/// Makes a key pair in a folder; returns the private half's file and the public half's line.
///
/// # Errors
/// `ssh-keygen` is missing.
pub fn key(folder: &Path) -> Result<(PathBuf, String)> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let file = folder.join("id_ed25519");
    let public = file.with_extension("pub");
    // Boxes of earlier runs had other host keys.
    for old in [&file, &public, &file.with_file_name("known_hosts")] {
        let _ = fs::remove_file(old);
    }
    let mut keygen = Command::new("ssh-keygen");
    let made = keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "operator", "-f"]).arg(&file).output();
    let made = made.context("ssh-keygen is missing: run hw-tests/setup")?;
    ensure!(made.status.success(), "ssh-keygen: {}", String::from_utf8_lossy(&made.stderr));
    Ok((file, fs::read_to_string(public)?.trim().to_owned()))
}

impl Shell {
    /// From this namespace, with this private key.
    pub fn new(namespace: &Namespace, key: &Path) -> Shell {
        Shell { namespace: namespace.clone(), key: key.to_owned() }
    }

    /// Runs a line of shell on the appliance, which must succeed; returns its standard output.
    ///
    /// # Errors
    /// Nobody is let in, or the line failed: with what was said.
    pub fn run(&self, line: &str) -> Result<String> {
        let output = self.output(&[], line)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "over SSH, {line}: {} {}", output.status, said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The same with more options of ssh(1), whatever becomes of it. The host key is taken at first sight, and must be
    /// the same ever after.
    ///
    /// # Errors
    /// `ssh` is missing.
    pub fn output(&self, options: &[&str], line: &str) -> Result<Output> {
        let known = self.key.with_file_name("known_hosts");
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new"]);
        ssh.args(["-o", "IdentitiesOnly=yes", "-o", "ConnectTimeout=20", "-o", "LogLevel=ERROR"]);
        // A box that is reset in the middle of a command says nothing of it.
        ssh.args(["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=6"]);
        ssh.arg("-o").arg(format!("UserKnownHostsFile={}", known.display()));
        ssh.args(options).arg("-i").arg(&self.key).arg(format!("root@{UPLINK}")).arg(line);
        self.namespace.output(&mut ssh).context("run hw-tests/setup")
    }
}
