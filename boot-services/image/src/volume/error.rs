use super::LayerId;
use boot::Digest;
use core::fmt;
use std::io;

/// Why a volume cannot do what it was asked for. It knows offsets; whoever opened it knows its name.
#[derive(Debug)]
pub enum VolumeError {
    /// The range is not within the volume.
    OutOfRange {
        /// Its first octet.
        offset: u64,
        /// Its octets.
        length: u64,
        /// The volume's octets.
        size: u64,
    },
    /// The disk has no room; what was written before is unharmed.
    Full {
        /// Where in the volume.
        offset: u64,
        /// What the disk said.
        source: io::Error,
    },
    /// A file of the volume refused something.
    Io {
        /// What was to be done: `read`, `write`, `sync`.
        doing: &'static str,
        /// Where in the volume.
        offset: u64,
        /// What it said.
        source: io::Error,
    },
    /// Neither copy of a page of a layer's map is whole: where the octets of this part are is not known.
    DamagedMap {
        /// The layer.
        layer: LayerId,
        /// The first octet of the volume it speaks of.
        offset: u64,
        /// How many it speaks of.
        length: u64,
    },
    /// An extent of the base is not what its digest says.
    DamagedExtent {
        /// The digest.
        digest: Digest,
        /// Where in the volume it begins.
        offset: u64,
    },
    /// It has as many layers as it may.
    TooDeep {
        /// How many these are.
        layers: usize,
    },
    /// Syncing failed before, so that nobody knows what is on the disk; it takes no more writes until it is
    /// opened again.
    Lost,
}

impl VolumeError {
    pub(super) fn io(doing: &'static str, offset: u64) -> impl FnOnce(io::Error) -> VolumeError {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                VolumeError::Full { offset, source }
            }
            _ => VolumeError::Io { doing, offset, source },
        }
    }

    /// Whether it is for lack of room, and the same call may succeed later.
    pub fn is_full(&self) -> bool {
        matches!(self, VolumeError::Full { .. })
    }

    /// The first octet of the volume that it speaks of, if it is one place's.
    pub fn offset(&self) -> Option<u64> {
        match self {
            VolumeError::OutOfRange { offset, .. }
            | VolumeError::Full { offset, .. }
            | VolumeError::Io { offset, .. }
            | VolumeError::DamagedMap { offset, .. }
            | VolumeError::DamagedExtent { offset, .. } => Some(*offset),
            VolumeError::TooDeep { .. } | VolumeError::Lost => None,
        }
    }
}

impl fmt::Display for VolumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VolumeError::OutOfRange { offset, length, size } => {
                write!(f, "{length} octets at {offset} are not within its {size}; ask for what is")
            }
            VolumeError::Full { offset, source } => write!(
                f,
                "no space for what is written at {offset} ({source}); remove images or volumes that nobody needs and write it again"
            ),
            VolumeError::Io { doing, offset, source } => {
                write!(f, "cannot {doing} at {offset}: {source}; see to the disk")
            }
            VolumeError::DamagedMap { layer, offset, length } => write!(
                f,
                "both copies of the map of layer {layer} are damaged where they speak of {length} octets at {offset}; restore the volume from a copy"
            ),
            VolumeError::DamagedExtent { digest, offset } => write!(
                f,
                "the image's extent {digest}, at {offset}, is not what its digest says; import the image again to heal it"
            ),
            VolumeError::TooDeep { layers } => {
                write!(f, "it stands on {layers} layers, the most there may be; flatten it first")
            }
            VolumeError::Lost => f.write_str(
                "the disk failed to keep what was written before; close it, see to the disk and open it again",
            ),
        }
    }
}

impl core::error::Error for VolumeError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            VolumeError::Full { source, .. } | VolumeError::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
