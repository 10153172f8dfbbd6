use super::layer::State;
use super::{BLOCK, Chain, Found, LayerFile, Volume, VolumeError};
use crate::{Blocks, Piece, ZEROS};
use core::ops::ControlFlow;
use core::sync::atomic::Ordering;
use std::io;
use std::sync::PoisonError;

/// How much a volume is to hold itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// What is in frozen layers; the image stays below.
    Layers,
    /// All that it holds: the image is not needed any more.
    All,
}

/// Blocks that are copied at once, while nobody else writes to them.
const STEP: u64 = 64;

impl<F: LayerFile, B: Blocks<Error = io::Error>> Volume<F, B> {
    /// Copies what is below into the own layer, while the volume is in use; then `commit` writes down that
    /// the volume stands on nothing else, and what is below is let go. `tell` is called with the octets of
    /// the volume that are looked through, and may stop it: what was copied stays, and the next call goes on
    /// from there. The volume must not be frozen meanwhile.
    pub fn flatten<E: From<VolumeError>>(
        &self,
        depth: Depth,
        tell: &mut dyn FnMut(u64) -> ControlFlow<()>,
        commit: impl FnOnce() -> Result<(), E>,
    ) -> Result<ControlFlow<()>, E> {
        let mut buffer = vec![0; (STEP * BLOCK) as usize];
        let mut at = 0;
        while at < self.size {
            at = self.flatten_step(depth, at, &mut buffer)?;
            if tell(at).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        self.flush()?;
        let mut chain = self.chain.write().unwrap_or_else(PoisonError::into_inner);
        commit()?;
        chain.layers.truncate(1);
        if depth == Depth::All {
            chain.base = None;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Deals with what is at `at`, which is a block's beginning; gives up to where.
    fn flatten_step(&self, depth: Depth, at: u64, buffer: &mut [u8]) -> Result<u64, VolumeError> {
        let chain = self.chain();
        let block = at / BLOCK;
        let (state, count) = chain.own().run(block, self.size.div_ceil(BLOCK) - block)?;
        let end = ((block + count) * BLOCK).min(self.size);
        if state != State::Below {
            return Ok(end);
        }
        let (need, length) = below(&chain, depth, at, end)?;
        let end = match need {
            Need::Nothing => return Ok(end.min((at + length).next_multiple_of(BLOCK))),
            Need::Mark | Need::Copy => end.min((at + length).next_multiple_of(BLOCK)).min(at + STEP * BLOCK),
        };
        let _alone = self.first.take(block..end.div_ceil(BLOCK));
        // Somebody may have written to some of them before they were taken.
        let mut block = block;
        while block < end.div_ceil(BLOCK) {
            let (state, count) = chain.own().run(block, end.div_ceil(BLOCK) - block)?;
            if state == State::Below {
                match need {
                    Need::Mark => chain.own().set(block..block + count, State::Zero)?,
                    _ => self.bring_down(&chain, block, count, buffer)?,
                }
                self.dirty.store(true, Ordering::Release);
            }
            block += count;
        }
        Ok(end)
    }

    /// Copies blocks into the own layer; those that are zero are only marked.
    fn bring_down(
        &self,
        chain: &Chain<F, B>,
        block: u64,
        count: u64,
        buffer: &mut [u8],
    ) -> Result<(), VolumeError> {
        let begin = block * BLOCK;
        let length = ((block + count) * BLOCK).min(self.size) - begin;
        let octets = &mut buffer[..length as usize];
        chain.read(begin, octets, 1)?;
        let is_zero = |part: &[u8]| *part == ZEROS[..part.len()];
        let mut at = 0;
        while at < octets.len() {
            let rest = octets[at..].chunks(BLOCK as usize);
            let zero = is_zero(&octets[at..octets.len().min(at + BLOCK as usize)]);
            let blocks = rest.take_while(|part| is_zero(part) == zero).count() as u64;
            let until = octets.len().min(at + (blocks * BLOCK) as usize);
            let offset = begin + at as u64;
            if !zero {
                let written = chain.own().data().write_at(offset, &octets[at..until]);
                written.map_err(VolumeError::io("write", offset))?;
            }
            let state = if zero { State::Zero } else { State::Here };
            chain.own().set(offset / BLOCK..offset / BLOCK + blocks, state)?;
            at = until;
        }
        Ok(())
    }
}

/// What blocks need so that nothing below them is needed.
enum Need {
    Nothing,
    Mark,
    Copy,
}

/// What the first octets of `offset..end` need, and how many they are. Only at the image's end, past which
/// all is zero, is that no multiple of a block.
fn below<F: LayerFile, B: Blocks<Error = io::Error>>(
    chain: &Chain<F, B>,
    depth: Depth,
    offset: u64,
    end: u64,
) -> Result<(Need, u64), VolumeError> {
    let (found, length) = chain.find(offset, end, 1)?;
    let need = match (found, depth) {
        (Found::Layer(_), _) | (Found::Extent(..), Depth::All) => Need::Copy,
        (Found::Extent(..), Depth::Layers) | (Found::Zero, Depth::All) => Need::Nothing,
        // A layer's zeros hide what the image has there.
        (Found::Zero, Depth::Layers) => match &chain.base {
            None => Need::Nothing,
            Some(base) => match base.piece(offset..offset + length) {
                Piece::Hole(hole) if hole >= length => Need::Nothing,
                Piece::Hole(hole) => return Ok((Need::Nothing, hole)),
                Piece::Data { length: data, .. } => return Ok((Need::Mark, length.min(data as u64))),
            },
        },
    };
    Ok((need, length))
}
