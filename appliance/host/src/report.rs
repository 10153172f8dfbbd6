//! What was found and done, for people at the console and for the API: `/run/kiln/host.json`.

use crate::{
    config::Fault, data::Data, durable::keep, links::Link, moments::Moments, ssh::Shell, time::Source,
};
use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where it is.
pub const FILE: &str = "/run/kiln/host.json";
/// The same, as people read it.
const TEXT: &str = "/run/kiln/issue";

/// The whole of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Of the slot's system.
    pub version: Option<String>,
    /// A or B.
    pub slot: Option<String>,
    /// Whether the firmware held the boot loader against its owner's keys; none: it is no UEFI.
    pub secure_boot: Option<bool>,
    /// What is at `/data`.
    pub data: Option<Data>,
    /// What the box is told of itself.
    pub configuration: Configuration,
    /// Where the API is.
    pub api: Option<String>,
    /// Where operators log in; none: nowhere.
    pub ssh: Option<Shell>,
    /// Whose word the time was when the box came up.
    pub time: Option<Source>,
    /// What restarts a box that hangs; none: nothing.
    pub watchdog: Option<PathBuf>,
    /// What it took to come up.
    #[serde(default)]
    pub moments: Moments,
    /// The interfaces.
    pub interfaces: Vec<Interface>,
    /// What is wrong, each with what to do.
    pub troubles: Vec<String>,
}

/// Which configuration is in force.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Configuration {
    /// Its file; none: there is none.
    pub file: Option<PathBuf>,
    /// Its serial number.
    pub serial: Option<u64>,
    /// One that was refused, and why.
    pub refused: Option<(PathBuf, Vec<Fault>)>,
}

/// An interface.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Interface {
    /// What it is.
    #[serde(flatten)]
    pub link: Link,
    /// Its addresses.
    pub addresses: Vec<String>,
}

impl Report {
    /// As people read it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |words: String| text.extend([words.as_str(), "\n"]);
        let or_none = |word: &Option<String>| word.clone().unwrap_or_else(|| "unknown".to_owned());
        let secure = if self.secure_boot == Some(true) { ", Secure Boot" } else { "" };
        line(format!("Kiln {}, slot {}{secure}", or_none(&self.version), or_none(&self.slot)));
        if let Some(data) = &self.data {
            let device = data.device.as_ref().map_or("memory".into(), |device| device.display().to_string());
            line(format!("  data      {device}, {} of {} MiB free", data.free >> 20, data.size >> 20));
        }
        match &self.configuration.file {
            Some(file) => line(format!("  configured by {}", file.display())),
            None => line("  not configured".to_owned()),
        }
        for Interface { link, addresses } in &self.interfaces {
            let first = link.first_name.as_ref().map_or(String::new(), |name| format!(" ({name})"));
            let mac = link.mac.map_or(String::new(), |mac| mac.to_string());
            let carrier = if link.carrier { "link" } else { "no link" };
            line(format!("  {}{first}  {mac}  {carrier}  {}", link.name, addresses.join(" ")));
        }
        if let Some(api) = &self.api {
            line(format!("  API       http://{api}"));
        }
        if let Some(Shell { at, fingerprint }) = &self.ssh {
            line(format!("  SSH       root@{}, port {}, {fingerprint}", at.ip(), at.port()));
        }
        if let Some(at_start) = self.time {
            line(format!("  time      {}", at_start.words()));
        }
        if !self.moments.is_empty() {
            line(format!("  came up   {}", self.moments));
        }
        for trouble in &self.troubles {
            line(format!("  WRONG     {trouble}"));
        }
        if self.configuration.file.is_none() {
            line(HOW_TO.to_owned());
        }
        text
    }

    /// The one that was told last.
    ///
    /// # Errors
    /// When none was, since the machine was switched on.
    pub fn read() -> Result<Report> {
        let text = fs::read(FILE).context("`host start` was not run since the machine was switched on")?;
        serde_json::from_slice(&text).with_context(|| format!("{FILE} is of another release"))
    }

    /// Puts it where people, tests and the API read it.
    ///
    /// # Errors
    /// The file system's.
    pub fn tell(&self) -> Result<()> {
        keep(Path::new(FILE), &serde_json::to_vec_pretty(self)?, 0o644)?;
        keep(Path::new(TEXT), self.text().as_bytes(), 0o644)?;
        Ok(())
    }

    /// What is wrong with one thing is this now, or nothing: its troubles begin with its name.
    fn set_troubles(&mut self, of: &str, troubles: impl IntoIterator<Item = String>) {
        self.troubles.retain(|there| !there.starts_with(of));
        self.troubles.extend(troubles);
    }
}

/// Says in the report that was told what became of one thing since: troubles, or none.
///
/// # Errors
/// As [`Report::read`] and [`Report::tell`].
pub fn amend(of: &str, troubles: impl IntoIterator<Item = String>) -> Result<()> {
    let mut report = Report::read()?;
    let before = report.troubles.clone();
    report.set_troubles(of, troubles);
    if report.troubles != before { report.tell() } else { Ok(()) }
}

/// What to do with a box without a configuration.
const HOW_TO: &str = r#"
This box has no configuration. Write one as kiln.toml to a USB stick or a CD whose file system has the label
KILN-CONFIG and put it in: a stick is taken at once, a CD when the box is restarted (Ctrl-Alt-Del). Or answer the
questions below. The least there is, with one of the MACs above:

  [uplink]
  device = "52:54:00:aa:00:01"
  address = "192.0.2.10/24"
  gateway = "192.0.2.1"
"#;

#[cfg(test)]
mod tests;
