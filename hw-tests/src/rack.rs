//! A virtual rack of real parts: Open vSwitch, a BMC per node (`ipmi_sim`), servers that are QEMU machines,
//! and the networks between them, from the same [`Description`] that a real rack has.
//!
//! ```no_run
//! # use hw_tests::rack::{Description, Firmware, VirtualRack};
//! # fn main() -> anyhow::Result<()> {
//! let description = Description::of_nodes(2, Firmware::Bios)?;
//! let rack = VirtualRack::raise(&description, "/tmp/rack".as_ref())?;
//! rack.kiln().spawn(&mut std::process::Command::new("applianced"))?;
//! # Ok(()) }
//! ```
//!
//! It knows nothing of Kiln: the appliance is whatever runs in [`VirtualRack::kiln`].

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use std::{
    collections::HashMap,
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

mod appliance;
mod bmc;
mod cabling;
mod console;
pub mod description;
mod footprint;
mod machine;
mod namespace;
mod openvswitch;
mod process;
mod qmp;
mod tools;
mod traffic;
mod wait;

pub use appliance::{Appliance, MACS};
pub use cabling::{OPERATOR, UPLINK};
pub use console::readable;
pub use description::{Description, Firmware, Network, Nic, Node, Purpose, Vlan};
pub use footprint::{end_on_signal, guard};
pub use machine::{BootDevice, Chassis, Power};
pub use namespace::Namespace;
pub use traffic::{Capture, ping, reach};
pub use wait::until;

use cabling::{Cabling, Seat};
use footprint::Footprint;
use machine::Machine;
use openvswitch::OpenVSwitch;
use process::Process;

/// Where the nodes' serial ports begin to listen, inside the switch's namespace.
const FIRST_SERIAL_PORT: u16 = 9100;

/// A raised rack; all of it is removed when this is dropped.
#[derive(Debug)]
pub struct VirtualRack {
    description: Description,
    directory: PathBuf,
    cabling: Cabling,
    switch: OpenVSwitch,
    bmcs: HashMap<String, Process>,
    appliance: Option<(Appliance, Process)>,
    // Last: the fields above are of no use without it.
    footprint: Footprint,
}

impl VirtualRack {
    /// Raises a rack: its switch up, every node's port in the quarantine VLAN, every node off with an empty
    /// disk, its BMC answering. Takes a second or two.
    ///
    /// Everything it writes is in `directory`, which stays; what an earlier rack wrote there is removed
    /// before, and what racks of dead processes left in the system too.
    ///
    /// # Errors
    /// Not root, a tool missing, a description that is not of a virtual rack, or a directory in use by
    /// another rack: said in a line, with what to do.
    pub fn raise(description: &Description, directory: &Path) -> Result<VirtualRack> {
        VirtualRack::raise_with(description, directory, None)
    }

    /// The same with an appliance that is a machine, which is on when this returns; [`VirtualRack::kiln`] is
    /// where it is driven from.
    ///
    /// # Errors
    /// As [`VirtualRack::raise`], and when its disk cannot be made.
    pub fn raise_around(
        description: &Description,
        directory: &Path,
        appliance: Appliance,
    ) -> Result<VirtualRack> {
        VirtualRack::raise_with(description, directory, Some(appliance))
    }

    fn raise_with(
        description: &Description,
        directory: &Path,
        appliance: Option<Appliance>,
    ) -> Result<VirtualRack> {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let directory = directory.canonicalize()?;
        tools::check(description, &directory)?;
        let chassis = tools::chassis()?;
        let mut footprint = Footprint::claim(&directory)?;
        let seat = if appliance.is_some() { Seat::Machine } else { Seat::Namespace };
        let cabling = Cabling::lay(&footprint, description, seat)?;
        let data_switch = description.switches.first().context("the rack has no switch")?;
        let inside = cabling.switch.clone();
        let home = directory.join("switch");
        let switch = OpenVSwitch::start(&mut footprint, &inside, &home, data_switch.address, &cabling.ports)?;
        let mut bmcs = HashMap::new();
        for (node, port) in description.nodes.iter().zip(FIRST_SERIAL_PORT..) {
            let home = directory.join("nodes").join(node.name.as_str());
            make(node, &home, port)?;
            bmcs.insert(
                node.name.to_string(),
                bmc::start(&mut footprint, &inside, &home, node, port, &chassis)?,
            );
        }
        let mut rack = VirtualRack {
            description: description.clone(),
            directory,
            cabling,
            switch,
            bmcs,
            appliance: None,
            footprint,
        };
        if let Some(appliance) = appliance {
            appliance::flash(&appliance, &rack.appliance_home())?;
            rack.start_appliance(appliance)?;
        }
        Ok(rack)
    }

    /// Where the files of an appliance that is a machine are.
    pub fn appliance_home(&self) -> PathBuf {
        self.directory.join("appliance-machine")
    }

    /// Fault: the appliance, a machine, loses its power and gets it back at once.
    ///
    /// # Errors
    /// It is no machine, or does not start.
    pub fn power_cycle_appliance(&mut self) -> Result<()> {
        let (appliance, process) = self.appliance.take().context("the appliance is no machine")?;
        process.kill();
        until(Duration::from_secs(5), "the appliance's QEMU to end", || Ok((!process.runs()).then_some(())))?;
        self.start_appliance(appliance)
    }

    /// All that an appliance that is a machine ever said on its serial port, made readable.
    pub fn appliance_console(&self) -> String {
        readable(&fs::read(self.appliance_home().join("console.log")).unwrap_or_default())
    }

    fn start_appliance(&mut self, appliance: Appliance) -> Result<()> {
        let inside = self.cabling.switch.clone();
        let home = self.appliance_home();
        let process = appliance::start(&mut self.footprint, &inside, &appliance, &home)?;
        self.appliance = Some((appliance, process));
        Ok(())
    }

    /// What it was raised from.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the appliance is to run: one interface per network, named after it, with the address of the
    /// description. Around an appliance that is a machine: where its operator is, on its uplink.
    pub fn kiln(&self) -> &Namespace {
        &self.cabling.kiln
    }

    /// Where the switch, the BMCs and the nodes run.
    pub fn switch(&self) -> &Namespace {
        &self.cabling.switch
    }

    /// Another machine of a tenant: its namespace and its address on the tenant's network.
    ///
    /// # Errors
    /// The rack has no such network, or it is no tenant's.
    pub fn tenant(&self, network: &str) -> Result<(&Namespace, Ipv4Addr)> {
        let network = self.description.network(network)?;
        let found = self.cabling.tenants.iter().find(|(of, _)| of.name == network.name);
        let (network, namespace) =
            found.with_context(|| format!("the network {} is no tenant's", network.name))?;
        Ok((namespace, cabling::second(network)))
    }

    /// Whether a node is on, as its QEMU tells, not its BMC.
    ///
    /// # Errors
    /// The rack has no such node.
    pub fn power(&self, node: &str) -> Result<Power> {
        self.chassis(node)?.power()
    }

    /// A node's disk, a raw image.
    ///
    /// # Errors
    /// The rack has no such node.
    pub fn disk(&self, node: &str) -> Result<PathBuf> {
        Ok(self.home(node)?.join("disk.img"))
    }

    /// All that a node ever said on its serial port, made readable.
    ///
    /// # Errors
    /// The rack has no such node.
    pub fn console(&self, node: &str) -> Result<String> {
        self.console_after(node, ConsoleMark::default())
    }

    /// What a node says on its serial port from now on begins here.
    ///
    /// # Errors
    /// The rack has no such node.
    pub fn console_mark(&self, node: &str) -> Result<ConsoleMark> {
        let file = self.home(node)?.join("console.log");
        Ok(ConsoleMark(fs::read(file).map_or(0, |said| said.len())))
    }

    /// What a node said on its serial port after a mark, made readable.
    ///
    /// # Errors
    /// The rack has no such node.
    pub fn console_after(&self, node: &str, mark: ConsoleMark) -> Result<String> {
        // A node that was never on has said nothing.
        let said = fs::read(self.home(node)?.join("console.log")).unwrap_or_default();
        Ok(readable(said.get(mark.0..).unwrap_or_default()))
    }

    /// Waits until a node has said a text on its serial port after a mark; returns all it said since.
    ///
    /// # Errors
    /// The rack has no such node, or it did not say it in time: then with the last lines it did say.
    pub fn wait_console(
        &self,
        node: &str,
        mark: ConsoleMark,
        text: &str,
        patience: Duration,
    ) -> Result<String> {
        until(patience, &format!("\"{text}\" on the console of {node}"), || {
            let said = self.console_after(node, mark)?;
            Ok(said.contains(text).then_some(said))
        })
        .with_context(|| {
            let said = self.console_after(node, mark).unwrap_or_default();
            let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
            let last = lines.get(lines.len().saturating_sub(5)..).unwrap_or_default();
            format!(
                "the last it said was {last:?}; all is in {}",
                self.directory.join("nodes").join(node).display()
            )
        })
    }

    /// The VLAN a node's port is in, asked of the switch directly.
    ///
    /// # Errors
    /// The rack has no such node, or the switch does not answer.
    pub fn vlan(&self, node: &str) -> Result<Option<Vlan>> {
        self.switch.vlan(self.description.node(node)?.port.switch_port.as_str())
    }

    /// The VLAN a node's second port is in, asked of the switch directly.
    ///
    /// # Errors
    /// The rack has no such node, it has no second port, or the switch does not answer.
    pub fn storage_vlan(&self, node: &str) -> Result<Option<Vlan>> {
        let port = self.description.node(node)?.storage_port.as_ref();
        self.switch.vlan(port.with_context(|| format!("node {node} has one port"))?.switch_port.as_str())
    }

    /// Records a network's packets where the appliance's leg enters the switch, or a node's at its port:
    /// `name` is either's. The file is `captures/NAME.pcap`, of a second one `NAME-2.pcap`.
    ///
    /// # Errors
    /// The rack has neither, or `tcpdump` is missing.
    pub fn capture(&self, name: &str) -> Result<Capture> {
        let interface = match (self.description.network(name), self.description.node(name)) {
            (Ok(Network { vlan: Some(_), .. }), _) if self.appliance.is_some() => "kiln-trunk".to_owned(),
            (Ok(Network { vlan: Some(vlan), .. }), _) => format!("kiln-{vlan}"),
            (Ok(_), _) => "kiln-oob".to_owned(),
            (_, Ok(node)) => node.port.switch_port.to_string(),
            (Err(error), Err(_)) => return Err(error.context(format!("{name} is no node either"))),
        };
        let place = self.directory.join("captures");
        let later = (2..100).map(|number| format!("{name}-{number}.pcap"));
        let mut free = std::iter::once(format!("{name}.pcap")).chain(later).map(|file| place.join(file));
        let file = free.find(|file| !file.exists()).context("a hundred captures of one wire")?;
        Capture::start(&self.cabling.switch, &interface, file)
    }

    /// Tells a node's BMC something, as Debian's `ipmitool` does it; returns its answer.
    ///
    /// # Errors
    /// The rack has no such node, or its BMC does not do it: then with what `ipmitool` said.
    pub fn ipmitool(&self, node: &str, words: &str) -> Result<String> {
        let bmc = &self.description.node(node)?.bmc;
        let mut command = Command::new("ipmitool");
        // ipmi_sim knows no other cipher suite than 3.
        command.args(["-I", "lanplus", "-C", "3", "-H", &bmc.address.to_string(), "-U", &bmc.user]);
        command.args(["-P", bmc.password.expose(), "-N", "2", "-R", "3"]).args(words.split(' '));
        self.kiln().run(&mut command)
    }

    /// Fault: a node's BMC neither hears nor answers, until [`VirtualRack::bmc_hears`].
    ///
    /// # Errors
    /// The rack has no such node.
    pub fn bmc_deaf(&self, node: &str) -> Result<()> {
        self.bmc(node)?.signal(Signal::SIGSTOP);
        Ok(())
    }

    /// Ends [`VirtualRack::bmc_deaf`]; what was sent meanwhile is still heard.
    ///
    /// # Errors
    /// The rack has no such node.
    pub fn bmc_hears(&self, node: &str) -> Result<()> {
        self.bmc(node)?.signal(Signal::SIGCONT);
        Ok(())
    }

    /// Fault: a node's BMC accepts every command and its chassis does nothing.
    ///
    /// # Errors
    /// The rack has no such node.
    pub fn bmc_inert(&self, node: &str, inert: bool) -> Result<()> {
        self.mark(node, machine::INERT, inert)
    }

    /// Fault: a node's cable is out; it sees no link and no packet passes.
    ///
    /// # Errors
    /// The rack has no such node.
    pub fn cable_out(&self, node: &str) -> Result<()> {
        self.cable(node, false)
    }

    /// Ends [`VirtualRack::cable_out`].
    ///
    /// # Errors
    /// The rack has no such node.
    pub fn cable_in(&self, node: &str) -> Result<()> {
        self.cable(node, true)
    }

    /// Fault: somebody else moves a node's port to another VLAN.
    ///
    /// # Errors
    /// The rack has no such node, or the switch does not answer.
    pub fn set_vlan_behind_our_back(&self, node: &str, vlan: Vlan) -> Result<()> {
        self.switch.set_vlan(self.description.node(node)?.port.switch_port.as_str(), vlan)
    }

    /// Puts a tenant's other machine on another network, with this address there beside its own.
    ///
    /// # Errors
    /// The rack has no such networks, or the switch does not answer.
    pub fn move_tenant(&self, tenant: &str, to: &str, address: Ipv4Addr) -> Result<&Namespace> {
        let (namespace, _) = self.tenant(tenant)?;
        let number = |network: &str| self.description.network(network)?.vlan.context("it has no VLAN");
        let length = self.description.network(to)?.subnet.length;
        self.switch.set_vlan(&format!("host-{}", number(tenant)?), number(to)?)?;
        namespace.links(&format!("addr add {address}/{length} dev eth0\n"))?;
        Ok(namespace)
    }

    /// Fault: a node loses its power, whatever its BMC was told.
    ///
    /// # Errors
    /// The rack has no such node, or it does not end.
    pub fn qemu_kill(&self, node: &str) -> Result<()> {
        self.chassis(node)?.crash()
    }

    fn home(&self, node: &str) -> Result<PathBuf> {
        Ok(self.directory.join("nodes").join(self.description.node(node)?.name.as_str()))
    }

    fn chassis(&self, node: &str) -> Result<Chassis> {
        Chassis::open(&self.home(node)?)
    }

    fn bmc(&self, node: &str) -> Result<Process> {
        let name = self.description.node(node)?.name.as_str();
        let process = self.bmcs.get(name).with_context(|| format!("node {name} has no BMC"))?;
        ensure!(process.runs(), "the BMC of {name} ended: see {}", self.directory.join("logs").display());
        Ok(*process)
    }

    fn mark(&self, node: &str, fault: &str, set: bool) -> Result<()> {
        let file = self.home(node)?.join(fault);
        let done = if set { fs::write(&file, "") } else { fs::remove_file(&file) };
        match done {
            Err(error) if set || error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot set the fault {}", file.display()))
            }
            _ => Ok(()),
        }
    }

    fn cable(&self, node: &str, in_: bool) -> Result<()> {
        let tap = &self.description.node(node)?.port.switch_port;
        self.mark(node, machine::UNPLUGGED, !in_)?;
        self.cabling.switch.links(&format!("link set {tap} {}\n", if in_ { "up" } else { "down" }))?;
        self.chassis(node)?.link(in_)
    }
}

/// A place in a node's console log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsoleMark(usize);

/// Makes a virtual node: its directory, an empty disk, and what its chassis reads.
fn make(node: &Node, home: &Path, serial_port: u16) -> Result<()> {
    fs::create_dir_all(home).with_context(|| format!("cannot make {}", home.display()))?;
    let machine = Machine::of(node, serial_port)?;
    fs::write(home.join("machine.json"), serde_json::to_vec_pretty(&machine)?)?;
    let mebibytes = node.hardware.as_ref().map_or(0, |hardware| hardware.disk_mib);
    if mebibytes == 0 {
        return Ok(());
    }
    let disk = fs::File::create(home.join("disk.img"))?;
    disk.set_len(mebibytes << 20)
        .with_context(|| format!("cannot make a disk of {mebibytes} MiB in {}", home.display()))
}
