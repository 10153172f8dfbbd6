//! The volumes of a plan: made, opened, made flat, removed.

use super::keeper::Word;
use crate::{
    library::Library,
    volumes::{OpenVolume, Volumes, VolumesError},
};
use boot::{VolumeId, VolumePlan, VolumeState, VolumeWish};
use core::ops::ControlFlow;
use image::volume::Depth;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::SyncSender,
    },
    thread::JoinHandle,
};

/// Where volumes and images are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) directory: String,
    pub(super) images: Option<String>,
}

/// The volumes of a directory, and which of them are open.
pub(super) struct Holdings {
    volumes: Volumes,
    open: BTreeMap<VolumeId, Arc<OpenVolume>>,
    /// Octets that volumes held when they were open last.
    allocated: BTreeMap<VolumeId, u64>,
    flattening: Option<Flattening>,
    words: SyncSender<Word>,
}

/// A thread that makes a volume flat.
struct Flattening {
    id: VolumeId,
    stop: Arc<AtomicBool>,
    failed: Arc<Mutex<Option<String>>>,
    thread: JoinHandle<()>,
    // Open for as long as the thread works on it.
    volume: Arc<OpenVolume>,
}

impl Holdings {
    pub(super) fn new(place: &Place, words: SyncSender<Word>) -> Holdings {
        // Without images only volumes that stand on none can be made.
        let images = place
            .images
            .as_ref()
            .map_or_else(|| PathBuf::from(&place.directory).join(".no-images"), PathBuf::from);
        let volumes = Volumes::new(&place.directory, Library::new(images));
        if let Err(error) = volumes.sweep() {
            log::warn!(target: "iscsi", error:% = error; "what a killed process left behind stays");
        }
        Holdings { volumes, open: BTreeMap::new(), allocated: BTreeMap::new(), flattening: None, words }
    }

    /// The directory in which what belongs to a volume is kept.
    pub(super) fn directory(&self, id: &VolumeId) -> PathBuf {
        self.volumes.directory(id)
    }

    /// Whether it stands on an image.
    pub(super) fn is_over_image(&self, id: &VolumeId) -> bool {
        self.volumes.get(id).is_ok_and(|listed| listed.base.is_some())
    }

    /// A volume for the one who exports it.
    pub(super) fn open(&mut self, id: &VolumeId) -> Result<Arc<OpenVolume>, VolumesError> {
        if let Some(open) = self.open.get(id) {
            return Ok(Arc::clone(open));
        }
        let opened = match &self.flattening {
            Some(flattening) if flattening.id == *id => Arc::clone(&flattening.volume),
            _ => self.volumes.open(id)?,
        };
        self.open.insert(id.clone(), Arc::clone(&opened));
        Ok(opened)
    }

    /// Closes all but these.
    pub(super) fn close_others(&mut self, exported: &BTreeSet<VolumeId>) {
        self.open.retain(|id, _| exported.contains(id));
    }

    /// Does what the plan wishes of a volume, and says how it stands.
    pub(super) fn fulfil(&mut self, plan: &VolumePlan) -> VolumeState {
        let id = &plan.id;
        let stood = match &plan.wish {
            VolumeWish::Gone => {
                self.stop_flattening(Some(id));
                self.allocated.remove(id);
                self.volumes.remove(id).map(|_| VolumeState::Gone)
            }
            VolumeWish::Kept { source, size, flat } => match self.volumes.get(id) {
                Err(VolumesError::NotFound(_)) => match source {
                    Some(source) => self.volumes.create(id, source, *size).map(|_| ()),
                    None => {
                        let why = format!(
                            "volume {id} was made before and is not in {} any more: restore the directory, or delete the volume",
                            self.volumes.root().display()
                        );
                        return VolumeState::Failed { why };
                    }
                },
                // It keeps its content, whatever it was made from.
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            }
            .and_then(|()| self.look(id, *flat)),
        };
        stood.unwrap_or_else(|error| VolumeState::Failed { why: error.to_string() })
    }

    /// How a volume stands; one that should be flat and is not begins to become so.
    fn look(&mut self, id: &VolumeId, flat: bool) -> Result<VolumeState, VolumesError> {
        if let Some(why) = self.reap(id) {
            return Ok(VolumeState::Failed { why });
        }
        let listed = self.volumes.get(id)?;
        if flat && !listed.is_flat() && self.flattening.is_none() {
            self.flatten(id)?;
        }
        let flattening = self.flattening.as_ref().filter(|one| one.id == *id).map(|one| &one.volume);
        let open = match self.open.get(id).or(flattening) {
            Some(open) => Some(Arc::clone(open)),
            None if self.allocated.contains_key(id) => None,
            None => Some(self.volumes.open(id)?),
        };
        if let Some(open) = open {
            let allocated = open.allocated()?;
            self.allocated.insert(id.clone(), allocated);
        }
        let allocated = self.allocated.get(id).copied().unwrap_or_default();
        Ok(VolumeState::Ready { allocated, flat: listed.is_flat() })
    }

    fn flatten(&mut self, id: &VolumeId) -> Result<(), VolumesError> {
        let volume = match self.open.get(id) {
            Some(open) => Arc::clone(open),
            None => self.volumes.open(id)?,
        };
        let (stop, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
        let (volumes, name, words) = (self.volumes.clone(), id.clone(), self.words.clone());
        let (stopped, said) = (Arc::clone(&stop), Arc::clone(&failed));
        let work = move || {
            let mut tell = |_done| {
                if stopped.load(Ordering::Relaxed) {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            };
            match volumes.flatten(&name, Depth::All, &mut tell) {
                Ok(_) => log::info!(target: "iscsi", volume:% = name; "volume is flat, or was told to stop"),
                Err(error) => {
                    log::warn!(target: "iscsi", volume:% = name, error:% = error; "volume not made flat");
                    *said.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
                }
            }
            // It looks by itself before long.
            let _ = words.try_send(Word::Look);
        };
        let thread = std::thread::Builder::new().name("flatten".to_owned()).spawn(work);
        let thread = thread.map_err(|source| VolumesError::Io {
            doing: "start a thread for",
            path: self.volumes.directory(id),
            source,
        })?;
        self.flattening = Some(Flattening { id: id.clone(), stop, failed, thread, volume });
        Ok(())
    }

    /// Takes the end of the flattening of a volume: why it failed, if it did.
    fn reap(&mut self, id: &VolumeId) -> Option<String> {
        let flattening = self.flattening.take_if(|one| one.id == *id && one.thread.is_finished())?;
        // One that broke has said so.
        let _ = flattening.thread.join();
        flattening.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Ends the flattening of this volume, or of any.
    pub(super) fn stop_flattening(&mut self, id: Option<&VolumeId>) {
        if let Some(flattening) = self.flattening.take_if(|one| id.is_none_or(|id| one.id == *id)) {
            flattening.stop.store(true, Ordering::Relaxed);
            // One that broke has stopped, too.
            let _ = flattening.thread.join();
        }
    }

    /// Whether something is being made flat.
    pub(super) fn is_busy(&self) -> bool {
        self.flattening.is_some()
    }

    /// The volume that is being made flat, if it is not among these.
    pub(super) fn flattens_another(&self, wished: &BTreeSet<VolumeId>) -> bool {
        self.flattening.as_ref().is_some_and(|one| !wished.contains(&one.id))
    }
}

impl Drop for Holdings {
    fn drop(&mut self) {
        self.stop_flattening(None);
    }
}
