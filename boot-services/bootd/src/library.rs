//! The directory of images, on files.
//!
//! ```text
//!   ROOT/extents/ab/abcdef…      an extent, named by its digest; one file for all images that hold it
//!   ROOT/images/DIGEST.json      a manifest, named by its digest: written last, so that it is an image
//!   ROOT/incoming/               what is being written; nothing here means anything
//!   ROOT/unfinished/             of imports that broke off: which extents they had kept
//!   ROOT/lock                    shared while an import runs, exclusive while the unused is removed
//! ```
//!
//! A manifest is renamed into place when everything it lists is on disk. An extent that is there already is
//! compared with the one at hand and replaced if it differs: importing an image again heals it.
//!
//! An upload that broke off, or whose import was killed, leaves extents that no manifest lists. It is resumed
//! by giving it again, from its beginning, for packed content cannot be entered in the middle: what was kept
//! is not written again. [`Library::sweep`] keeps the extents of the last four of these and removes all
//! others that no manifest lists.
//!
//! Every call blocks until the disk answered; callers use threads of their own. Reading takes no lock.

mod error;
pub(crate) mod manifests;
mod reader;
mod shelf;
mod unfinished;

pub use error::LibraryError;
pub use reader::Reader;
pub use shelf::Modest;
pub(crate) use shelf::{extent_path, is_full};

use boot::Digest;
use image::{Format, ImportError, Manifest, Progress, RandomRead, Sha256, Terms};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use shelf::{Shelf, Spool};
use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// A directory of images. Making one of these touches no disk.
#[derive(Clone, Debug)]
pub struct Library {
    root: PathBuf,
    volumes: Option<PathBuf>,
}

/// An image that was imported, or was there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// Its name.
    pub id: Digest,
    /// Octets of the disk it describes.
    pub size: u64,
    /// Of these, octets that are no holes.
    pub data_bytes: u64,
    /// Octets that had to be written because no other image held them.
    pub new_bytes: u64,
    /// SHA-256 of the raw content as it came, before it was padded to a multiple of 512 octets.
    pub sha256: Sha256,
    /// Zeros that were appended to make the size a multiple of 512 octets.
    pub padding: u64,
    /// How the upload was packed.
    pub format: Format,
}

/// An image of the library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Its name.
    pub id: Digest,
    /// Octets of the disk it describes.
    pub size: u64,
    /// Of these, octets that are no holes.
    pub data_bytes: u64,
    /// SHA-256 of its raw content.
    pub sha256: Sha256,
}

/// An extent of an image that is not what its digest says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadExtent {
    /// Where it begins in the image.
    pub offset: u64,
    /// What it should be.
    pub digest: Digest,
    /// What it is: `missing`, `N octets long, not M`, `of other content`, or what reading it said.
    pub why: String,
}

/// An image that is not whole any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hurt {
    /// Which.
    pub image: Digest,
    /// What is wrong with its manifest.
    pub manifest: Option<String>,
    /// Its extents that are bad.
    pub extents: Vec<BadExtent>,
}

/// What was removed because no image needs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Extents.
    pub extents: u64,
    /// Files of broken imports.
    pub incoming: u64,
    /// Octets of both.
    pub bytes: u64,
}

impl Library {
    /// The library in a directory. It is made by the first import.
    pub fn new(root: impl Into<PathBuf>) -> Library {
        Library { root: root.into(), volumes: None }
    }

    /// The same library, which keeps what the volumes of that directory stand on, whatever images are removed.
    pub fn with_volumes(self, directory: impl Into<PathBuf>) -> Library {
        Library { volumes: Some(directory.into()), ..self }
    }

    /// Its directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn manifest_path(&self, id: &Digest) -> PathBuf {
        manifests::path(&self.root.join("images"), id)
    }

    fn lock(&self, how: FlockArg) -> Result<Option<Flock<File>>, LibraryError> {
        let path = self.root.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(LibraryError::io("open", &path))?;
        match Flock::lock(file, how) {
            Ok(lock) => Ok(Some(lock)),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(LibraryError::io("lock", &path)(errno.into())),
        }
    }

    fn make_directories(&self) -> Result<(), LibraryError> {
        for part in ["extents", "images", "incoming"] {
            let path = self.root.join(part);
            fs::create_dir_all(&path).map_err(LibraryError::io("make the directory", &path))?;
        }
        Ok(())
    }

    /// Imports an upload of any of [`Format`]'s formats; qcow2 is saved to the disk first. `progress` is
    /// called about once per MiB. The image exists when this returns, and is on disk. If it fails, nothing is
    /// left behind, unless the upload broke off: then the next import of it writes only what is missing.
    pub fn import(
        &self,
        upload: impl Read,
        terms: &Terms,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Imported, LibraryError> {
        self.make_directories()?;
        let imported = {
            let _lock = self.lock(FlockArg::LockShared)?;
            self.import_locked(upload, terms, progress)
        };
        if let Err(failure) = &imported
            && let Err(left) = self.sweep()
        {
            log::warn!(target: "library", failure:% = failure, error:% = left; "extents of a failed import not removed");
        }
        imported
    }

    fn import_locked(
        &self,
        mut upload: impl Read,
        terms: &Terms,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Imported, LibraryError> {
        let mut head = Vec::new();
        (&mut upload)
            .take(512)
            .read_to_end(&mut head)
            .map_err(|source| LibraryError::Import(ImportError::Source { at: 0, source }))?;
        let packed = terms.format.unwrap_or_else(|| Format::of(&head));
        let upload = io::Cursor::new(head).chain(upload);
        let mut shelf = Shelf::new(&self.root);
        let done = if packed == Format::Qcow2 {
            let spool = Spool::fill(&self.root, upload, progress)?;
            shelf.beside(spool.size());
            image::import_qcow2(Saved(spool.file()?), terms, &mut shelf, progress)
        } else {
            image::import(upload, terms, &mut shelf, progress)
        };
        let new_bytes = shelf.close(&done)?;
        let done = done.map_err(LibraryError::Import)?;
        let id = self.put_manifest(&done.manifest)?;
        unfinished::done(&self.root, done.manifest.digests())?;
        Ok(Imported {
            id,
            size: done.manifest.size(),
            data_bytes: done.manifest.data_bytes(),
            new_bytes,
            sha256: done.manifest.sha256(),
            padding: done.manifest.size() - done.content,
            format: done.format,
        })
    }

    /// Makes the image exist: its extents are on disk before its manifest has its name.
    fn put_manifest(&self, manifest: &Manifest) -> Result<Digest, LibraryError> {
        let root = File::open(&self.root).map_err(LibraryError::io("open", &self.root))?;
        nix::unistd::syncfs(&root).map_err(|e| LibraryError::io("sync", &self.root)(e.into()))?;
        let encoded = manifest.encode();
        let id = image::digest(&encoded);
        let fresh = shelf::fresh(&self.root);
        let write = || -> io::Result<()> {
            let mut file = File::options().write(true).create_new(true).open(&fresh)?;
            file.write_all(&encoded)?;
            file.sync_all()
        };
        let path = self.manifest_path(&id);
        let put = write().and_then(|()| fs::rename(&fresh, &path)).and_then(|()| self.sync_images());
        match put {
            Ok(()) => Ok(id),
            Err(e) => {
                // What is left of it is swept by the caller.
                let full = shelf::is_full(&e);
                let needed = encoded.len() as u64;
                Err(if full {
                    LibraryError::full(&self.root, needed)
                } else {
                    LibraryError::io("write", &path)(e)
                })
            }
        }
    }

    fn sync_images(&self) -> io::Result<()> {
        File::open(self.root.join("images"))?.sync_all()
    }

    /// The images, by name.
    pub fn list(&self) -> Result<Vec<Listed>, LibraryError> {
        let mut listed = Vec::new();
        for id in self.ids()? {
            match self.manifest(&id) {
                Ok(manifest) => listed.push(Listed {
                    id,
                    size: manifest.size(),
                    data_bytes: manifest.data_bytes(),
                    sha256: manifest.sha256(),
                }),
                // It was removed in between.
                Err(LibraryError::NotFound(_)) => {}
                Err(e) => return Err(e),
            }
        }
        listed.sort_by_key(|image| image.id);
        Ok(listed)
    }

    pub fn ids(&self) -> Result<Vec<Digest>, LibraryError> {
        manifests::ids(&self.root.join("images"))
    }

    pub fn manifest(&self, id: &Digest) -> Result<Manifest, LibraryError> {
        manifests::read(&self.manifest_path(id), id).map(|(manifest, _)| manifest)
    }

    /// Opens an image for reading.
    pub fn open(&self, id: &Digest) -> Result<Reader, LibraryError> {
        Ok(Reader::new(&self.root, *id, self.manifest(id)?))
    }

    /// Whether there is an image of that name.
    pub fn contains(&self, id: &Digest) -> bool {
        self.manifest_path(id).exists()
    }

    /// Removes an image, and the extents that no other image holds; those stay a while if an import runs.
    /// Gives whether it was there.
    pub fn remove(&self, id: &Digest) -> Result<bool, LibraryError> {
        let path = self.manifest_path(id);
        match fs::remove_file(&path).and_then(|()| self.sync_images()) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(LibraryError::io("remove", &path)(e)),
        }
        self.sweep()?;
        Ok(true)
    }

    /// Reads every extent of an image and compares it with its digest; gives those that are bad.
    /// `progress` is told the octets of the image that are done.
    pub fn verify(&self, id: &Digest, progress: &mut dyn FnMut(u64)) -> Result<Vec<BadExtent>, LibraryError> {
        let manifest = self.manifest(id)?;
        let mut bad = Vec::new();
        for (index, extent) in manifest.extents().iter().enumerate() {
            let offset = index as u64 * image::EXTENT as u64;
            let length = manifest.extent_length(index);
            if let Some(digest) = extent
                && let Err(why) = shelf::check(&self.root, digest, length)
            {
                bad.push(BadExtent { offset, digest: *digest, why });
            }
            progress(offset + length as u64);
        }
        Ok(bad)
    }

    /// Reads every extent of every image once and compares it with its digest; gives the images that a bad one
    /// hurts, by name, and where. An image whose manifest is damaged is hurt in its whole. `progress` is told
    /// the octets that were read.
    pub fn scrub(&self, progress: &mut dyn FnMut(u64)) -> Result<Vec<Hurt>, LibraryError> {
        let mut known: HashMap<Digest, Option<String>> = HashMap::new();
        let (mut read, mut hurt) = (0, Vec::new());
        let mut ids = self.ids()?;
        ids.sort();
        for id in ids {
            let manifest = match self.manifest(&id) {
                Ok(manifest) => manifest,
                Err(LibraryError::NotFound(_)) => continue,
                Err(LibraryError::Damaged { why, .. }) => {
                    hurt.push(Hurt { image: id, manifest: Some(why), extents: Vec::new() });
                    continue;
                }
                Err(e) => return Err(e),
            };
            let mut extents = Vec::new();
            for (index, digest) in manifest.extents().iter().enumerate() {
                let Some(digest) = digest else { continue };
                let length = manifest.extent_length(index);
                let found = known.entry(*digest).or_insert_with(|| {
                    read += length as u64;
                    progress(read);
                    self.check_extent(digest, length).err()
                });
                if let Some(why) = found {
                    let offset = index as u64 * image::EXTENT as u64;
                    extents.push(BadExtent { offset, digest: *digest, why: why.clone() });
                }
            }
            if !extents.is_empty() {
                hurt.push(Hurt { image: id, manifest: None, extents });
            }
        }
        Ok(hurt)
    }

    /// Where the file of an extent is below the directory.
    pub fn extent_name(digest: &Digest) -> PathBuf {
        extent_path(Path::new(""), digest)
    }

    /// Whether an extent is what its digest says; `Err` says what it is instead.
    pub(crate) fn check_extent(&self, digest: &Digest, length: usize) -> Result<(), String> {
        shelf::check(&self.root, digest, length)
    }

    /// Removes extents that no image, volume or recently broken import needs, and files of broken imports. `None`: an import runs, so that
    /// nobody can tell yet what is needed; nothing was removed.
    ///
    /// # Errors
    /// A manifest that is damaged: which extents it lists is not known, so none is removed.
    pub fn sweep(&self) -> Result<Option<Swept>, LibraryError> {
        if !self.root.join("extents").exists() {
            return Ok(Some(Swept::default()));
        }
        let Some(_lock) = self.lock(FlockArg::LockExclusiveNonblock)? else { return Ok(None) };
        // First the images, then what volumes stand on: a volume that is made meanwhile has its base written
        // down before it looks whether the image is still there.
        let mut needed: HashSet<Digest> = unfinished::needed(&self.root)?.into_iter().collect();
        let bases = self.volumes.iter().map(|directory| directory.join(manifests::BASES));
        for directory in core::iter::once(self.root.join("images")).chain(bases) {
            for id in manifests::ids(&directory)? {
                match manifests::read(&manifests::path(&directory, &id), &id) {
                    Ok((manifest, _)) => needed.extend(manifest.digests()),
                    Err(LibraryError::NotFound(_)) => {}
                    Err(e) => return Err(e),
                }
            }
        }
        let mut swept = Swept::default();
        shelf::each(&self.root.join("incoming"), &mut |path, bytes| {
            swept.incoming += 1;
            swept.bytes += bytes;
            fs::remove_file(path)
        })?;
        shelf::each(&self.root.join("extents"), &mut |path, bytes| {
            let name = path.file_name().and_then(|name| name.to_str());
            match name.and_then(|name| name.parse::<Digest>().ok()) {
                Some(digest) if needed.contains(&digest) => Ok(()),
                _ => {
                    swept.extents += 1;
                    swept.bytes += bytes;
                    fs::remove_file(path)
                }
            }
        })?;
        Ok(Some(swept))
    }
}

struct Saved(File);

impl RandomRead for Saved {
    fn size(&self) -> io::Result<u64> {
        self.0.metadata().map(|meta| meta.len())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match self.0.read_at(&mut into[done..], offset.saturating_add(done as u64)) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests;
