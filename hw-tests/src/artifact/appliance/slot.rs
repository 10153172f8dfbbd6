//! The slot image: squashfs, seal, dm-verity tree.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::artifact::command::{run, text, tool};

/// A block of the seal, of the tree, and of the data it speaks for, in octets.
pub const BLOCK: u64 = 4096;
/// The most octets of a slot image.
pub const BOUND: u64 = 64 << 20;

/// squashfs's magic number, and where its superblock says how many octets are used.
const SQUASHFS_MAGIC: [u8; 4] = *b"hsqs";
const BYTES_USED: usize = 40;

/// What stands between the squashfs and the tree: enough to check the one by the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Blocks of squashfs; the seal is the block behind them, the verity superblock the one behind the seal.
    pub data_blocks: u64,
    /// The tree's root hash, in hexadecimal digits.
    pub root: String,
    /// What every hash begins with, in hexadecimal digits.
    pub salt: String,
    /// The release's version.
    pub version: String,
}

impl Seal {
    /// The block: lines of a key and a value, filled up with zeros.
    fn block(&self) -> Result<Vec<u8>> {
        let Self { data_blocks, root, salt, version } = self;
        let text =
            format!("kiln-seal 1\ndata-blocks {data_blocks}\nroot {root}\nsalt {salt}\nversion {version}\n");
        ensure!(text.len() as u64 <= BLOCK, "a version of {} octets fits in no seal", version.len());
        let mut block = text.into_bytes();
        block.resize(BLOCK as usize, 0);
        Ok(block)
    }

    /// Reads the seal of a slot image or of a slot's partition.
    ///
    /// # Errors
    /// When it cannot be read, holds no squashfs, or no seal behind it.
    pub fn read(slot: &Path) -> Result<Self> {
        let file = File::open(slot).with_context(|| format!("cannot read {}", slot.display()))?;
        let mut block = [0; BLOCK as usize];
        file.read_exact_at(&mut block, squashfs_blocks(&file)? * BLOCK)?;
        let text = block.split(|octet| *octet == 0).next().unwrap_or_default();
        let text = std::str::from_utf8(text).context("the seal is no text")?;
        let field = |key: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
            value.with_context(|| format!("the seal of {} has no line '{key}'", slot.display()))
        };
        ensure!(field("kiln-seal")? == "1", "the seal is of another kind than 1");
        Ok(Self {
            data_blocks: field("data-blocks")?.parse().context("data-blocks is no number")?,
            root: field("root")?.to_owned(),
            salt: field("salt")?.to_owned(),
            version: field("version")?.to_owned(),
        })
    }
}

/// The squashfs at the beginning of a file, in blocks.
fn squashfs_blocks(file: &File) -> Result<u64> {
    let mut head = [0; BYTES_USED + 8];
    file.read_exact_at(&mut head, 0)?;
    ensure!(head.starts_with(&SQUASHFS_MAGIC), "no squashfs: its magic number is not there");
    let used: [u8; 8] = head[BYTES_USED..].try_into().context("eight octets are eight")?;
    Ok(u64::from_le_bytes(used).div_ceil(BLOCK))
}

/// Makes the slot image `out` of the folder `root`, whatever owner and times the files there have.
pub(super) fn write(root: &Path, version: &str, out: &Path) -> Result<()> {
    // GRUB 2.06 reads gzip, and neither zstd nor 1 MiB blocks of xz in reasonable time. Times are the
    // fixed SOURCE_DATE_EPOCH's.
    run(tool("mksquashfs").arg(root).arg(out).args([
        "-noappend",
        "-quiet",
        "-no-progress",
        "-all-root",
        "-no-xattrs",
        "-no-exports",
        "-comp",
        "gzip",
        "-b",
        "128K",
        "-processors",
        "2",
    ]))?;
    let file = OpenOptions::new().read(true).write(true).open(out)?;
    let data_blocks = squashfs_blocks(&file)?;
    file.set_len(data_blocks * BLOCK)?;

    // Another content, another salt and another identifier; the same content, the same.
    let digest = digest(&file, data_blocks)?;
    let salt: String = digest.iter().map(|octet| format!("{octet:02x}")).collect();
    let uuid =
        format!("{}-{}-{}-{}-{}", &salt[..8], &salt[8..12], &salt[12..16], &salt[16..20], &salt[20..32]);
    let said = text(
        tool("veritysetup")
            .arg("format")
            .args(["--data-block-size=4096", "--hash-block-size=4096", "--hash=sha256"])
            .arg(format!("--data-blocks={data_blocks}"))
            .arg(format!("--hash-offset={}", (data_blocks + 1) * BLOCK))
            .args([format!("--salt={salt}"), format!("--uuid={uuid}")])
            .arg(out)
            .arg(out),
    )?;
    let Some(root) = said.lines().find_map(|line| line.strip_prefix("Root hash:")).map(str::trim) else {
        bail!("veritysetup prints no root hash:\n{said}")
    };
    let seal = Seal { data_blocks, root: root.to_owned(), salt, version: version.to_owned() };
    file.write_all_at(&seal.block()?, data_blocks * BLOCK)?;
    file.set_len(file.metadata()?.len().next_multiple_of(BLOCK))?;
    Ok(())
}

/// SHA-256 of so many blocks.
fn digest(file: &File, blocks: u64) -> Result<[u8; 32]> {
    let mut sum = Sha256::new();
    let mut block = [0; BLOCK as usize];
    for number in 0..blocks {
        file.read_exact_at(&mut block, number * BLOCK)?;
        sum.update(block);
    }
    Ok(sum.finalize().into())
}
