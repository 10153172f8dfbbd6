//! The directory: its lock, and writes that last.

use crate::StoreError;
use crate::error::{Damage, Holder};
use crate::format::{self, Format, Line, TakenUp};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file that is there for a moment, to see whether we get so much.
const PROBE: &str = "room";

/// A commit is refused when less is free: enough for what one commit, a snapshot aside, can write.
const RESERVE: u64 = 16 * 1024 * 1024;

/// An open store's directory, locked.
pub(crate) struct Place {
    path: PathBuf,
    line: Line,
    /// What a store that is made now gets.
    fresh: u32,
    taken_up: Option<TakenUp>,
    _lock: Flock<File>,
}

impl Place {
    /// Locks the directory, which is made if nothing is there. A store of a newer format gives way to its kept copy.
    pub(crate) fn open(path: &Path, format: Format) -> Result<Place, StoreError> {
        if fs::symlink_metadata(path).is_err() {
            make_dir(path)?;
            if let Some(parent) = path.canonicalize().ok().and_then(|path| Some(path.parent()?.to_owned())) {
                sync_dir(&parent)?;
            }
        }
        if !path.is_dir() {
            return Err(StoreError::NotADirectory { path: path.to_owned() });
        }
        if Line::read(path)? == Line::Missing
            && let Some(found) = stranger(path)?
        {
            return Err(StoreError::NotAStore { path: path.to_owned(), found });
        }
        let lock = lock(path)?;
        let (line, taken_up) = format::meet(path, format)?;
        let place = Place { path: path.to_owned(), line, fresh: format.number, taken_up, _lock: lock };
        for dir in [place.journal(), place.snapshots(), place.damaged()] {
            make_dir(&dir)?;
        }
        for dir in [place.journal(), place.snapshots()] {
            // A write that was cut short before its rename.
            for name in list(&dir)?.iter().filter(|name| name.ends_with(".new")) {
                remove(&dir.join(name))?;
            }
        }
        remove(&path.join(PROBE))?;
        sync_dir(path)?;
        Ok(place)
    }

    /// Checks the format, and writes it when the store is new.
    pub(crate) fn settle(&mut self, holds_commits: bool) -> Result<(), StoreError> {
        let missing = || Damage::File { name: "FORMAT".to_owned(), why: "missing or changed".to_owned() };
        match self.line {
            Line::Settled(_) => Ok(()),
            Line::Missing if !holds_commits => self.settle_on(self.fresh),
            _ => Err(StoreError::damaged(&self.path, missing())),
        }
    }

    pub(crate) fn settle_on(&mut self, format: u32) -> Result<(), StoreError> {
        self.line = Line::Settled(format);
        self.line.write(&self.path)
    }

    /// What `FORMAT` says.
    pub(crate) fn line(&self) -> Line {
        self.line
    }

    /// The format of what is here, or will be.
    pub(crate) fn format(&self) -> u32 {
        self.line.number().unwrap_or(self.fresh)
    }

    pub(crate) fn take_taken_up(&mut self) -> Option<TakenUp> {
        self.taken_up.take()
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
        self.check_room(0, doing)
    }

    /// The same, when so many bytes will be written beside.
    pub(crate) fn check_room(&self, bytes: u64, doing: &'static str) -> Result<(), StoreError> {
        let stat = nix::sys::statvfs::statvfs(&self.path)
            .map_err(|errno| StoreError::io(&self.path, "asking the free space of", errno.into()))?;
        let wanted = RESERVE + bytes;
        if stat.blocks_available() * stat.fragment_size() < wanted && !self.can_take(wanted) {
            return Err(StoreError::NoSpace { path: self.path.clone(), doing });
        }
        Ok(())
    }

    /// Whether we get so many bytes although others do not: a file system may hold blocks back for a user, which shows
    /// only when they are taken.
    fn can_take(&self, bytes: u64) -> bool {
        let probe = self.path.join(PROBE);
        let Ok(length) = i64::try_from(bytes) else { return false };
        let taken = File::create(&probe).is_ok_and(|file| {
            nix::fcntl::fallocate(&file, nix::fcntl::FallocateFlags::empty(), 0, length).is_ok()
        });
        // What stays is taken over by the next one.
        let _ = fs::remove_file(&probe);
        taken
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

/// Something in the directory that no store would have made.
fn stranger(path: &Path) -> Result<Option<String>, StoreError> {
    let ours = [
        "FORMAT.new",
        "lock",
        "sled",
        "sled.new",
        "journal",
        "snapshots",
        "damaged",
        "kept",
        "aside",
        PROBE,
        "lost+found",
    ];
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
        fuse::burn()?;
        write(&mut file)?;
        file.sync_all()?;
        fuse::burn()?;
        fs::rename(&beside, path)
    })();
    written.map_err(|source| StoreError::io(path, "writing", source))?;
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Makes created, renamed and removed names last.
pub(crate) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    let synced = fuse::burn().and_then(|()| File::open(path)).and_then(|dir| dir.sync_all());
    synced.map_err(|source| StoreError::io(path, "syncing", source))
}

/// Renames within a file system; the directories are yet to be synced.
pub(crate) fn rename(from: &Path, to: &Path, doing: &'static str) -> Result<(), StoreError> {
    let renamed = fuse::burn().and_then(|()| fs::rename(from, to));
    renamed.map_err(|source| StoreError::io(from, doing, source))
}

/// Lets the steps of a test come to their end at any of them, as the end of the process would.
mod fuse {
    #[cfg(not(test))]
    pub(super) fn burn() -> std::io::Result<()> {
        Ok(())
    }

    #[cfg(test)]
    pub(super) use lit::burn;

    #[cfg(test)]
    pub(crate) mod lit {
        use std::cell::Cell;

        thread_local! { static LEFT: Cell<Option<u32>> = const { Cell::new(None) }; }

        /// After so many steps every further one fails; `None`: none does.
        pub(crate) fn light(steps: Option<u32>) {
            LEFT.set(steps);
        }

        pub(in super::super) fn burn() -> std::io::Result<()> {
            match LEFT.get() {
                None => return Ok(()),
                Some(0) => return Err(std::io::Error::other("the process ended here")),
                Some(left) => LEFT.set(Some(left - 1)),
            }
            Ok(())
        }
    }
}

#[cfg(test)]
pub(crate) use fuse::lit::light;

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
    let removed = match fuse::burn().and_then(|()| fs::symlink_metadata(path)) {
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
