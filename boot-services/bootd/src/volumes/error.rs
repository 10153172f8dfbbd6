use boot::{Digest, VolumeId};
use core::fmt;
use image::volume::VolumeError;
use std::io;
use std::path::{Path, PathBuf};

/// Why the volumes cannot do what they were asked for.
#[derive(Debug)]
pub enum VolumesError {
    /// There is no such volume.
    NotFound(VolumeId),
    /// There is no such image to stand on.
    NoImage {
        /// The image.
        image: Digest,
        /// Why.
        why: String,
    },
    /// There is a volume of that name that was made from something else or is of another size.
    Different {
        /// Which.
        id: VolumeId,
        /// How it differs.
        how: String,
    },
    /// Somebody has it open.
    InUse {
        /// Which.
        id: VolumeId,
        /// The process, if it said so.
        by: Option<u32>,
    },
    /// It is being copied or flattened.
    Busy(VolumeId),
    /// Its size is not one a volume of that source may have.
    Size {
        /// Which.
        id: VolumeId,
        /// What was asked for.
        size: u64,
        /// Its source's.
        least: u64,
    },
    /// What is written of it is damaged.
    Damaged {
        /// Which.
        id: VolumeId,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It cannot be read or written.
    Volume {
        /// Which.
        id: VolumeId,
        /// Why.
        source: VolumeError,
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

impl VolumesError {
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> VolumesError {
        let path = path.to_owned();
        move |source| VolumesError::Io { doing, path, source }
    }

    pub(super) fn of(id: &VolumeId) -> impl FnOnce(VolumeError) -> VolumesError {
        let id = id.clone();
        move |source| VolumesError::Volume { id, source }
    }

    /// Whether it is for lack of room on the disk, and the same call may succeed later.
    pub fn is_full(&self) -> bool {
        match self {
            VolumesError::Volume { source, .. } => source.is_full(),
            VolumesError::Io { source, .. } => crate::library::is_full(source),
            _ => false,
        }
    }
}

impl fmt::Display for VolumesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VolumesError::NotFound(id) => {
                write!(f, "there is no volume {id}; list the volumes, or create it")
            }
            VolumesError::NoImage { image, why } => {
                write!(f, "no volume can stand on image {image}: {why}")
            }
            VolumesError::Different { id, how } => {
                write!(f, "there is a volume {id} already, {how}; choose another name, or remove it first")
            }
            VolumesError::InUse { id, by: Some(by) } => {
                write!(
                    f,
                    "volume {id} is in use by process {by}, and may have one user only; end that use first"
                )
            }
            VolumesError::InUse { id, by: None } => {
                write!(
                    f,
                    "volume {id} is in use by another process, and may have one user only; end that use first"
                )
            }
            VolumesError::Busy(id) => {
                write!(f, "volume {id} is just being copied or flattened; try again when that is done")
            }
            VolumesError::Size { id, size, least } => write!(
                f,
                "volume {id} cannot be of {size} octets: give a multiple of {}, at least {least} (its source's), at most {}",
                image::SECTOR,
                image::MAX_SIZE
            ),
            VolumesError::Damaged { id, path, why } => write!(
                f,
                "volume {id}: {} is damaged ({why}); restore it from a copy, or remove the volume",
                path.display()
            ),
            VolumesError::Volume { id, source } => write!(f, "volume {id}: {source}"),
            VolumesError::Io { doing, path, source } => {
                write!(f, "cannot {doing} {}: {source}; see to the disk and its permissions", path.display())
            }
        }
    }
}

impl core::error::Error for VolumesError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            VolumesError::Volume { source, .. } => core::error::Error::source(source),
            VolumesError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
