//! Imports that broke off: which extents they had kept, so that the next try need not write them again.
//!
//! `ROOT/unfinished/NAME` is a list of digests, of 32 octets each, that grows while an import runs. It is a
//! hint and nothing is synced for it: what it does not name is written again.

use super::LibraryError;
use boot::Digest;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Broken imports whose extents are kept: the latest ones.
const MOST: usize = 4;

/// The longest list that is read: of an image of the largest size.
const MAX: u64 = (image::MAX_SIZE / image::EXTENT as u64) * 32;

/// The list of an import that runs; made when it has something to list.
pub(super) struct Unfinished {
    path: PathBuf,
    file: Option<io::Result<File>>,
}

impl Unfinished {
    pub(super) fn begin(root: &Path) -> Unfinished {
        let name = super::shelf::fresh(root).file_name().map(PathBuf::from).unwrap_or_default();
        Unfinished { path: root.join("unfinished").join(name), file: None }
    }

    fn create(&self) -> io::Result<File> {
        self.path.parent().map_or(Ok(()), fs::create_dir_all)?;
        File::create(&self.path)
    }

    /// An extent is in the library.
    pub(super) fn keep(&mut self, digest: &Digest) {
        let file = self.file.take().unwrap_or_else(|| self.create());
        // Without a list the next try only has more to do.
        self.file = Some(file.and_then(|mut file| file.write_all(&digest.0).map(|()| file)));
    }

    /// The import will not be gone on with.
    pub(super) fn forget(self) {
        // What stays is one of the latest for a while, and then goes.
        let _ = fs::remove_file(&self.path);
    }
}

/// The lists, the latest first.
fn lists(root: &Path) -> Result<Vec<PathBuf>, LibraryError> {
    let directory = root.join("unfinished");
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(LibraryError::io("list", &directory)(e)),
    };
    let mut lists = Vec::new();
    for entry in entries {
        let entry = entry.map_err(LibraryError::io("list", &directory))?;
        let written = entry.metadata().and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        lists.push((written, entry.path()));
    }
    lists.sort();
    Ok(lists.into_iter().rev().map(|(_, path)| path).collect())
}

fn read(path: &Path) -> io::Result<Vec<Digest>> {
    let mut octets = Vec::new();
    File::open(path)?.take(MAX).read_to_end(&mut octets)?;
    Ok(octets.as_chunks().0.iter().copied().map(Digest).collect())
}

/// An image is whole: broken imports that held nothing else are done with.
pub(super) fn done(root: &Path, image: impl Iterator<Item = Digest>) -> Result<(), LibraryError> {
    let lists = lists(root)?;
    if lists.is_empty() {
        return Ok(());
    }
    let image: HashSet<Digest> = image.collect();
    for path in lists {
        // Of one that is going anyway nothing need be known.
        if read(&path).is_ok_and(|digests| digests.iter().all(|digest| image.contains(digest))) {
            let _ = fs::remove_file(&path);
        }
    }
    Ok(())
}

/// The extents of the latest broken imports; older ones are forgotten. No import runs.
pub(super) fn needed(root: &Path) -> Result<Vec<Digest>, LibraryError> {
    let mut digests = Vec::new();
    for (index, path) in lists(root)?.into_iter().enumerate() {
        if index < MOST {
            digests.extend(read(&path).map_err(LibraryError::io("read", &path))?);
        } else {
            fs::remove_file(&path).map_err(LibraryError::io("remove", &path))?;
        }
    }
    Ok(digests)
}
