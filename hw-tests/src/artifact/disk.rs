//! A disk image that BIOS and UEFI boot, written as a file: no loop device, no mount, no grub-install.
//!
//! ```text
//! LBA 0     protective MBR with GRUB's boot.img     1  bios_grub  1 MiB   GRUB's core.img
//! LBA 2048  ───────────────────────────────────►    2  ESP        FAT16   GRUB for UEFI, grub.cfg, files
//! LBA 4096  ───────────────────────────────────►    3  root       ext4    (when there is one)
//! ```
//!
//! The same files give the same octets: identifiers and times are fixed.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::command::{run, tool};

pub(super) const MIB: u64 = 1 << 20;
const SECTOR: u64 = 512;
/// Where the partition for core.img begins.
const CORE_LBA: u64 = 2048;
const CORE_LENGTH: u64 = MIB;
const ESP_LBA: u64 = 4096;
/// The packages whose tools and files shape a disk, for its key.
pub const TOOLS: [&str; 6] =
    ["dosfstools", "gdisk", "grub-common", "grub-efi-amd64-bin", "grub-pc-bin", "mtools"];

const BOOT_IMAGE: &str = "/usr/lib/grub/i386-pc/boot.img";
const GRUB_MODULES: [&str; 12] = [
    "part_gpt",
    "fat",
    "normal",
    "linux",
    "configfile",
    "serial",
    "terminal",
    "echo",
    "test",
    "regexp",
    "minicmd",
    "gzio",
];

/// What is on the disk.
pub struct Contents<'a> {
    /// Files of the ESP: path from its root, and content. Directories follow from the paths.
    pub esp: &'a [(&'a str, &'a Path)],
    /// GRUB's configuration; `$root` is the ESP when it is read.
    pub grub: &'a str,
    /// A file with an ext4 file system, for a third partition.
    pub root: Option<&'a Path>,
    /// Tells this disk's identifiers from another recipe's.
    pub serial: u32,
}

/// Writes the disk image `out`, with its pieces in the folder `scratch`.
///
/// # Errors
/// When a file cannot be read or written, or a tool fails.
pub fn assemble(contents: &Contents, scratch: &Path, out: &Path) -> Result<()> {
    let esp = scratch.join("esp");
    let core = scratch.join("core.img");
    grub_cores(scratch, &core)?;
    let grub = scratch.join("grub.cfg");
    fs::write(&grub, contents.grub)?;
    let uefi = scratch.join("grub.efi");
    let mut files = vec![("EFI/BOOT/BOOTX64.EFI", uefi.as_path()), ("boot/grub/grub.cfg", grub.as_path())];
    files.extend_from_slice(contents.esp);
    let esp_mib = write_esp(&esp, &files, contents.serial)?;

    let root_mib = match contents.root {
        Some(root) => fs::metadata(root)?.len().div_ceil(MIB),
        None => 0,
    };
    let disk = File::create(out).with_context(|| format!("cannot write {}", out.display()))?;
    // One more for what precedes the first partition, core.img, and the second copy of the table.
    disk.set_len((3 + esp_mib + root_mib) * MIB)?;
    drop(disk);
    let guid = |number: u8| {
        format!("6b696c6e-{:04x}-{:04x}-8000-{number:012x}", contents.serial >> 16, contents.serial & 0xffff)
    };
    let mut sgdisk = tool("sgdisk");
    sgdisk.args(["-a", "2048", "-U", &guid(0)]);
    sgdisk.args(["-n", "1:2048:+1M", "-t", "1:ef02", "-c", "1:bios", "-u", &format!("1:{}", guid(1))]);
    sgdisk.args([
        "-n",
        &format!("2:4096:+{esp_mib}M"),
        "-t",
        "2:ef00",
        "-c",
        "2:ESP",
        "-u",
        &format!("2:{}", guid(2)),
    ]);
    if contents.root.is_some() {
        sgdisk.args([
            "-n",
            &format!("3:0:+{root_mib}M"),
            "-t",
            "3:8300",
            "-c",
            "3:root",
            "-u",
            &format!("3:{}", guid(3)),
        ]);
    }
    run(sgdisk.arg(out))?;

    let disk = OpenOptions::new().read(true).write(true).open(out)?;
    write_bios_boot(&disk, &fs::read(&core)?)?;
    place(&disk, &esp, ESP_LBA * SECTOR)?;
    if let Some(root) = contents.root {
        place(&disk, root, ESP_LBA * SECTOR + esp_mib * MIB)?;
    }
    Ok(())
}

/// core.img for BIOS and grub.efi for UEFI. Both look for boot/grub/grub.cfg on the disk they were
/// started from: a node may have another disk with the same image on it.
fn grub_cores(scratch: &Path, core: &Path) -> Result<()> {
    for (platform, prefix, own, out) in [
        (Platform::Bios, "(,gpt2)/boot/grub", ["biosdisk", "linux16", "ext2"].as_slice(), core),
        (Platform::Uefi, "/boot/grub", ["efi_gop", "ext2"].as_slice(), &scratch.join("grub.efi")),
    ] {
        grub_core(platform, prefix, &[&GRUB_MODULES, own].concat(), out)?;
    }
    Ok(())
}

/// What GRUB is started by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Platform {
    Bios,
    Uefi,
}

/// GRUB in one file: core.img or a UEFI program. It reads `grub.cfg` in the folder `prefix`.
pub(super) fn grub_core(platform: Platform, prefix: &str, modules: &[&str], out: &Path) -> Result<()> {
    let name = match platform {
        Platform::Bios => "i386-pc",
        Platform::Uefi => "x86_64-efi",
    };
    let mut mkimage = tool("grub-mkimage");
    mkimage.args(["-O", name, "-p", prefix, "-o"]).arg(out).args(modules);
    run(&mut mkimage)?;
    Ok(())
}

/// The ESP, as large as its files ask for; returns its size in MiB.
fn write_esp(esp: &Path, files: &[(&str, &Path)], serial: u32) -> Result<u64> {
    let mut content = 0;
    for (_, file) in files {
        content += fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len();
    }
    // FAT16 has at least 4085 clusters: 8 MiB of the smallest size.
    let mib = (content.div_ceil(MIB) + 1).max(8);
    let cluster_sectors = if mib < 32 { "1" } else { "8" };
    write_fat(esp, mib, &["-F", "16", "-s", cluster_sectors, "-n", "ESP"], serial, files)?;
    Ok(mib)
}

/// Makes a FAT file system with these files: path from its root, and content.
pub(super) fn write_fat(
    out: &Path,
    mib: u64,
    options: &[&str],
    serial: u32,
    files: &[(&str, &Path)],
) -> Result<()> {
    File::create(out)?.set_len(mib * MIB)?;
    run(tool("mkfs.vfat").arg("--invariant").args(options).args(["-i", &format!("{serial:08x}")]).arg(out))?;
    let mut made: Vec<&str> = Vec::new();
    for (name, file) in files {
        for (at, _) in name.match_indices('/') {
            let above = &name[..at];
            if !made.contains(&above) {
                made.push(above);
                run(tool("mmd").arg("-i").arg(out).arg(format!("::{above}")))?;
            }
        }
        run(tool("mcopy").arg("-i").arg(out).arg(file).arg(format!("::{name}")))?;
    }
    Ok(())
}

/// What grub-bios-setup does: boot.img in front of the partition table, core.img in its own partition,
/// and in both the sectors where the next piece begins.
pub(super) fn write_bios_boot(disk: &File, core: &[u8]) -> Result<()> {
    let mut boot =
        fs::read(BOOT_IMAGE).with_context(|| format!("{BOOT_IMAGE} is missing: run hw-tests/setup"))?;
    let mut core = core.to_vec();
    ensure!(boot.len() == 512 && core.len() > 512, "GRUB's images have an unknown form");
    ensure!(
        core.len() as u64 <= CORE_LENGTH,
        "core.img has {} octets and its partition {CORE_LENGTH}",
        core.len()
    );
    // GRUB_BOOT_MACHINE_KERNEL_SECTOR
    boot[0x5c..0x64].copy_from_slice(&CORE_LBA.to_le_bytes());
    // GRUB_BOOT_MACHINE_DRIVE_CHECK: two nops trust the drive number the BIOS gives.
    boot[0x66..0x68].copy_from_slice(&[0x90, 0x90]);
    // The first entry of diskboot.img's list: the rest of core.img follows its first sector.
    core[0x1f4..0x1fc].copy_from_slice(&(CORE_LBA + 1).to_le_bytes());
    // What follows is the disk's signature and partition table.
    disk.write_all_at(&boot[..440], 0)?;
    disk.write_all_at(&core, CORE_LBA * SECTOR)?;
    Ok(())
}

/// Copies a file's content into the disk, leaving holes where it is zero.
pub(super) fn place(disk: &File, from: &Path, offset: u64) -> Result<()> {
    let source = File::open(from).with_context(|| format!("cannot read {}", from.display()))?;
    let mut buffer = vec![0; 1 << 16];
    let mut at = 0;
    loop {
        let length = source.read_at(&mut buffer, at)?;
        if length == 0 {
            return Ok(());
        }
        if buffer[..length].iter().any(|octet| *octet != 0) {
            disk.write_all_at(&buffer[..length], offset + at)?;
        }
        at += length as u64;
    }
}
