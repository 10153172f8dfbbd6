//! The tiny user image: a Debian kernel and busybox in memory, booted from its own disk.
//!
//! It brings up its network cards by DHCP, takes its host name from option 12, prints
//! `KILN tiny up HOST ADDRESS` on the first serial port, says a [`Greeting`](super::Greeting) to whoever
//! connects to port 80 and the user data of its config drive to whoever connects to port 81; user data that
//! is a script is run, once it has an address. The power button turns it off.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};

use super::command::{run, tool};
use super::cpio::Archive;
use super::debian::{Mirror, installed};
use super::disk::{self, Contents};
use super::kernel::KernelTree;
use super::workshop::{Key, Made};
use super::{Flavour, Workshop};

const RECIPE: u32 = 4;

/// In the order they are loaded; a flavour that lacks one goes without.
pub(super) const MODULES: [&str; 20] = [
    "virtio_pci",
    "virtio_rng",
    "virtio_net",
    "e1000",
    "e1000e",
    "virtio_blk",
    "virtio_scsi",
    "nvme",
    "ahci",
    "ata_piix",
    "sd_mod",
    "sr_mod",
    "af_packet",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "isofs",
    "button",
    "evdev",
    "i6300esb",
];

/// Path below the root, and text; all may be run.
pub(super) const SCRIPTS: [(&str, &str); 7] = [
    ("init", include_str!("tiny/init")),
    ("etc/inittab", include_str!("tiny/inittab")),
    ("etc/start", include_str!("tiny/start")),
    ("etc/lease", include_str!("tiny/lease")),
    ("etc/kiln-image", "tiny\n"),
    ("bin/greet", include_str!("serve/greet")),
    ("bin/user-data", include_str!("serve/user-data")),
];

/// What acpid runs when the power button is pressed.
pub(super) const BUTTON: (&str, &str) = ("etc/acpi/PWRF/00000080", "#!/bin/sh\nsync\nexec poweroff -f\n");

// Under emulation GRUB's 16-bit entry, which only BIOS has, costs two seconds less than the 32-bit one.
// no_timer_check: a starved emulator fails the kernel's check of its timer.
pub(super) const GRUB: &str = "\
serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial console
set arguments=\"console=ttyS0 quiet no_timer_check panic=5\"
if [ \"$grub_platform\" = pc ]; then
  linux16 /boot/vmlinuz $arguments
  initrd16 /boot/initrd.gz
else
  linux /boot/vmlinuz $arguments
  initrd /boot/initrd.gz
fi
boot
";

/// The raw disk image.
///
/// # Errors
/// When a package cannot be downloaded or a tool fails.
pub fn image(workshop: &Workshop, flavour: Flavour) -> Result<Made> {
    let mirror = Mirror::open(workshop)?;
    let kernel = mirror.kernel(flavour)?;
    let busybox = mirror.package("busybox-static")?;
    let mut key = Key::new("tiny", RECIPE)
        .with(kernel.id())
        .with(busybox.id())
        .with(installed(&disk::TOOLS)?)
        .with(GRUB);
    for (name, text) in SCRIPTS {
        key = key.with(name).with(text);
    }
    for module in MODULES {
        key = key.with(module);
    }
    workshop.make(&format!("tiny-{}.raw", key.name()), |scratch| {
        write(&mirror.kernel_tree(&kernel)?, &mirror.tree(&busybox)?, scratch)
    })
}

/// Makes the image of an unpacked kernel and an unpacked busybox-static, in an empty folder, and returns
/// its path there. The same trees give the same octets.
///
/// # Errors
/// When a file is missing or a tool fails.
pub fn write(kernel: &KernelTree, busybox: &Path, folder: &Path) -> Result<PathBuf> {
    let initrd = folder.join("initrd.gz");
    let archive = archive(kernel, busybox, &MODULES)?;
    fs::write(&initrd, packed(&archive)?)?;
    let out = folder.join("tiny.raw");
    let contents = Contents {
        esp: &[("boot/vmlinuz", &kernel.image), ("boot/initrd.gz", &initrd)],
        grub: GRUB,
        root: None,
        serial: 0x7469_6e79,
    };
    disk::assemble(&contents, folder, &out)?;
    Ok(out)
}

/// The initramfs: busybox, the scripts, and these modules with what they need.
pub(super) fn archive(kernel: &KernelTree, busybox: &Path, modules: &[&str]) -> Result<Archive> {
    let mut archive = Archive::default();
    for name in ["bin", "dev", "etc", "mnt", "proc", "run", "sys", "tmp"] {
        archive.directory(name);
    }
    archive.file("bin/busybox", program(busybox)?, true);
    archive.link("bin/sh", "busybox");
    for (name, text) in SCRIPTS {
        archive.file(name, text.as_bytes().to_vec(), true);
    }
    archive.file(BUTTON.0, BUTTON.1.as_bytes().to_vec(), true);
    let mut order = String::new();
    for path in kernel.read()?.select(modules.iter().copied()).paths {
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
    Ok(archive)
}

/// The program of an unpacked busybox-static.
pub(super) fn program(busybox: &Path) -> Result<Vec<u8>> {
    let program = busybox.join("bin/busybox");
    fs::read(&program).with_context(|| format!("cannot read {}", program.display()))
}

/// The archive through gzip.
pub(super) fn packed(archive: &Archive) -> Result<Vec<u8>> {
    // Without a name or a time: the same archive gives the same octets.
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
    let mut octets = Vec::new();
    archive.write(&mut octets)?;
    gzip.write_all(&octets)?;
    Ok(gzip.finish()?)
}
