//! The tiny user image with a root file system: what boots from a volume, over iSCSI.
//!
//! GRUB, kernel and initramfs come through the firmware's view of the volume. The kernel then finds in the
//! iBFT which target it was booted from and as whom, `iscsistart` logs in, and the disk's third partition
//! becomes the root, read-write; `iscsid` keeps the session from there on, out of memory, for what is to
//! bring the root back cannot be read from it. On a machine that was not booted over iSCSI the same image
//! finds its root on the local disk.
//!
//! It greets and tells its user data as [`tiny`](super::tiny) does, and on port 82 speaks of its disks:
//!
//! | request | does |
//! |---|---|
//! | `GET /boots` | says how often this root was booted |
//! | `GET /disks` | a line for each disk: name, octets, `iscsi` or `local`, SCSI address |
//! | `POST /scan` | looks for new LUNs in all sessions, lets go of those that are gone; then as `/disks` |
//! | `POST /file/NAME`, `GET /file/NAME` | keeps a file on the root, synced; gives it back |
//! | `POST /disk/NAME`, `GET /disk/NAME` | writes at a disk's beginning, flushed; reads 4 KiB there, past the cache |
//! | `GET /kernel` | the kernel's messages |
//! | `GET /trouble` | those of them that tell of a failed read or write |

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::command::{run, text, tool};
use super::debian::{Mirror, Package, installed};
use super::disk::{self, Contents};
use super::kernel::KernelTree;
use super::tiny;
use super::workshop::{Key, Made};
use super::{Flavour, Workshop};

const RECIPE: u32 = 2;

/// Beside those of [`tiny`].
const MODULES: [&str; 5] = ["crc32c_generic", "ext4", "iscsi_ibft", "iscsi_tcp", "libcrc32c"];

/// Beside those of [`tiny`], in the initramfs.
const EARLY: [(&str, &str); 3] = [
    ("bin/find-root", include_str!("san/find-root")),
    ("etc/iscsi/iscsid.conf", include_str!("san/iscsid.conf")),
    // iscsid talks with root alone, whom it looks up.
    ("etc/passwd", "root::0:0:root:/:/bin/sh\n"),
];

/// Beside those of [`tiny`], in the root.
const LATE: [(&str, &str); 3] = [
    ("etc/inittab", include_str!("san/inittab")),
    ("etc/iscsi/iscsid.conf", include_str!("san/iscsid.conf")),
    ("bin/keep", include_str!("san/keep")),
];

/// The initiator's packages, and those of its libraries.
const PACKAGES: [&str; 17] = [
    "libblkid1",
    "libc6",
    "libcap2",
    "libgcrypt20",
    "libgpg-error0",
    "libisns0",
    "libkmod2",
    "liblz4-1",
    "liblzma5",
    "libmount1",
    "libopeniscsiusr",
    "libpcre2-8-0",
    "libselinux1",
    "libssl3",
    "libsystemd0",
    "libzstd1",
    "open-iscsi",
];

const ROOT_MIB: u64 = 40;
const ROOT_UUID: &str = "6b696c6e-7361-4e00-8000-000000000003";

/// The raw disk image.
///
/// # Errors
/// When a package cannot be downloaded or a tool fails.
pub fn image(workshop: &Workshop, flavour: Flavour) -> Result<Made> {
    let mirror = Mirror::open(workshop)?;
    let kernel = mirror.kernel(flavour)?;
    let busybox = mirror.package("busybox-static")?;
    let packages = PACKAGES.map(|name| mirror.package(name)).into_iter().collect::<Result<Vec<Package>>>()?;
    let mut key = Key::new("tiny-san", RECIPE)
        .with(kernel.id())
        .with(busybox.id())
        .with(installed(&disk::TOOLS)?)
        .with(installed(&["e2fsprogs"])?)
        .with(tiny::GRUB);
    for package in &packages {
        key = key.with(package.id());
    }
    for (name, text) in tiny::SCRIPTS.into_iter().chain([tiny::BUTTON]).chain(EARLY).chain(LATE) {
        key = key.with(name).with(text);
    }
    for module in tiny::MODULES.into_iter().chain(MODULES) {
        key = key.with(module);
    }
    workshop.make(&format!("tiny-san-{}.raw", key.name()), |scratch| {
        let trees = packages.iter().map(|package| mirror.tree(package)).collect::<Result<Vec<_>>>()?;
        write(&mirror.kernel_tree(&kernel)?, &mirror.tree(&busybox)?, &trees, scratch)
    })
}

fn write(kernel: &KernelTree, busybox: &Path, trees: &[PathBuf], folder: &Path) -> Result<PathBuf> {
    let mut archive = tiny::archive(kernel, busybox, &[&tiny::MODULES[..], &MODULES].concat())?;
    for (name, text) in EARLY {
        archive.file(name, text.as_bytes().to_vec(), true);
    }
    for (path, from) in closure(trees, &["sbin/iscsistart", "sbin/iscsid"])? {
        archive.file(&path, fs::read(&from)?, true);
    }
    let initrd = folder.join("initrd.gz");
    fs::write(&initrd, tiny::packed(&archive)?)?;

    let root = folder.join("root");
    fill(&root, busybox, &closure(trees, &["sbin/iscsiadm"])?)?;
    let file_system = folder.join("root.ext4");
    fs::File::create(&file_system)?.set_len(ROOT_MIB << 20)?;
    run(tool("mke2fs")
        .args(["-q", "-t", "ext4", "-b", "4096", "-J", "size=4", "-L", "root", "-U", ROOT_UUID])
        .args(["-E", &format!("hash_seed={ROOT_UUID},root_owner=0:0")])
        .arg("-d")
        .arg(&root)
        .arg(&file_system))?;

    let out = folder.join("tiny-san.raw");
    let contents = Contents {
        esp: &[("boot/vmlinuz", &kernel.image), ("boot/initrd.gz", &initrd)],
        grub: tiny::GRUB,
        root: Some(&file_system),
        serial: 0x7473_616e,
    };
    disk::assemble(&contents, folder, &out)?;
    Ok(out)
}

/// Lays the root file system's tree.
fn fill(root: &Path, busybox: &Path, initiator: &BTreeMap<String, PathBuf>) -> Result<()> {
    for name in ["bin", "dev", "etc", "mnt", "proc", "run", "sys", "tmp", "var/kiln"] {
        fs::create_dir_all(root.join(name))?;
    }
    let put = |name: &str, data: &[u8]| -> Result<()> {
        let path = root.join(name);
        fs::create_dir_all(path.parent().context("every file of the root is in a folder")?)?;
        fs::write(&path, data).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?)
    };
    put("bin/busybox", &tiny::program(busybox)?)?;
    let applets = text(tool(&root.join("bin/busybox").to_string_lossy()).arg("--list"))?;
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    for (name, text) in tiny::SCRIPTS.into_iter().filter(|(name, _)| *name != "init").chain([tiny::BUTTON]) {
        put(name, text.as_bytes())?;
    }
    for (name, text) in LATE {
        put(name, text.as_bytes())?;
    }
    for (path, from) in initiator {
        put(path, &fs::read(from)?)?;
    }
    Ok(())
}

/// Where the linker of Debian's amd64 looks, besides in `lib64` for itself.
const LIBRARIES: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];
const LINKER: &str = "lib64/ld-linux-x86-64.so.2";

/// Programs with all the shared libraries they need, out of unpacked packages: path below the root, and
/// where it is.
fn closure(trees: &[PathBuf], programs: &[&str]) -> Result<BTreeMap<String, PathBuf>> {
    let find = |path: &str| trees.iter().map(|tree| tree.join(path)).find(|file| file.exists());
    let linker = find(LINKER).or_else(|| find("lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"));
    let mut found = BTreeMap::from([(LINKER.to_owned(), linker.context("libc6 brings no linker")?)]);
    let mut open: Vec<(String, PathBuf)> = Vec::new();
    for program in programs {
        let file = find(program).with_context(|| format!("open-iscsi brings no {program}"))?;
        open.push(((*program).to_owned(), file));
    }
    while let Some((path, file)) = open.pop() {
        let dynamic = text(tool("readelf").args(["-dW"]).arg(&file))?;
        found.insert(path, file);
        for line in dynamic.lines().filter(|line| line.contains("(NEEDED)")) {
            let name = line.split(['[', ']']).nth(1).context("readelf names no library")?;
            if name.starts_with("ld-linux") {
                continue;
            }
            let mut places = LIBRARIES.iter().map(|place| format!("{place}/{name}"));
            let place = places
                .find_map(|place| find(&place).map(|file| (place, file)))
                .with_context(|| format!("none of the packages brings {name}"))?;
            if !found.contains_key(&place.0) {
                open.push(place);
            }
        }
    }
    Ok(found)
}
