//! What has to happen to each extent of a disk so that it holds an image.

use crate::device::is_zero;
use boot::Digest;
use std::{collections::VecDeque, ops::Range};

/// The octets of a disk image and its parts lie on multiples of this.
pub(crate) const MIB: u64 = 1 << 20;
/// Extents asked for in one request.
pub(crate) const RUN: usize = 64;

/// What has to happen to an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// A hole, and the disk has zeroes there.
    Nothing,
    /// A hole, and the disk has something else there: somebody's data.
    Zero,
    /// The disk has the image's octets there.
    Keep,
    /// The image's octets have to come over the network.
    Fetch,
}

/// What has to happen to an extent that should have the digest `want` (none: a hole), where the disk has
/// `there`: the extent's `length` octets and what fills the last block.
pub(crate) fn need(want: Option<Digest>, there: &[u8], length: usize) -> Need {
    match want {
        None if is_zero(there) => Need::Nothing,
        None => Need::Zero,
        // An extent with a digest is not all zero: nothing to hash on a blank part.
        Some(_) if is_zero(there) => Need::Fetch,
        Some(digest) if is_zero(&there[length..]) && image::digest(&there[..length]) == digest => Need::Keep,
        Some(_) => Need::Fetch,
    }
}

/// How many extents from the front follow each other, so that one request gets them.
pub(crate) fn run(wanted: &VecDeque<usize>) -> usize {
    let follows = |(at, extent): &(usize, &usize)| wanted.front().is_some_and(|first| **extent == first + at);
    wanted.iter().enumerate().take(RUN).take_while(follows).count()
}

/// Octets of disk that an image needs; a config drive is a partition of its own between the image's end
/// and the partition table's copy, which has the last MiB to itself.
pub(crate) fn needed(image: u64, config_drive: Option<u64>) -> u64 {
    match config_drive {
        None => image,
        Some(octets) => up(image, MIB).saturating_add(up(octets, MIB)).saturating_add(MIB),
    }
}

/// What of a disk of `size` octets is cleared beside an image of `image` octets: the MiB after its end
/// and the disk's last MiB, where signatures of an earlier tenant would be found.
pub(crate) fn around(image: u64, size: u64, block: u64) -> [Range<u64>; 2] {
    let end = up(image, block).min(size);
    let after = end..end.saturating_add(MIB).min(size);
    let last = size.saturating_sub(MIB).max(after.end)..size;
    [after, last]
}

/// The next multiple of `unit`, or `octets` itself.
pub(crate) fn up(octets: u64, unit: u64) -> u64 {
    octets.checked_next_multiple_of(unit).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
