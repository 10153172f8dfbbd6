//! Where artifacts are made and kept: `target/artifacts`, each under a name that says what went into it.
//!
//! Two processes may ask at once: one makes, the other waits and finds it made. Nothing is deleted but
//! what a process that died left half done; `cargo clean` deletes the rest.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use super::command::{run, tool};

/// An artifact, and whether this call made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Where it is.
    pub path: PathBuf,
    /// False: it was there already.
    pub fresh: bool,
}

/// What went into an artifact; the same parts give the same name.
pub struct Key(Sha256);

impl Key {
    /// Begins with what is made, and the number its recipe has; raise it when the recipe changes.
    pub fn new(what: &str, recipe: u32) -> Self {
        Self(Sha256::new()).with(what).with(recipe.to_le_bytes())
    }

    /// Adds a part.
    pub fn with(mut self, part: impl AsRef<[u8]>) -> Self {
        let part = part.as_ref();
        self.0.update(part.len().to_le_bytes());
        self.0.update(part);
        self
    }

    /// 16 hexadecimal digits.
    pub fn name(self) -> String {
        self.0.finalize().iter().take(8).map(|octet| format!("{octet:02x}")).collect()
    }
}

/// The folder of artifacts, with the build's `target` it lies in.
pub struct Workshop {
    target: PathBuf,
    artifacts: PathBuf,
}

impl Workshop {
    /// Below `CARGO_TARGET_DIR`, or the workspace's own `target`.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open() -> Result<Self> {
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("target"), PathBuf::from);
        Self::at(&target)
    }

    /// Below a `target` of the caller's.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn at(target: &Path) -> Result<Self> {
        let artifacts = target.join("artifacts");
        fs::create_dir_all(&artifacts).with_context(|| format!("cannot make {}", artifacts.display()))?;
        Ok(Self { target: target.to_owned(), artifacts })
    }

    /// Cargo's folder: holds the apt that hw-tests/setup made.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// The artifact `name`, made by `recipe` in an empty folder unless it is there. The recipe returns
    /// the path, inside that folder, of what it made.
    ///
    /// # Errors
    /// The recipe's, with the artifact's name; or of the file system.
    pub fn make(&self, name: &str, recipe: impl FnOnce(&Path) -> Result<PathBuf>) -> Result<Made> {
        let path = self.artifacts.join(name);
        if path.exists() {
            return Ok(Made { path, fresh: false });
        }
        let _lock = lock(&self.artifacts.join(format!(".{name}.lock")))?;
        if path.exists() {
            return Ok(Made { path, fresh: false });
        }
        let scratch = Scratch::new(&self.artifacts, name)?;
        let made = recipe(&scratch.0).with_context(|| format!("cannot make {name}"))?;
        if let Some(above) = path.parent() {
            fs::create_dir_all(above)?;
        }
        fs::rename(&made, &path).with_context(|| format!("cannot put {} in its place", path.display()))?;
        Ok(Made { path, fresh: true })
    }
}

/// Copies an artifact to where the caller wants it, holes kept, unless it is there: the same size and
/// the same time of change. Returns whether it copied.
///
/// # Errors
/// When `from` cannot be read or `to` cannot be written.
pub fn deliver(from: &Path, to: &Path) -> Result<bool> {
    let source = fs::metadata(from).with_context(|| format!("cannot read {}", from.display()))?;
    if let Ok(there) = fs::metadata(to)
        && there.len() == source.len()
        && there.modified()? == source.modified()?
    {
        return Ok(false);
    }
    run(tool("cp")
        .args(["--sparse=always", "--reflink=auto", "--preserve=timestamps", "--"])
        .arg(from)
        .arg(to))?;
    Ok(true)
}

/// Waits until no other process is at it; held until it is dropped.
pub(super) fn lock(path: &Path) -> Result<Flock<File>> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .with_context(|| format!("cannot lock {}", path.display()))
}

/// A folder that goes when it is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new(above: &Path, name: &str) -> Result<Self> {
        const PREFIX: &str = ".scratch-";
        for left in fs::read_dir(above)?.flatten() {
            let owner = left
                .file_name()
                .into_string()
                .ok()
                .and_then(|left| left.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
            if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                fs::remove_dir_all(left.path()).with_context(|| {
                    format!("cannot remove {}, left by a dead process", left.path().display())
                })?;
            }
        }
        let path = above.join(format!("{PREFIX}{}-{name}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is removed by the next one.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests;
