//! The disk: a partition table, the boot loader, and the slot image in slot A.
//!
//! Slot B is empty. The same in both would be there for a flash cell that dies, and doubles what is flashed:
//! zstd, as it unpacks by default, does not look back the 128 MiB from one slot to the other.

use std::fs::{self, File, OpenOptions};
use std::path::Path;

use anyhow::{Result, ensure};

use super::grub;
use crate::artifact::command::{run, tool};
use crate::artifact::disk::{MIB, place, write_bios_boot, write_fat};

/// Tells its identifiers from other recipes': "appl".
pub const SERIAL: u32 = 0x6170_706c;

/// A row of the table.
pub struct Partition {
    /// Its name, in the table too.
    pub name: &'static str,
    /// Its size in MiB.
    pub mib: u64,
    /// sgdisk's word for its type.
    pub kind: &'static str,
}

/// Partitions, one after the other, from 1 MiB on. What is behind them is the box's: its data.
pub const PARTITIONS: [Partition; 4] = [
    Partition { name: "bios", mib: 1, kind: "ef02" },
    Partition { name: "esp", mib: 64, kind: "ef00" },
    Partition { name: "system-a", mib: 128, kind: "8300" },
    Partition { name: "system-b", mib: 128, kind: "8300" },
];
const ESP: usize = 1;
const SLOTS: [usize; 2] = [2, 3];

/// Where the ESP begins, in octets.
pub const ESP_OFFSET: u64 = start(ESP) * MIB;
/// Where the slots A and B begin, in octets.
pub const SLOT_OFFSETS: [u64; 2] = [start(SLOTS[0]) * MIB, start(SLOTS[1]) * MIB];

/// The first MiB of the partition at this place of the list.
const fn start(at: usize) -> u64 {
    let mut mib = 1;
    let mut before = 0;
    while before < at {
        mib += PARTITIONS[before].mib;
        before += 1;
    }
    mib
}

/// The identifier of a partition, by its number in the table; of the disk itself for 0.
pub fn guid(number: usize) -> String {
    format!("6b696c6e-{:04x}-{:04x}-8000-{number:012x}", SERIAL >> 16, SERIAL & 0xffff)
}

/// Writes the disk that GRUB starts, with its pieces in the folder `scratch`.
pub(super) fn write(slot: &Path, scratch: &Path, out: &Path) -> Result<()> {
    let [bios, uefi, configuration, state] =
        ["core.img", "grub.efi", "grub.cfg", "grubenv"].map(|name| scratch.join(name));
    grub::cores(&bios, &uefi)?;
    fs::write(&configuration, grub::CONFIGURATION)?;
    fs::write(&state, grub::environment(&grub::FIRST)?)?;
    let [configuration_there, state_there] =
        ["grub.cfg", "grubenv"].map(|name| format!("{}/{name}", grub::FOLDER));
    let files = [
        ("EFI/BOOT/BOOTX64.EFI", uefi.as_path()),
        (&configuration_there, &configuration),
        (&state_there, &state),
    ];
    let disk = assemble(slot, &files, scratch, out)?;
    write_bios_boot(&disk, &fs::read(&bios)?)
}

/// Writes the disk with these files on its ESP: path there, and file.
pub(super) fn assemble(slot: &Path, files: &[(&str, &Path)], scratch: &Path, out: &Path) -> Result<File> {
    let esp = scratch.join("esp");
    // FAT32 has at least 65525 clusters: of one sector each.
    let options = ["-F", "32", "-s", "1", "-n", "KILN-ESP"];
    write_fat(&esp, PARTITIONS[ESP].mib, &options, SERIAL, files)?;

    // The second copy of the table takes less than the last MiB.
    let end = start(PARTITIONS.len());
    let disk = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(out)?;
    disk.set_len((end + 1) * MIB)?;
    let mut table = tool("sgdisk");
    table.args(["-a", "2048", "-U", &guid(0)]);
    for (number, Partition { name, mib, kind }) in (1..).zip(&PARTITIONS) {
        let begin = start(number - 1) * MIB / 512;
        table.args(["-n", &format!("{number}:{begin}:+{mib}M"), "-t", &format!("{number}:{kind}")]);
        table.args(["-c", &format!("{number}:{name}"), "-u", &format!("{number}:{}", guid(number))]);
    }
    run(table.arg(out))?;

    place(&disk, &esp, ESP_OFFSET)?;
    let size = fs::metadata(slot)?.len();
    ensure!(size <= PARTITIONS[SLOTS[0]].mib * MIB, "a slot image of {size} octets fits in no slot");
    place(&disk, slot, SLOT_OFFSETS[0])?;
    Ok(disk)
}
