use super::LibraryError;
use super::error::free;
use super::unfinished::Unfinished;
use boot::Digest;
use image::{ImportError, Progress, Sink};
use nix::errno::Errno;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Where an extent is kept.
pub(crate) fn extent_path(root: &Path, digest: &Digest) -> PathBuf {
    let name = digest.to_string();
    root.join("extents").join(&name[..2]).join(name)
}

/// A name in `incoming/` that nobody else uses.
pub(super) fn fresh(root: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    root.join("incoming").join(format!("{}-{count}", std::process::id()))
}

/// Whether it says that there is no room.
pub(crate) fn is_full(e: &io::Error) -> bool {
    let full = [Errno::ENOSPC, Errno::EDQUOT, Errno::EFBIG].map(|errno| errno as i32);
    e.raw_os_error().is_some_and(|errno| full.contains(&errno))
}

/// Refuses to take what a file system holds back for us alone: it is there so that images can still be removed.
///
/// # Errors
/// `ENOSPC`.
fn room_for(place: &Path, octets: usize) -> io::Result<()> {
    match free(place) {
        Some(free) if free < octets as u64 => Err(Errno::ENOSPC.into()),
        _ => Ok(()),
    }
}

/// A file that grows only by what its file system gives to everybody.
pub struct Modest<'a> {
    /// The file.
    pub file: File,
    /// Somewhere on the same file system.
    pub place: &'a Path,
}

impl Write for Modest<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        room_for(self.place, octets.len())?;
        self.file.write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Puts extents into the library.
///
/// When the disk is full it goes on without writing, so that the one who is told can be told how much
/// room the image needs.
pub(super) struct Shelf {
    root: PathBuf,
    list: Unfinished,
    written: u64,
    unwritten: HashSet<Digest>,
    unwritten_bytes: u64,
    full: bool,
    /// What was free before the import began.
    free: Option<u64>,
    /// What the import needs beside its extents.
    beside: u64,
    existing: Vec<u8>,
}

impl Shelf {
    pub(super) fn new(root: &Path) -> Shelf {
        Shelf {
            root: root.to_owned(),
            list: Unfinished::begin(root),
            written: 0,
            unwritten: HashSet::new(),
            unwritten_bytes: 0,
            full: false,
            free: free(root),
            beside: 0,
            existing: Vec::new(),
        }
    }

    /// The import needs room for so many octets of something else, and has taken it.
    pub(super) fn beside(&mut self, octets: u64) {
        self.beside = octets;
    }

    /// Octets that were written, if `done` and nothing was left out. The extents of an upload that broke off
    /// are remembered, and those of a whole one until its manifest is there, which ends the list.
    pub(super) fn close<T>(self, done: &Result<T, ImportError>) -> Result<u64, LibraryError> {
        let broke_off = matches!(done, Err(ImportError::Source { .. } | ImportError::Truncated { .. }));
        if !(broke_off || done.is_ok()) || self.full {
            self.list.forget();
        }
        if self.full && !matches!(done, Err(ImportError::Sink(_))) {
            let needed = self.beside + self.written + self.unwritten_bytes;
            return Err(LibraryError::Full { path: self.root, needed, free: self.free });
        }
        Ok(self.written)
    }

    fn is_there(&mut self, path: &Path, octets: &[u8]) -> bool {
        self.existing.clear();
        let limit = octets.len() as u64 + 1;
        File::open(path).and_then(|file| file.take(limit).read_to_end(&mut self.existing)).is_ok()
            && self.existing == octets
    }

    fn write(&self, path: &Path, octets: &[u8]) -> io::Result<()> {
        let fresh = fresh(&self.root);
        let put = || {
            let file = File::options().write(true).create_new(true).open(&fresh)?;
            Modest { file, place: &self.root }.write_all(octets)?;
            match fs::rename(&fresh, path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    path.parent().map_or(Ok(()), fs::create_dir_all)?;
                    fs::rename(&fresh, path)
                }
                done => done,
            }
        };
        put().inspect_err(|_| {
            // It may not even have been made; what stays is swept.
            let _ = fs::remove_file(&fresh);
        })
    }
}

impl Sink for Shelf {
    fn keep(&mut self, digest: Digest, octets: &[u8]) -> io::Result<()> {
        let path = extent_path(&self.root, &digest);
        if self.is_there(&path, octets) {
            self.list.keep(&digest);
            return Ok(());
        }
        if !self.full {
            match self.write(&path, octets) {
                Ok(()) => {
                    self.list.keep(&digest);
                    self.written += octets.len() as u64;
                    return Ok(());
                }
                Err(e) if is_full(&e) => self.full = true,
                Err(e) => return Err(e),
            }
        }
        if self.unwritten.insert(digest) {
            self.unwritten_bytes += octets.len() as u64;
        }
        Ok(())
    }
}

/// An upload that is kept in a file for as long as it is imported.
pub(super) struct Spool {
    path: PathBuf,
    size: u64,
}

impl Spool {
    pub(super) fn fill(
        root: &Path,
        mut upload: impl Read,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Spool, LibraryError> {
        let mut spool = Spool { path: fresh(root), size: 0 };
        let free = free(root);
        let file = File::options()
            .write(true)
            .create_new(true)
            .open(&spool.path)
            .map_err(LibraryError::io("make", &spool.path))?;
        let mut file = Modest { file, place: root };
        let mut chunk = vec![0; image::EXTENT];
        let mut full = false;
        loop {
            let at = spool.size;
            let count = match upload.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(LibraryError::Import(ImportError::Source { at, source })),
            };
            spool.size += count as u64;
            if !full {
                match file.write_all(&chunk[..count]) {
                    Ok(()) => {}
                    Err(e) if is_full(&e) => {
                        full = true;
                        // So that it is not in the others' way while the rest is only counted.
                        let _ = file.file.set_len(0);
                    }
                    Err(e) => return Err(LibraryError::io("write", &spool.path)(e)),
                }
            }
            progress(Progress { read: spool.size, ..Progress::default() });
        }
        if full {
            return Err(LibraryError::Full { path: root.to_owned(), needed: spool.size, free });
        }
        Ok(spool)
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn file(&self) -> Result<File, LibraryError> {
        File::open(&self.path).map_err(LibraryError::io("open", &self.path))
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // What stays is swept.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether an extent is what its digest says; `Err` says what it is instead.
pub(super) fn check(root: &Path, digest: &Digest, length: usize) -> Result<(), String> {
    let mut octets = Vec::with_capacity(length + 1);
    let read = File::open(extent_path(root, digest))
        .and_then(|file| file.take(length as u64 + 1).read_to_end(&mut octets));
    match read {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err("missing".to_owned()),
        Err(e) => Err(e.to_string()),
        Ok(count) if count > length => Err(format!("longer than {length} octets")),
        Ok(count) if count < length => Err(format!("{count} octets long, not {length}")),
        Ok(_) if image::digest(&octets) != *digest => Err("of other content".to_owned()),
        Ok(_) => Ok(()),
    }
}

/// Calls `visit` with each file below a directory and its size. One that is gone is no error.
pub(super) fn each(
    directory: &Path,
    visit: &mut dyn FnMut(&Path, u64) -> io::Result<()>,
) -> Result<(), LibraryError> {
    for entry in fs::read_dir(directory).map_err(LibraryError::io("list", directory))? {
        let entry = entry.map_err(LibraryError::io("list", directory))?;
        let path = entry.path();
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => each(&path, visit)?,
            Ok(meta) => visit(&path, meta.len()).map_err(LibraryError::io("remove", &path))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(LibraryError::io("look at", &path)(e)),
        }
    }
    Ok(())
}
