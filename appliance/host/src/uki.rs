//! The signed kernel image that a slot image may bring: its fourth part, behind dm-verity's tree. GRUB's profile
//! passes over it.
//!
//! ```text
//!   … dm-verity's tree | head, 4096 octets: lines "kiln-uki 1", "length N", "sha256 HEX" | the image, filled up to 4096
//! ```

use crate::seal::{BLOCK, Seal};
use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};
use std::{fs::File, os::unix::fs::FileExt as _, path::Path};

/// The most octets of an image: two of them, and what else is there, fit on an ESP of 64 MiB.
pub const BOUND: u64 = 30 << 20;
/// In the description of a bundle that brings one, so that it is known before anything is written.
pub const MARK: &str = "signed kernel image";
/// Hashes in a block of the tree.
const HASHES: u64 = BLOCK / 32;

/// What stands before the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    length: u64,
    sha256: String,
}

fn sha256(octets: &[u8]) -> String {
    Sha256::digest(octets).iter().map(|octet| format!("{octet:02x}")).collect()
}

impl Head {
    /// The head of an image.
    pub fn of(image: &[u8]) -> Head {
        Head { length: image.len() as u64, sha256: sha256(image) }
    }

    /// The block that it is.
    pub fn block(&self) -> Vec<u8> {
        let mut block = format!("kiln-uki 1\nlength {}\nsha256 {}\n", self.length, self.sha256).into_bytes();
        block.resize(BLOCK as usize, 0);
        block
    }

    /// Reads a block; nothing: there is no image.
    ///
    /// # Errors
    /// It is a head, and a line of it is wrong.
    fn parse(block: &[u8]) -> Result<Option<Head>> {
        let text = block.split(|octet| *octet == 0).next().and_then(|text| std::str::from_utf8(text).ok());
        let Some(text) = text.filter(|text| text.starts_with("kiln-uki 1\n")) else { return Ok(None) };
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
        let length = value("length").and_then(|text| text.parse().ok()).context("its length is no number")?;
        ensure!(
            length <= BOUND,
            "its length is {length} octets, and at most {BOUND} fit beside the boot loader"
        );
        let sha256 = value("sha256").context("its head has no line sha256")?.to_owned();
        Ok(Some(Head { length, sha256 }))
    }
}

/// Where the head is: in blocks from the slot's beginning.
pub fn place(data_blocks: u64) -> u64 {
    // The seal, and verity's superblock.
    let mut end = data_blocks.saturating_add(2);
    let mut level = data_blocks;
    while level > 1 {
        level = level.div_ceil(HASHES);
        end = end.saturating_add(level);
    }
    end
}

/// The image in a slot; nothing: the slot has none.
///
/// # Errors
/// It cannot be read, or is not what its head says.
pub fn read(slot: &Path, seal: &Seal) -> Result<Option<Vec<u8>>> {
    let file = File::open(slot).with_context(|| format!("{} cannot be opened", slot.display()))?;
    let at = place(seal.data_blocks).checked_mul(BLOCK).context("the slot's squashfs says it is endless")?;
    let mut block = vec![0; BLOCK as usize];
    // A slot image that ends with its tree, in a partition that it fills.
    if file.read_exact_at(&mut block, at).is_err() {
        return Ok(None);
    }
    let wrong = || format!("the kernel image in {} is damaged", slot.display());
    let Some(head) = Head::parse(&block).with_context(wrong)? else { return Ok(None) };
    let mut image = vec![0; usize::try_from(head.length)?];
    file.read_exact_at(&mut image, at + BLOCK).with_context(wrong)?;
    if sha256(&image) != head.sha256 {
        bail!("{}: it is not the one that its SHA-256 is of", wrong());
    }
    Ok(Some(image))
}

#[cfg(test)]
mod tests;
