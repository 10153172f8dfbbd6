//! RAUC's program, as a child: it checks the bundle's signature, and writes.

use anyhow::{Context as _, Result, bail};
use rack::Slot;
use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    thread,
};

const PROGRAM: &str = "/usr/bin/rauc";

/// Has RAUC install a bundle beside the running slot.
///
/// # Errors
/// What RAUC says.
pub(super) fn install(running: Slot, bundle: &Path, progress: &mut dyn FnMut(u8, &str)) -> Result<()> {
    let mut command = Command::new(PROGRAM);
    // Both of its streams are read at once: the one that is not would fill up and stop it.
    command.arg(format!("--override-boot-slot={running}")).arg("install").arg(bundle);
    command.env_clear().env("PATH", "/usr/bin:/usr/sbin:/bin:/sbin").stdin(Stdio::null());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{PROGRAM} cannot be run: is this an image?"))?;
    let errors = child.stderr.take().context("a pipe that was asked for")?;
    let said = thread::Builder::new().name("rauc".into()).spawn(move || {
        let lines = BufReader::new(errors).lines().map_while(Result::ok);
        // The last one counts, and is all that is kept.
        lines.filter_map(|line| reason(&line).map(ToOwned::to_owned)).last()
    })?;
    for line in BufReader::new(child.stdout.take().context("a pipe that was asked for")?).lines() {
        if let Some((percent, doing)) = line.ok().as_deref().and_then(progress_of) {
            progress(percent, doing);
        }
    }
    let ended = child.wait().context("RAUC is nobody's child")?;
    let why = said.join().ok().flatten();
    if !ended.success() {
        let why = why.unwrap_or_else(|| format!("it ended, {ended}, without a reason"));
        bail!("RAUC refused it: {why}{}", advice(&why));
    }
    Ok(())
}

/// A bundle's description; nothing: RAUC does not read the bundle, and says why when it installs it.
pub(super) fn description(bundle: &Path) -> Option<String> {
    let mut command = Command::new(PROGRAM);
    command.args(["info", "--no-check-time", "--output-format=shell"]).arg(bundle);
    command.env_clear().env("PATH", "/usr/bin:/usr/sbin:/bin:/sbin").stdin(Stdio::null());
    let said = command.output().ok().filter(|said| said.status.success())?.stdout;
    Some(described(&String::from_utf8_lossy(&said)))
}

/// The line `RAUC_MF_DESCRIPTION='…'`.
fn described(said: &str) -> String {
    let line = said.lines().find_map(|line| line.strip_prefix("RAUC_MF_DESCRIPTION="));
    line.unwrap_or_default().trim_matches('\'').to_owned()
}

/// What is wrong, of a line of GLib's log such as `(rauc:193): rauc-WARNING **: 13:04:33.017: Invalid bundle`.
fn reason(line: &str) -> Option<&str> {
    let (_, after) = line.split_once("WARNING **: ")?;
    Some(after.split_once(": ").map_or(after, |(_, reason)| reason).trim())
}

/// What to do about it, where that is known.
fn advice(why: &str) -> &'static str {
    let known = [
        ("signature verification failed", ". It was signed by somebody whom this image does not trust"),
        ("Invalid bundle format", ". It is no whole bundle: get it again"),
        ("Input/output error", ". It is damaged, or a disk is: get it again"),
        ("Compatible mismatch", ". It is for another kind of machine"),
    ];
    known.into_iter().find(|(words, _)| why.contains(words)).map_or("", |(_, advice)| advice)
}

/// Reads a line such as ` 40% Checking bundle done.`
fn progress_of(line: &str) -> Option<(u8, &str)> {
    let (percent, doing) = line.trim().split_once('%')?;
    Some((percent.trim().parse().ok().filter(|percent| *percent <= 100)?, doing.trim()))
}

#[cfg(test)]
mod tests;
