//! What is written on the node's disk: the tiny image, made larger by octets that no disk compresses.

use anyhow::{Context as _, Result, ensure};
use hw_tests::artifact::command::{run, tool};
use hw_tests::artifact::workshop::Key;
use hw_tests::artifact::{Flavour, Workshop, tiny};
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

const MIB: u64 = 1 << 20;

/// The image of all runs.
#[derive(Clone, Debug)]
pub(crate) struct Material {
    /// The raw image.
    pub(crate) image: PathBuf,
    /// Its extents that are not all zero, one after the other: what the appliance sends of it.
    pub(crate) data: PathBuf,
    /// Octets of them.
    pub(crate) octets: u64,
}

/// The tiny image with so many MiB more.
pub(crate) fn make(workshop: &Workshop, more: u64) -> Result<Material> {
    let tiny = tiny::image(workshop, Flavour::Cloud)?.path;
    let name = tiny.file_name().context("the tiny image has no name")?.to_string_lossy().into_owned();
    let key = Key::new("bench", 1).with(&name).with(more.to_le_bytes()).name();
    let image = workshop.make(&format!("bench-{key}.raw"), |scratch| grown(&tiny, more, scratch))?.path;
    let data = workshop.make(&format!("bench-{key}.data"), |scratch| dense(&image, scratch))?.path;
    let octets = fs::metadata(&data)?.len();
    Ok(Material { image, data, octets })
}

fn grown(tiny: &Path, more: u64, scratch: &Path) -> Result<PathBuf> {
    let out = scratch.join("image");
    run(tool("cp").args(["--sparse=always", "--"]).arg(tiny).arg(&out))?;
    if more == 0 {
        return Ok(out);
    }
    let before = fs::metadata(&out)?.len();
    let disk = OpenOptions::new().write(true).open(&out)?;
    disk.set_len(before + more * MIB)?;
    run(tool("sgdisk").args(["-e", "-n", "3:0:0", "-t", "3:8300", "-c", "3:noise"]).arg(&out))?;
    // The last MiB of an image of the workshop holds the table's copy and nothing else.
    let mut noise = Noise(0x4b69_6c6e);
    let mut octets = vec![0; MIB as usize];
    for number in 0..more {
        noise.fill(&mut octets);
        disk.write_all_at(&octets, before - MIB + number * MIB)?;
    }
    Ok(out)
}

fn dense(image: &Path, scratch: &Path) -> Result<PathBuf> {
    let out = scratch.join("data");
    let (mut from, mut to) = (File::open(image)?, File::create(&out)?);
    let mut extent = Vec::with_capacity(image::EXTENT);
    loop {
        extent.clear();
        (&mut from).take(image::EXTENT as u64).read_to_end(&mut extent)?;
        if extent.is_empty() {
            break;
        }
        if extent.iter().any(|octet| *octet != 0) {
            to.write_all(&extent)?;
        }
    }
    ensure!(fs::metadata(&out)?.len() > 0, "{} holds nothing but zeroes", image.display());
    Ok(out)
}

/// xorshift64 (Marsaglia, 2003): the same octets in every run.
struct Noise(u64);

impl Noise {
    fn fill(&mut self, octets: &mut [u8]) {
        for eight in octets.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            eight.copy_from_slice(&self.0.to_le_bytes()[..eight.len()]);
        }
    }
}
