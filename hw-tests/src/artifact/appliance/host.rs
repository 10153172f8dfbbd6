//! host.cpio: what makes of the deploy ramdisk's initramfs, behind which it is loaded, the appliance's.
//!
//! Later entries win: `/init` is `host` and no longer the agent, and the modules' index knows the modules
//! of both archives.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, bail, ensure};

use crate::artifact::cpio::Archive;
use crate::artifact::kernel::KernelTree;
use crate::artifact::ramdisk;

/// `rootfs/modules.list`.
pub(super) const MODULES: &str = include_str!("../../../../rootfs/modules.list");

/// A line of the list: a module, and whether it is loaded whether or not a device asks.
fn listed(text: &str) -> Result<Vec<(&str, bool)>> {
    ramdisk::listed(text)
        .map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [name] => Ok((name, false)),
            [name, "always"] => Ok((name, true)),
            _ => bail!("'{line}' of rootfs/modules.list is neither `NAME` nor `NAME always`"),
        })
        .collect()
}

/// Adds all of host.cpio to `archive`, where `init` is the program `host`.
pub(super) fn fill(archive: &mut Archive, kernel: &KernelTree, init: Vec<u8>) -> Result<()> {
    let own = listed(MODULES)?;
    let modules = kernel.read()?;
    let there: BTreeSet<String> =
        modules.select(ramdisk::listed(ramdisk::MODULES)).paths.into_iter().collect();
    let union = modules.select(ramdisk::listed(ramdisk::MODULES).chain(own.iter().map(|(name, _)| *name)));
    ensure!(
        union.absent.is_empty(),
        "the kernel {} lacks {}, which rootfs/modules.list names",
        kernel.release,
        union.absent.join(", ")
    );
    archive.file("init", init, true);
    let always =
        own.iter().filter(|(_, always)| *always).flat_map(|(name, _)| [*name, "\n"]).collect::<String>();
    archive.file("etc/modules", always.into_bytes(), false);
    let below = format!("lib/modules/{}", kernel.release);
    for path in union.paths.iter().filter(|path| !there.contains(*path)) {
        let module = kernel.modules.join(path);
        let data = fs::read(&module).with_context(|| format!("cannot read {}", module.display()))?;
        archive.file(&format!("{below}/{path}"), data, false);
    }
    for (name, text) in union.index {
        archive.file(&format!("{below}/{name}"), text.into_bytes(), false);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
