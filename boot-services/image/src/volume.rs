//! Volumes: what a node may write to, over an image that nothing is copied of.
//!
//! ```text
//!   a volume   own layer    written to; of this volume alone
//!              layer …      frozen; shared with copies of this volume, at most 16 in all
//!              base         an image, or nothing: then what no layer has is zero
//!
//!   a layer    data         sparse; block B, of 4 KiB, is at B × 4096
//!              map          two bits a block: 00 it is below, 01 it is here, 10 it is zero
//!              live map     the same as it is right now
//! ```
//!
//! **What is kept.** A write is in the data file before its bits are in the map, and in the live map before it
//! is acknowledged. [`flush`](Volume::flush) copies the changed pages of the map, syncs the data, writes these
//! pages, syncs the map. So:
//!
//! - After a flush has returned, what was written before it survives a power cut at any octet.
//! - After a power cut each sector of 512 octets is as it was when the last flush began or as any write after
//!   that made it: never another block's, never what happened to be in the file.
//! - After a kill nothing that was acknowledged is missing: the live map is taken up by the next process,
//!   and told from one that a restart of the machine left by its [`Epoch`].
//!
//! Each page of the map has a checksum and two places, written in turn, so that a page torn by a power cut
//! leaves the one before. When a layer is frozen or closed, both places are made the same.
//!
//! **Who waits for whom.** Reading takes no lock that writing holds. Writing to blocks that are in the own
//! layer takes none either; a first write to a block, and zeroing, take their blocks alone, so that of two
//! who write different sectors of one block neither's are lost. Freezing waits for the writes under way.
//!
//! What was rejected: a log of writes (its index grows with them, and reading is as scattered as writing was);
//! an index of clusters as in qcow2 (allocation and reference counts to be kept right at a power cut; here the
//! file system does that, and the data of a volume can be sent from its file without looking anything up but bits).
//!
//! This module knows no files: [`LayerFile`] and [`Blocks`] are given.

mod base;
mod down;
mod error;
mod layer;
mod page;
mod span;
mod write;

pub use base::Base;
pub use down::Depth;
pub use error::VolumeError;
pub use layer::{BadPage, Epoch, Layer, LayerFile, LayerFiles};
pub use write::Writing;

use crate::{Blocks, Piece};
use boot::{Digest, NotAWord};
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use layer::State;
use serde::{Deserialize, Serialize};
use span::Spans;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

/// Octets of a block: what a layer has whole or not at all.
pub const BLOCK: u64 = 4096;

/// Layers that a volume may stand on, its own counted.
pub const MAX_LAYERS: usize = 16;

/// A layer's name; printed as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayerId(pub [u8; 16]);

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl core::str::FromStr for LayerId {
    type Err = NotAWord;

    fn from_str(text: &str) -> Result<LayerId, NotAWord> {
        let wrong = || NotAWord {
            expected: "a layer's name of 32 hexadecimal digits",
            found: text.chars().take(80).collect(),
        };
        if text.len() != 32 || !text.bytes().all(|octet| octet.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        u128::from_str_radix(text, 16).map(|number| LayerId(number.to_be_bytes())).map_err(|_| wrong())
    }
}

impl TryFrom<String> for LayerId {
    type Error = NotAWord;

    fn try_from(text: String) -> Result<LayerId, NotAWord> {
        text.parse()
    }
}

impl From<LayerId> for String {
    fn from(id: LayerId) -> String {
        id.to_string()
    }
}

impl fmt::Debug for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a volume consists of.
#[derive(Debug)]
struct Chain<F, B> {
    /// The own one first.
    layers: Vec<Arc<Layer<F>>>,
    base: Option<Arc<Base<B>>>,
}

/// A volume that is open. Any number of threads use it at once.
#[derive(Debug)]
pub struct Volume<F, B> {
    size: u64,
    chain: RwLock<Chain<F, B>>,
    first: Spans,
    /// Whether something was written since the last flush began.
    dirty: AtomicBool,
    /// Whether a sync failed.
    lost: AtomicBool,
    /// Flushes that were asked for.
    asked: AtomicU64,
    /// Of these, how many are done.
    flushed: Mutex<u64>,
}

/// Some octets of a volume that are in one place.
#[derive(Debug)]
pub struct Segment<F> {
    /// How many.
    pub length: u64,
    /// Where.
    pub place: Place<F>,
}

/// Where octets of a volume are.
#[derive(Debug)]
pub enum Place<F> {
    /// In a layer's data file.
    Layer {
        /// The layer.
        layer: Arc<Layer<F>>,
        /// Where in its file.
        offset: u64,
    },
    /// In an extent of the image, which has been compared with its digest.
    Extent {
        /// Which.
        digest: Digest,
        /// Where in it.
        skip: u64,
    },
    /// Nowhere: they are zero.
    Zero,
}

impl<F> Clone for Place<F> {
    fn clone(&self) -> Place<F> {
        match self {
            Place::Layer { layer, offset } => Place::Layer { layer: layer.clone(), offset: *offset },
            Place::Extent { digest, skip } => Place::Extent { digest: *digest, skip: *skip },
            Place::Zero => Place::Zero,
        }
    }
}

/// What GET LBA STATUS says of blocks (SBC-4, 4.7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provisioning {
    /// There is something.
    Mapped,
    /// They are zero and take no room.
    Deallocated,
}

/// Where a piece is, seen from a chain that is held.
enum Found {
    /// In the layer of this index.
    Layer(usize),
    Extent(Digest, usize),
    Zero,
}

impl<F: LayerFile, B: Blocks<Error = io::Error>> Chain<F, B> {
    fn own(&self) -> &Arc<Layer<F>> {
        self.layers.first().expect("a volume is made with a layer of its own")
    }

    /// Where the first octets of `offset..end` are, and how many they are; layers before `skip` are left out.
    fn find(&self, offset: u64, end: u64, skip: usize) -> Result<(Found, u64), VolumeError> {
        let mut end = end;
        for (index, layer) in self.layers.iter().enumerate().skip(skip) {
            let block = offset / BLOCK;
            let (state, count) = layer.run(block, end.div_ceil(BLOCK) - block)?;
            end = end.min((block + count) * BLOCK);
            match state {
                State::Below => {}
                State::Here => return Ok((Found::Layer(index), end - offset)),
                State::Zero => return Ok((Found::Zero, end - offset)),
            }
        }
        let Some(base) = &self.base else { return Ok((Found::Zero, end - offset)) };
        Ok(match base.piece(offset..end) {
            Piece::Hole(length) => (Found::Zero, length),
            Piece::Data { digest, skip, length } => (Found::Extent(digest, skip), length as u64),
        })
    }

    /// Fills `into` with the octets from `offset` on, layers before `skip` left out.
    fn read(&self, offset: u64, into: &mut [u8], skip: usize) -> Result<(), VolumeError> {
        let end = offset + into.len() as u64;
        let mut rest = into;
        while !rest.is_empty() {
            let at = end - rest.len() as u64;
            let (found, length) = self.find(at, end, skip)?;
            let (part, after) = rest.split_at_mut(length as usize);
            match found {
                Found::Zero => part.fill(0),
                Found::Layer(index) => {
                    let read = self.layers[index].data().read_at(at, part);
                    read.map_err(VolumeError::io("read", at))?;
                }
                Found::Extent(digest, skip) => {
                    let base = self.base.as_ref().expect("an extent is found in the base");
                    base.read(at, &digest, skip, part)?;
                }
            }
            rest = after;
        }
        Ok(())
    }
}

impl<F: LayerFile, B: Blocks<Error = io::Error>> Volume<F, B> {
    /// A volume of `size` octets. The first of `layers` is its own; each of the others is frozen.
    ///
    /// # Errors
    /// There are more than [`MAX_LAYERS`].
    ///
    /// # Panics
    /// There is none.
    pub fn new(
        size: u64,
        layers: Vec<Arc<Layer<F>>>,
        base: Option<Arc<Base<B>>>,
    ) -> Result<Volume<F, B>, VolumeError> {
        assert!(!layers.is_empty(), "a volume has a layer of its own");
        if layers.len() > MAX_LAYERS {
            return Err(VolumeError::TooDeep { layers: layers.len() });
        }
        Ok(Volume {
            size,
            chain: RwLock::new(Chain { layers, base }),
            first: Spans::default(),
            // What an earlier process wrote may not be on the disk.
            dirty: AtomicBool::new(true),
            lost: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            flushed: Mutex::new(0),
        })
    }

    fn chain(&self) -> RwLockReadGuard<'_, Chain<F, B>> {
        self.chain.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its octets.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its layers, the own one first.
    pub fn layers(&self) -> Vec<LayerId> {
        self.chain().layers.iter().map(|layer| layer.id()).collect()
    }

    /// The image it stands on.
    pub fn base(&self) -> Option<Arc<Base<B>>> {
        self.chain().base.clone()
    }

    /// Octets that it holds itself: those of its own layer.
    pub fn allocated(&self) -> Result<u64, VolumeError> {
        let own = self.chain().own().clone();
        own.allocated()
    }

    fn within(&self, offset: u64, length: u64) -> Result<u64, VolumeError> {
        let outside = VolumeError::OutOfRange { offset, length, size: self.size };
        offset.checked_add(length).filter(|end| *end <= self.size).ok_or(outside)
    }

    /// Fills `into` with the octets from `offset` on.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), VolumeError> {
        self.within(offset, into.len() as u64)?;
        self.chain().read(offset, into, 0)
    }

    /// Where octets are, in order, so that they can be sent from there. It holds for what was written before
    /// the call; what is written while the segments are read may be seen or not.
    pub fn segments(&self, offset: u64, length: u64) -> Result<Vec<Segment<F>>, VolumeError> {
        let end = self.within(offset, length)?;
        let chain = self.chain();
        let mut segments: Vec<Segment<F>> = Vec::new();
        let mut at = offset;
        while at < end {
            let (found, length) = chain.find(at, end, 0)?;
            let place = match found {
                Found::Zero => {
                    if let Some(Segment { length: before, place: Place::Zero }) = segments.last_mut() {
                        *before += length;
                        at += length;
                        continue;
                    }
                    Place::Zero
                }
                Found::Layer(index) => Place::Layer { layer: chain.layers[index].clone(), offset: at },
                Found::Extent(digest, skip) => {
                    let base = chain.base.as_ref().expect("an extent is found in the base");
                    base.check(at, &digest)?;
                    Place::Extent { digest, skip: skip as u64 }
                }
            };
            segments.push(Segment { length, place });
            at += length;
        }
        Ok(segments)
    }

    /// Whether there is something at `offset`, and for how many octets from it on the same is true.
    pub fn provisioned(&self, offset: u64) -> Result<(Provisioning, u64), VolumeError> {
        self.within(offset, 1)?;
        let chain = self.chain();
        let mut first: Option<Provisioning> = None;
        let mut at = offset;
        while at < self.size {
            let (found, length) = chain.find(at, self.size, 0)?;
            let state = match found {
                Found::Zero => Provisioning::Deallocated,
                Found::Layer(_) | Found::Extent(..) => Provisioning::Mapped,
            };
            if *first.get_or_insert(state) != state {
                break;
            }
            at += length;
        }
        Ok((first.expect("an octet is somewhere or nowhere"), at - offset))
    }

    /// Returns when all that was written before is on the disk. Those who call at once share one sync.
    ///
    /// # Errors
    /// After one of syncing the volume takes no more writes; after another the same call may succeed later.
    pub fn flush(&self) -> Result<(), VolumeError> {
        let ticket = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        let mut flushed = self.flushed.lock().unwrap_or_else(PoisonError::into_inner);
        if *flushed >= ticket {
            return Ok(());
        }
        let covers = self.asked.load(Ordering::Acquire);
        let own = self.chain().own().clone();
        self.flush_layer(|| own.flush(), &own)?;
        *flushed = covers;
        Ok(())
    }

    /// Whether nothing was ever written to its own layer.
    pub fn is_untouched(&self) -> Result<bool, VolumeError> {
        let own = self.chain().own().clone();
        let blocks = self.size.div_ceil(BLOCK);
        Ok(own.run(0, blocks)? == (State::Below, blocks))
    }

    fn flush_layer(
        &self,
        flush: impl FnOnce() -> Result<(), layer::Unflushed>,
        own: &Layer<F>,
    ) -> Result<(), VolumeError> {
        if self.lost.load(Ordering::Acquire) {
            return Err(VolumeError::Lost);
        }
        if !self.dirty.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        flush().map_err(|failed| {
            self.dirty.store(true, Ordering::Release);
            if failed.lost {
                self.lost.store(true, Ordering::Release);
                own.forget_live();
            }
            failed.error
        })
    }

    /// Flushes, and makes both copies of the map the same; to be called before the files are closed.
    pub fn settle(&self) -> Result<(), VolumeError> {
        let _flushed = self.flushed.lock().unwrap_or_else(PoisonError::into_inner);
        let own = self.chain().own().clone();
        self.dirty.store(true, Ordering::Release);
        self.flush_layer(|| own.settle(), &own)
    }

    /// Freezes its own layer and goes on writing to `own`, a new one, when `commit` has written down that this
    /// is so. Gives the frozen one. Waits for the writes under way; others wait.
    ///
    /// # Errors
    /// It stands on [`MAX_LAYERS`] layers, or flushing or `commit` fails: then nothing has changed.
    pub fn freeze<E: From<VolumeError>>(
        &self,
        own: Arc<Layer<F>>,
        commit: impl FnOnce() -> Result<(), E>,
    ) -> Result<Arc<Layer<F>>, E> {
        // Most of it, while others write.
        self.flush()?;
        let _flushed = self.flushed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut chain = self.chain.write().unwrap_or_else(PoisonError::into_inner);
        if chain.layers.len() >= MAX_LAYERS {
            return Err(VolumeError::TooDeep { layers: chain.layers.len() }.into());
        }
        let frozen = chain.own().clone();
        self.dirty.store(true, Ordering::Release);
        self.flush_layer(|| frozen.settle(), &frozen)?;
        commit()?;
        chain.layers.insert(0, own);
        Ok(frozen)
    }
}

#[cfg(test)]
mod tests;
