use boot::Digest;
use core::fmt;
use image::ImportError;
use nix::sys::statvfs::statvfs;
use std::io;
use std::path::{Path, PathBuf};

/// Why the library cannot do what it was asked for.
#[derive(Debug)]
pub enum LibraryError {
    /// The upload is not an image that can be imported.
    Import(ImportError),
    /// The disk has no room.
    Full {
        /// The library.
        path: PathBuf,
        /// Octets the import needs beside what was there before it.
        needed: u64,
        /// Octets that are free without it; none: that cannot be found out.
        free: Option<u64>,
    },
    /// There is no such image.
    NotFound(Digest),
    /// An image's manifest is not the one its name says.
    Damaged {
        /// Which image.
        id: Digest,
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The disk refused something.
    Io {
        /// What was to be done: `open`, `write`.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

impl LibraryError {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LibraryError {
        let path = path.to_owned();
        move |source| LibraryError::Io { doing, path, source }
    }

    pub(super) fn full(root: &Path, needed: u64) -> LibraryError {
        LibraryError::Full { path: root.to_owned(), needed, free: free(root) }
    }
}

/// Octets that we may still write to the disk that `path` is on.
pub(super) fn free(path: &Path) -> Option<u64> {
    let disk = statvfs(path).ok()?;
    disk.blocks_available().checked_mul(disk.fragment_size())
}

impl fmt::Display for LibraryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LibraryError::Import(error) => error.fmt(f),
            LibraryError::Full { path, needed, free } => {
                write!(f, "the disk of {} is full: the image needs {needed} octets", path.display())?;
                if let Some(free) = free {
                    let missing = needed.saturating_sub(*free);
                    write!(f, ", {free} are free")?;
                    if missing > 0 {
                        write!(f, ", {missing} are missing")?;
                    }
                }
                f.write_str("; remove images that nobody needs and import it again")
            }
            LibraryError::NotFound(id) => {
                write!(f, "there is no image {id}; list the images, or import it")
            }
            LibraryError::Damaged { id, path, why } => write!(
                f,
                "the manifest of image {id} is damaged ({why}); import the image again, or delete {}",
                path.display()
            ),
            LibraryError::Io { doing, path, source } => {
                write!(f, "cannot {doing} {}: {source}; see to the disk and its permissions", path.display())
            }
        }
    }
}

impl core::error::Error for LibraryError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            LibraryError::Import(error) => error.source(),
            LibraryError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
