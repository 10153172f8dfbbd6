//! What goes into a backup, in which order: the store first, then what it names.

use super::archive::{Manifest, Writer};
use crate::Api;
use boot::{Digest, VolumeId};
use bootd::library::Library;
use bootd::volumes::Volumes;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

/// The longest of the files that others keep beside a volume.
const BESIDE: u64 = 1 << 20;

/// Where a backup's content comes from.
pub(super) struct From {
    pub(super) api: Arc<Api>,
    /// The store's octets.
    pub(super) store: Vec<u8>,
    /// Each volume with its snapshot.
    pub(super) volumes: Vec<(VolumeId, VolumeId)>,
}

impl From {
    /// Writes all of it; what was written to.
    pub(super) fn pack<W: Write>(self, to: W, manifest: &Manifest) -> io::Result<W> {
        let mut to = Writer::new(to, manifest)?;
        to.octets("store", &self.store)?;
        to.file("token", &open(&self.api.backup.token)?)?;
        if let Ok(file) = File::open(&self.api.backup.configuration) {
            to.file("kiln.toml", &file)?;
        }
        for name in names(&self.api.drives)? {
            to.file(&format!("drives/{name}"), &open(&self.api.drives.join(&name))?)?;
        }
        let mut extents = HashSet::new();
        self.pack_volumes(&mut to, &mut extents)?;
        if manifest.images {
            self.pack_images(&mut to, &mut extents)?;
        }
        to.finish()
    }

    fn pack_volumes(&self, to: &mut Writer<impl Write>, extents: &mut HashSet<Digest>) -> io::Result<()> {
        let library = Library::new(&self.api.images).with_volumes(&self.api.volumes);
        let volumes = Volumes::new(&self.api.volumes, library);
        // Volumes share layers, and what they stand on.
        let mut packed = HashSet::new();
        for (volume, snapshot) in &self.volumes {
            let still = volumes.still(volume, snapshot).map_err(io::Error::other)?;
            let manifest = still.base.as_ref().map(|base| base.manifest.clone());
            for path in still.files.into_iter().chain(manifest) {
                if packed.insert(path.clone()) {
                    let file = open(&self.api.volumes.join(&path))?;
                    to.file(&format!("volumes/{}", path.display()), &file)?;
                }
            }
            for digest in still.base.into_iter().flat_map(|base| base.extents) {
                self.pack_extent(to, &digest, extents)?;
            }
            self.pack_beside(to, volume)?;
            // Last, so that it is a volume.
            to.octets(&format!("volumes/{volume}/volume.json"), &still.record)?;
        }
        Ok(())
    }

    /// What others keep beside a volume: who has reserved it.
    fn pack_beside(&self, to: &mut Writer<impl Write>, volume: &VolumeId) -> io::Result<()> {
        let directory = self.api.volumes.join(volume.as_str());
        for name in names(&directory)? {
            if ["volume.json", "lock"].contains(&name.as_str()) || name.ends_with(".new") {
                continue;
            }
            // One that is replaced meanwhile is the old one or the new one.
            let Ok(file) = File::open(directory.join(&name)) else { continue };
            let meta = file.metadata()?;
            if meta.is_file() && meta.len() <= BESIDE {
                to.file(&format!("volumes/{volume}/{name}"), &file)?;
            }
        }
        Ok(())
    }

    fn pack_images(&self, to: &mut Writer<impl Write>, extents: &mut HashSet<Digest>) -> io::Result<()> {
        let library = Library::new(&self.api.images).with_volumes(&self.api.volumes);
        for id in library.ids().map_err(io::Error::other)? {
            let path = library.manifest_path(&id);
            let done = library.manifest(&id).map_err(io::Error::other).and_then(|manifest| {
                for digest in manifest.extents().iter().flatten() {
                    self.pack_extent(to, digest, extents)?;
                }
                to.file(&format!("images/images/{id}.json"), &open(&path)?)
            });
            // An image that is removed meanwhile is in no backup.
            if done.is_err() && path.exists() {
                done?;
            }
        }
        Ok(())
    }

    fn pack_extent(
        &self,
        to: &mut Writer<impl Write>,
        digest: &Digest,
        packed: &mut HashSet<Digest>,
    ) -> io::Result<()> {
        if packed.contains(digest) {
            return Ok(());
        }
        let name = Library::extent_name(digest);
        to.file(&format!("images/{}", name.display()), &open(&self.api.images.join(&name))?)?;
        packed.insert(*digest);
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::open(path).map_err(|e| io::Error::new(e.kind(), format!("cannot open {}: {e}", path.display())))
}

/// The names in a directory, which need not be there.
fn names(path: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(io::Error::new(e.kind(), format!("cannot list {}: {e}", path.display()))),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string().ok());
    }
    Ok(names)
}
