use crate::Sha256;
use boot::Digest;
use core::{fmt, ops::Range};
use serde::{Deserialize, Serialize};

/// Octets of an extent; the last one of an image may be shorter.
pub const EXTENT: usize = 1 << 20;

/// An image's size is a multiple of this.
pub const SECTOR: u64 = 512;

/// The largest image: 1 TiB, whose manifest is [`MAX_ENCODED`] octets at most.
pub const MAX_SIZE: u64 = 1 << 40;

/// The longest encoding of a manifest, in octets.
pub const MAX_ENCODED: usize = ((MAX_SIZE as usize) / EXTENT) * 67 + 256;

/// The version of the encoding that this crate writes.
const VERSION: u8 = 1;

/// The BLAKE3 digest of some octets.
pub fn digest(octets: &[u8]) -> Digest {
    Digest(*blake3::hash(octets).as_bytes())
}

/// What an image consists of.
///
/// Its canonical encoding is JSON without white space, its fields in the order `version`, `size`,
/// `extent_size`, `sha256`, `extents`; a hole is `null`. What is encoded otherwise is not a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    size: u64,
    sha256: Sha256,
    extents: Vec<Option<Digest>>,
}

/// What of the encoding is not the list of extents, which is read by hand: there may be a million of them.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    version: u8,
    size: u64,
    extent_size: u32,
    sha256: Sha256,
}

impl Head {
    /// Without its closing brace.
    fn encode(&self) -> Vec<u8> {
        let mut encoded = serde_json::to_vec(self).expect("numbers and a text have a JSON form");
        encoded.pop();
        encoded
    }
}

/// What stands between the head and the extents.
const EXTENTS: &[u8] = b",\"extents\":[";

/// The head is shorter than this.
const MAX_HEAD: usize = 256;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The extents in `null` and `"…"`, with commas between them and `]}` behind.
fn extents(mut rest: &[u8]) -> Option<Vec<Option<Digest>>> {
    let mut extents = Vec::with_capacity(rest.len() / 67);
    loop {
        if let Some(after) = rest.strip_prefix(b"null") {
            extents.push(None);
            rest = after;
        } else {
            let (digits, after) = rest.strip_prefix(b"\"")?.split_first_chunk::<64>()?;
            let mut digest = Digest([0; 32]);
            for (octet, pair) in digest.0.iter_mut().zip(digits.as_chunks::<2>().0) {
                *octet = value(pair[0])? << 4 | value(pair[1])?;
            }
            extents.push(Some(digest));
            rest = after.strip_prefix(b"\"")?;
        }
        match rest.strip_prefix(b",") {
            Some(after) => rest = after,
            None => return (rest == b"]}").then_some(extents),
        }
    }
}

/// Of a lower-case hexadecimal digit.
fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// What keeps some octets from being a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAManifest(pub(crate) String);

impl fmt::Display for NotAManifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not an image's manifest: {}", self.0)
    }
}

impl core::error::Error for NotAManifest {}

/// A part of an image that lies within one extent or within one stretch of holes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Zeros, so many octets.
    Hole(u64),
    /// Octets of an extent.
    Data {
        /// Which.
        digest: Digest,
        /// The first, counted within the extent.
        skip: usize,
        /// How many.
        length: usize,
    },
}

impl Piece {
    /// How many octets it describes.
    pub fn length(&self) -> u64 {
        match self {
            Piece::Hole(length) => *length,
            Piece::Data { length, .. } => *length as u64,
        }
    }
}

/// Octets of an image without a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where they begin in the image.
    pub offset: u64,
    /// How many they are.
    pub length: u64,
}

impl Manifest {
    /// A manifest. `size` is a multiple of [`SECTOR`] and at most [`MAX_SIZE`], and there is one item of
    /// `extents` for each [`EXTENT`] octets begun.
    pub fn new(size: u64, sha256: Sha256, extents: Vec<Option<Digest>>) -> Result<Manifest, NotAManifest> {
        if size == 0 || !size.is_multiple_of(SECTOR) || size > MAX_SIZE {
            return Err(NotAManifest(format!("a size of {size} octets")));
        }
        let needed = size.div_ceil(EXTENT as u64);
        if extents.len() as u64 != needed {
            return Err(NotAManifest(format!("{} extents for {size} octets, not {needed}", extents.len())));
        }
        Ok(Manifest { size, sha256, extents })
    }

    /// Octets of the disk that the image describes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// SHA-256 of the content as it came, before it was padded to a multiple of [`SECTOR`]: what
    /// `sha256sum` says of the raw file.
    pub fn sha256(&self) -> Sha256 {
        self.sha256
    }

    /// The extents in order; `None` is a hole.
    pub fn extents(&self) -> &[Option<Digest>] {
        &self.extents
    }

    /// The digests of the extents that are no holes, in order; one that the image holds twice comes twice.
    pub fn digests(&self) -> impl Iterator<Item = Digest> {
        self.extents.iter().copied().flatten()
    }

    /// Octets that extent `index` has.
    pub fn extent_length(&self, index: usize) -> usize {
        let rest = self.size.saturating_sub(index as u64 * EXTENT as u64);
        rest.min(EXTENT as u64) as usize
    }

    /// Octets in extents that are no holes; one that the image holds twice counts twice.
    pub fn data_bytes(&self) -> u64 {
        self.runs().map(|run| run.length).sum()
    }

    /// The stretches without holes, in order; two neighbours have a hole between them.
    pub fn runs(&self) -> impl Iterator<Item = Run> {
        let mut index = 0;
        core::iter::from_fn(move || {
            index += self.extents.get(index..)?.iter().position(Option::is_some)?;
            let rest = &self.extents[index..];
            let count = rest.iter().position(Option::is_none).unwrap_or(rest.len());
            let offset = index as u64 * EXTENT as u64;
            index += count;
            let end = self.size.min(index as u64 * EXTENT as u64);
            Some(Run { offset, length: end - offset })
        })
    }

    /// The first part of `range` (octets of the image) that one read can serve; `None` if `range` is
    /// empty or begins at or past the end.
    pub fn piece(&self, range: Range<u64>) -> Option<Piece> {
        let end = range.end.min(self.size);
        if range.start >= end {
            return None;
        }
        let index = (range.start / EXTENT as u64) as usize;
        let skip = (range.start % EXTENT as u64) as usize;
        let rest = &self.extents[index..];
        match rest.first()? {
            Some(digest) => {
                let length = ((end - range.start) as usize).min(EXTENT - skip);
                Some(Piece::Data { digest: *digest, skip, length })
            }
            None => {
                let last = end.div_ceil(EXTENT as u64) as usize;
                let within = &rest[..last - index];
                let count = within.iter().position(Option::is_some).unwrap_or(within.len());
                let until = ((index + count) as u64 * EXTENT as u64).min(end);
                Some(Piece::Hole(until - range.start))
            }
        }
    }

    /// The canonical encoding.
    pub fn encode(&self) -> Vec<u8> {
        let head =
            Head { version: VERSION, size: self.size, extent_size: EXTENT as u32, sha256: self.sha256 };
        let mut encoded = head.encode();
        encoded.reserve(EXTENTS.len() + 2 + self.extents.len() * 67);
        encoded.extend_from_slice(EXTENTS);
        for (index, extent) in self.extents.iter().enumerate() {
            if index > 0 {
                encoded.push(b',');
            }
            match extent {
                None => encoded.extend_from_slice(b"null"),
                Some(digest) => {
                    encoded.push(b'"');
                    encoded.extend(digest.0.iter().flat_map(|octet| {
                        [DIGITS[usize::from(octet >> 4)], DIGITS[usize::from(octet & 15)]]
                    }));
                    encoded.push(b'"');
                }
            }
        }
        encoded.extend_from_slice(b"]}");
        encoded
    }

    /// Reads the canonical encoding, of at most [`MAX_ENCODED`] octets.
    pub fn decode(octets: &[u8]) -> Result<Manifest, NotAManifest> {
        if octets.len() > MAX_ENCODED {
            return Err(NotAManifest(format!("{} octets, more than {MAX_ENCODED}", octets.len())));
        }
        let not_canonical = || NotAManifest("its encoding is not the canonical one".to_owned());
        let at = octets.windows(EXTENTS.len()).take(MAX_HEAD).position(|window| window == EXTENTS);
        let (head, rest) = octets.split_at(at.ok_or_else(not_canonical)?);
        let read: Head =
            serde_json::from_slice(&[head, b"}"].concat()).map_err(|e| NotAManifest(e.to_string()))?;
        if read.version != VERSION {
            return Err(NotAManifest(format!("of version {}, this release reads {VERSION}", read.version)));
        }
        if read.extent_size != EXTENT as u32 {
            return Err(NotAManifest(format!("extents of {} octets, not {EXTENT}", read.extent_size)));
        }
        if read.encode() != head {
            return Err(not_canonical());
        }
        let extents = extents(&rest[EXTENTS.len()..]).ok_or_else(not_canonical)?;
        Manifest::new(read.size, read.sha256, extents)
    }

    /// The image's name: BLAKE3 of the canonical encoding.
    pub fn id(&self) -> Digest {
        digest(&self.encode())
    }
}

#[cfg(test)]
mod tests;
