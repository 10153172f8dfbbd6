//! The deploy ramdisk: Debian's kernel, and an initramfs of the agent and the drivers of servers.
//!
//! ```text
//! /init                            the agent
//! /sbin/modprobe -> /init          for the kernel's own requests
//! /lib/modules/RELEASE/modules.{dep,alias,softdep,builtin}
//! /lib/modules/RELEASE/kernel/…    .ko.xz (6.12: the kernel unpacks them) or .ko (6.1)
//! /dev /etc /proc /run /sys /tmp   empty
//! ```
//!
//! Modules are taken as they are: their signatures are at their end. Compressed ones go into a plain
//! archive; plain ones into an archive compressed as a whole.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::command::{run, text, tool};
use super::cpio::Archive;
use super::debian::Mirror;
use super::kernel::KernelTree;
use super::workshop::{Key, lock};
use super::{Flavour, Workshop};

/// The most octets that kernel and initramfs may have together.
pub const BOUND: u64 = 26_000_000;

const RECIPE: u32 = 2;
pub(super) const MODULES: &str = include_str!("../../../rootfs/ramdisk/modules.list");

/// What a node boots to be deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ramdisk {
    /// The kernel's file.
    pub kernel: PathBuf,
    /// The initramfs's file.
    pub initramfs: PathBuf,
    /// The kernel's release.
    pub release: String,
    /// How many modules are inside.
    pub modules: usize,
    /// Modules of the list that this kernel does not have.
    pub absent: Vec<String>,
    /// False: it was there already.
    pub fresh: bool,
}

impl Ramdisk {
    /// Octets of the kernel and of the initramfs.
    ///
    /// # Errors
    /// When a file is gone.
    pub fn sizes(&self) -> Result<(u64, u64)> {
        Ok((fs::metadata(&self.kernel)?.len(), fs::metadata(&self.initramfs)?.len()))
    }
}

/// The kernel the mirror has for servers, ready for [`build`].
///
/// # Errors
/// When it cannot be downloaded, unpacked or indexed.
pub fn kernel(workshop: &Workshop) -> Result<KernelTree> {
    let mirror = Mirror::open(workshop)?;
    mirror.kernel_tree(&mirror.kernel(Flavour::Server)?)
}

/// Writes `kernel` and `initramfs` into `out_dir`, unless they are there and made of the same.
///
/// # Errors
/// When the agent is not a static program, a module cannot be read, or the two files exceed [`BOUND`].
pub fn build(kernel: &KernelTree, agent: &Path, out_dir: &Path) -> Result<Ramdisk> {
    fs::create_dir_all(out_dir).with_context(|| format!("cannot make {}", out_dir.display()))?;
    let _lock = lock(&out_dir.join(".lock"))?;
    let program = fs::read(agent).with_context(|| format!("cannot read the agent {}", agent.display()))?;
    let selection = kernel.read()?.select(listed(MODULES));
    let mut ramdisk = Ramdisk {
        kernel: out_dir.join("kernel"),
        initramfs: out_dir.join("initramfs"),
        release: kernel.release.clone(),
        modules: selection.paths.len(),
        absent: selection.absent,
        fresh: false,
    };
    let image = fs::read(&kernel.image)?;
    let key =
        Key::new("ramdisk", RECIPE).with(MODULES).with(&kernel.release).with(&image).with(&program).name();
    let key_file = out_dir.join("made-of");
    if fs::read_to_string(&key_file).is_ok_and(|there| there == key) && ramdisk.sizes().is_ok() {
        return Ok(ramdisk);
    }
    let _ = fs::remove_file(&key_file);

    let mut archive = Archive::default();
    for name in ["dev", "etc", "proc", "run", "sys", "tmp"] {
        archive.directory(name);
    }
    archive.file("init", stripped(agent, out_dir)?, true);
    archive.link("sbin/modprobe", "/init");
    let below = format!("lib/modules/{}", kernel.release);
    let mut plain = false;
    for path in &selection.paths {
        let module = kernel.modules.join(path);
        let data = fs::read(&module).with_context(|| format!("cannot read {}", module.display()))?;
        plain |= path.ends_with(".ko");
        archive.file(&format!("{below}/{path}"), data, false);
    }
    for (name, text) in selection.index {
        archive.file(&format!("{below}/{name}"), text.into_bytes(), false);
    }
    let mut octets = Vec::new();
    archive.write(&mut octets)?;
    let unpacked = out_dir.join("initramfs.new");
    fs::write(&unpacked, &octets)?;
    if plain {
        run(tool("zstd").args(["-q", "-f", "-19", "-T0", "-o"]).arg(&ramdisk.initramfs).arg(&unpacked))?;
        fs::remove_file(&unpacked)?;
    } else {
        fs::rename(&unpacked, &ramdisk.initramfs)?;
    }
    fs::write(&ramdisk.kernel, image)?;
    let (kernel_size, initramfs_size) = ramdisk.sizes()?;
    ensure!(
        kernel_size + initramfs_size <= BOUND,
        "kernel ({kernel_size}) and initramfs ({initramfs_size}) exceed {BOUND} octets: shorten rootfs/ramdisk/modules.list"
    );
    fs::write(key_file, key)?;
    ramdisk.fresh = true;
    Ok(ramdisk)
}

/// The names in a list whose comments begin with `#`.
pub fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.split('#').next()).map(str::trim).filter(|name| !name.is_empty())
}

/// A program without symbols; what it goes into has no libraries of ours, so it must not want any.
pub(super) fn stripped(program: &Path, scratch: &Path) -> Result<Vec<u8>> {
    let headers = text(tool("readelf").args(["-lW"]).arg(program))
        .with_context(|| format!("{} is no program", program.display()))?;
    ensure!(
        !headers.contains("INTERP"),
        "{} wants shared libraries, which an image of ours does not have: build it with -C target-feature=+crt-static",
        program.display()
    );
    let out = scratch.join("stripped");
    // The build id is a digest over debug information too, and that names the folder it was built in: without
    // it, the same source in two folders gives the same octets.
    run(tool("strip")
        .args(["--strip-all", "--remove-section=.note.gnu.build-id", "-o"])
        .arg(&out)
        .arg(program))?;
    let program = fs::read(&out)?;
    fs::remove_file(&out)?;
    Ok(program)
}

#[cfg(test)]
mod tests;
