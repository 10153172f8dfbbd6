use super::VolumesError;
use boot::{Digest, VolumeId, VolumeSource};
use image::volume::LayerId;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

/// The longest record, in octets.
const MAX: u64 = 64 << 10;

const VERSION: u8 = 1;

/// What is written of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    version: u8,
    /// Octets.
    pub(super) size: u64,
    /// What it was made from, whatever became of that.
    pub(super) source: VolumeSource,
    /// The image it stands on.
    pub(super) base: Option<Digest>,
    /// Its layers, the own one first.
    pub(super) layers: Vec<LayerRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LayerRecord {
    pub(super) id: LayerId,
    /// Octets of the volume it was made for.
    pub(super) size: u64,
}

/// The record with the digest of its text: a flipped bit is seen.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    check: Digest,
    volume: Box<RawValue>,
}

impl Record {
    pub(super) fn new(
        size: u64,
        source: VolumeSource,
        base: Option<Digest>,
        layers: Vec<LayerRecord>,
    ) -> Record {
        Record { version: VERSION, size, source, base, layers }
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let volume = serde_json::value::to_raw_value(self)?;
        let check = image::digest(volume.get().as_bytes());
        serde_json::to_vec(&Sealed { check, volume })
    }

    fn decode(octets: &[u8]) -> Result<Record, String> {
        let sealed: Sealed = serde_json::from_slice(octets).map_err(|e| e.to_string())?;
        if image::digest(sealed.volume.get().as_bytes()) != sealed.check {
            return Err("its content has another digest than it says".to_owned());
        }
        let record: Record = serde_json::from_str(sealed.volume.get()).map_err(|e| e.to_string())?;
        if record.version != VERSION {
            return Err(format!("of version {}, this release reads {VERSION}", record.version));
        }
        if record.layers.is_empty() {
            return Err("it has no layer".to_owned());
        }
        Ok(record)
    }

    /// Reads the record in a file; `None`: there is none.
    pub(super) fn read(id: &VolumeId, path: &Path) -> Result<Option<Record>, VolumesError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(VolumesError::io("open", path)(e)),
        };
        let mut octets = Vec::new();
        file.take(MAX).read_to_end(&mut octets).map_err(VolumesError::io("read", path))?;
        let damaged = |why| VolumesError::Damaged { id: id.clone(), path: path.to_owned(), why };
        Record::decode(&octets).map(Some).map_err(damaged)
    }

    /// Puts it into a file, whole or not at all; when this returns it is on the disk.
    pub(super) fn write(&self, path: &Path) -> Result<(), VolumesError> {
        let octets = self.encode().map_err(|e| VolumesError::io("write", path)(e.into()))?;
        replace(path, &octets)
    }
}

/// Puts octets into a file, whole or not at all; when this returns they are on the disk.
pub(super) fn replace(path: &Path, octets: &[u8]) -> Result<(), VolumesError> {
    let fresh = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = File::create(&fresh)?;
        file.write_all(octets)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        path.parent().map_or(Ok(()), sync_directory)
    };
    write().map_err(|e| {
        // What stays of it is replaced the next time, or swept.
        let _ = fs::remove_file(&fresh);
        VolumesError::io("write", path)(e)
    })
}

/// Returns when the names in a directory are on the disk.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
