//! `applianced`'s configuration, made of the box's.

use crate::{
    config::{Address, Appliance, Config},
    durable::keep,
    time,
};
use anyhow::{Context as _, Result};
use boot::Prefix;
use deploy::Patience;
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Gid, Pid, Uid, chown},
};
use serde::Serialize;
use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4},
    path::Path,
};

/// Where `applianced` reads it.
pub const FILE: &str = "/run/kiln/kiln.toml";
/// The first of the services' users, which is control's; `applianced` has the same (rootfs/README.md).
pub const CONTROL: u32 = 64700;
/// A box without an uplink is reached from itself only.
const PORT: u16 = 8080;

#[derive(Serialize)]
struct Written<'a> {
    appliance: WrittenAppliance<'a>,
    interface: Vec<Interface<'a>>,
    files: Files,
    #[serde(skip_serializing_if = "Option::is_none")]
    ntp: Option<Ntp<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patience: Option<Patience>,
}

#[derive(Serialize)]
struct WrittenAppliance<'a> {
    data: &'a str,
    run: &'a str,
    api: String,
    first_user: u32,
    good: [&'static str; 2],
    image: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    watchdog: Option<&'a Path>,
    #[serde(flatten)]
    given: Appliance,
}

#[derive(Serialize)]
struct Interface<'a> {
    network: &'a str,
    device: &'a str,
}

#[derive(Serialize)]
struct Ntp<'a> {
    program: &'static str,
    servers: &'a [Ipv4Addr],
}

#[derive(Serialize)]
struct Files {
    ipxe_bios: &'static str,
    ipxe_uefi: &'static str,
    kernel: &'static str,
    initramfs: &'static str,
}

/// The uplink's address, if it is among those that the box has (`there`).
pub fn uplink(config: Option<&Config>, lease: Option<Prefix>, there: &[Ipv4Addr]) -> Option<Ipv4Addr> {
    let prefix = match config?.uplink.address {
        Address::Static(prefix) => Some(prefix),
        Address::Dhcp => lease,
    };
    prefix.map(|prefix| prefix.address).filter(|address| there.contains(address))
}

/// Where the API is to listen: on the uplink's address, or, while the box does not have it, for the box alone:
/// the other services need not wait for it.
pub fn api(config: Option<&Config>, uplink: Option<Ipv4Addr>) -> SocketAddrV4 {
    SocketAddrV4::new(uplink.unwrap_or(Ipv4Addr::LOCALHOST), config.map_or(PORT, |config| config.api.port))
}

/// The text of `applianced`'s configuration. `watchdog` is the device that restarts a box that hangs.
///
/// # Errors
/// When it cannot be written as TOML.
pub fn text(config: Option<&Config>, api: SocketAddrV4, watchdog: Option<&Path>) -> Result<String> {
    let networks = config.map_or(&[][..], |config| &config.networks);
    let name = |network: &'_ crate::config::Network| network.name.to_string();
    let names: Vec<String> = networks.iter().map(name).collect();
    let written = Written {
        appliance: WrittenAppliance {
            data: "/data",
            run: "/run/kiln/services",
            api: api.to_string(),
            first_user: CONTROL,
            good: ["/usr/bin/host", "good"],
            image: true,
            watchdog,
            given: config.map(|config| config.appliance.clone()).unwrap_or_default(),
        },
        // A network's interface is called as the network.
        interface: names.iter().map(|name| Interface { network: name, device: name }).collect(),
        files: Files {
            ipxe_bios: "/usr/share/kiln/undionly.kpxe",
            ipxe_uefi: "/usr/share/kiln/snponly.efi",
            kernel: "/boot/kernel",
            initramfs: "/boot/initramfs",
        },
        ntp: config
            .map(|config| &config.uplink.ntp)
            .filter(|servers| !servers.is_empty())
            .map(|servers| Ntp { program: time::CLIENT, servers }),
        patience: config.and_then(|config| config.patience),
    };
    toml::to_string(&written).context("a configuration that cannot be written")
}

/// Writes that configuration; services that run go by the one they began with.
///
/// # Errors
/// The file system's.
pub fn configure(config: Option<&Config>, api: SocketAddrV4, watchdog: Option<&Path>) -> Result<()> {
    let text = text(config, api, watchdog)?;
    keep(Path::new(FILE), text.as_bytes(), 0o644).with_context(|| format!("{FILE} cannot be written"))
}

/// Has the supervisor end the services and itself; init starts it again unless the machine is to end.
pub fn end(word: Signal) {
    supervisors().for_each(|pid| {
        // One that has ended is what is wished.
        let _ = kill(pid, word);
    });
}

/// The processes `applianced … supervisor`.
pub fn supervisors() -> impl Iterator<Item = Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let mut words = line.split(|octet| *octet == 0);
        let is_ours = words.next()?.ends_with(b"/applianced") && words.any(|word| word == b"supervisor");
        is_ours.then(|| Pid::from_raw(pid))
    })
}

/// Puts the configured token where `applianced` keeps it; without one, it makes its own.
///
/// # Errors
/// The file system's.
pub fn keep_token(config: &Config, data: &Path) -> Result<()> {
    let Some(token) = &config.api.token else { return Ok(()) };
    let path = data.join("token");
    if fs::read_to_string(&path).is_ok_and(|there| there.trim() == token.expose()) {
        return Ok(());
    }
    keep(&path, format!("{}\n", token.expose()).as_bytes(), 0o600)
        .and_then(|()| Ok(chown(&path, Some(Uid::from_raw(CONTROL)), Some(Gid::from_raw(CONTROL)))?))
        .with_context(|| format!("cannot keep {}", path.display()))
}

#[cfg(test)]
mod tests;
