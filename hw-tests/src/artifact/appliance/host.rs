//! host.cpio: what makes of the deploy ramdisk's initramfs, behind which it is loaded, the appliance's.
//!
//! Later entries win: `/init` is `host` and no longer the agent, and the modules' index knows the modules
//! of both archives. What every box loads is there unpacked, which the kernel would have to do otherwise,
//! and takes long to (`.ko.xz`); the archive as a whole is packed by the slot's squashfs.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, bail, ensure};

use crate::artifact::command::{run, tool};
use crate::artifact::cpio::Archive;
use crate::artifact::kernel::KernelTree;
use crate::artifact::ramdisk;

/// `rootfs/modules.list`.
pub(super) const MODULES: &str = include_str!("../../../../rootfs/modules.list");

/// What a packed module's name ends with.
const PACKED: &str = ".xz";

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
    let loaded = own.iter().filter(|(_, always)| *always).map(|(name, _)| *name);
    let loaded: BTreeSet<String> = modules.select(loaded).paths.into_iter().collect();
    for path in &union.paths {
        let module = kernel.modules.join(path);
        let is_loaded = loaded.contains(path);
        if is_loaded && path.ends_with(PACKED) {
            let plain = run(tool("xz").args(["-d", "-c"]).arg(&module))?;
            archive.file(&format!("{below}/{}", unpacked(path)), plain, false);
        } else if is_loaded || !there.contains(path) {
            let data = fs::read(&module).with_context(|| format!("cannot read {}", module.display()))?;
            archive.file(&format!("{below}/{path}"), data, false);
        }
    }
    for (name, text) in union.index {
        let text = if name == "modules.dep" { renamed(&text, &loaded) } else { text };
        archive.file(&format!("{below}/{name}"), text.into_bytes(), false);
    }
    Ok(())
}

/// A module's path when it is unpacked.
fn unpacked(path: &str) -> &str {
    path.strip_suffix(PACKED).unwrap_or(path)
}

/// modules.dep, where these modules are unpacked: a line is `PATH: PATH PATH`.
fn renamed(dep: &str, plain: &BTreeSet<String>) -> String {
    let word = |word: &str| {
        let (path, colon) = word.strip_suffix(':').map_or((word, ""), |path| (path, ":"));
        let path = if plain.contains(path) { unpacked(path) } else { path };
        format!("{path}{colon}")
    };
    let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ") + "\n";
    dep.lines().map(line).collect()
}

#[cfg(test)]
mod tests;
