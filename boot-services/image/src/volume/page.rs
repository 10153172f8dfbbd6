//! A page of a map as it is on the disk.
//!
//! ```text
//!   octets  0..8     "KilnMap" and the version, 1
//!           8..24    the layer
//!          24..32    the sequence number, little endian: of two whole pages the higher one holds
//!          32..36    which page of the map, little endian; the head's is 0xffffffff
//!          36..40    CRC32C of the page with these four octets as zeros, little endian
//!          40..4096  507 words of 64 bits, little endian
//! ```
//!
//! A word of the map is of 32 blocks, two bits each, the lowest first. The head's first word is the
//! volume's size; each bit of the others says that a page was written once.

use super::LayerId;
use core::sync::atomic::{AtomicU64, Ordering};

/// Octets of a page.
pub(super) const PAGE: usize = 4096;

/// Octets before its words.
pub(super) const HEAD: usize = 40;

/// Words of a page.
pub(super) const WORDS: usize = (PAGE - HEAD) / 8;

/// Blocks that a word speaks of.
pub(super) const PER_WORD: u64 = 32;

/// Blocks that a page speaks of.
pub(super) const PER_PAGE: u64 = WORDS as u64 * PER_WORD;

/// The head's number.
pub(super) const HEAD_PAGE: u32 = u32::MAX;

const MAGIC: [u8; 8] = *b"KilnMap\x01";

/// The words of a page in memory. Who changes them holds the layer's lock; who reads them needs none.
pub(super) type Words = [AtomicU64; WORDS];

/// A page without a block.
pub(super) fn empty() -> Box<Words> {
    Box::new([const { AtomicU64::new(0) }; WORDS])
}

/// The octets of words `range`.
pub(super) fn octets(words: &Words, range: core::ops::Range<usize>) -> Vec<u8> {
    words[range].iter().flat_map(|word| word.load(Ordering::Acquire).to_le_bytes()).collect()
}

/// The words of so many octets.
pub(super) fn words(octets: &[u8]) -> Box<Words> {
    let words = empty();
    for (word, octets) in words.iter().zip(octets.chunks_exact(8)) {
        word.store(u64::from_le_bytes(octets.try_into().expect("chunks of eight")), Ordering::Release);
    }
    words
}

/// A page as it goes to the disk; `payload` is the octets of [`WORDS`] words.
pub(super) fn encode(layer: &LayerId, sequence: u64, number: u32, payload: &[u8]) -> Vec<u8> {
    let mut page = Vec::with_capacity(PAGE);
    page.extend_from_slice(&MAGIC);
    page.extend_from_slice(&layer.0);
    page.extend_from_slice(&sequence.to_le_bytes());
    page.extend_from_slice(&number.to_le_bytes());
    page.extend_from_slice(&[0; 4]);
    page.extend_from_slice(payload);
    let sum = crc32c::crc32c(&page);
    page[36..40].copy_from_slice(&sum.to_le_bytes());
    page
}

/// The sequence number of a page that is whole, and this one.
fn sequence(layer: &LayerId, number: u32, page: &[u8]) -> Option<u64> {
    let mut cleared = page.to_vec();
    cleared.get_mut(36..40)?.fill(0);
    let sum = u32::from_le_bytes(page[36..40].try_into().ok()?);
    let right = page.len() == PAGE
        && page[..8] == MAGIC
        && page[8..24] == layer.0
        && page[32..36] == number.to_le_bytes()
        && crc32c::crc32c(&cleared) == sum;
    if right { Some(u64::from_le_bytes(page[24..32].try_into().ok()?)) } else { None }
}

/// Of both copies of a page, as they are on the disk one after the other, the newer one that is whole: its
/// sequence number and the octets of its words.
pub(super) fn newest<'a>(layer: &LayerId, number: u32, both: &'a [u8]) -> Option<(u64, &'a [u8])> {
    let copies = both.chunks(PAGE).filter_map(|copy| Some((sequence(layer, number, copy)?, copy)));
    copies.max_by_key(|(sequence, _)| *sequence).map(|(sequence, copy)| (sequence, &copy[HEAD..]))
}

/// How many of both copies are whole.
pub(super) fn whole(layer: &LayerId, number: u32, both: &[u8]) -> usize {
    both.chunks(PAGE).filter(|copy| sequence(layer, number, copy).is_some()).count()
}

/// Where both copies of a page begin in the file of the map.
pub(super) fn place(number: u32) -> u64 {
    let pair = if number == HEAD_PAGE { 0 } else { u64::from(number) + 1 };
    pair * 2 * PAGE as u64
}

/// Where the copy of that sequence number is.
pub(super) fn copy_place(number: u32, sequence: u64) -> u64 {
    place(number) + (sequence % 2) * PAGE as u64
}
