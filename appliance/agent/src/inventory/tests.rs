use super::*;
use std::os::unix::fs::symlink;

fn put(root: &Path, path: &str, text: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn a_machine_is_told_from_its_kernel() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    put(root, "sys/class/dmi/id/sys_vendor", b"QEMU\n");
    put(root, "sys/class/dmi/id/product_uuid", b"ABCD-1\n");
    put(root, "sys/firmware/efi/fw_platform_size", b"64\n");
    put(
        root,
        "proc/cpuinfo",
        b"processor\t: 0\nmodel name\t: QEMU Virtual CPU\n\nprocessor\t: 1\nmodel name\t: X\n",
    );
    put(root, "proc/meminfo", b"MemTotal:         235668 kB\nMemFree: 1 kB\n");
    let inventory = Root(root.into()).look();
    assert_eq!(
        (inventory.vendor.as_str(), inventory.uuid.as_str(), inventory.uefi),
        ("QEMU", "abcd-1", true)
    );
    assert_eq!((inventory.cpus, inventory.cpu_model.as_str()), (2, "QEMU Virtual CPU"));
    assert_eq!(inventory.memory, 235_668 * 1024);
}

#[test]
fn interfaces_are_those_with_hardware() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    put(root, "sys/class/net/lo/address", b"00:00:00:00:00:00\n");
    put(root, "sys/class/net/eth0/address", b"52:54:00:12:34:56\n");
    put(root, "sys/class/net/eth0/carrier", b"1\n");
    put(root, "sys/class/net/eth0/device/vendor", b"0x1af4\n");
    symlink("../../bus/virtio/drivers/virtio_net", root.join("sys/class/net/eth0/device/driver")).unwrap();
    put(root, "sys/class/net/ib0/address", b"00:01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:10:11:12:13\n");
    put(root, "sys/class/net/ib0/device/vendor", b"0x1\n");
    let nics = Root(root.into()).nics();
    assert_eq!(nics.len(), 1);
    assert_eq!(
        (nics[0].name.as_str(), nics[0].driver.as_str(), nics[0].carrier),
        ("eth0", "virtio_net", true)
    );
}

#[test]
fn disks_are_those_with_hardware_with_all_that_names_them() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    for name in ["loop0", "dm-0"] {
        put(root, &format!("sys/block/{name}/size"), b"8\n");
    }
    for name in ["sr0", "fd0", "sda", "vda", "nvme0n1", "nvme0c0n1"] {
        put(root, &format!("sys/block/{name}/size"), b"2048\n");
        put(root, &format!("sys/block/{name}/device/vendor"), b"x\n");
    }
    put(root, "sys/block/nvme0c0n1/hidden", b"1\n");
    put(root, "sys/block/sda/device/vpd_pg80", b"\x00\x80\x00\x08 QM00001");
    put(root, "sys/block/sda/device/wwid", b"naa.5000c500a1b2c3d4\n");
    put(root, "sys/block/sda/device/model", b"QEMU HARDDISK   \n");
    put(root, "sys/block/sda/removable", b"1\n");
    put(root, "sys/block/vda/serial", b"tenant-1");
    put(root, "sys/block/nvme0n1/device/serial", b"NV1   \n");
    put(root, "sys/block/nvme0n1/wwid", b"eui.0025385b\n");
    let disks = Root(root.into()).disks();
    let told: Vec<_> = disks.iter().map(|d| (d.name.as_str(), d.serial.as_str(), d.wwn.as_str())).collect();
    let expected = [
        ("nvme0n1", "NV1", "eui.0025385b"),
        ("sda", "QM00001", "naa.5000c500a1b2c3d4"),
        ("vda", "tenant-1", ""),
    ];
    assert_eq!(told, expected);
    assert_eq!(
        (disks[1].size, disks[1].removable, disks[1].model.as_str()),
        (1 << 20, true, "QEMU HARDDISK")
    );
}

#[test]
fn a_serial_number_page_that_lies_about_its_length_is_cut() {
    assert_eq!(vpd_serial(b"\x00\x80\xff\xffAB"), "AB");
    assert_eq!(vpd_serial(b"\x00\x80"), "");
    assert_eq!(vpd_serial(b""), "");
}

#[test]
fn a_name_with_an_exclamation_mark_is_a_path_below_dev() {
    assert_eq!(device_file("cciss!c0d0"), Path::new("/dev/cciss/c0d0"));
    assert_eq!(device_file("sda"), Path::new("/dev/sda"));
}
