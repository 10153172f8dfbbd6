//! What a push remembers, so that it goes on after its process was killed.
//!
//! It is a file `push-ATTEMPT` in the run directory. It is not forced to the disk: one that is lost in a
//! power cut, or older than what was done, only makes some work be done again; and whatever it says, every
//! octet is read back in the end.

use boot::{Attempt, Digest};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

const VERSION: u8 = 1;

/// How far a push is, of one image on one disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Checkpoint {
    version: u8,
    /// The image.
    pub(super) image: Digest,
    /// What the disk says that it is.
    pub(super) disk: String,
    /// At what it is.
    pub(super) stage: Stage,
    /// Extents that were found wrong when they were read back.
    pub(super) wrong: Vec<Range<usize>>,
    /// Octets of data that were sent.
    pub(super) sent: u64,
}

/// At what a push is. Extents before `from` are sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Stage {
    /// Everything is written and flushed up to here.
    Write { from: usize },
    /// Everything is written; it was read back up to here.
    Read { from: usize },
    /// What was wrong is written again.
    WriteAgain { from: usize },
    /// What was wrong and was written again is read back.
    ReadAgain { from: usize },
    /// All is done; so many milliseconds of writing and of reading back.
    Done { millis: (u64, u64) },
}

impl Stage {
    /// The same stage, sure up to another extent.
    pub(super) fn at(self, from: usize) -> Stage {
        match self {
            Stage::Write { .. } => Stage::Write { from },
            Stage::Read { .. } => Stage::Read { from },
            Stage::WriteAgain { .. } => Stage::WriteAgain { from },
            Stage::ReadAgain { .. } => Stage::ReadAgain { from },
            Stage::Done { millis } => Stage::Done { millis },
        }
    }

    /// Up to where it is sure.
    pub(super) fn from(self) -> usize {
        match self {
            Stage::Write { from }
            | Stage::Read { from }
            | Stage::WriteAgain { from }
            | Stage::ReadAgain { from } => from,
            Stage::Done { .. } => 0,
        }
    }

    /// Whether it writes.
    pub(super) fn writes(self) -> bool {
        matches!(self, Stage::Write { .. } | Stage::WriteAgain { .. })
    }
}

impl Checkpoint {
    /// Nothing is done yet.
    pub(super) fn new(image: Digest, disk: String) -> Checkpoint {
        Checkpoint {
            version: VERSION,
            image,
            disk,
            stage: Stage::Write { from: 0 },
            wrong: Vec::new(),
            sent: 0,
        }
    }
}

/// Where the checkpoint of one push is kept.
#[derive(Clone, Debug)]
pub(super) struct Place(Option<PathBuf>);

impl Place {
    /// In a run directory; without one nothing is remembered.
    pub(super) fn new(run_dir: Option<&Path>, attempt: &Attempt) -> Place {
        Place(run_dir.map(|run_dir| run_dir.join(format!("{PREFIX}{attempt}"))))
    }

    /// What is remembered of that image, unless it cannot be made sense of.
    pub(super) fn read(&self, image: Digest) -> Option<Checkpoint> {
        let text = fs::read(self.0.as_ref()?).ok()?;
        let checkpoint: Checkpoint = serde_json::from_slice(&text).ok()?;
        (checkpoint.version == VERSION && checkpoint.image == image).then_some(checkpoint)
    }

    /// Remembers; whole or not at all.
    pub(super) fn write(&self, checkpoint: &Checkpoint) -> io::Result<()> {
        let Some(path) = &self.0 else { return Ok(()) };
        let mut fresh = path.clone().into_os_string();
        fresh.push(FRESH);
        fs::write(&fresh, serde_json::to_vec(checkpoint)?)?;
        fs::rename(&fresh, path)
    }
}

const PREFIX: &str = "push-";
/// No attempt ends so.
const FRESH: &str = "~";

/// Forgets what is remembered of all other pushes than these.
pub(super) fn sweep(run_dir: &Path, kept: &[&Attempt]) -> io::Result<()> {
    for entry in fs::read_dir(run_dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let attempt = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if attempt.is_some_and(|attempt| kept.iter().all(|kept| kept.as_str() != attempt)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
