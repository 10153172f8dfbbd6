use super::VolumeError;
use crate::{Blocks, EXTENT, Manifest, Piece, digest};
use boot::Digest;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use std::io;

/// An image that volumes stand on. Each of its extents is compared with its digest when it is first read,
/// and not again as long as this lives: clones of an image that share it pay once.
#[derive(Debug)]
pub struct Base<B> {
    id: Digest,
    manifest: Manifest,
    blocks: B,
    /// A bit for each extent that is what its digest says.
    checked: Box<[AtomicU64]>,
}

impl<B: Blocks<Error = io::Error>> Base<B> {
    /// The image `id`, whose manifest this is and whose extents `blocks` has.
    pub fn new(id: Digest, manifest: Manifest, blocks: B) -> Base<B> {
        let words = manifest.extents().len().div_ceil(64);
        let checked = (0..words).map(|_| AtomicU64::new(0)).collect();
        Base { id, manifest, blocks, checked }
    }

    /// The image's name.
    pub fn id(&self) -> Digest {
        self.id
    }

    /// What it consists of.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where its extents are.
    pub fn blocks(&self) -> &B {
        &self.blocks
    }

    /// The first piece of `range`. What is past the image's end is a hole.
    pub(super) fn piece(&self, range: Range<u64>) -> Piece {
        self.manifest.piece(range.clone()).unwrap_or(Piece::Hole(range.end - range.start))
    }

    /// Compares the extent that holds `offset` with its digest, unless that was done.
    pub(super) fn check(&self, offset: u64, expected: &Digest) -> Result<(), VolumeError> {
        let index = (offset / EXTENT as u64) as usize;
        let (word, bit) = (&self.checked[index / 64], 1 << (index % 64));
        if word.load(Ordering::Acquire) & bit != 0 {
            return Ok(());
        }
        let begin = index as u64 * EXTENT as u64;
        let mut octets = vec![0; self.manifest.extent_length(index)];
        match self.blocks.get(expected, 0, &mut octets) {
            Err(e) if e.kind() != io::ErrorKind::UnexpectedEof => {
                return Err(VolumeError::io("read the image", begin)(e));
            }
            Ok(()) if digest(&octets) == *expected => {}
            _ => return Err(VolumeError::DamagedExtent { digest: *expected, offset: begin }),
        }
        word.fetch_or(bit, Ordering::AcqRel);
        Ok(())
    }

    pub(super) fn read(
        &self,
        offset: u64,
        digest: &Digest,
        skip: usize,
        into: &mut [u8],
    ) -> Result<(), VolumeError> {
        self.check(offset, digest)?;
        self.blocks.get(digest, skip, into).map_err(VolumeError::io("read the image", offset))
    }
}
