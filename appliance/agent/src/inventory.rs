//! What machine this is, as sysfs and procfs tell.

use agent_proto::{Disk, Inventory, Nic};
use nix::ifaddrs::getifaddrs;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Looks at the machine the agent runs on.
pub(crate) fn look() -> Inventory {
    let mut inventory = Root(PathBuf::from("/")).look();
    for nic in &mut inventory.nics {
        nic.address = address(&nic.name);
    }
    inventory
}

/// The first IPv4 address of an interface.
fn address(interface: &str) -> Option<String> {
    let mut all = getifaddrs().ok()?.filter(|entry| entry.interface_name == interface);
    all.find_map(|entry| Some(entry.address?.as_sockaddr_in()?.ip().to_string()))
}

/// The interfaces that have hardware, by name and address.
pub(crate) fn nics() -> Vec<Nic> {
    Root(PathBuf::from("/")).nics()
}

/// An interface's operational state (RFC 2863): `up`, `down`, …, or `unknown` of a driver that does not
/// say. With a carrier alone the kernel still drops what is sent, until its watch over links saw it.
pub(crate) fn operational_state(interface: &str) -> String {
    read(&Path::new("/sys/class/net").join(interface).join("operstate"))
}

/// Where proc and sys are mounted.
struct Root(PathBuf);

impl Root {
    fn look(&self) -> Inventory {
        let dmi = |name: &str| self.text(&format!("sys/class/dmi/id/{name}"));
        let cpuinfo = self.text("proc/cpuinfo");
        let mut models = cpuinfo.lines().filter_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Inventory {
            vendor: dmi("sys_vendor"),
            product: dmi("product_name"),
            serial: dmi("product_serial"),
            uuid: dmi("product_uuid").to_ascii_lowercase(),
            uefi: self.0.join("sys/firmware/efi").is_dir(),
            cpus: cpuinfo.lines().filter(|line| line.starts_with("processor")).count() as u32,
            cpu_model: models.next().map(|(_, model)| model.trim().to_owned()).unwrap_or_default(),
            memory: memory(&self.text("proc/meminfo")),
            nics: self.nics(),
            disks: self.disks(),
        }
    }

    fn nics(&self) -> Vec<Nic> {
        let mut nics = Vec::new();
        for (name, at) in self.list("sys/class/net") {
            // What is no hardware has no device: lo, bonds, VLANs.
            if !at.join("device").exists() {
                continue;
            }
            let Ok(mac) = read(&at.join("address")).parse() else { continue };
            let driver = fs::read_link(at.join("device/driver")).ok();
            let driver = driver.and_then(|link| Some(link.file_name()?.to_string_lossy().into_owned()));
            let carrier = read(&at.join("carrier")) == "1";
            nics.push(Nic { name, mac, driver: driver.unwrap_or_default(), carrier, address: None });
        }
        nics
    }

    fn disks(&self) -> Vec<Disk> {
        let mut disks = Vec::new();
        for (name, at) in self.list("sys/block") {
            // What is no hardware has no device: loop, RAM, md, dm. CD-ROMs and floppies are no place for
            // an image, and a path of a multipath NVMe is no disk of its own.
            let is_other = ["sr", "fd", "loop", "ram", "zram", "nbd", "mtd"]
                .iter()
                .any(|p| name.strip_prefix(p).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit())));
            if is_other || !at.join("device").exists() || read(&at.join("hidden")) == "1" {
                continue;
            }
            let first = |files: &[&str]| {
                files
                    .iter()
                    .map(|file| read(&at.join(file)))
                    .find(|text| !text.is_empty())
                    .unwrap_or_default()
            };
            // sysfs counts in 512 octets whatever the disk's sectors are (linux/Documentation/block/stat.rst).
            let size = read(&at.join("size")).parse::<u64>().unwrap_or(0).saturating_mul(512);
            let serial = match first(&["serial", "device/serial"]) {
                serial if serial.is_empty() => {
                    vpd_serial(&fs::read(at.join("device/vpd_pg80")).unwrap_or_default())
                }
                serial => serial,
            };
            disks.push(Disk {
                size,
                model: first(&["device/model"]),
                serial,
                wwn: first(&["wwid", "device/wwid"]),
                removable: read(&at.join("removable")) == "1",
                name,
            });
        }
        disks
    }

    fn text(&self, path: &str) -> String {
        read(&self.0.join(path))
    }

    /// A directory's entries in the order of their names.
    fn list(&self, path: &str) -> Vec<(String, PathBuf)> {
        let entries = fs::read_dir(self.0.join(path)).into_iter().flatten().flatten();
        let mut list: Vec<_> =
            entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect();
        list.sort();
        list
    }
}

/// Where a disk's device file is: a `!` in its kernel name is a `/` there (`cciss!c0d0`).
pub(crate) fn device_file(disk: &str) -> PathBuf {
    Path::new("/dev").join(disk.replace('!', "/"))
}

/// Octets of a disk's logical block.
pub(crate) fn logical_block(disk: &str) -> u64 {
    let at = Path::new("/sys/class/block").join(disk).join("queue/logical_block_size");
    read(&at).parse().ok().filter(|block: &u64| block.is_power_of_two() && *block >= 512).unwrap_or(512)
}

/// A small text without the space around it; empty if there is none.
fn read(path: &Path) -> String {
    let octets = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&octets).trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned()
}

fn memory(meminfo: &str) -> u64 {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = total.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0).saturating_mul(1024)
}

/// The unit serial number VPD page: four octets of head, of which the last two are the length (SPC-4, 7.8.15).
fn vpd_serial(page: &[u8]) -> String {
    let Some((head, rest)) = page.split_at_checked(4) else { return String::new() };
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    let serial = String::from_utf8_lossy(&rest[..length.min(rest.len())]);
    serial.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned()
}

#[cfg(test)]
mod tests;
