//! The rack's data switch: Open vSwitch with its userspace datapath, in a directory of its own.

use super::{
    description::Vlan,
    footprint::Footprint,
    namespace::{Namespace, run},
    wait,
};
use anyhow::{Context as _, Result, ensure};
use std::{
    fs,
    net::SocketAddrV4,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
const BRIDGE: &str = "br0";

/// What a port of the switch is to be at first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Untagged, in this VLAN.
    Access(Vlan),
    /// Tagged, in these VLANs and no other.
    Trunk(Vec<Vlan>),
}

/// A running switch.
#[derive(Debug)]
pub(super) struct OpenVSwitch {
    directory: PathBuf,
}

impl OpenVSwitch {
    /// Starts it in `inside`, its database also on `address`, with these ports: names of interfaces that exist
    /// there.
    pub(super) fn start(
        footprint: &mut Footprint,
        inside: &Namespace,
        directory: &Path,
        address: SocketAddrV4,
        ports: &[(String, Mode)],
    ) -> Result<OpenVSwitch> {
        let switch = OpenVSwitch { directory: directory.to_owned() };
        let database = directory.join("conf.db");
        run(Command::new("ovsdb-tool").arg("create").arg(&database).arg(SCHEMA))?;
        let mut server = switch.daemon("ovsdb-server");
        server.arg(&database).arg(format!("--remote=punix:{}", switch.socket().display()));
        server.arg(format!("--remote=ptcp:{}:{}", address.port(), address.ip()));
        server.arg(format!("--unixctl={}", directory.join("ovsdb-server.ctl").display())).arg("--no-chdir");
        let process = footprint.start("ovsdb-server", inside, &mut server)?;
        let log = footprint.log("ovsdb-server");
        wait::until(Duration::from_secs(10), "ovsdb-server to listen", || {
            ensure!(process.runs(), "ovsdb-server ended: {}", last_line(&log));
            // The file is there before anybody listens.
            Ok(std::os::unix::net::UnixStream::connect(switch.socket()).ok().map(drop))
        })?;
        switch.ask(&["--no-wait", "init"])?;
        let mut daemon = switch.daemon("ovs-vswitchd");
        daemon.arg(format!("unix:{}", switch.socket().display())).args(["--no-chdir", "--disable-system"]);
        daemon
            .arg("-vconsole:warn")
            .arg(format!("--unixctl={}", directory.join("ovs-vswitchd.ctl").display()));
        footprint.start("ovs-vswitchd", inside, &mut daemon)?;

        let mut commands = vec!["add-br".to_owned(), BRIDGE.to_owned()];
        commands.extend(["--", "set", "bridge", BRIDGE, "datapath_type=netdev"].map(str::to_owned));
        for (port, mode) in ports {
            commands.extend(["--", "add-port", BRIDGE, port].map(str::to_owned));
            match mode {
                Mode::Access(vlan) => commands.push(format!("tag={vlan}")),
                Mode::Trunk(vlans) => {
                    let vlans: Vec<String> = vlans.iter().map(ToString::to_string).collect();
                    commands.push("vlan_mode=trunk".to_owned());
                    commands.push(format!("trunks={}", vlans.join(",")));
                }
            }
        }
        switch.ask(&commands).context("the switch does not come up")?;
        Ok(switch)
    }

    /// Puts an access port in a VLAN; returns when the switch does so.
    pub(super) fn set_vlan(&self, port: &str, vlan: Vlan) -> Result<()> {
        self.ask(&["set", "port", port, &format!("tag={vlan}")]).map(drop)
    }

    /// The VLAN of an access port; `None` if it has none.
    pub(super) fn vlan(&self, port: &str) -> Result<Option<Vlan>> {
        let tag = self.ask(&["get", "port", port, "tag"])?;
        Ok(tag.trim().parse().ok().and_then(Vlan::new))
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("db.sock")
    }

    fn ask(&self, commands: &[impl AsRef<str>]) -> Result<String> {
        let database = format!("--db=unix:{}", self.socket().display());
        let commands = commands.iter().map(AsRef::as_ref);
        run(Command::new("ovs-vsctl").args([&database, "--timeout=20"]).args(commands))
    }

    fn daemon(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for place in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR"] {
            command.env(place, &self.directory);
        }
        command
    }
}

/// The last line of a log, for an error.
pub(super) fn last_line(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().last().unwrap_or("without a word").to_owned()
}
