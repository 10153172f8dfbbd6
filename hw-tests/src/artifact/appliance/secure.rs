//! The Secure Boot profile: the same system, started by nothing that its owner did not sign.
//!
//! ```text
//!   firmware, with the owner's keys ─► systemd-boot, signed ─► EFI/Linux/kiln-a.efi, signed:
//!      kernel, initramfs, and a command line with the system's root hash ─► the slot with that hash, held against it
//! ```
//!
//! The keys come to the firmware by systemd-boot: one that is in setup mode takes PK, KEK and db from the ESP at
//! the box's first start. For UEFI only. An update brings its kernel image, signed, in its slot image
//! ([`host::uki`]); which of the two the boot loader starts, [`host::loader`] says.
//!
//! All kernel images have one size, in which there is room: the box writes them in place, and never changes what
//! the ESP's file system says of itself.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use host::{loader, uki};
use rack::Slot;

use super::{Release, Seal, grub};
use crate::artifact::command::{run, text, tool};

/// The vendor of the keys: Kiln's own.
const OWNER: &str = "6b696c6e-6b65-8000-8000-000000000001";
/// The time in the variables that the firmware takes; it refuses older ones later on.
const SIGNED: &str = "2026-01-01 00:00:00";
const DAYS: &str = "10950";
/// Octets of a kernel image before it is signed: what a signature takes is left of the bound.
const SIZE: u64 = uki::BOUND - (64 << 10);
/// Sections of a unified kernel image begin at such a multiple.
const ALIGNED: u64 = 4096;
const MACHINE: [&str; 2] =
    ["console=tty0 console=ttyS0,115200 quiet panic=10", "lockdown=integrity module.sig_enforce=1"];

/// The owner's keys, in a folder: `PK`, `KEK` and `db`, each with `.key` and `.crt` in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner(PathBuf);

impl Owner {
    /// The keys in a folder, made there unless they are.
    ///
    /// # Errors
    /// When the files cannot be made, or some of them are missing.
    pub fn of(folder: &Path) -> Result<Self> {
        let owner = Self(folder.to_owned());
        let files: Vec<PathBuf> =
            NAMES.iter().flat_map(|n| [owner.file(n, "key"), owner.file(n, "crt")]).collect();
        if files.iter().all(|file| file.exists()) {
            return Ok(owner);
        }
        ensure!(
            !files.iter().any(|file| file.exists()),
            "{} holds some of the keys, and not all",
            folder.display()
        );
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for name in NAMES {
            // UEFI wants RSA of 2048 bits at least; every firmware knows these.
            run(tool("openssl")
                .args(["req", "-x509", "-newkey", "rsa:2048", "-sha256", "-nodes", "-days", DAYS])
                .args(["-subj", &format!("/CN=Kiln Secure Boot {name}"), "-keyout"])
                .arg(owner.file(name, "key"))
                .arg("-out")
                .arg(owner.file(name, "crt")))?;
        }
        Ok(owner)
    }

    fn file(&self, name: &str, ending: &str) -> PathBuf {
        self.0.join(format!("{name}.{ending}"))
    }

    /// All that goes into a signature, for an artifact's key.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(super) fn octets(&self) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        for name in NAMES {
            for ending in ["key", "crt"] {
                let file = self.file(name, ending);
                all.extend(fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
            }
        }
        Ok(all)
    }

    /// A UEFI program, signed.
    ///
    /// # Errors
    /// When it is none, or a key is wrong.
    pub fn sign(&self, program: &Path, out: &Path) -> Result<()> {
        run(tool("sbsign")
            .arg("--key")
            .arg(self.file("db", "key"))
            .arg("--cert")
            .arg(self.file("db", "crt"))
            .arg("--output")
            .arg(out)
            .arg(program))?;
        run(tool("sbverify").arg("--cert").arg(self.file("db", "crt")).arg(out))?;
        Ok(())
    }

    /// The variables that a firmware in setup mode takes: name on the ESP, and file in `scratch`.
    fn variables(&self, scratch: &Path) -> Result<Vec<(String, PathBuf)>> {
        let mut variables = Vec::new();
        // Each is signed by the one above it, the first by itself.
        for (name, above) in [("PK", "PK"), ("KEK", "PK"), ("db", "KEK")] {
            let [list, signed] = ["esl", "auth"].map(|ending| scratch.join(format!("{name}.{ending}")));
            run(tool("cert-to-efi-sig-list").args(["-g", OWNER]).arg(self.file(name, "crt")).arg(&list))?;
            run(tool("sign-efi-sig-list")
                .args(["-g", OWNER, "-t", SIGNED, "-k"])
                .arg(self.file(above, "key"))
                .arg("-c")
                .arg(self.file(above, "crt"))
                .arg(name)
                .arg(&list)
                .arg(&signed))?;
            variables.push((format!("loader/keys/auto/{name}.auth"), signed));
        }
        Ok(variables)
    }
}

const NAMES: [&str; 3] = ["PK", "KEK", "db"];

/// The kernel image of a slot image whose root is in the folder `root`, signed.
pub(super) fn kernel(
    owner: &Owner,
    boot: &Path,
    root: &Path,
    slot: &Path,
    release: &Release,
    scratch: &Path,
) -> Result<PathBuf> {
    let [kernel, plain, initrd] = ["kiln.efi", "kiln.unsigned", "initrd"].map(|name| scratch.join(name));
    let seal = Seal::read(slot)?;
    let words = format!("kiln.slot=loader kiln.verity={} {}", seal.root, MACHINE.join(" "));
    // What is plain in it is packed here, or two would not fit on the ESP; the kernel takes archives either way, one
    // behind the other.
    let packed =
        run(tool("zstd").args(["-q", "-19", "--single-thread", "-c"]).arg(root.join("boot/host.cpio")))?;
    let mut both = [fs::read(root.join("boot/initramfs"))?, packed].concat();
    both.resize(both.len().next_multiple_of(ALIGNED as usize), 0);
    fs::write(&initrd, &both)?;
    let release = format!(
        "ID=kiln\nNAME=Kiln\nPRETTY_NAME=\"Kiln {}\"\nVERSION_ID={}\n",
        release.version, release.version
    );
    let pieces = [(".osrel", Piece::Text(&release)), (".cmdline", Piece::Text(&words))];
    let parts = [(".linux", Piece::File(&root.join("boot/kernel"))), (".initrd", Piece::File(&initrd))];
    let make = || unified(&boot.join("linuxx64.efi.stub"), &[&pieces[..], &parts].concat(), scratch, &plain);
    make()?;
    let size = fs::metadata(&plain)?.len();
    ensure!(size <= SIZE, "the kernel image has {size} octets, and at most {SIZE} fit on the ESP twice");
    // The kernel passes over zeros behind its last archive.
    both.resize(both.len() + usize::try_from(SIZE - size)?, 0);
    fs::write(&initrd, &both)?;
    make()?;
    owner.sign(&plain, &kernel)?;
    let size = fs::metadata(&kernel)?.len();
    ensure!(size <= uki::BOUND, "the signed kernel image has {size} octets, more than {}", uki::BOUND);
    Ok(kernel)
}

/// The ESP's files, with the kernel image in slot A: path there, and file.
pub(super) fn files(
    owner: &Owner,
    boot: &Path,
    kernel: &Path,
    scratch: &Path,
) -> Result<Vec<(String, PathBuf)>> {
    let [loader, none, configuration, state] =
        ["boot.efi", "kiln.none", "loader.conf", "state"].map(|name| scratch.join(name));
    owner.sign(&boot.join("systemd-bootx64.efi"), &loader)?;
    // Room for that of slot B, which systemd-boot takes for no program.
    fs::write(&none, vec![0; usize::try_from(fs::metadata(kernel)?.len())?])?;
    fs::write(&configuration, loader::configuration(Slot::A))?;
    fs::write(&state, grub::environment(&[&grub::FIRST[..], &[("ARMED", "")]].concat())?)?;
    let entry = |slot| format!("EFI/Linux/{}", loader::entry(slot));
    let mut files = vec![
        ("EFI/BOOT/BOOTX64.EFI".to_owned(), loader),
        (entry(Slot::A), kernel.to_owned()),
        (entry(Slot::B), none),
        ("loader/loader.conf".to_owned(), configuration),
        (format!("{}/grubenv", grub::FOLDER), state),
    ];
    files.extend(owner.variables(scratch)?);
    Ok(files)
}

/// What a section of a unified kernel image holds.
#[derive(Clone, Copy)]
enum Piece<'a> {
    Text(&'a str),
    File(&'a Path),
}

/// A unified kernel image: systemd's stub with more sections behind its own.
fn unified(stub: &Path, pieces: &[(&str, Piece)], scratch: &Path, out: &Path) -> Result<()> {
    let mut at = end(stub)?;
    let mut objcopy = tool("objcopy");
    for (name, piece) in pieces {
        let file = match piece {
            Piece::Text(text) => {
                let file = scratch.join(name.trim_start_matches('.'));
                fs::write(&file, text)?;
                file
            }
            Piece::File(file) => file.to_path_buf(),
        };
        at = at.next_multiple_of(ALIGNED);
        objcopy.arg("--add-section").arg(format!("{name}={}", file.display()));
        objcopy.arg("--change-section-vma").arg(format!("{name}={at:#x}"));
        at += fs::metadata(&file).with_context(|| format!("cannot read {}", file.display()))?.len();
    }
    run(objcopy.arg(stub).arg(out))?;
    Ok(())
}

/// Where the last section of a program ends in memory.
fn end(program: &Path) -> Result<u64> {
    let said = text(tool("objdump").arg("-h").arg(program))?;
    let ends = said.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, _, size, at, _, _, _] = words[..] else { return None };
        let number = |text| u64::from_str_radix(text, 16).ok();
        Some(number(size)? + number(at)?)
    });
    ends.max().with_context(|| format!("{} has no sections", program.display()))
}
