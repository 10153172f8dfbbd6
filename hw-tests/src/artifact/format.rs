//! A raw image in the formats images come in.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};

use super::Workshop;
use super::command::{run, tool};
use super::workshop::Made;

/// A file format of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// The disk's octets.
    Raw,
    /// QEMU's, with compressed clusters.
    Qcow2,
    /// The disk's octets through gzip.
    Gz,
    /// The disk's octets through xz.
    Xz,
    /// The disk's octets through zstd.
    Zst,
}

impl Format {
    fn extension(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Gz => "raw.gz",
            Self::Xz => "raw.xz",
            Self::Zst => "raw.zst",
        }
    }
}

/// The artifact `raw` in another format, kept beside it.
///
/// # Errors
/// When the format's tool fails.
pub fn converted(workshop: &Workshop, raw: &Path, format: Format) -> Result<Made> {
    let compressor: &[&str] = match format {
        Format::Raw => return Ok(Made { path: raw.to_owned(), fresh: false }),
        Format::Qcow2 => &["qemu-img", "convert", "-c", "-O", "qcow2"],
        Format::Gz => &["gzip", "-n", "-c", "-6"],
        Format::Xz => &["xz", "-T2", "-c", "-3"],
        Format::Zst => &["zstd", "-q", "-c", "-9"],
    };
    let stem = raw.file_stem().and_then(|stem| stem.to_str()).context("the image's path has no file name")?;
    workshop.make(&format!("{stem}.{}", format.extension()), |scratch| {
        let out = scratch.join("out");
        let mut command = tool(compressor[0]);
        command.args(&compressor[1..]).arg(raw);
        if format == Format::Qcow2 {
            run(command.arg(&out))?;
        } else {
            let file = File::create(&out)?;
            let mut child =
                command.stdout(file).spawn().with_context(|| format!("cannot start {}", compressor[0]))?;
            let status = child.wait()?;
            anyhow::ensure!(status.success(), "{} failed: {status}", compressor[0]);
        }
        Ok(out)
    })
}
