//! The appliance's image: one disk to flash, and the slot image that an update brings.
//!
//! ```text
//! kiln-VERSION.img                                   kiln-VERSION.slot
//!   1 bios      1 MiB    GRUB's core for BIOS          squashfs   /boot/{kernel,initramfs,host.cpio}, root
//!   2 esp       64 MiB   GRUB for UEFI, its state      seal       4096 octets: where the tree is, its root
//!   3 system-a  128 MiB  the slot image                tree       dm-verity
//!   4 system-b  128 MiB  empty: for the first update
//!   (5 data     the rest of the box's disk: made by the box at its first boot)
//! ```
//!
//! kiln-VERSION.raucb is the slot image once more, signed, as an appliance takes it for an update: made where
//! somebody is there to sign it. Where an owner's Secure Boot keys are there too, it brings a signed kernel image.
//!
//! Made of Debian's packages and our static programs with plain file operations: no root, no loop device, no
//! mount. Identifiers and times are fixed: the same inputs give the same octets.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::command::{EPOCH, run, text, tool};
use super::cpio::Archive;
use super::debian::{Mirror, Package, installed};
use super::kernel::KernelTree;
use super::workshop::{Key, deliver};
use super::{Flavour, Workshop, rauc};

mod bundle;
pub mod disk;
pub mod grub;
mod host;
mod libraries;
mod root;
pub mod secure;
mod slot;

pub use bundle::{Content, Signer, bundle};
pub use disk::{ESP_OFFSET, SLOT_OFFSETS};
pub use secure::Owner;
pub use slot::{BLOCK, BOUND, Seal};

/// Raise it when what the same inputs give changes.
const RECIPE: u32 = 5;
/// The packages whose tools shape the image, for its key.
const TOOLS: [&str; 13] = [
    "binutils",
    "cryptsetup-bin",
    "dosfstools",
    "gdisk",
    "grub-common",
    "grub-efi-amd64-bin",
    "grub-pc-bin",
    "kmod",
    "libcryptsetup12",
    "mtools",
    "squashfs-tools",
    "xz-utils",
    "zstd",
];

/// Our own programs, static ones.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The deploy ramdisk's `/init`.
    pub agent: PathBuf,
    /// Control, the supervisor and some hands.
    pub applianced: PathBuf,
    /// The boot services.
    pub bootd: PathBuf,
    /// The operator's command line.
    pub kiln: PathBuf,
    /// `/init` of the appliance, and what init starts first and last.
    pub host: PathBuf,
}

impl Programs {
    /// Those that Cargo put into `folder`.
    pub fn built(folder: &Path) -> Self {
        let [agent, applianced, bootd, kiln, host] =
            ["agent", "applianced", "bootd", "kiln", "host"].map(|name| folder.join(name));
        Self { agent, applianced, bootd, kiln, host }
    }

    fn all(&self) -> [&Path; 5] {
        [&self.agent, &self.applianced, &self.bootd, &self.kiln, &self.host]
    }
}

/// What the image says it is, in `/etc/os-release`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The workspace's version.
    pub version: String,
    /// The commit it was built from: `unknown` outside of a checkout, with `-dirty` when it was changed.
    pub commit: String,
}

impl Release {
    /// Of the checkout that this program was built in.
    pub fn here() -> Self {
        let git = |words: &[&str]| text(tool("git").arg("-C").arg(env!("CARGO_MANIFEST_DIR")).args(words));
        let commit = match git(&["rev-parse", "HEAD"]) {
            Ok(commit) => {
                let changed = git(&["status", "--porcelain"]).map_or(true, |changes| !changes.is_empty());
                format!("{}{}", commit.trim(), if changed { "-dirty" } else { "" })
            }
            Err(_) => "unknown".to_owned(),
        };
        Self { version: env!("CARGO_PKG_VERSION").to_owned(), commit }
    }

    /// When the commit was made, in seconds since 1970; a fixed time outside of a checkout. No box that runs it has an
    /// earlier clock.
    fn built(&self) -> String {
        let commit = self.commit.trim_end_matches("-dirty");
        let mut git = tool("git");
        let time = text(git.arg("-C").arg(env!("CARGO_MANIFEST_DIR")).args([
            "show",
            "-s",
            "--format=%ct",
            commit,
            "--",
        ]));
        let time = time.ok().map(|time| time.trim().to_owned());
        time.filter(|time| time.parse::<u64>().is_ok()).unwrap_or_else(|| EPOCH.to_owned())
    }
}

/// What is ours in an image.
pub struct Recipe<'a> {
    /// The programs.
    pub programs: &'a Programs,
    /// What it says it is.
    pub release: &'a Release,
    /// Who signs its updates; none: it takes none.
    pub signer: Option<&'a Signer>,
    /// Whose keys the Secure Boot profile is of, and sign the kernel image in updates; none: there is none.
    pub owner: Option<&'a Owner>,
    /// More for host.cpio: nothing, or a test's own.
    pub more: &'a Archive,
}

/// What is Debian's in an image: packages, unpacked.
pub struct Sources {
    kernel: KernelTree,
    busybox: PathBuf,
    ipxe: PathBuf,
    tools: Vec<PathBuf>,
    rauc: PathBuf,
    boot: PathBuf,
    ids: Vec<String>,
}

impl Sources {
    /// Downloads and unpacks what is not there yet.
    ///
    /// # Errors
    /// When a package cannot be downloaded or unpacked.
    pub fn open(workshop: &Workshop, mirror: &Mirror) -> Result<Self> {
        let mut ids = Vec::new();
        let rauc = rauc::program(workshop)?;
        ids.push(Key::new("rauc", 0).with(fs::read(&rauc)?).name());
        let kernel = mirror.kernel(Flavour::Server)?;
        ids.push(kernel.id());
        let mut tree = |package: Package| {
            ids.push(package.id());
            mirror.tree(&package)
        };
        let busybox = tree(mirror.package("busybox-static")?)?;
        let ipxe = tree(mirror.package("ipxe")?)?;
        let boot = tree(mirror.package("systemd-boot-efi")?)?;
        let tools =
            libraries::PACKAGES.iter().map(|name| tree(mirror.package(name)?)).collect::<Result<_>>()?;
        Ok(Self { kernel: mirror.kernel_tree(&kernel)?, busybox, ipxe, tools, rauc, boot, ids })
    }
}

/// The files of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The disk, raw: `kiln-VERSION.img`.
    pub disk: PathBuf,
    /// The same through zstd: `kiln-VERSION.img.zst`.
    pub packed: PathBuf,
    /// The slot image: `kiln-VERSION.slot`.
    pub slot: PathBuf,
    /// The same, signed: `kiln-VERSION.raucb`; not there when nobody signed.
    pub bundle: PathBuf,
    /// The disk of the Secure Boot profile: `kiln-VERSION.secure.img`; not there when nobody has keys.
    pub secure: PathBuf,
}

impl Image {
    /// The files' places in a folder.
    pub fn of(folder: &Path, version: &str) -> Self {
        let [disk, packed, slot, bundle, secure] = ["img", "img.zst", "slot", "raucb", "secure.img"]
            .map(|ending| folder.join(format!("kiln-{version}.{ending}")));
        Self { disk, packed, slot, bundle, secure }
    }

    /// The files, of which the last two may not be there.
    pub fn files(&self) -> [&Path; 5] {
        [&self.disk, &self.packed, &self.slot, &self.bundle, &self.secure]
    }

    /// Copies them into another folder, unless they are there; says whether one had to be copied.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn delivered(&self, folder: &Path, version: &str) -> Result<(Self, bool)> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let there = Self::of(folder, version);
        let mut copied = false;
        for (from, to) in self.files().into_iter().zip(there.files()) {
            if from.exists() {
                copied |= deliver(from, to)?;
            } else if to.exists() {
                // Of an earlier image: it is no update to this one.
                fs::remove_file(to).with_context(|| format!("cannot remove {}", to.display()))?;
            }
        }
        Ok((there, copied))
    }
}

/// The image of the programs that lie beside the one that runs, or one folder above a test's.
///
/// # Errors
/// Those of [`image`], or when they were not built.
pub fn built(workshop: &Workshop) -> Result<Image> {
    let programs = Programs::built(&crate::stand::programs()?);
    let recipe = Recipe {
        programs: &programs,
        release: &Release::here(),
        signer: None,
        owner: None,
        more: &Archive::default(),
    };
    Ok(image(workshop, &recipe)?.0)
}

/// The image, made once of the same inputs. Returns whether this call made it.
///
/// # Errors
/// When a package cannot be downloaded, a program is missing or not static, a tool fails, or the image is
/// larger than its [`BOUND`].
pub fn image(workshop: &Workshop, recipe: &Recipe) -> Result<(Image, bool)> {
    let sources = Sources::open(workshop, &Mirror::open(workshop)?)?;
    let version = &recipe.release.version;
    let mut key = Key::new("appliance", RECIPE).with(version).with(&recipe.release.commit);
    key = key.with(sources.ids.join(" ")).with(installed(&TOOLS)?);
    for program in recipe.programs.all() {
        let octets = fs::read(program).with_context(|| {
            format!("cannot read the program {}: build it, or name another", program.display())
        })?;
        key = key.with(octets);
    }
    for (name, file) in root::files()? {
        key = key.with(name).with(file);
    }
    if let Some(signer) = recipe.signer {
        for file in [&signer.certificate, &signer.key] {
            key = key.with(fs::read(file).with_context(|| format!("cannot read {}", file.display()))?);
        }
    }
    if let Some(owner) = recipe.owner {
        key = key.with(owner.octets()?);
    }
    let mut more = Vec::new();
    recipe.more.write(&mut more)?;
    key = key.with(more).with(grub::CONFIGURATION).with(host::MODULES).with(super::ramdisk::MODULES);
    let made = workshop.make(&format!("appliance-{version}-{}", key.name()), |scratch| {
        write(&sources, recipe, scratch)?;
        Ok(scratch.join("out"))
    })?;
    Ok((Image::of(&made.path, version), made.fresh))
}

/// Makes the image of unpacked packages, in an empty folder: what is to be kept lies in its `out`.
///
/// # Errors
/// Those of [`image`].
pub fn write(sources: &Sources, recipe: &Recipe, folder: &Path) -> Result<Image> {
    let out = folder.join("out");
    fs::create_dir(&out)?;
    let image = Image::of(&out, &recipe.release.version);
    let root = folder.join("root");
    root::write(sources, recipe, folder, &root)?;
    slot::write(&root, &recipe.release.version, &image.slot)?;
    disk::write(&image.slot, folder, &image.disk)?;
    let boot = sources.boot.join("usr/lib/systemd/boot/efi");
    let kernel = recipe
        .owner
        .map(|owner| secure::kernel(owner, &boot, &root, &image.slot, recipe.release, folder))
        .transpose()?;
    if let Some(signer) = recipe.signer {
        let content = bundle::Content { slot: &image.slot, kernel: kernel.as_deref() };
        bundle::write(&sources.rauc, &content, recipe.release, signer, folder, &image.bundle)?;
    }
    if let (Some(owner), Some(kernel)) = (recipe.owner, &kernel) {
        let files = secure::files(owner, &boot, kernel, folder)?;
        let files: Vec<(&str, &Path)> =
            files.iter().map(|(name, file)| (name.as_str(), file.as_path())).collect();
        disk::assemble(&image.slot, &files, folder, &image.secure)?;
    }
    run(tool("zstd").args(["-q", "-9", "-T2", "-o"]).arg(&image.packed).arg(&image.disk))?;
    for file in [&image.slot, &image.packed] {
        let size = fs::metadata(file)?.len();
        ensure!(size <= BOUND, "{} has {size} octets, more than {BOUND}", file.display());
    }
    Ok(image)
}
