//! Manifests in files, each named by its digest.

use super::LibraryError;
use boot::Digest;
use image::Manifest;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Beside the volumes: the manifests of the images that they stand on.
pub(crate) const BASES: &str = ".bases";

/// The file of a manifest.
pub(crate) fn path(directory: &Path, id: &Digest) -> PathBuf {
    directory.join(format!("{id}.json"))
}

/// The names of the manifests in a directory, which need not exist.
pub(crate) fn ids(directory: &Path) -> Result<Vec<Digest>, LibraryError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(LibraryError::io("list", directory)(e)),
    };
    let mut ids = Vec::new();
    for entry in entries {
        let name = entry.map_err(LibraryError::io("list", directory))?.file_name();
        ids.extend(
            name.to_str()
                .and_then(|name| name.strip_suffix(".json"))
                .and_then(|name| name.parse::<Digest>().ok()),
        );
    }
    Ok(ids)
}

/// A manifest whose name is right, and its encoding.
pub(crate) fn read(path: &Path, id: &Digest) -> Result<(Manifest, Vec<u8>), LibraryError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(LibraryError::NotFound(*id)),
        Err(e) => return Err(LibraryError::io("open", path)(e)),
    };
    let mut octets = Vec::new();
    file.take(image::MAX_ENCODED as u64 + 1)
        .read_to_end(&mut octets)
        .map_err(LibraryError::io("read", path))?;
    let damaged = |why: String| LibraryError::Damaged { id: *id, path: path.to_owned(), why };
    if image::digest(&octets) != *id {
        return Err(damaged("its content has another digest than its name".to_owned()));
    }
    let manifest = Manifest::decode(&octets).map_err(|e| damaged(e.to_string()))?;
    Ok((manifest, octets))
}
