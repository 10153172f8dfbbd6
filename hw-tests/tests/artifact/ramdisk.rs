use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use hw_tests::artifact::cpio::Archive;
use hw_tests::artifact::debian::Mirror;
use hw_tests::artifact::{Ramdisk, Workshop, ramdisk};

use crate::Folder;
use crate::machine::{Firmware, Machine};

/// Loads, by alias, what the machine has; then says which drivers the network cards and disks got.
const COLD_PLUG: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /bin
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
rm /sbin/modprobe; ln -s /bin/busybox /sbin/modprobe
for round in 1 2 3; do
  find /sys/devices -name modalias -exec cat {} + | sort -u | while read -r alias; do modprobe -q "$alias"; done 2>/dev/null
done
modprobe ext4 && modprobe isofs && echo "KILN file systems $(grep -c -e ext4 -e iso9660 /proc/filesystems)"
for card in /sys/class/net/*/device/driver; do echo "KILN driver $(basename $(readlink $card))"; done
for disk in /sys/block/*; do echo "KILN disk $(basename $disk)"; done
echo KILN end
poweroff -f
"#;

#[test]
fn kernel_and_initramfs_stay_within_their_bound_and_are_made_once() -> Result<()> {
    let folder = Folder::new("ramdisk-size");
    let (ramdisk, _) = made(&folder)?;
    assert!(ramdisk.fresh);
    let (kernel, initramfs) = ramdisk.sizes()?;
    println!("kernel {kernel} + initramfs {initramfs} = {} of {}", kernel + initramfs, ramdisk::BOUND);
    assert!(kernel + initramfs <= ramdisk::BOUND);
    assert_eq!(ramdisk.absent, [""; 0], "the list names modules that this kernel lacks");
    let first = fs::read(&ramdisk.initramfs)?;
    assert!(!made(&folder)?.0.fresh);
    fs::remove_file(folder.join("made-of"))?;
    assert!(made(&folder)?.0.fresh);
    assert!(first == fs::read(&ramdisk.initramfs)?, "the same inputs gave other octets");
    folder.passed();
    Ok(())
}

#[test]
fn a_program_that_wants_shared_libraries_is_refused() -> Result<()> {
    let folder = Folder::new("ramdisk-shared");
    let kernel = ramdisk::kernel(&Workshop::open()?)?;
    let error = ramdisk::build(&kernel, Path::new("/bin/ls"), &folder).expect_err("ls is dynamic");
    assert!(error.to_string().contains("shared libraries"), "{error}");
    folder.passed();
    Ok(())
}

#[test]
fn on_virtio_the_modules_load_by_alias() -> Result<()> {
    cold_plugged("virtio-net-pci", "virtio_net", "virtio-blk-pci", "vda")
}

#[test]
fn on_e1000_and_ide_the_modules_load_by_alias() -> Result<()> {
    cold_plugged("e1000", "e1000", "ide-hd", "sda")
}

#[test]
fn on_igb_and_nvme_the_modules_load_by_alias() -> Result<()> {
    cold_plugged("igb", "igb", "nvme,serial=1", "nvme0n1")
}

fn cold_plugged(card: &str, driver: &str, disk_model: &str, disk: &str) -> Result<()> {
    let folder = Folder::new(&format!("ramdisk-{card}"));
    let (ramdisk, busybox) = made(&folder)?;
    // The kernel unpacks archives that follow one another into one tree.
    let mut archive = Archive::default();
    archive.file("bin/busybox", fs::read(busybox)?, true);
    archive.file("cold-plug", COLD_PLUG.as_bytes().to_vec(), true);
    let mut initramfs = fs::read(&ramdisk.initramfs)?;
    archive.write(&mut initramfs)?;
    let both = folder.join("both");
    fs::write(&both, initramfs)?;
    let image = folder.join("disk");
    fs::File::create(&image)?.set_len(1 << 20)?;
    let mut machine = Machine::new(&folder, &Firmware::Bios, 512)?
        .card(card)
        .disk_on(disk_model, &image)
        .kernel(&ramdisk.kernel, &both, "console=ttyS0 quiet no_timer_check panic=5 rdinit=/cold-plug")
        .start()?;
    machine.awaited("KILN end", Duration::from_secs(120))?;
    let console = machine.console();
    assert!(console.contains(&format!("KILN driver {driver}\n")), "{console}");
    assert!(console.contains(&format!("KILN disk {disk}\n")), "{console}");
    assert!(console.contains("KILN file systems 2\n"), "{console}");
    folder.passed();
    Ok(())
}

/// The ramdisk with busybox where the agent goes.
fn made(folder: &Folder) -> Result<(Ramdisk, PathBuf)> {
    let workshop = Workshop::open()?;
    let mirror = Mirror::open(&workshop)?;
    let busybox = mirror.tree(&mirror.package("busybox-static")?)?.join("bin/busybox");
    Ok((ramdisk::build(&ramdisk::kernel(&workshop)?, &busybox, folder)?, busybox))
}
