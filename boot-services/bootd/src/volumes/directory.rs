//! Files: who makes, opens and removes which.

use super::file::{Opened, epoch, fresh_id};
use super::record::{LayerRecord, Record, sync_directory};
use super::{Hurt, Volumes, VolumesError};
use crate::library::manifests::{self, BASES};
use boot::{Digest, VolumeId};
use image::volume::{Layer, LayerFiles, LayerId};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

pub(super) const LAYERS: &str = ".layers";

/// Times that the lock of a volume is taken anew because it was removed and made again meanwhile.
const TRIES: usize = 10;

/// Whether it is not there, or could not be looked at.
fn gone(e: io::Error) -> io::Result<()> {
    if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) }
}

impl Volumes {
    pub(super) fn record_path(&self, id: &VolumeId) -> PathBuf {
        self.directory(id).join("volume.json")
    }

    fn layer_path(&self, id: &LayerId) -> PathBuf {
        self.root().join(LAYERS).join(id.to_string())
    }

    pub(super) fn record(&self, id: &VolumeId) -> Result<Option<Record>, VolumesError> {
        Record::read(id, &self.record_path(id))
    }

    pub(super) fn ids(&self) -> Result<Vec<VolumeId>, VolumesError> {
        let entries = match fs::read_dir(self.root()) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(VolumesError::io("list", self.root())(e)),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry.map_err(VolumesError::io("list", self.root()))?.file_name();
            // What begins with a dot is ours and no volume's name.
            ids.extend(name.to_str().and_then(|name| name.parse::<VolumeId>().ok()));
        }
        ids.sort();
        Ok(ids)
    }

    pub(super) fn make_directories(&self) -> Result<(), VolumesError> {
        for part in [LAYERS, BASES] {
            let path = self.root().join(part);
            fs::create_dir_all(&path).map_err(VolumesError::io("make the directory", &path))?;
        }
        Ok(())
    }

    /// Waits until nobody else makes or removes volumes.
    pub(super) fn lock(&self) -> Result<Flock<File>, VolumesError> {
        let path = self.root().join(".lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(VolumesError::io("open", &path))?;
        let locked = Flock::lock(file, FlockArg::LockExclusive);
        locked.map_err(|(_, errno)| VolumesError::io("lock", &path)(errno.into()))
    }

    /// Becomes the one user of a volume.
    pub(super) fn take(&self, id: &VolumeId) -> Result<Flock<File>, VolumesError> {
        let path = self.directory(id).join("lock");
        for _ in 0..TRIES {
            let file = match File::options().create(true).truncate(false).read(true).write(true).open(&path) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    return Err(VolumesError::NotFound(id.clone()));
                }
                Err(e) => return Err(VolumesError::io("open", &path)(e)),
            };
            let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => lock,
                Err((mut file, Errno::EWOULDBLOCK)) => {
                    let mut by = String::new();
                    // A number that cannot be read is not said.
                    let _ = (&mut file).take(20).read_to_string(&mut by);
                    return Err(VolumesError::InUse { id: id.clone(), by: by.trim().parse().ok() });
                }
                Err((_, errno)) => return Err(VolumesError::io("lock", &path)(errno.into())),
            };
            // The one whose name was given to another file meanwhile keeps nobody away.
            let held = lock.metadata().map_err(VolumesError::io("look at", &path))?;
            if fs::metadata(&path).is_ok_and(|named| (named.dev(), named.ino()) == (held.dev(), held.ino())) {
                let told = lock.set_len(0).and_then(|()| lock.rewind());
                let told = told.and_then(|()| writeln!(lock, "{}", std::process::id()));
                if let Err(e) = told {
                    // It only serves to say who has it; the disk may be full.
                    log::debug!(target: "volumes", volume:% = id, error:% = e; "number of the process not written");
                }
                return Ok(lock);
            }
        }
        Err(VolumesError::InUse { id: id.clone(), by: None })
    }

    pub(super) fn put_record(&self, id: &VolumeId, record: &Record) -> Result<(), VolumesError> {
        let directory = self.directory(id);
        let fresh = match fs::create_dir(&directory) {
            Ok(()) => true,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => false,
            Err(e) => return Err(VolumesError::io("make the directory", &directory)(e)),
        };
        record.write(&self.record_path(id))?;
        if fresh {
            sync_directory(self.root()).map_err(VolumesError::io("sync", self.root()))?;
        }
        Ok(())
    }

    /// Removes a volume's directory: first what makes it a volume, then what is beside it.
    pub(super) fn remove_directory(&self, id: &VolumeId) -> Result<(), VolumesError> {
        let directory = self.directory(id);
        let remove = || -> io::Result<()> {
            fs::remove_file(self.record_path(id)).or_else(gone)?;
            sync_directory(&directory)?;
            fs::remove_dir_all(&directory).or_else(gone)
        };
        remove().map_err(VolumesError::io("remove", &directory))
    }

    pub(super) fn new_layer(&self, volume: &VolumeId, size: u64) -> Result<LayerRecord, VolumesError> {
        let id = fresh_id().map_err(VolumesError::io("read", Path::new("/dev/urandom")))?;
        let path = self.layer_path(&id);
        fs::create_dir(&path).map_err(VolumesError::io("make the directory", &path))?;
        let files = self.layer_files(&id, Some(size))?;
        Layer::create(id, size, files.0, files.1).map_err(VolumesError::of(volume))?;
        let synced = sync_directory(&path).and_then(|()| sync_directory(&self.root().join(LAYERS)));
        synced.map_err(VolumesError::io("sync", &path))?;
        Ok(LayerRecord { id, size })
    }

    /// The files of a layer: made if `size` is given; then, or if there is one, with a live map.
    fn layer_files(
        &self,
        id: &LayerId,
        size: Option<u64>,
    ) -> Result<(LayerFiles<Opened>, image::volume::Epoch), VolumesError> {
        let open = |name: &str, make: bool| {
            let path = self.layer_path(id).join(name);
            let file = File::options().read(true).write(true).create(make).truncate(false).open(&path);
            file.map_err(VolumesError::io("open", &path))
        };
        let (data, map) = (open("data", size.is_some())?, open("map", size.is_some())?);
        let path = self.layer_path(id).join("data");
        if let Some(size) = size {
            data.set_len(size).map_err(VolumesError::io("make", &path))?;
        }
        let epoch = epoch(&data).map_err(VolumesError::io("look at", &path))?;
        let opened = |file| Opened(Arc::new(file));
        let live = if size.is_some() { None } else { Some(opened(open("live", true)?)) };
        Ok((LayerFiles { data: opened(data), map: opened(map), live }, epoch))
    }

    /// The layer that a volume writes to.
    pub(super) fn open_own(
        &self,
        volume: &VolumeId,
        layer: &LayerRecord,
    ) -> Result<Layer<Opened>, VolumesError> {
        let (files, epoch) = self.layer_files(&layer.id, None)?;
        Layer::open(layer.id, layer.size, files, epoch).map_err(VolumesError::of(volume))
    }

    /// A layer that nobody writes to, the same for all volumes that stand on it.
    pub(super) fn open_frozen(
        &self,
        volume: &VolumeId,
        layer: &LayerRecord,
    ) -> Result<Arc<Layer<Opened>>, VolumesError> {
        let mut registry = self.registry();
        registry.layers.retain(|_, layer| layer.strong_count() > 0);
        if let Some(known) = registry.layers.get(&layer.id).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let opened = Arc::new(self.frozen(volume, layer)?);
        registry.layers.insert(layer.id, Arc::downgrade(&opened));
        Ok(opened)
    }

    fn frozen(&self, volume: &VolumeId, layer: &LayerRecord) -> Result<Layer<Opened>, VolumesError> {
        let open = |name: &str| {
            let path = self.layer_path(&layer.id).join(name);
            File::open(&path).map(|file| Opened(Arc::new(file))).map_err(VolumesError::io("open", &path))
        };
        let files = LayerFiles { data: open("data")?, map: open("map")?, live: None };
        let epoch = image::volume::Epoch([0; 32]);
        Layer::open(layer.id, layer.size, files, epoch).map_err(VolumesError::of(volume))
    }

    /// The map of a layer is as it is on the disk.
    pub(super) fn remove_live(&self, layer: &LayerId) {
        let path = self.layer_path(layer).join("live");
        if let Err(e) = fs::remove_file(&path).or_else(gone) {
            log::warn!(target: "volumes", path:? = path, error:% = e; "live map not removed");
        }
    }

    /// Removes what no volume lists. Whoever calls holds the lock.
    ///
    /// # Errors
    /// What is written of a volume is damaged: which layers it has is not known, so nothing is removed.
    pub(super) fn sweep_locked(&self) -> Result<(), VolumesError> {
        let (mut layers, mut bases) = (BTreeSet::new(), BTreeSet::new());
        let mut broken = Vec::new();
        for id in self.ids()? {
            match self.record(&id)? {
                Some(record) => {
                    layers.extend(record.layers.iter().map(|layer| layer.id));
                    bases.extend(record.base);
                }
                None => broken.push(id),
            }
        }
        for id in broken {
            // One that somebody is about to open is no volume either.
            self.remove_directory(&id)?;
        }
        let is_needed = |part: &str, name: &str| match part {
            LAYERS => name.parse().is_ok_and(|id: LayerId| layers.contains(&id)),
            _ => name
                .strip_suffix(".json")
                .and_then(|name| name.parse().ok())
                .is_some_and(|id: Digest| bases.contains(&id)),
        };
        for part in [LAYERS, BASES] {
            let directory = self.root().join(part);
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(VolumesError::io("list", &directory)(e)),
            };
            for entry in entries {
                let entry = entry.map_err(VolumesError::io("list", &directory))?;
                if entry.file_name().to_str().is_some_and(|name| is_needed(part, name)) {
                    continue;
                }
                let path = entry.path();
                let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                removed.or_else(gone).map_err(VolumesError::io("remove", &path))?;
            }
        }
        Ok(())
    }
}

/// What the volumes and their layers and bases are, and what of these is damaged.
pub(super) fn scrub(volumes: &Volumes, tell: &mut dyn FnMut(&VolumeId)) -> Result<Vec<Hurt>, VolumesError> {
    let mut hurts = Vec::new();
    let mut layers: BTreeMap<LayerId, (LayerRecord, Vec<VolumeId>)> = BTreeMap::new();
    let mut bases: BTreeMap<Digest, Vec<VolumeId>> = BTreeMap::new();
    for id in volumes.ids()? {
        tell(&id);
        match volumes.record(&id) {
            Ok(None) => {}
            Ok(Some(record)) => {
                for layer in record.layers {
                    layers.entry(layer.id).or_insert((layer, Vec::new())).1.push(id.clone());
                }
                if let Some(base) = record.base {
                    bases.entry(base).or_default().push(id);
                }
            }
            Err(e @ VolumesError::Damaged { .. }) => {
                hurts.push(Hurt { volumes: vec![id], what: e.to_string(), lost: true });
            }
            Err(e) => return Err(e),
        }
    }
    for (layer, users) in layers.into_values() {
        let first = users[0].clone();
        let checked = volumes
            .frozen(&first, &layer)
            .and_then(|opened| opened.check().map_err(VolumesError::of(&first)));
        match checked {
            Ok(bad) => hurts.extend(bad.into_iter().map(|page| {
                let what = if page.lost {
                    format!("both copies of the map of layer {} are damaged for what is from {} on; restore the volumes from a copy", layer.id, page.offset)
                } else {
                    format!("one copy of the map of layer {} is damaged for what is from {} on; the other serves", layer.id, page.offset)
                };
                Hurt { volumes: users.clone(), what, lost: page.lost }
            })),
            // It went while we looked, or cannot be read.
            Err(_) if !volumes.layer_path(&layer.id).exists() => {}
            Err(e) => hurts.push(Hurt { volumes: users, what: e.to_string(), lost: true }),
        }
    }
    let mut checked: BTreeMap<Digest, Result<(), String>> = BTreeMap::new();
    for (image, users) in bases {
        let path = manifests::path(&volumes.root().join(BASES), &image);
        let manifest = match manifests::read(&path, &image) {
            Ok((manifest, _)) => manifest,
            Err(e) => {
                hurts.push(Hurt { volumes: users, what: e.to_string(), lost: true });
                continue;
            }
        };
        for (index, digest) in manifest.extents().iter().enumerate() {
            let Some(digest) = digest else { continue };
            let known = checked
                .entry(*digest)
                .or_insert_with(|| volumes.0.library.check_extent(digest, manifest.extent_length(index)));
            if let Err(why) = known {
                let offset = index as u64 * image::EXTENT as u64;
                let what = format!(
                    "extent {digest} of image {image}, at {offset}, is {why}; import the image again to heal it"
                );
                hurts.push(Hurt { volumes: users.clone(), what, lost: true });
            }
        }
    }
    Ok(hurts)
}
