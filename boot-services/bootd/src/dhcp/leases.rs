//! The file of leases: one JSON object a line, appended and on disk before a client is told; written afresh
//! when it has grown long.

use crate::desk::replace;
use ::dhcp::Lease;
use anyhow::{Context as _, Result};
use boot::Mac;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

const VERSION: u8 = 1;
/// Lines beyond twice the leases there were when it was written last.
const SLACK: usize = 4096;

/// A line: a client's newest lease, or that it has none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Entry {
    Lease(Lease),
    Gone { network: String, mac: Mac },
}

#[derive(Serialize, Deserialize)]
struct Line<T> {
    v: u8,
    entry: T,
}

/// The open file.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    lines: usize,
    long: usize,
}

impl Journal {
    /// Opens the file in the run directory, and reads it: the newest lease of each client. A line that a
    /// power cut tore is skipped, as it was promised to nobody.
    pub(super) fn open(directory: &Path) -> Result<(Journal, Vec<Lease>)> {
        let path = directory.join("dhcp.leases");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read the leases {}", path.display()));
            }
        };
        let mut leases = BTreeMap::new();
        let mut torn = 0;
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            match serde_json::from_slice(line) {
                Ok(Line { v: VERSION, entry: Entry::Lease(lease) }) => {
                    leases.insert((lease.network.clone(), lease.mac), lease);
                }
                Ok(Line { v: VERSION, entry: Entry::Gone { network, mac } }) => {
                    leases.remove(&(network, mac));
                }
                Ok(_) | Err(_) => torn += 1,
            }
        }
        if torn > 0 {
            log::warn!(target: "dhcp", file:% = path.display(), lines = torn; "unreadable leases skipped");
        }
        let leases: Vec<Lease> = leases.into_values().collect();
        let file = append_to(&path)?;
        let mut journal = Journal { path, file, lines: 0, long: 0 };
        // A torn line has no end: what is appended behind it would be lost with it.
        journal.rewrite(&leases)?;
        Ok((journal, leases))
    }

    /// Whether it is time to write it afresh.
    pub(super) fn is_long(&self) -> bool {
        self.lines > self.long
    }

    /// Adds lines; they are on disk when this returns.
    pub(super) fn append(&mut self, entries: &[Entry]) -> Result<()> {
        let text = lines(entries.iter());
        let written = self.file.write_all(&text).and_then(|()| self.file.sync_data());
        written.with_context(|| format!("cannot write {}", self.path.display()))?;
        self.lines += entries.len();
        Ok(())
    }

    /// Replaces all lines; they are on disk when this returns.
    pub(super) fn rewrite(&mut self, leases: &[Lease]) -> Result<()> {
        let text = lines(leases.iter().map(|lease| Entry::Lease(lease.clone())));
        replace(&self.path, &text).with_context(|| format!("cannot write {}", self.path.display()))?;
        self.file = append_to(&self.path)?;
        self.lines = leases.len();
        self.long = leases.len() * 2 + SLACK;
        Ok(())
    }
}

fn append_to(path: &Path) -> Result<File> {
    let file = fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path);
    file.with_context(|| format!("cannot write the leases {}", path.display()))
}

fn lines<T: Serialize>(entries: impl Iterator<Item = T>) -> Vec<u8> {
    let mut text = Vec::new();
    for entry in entries {
        serde_json::to_writer(&mut text, &Line { v: VERSION, entry }).expect("leases have string keys only");
        text.push(b'\n');
    }
    text
}

#[cfg(test)]
mod tests;
