//! Runs a tool and says what it said when it fails.

use std::io::ErrorKind;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Time stamped into whatever a tool dates, in seconds since 1970: 2026-01-01.
pub const EPOCH: &str = "1767225600";

/// A tool with nothing of the caller's language or time zone, and the fixed [`EPOCH`].
pub fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("LC_ALL", "C").env("TZ", "UTC").env("SOURCE_DATE_EPOCH", EPOCH).stdin(Stdio::null());
    command
}

/// Runs it to its end and returns its standard output.
///
/// # Errors
/// When it cannot be started, or ends other than with 0: with the last lines it wrote to standard error.
pub fn run(command: &mut Command) -> Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = match command.output() {
        Err(e) if e.kind() == ErrorKind::NotFound => bail!("{name} is not installed: run hw-tests/setup"),
        other => other.with_context(|| format!("{name} could not be started"))?,
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let mut last: Vec<&str> = said.lines().rev().take(8).collect();
        last.reverse();
        bail!("{name} failed ({}): {}", output.status, last.join("\n  "));
    }
    Ok(output.stdout)
}

/// Like [`run`], for output that is text.
///
/// # Errors
/// Those of [`run`].
pub fn text(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&run(command)?).into_owned())
}
