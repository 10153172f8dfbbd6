use boot::{Digest, NotAWord};
use core::{fmt, str::FromStr};
use serde::{Deserialize, Serialize};

/// A SHA-256 digest, for people to compare with what a publisher or `sha256sum` says; 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sha256(Digest);

impl Sha256 {
    /// From its octets.
    pub fn new(octets: [u8; 32]) -> Sha256 {
        Sha256(Digest(octets))
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A checksum that somebody says a file has: `sha256:HEX` or `blake3:HEX`; without a word before it, SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// As `sha256sum` prints it.
    Sha256(Sha256),
    /// As `b3sum` prints it.
    Blake3(Digest),
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sum::Sha256(sum) => write!(f, "sha256:{sum}"),
            Sum::Blake3(sum) => write!(f, "blake3:{sum}"),
        }
    }
}

impl FromStr for Sum {
    type Err = NotAWord;

    fn from_str(text: &str) -> Result<Sum, NotAWord> {
        let wrong = |_| NotAWord {
            expected: "a checksum: sha256: or blake3: and 64 hexadecimal digits",
            found: text.chars().take(80).collect(),
        };
        match text.split_once(':') {
            Some(("blake3", hex)) => hex.parse().map(Sum::Blake3).map_err(wrong),
            Some(("sha256", hex)) => hex.parse().map(|d| Sum::Sha256(Sha256(d))).map_err(wrong),
            _ => text.parse().map(|d| Sum::Sha256(Sha256(d))).map_err(wrong),
        }
    }
}

/// Computes what it is asked for over the octets it is shown.
pub(crate) struct Summer {
    sha256: Option<sha2::Sha256>,
    blake3: Option<blake3::Hasher>,
}

impl Summer {
    /// Computes what `expected` needs, and SHA-256 if `always`.
    pub(crate) fn new(expected: Option<Sum>, always: bool) -> Summer {
        Summer {
            sha256: (always || matches!(expected, Some(Sum::Sha256(_))))
                .then(<sha2::Sha256 as sha2::Digest>::new),
            blake3: matches!(expected, Some(Sum::Blake3(_))).then(blake3::Hasher::new),
        }
    }

    pub(crate) fn update(&mut self, octets: &[u8]) {
        if let Some(sha256) = &mut self.sha256 {
            sha2::Digest::update(sha256, octets);
        }
        if let Some(blake3) = &mut self.blake3 {
            blake3.update(octets);
        }
    }

    /// The sum of the kind that `of` is, if it was computed.
    pub(crate) fn like(&self, of: &Sum) -> Option<Sum> {
        match of {
            Sum::Sha256(_) => self.sha256().map(Sum::Sha256),
            Sum::Blake3(_) => {
                self.blake3.as_ref().map(|hasher| Sum::Blake3(Digest(*hasher.finalize().as_bytes())))
            }
        }
    }

    pub(crate) fn sha256(&self) -> Option<Sha256> {
        self.sha256.clone().map(|hasher| Sha256::new(sha2::Digest::finalize(hasher).into()))
    }
}
