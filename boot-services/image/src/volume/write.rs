use super::layer::State;
use super::span::Span;
use super::{BLOCK, Chain, Found, LayerFile, Volume, VolumeError};
use crate::{Blocks, ZEROS};
use core::ops::Range;
use core::sync::atomic::Ordering;
use std::io;
use std::sync::RwLockReadGuard;

/// A write under way: the octets go into [`file`](Writing::file), each at its offset in the volume, in any
/// order and in any pieces; then [`finish`](Writing::finish) makes them the volume's. Dropped without that,
/// blocks that were not in the own layer stay as they were; in others, what was written is there.
///
/// A volume is not frozen, copied or flattened while there is one: who holds it waits for no peer.
#[must_use = "what is written is the volume's when it is finished"]
pub struct Writing<'a, F: LayerFile, B: Blocks<Error = io::Error>> {
    volume: &'a Volume<F, B>,
    chain: RwLockReadGuard<'a, Chain<F, B>>,
    blocks: Range<u64>,
    /// Where at least one block is new; nobody else has these blocks until this is done.
    first: Option<Span<'a>>,
}

impl<F: LayerFile, B: Blocks<Error = io::Error>> Writing<'_, F, B> {
    /// The data file of the own layer. Nothing but the range that was asked for may be written.
    pub fn file(&self) -> &F {
        self.chain.own().data()
    }

    /// All octets of the range are in the file: from now on they are what is read.
    pub fn finish(self) -> Result<(), VolumeError> {
        match self.first {
            Some(_) => self.chain.own().set(self.blocks.clone(), State::Here),
            None => Ok(()),
        }
    }
}

impl<F: LayerFile, B: Blocks<Error = io::Error>> Drop for Writing<'_, F, B> {
    fn drop(&mut self) {
        self.volume.dirty.store(true, Ordering::Release);
    }
}

impl<F: LayerFile, B: Blocks<Error = io::Error>> Volume<F, B> {
    /// The blocks that a range touches.
    fn blocks(offset: u64, end: u64) -> Range<u64> {
        offset / BLOCK..end.div_ceil(BLOCK)
    }

    /// The octets of a block; the volume's last may have fewer.
    fn block(&self, block: u64) -> Range<u64> {
        block * BLOCK..((block + 1) * BLOCK).min(self.size)
    }

    fn still_kept(&self) -> Result<(), VolumeError> {
        if self.lost.load(Ordering::Acquire) { Err(VolumeError::Lost) } else { Ok(()) }
    }

    /// Begins to write `length` octets at `offset`.
    pub fn writing(&self, offset: u64, length: u64) -> Result<Writing<'_, F, B>, VolumeError> {
        let end = self.within(offset, length)?;
        self.still_kept()?;
        let blocks = if length == 0 { 0..0 } else { Self::blocks(offset, end) };
        let chain = self.chain();
        let first = if all_here(&chain, &blocks)? { None } else { Some(self.first.take(blocks.clone())) };
        let writing = Writing { volume: self, chain, blocks, first };
        if writing.first.is_some() {
            // What of the first and the last block is not written comes from below.
            let (head, tail) = (writing.blocks.start, writing.blocks.end - 1);
            if self.block(head).start < offset || (head == tail && end < self.block(head).end) {
                self.bring_up(&writing.chain, head)?;
            }
            if tail != head && end < self.block(tail).end {
                self.bring_up(&writing.chain, tail)?;
            }
        }
        Ok(writing)
    }

    /// Puts a block that is not in the own layer into its file, without saying so in the map.
    fn bring_up(&self, chain: &Chain<F, B>, block: u64) -> Result<(), VolumeError> {
        if chain.own().run(block, 1)?.0 == State::Here {
            return Ok(());
        }
        let range = self.block(block);
        let mut octets = [0; BLOCK as usize];
        let octets = &mut octets[..(range.end - range.start) as usize];
        chain.read(range.start, octets, 0)?;
        chain.own().data().write_at(range.start, octets).map_err(VolumeError::io("write", range.start))
    }

    /// Writes octets at `offset`. If it fails, each sector of them is as before or as written.
    pub fn write_at(&self, offset: u64, octets: &[u8]) -> Result<(), VolumeError> {
        let writing = self.writing(offset, octets.len() as u64)?;
        writing.file().write_at(offset, octets).map_err(VolumeError::io("write", offset))?;
        writing.finish()
    }

    /// Makes octets zero, as UNMAP and WRITE SAME with UNMAP do: whole blocks give their room back.
    pub fn zero(&self, offset: u64, length: u64) -> Result<(), VolumeError> {
        let end = self.within(offset, length)?;
        self.still_kept()?;
        let mut at = offset;
        while at < end {
            let block = self.block(at / BLOCK);
            if block.start == at && block.end <= end {
                // The last block of the volume may be short and whole all the same.
                let whole = if end == self.size { end.div_ceil(BLOCK) } else { end / BLOCK };
                self.zero_blocks(at / BLOCK..whole)?;
                at = self.block(whole - 1).end;
            } else {
                let part = at..block.end.min(end);
                let nothing = matches!(self.chain().find(part.start, part.end, 0)?, (Found::Zero, count) if count == part.end - part.start);
                if !nothing {
                    self.write_at(part.start, &ZEROS[..(part.end - part.start) as usize])?;
                }
                at = part.end;
            }
        }
        Ok(())
    }

    fn zero_blocks(&self, blocks: Range<u64>) -> Result<(), VolumeError> {
        let chain = self.chain();
        let _alone = self.first.take(blocks.clone());
        let own = chain.own();
        let mut at = blocks.start;
        while at < blocks.end {
            let (state, mut count) = own.run(at, blocks.end - at)?;
            match state {
                State::Zero => {}
                State::Here => {
                    own.set(at..at + count, State::Zero)?;
                    let range = self.block(at).start..self.block(at + count - 1).end;
                    let punched = own.data().punch(range.start, range.end - range.start);
                    punched.map_err(VolumeError::io("give back the room", range.start))?;
                }
                State::Below => {
                    let range = self.block(at).start..self.block(at + count - 1).end;
                    let (found, length) = chain.find(range.start, range.end, 1)?;
                    // Only at the image's end, past which all is zero, is that no multiple of a block.
                    count = count.min(length.div_ceil(BLOCK));
                    if !matches!(found, Found::Zero) {
                        own.set(at..at + count, State::Zero)?;
                    }
                }
            }
            at += count;
        }
        self.dirty.store(true, Ordering::Release);
        Ok(())
    }
}

fn all_here<F: LayerFile, B: Blocks<Error = io::Error>>(
    chain: &Chain<F, B>,
    blocks: &Range<u64>,
) -> Result<bool, VolumeError> {
    if blocks.is_empty() {
        return Ok(true);
    }
    let many = blocks.end - blocks.start;
    Ok(matches!(chain.own().run(blocks.start, many)?, (State::Here, count) if count == many))
}
