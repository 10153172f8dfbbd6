//! The nodes' BMCs: one `ipmi_sim` each.

use super::{
    description::Node, footprint::Footprint, machine::uuid, namespace::Namespace, openvswitch::last_line,
    process::Process, wait,
};
use anyhow::{Result, ensure};
use std::{fs, net::Ipv4Addr, path::Path, process::Command, time::Duration};

/// Starts the BMC of a node, whose chassis is `chassis control` on the node's directory.
pub(super) fn start(
    footprint: &mut Footprint,
    inside: &Namespace,
    directory: &Path,
    node: &Node,
    serial_port: u16,
    chassis: &Path,
) -> Result<Process> {
    let configuration = directory.join("lan.conf");
    let commands = directory.join("bmc.emu");
    fs::create_dir_all(directory.join("bmc"))?;
    fs::write(&configuration, lan(node, serial_port, chassis, directory))?;
    fs::write(&commands, EMULATOR)?;
    let name = format!("bmc-{}", node.name);
    let mut sim = Command::new("ipmi_sim");
    sim.arg("-c").arg(configuration).arg("-f").arg(commands).arg("-s").arg(directory.join("bmc")).arg("-n");
    let process = footprint.start(&name, inside, &mut sim)?;
    let log = footprint.log(&name);
    let place = in_list(node.bmc.address, node.bmc.port);
    wait::until(Duration::from_secs(10), &format!("the BMC of {}", node.name), || {
        ensure!(process.runs(), "the BMC of {} ended: {}", node.name, last_line(&log));
        // Not by binding it: the simulator may want it just then, and gives up.
        let bound = inside.inside(|| fs::read_to_string("/proc/thread-self/net/udp"))??;
        Ok(bound.lines().any(|line| line.split_whitespace().nth(1) == Some(&place)).then_some(()))
    })?;
    Ok(process)
}

/// An address and a port as proc(5) writes them, in the machine's order.
fn in_list(address: Ipv4Addr, port: u16) -> String {
    format!("{:08X}:{port:04X}", u32::from_ne_bytes(address.octets()))
}

fn lan(node: &Node, serial_port: u16, chassis: &Path, directory: &Path) -> String {
    let name = &node.name;
    let guid = uuid(name.as_str()).replace('-', "");
    let (address, port) = (node.bmc.address, node.bmc.port);
    let (user, password) = (&node.bmc.user, node.bmc.password.expose());
    let (chassis, directory) = (chassis.display(), directory.display());
    format!(
        r#"name "{name}"
set_working_mc 0x20
  startlan 1
    addr {address} {port}
    priv_limit admin
    allowed_auths_callback none md2 md5 straight
    allowed_auths_user md2 md5 straight
    allowed_auths_operator md2 md5 straight
    allowed_auths_admin md2 md5 straight
    guid {guid}
  endlan
  chassis_control "{chassis} control {directory}"
  sol "tcp:127.0.0.1:{serial_port}" 115200
  user 1 false "" "" user 10 none
  user 2 true "{user}" "{password}" admin 10 none md2 md5 straight
"#
    )
}

/// A management controller at address 20h with an event log, and nothing to sense.
const EMULATOR: &str = "\
mc_setbmc 0x20
mc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr
sel_enable 0x20 1000 0x0a
mc_enable 0x20
";
