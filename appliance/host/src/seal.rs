//! What a slot says of itself: the squashfs's size, and the seal behind it.
//!
//! ```text
//!   squashfs, filled up to 4096 | seal, 4096 octets | dm-verity's superblock, 4096 octets | its tree
//! ```

use std::{fmt, str::FromStr};

/// Octets of a block of everything in a slot.
pub const BLOCK: u64 = 4096;
/// Octets of the squashfs's superblock.
pub const HEAD: usize = 96;

/// What is wrong with a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsealed {
    /// No squashfs at its beginning.
    NoSquashfs,
    /// No seal where the squashfs ends.
    NoSeal,
    /// A line that is missing or is not what it should be.
    Line(&'static str),
    /// The seal is of another squashfs: blocks it speaks of, and blocks there are.
    OtherSize(u64, u64),
}

impl fmt::Display for Unsealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unsealed::NoSquashfs => f.write_str("no squashfs is at its beginning"),
            Unsealed::NoSeal => f.write_str("no seal is behind its squashfs"),
            Unsealed::Line(key) => write!(f, "its seal has no right line {key:?}"),
            Unsealed::OtherSize(said, found) => {
                write!(f, "its seal is of {said} blocks, and its squashfs has {found}")
            }
        }
    }
}

impl std::error::Error for Unsealed {}

/// A root hash or a salt: pairs of hexadecimal digits in lower case, at most 256 octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hex(String);

impl Hex {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Hex {
    type Err = ();

    fn from_str(text: &str) -> Result<Hex, ()> {
        let digits = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let is_hex = digits && !text.is_empty() && text.len() <= 512 && text.len().is_multiple_of(2);
        if is_hex { Ok(Hex(text.to_owned())) } else { Err(()) }
    }
}

/// The root of a tree of SHA-256: 64 digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root(Hex);

impl Root {
    /// The digits.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for Root {
    type Err = ();

    fn from_str(text: &str) -> Result<Root, ()> {
        if text.len() == 64 { text.parse().map(Root) } else { Err(()) }
    }
}

/// The seal of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Blocks of squashfs.
    pub data_blocks: u64,
    /// The hash that everything is held against.
    pub root: Root,
    /// What is hashed before every block.
    pub salt: Hex,
    /// The version of the system in the slot.
    pub version: String,
}

/// The blocks that a squashfs takes, from its first [`HEAD`] octets; the seal is behind them.
///
/// # Errors
/// When it is none.
pub fn data_blocks(head: &[u8]) -> Result<u64, Unsealed> {
    let used = head.get(40..48).and_then(|octets| octets.try_into().ok()).map(u64::from_le_bytes);
    match used {
        Some(used) if head.starts_with(b"hsqs") && used >= HEAD as u64 => Ok(used.div_ceil(BLOCK)),
        _ => Err(Unsealed::NoSquashfs),
    }
}

impl Seal {
    /// Reads the block behind a squashfs of so many blocks.
    ///
    /// # Errors
    /// Says which line is wrong.
    pub fn parse(block: &[u8], data_blocks: u64) -> Result<Seal, Unsealed> {
        let text = block.split(|&b| b == 0).next().and_then(|text| std::str::from_utf8(text).ok());
        let text = text.filter(|text| text.starts_with("kiln-seal 1\n")).ok_or(Unsealed::NoSeal)?;
        let value = |key: &'static str| {
            let found = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
            found.ok_or(Unsealed::Line(key))
        };
        let said: u64 = value("data-blocks")?.parse().map_err(|_| Unsealed::Line("data-blocks"))?;
        if said != data_blocks {
            return Err(Unsealed::OtherSize(said, data_blocks));
        }
        Ok(Seal {
            data_blocks,
            root: value("root")?.parse().map_err(|()| Unsealed::Line("root"))?,
            salt: value("salt")?.parse().map_err(|()| Unsealed::Line("salt"))?,
            version: value("version")?.to_owned(),
        })
    }

    /// dm-verity's parameters (Documentation/admin-guide/device-mapper/verity.rst) for a slot that lies on
    /// the device `MAJOR:MINOR`. `restarts`: a block that is not what it was restarts the machine.
    pub fn table(&self, device: &str, restarts: bool) -> String {
        let (blocks, root, salt) = (self.data_blocks, self.root.as_str(), self.salt.as_str());
        // The seal and verity's superblock are between.
        let tree = blocks + 2;
        let end = if restarts { " 1 restart_on_corruption" } else { "" };
        format!("1 {device} {device} {BLOCK} {BLOCK} {blocks} {tree} sha256 {root} {salt}{end}")
    }
}

#[cfg(test)]
mod tests;
