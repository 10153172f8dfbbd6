//! The directory: its format, its lock, and writes that last.

use crate::StoreError;
use crate::error::{Damage, Holder};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The format this code writes.
const FORMAT: u32 = 1;

/// A commit is refused when less is free: enough for what one commit, a snapshot aside, can write.
const RESERVE: u64 = 16 * 1024 * 1024;

/// An open store's directory, locked.
pub(crate) struct Place {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Place {
    /// Locks the directory, which is made if nothing is there.
    pub(crate) fn open(path: &Path) -> Result<Place, StoreError> {
        if fs::symlink_metadata(path).is_err() {
            make_dir(path)?;
            if let Some(parent) = path.canonicalize().ok().and_then(|path| Some(path.parent()?.to_owned())) {
                sync_dir(&parent)?;
            }
        }
        if !path.is_dir() {
            return Err(StoreError::NotADirectory { path: path.to_owned() });
        }
        let format = format_of(path)?;
        if format.is_none()
            && let Some(found) = stranger(path)?
        {
            return Err(StoreError::NotAStore { path: path.to_owned(), found });
        }
        let place = Place { path: path.to_owned(), _lock: lock(path)? };
        for dir in [place.journal(), place.snapshots(), place.damaged()] {
            make_dir(&dir)?;
        }
        for dir in [place.journal(), place.snapshots()] {
            // A write that was cut short before its rename.
            for name in list(&dir)?.iter().filter(|name| name.ends_with(".new")) {
                remove(&dir.join(name))?;
            }
        }
        sync_dir(path)?;
        Ok(place)
    }

    /// Checks the format, and writes it when the store is new.
    pub(crate) fn settle(&self, holds_commits: bool) -> Result<(), StoreError> {
        let missing = || Damage::File { name: "FORMAT".to_owned(), why: "missing or changed".to_owned() };
        match format_of(&self.path)? {
            Some(Format::Known) => Ok(()),
            Some(Format::Changed) => Err(StoreError::damaged(&self.path, missing())),
            None if holds_commits => Err(StoreError::damaged(&self.path, missing())),
            None => self.write_format(),
        }
    }

    pub(crate) fn write_format(&self) -> Result<(), StoreError> {
        let line = format!("kiln store format {FORMAT}");
        let text = format!("{line} crc32c {:08x}\n", crc32c::crc32c(line.as_bytes()));
        write_whole(&self.path.join("FORMAT"), |file| file.write_all(text.as_bytes()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn sled(&self) -> PathBuf {
        self.path.join("sled")
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    pub(crate) fn damaged(&self) -> PathBuf {
        self.path.join("damaged")
    }

    /// Refuses while there is room to refuse in.
    pub(crate) fn check_space(&self, doing: &'static str) -> Result<(), StoreError> {
        let stat = nix::sys::statvfs::statvfs(&self.path)
            .map_err(|errno| StoreError::io(&self.path, "asking the free space of", errno.into()))?;
        if stat.blocks_available() * stat.fragment_size() < RESERVE {
            return Err(StoreError::NoSpace { path: self.path.clone(), doing });
        }
        Ok(())
    }

    /// Makes room in `damaged/` for what is found now.
    pub(crate) fn clear_damaged(&self) -> Result<(), StoreError> {
        for name in list(&self.damaged())? {
            remove(&self.damaged().join(name))?;
        }
        Ok(())
    }

    /// Moves a damaged file or directory to `damaged/`, in place of what is there under its name.
    pub(crate) fn set_aside(&self, from: &Path, name: &str) -> Result<PathBuf, StoreError> {
        let to = self.damaged().join(name);
        remove(&to)?;
        fs::rename(from, &to).map_err(|source| StoreError::io(from, "setting aside", source))?;
        sync_dir(&self.damaged())?;
        sync_dir(from.parent().unwrap_or(&self.path))?;
        Ok(to)
    }
}

enum Format {
    Known,
    Changed,
}

/// Reads `FORMAT`; an error when it is a newer one.
fn format_of(path: &Path) -> Result<Option<Format>, StoreError> {
    let file = path.join("FORMAT");
    let bytes = match fs::read(&file) {
        Ok(bytes) => bytes,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StoreError::io(&file, "reading", source)),
    };
    let parsed = std::str::from_utf8(&bytes).ok().and_then(|text| {
        let (line, sum) = text.strip_suffix('\n')?.split_once(" crc32c ")?;
        let whole = sum == format!("{:08x}", crc32c::crc32c(line.as_bytes()));
        line.strip_prefix("kiln store format ")?.parse::<u32>().ok().filter(|_| whole)
    });
    match parsed {
        Some(FORMAT) => Ok(Some(Format::Known)),
        Some(format) if format > FORMAT => {
            Err(StoreError::NewerFormat { path: path.to_owned(), format, known: FORMAT })
        }
        _ => Ok(Some(Format::Changed)),
    }
}

/// Something in the directory that no store would have made.
fn stranger(path: &Path) -> Result<Option<String>, StoreError> {
    let ours = ["FORMAT.new", "lock", "sled", "sled.new", "journal", "snapshots", "damaged", "lost+found"];
    let names = list(path)?;
    Ok(names.into_iter().find(|name| !ours.contains(&name.as_str())))
}

fn lock(path: &Path) -> Result<Flock<File>, StoreError> {
    let name = path.join("lock");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&name)
        .map_err(|source| StoreError::io(path, "locking", source))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut locked) => {
            let write = locked
                .set_len(0)
                .and_then(|()| locked.write_all(format!("{}\n", std::process::id()).as_bytes()));
            write.map_err(|source| StoreError::io(path, "locking", source))?;
            Ok(locked)
        }
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut text = String::new();
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            let holder = pid.map(|pid: u32| Holder {
                pid,
                name: fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim().to_owned()),
            });
            Err(StoreError::Locked { path: path.to_owned(), holder })
        }
        Err((_, errno)) => Err(StoreError::io(path, "locking", errno.into())),
    }
}

/// Makes a directory that only its owner may read: there are secrets in it.
pub(crate) fn make_dir(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| StoreError::io(path, "making", source))
}

/// Creates or opens for writing, readable by the owner only.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Writes a file whole or not at all: beside, synced, renamed, the directory synced.
pub(crate) fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), StoreError> {
    let beside = path.with_added_extension("new");
    let written = (|| {
        let mut file = create(&beside)?;
        write(&mut file)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    })();
    written.map_err(|source| StoreError::io(path, "writing", source))?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Makes created, renamed and removed names last.
pub(crate) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    let synced = File::open(path).and_then(|dir| dir.sync_all());
    synced.map_err(|source| StoreError::io(path, "syncing", source))
}

/// Syncs every file below a directory, and the directories.
pub(crate) fn sync_tree(path: &Path) -> Result<(), StoreError> {
    for name in list(path)? {
        let inner = path.join(name);
        if inner.is_dir() {
            sync_tree(&inner)?;
        } else {
            let synced = File::open(&inner).and_then(|file| file.sync_all());
            synced.map_err(|source| StoreError::io(&inner, "syncing", source))?;
        }
    }
    sync_dir(path)
}

/// The names in a directory, sorted.
pub(crate) fn list(path: &Path) -> Result<Vec<String>, StoreError> {
    let read = || -> io::Result<Vec<String>> {
        let names = fs::read_dir(path)?.map(|item| Ok(item?.file_name().to_string_lossy().into_owned()));
        names.collect()
    };
    let mut names = read().map_err(|source| StoreError::io(path, "listing", source))?;
    names.sort();
    Ok(names)
}

/// Removes a file or a directory with all in it, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    let removed = match fs::symlink_metadata(path) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => Err(source),
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    removed.map_err(|source| StoreError::io(path, "removing", source))
}

/// Names of files that are numbers: journals by their base, snapshots by their commit.
pub(crate) fn numbered(path: &Path) -> Result<Vec<u64>, StoreError> {
    let names = list(path)?;
    Ok(names.iter().filter(|name| name.len() == 20).filter_map(|name| name.parse().ok()).collect())
}

/// The name of a numbered file, whose order is the numbers' order.
pub(crate) fn number_name(number: u64) -> String {
    format!("{number:020}")
}
