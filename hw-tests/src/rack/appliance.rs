//! The appliance as a machine of its own: its image in QEMU, with three cables into the rack.
//!
//! | file in its directory | what |
//! |---|---|
//! | `disk.img` | what the image was flashed on |
//! | `stick.img` | a USB stick with the configuration |
//! | `vars.fd` | its UEFI variables |
//! | `console.log` | all its serial port ever said |

use super::{
    cabling::MACHINE_PORTS,
    description::Firmware,
    footprint::Footprint,
    machine::{OVMF_CODE, OVMF_VARS},
    namespace::{Namespace, run},
    openvswitch::last_line,
    process::Process,
};
use anyhow::{Context as _, Result, ensure};
use boot::Mac;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

/// Its network cards: uplink, OOB, trunk.
pub const MACS: [Mac; 3] = [
    Mac([0x52, 0x54, 0x00, 0x4b, 0xff, 0x01]),
    Mac([0x52, 0x54, 0x00, 0x4b, 0xff, 0x02]),
    Mac([0x52, 0x54, 0x00, 0x4b, 0xff, 0x03]),
];
/// The label of the file system that the appliance looks for its configuration on.
const STICK: &str = "KILN-CONFIG";

/// What the appliance's machine is.
#[derive(Clone, Debug)]
pub struct Appliance {
    /// The disk image that is flashed.
    pub image: PathBuf,
    /// What it starts from.
    pub firmware: Firmware,
    /// RAM, in MiB.
    pub memory_mib: u32,
    /// Its disk, in MiB; larger than the image.
    pub disk_mib: u64,
    /// The text of `kiln.toml` on its stick.
    pub configuration: String,
    /// What its hardware clock says when it is switched on, as QEMU writes it; none: this machine's time.
    pub clock: Option<String>,
}

/// Flashes the image on a new disk and writes the stick.
pub(super) fn flash(appliance: &Appliance, home: &Path) -> Result<()> {
    fs::create_dir_all(home).with_context(|| format!("cannot make {}", home.display()))?;
    let disk = home.join("disk.img");
    // Its holes stay holes.
    run(Command::new("cp").arg("--sparse=always").arg(&appliance.image).arg(&disk))?;
    let file = File::options().write(true).open(&disk)?;
    let size = appliance.disk_mib << 20;
    ensure!(
        file.metadata()?.len() < size,
        "the image {} is larger than a disk of {} MiB",
        appliance.image.display(),
        appliance.disk_mib
    );
    file.set_len(size)?;
    let stick = home.join("stick.img");
    File::create(&stick)?.set_len(4 << 20)?;
    run(Command::new("mkfs.vfat").args(["-n", STICK]).arg(&stick))?;
    let text = home.join("kiln.toml");
    fs::write(&text, &appliance.configuration)?;
    run(Command::new("mcopy").arg("-i").arg(&stick).arg(&text).arg("::kiln.toml"))?;
    if appliance.firmware == Firmware::Uefi {
        fs::copy(OVMF_VARS, home.join("vars.fd")).with_context(|| format!("cannot copy {OVMF_VARS}"))?;
    }
    Ok(())
}

/// Switches it on.
pub(super) fn start(
    footprint: &mut Footprint,
    inside: &Namespace,
    appliance: &Appliance,
    home: &Path,
) -> Result<Process> {
    let process = footprint.start("appliance", inside, &mut qemu(appliance, home))?;
    ensure!(process.runs(), "the appliance's QEMU ended: {}", last_line(&footprint.log("appliance")));
    Ok(process)
}

fn qemu(appliance: &Appliance, home: &Path) -> Command {
    let here = home.display();
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg", "-cpu", "qemu64", "-nodefaults", "-no-user-config", "-display", "none"]);
    qemu.args(["-name", "appliance", "-m", &appliance.memory_mib.to_string()]);
    match appliance.firmware {
        Firmware::Bios => qemu.args(["-machine", "pc,graphics=off"]),
        Firmware::Uefi => qemu
            .args(["-machine", "q35,graphics=off"])
            .args(["-drive", &format!("if=pflash,unit=0,format=raw,readonly=on,file={OVMF_CODE}")])
            .args(["-drive", &format!("if=pflash,unit=1,format=raw,file={here}/vars.fd")]),
    };
    let mut pair = |option: &str, value: String| {
        qemu.arg(option).arg(value);
    };
    // What the guest flushed is in the host's page cache, which outlives QEMU.
    pair("-drive", format!("if=none,id=disk,format=raw,file={here}/disk.img,cache=writeback,discard=unmap"));
    pair("-device", "virtio-blk-pci,drive=disk,serial=appliance,bootindex=1".to_owned());
    pair("-device", "qemu-xhci,id=usb".to_owned());
    pair("-drive", format!("if=none,id=stick,format=raw,file={here}/stick.img"));
    pair("-device", "usb-storage,bus=usb.0,drive=stick,removable=on".to_owned());
    for (at, (mac, tap)) in MACS.iter().zip(MACHINE_PORTS).enumerate() {
        pair("-netdev", format!("tap,id=net{at},ifname={tap},script=no,downscript=no,vnet_hdr=off"));
        pair("-device", format!("virtio-net-pci,netdev=net{at},mac={mac},romfile="));
    }
    pair("-device", "virtio-rng-pci".to_owned());
    // It resets the machine when it is not fed.
    pair("-device", "i6300esb".to_owned());
    if let Some(clock) = &appliance.clock {
        pair("-rtc", format!("base={clock}"));
    }
    pair("-chardev", format!("file,id=serial,path={here}/console.log,append=on"));
    pair("-serial", "chardev:serial".to_owned());
    pair("-qmp", format!("unix:{here}/qmp.sock,server=on,wait=off"));
    qemu
}
