//! A virtual node: a QEMU machine, and the chassis that switches it on and off.
//!
//! All of a node's state is in its directory, because the chassis is run afresh for every word of the BMC:
//!
//! | file | what |
//! |---|---|
//! | `machine.json` | what it is made of, written by the rack |
//! | `boot` | the BMC's boot override for the next start |
//! | `qemu.pid` | the process, if it is on |
//! | `qmp.sock` | QEMU's control socket |
//! | `disk.img`, `vars.fd` | its disk and its UEFI variables |
//! | `console.log` | all its serial port ever said |
//! | `chassis.log`, `qemu.log` | what the chassis did, what QEMU complained of |
//! | `inert`, `unplugged` | faults: the chassis does nothing, the cable is out |

use super::{
    description::{Firmware, Nic, Node},
    process::Process,
    qmp::Qmp,
    wait,
};
use anyhow::{Context as _, Result, bail, ensure};
use boot::{Device, Mac, NodeName};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    env,
    fmt::{self, Display},
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    str::FromStr,
    time::Duration,
};

#[cfg(test)]
mod tests;

/// The file that makes a chassis accept every word and do nothing.
pub(super) const INERT: &str = "inert";
/// The file that says the cable is out.
pub(super) const UNPLUGGED: &str = "unplugged";
/// OVMF's code, in Debian's package `ovmf`.
pub(super) const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
/// The variables of a machine that was never set up.
pub(super) const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// QEMU under an emulated CPU on a busy machine takes a second or two to listen.
const QMP_PATIENCE: Duration = Duration::from_secs(20);

/// What a virtual node is made of, as its chassis reads it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Machine {
    pub(super) name: NodeName,
    pub(super) uuid: String,
    pub(super) firmware: Firmware,
    pub(super) nic: Nic,
    pub(super) rom: bool,
    pub(super) memory_mib: u32,
    /// Its NICs: address, and the TAP that its cable is.
    pub(super) ports: Vec<(Mac, Device)>,
    pub(super) storage_first: bool,
    pub(super) disk: bool,
    pub(super) serial_port: u16,
}

impl Machine {
    /// The machine of a node, whose serial port is to listen on this TCP port.
    ///
    /// # Errors
    /// The node is not virtual.
    pub(super) fn of(node: &Node, serial_port: u16) -> Result<Machine> {
        let Some(hardware) = &node.hardware else {
            bail!(
                "node {} has no [node.virtual] table: a virtual rack must know what to make of it",
                node.name
            )
        };
        Ok(Machine {
            name: node.name.clone(),
            uuid: uuid(node.name.as_str()),
            firmware: hardware.firmware,
            nic: hardware.nic,
            rom: hardware.rom,
            memory_mib: hardware.memory_mib,
            ports: node.ports().map(|port| (port.mac, port.switch_port.clone())).collect(),
            storage_first: hardware.storage_first,
            disk: hardware.disk_mib > 0,
            serial_port,
        })
    }
}

/// A UUID that depends on the name only (RFC 9562, 5.8: version 8, custom), so that a node keeps its own.
pub(super) fn uuid(name: &str) -> String {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    // FNV-1a, 128 bits.
    let hash = name.bytes().fold(OFFSET, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    let hash = hash & !(0xf << 76) & !(0x3 << 62) | 0x8 << 76 | 0x2 << 62;
    let hex = format!("{hash:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Whether a node is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// Its QEMU runs.
    On,
    /// It does not.
    Off,
}

/// What a BMC wants started from, in `ipmi_sim`'s words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BootDevice {
    /// No override.
    #[default]
    None,
    /// The network.
    Pxe,
    /// The disk; `ipmi_sim` calls it the default.
    Disk,
    /// A CD.
    Cdrom,
    /// The firmware's setup.
    Bios,
}

impl FromStr for BootDevice {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<BootDevice> {
        Ok(match word {
            "none" => BootDevice::None,
            "pxe" => BootDevice::Pxe,
            "default" => BootDevice::Disk,
            "cdrom" => BootDevice::Cdrom,
            "bios" => BootDevice::Bios,
            other => bail!("{other} is no boot device: none, pxe, default, cdrom or bios"),
        })
    }
}

impl fmt::Display for BootDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BootDevice::None => "none",
            BootDevice::Pxe => "pxe",
            BootDevice::Disk => "default",
            BootDevice::Cdrom => "cdrom",
            BootDevice::Bios => "bios",
        })
    }
}

/// Boot indexes of the first NIC that is tried, which the others follow, and of the disk. A server's own setup says disk
/// first; an empty disk lets the firmware fall to the network.
fn order(device: BootDevice, nics: usize) -> (usize, usize) {
    if device == BootDevice::Pxe { (1, 1 + nics) } else { (2, 1) }
}

/// The chassis of one virtual node.
#[derive(Debug)]
pub struct Chassis {
    directory: PathBuf,
    machine: Machine,
}

impl Chassis {
    /// The chassis whose node has this directory.
    ///
    /// # Errors
    /// The rack never made a node there.
    pub fn open(directory: &Path) -> Result<Chassis> {
        let path = directory.join("machine.json");
        let text =
            fs::read(&path).with_context(|| format!("no virtual node: cannot read {}", path.display()))?;
        let machine =
            serde_json::from_slice(&text).with_context(|| format!("{} is damaged", path.display()))?;
        Ok(Chassis { directory: directory.to_owned(), machine })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn log(&self, done: impl Display) -> Result<()> {
        let line = format!("{} {done}\n", wait::milliseconds_since_1970());
        append(&self.file("chassis.log"))?.write_all(line.as_bytes()).context("cannot write chassis.log")
    }

    /// One word of the BMC at a time: the next waits until the last is done.
    fn lock(&self) -> Result<File> {
        let lock = append(&self.file("lock"))?;
        lock.lock().context("cannot lock the chassis")?;
        Ok(lock)
    }

    fn process(&self) -> Result<Option<Process>> {
        Ok(Process::read(&self.file("qemu.pid"))?.filter(|process| process.runs()))
    }

    /// Whether the node is on.
    ///
    /// # Errors
    /// Its pid file cannot be read.
    pub fn power(&self) -> Result<Power> {
        Ok(if self.process()?.is_some() { Power::On } else { Power::Off })
    }

    /// The override that waits for the next start.
    ///
    /// # Errors
    /// It cannot be read, or no boot device is called so.
    pub fn boot_device(&self) -> Result<BootDevice> {
        match fs::read_to_string(self.file("boot")) {
            Ok(word) => word.trim().parse(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BootDevice::None),
            Err(error) => Err(error).context("cannot read the boot override"),
        }
    }

    /// Does a `set` of `ipmi_sim`: `power 0|1`, `reset 1`, `boot DEVICE`, `shutdown 1`, `identify`.
    ///
    /// # Errors
    /// The node cannot do it, or no such thing is known.
    pub fn set(&self, what: &str, value: &str) -> Result<()> {
        if self.file(INERT).exists() {
            return self.log(format_args!("ignores {what} {value}"));
        }
        let _lock = self.lock()?;
        match (what, value) {
            ("power", "1") => self.on(),
            ("power", "0") => self.off(),
            ("reset", _) => self.reset(),
            ("boot", device) => {
                let device: BootDevice = device.parse()?;
                fs::write(self.file("boot"), device.to_string()).context("cannot keep the boot override")?;
                self.log(format_args!("boot {device}"))
            }
            ("shutdown", _) => self.shut_down(),
            ("identify", _) => Ok(()),
            _ => bail!("a chassis knows no {what} {value}"),
        }
    }

    /// The override, which is used up by this.
    fn take_override(&self) -> Result<BootDevice> {
        let device = self.boot_device()?;
        if device != BootDevice::None {
            fs::remove_file(self.file("boot")).context("cannot clear the boot override")?;
        }
        Ok(device)
    }

    fn on(&self) -> Result<()> {
        if self.process()?.is_some() {
            return Ok(());
        }
        let device = self.take_override()?;
        if self.machine.firmware == Firmware::Uefi && !self.file("vars.fd").exists() {
            fs::copy(OVMF_VARS, self.file("vars.fd")).with_context(|| format!("cannot copy {OVMF_VARS}"))?;
        }
        let _ = fs::remove_file(self.file("qmp.sock"));
        let child = self.detached(&mut self.qemu(device))?;
        let process = i32::try_from(child).ok().and_then(Process::of);
        process.context("QEMU ended at once: see qemu.log")?.write(&self.file("qemu.pid"))?;
        self.log(format_args!("on, boot {device}"))?;
        // QEMU listens only later, and the BMC is deaf until this returns.
        let own = env::current_exe().context("cannot find the chassis' own program")?;
        self.detached(Command::new(own).arg("settle").arg(&self.directory)).map(drop)
    }

    /// The rest of a start, when QEMU listens: the override was for this start only.
    ///
    /// # Errors
    /// QEMU does not come up.
    pub fn settle(&self) -> Result<()> {
        let mut qmp = Qmp::connect(&self.file("qmp.sock"), QMP_PATIENCE)?;
        if self.file(UNPLUGGED).exists() {
            set_link(&mut qmp, false)?;
        }
        self.set_order(&mut qmp, BootDevice::None)
    }

    /// How many NICs are tried before this one.
    fn turn(&self, port: usize) -> usize {
        if self.machine.storage_first { self.machine.ports.len() - 1 - port } else { port }
    }

    fn set_order(&self, qmp: &mut Qmp, device: BootDevice) -> Result<()> {
        let (nic, disk) = order(device, self.machine.ports.len());
        let mut devices: Vec<(String, usize)> =
            (0..self.machine.ports.len()).map(|at| (format!("nic{at}"), nic + self.turn(at))).collect();
        devices.extend(self.machine.disk.then(|| ("disk0".to_owned(), disk)));
        let mut set = |id: &str, index: Option<usize>| {
            let path = format!("/machine/peripheral/{id}");
            let value = index.map_or(json!(-1), |index| json!(index));
            qmp.execute("qom-set", json!({ "path": path, "property": "bootindex", "value": value }))
        };
        // An index is one device's: all are freed first.
        devices.iter().try_for_each(|(id, _)| set(id, None).map(drop))?;
        devices.iter().try_for_each(|(id, index)| set(id, Some(*index)).map(drop))
    }

    fn off(&self) -> Result<()> {
        let Some(process) = self.process()? else { return Ok(()) };
        process.kill();
        wait::until(Duration::from_secs(5), "QEMU to end", || Ok((!process.runs()).then_some(())))?;
        self.log("off")
    }

    /// A new QEMU, not QMP's `system_reset`: after that one SeaBIOS resets itself once more, and there is no
    /// telling when the override has had its one start.
    fn reset(&self) -> Result<()> {
        ensure!(self.process()?.is_some(), "is off: nothing to reset");
        self.off()?;
        self.on()
    }

    fn shut_down(&self) -> Result<()> {
        if self.process()?.is_some() {
            Qmp::connect(&self.file("qmp.sock"), QMP_PATIENCE)?.execute("system_powerdown", json!({}))?;
        }
        self.log("soft off")
    }

    /// Plugs the cable of a running node in or out, as far as the node sees it.
    pub(super) fn link(&self, up: bool) -> Result<()> {
        let _lock = self.lock()?;
        if self.process()?.is_some() {
            set_link(&mut Qmp::connect(&self.file("qmp.sock"), QMP_PATIENCE)?, up)?;
        }
        Ok(())
    }

    /// Ends QEMU as if it had crashed.
    pub(super) fn crash(&self) -> Result<()> {
        let _lock = self.lock()?;
        self.off()
    }

    fn detached(&self, command: &mut Command) -> Result<u32> {
        let log = append(&self.file("qemu.log"))?;
        let command = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child =
            command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(child.id())
    }

    fn qemu(&self, device: BootDevice) -> Command {
        let Machine { name, uuid, ports, serial_port, .. } = &self.machine;
        let here = self.directory.display();
        let (nic_index, disk_index) = order(device, ports.len());
        let rom = if self.machine.rom { "" } else { ",romfile=" };
        let serial: String = name.as_str().chars().take(20).collect();
        let mut qemu = Command::new("nice");
        qemu.args(["-n", "5", "qemu-system-x86_64", "-accel", "tcg", "-cpu", "qemu64", "-nodefaults"]);
        qemu.args(["-no-user-config", "-display", "none", "-name", name.as_str()]);
        qemu.args(["-m", &self.machine.memory_mib.to_string()]);
        // Without graphics the firmware speaks on the serial port.
        match self.machine.firmware {
            Firmware::Bios => qemu.args(["-machine", "pc,graphics=off"]),
            Firmware::Uefi => qemu
                .args(["-machine", "q35,graphics=off"])
                .args(["-drive", &format!("if=pflash,unit=0,format=raw,readonly=on,file={OVMF_CODE}")])
                .args(["-drive", &format!("if=pflash,unit=1,format=raw,file={here}/vars.fd")]),
        };
        let mut pair = |option: &str, value: String| {
            qemu.arg(option).arg(value);
        };
        let nic = self.machine.nic.device();
        for (at, (mac, tap)) in ports.iter().enumerate() {
            // Without vnet_hdr=off the guest leaves checksums to a kernel that never sees the packets.
            pair("-netdev", format!("tap,id=net{at},ifname={tap},script=no,downscript=no,vnet_hdr=off"));
            let index = nic_index + self.turn(at);
            pair("-device", format!("{nic},id=nic{at},netdev=net{at},mac={mac},bootindex={index}{rom}"));
        }
        if self.machine.disk {
            let drive = format!("if=none,id=disk,format=raw,file={here}/disk.img,cache=unsafe,discard=unmap");
            pair("-drive", drive);
            let disk = format!("virtio-blk-pci,id=disk0,drive=disk,serial={serial},bootindex={disk_index}");
            pair("-device", disk);
        }
        pair("-device", "virtio-rng-pci".to_owned());
        pair("-smbios", format!("type=1,manufacturer=Kiln,product=Virtual node,serial={name},uuid={uuid}"));
        pair(
            "-chardev",
            format!(
                "socket,id=serial,host=127.0.0.1,port={serial_port},server=on,wait=off,\
                 logfile={here}/console.log,logappend=on"
            ),
        );
        pair("-serial", "chardev:serial".to_owned());
        pair("-qmp", format!("unix:{here}/qmp.sock,server=on,wait=off"));
        qemu
    }
}

fn set_link(qmp: &mut Qmp, up: bool) -> Result<()> {
    qmp.execute("set_link", json!({ "name": "nic0", "up": up })).map(drop)
}

fn append(path: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.with_context(|| format!("cannot write {}", path.display()))
}
