use crate::{Manifest, Piece};
use boot::Digest;

/// Where extents are kept.
pub trait Blocks {
    /// Why an extent cannot be had.
    type Error;

    /// Fills `into` with octets of an extent, from its octet `skip` on.
    fn get(&self, digest: &Digest, skip: usize, into: &mut [u8]) -> Result<(), Self::Error>;
}

/// Fills `into` with an image's octets from `offset` on. Gives how many there were: fewer than asked for
/// only at the image's end.
pub fn read_at<B: Blocks>(
    manifest: &Manifest,
    blocks: &B,
    offset: u64,
    into: &mut [u8],
) -> Result<usize, B::Error> {
    let end = offset.saturating_add(into.len() as u64);
    let mut done = 0;
    while let Some(piece) = manifest.piece(offset.saturating_add(done as u64)..end) {
        let length = piece.length() as usize;
        let part = &mut into[done..done + length];
        match piece {
            Piece::Hole(_) => part.fill(0),
            Piece::Data { digest, skip, .. } => blocks.get(&digest, skip, part)?,
        }
        done += length;
    }
    Ok(done)
}
