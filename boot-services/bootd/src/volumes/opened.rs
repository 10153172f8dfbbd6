use super::file::Opened;
use super::{Extents, Volumes, VolumesError};
use boot::VolumeId;
use core::ops::ControlFlow;
use image::volume::{Depth, Layer, Place, Provisioning, Volume, VolumeError, Writing};
use nix::fcntl::Flock;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

/// A volume that is open, by nobody else. Any number of threads use it at once. When it is dropped it is
/// flushed and closed.
#[derive(Debug)]
pub struct OpenVolume {
    id: VolumeId,
    volume: Volume<Opened, Extents>,
    /// Held by who changes what it stands on.
    shape: Mutex<()>,
    volumes: Volumes,
    /// Given back last.
    _lock: Flock<File>,
}

/// Some octets of a volume that are in one file, or zero.
#[derive(Clone, Debug)]
pub struct Segment {
    /// How many.
    pub length: u64,
    /// The file, and where in it; none: zeros.
    pub file: Option<(Arc<File>, u64)>,
}

impl OpenVolume {
    pub(super) fn new(
        id: VolumeId,
        volume: Volume<Opened, Extents>,
        lock: Flock<File>,
        volumes: Volumes,
    ) -> OpenVolume {
        OpenVolume { id, volume, shape: Mutex::new(()), volumes, _lock: lock }
    }

    /// Its name.
    pub fn id(&self) -> &VolumeId {
        &self.id
    }

    /// Its octets.
    pub fn size(&self) -> u64 {
        self.volume.size()
    }

    /// Octets that it holds itself.
    pub fn allocated(&self) -> Result<u64, VolumesError> {
        self.volume.allocated().map_err(VolumesError::of(&self.id))
    }

    /// Fills `into` with the octets from `offset` on.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), VolumesError> {
        self.volume.read_at(offset, into).map_err(VolumesError::of(&self.id))
    }

    /// Writes octets at `offset`; [`flush`](OpenVolume::flush) puts them on the disk. If it fails, each sector
    /// of them is as before or as written.
    pub fn write_at(&self, offset: u64, octets: &[u8]) -> Result<(), VolumesError> {
        self.volume.write_at(offset, octets).map_err(VolumesError::of(&self.id))
    }

    /// Begins to write `length` octets at `offset`, which the caller puts into the file that this gives, each
    /// at its offset in the volume, before [`Writing::finish`].
    pub fn writing(&self, offset: u64, length: u64) -> Result<Writing<'_, Opened, Extents>, VolumesError> {
        self.volume.writing(offset, length).map_err(VolumesError::of(&self.id))
    }

    /// Makes octets zero; whole blocks of 4 KiB give their room back.
    pub fn zero(&self, offset: u64, length: u64) -> Result<(), VolumesError> {
        self.volume.zero(offset, length).map_err(VolumesError::of(&self.id))
    }

    /// Returns when all that was written before is on the disk. Those who call at once share one sync.
    pub fn flush(&self) -> Result<(), VolumesError> {
        self.volume.flush().map_err(VolumesError::of(&self.id))
    }

    /// Whether there is something at `offset`, and for how many octets from it on the same is true.
    pub fn provisioned(&self, offset: u64) -> Result<(Provisioning, u64), VolumesError> {
        self.volume.provisioned(offset).map_err(VolumesError::of(&self.id))
    }

    /// In which files octets are, in order, to be sent from there. Extents of the image are compared with their
    /// digests when they are first asked for.
    pub fn segments(&self, offset: u64, length: u64) -> Result<Vec<Segment>, VolumesError> {
        let places = self.volume.segments(offset, length).map_err(VolumesError::of(&self.id))?;
        let mut at = offset;
        let mut segments = Vec::with_capacity(places.len());
        for image::volume::Segment { length, place } in places {
            let file = match place {
                Place::Zero => None,
                Place::Layer { layer, offset } => Some((layer.data().file().clone(), offset)),
                Place::Extent { digest, skip } => {
                    let io =
                        |source| VolumeError::Io { doing: "open the image's extent", offset: at, source };
                    let file = self.volumes.0.extents.file(&digest).map_err(io);
                    Some((file.map_err(VolumesError::of(&self.id))?, skip))
                }
            };
            segments.push(Segment { length, file });
            at += length;
        }
        Ok(segments)
    }

    pub(super) fn volume(&self) -> &Volume<Opened, Extents> {
        &self.volume
    }

    /// Becomes the only one who changes what it stands on.
    pub(super) fn alone(&self) -> Result<MutexGuard<'_, ()>, VolumesError> {
        match self.shape.try_lock() {
            Ok(guard) => Ok(guard),
            Err(TryLockError::Poisoned(guard)) => Ok(guard.into_inner()),
            Err(TryLockError::WouldBlock) => Err(VolumesError::Busy(self.id.clone())),
        }
    }

    pub(super) fn freeze(
        &self,
        own: Arc<Layer<Opened>>,
        commit: impl FnOnce() -> Result<(), VolumesError>,
    ) -> Result<Arc<Layer<Opened>>, VolumesError> {
        self.named(self.volume.freeze(own, || commit().map_err(Either::Outer)))
    }

    pub(super) fn flatten(
        &self,
        depth: Depth,
        tell: &mut dyn FnMut(u64) -> ControlFlow<()>,
        commit: impl FnOnce() -> Result<(), VolumesError>,
    ) -> Result<ControlFlow<()>, VolumesError> {
        self.named(self.volume.flatten(depth, tell, || commit().map_err(Either::Outer)))
    }

    fn named<T>(&self, result: Result<T, Either>) -> Result<T, VolumesError> {
        result.map_err(|e| match e {
            Either::Inner(source) => VolumesError::Volume { id: self.id.clone(), source },
            Either::Outer(error) => error,
        })
    }
}

/// An error of the volume, which knows no name, or of its files, which knows one.
enum Either {
    Inner(VolumeError),
    Outer(VolumesError),
}

impl From<VolumeError> for Either {
    fn from(error: VolumeError) -> Either {
        Either::Inner(error)
    }
}

impl Drop for OpenVolume {
    fn drop(&mut self) {
        match self.volume.settle() {
            Ok(()) => {
                if let Some(own) = self.volume.layers().first() {
                    self.volumes.remove_live(own);
                }
            }
            Err(e) => {
                log::error!(target: "volumes", volume:% = self.id, error:% = e; "volume not flushed when it was closed")
            }
        }
    }
}
