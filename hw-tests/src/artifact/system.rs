//! The Debian user image: Debian 12 with systemd, cloud-init and an SSH server.
//!
//! It takes its host name, keys and user data from a config drive, or without one its address and name
//! from DHCP; prints `KILN debian up HOST ADDRESS` on the first serial port; and then answers on ports
//! 80 and 81 as the [tiny image](super::tiny) does. Made with mmdebstrap, which needs root.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::command::{run, text, tool};
use super::debian::{Mirror, installed};
use super::disk::{self, Contents};
use super::workshop::{Key, Made};
use super::{Flavour, Workshop};

const RECIPE: u32 = 1;
const GRUB: &str = include_str!("system/grub.cfg");
/// Identifies the root file system; the same in every image, as the disks' identifiers are.
const ROOT_UUID: &str = "6b696c6e-6465-6269-8000-616e00000003";

/// ifupdown alone configures the network: with systemd-networkd beside it, boot waits two minutes.
const PACKAGES: &str = "systemd,systemd-sysv,udev,dbus,cloud-init,cloud-guest-utils,initramfs-tools,\
    iproute2,ifupdown,isc-dhcp-client,openssh-server,ca-certificates,e2fsprogs,gdisk,kmod,zstd,busybox-static";

/// Path, text, and whether it is a program.
const FILES: [(&str, &str, bool); 10] = [
    ("etc/fstab", "LABEL=root / ext4 defaults,noatime 0 1\n", false),
    // The one name that the DHCP client replaces by the one it is given.
    ("etc/hostname", "localhost\n", false),
    ("etc/kiln-image", "debian\n", false),
    (
        "etc/network/interfaces",
        "auto lo\niface lo inet loopback\nsource /etc/network/interfaces.d/*\n",
        false,
    ),
    ("etc/cloud/cloud.cfg.d/90-kiln.cfg", include_str!("system/cloud.cfg"), false),
    ("etc/cloud/ds-identify.cfg", include_str!("system/ds-identify.cfg"), false),
    ("etc/systemd/system/kiln-greeting.service", include_str!("system/kiln-greeting.service"), false),
    ("etc/systemd/system/kiln-user-data.service", include_str!("system/kiln-user-data.service"), false),
    ("usr/local/bin/greet", include_str!("serve/greet"), true),
    ("usr/local/bin/user-data", include_str!("serve/user-data"), true),
];

/// What an image that is deployed, used and thrown away has no use for, or that takes long when emulated.
const MASKED: [&str; 6] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "systemd-networkd.service",
    "systemd-networkd-wait-online.service",
];

/// The raw disk image.
///
/// # Errors
/// When not root, when a package cannot be downloaded or a tool fails.
pub fn image(workshop: &Workshop, flavour: Flavour) -> Result<Made> {
    let mirror = Mirror::open(workshop)?;
    let kernel = match flavour {
        Flavour::Cloud => "linux-image-cloud-amd64",
        Flavour::Server => "linux-image-amd64",
    };
    let mut key = Key::new("debian", RECIPE)
        .with(kernel)
        .with(PACKAGES)
        .with(GRUB)
        .with(mirror.release()?)
        .with(MASKED.concat())
        .with(installed(&disk::TOOLS)?);
    for (path, text, _) in FILES {
        key = key.with(path).with(text);
    }
    workshop.make(&format!("debian-{}.raw", key.name()), |scratch| {
        ensure!(nix::unistd::geteuid().is_root(), "mmdebstrap needs root: run it with sudo");
        let root = scratch.join("root");
        install(&mirror, kernel, scratch, &root)?;
        finish(&root)?;
        let file_system = file_system(&root, scratch)?;
        let out = scratch.join("debian.raw");
        let contents = Contents { esp: &[], grub: GRUB, root: Some(&file_system), serial: 0x6465_6269 };
        disk::assemble(&contents, scratch, &out)?;
        Ok(out)
    })
}

fn install(mirror: &Mirror, kernel: &str, scratch: &Path, root: &Path) -> Result<()> {
    let sources = scratch.join("sources.list");
    fs::write(&sources, mirror.stable_sources()?)?;
    // Before the packages are configured, so that the initramfs is made once.
    let early = scratch.join("early/etc/initramfs-tools/conf.d");
    fs::create_dir_all(&early)?;
    fs::write(early.join("kiln"), "MODULES=most\nCOMPRESS=zstd\n")?;
    run(tool("mmdebstrap")
        .args(["--mode=root", "--variant=minbase", "--format=directory", "--quiet"])
        .arg(format!("--include={kernel},{PACKAGES}"))
        .arg(format!("--essential-hook=sync-in {} /", scratch.join("early").display()))
        .args(
            ["man", "locale", "doc", "info"]
                .map(|folder| format!("--dpkgopt=path-exclude=/usr/share/{folder}/*")),
        )
        .arg("--aptopt=Acquire::Retries \"3\"")
        .arg("bookworm")
        .arg(root)
        .arg(&sources)
        .env("TMPDIR", scratch))?;
    Ok(())
}

/// Puts our files in, and takes out what must differ from node to node.
fn finish(root: &Path) -> Result<()> {
    for (path, text, program) in FILES {
        let path = root.join(path);
        fs::create_dir_all(path.parent().context("every file of the image is in a folder")?)?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(if program { 0o755 } else { 0o644 }))?;
    }
    let units = root.join("etc/systemd/system");
    for unit in MASKED {
        let _ = fs::remove_file(units.join(unit));
        symlink("/dev/null", units.join(unit))?;
    }
    let wanted = units.join("multi-user.target.wants");
    fs::create_dir_all(&wanted)?;
    for unit in ["kiln-greeting.service", "kiln-user-data.service"] {
        symlink(Path::new("..").join(unit), wanted.join(unit))?;
    }
    for entry in fs::read_dir(root.join("etc/ssh"))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("ssh_host_") {
            fs::remove_file(entry.path())?;
        }
    }
    fs::write(root.join("etc/machine-id"), "")?;
    // The build machine's; the DHCP client writes the node's.
    fs::remove_file(root.join("etc/resolv.conf")).or_else(missing_is_fine)?;
    for folder in ["var/lib/apt/lists", "var/cache/apt"] {
        fs::remove_dir_all(root.join(folder)).or_else(missing_is_fine)?;
        fs::create_dir_all(root.join(folder))?;
    }
    ensure!(
        root.join("vmlinuz").is_symlink() && root.join("initrd.img").is_symlink(),
        "the kernel's package made no /vmlinuz and /initrd.img, which grub.cfg boots"
    );
    Ok(())
}

fn missing_is_fine(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// An ext4 file system of the tree, with about a fifth of its space free.
fn file_system(root: &Path, scratch: &Path) -> Result<PathBuf> {
    let used = text(tool("du").args(["-s", "--block-size=1M"]).arg(root))?;
    let used: u64 =
        used.split_whitespace().next().and_then(|mib| mib.parse().ok()).context("du prints no number")?;
    let out = scratch.join("root.ext4");
    fs::File::create(&out)?.set_len((used * 6 / 5 + 64) << 20)?;
    // GRUB 2.06 reads no file system that has these features.
    run(tool("mke2fs")
        .args(["-q", "-t", "ext4", "-L", "root", "-O", "^metadata_csum_seed,^orphan_file", "-U", ROOT_UUID])
        .args(["-E", &format!("hash_seed={ROOT_UUID}")])
        .arg("-d")
        .arg(root)
        .arg(&out))?;
    Ok(out)
}
