//! What a virtual rack takes that is not ours, and where our own chassis is.

use super::{
    description::{Description, Firmware},
    machine::OVMF_CODE,
};
use anyhow::{Context as _, Result, bail, ensure};
use std::{env, ffi::OsStr, path::Path, path::PathBuf};

/// Programs and the Debian packages that bring them.
const PROGRAMS: [(&str, &str); 11] = [
    ("ip", "iproute2"),
    ("ethtool", "ethtool"),
    ("nft", "nftables"),
    ("nice", "coreutils"),
    ("ping", "iputils-ping"),
    ("ovsdb-tool", "openvswitch-common"),
    ("ovsdb-server", "openvswitch-switch"),
    ("ovs-vswitchd", "openvswitch-switch"),
    ("ovs-vsctl", "openvswitch-switch"),
    ("ipmi_sim", "openipmi"),
    ("qemu-system-x86_64", "qemu-system-x86"),
];

/// Fails in a line that says what to do when a rack cannot be raised here.
pub(super) fn check(description: &Description, directory: &Path) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "a virtual rack takes root: run this with sudo");
    ensure!(
        Path::new("/dev/net/tun").exists(),
        "/dev/net/tun is missing: a virtual rack takes a kernel with TUN"
    );
    for (program, package) in PROGRAMS {
        if find(program).is_none() {
            bail!("{program} is missing: run hw-tests/setup, or apt-get install {package}");
        }
    }
    let uefi = |hardware: &super::description::Hardware| hardware.firmware == Firmware::Uefi;
    if description.nodes.iter().filter_map(|n| n.hardware.as_ref()).any(uefi)
        && !Path::new(OVMF_CODE).exists()
    {
        bail!("{OVMF_CODE} is missing: run hw-tests/setup, or apt-get install ovmf");
    }
    let path = directory.to_str().context("the rack's directory is not UTF-8: take another")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    ensure!(
        path.chars().all(plain),
        "the rack's directory {path} holds a character that QEMU or ipmi_sim would misread: \
         take one of letters, digits, dots, hyphens and underscores"
    );
    // unix(7): a socket's path has at most 107 characters.
    let longest = description.nodes.iter().map(|n| n.name.as_str().len()).max().unwrap_or(0);
    let sockets = path.len() + "/nodes//qmp.sock".len() + longest;
    ensure!(sockets <= 107, "the rack's directory {path} is too long for sockets in it: take a shorter one");
    Ok(())
}

/// A program of the PATH, or of where administrators' programs are.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let places = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    places.map(|place| place.join(program)).find(|file| file.is_file())
}

/// Our own `chassis`, which Cargo puts beside the program that runs, or above a test.
pub(super) fn chassis() -> Result<PathBuf> {
    let own = env::current_exe().context("cannot find the running program")?;
    let places = own.ancestors().skip(1).take(2);
    let found = places.map(|place| place.join("chassis")).find(|file| file.is_file());
    found.with_context(|| {
        let here = own.parent().map_or(OsStr::new("."), Path::as_os_str);
        format!("no program chassis in {}: cargo build -p hw-tests --bins", here.display())
    })
}
