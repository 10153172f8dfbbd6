//! The update bundle: a slot image that RAUC takes, signed. Behind the slot image may be a kernel image for boxes with
//! Secure Boot, which others pass over: one bundle is for all boxes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use host::uki;

use super::{BLOCK, Release, Seal};
use crate::artifact::command::{run, text, tool};
use crate::artifact::{Workshop, rauc};

/// rootfs/etc/rauc/system.conf has the same.
const COMPATIBLE: &str = "kiln-x86-64";
/// Until when the certificate of a signer made here is valid, in days: for as long as a box may stand there.
const DAYS: &str = "10950";

/// Whoever signs bundles, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The private key: it stays with whoever makes releases.
    pub key: PathBuf,
    /// Its certificate, which comes into images: they take bundles that it signed.
    pub certificate: PathBuf,
}

impl Signer {
    /// The signer whose files lie in a folder; made there, with a certificate of its own making, unless they are.
    ///
    /// # Errors
    /// When the files cannot be made, or only one of them is there.
    pub fn of(folder: &Path) -> Result<Self> {
        let signer = Self { key: folder.join("key.pem"), certificate: folder.join("certificate.pem") };
        let there = [&signer.key, &signer.certificate].map(|file| file.exists());
        ensure!(there[0] == there[1], "{} holds a key or a certificate, and not both", folder.display());
        if there[0] {
            return Ok(signer);
        }
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        run(tool("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
            .args([
                "-days",
                DAYS,
                "-subj",
                "/CN=Kiln updates",
                "-addext",
                "keyUsage=critical,digitalSignature,keyCertSign",
            ])
            .arg("-keyout")
            .arg(&signer.key)
            .arg("-out")
            .arg(&signer.certificate))?;
        Ok(signer)
    }
}

/// What is in a bundle.
#[derive(Clone, Copy, Debug)]
pub struct Content<'a> {
    /// The slot image.
    pub slot: &'a Path,
    /// The kernel image, signed; none: the bundle is for boxes without Secure Boot.
    pub kernel: Option<&'a Path>,
}

impl Content<'_> {
    /// The image that RAUC writes to a slot.
    fn image(&self) -> Result<Vec<u8>> {
        let mut image = fs::read(self.slot)?;
        if let Some(kernel) = self.kernel {
            let place = uki::place(Seal::read(self.slot)?.data_blocks) * BLOCK;
            ensure!(image.len() as u64 == place, "the slot image does not end with its tree, at {place}");
            let kernel = fs::read(kernel).with_context(|| format!("cannot read {}", kernel.display()))?;
            image.extend(uki::Head::of(&kernel).block());
            image.extend(kernel);
            image.resize(image.len().next_multiple_of(BLOCK as usize), 0);
        }
        Ok(image)
    }

    fn description(&self) -> String {
        self.kernel.map_or_else(String::new, |_| format!("description=with a {}\n", uki::MARK))
    }
}

/// Makes the bundle `out` of whatever is said to be its content; the folder `scratch` is not there yet.
///
/// # Errors
/// When a tool fails.
pub fn bundle(
    workshop: &Workshop,
    content: &Content,
    release: &Release,
    signer: &Signer,
    scratch: &Path,
    out: &Path,
) -> Result<()> {
    fs::create_dir_all(scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    write(&rauc::program(workshop)?, content, release, signer, scratch, out)
}

/// Makes the bundle `out`, with `rauc` and what it needs in the folder `scratch`.
pub(super) fn write(
    rauc: &Path,
    content: &Content,
    release: &Release,
    signer: &Signer,
    scratch: &Path,
    out: &Path,
) -> Result<()> {
    let folder = scratch.join("bundle");
    fs::create_dir(&folder)?;
    fs::write(folder.join("system.img"), content.image()?)?;
    let Release { version, commit } = release;
    let manifest = format!(
        "[update]\ncompatible={COMPATIBLE}\nversion={version}\nbuild={commit}\n{}\n\
         [bundle]\nformat=verity\n\n[image.system]\nfilename=system.img\n",
        content.description()
    );
    fs::write(folder.join("manifest.raucm"), manifest)?;
    let rauc = rauc.to_string_lossy();
    // The slot image is packed already.
    run(tool(&rauc)
        .arg(format!("--cert={}", signer.certificate.display()))
        .arg(format!("--key={}", signer.key.display()))
        .args(["--mksquashfs-args=-comp gzip -Xcompression-level 1 -all-root -no-progress", "bundle"])
        .arg(&folder)
        .arg(out))
    .context("is it the right key of that certificate?")?;
    let said = text(
        tool(&rauc)
            .arg(format!("--keyring={}", signer.certificate.display()))
            .args(["info", "--no-check-time"])
            .arg(out),
    )?;
    ensure!(said.contains(COMPATIBLE), "RAUC says of the bundle it made:\n{said}");
    Ok(())
}
