//! The stock deploy ramdisk: the same Debian kernel as ours, busybox, and the drivers that the node needs.

use anyhow::{Context as _, Result};
use flate2::{Compression, GzBuilder};
use hw_tests::artifact::command::{run, tool};
use hw_tests::artifact::cpio::Archive;
use hw_tests::artifact::kernel::KernelTree;
use std::fs;
use std::io::Write as _;
use std::path::Path;

/// In the order they are loaded.
const MODULES: [&str; 5] = ["virtio_pci", "virtio_rng", "virtio_net", "virtio_blk", "af_packet"];

/// Writes the initramfs.
pub(super) fn write(kernel: &KernelTree, busybox: &Path, out: &Path) -> Result<()> {
    let mut archive = Archive::default();
    for name in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        archive.directory(name);
    }
    let program = fs::read(busybox).with_context(|| format!("cannot read {}", busybox.display()))?;
    archive.file("bin/busybox", program, true);
    archive.link("bin/sh", "busybox");
    archive.file("init", include_bytes!("init").to_vec(), true);
    archive.file("etc/lease", include_bytes!("lease").to_vec(), true);
    let mut order = String::new();
    for path in kernel.read()?.select(MODULES).paths {
        let module = kernel.modules.join(&path);
        let file = path.rsplit('/').next().unwrap_or(&path);
        let (file, data) = match file.strip_suffix(".xz") {
            Some(file) => (file, run(tool("xz").arg("-dc").arg(&module))?),
            None => (file, fs::read(&module)?),
        };
        archive.file(&format!("lib/modules/{file}"), data, false);
        order.extend([file, "\n"]);
    }
    archive.file("lib/modules/order", order.into_bytes(), false);
    let mut octets = Vec::new();
    archive.write(&mut octets)?;
    let mut gzip = GzBuilder::new().write(fs::File::create(out)?, Compression::best());
    gzip.write_all(&octets)?;
    gzip.finish()?;
    Ok(())
}
