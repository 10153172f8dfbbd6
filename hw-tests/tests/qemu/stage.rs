//! A rack for one test, and the stock tools that judge it.

use hw_tests::rack::{Description, Firmware, VirtualRack};
use std::{
    path::PathBuf,
    process::{Command, Output},
    time::Duration,
};

/// A machine under an emulated CPU, on a host that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Where a test's rack keeps its files: they stay after a failure.
pub(crate) fn directory(test: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("rack").join(test);
    println!("consoles, captures and logs are in {}", directory.display());
    directory
}

/// A rack of so many nodes with this firmware.
pub(crate) fn rack(test: &str, nodes: u8, firmware: Firmware) -> VirtualRack {
    raise(test, &Description::of_nodes(nodes, firmware).unwrap())
}

pub(crate) fn raise(test: &str, description: &Description) -> VirtualRack {
    VirtualRack::raise(description, &directory(test)).unwrap()
}

/// Asks a node's BMC from the appliance's place, with Debian's ipmitool.
pub(crate) fn ipmitool(rack: &VirtualRack, node: &str, words: &str) -> Output {
    let password = rack.description().node(node).unwrap().bmc.password.expose().to_owned();
    ipmitool_as(rack, node, &password, words)
}

pub(crate) fn ipmitool_as(rack: &VirtualRack, node: &str, password: &str, words: &str) -> Output {
    let bmc = &rack.description().node(node).unwrap().bmc;
    let mut command = Command::new("ipmitool");
    // ipmi_sim knows no other cipher suite than 3.
    command.args(["-I", "lanplus", "-C", "3", "-H", &bmc.address.to_string(), "-U", &bmc.user]);
    command.args(["-P", password, "-N", "2", "-R", "3"]).args(words.split(' '));
    rack.kiln().output(&mut command).unwrap()
}

/// Tells a node's BMC something it must do; returns its answer.
pub(crate) fn tell(rack: &VirtualRack, node: &str, words: &str) -> String {
    let output = ipmitool(rack, node, words);
    assert!(output.status.success(), "{words}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
