//! The directory of volumes, on files.
//!
//! ```text
//!   ROOT/ID/volume.json          what the volume is: written last, so that it is one
//!   ROOT/ID/lock                 held by whoever has it open, with the number of the process
//!   ROOT/.layers/LAYER/data      the blocks of a layer; sparse
//!   ROOT/.layers/LAYER/map       which these are, as it was flushed
//!   ROOT/.layers/LAYER/live      the same as it is now; only while the layer is written to
//!   ROOT/.bases/IMAGE.json       the manifest of an image that volumes stand on
//!   ROOT/.lock                   held while a volume is made, copied or removed
//! ```
//!
//! A volume has one user at a time, in whatever process: [`Volumes::open`] refuses a second. Layers belong to
//! every volume that lists them, and go with the last. A process killed in the middle of making something
//! leaves layers and bases that nobody lists, which go when the next volume is removed, or by
//! [`Volumes::sweep`].
//!
//! What a volume stands on stays when its image is removed: [`Library`] keeps the extents of all that is in
//! `.bases` if it is told of this directory ([`Library::with_volumes`]).
//!
//! Every call blocks until the disk answered; callers use threads of their own.

mod directory;
mod error;
mod extents;
mod file;
mod opened;
mod record;

pub use error::VolumesError;
pub use extents::Extents;
pub use file::Opened;
pub use opened::{OpenVolume, Segment};

use crate::library::{Library, LibraryError, manifests};
use boot::{Digest, VolumeId, VolumeSource};
use core::ops::ControlFlow;
use image::volume::{Base, Depth, Layer, LayerId, Volume};
use record::{LayerRecord, Record};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// A directory of volumes. Making one of these touches no disk. Its clones are the same.
#[derive(Clone, Debug)]
pub struct Volumes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    library: Library,
    extents: Extents,
    open: Mutex<Open>,
}

/// What this process has open, so that it is open once.
#[derive(Debug, Default)]
struct Open {
    volumes: HashMap<VolumeId, Weak<OpenVolume>>,
    layers: HashMap<LayerId, Weak<Layer<Opened>>>,
    bases: HashMap<Digest, Weak<Base<Extents>>>,
}

/// What came of asking for something to be so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// It was so.
    Already,
    /// It is so now.
    Changed,
}

/// A volume of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub id: VolumeId,
    /// Its octets.
    pub size: u64,
    /// What it was made from.
    pub source: VolumeSource,
    /// The image it stands on now.
    pub base: Option<Digest>,
    /// Layers it stands on, its own counted.
    pub layers: usize,
}

impl Listed {
    /// Whether it needs nothing of what it was made from.
    pub fn is_flat(&self) -> bool {
        self.base.is_none() && self.layers == 1
    }
}

/// A volume at one moment, in files that stay as they are.
#[derive(Clone, Debug)]
pub struct Still {
    /// What is to be in its `volume.json`.
    pub record: Vec<u8>,
    /// The files of its layers, below the directory of volumes.
    pub files: Vec<PathBuf>,
    /// The image it stands on.
    pub base: Option<Foundation>,
}

/// An image that a volume stands on.
#[derive(Clone, Debug)]
pub struct Foundation {
    /// The file of its manifest, below the directory of volumes.
    pub manifest: PathBuf,
    /// Its extents, which are with the images.
    pub extents: Vec<Digest>,
}

/// Damage that was found, and whom it hurts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hurt {
    /// The volumes.
    pub volumes: Vec<VolumeId>,
    /// What is wrong: which file, where in the volumes, and what to do.
    pub what: String,
    /// Whether octets of these volumes cannot be read; otherwise a second copy serves.
    pub lost: bool,
}

impl Volumes {
    /// The volumes in a directory, over the images of a library. The directory is made by the first volume.
    pub fn new(root: impl Into<PathBuf>, library: Library) -> Volumes {
        let extents = Extents::new(library.root().to_owned());
        Volumes(Arc::new(Inner { root: root.into(), library, extents, open: Mutex::default() }))
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// The directory of a volume, in which others may keep what belongs to it; it goes with the volume.
    pub fn directory(&self, id: &VolumeId) -> PathBuf {
        self.0.root.join(id.as_str())
    }

    fn registry(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The volumes, by name.
    pub fn list(&self) -> Result<Vec<Listed>, VolumesError> {
        let mut listed = Vec::new();
        for id in self.ids()? {
            // One that is not there was removed in between, or never made to its end.
            if let Some(record) = self.record(&id)? {
                listed.push(look(id, &record));
            }
        }
        Ok(listed)
    }

    /// A volume.
    pub fn get(&self, id: &VolumeId) -> Result<Listed, VolumesError> {
        let record = self.record(id)?.ok_or_else(|| VolumesError::NotFound(id.clone()))?;
        Ok(look(id.clone(), &record))
    }

    /// Sees to it that there is a volume of that source and size, a multiple of 512 octets and at least the
    /// source's. Nothing is copied, so that it takes as long for any size. It is on the disk when this returns;
    /// killed at any point, there is a whole volume or none.
    ///
    /// A copy is of what the other volume holds at that moment, which may be open in this process and in use.
    ///
    /// # Errors
    /// There is one of that name, of another source or size. The source is not there, or is a volume that is
    /// in use by another process. The disk is full.
    pub fn create(&self, id: &VolumeId, source: &VolumeSource, size: u64) -> Result<Did, VolumesError> {
        if let Some(record) = self.record(id)? {
            return as_asked(id, &record, source, size);
        }
        self.make_directories()?;
        match source {
            VolumeSource::Volume(from) => {
                let from = self.user_of(from)?;
                let _shape = from.alone()?;
                let _lock = self.lock()?;
                self.create_locked(id, source, size, |volumes| volumes.copy_of(id, &from, size))
            }
            VolumeSource::Blank => {
                let _lock = self.lock()?;
                self.create_locked(id, source, size, |volumes| volumes.blank(id, size))
            }
            VolumeSource::Image(image) => {
                let _lock = self.lock()?;
                self.create_locked(id, source, size, |volumes| volumes.clone_of(id, image, size))
            }
        }
    }

    fn create_locked(
        &self,
        id: &VolumeId,
        source: &VolumeSource,
        size: u64,
        make: impl FnOnce(&Volumes) -> Result<(Option<Digest>, Vec<LayerRecord>), VolumesError>,
    ) -> Result<Did, VolumesError> {
        if let Some(record) = self.record(id)? {
            return as_asked(id, &record, source, size);
        }
        let made = make(self).and_then(|(base, layers)| {
            self.put_record(id, &Record::new(size, source.clone(), base, layers))?;
            // An image that was removed while this stood on it without having written so may have lost extents.
            match base {
                Some(image) if matches!(source, VolumeSource::Image(_)) => self.still_there(id, &image),
                _ => Ok(()),
            }
        });
        match made {
            Ok(()) => Ok(Did::Changed),
            Err(e) => {
                if let Err(left) = self.sweep_locked() {
                    log::warn!(target: "volumes", volume:% = id, error:% = left; "remains of a failed volume not removed");
                }
                Err(e)
            }
        }
    }

    fn blank(&self, id: &VolumeId, size: u64) -> Result<(Option<Digest>, Vec<LayerRecord>), VolumesError> {
        fits(id, size, 0)?;
        Ok((None, vec![self.new_layer(id, size)?]))
    }

    fn clone_of(
        &self,
        id: &VolumeId,
        image: &Digest,
        size: u64,
    ) -> Result<(Option<Digest>, Vec<LayerRecord>), VolumesError> {
        let base = self.keep_base(image)?;
        fits(id, size, base.manifest().size())?;
        Ok((Some(*image), vec![self.new_layer(id, size)?]))
    }

    fn copy_of(
        &self,
        id: &VolumeId,
        from: &OpenVolume,
        size: u64,
    ) -> Result<(Option<Digest>, Vec<LayerRecord>), VolumesError> {
        fits(id, size, from.size())?;
        let mut record = self.record(from.id())?.ok_or_else(|| VolumesError::NotFound(from.id().clone()))?;
        let own = self.new_layer(id, size)?;
        let untouched = from.volume().is_untouched().map_err(VolumesError::of(from.id()))?;
        if untouched {
            // What nobody wrote to need not be shared.
            record.layers.remove(0);
        } else {
            let next = self.new_layer(from.id(), from.size())?;
            let layer = Arc::new(self.open_own(from.id(), &next)?);
            record.layers.insert(0, next);
            let frozen = from.freeze(layer, || self.put_record(from.id(), &record))?;
            record.layers.remove(0);
            // It is as the map says from now on.
            self.remove_live(&frozen.id());
            self.registry().layers.insert(frozen.id(), Arc::downgrade(&frozen));
        }
        let layers = core::iter::once(own).chain(record.layers).collect();
        Ok((record.base, layers))
    }

    /// Opens a volume; nobody else can until what this gives is dropped.
    ///
    /// # Errors
    /// It is in use, by this process or another.
    pub fn open(&self, id: &VolumeId) -> Result<Arc<OpenVolume>, VolumesError> {
        let lock = self.take(id)?;
        let record = self.record(id)?.ok_or_else(|| VolumesError::NotFound(id.clone()))?;
        let base = record.base.as_ref().map(|image| self.base(image)).transpose()?;
        let (own, frozen) = record.layers.split_first().expect("a record without a layer is none");
        let mut layers = vec![Arc::new(self.open_own(id, own)?)];
        for layer in frozen {
            layers.push(self.open_frozen(id, layer)?);
        }
        let volume = Volume::new(record.size, layers, base).map_err(VolumesError::of(id))?;
        let opened = Arc::new(OpenVolume::new(id.clone(), volume, lock, self.clone()));
        self.registry().volumes.insert(id.clone(), Arc::downgrade(&opened));
        Ok(opened)
    }

    /// The one user of a volume: this process's, or a new one.
    fn user_of(&self, id: &VolumeId) -> Result<Arc<OpenVolume>, VolumesError> {
        let known = self.registry().volumes.get(id).and_then(Weak::upgrade);
        known.map_or_else(|| self.open(id), Ok)
    }

    /// Copies into a volume what it stands on, so that it needs that no more: its other layers, or all there
    /// is. It may be open in this process and in use. Killed or stopped by `tell`, which is told the octets
    /// of the volume that are done, the next call goes on where it was.
    pub fn flatten(
        &self,
        id: &VolumeId,
        depth: Depth,
        tell: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<ControlFlow<(), Did>, VolumesError> {
        let volume = self.user_of(id)?;
        let _shape = volume.alone()?;
        let mut record = self.record(id)?.ok_or_else(|| VolumesError::NotFound(id.clone()))?;
        if record.layers.len() == 1 && (depth == Depth::Layers || record.base.is_none()) {
            return Ok(ControlFlow::Continue(Did::Already));
        }
        record.layers.truncate(1);
        if depth == Depth::All {
            record.base = None;
        }
        let done = volume.flatten(depth, tell, || {
            let _lock = self.lock()?;
            self.put_record(id, &record)
        })?;
        if done.is_continue() {
            let _lock = self.lock()?;
            self.sweep_locked()?;
        }
        Ok(match done {
            ControlFlow::Continue(()) => ControlFlow::Continue(Did::Changed),
            ControlFlow::Break(()) => ControlFlow::Break(()),
        })
    }

    /// Sees to it that there is no such volume, and that what only it needed is gone.
    ///
    /// # Errors
    /// It is in use.
    pub fn remove(&self, id: &VolumeId) -> Result<Did, VolumesError> {
        if !self.directory(id).exists() {
            return Ok(Did::Already);
        }
        let _lock = self.lock()?;
        let _use = self.take(id)?;
        let did = if self.record_path(id).exists() { Did::Changed } else { Did::Already };
        self.remove_directory(id)?;
        if let Err(left) = self.sweep_locked() {
            // Another volume's damage; what this one held stays until that is mended.
            log::warn!(target: "volumes", volume:% = id, error:% = left; "layers of a removed volume stay");
        }
        Ok(did)
    }

    /// Removes what no volume needs: what was left when a process was killed.
    pub fn sweep(&self) -> Result<(), VolumesError> {
        if !self.0.root.exists() {
            return Ok(());
        }
        let _lock = self.lock()?;
        self.sweep_locked()
    }

    /// A volume as its snapshot holds it, for a copy elsewhere: nobody writes to these files while the snapshot is there.
    ///
    /// # Errors
    /// One of the two is not there, or is damaged.
    pub fn still(&self, id: &VolumeId, snapshot: &VolumeId) -> Result<Still, VolumesError> {
        let found = |id: &VolumeId| self.record(id)?.ok_or_else(|| VolumesError::NotFound(id.clone()));
        let (live, copy) = (found(id)?, found(snapshot)?);
        let files = copy.layers.iter().flat_map(|layer| {
            ["data", "map"].map(|name| Path::new(directory::LAYERS).join(layer.id.to_string()).join(name))
        });
        let files = files.collect();
        let record = Record::new(live.size, live.source, copy.base, copy.layers);
        let record =
            record.encode().map_err(|e| VolumesError::io("write", &self.record_path(id))(e.into()))?;
        let base = copy.base.map(|image| {
            let path = manifests::path(Path::new(manifests::BASES), &image);
            manifests::read(&self.0.root.join(&path), &image).map(|(manifest, _)| {
                let extents = manifest.extents().iter().flatten().copied().collect();
                Foundation { manifest: path, extents }
            })
        });
        let base = base.transpose().map_err(|e| {
            let image = copy.base.expect("only a volume with a base has one that cannot be read");
            Self::library_error(&image)(e)
        })?;
        Ok(Still { record, files, base })
    }

    /// Reads every map and every extent that volumes stand on and gives what is damaged. What is in the
    /// volumes' own blocks has no checksum, and is not looked at. `tell` is called once for each volume.
    pub fn scrub(&self, tell: &mut dyn FnMut(&VolumeId)) -> Result<Vec<Hurt>, VolumesError> {
        directory::scrub(self, tell)
    }

    fn library_error(image: &Digest) -> impl FnOnce(LibraryError) -> VolumesError {
        let image = *image;
        move |error| match error {
            LibraryError::Io { doing, path, source } => VolumesError::Io { doing, path, source },
            other => VolumesError::NoImage { image, why: other.to_string() },
        }
    }

    /// The manifest of an image, kept beside the volumes from now on.
    fn keep_base(&self, image: &Digest) -> Result<Arc<Base<Extents>>, VolumesError> {
        let path = manifests::path(&self.0.root.join(manifests::BASES), image);
        if path.exists() {
            return self.base(image);
        }
        let (manifest, octets) = manifests::read(&self.0.library.manifest_path(image), image)
            .map_err(Self::library_error(image))?;
        record::replace(&path, &octets)?;
        Ok(self.register(Base::new(*image, manifest, self.0.extents.clone())))
    }

    /// An image that a volume stands on.
    fn base(&self, image: &Digest) -> Result<Arc<Base<Extents>>, VolumesError> {
        if let Some(known) = self.registry().bases.get(image).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let path = manifests::path(&self.0.root.join(manifests::BASES), image);
        let (manifest, _) = manifests::read(&path, image).map_err(Self::library_error(image))?;
        Ok(self.register(Base::new(*image, manifest, self.0.extents.clone())))
    }

    /// The same for all who have it open.
    fn register(&self, base: Base<Extents>) -> Arc<Base<Extents>> {
        let mut registry = self.registry();
        registry.bases.retain(|_, base| base.strong_count() > 0);
        if let Some(known) = registry.bases.get(&base.id()).and_then(Weak::upgrade) {
            return known;
        }
        let base = Arc::new(base);
        registry.bases.insert(base.id(), Arc::downgrade(&base));
        base
    }

    /// A volume was made over an image: whether the image was there after this was written down. If it was
    /// not, somebody removed it and may not have seen that it is needed.
    fn still_there(&self, id: &VolumeId, image: &Digest) -> Result<(), VolumesError> {
        // A base that other volumes had before is safe.
        let others = self.list()?.into_iter().any(|other| other.base == Some(*image) && other.id != *id);
        if others || self.0.library.contains(image) {
            return Ok(());
        }
        self.remove_directory(id)?;
        Err(VolumesError::NoImage {
            image: *image,
            why: "it was removed at the same moment; import it again".to_owned(),
        })
    }
}

fn look(id: VolumeId, record: &Record) -> Listed {
    let Record { size, source, base, layers, .. } = record;
    Listed { id, size: *size, source: source.clone(), base: *base, layers: layers.len() }
}

fn as_asked(id: &VolumeId, record: &Record, source: &VolumeSource, size: u64) -> Result<Did, VolumesError> {
    let how = match record {
        Record { source: there, .. } if there != source => format!("made from {}", describe(there)),
        Record { size: there, .. } if *there != size => format!("of {there} octets"),
        _ => return Ok(Did::Already),
    };
    Err(VolumesError::Different { id: id.clone(), how })
}

fn describe(source: &VolumeSource) -> String {
    match source {
        VolumeSource::Blank => "nothing".to_owned(),
        VolumeSource::Image(image) => format!("image {image}"),
        VolumeSource::Volume(id) => format!("volume {id}"),
    }
}

fn fits(id: &VolumeId, size: u64, least: u64) -> Result<(), VolumesError> {
    let right = size.is_multiple_of(image::SECTOR) && size >= least.max(1) && size <= image::MAX_SIZE;
    if right { Ok(()) } else { Err(VolumesError::Size { id: id.clone(), size, least }) }
}

#[cfg(test)]
mod tests;
