//! What a rack is made of, as `rack.toml` says it: the same file for a virtual rack and a real one.
//!
//! Only the `virtual` table of a node is for virtual racks alone.

use anyhow::{Context as _, Result, ensure};
use boot::{Device, Mac, NodeName, Pool, Prefix, Secret};
use serde::{Deserialize, Serialize};
use std::{collections::HashSet, fmt, fs, net::Ipv4Addr, net::SocketAddrV4, path::Path};

#[cfg(test)]
mod tests;

/// A rack: its networks, switches and nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// What the rack itself is called.
    pub rack: Rack,
    /// Its networks, one VLAN each.
    #[serde(rename = "network")]
    pub networks: Vec<Network>,
    /// Its managed switches.
    #[serde(rename = "switch")]
    pub switches: Vec<Switch>,
    /// Its servers.
    #[serde(rename = "node")]
    pub nodes: Vec<Node>,
}

/// The table `[rack]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rack {
    /// Free text.
    pub name: String,
}

/// One network of the rack and the appliance's leg on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Also the name of the appliance's interface on it.
    pub name: Device,
    /// Its VLAN on the data switch; none for the network of the BMCs, which has a switch of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<Vlan>,
    /// What it is for.
    pub purpose: Purpose,
    /// The appliance's own address on it, with the prefix length.
    pub subnet: Prefix,
    /// The addresses that DHCP hands out; none where nobody serves DHCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
    /// Who serves DHCP on it.
    #[serde(default)]
    pub dhcp: Dhcp,
    /// The storage network on which a tenant's nodes reach their volumes; none: they do so on this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Device>,
}

/// What a network is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// BMCs and the management ports of switches.
    Oob,
    /// Where a node is only while it is being deployed.
    Provisioning,
    /// Where a node is only while it is being cleaned.
    Cleaning,
    /// A tenant's.
    Tenant,
    /// Where a node is that belongs to nobody, or whose deployment failed.
    Quarantine,
    /// Where nodes reach their volumes, with a second NIC.
    Storage,
}

/// Who serves DHCP on a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dhcp {
    /// The appliance.
    Kiln,
    /// Nobody, or somebody else.
    #[default]
    None,
}

/// A VLAN id, 1 to 4094 (IEEE 802.1Q-2018, 9.6: 0 and 4095 are reserved).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Vlan(u16);

impl Vlan {
    /// `None` outside 1 to 4094.
    pub const fn new(id: u16) -> Option<Vlan> {
        if id >= 1 && id <= 4094 { Some(Vlan(id)) } else { None }
    }
}

impl fmt::Display for Vlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl TryFrom<u16> for Vlan {
    type Error = String;

    fn try_from(id: u16) -> Result<Vlan, String> {
        Vlan::new(id).ok_or_else(|| format!("a VLAN is 1 to 4094, not {id}"))
    }
}

impl From<Vlan> for u16 {
    fn from(vlan: Vlan) -> u16 {
        vlan.0
    }
}

/// A switch the appliance configures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// What the nodes' ports call it.
    pub name: NodeName,
    /// How it is spoken to.
    pub driver: SwitchDriver,
    /// Its management address.
    pub address: SocketAddrV4,
}

/// The protocol a switch is configured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SwitchDriver {
    /// The Open vSwitch database protocol (RFC 7047) over TCP.
    Ovsdb,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Its BMC.
    pub bmc: Bmc,
    /// The NIC it boots from.
    pub port: Port,
    /// A second NIC, for a storage network; it boots from this one where the first leads nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_port: Option<Port>,
    /// What it is made of, in a virtual rack; a real server has no such table.
    #[serde(default, rename = "virtual", skip_serializing_if = "Option::is_none")]
    pub hardware: Option<Hardware>,
}

/// Where a BMC is and how one logs in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bmc {
    /// Its address on the OOB network.
    pub address: Ipv4Addr,
    /// UDP; 623 is the port IANA gave RMCP.
    #[serde(default = "rmcp")]
    pub port: u16,
    /// At most 16 octets (IPMI 2.0, 22.28).
    pub user: String,
    /// At most 20 octets (IPMI 2.0, 22.30).
    pub password: Secret,
}

const fn rmcp() -> u16 {
    623
}

/// A NIC and the switch port its cable ends in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// The NIC's address.
    pub mac: Mac,
    /// A switch of this file.
    pub switch: NodeName,
    /// The port as that switch calls it.
    pub switch_port: Device,
}

/// What a virtual node is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hardware {
    /// What it starts from.
    pub firmware: Firmware,
    /// Its NIC.
    #[serde(default)]
    pub nic: Nic,
    /// RAM, in MiB.
    #[serde(default = "half_a_gigabyte")]
    pub memory_mib: u32,
    /// Its disk, in MiB; a sparse file. 0: it has none.
    #[serde(default = "two_gigabytes")]
    pub disk_mib: u64,
    /// Whether the NIC carries an iPXE boot ROM; without one the firmware's own network stack boots.
    #[serde(default = "with_rom")]
    pub rom: bool,
    /// Whether its firmware was set to try the storage port first: OVMF takes minutes to give a port up.
    #[serde(default)]
    pub storage_first: bool,
}

const fn half_a_gigabyte() -> u32 {
    512
}

const fn two_gigabytes() -> u64 {
    2048
}

const fn with_rom() -> bool {
    true
}

impl Hardware {
    /// A usual node with this firmware.
    pub fn with(firmware: Firmware) -> Hardware {
        Hardware {
            firmware,
            nic: Nic::default(),
            memory_mib: half_a_gigabyte(),
            disk_mib: two_gigabytes(),
            rom: with_rom(),
            storage_first: false,
        }
    }
}

/// What a virtual node starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// SeaBIOS.
    Bios,
    /// OVMF.
    Uefi,
}

/// A virtual node's NIC, by QEMU's name for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Nic {
    /// Paravirtual.
    #[default]
    #[serde(rename = "virtio-net-pci")]
    Virtio,
    /// Intel 82540EM.
    #[serde(rename = "e1000")]
    E1000,
}

impl Nic {
    /// The device's name on QEMU's command line.
    pub fn device(self) -> &'static str {
        match self {
            Nic::Virtio => "virtio-net-pci",
            Nic::E1000 => "e1000",
        }
    }
}

impl Description {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Names the file, the line and the key or value that is wrong.
    pub fn read(path: &Path) -> Result<Description> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Description::parse(&text).with_context(|| format!("{} is no rack", path.display()))
    }

    /// Parses and checks the text of a `rack.toml`.
    ///
    /// # Errors
    /// An unknown key, a value out of range, a name used twice or one that nothing bears.
    pub fn parse(text: &str) -> Result<Description> {
        let description: Description = toml::from_str(text)?;
        description.check()?;
        Ok(description)
    }

    /// A virtual rack of the usual five networks and so many nodes with this firmware.
    ///
    /// # Errors
    /// More than 80 nodes: their BMCs share a /24 with the switch and the appliance.
    pub fn of_nodes(nodes: u8, firmware: Firmware) -> Result<Description> {
        ensure!((1..=80).contains(&nodes), "a virtual rack has 1 to 80 nodes, not {nodes}");
        let mut description = Description::parse(include_str!("../../rack.toml"))?;
        let pattern = description.nodes.first().context("the default rack.toml has no node")?.clone();
        let first = description.nodes.iter().map(|n| n.bmc.address.to_bits()).min().unwrap_or_default();
        description.nodes = (1..=nodes)
            .map(|number| {
                let mut node = pattern.clone();
                node.name = format!("node{number}").parse()?;
                node.bmc.address = Ipv4Addr::from_bits(first + u32::from(number) - 1);
                node.bmc.password = Secret::new(format!("secret-node{number}"));
                node.port.mac.0[5] = number;
                node.port.switch_port = format!("node{number}").parse()?;
                node.hardware = Some(Hardware::with(firmware));
                Ok(node)
            })
            .collect::<Result<_>>()?;
        description.check()?;
        Ok(description)
    }

    /// The same rack with a storage network, a second NIC in every node, and all tenants' volumes there.
    ///
    /// # Errors
    /// Its names or addresses are taken.
    pub fn with_storage_network(mut self) -> Result<Description> {
        let storage = Network {
            name: "storage".parse()?,
            vlan: Vlan::new(300),
            purpose: Purpose::Storage,
            subnet: "10.30.0.1/24".parse()?,
            pool: Some(Pool { first: Ipv4Addr::new(10, 30, 0, 50), last: Ipv4Addr::new(10, 30, 0, 99) }),
            dhcp: Dhcp::Kiln,
            storage: None,
        };
        for tenant in self.networks.iter_mut().filter(|n| n.purpose == Purpose::Tenant) {
            tenant.storage = Some(storage.name.clone());
        }
        // A tenant's network names it, so it comes first.
        self.networks.insert(0, storage);
        for node in &mut self.nodes {
            let mut port = node.port.clone();
            port.mac.0[4] ^= 1;
            port.switch_port = format!("{}-b", node.port.switch_port).parse()?;
            node.storage_port = Some(port);
        }
        self.check()?;
        Ok(self)
    }

    /// The same rack with nodes that have no disks.
    pub fn without_disks(mut self) -> Description {
        for hardware in self.nodes.iter_mut().filter_map(|node| node.hardware.as_mut()) {
            hardware.disk_mib = 0;
        }
        self
    }

    /// The file's text, passwords and all.
    ///
    /// # Errors
    /// None that a checked description can cause.
    pub fn to_toml(&self) -> Result<String> {
        Ok(toml::to_string(self)?)
    }

    /// The node of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn node(&self, name: &str) -> Result<&Node> {
        let found = self.nodes.iter().find(|n| n.name.as_str() == name);
        found.with_context(|| {
            format!("the rack has no node {name}: it has {}", join(self.nodes.iter().map(|n| &n.name)))
        })
    }

    /// The network of that name.
    ///
    /// # Errors
    /// There is none.
    pub fn network(&self, name: &str) -> Result<&Network> {
        let found = self.networks.iter().find(|n| n.name.as_str() == name);
        found.with_context(|| {
            format!("the rack has no network {name}: it has {}", join(self.networks.iter().map(|n| &n.name)))
        })
    }

    /// The networks of one purpose, in the file's order.
    pub fn networks_for(&self, purpose: Purpose) -> impl Iterator<Item = &Network> {
        self.networks.iter().filter(move |n| n.purpose == purpose)
    }

    /// All NICs of all nodes.
    pub fn ports(&self) -> impl Iterator<Item = &Port> {
        self.nodes.iter().flat_map(Node::ports)
    }

    fn check(&self) -> Result<()> {
        unique("network", self.networks.iter().map(|n| &n.name))?;
        unique("VLAN", self.networks.iter().filter_map(|n| n.vlan))?;
        unique("switch", self.switches.iter().map(|s| &s.name))?;
        unique("node", self.nodes.iter().map(|n| &n.name))?;
        unique("MAC", self.ports().map(|port| port.mac))?;
        unique("BMC address", self.nodes.iter().map(|n| SocketAddrV4::new(n.bmc.address, n.bmc.port)))?;
        unique("switch port", self.ports().map(|port| format!("{} {}", port.switch, port.switch_port)))?;
        self.networks.iter().try_for_each(|n| n.check().with_context(|| format!("network {}", n.name)))?;
        for network in &self.networks {
            let Some(storage) = &network.storage else { continue };
            let there = self.networks_for(Purpose::Storage).any(|other| other.name == *storage);
            ensure!(
                there,
                "network {} has its volumes on {storage}, which is no storage network",
                network.name
            );
        }
        for node in &self.nodes {
            node.check(&self.switches).with_context(|| format!("node {}", node.name))?;
        }
        Ok(())
    }
}

impl Network {
    fn check(&self) -> Result<()> {
        let oob = self.purpose == Purpose::Oob;
        ensure!(oob || self.vlan.is_some(), "has no vlan: only a network for oob has a switch of its own");
        ensure!(
            !oob || self.vlan.is_none(),
            "is for oob and has a vlan: leave it out, it has a switch of its own"
        );
        ensure!(self.dhcp == Dhcp::None || self.pool.is_some(), "has dhcp = \"kiln\" and no pool");
        if let Some(Pool { first, last }) = self.pool {
            ensure!(first <= last, "its pool ends ({last}) before it begins ({first})");
            for end in [first, last] {
                ensure!(self.subnet.contains(end), "its pool's {end} is not in {}", self.subnet);
            }
            ensure!(
                !(first..=last).contains(&self.subnet.address),
                "its pool holds the appliance's own address {}",
                self.subnet.address
            );
        }
        Ok(())
    }
}

impl Node {
    /// Its NICs, the one it boots from first.
    pub fn ports(&self) -> impl Iterator<Item = &Port> {
        std::iter::once(&self.port).chain(&self.storage_port)
    }

    fn check(&self, switches: &[Switch]) -> Result<()> {
        for Port { mac, switch, .. } in self.ports() {
            ensure!(
                switches.iter().any(|s| s.name == *switch),
                "is on switch {switch}, which this file lacks"
            );
            ensure!(mac.is_station(), "{mac} is not one NIC's address");
        }
        let plain = |text: &str, most| {
            (1..=most).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
        };
        ensure!(
            plain(&self.bmc.user, 16),
            "its BMC's user is not 1 to 16 printable characters without spaces"
        );
        ensure!(
            plain(self.bmc.password.expose(), 20),
            "its BMC's password is not 1 to 20 printable characters without spaces"
        );
        let Some(hardware) = &self.hardware else { return Ok(()) };
        let Hardware { firmware, nic, rom, memory_mib, .. } = *hardware;
        ensure!(
            rom || firmware == Firmware::Uefi,
            "has rom = false: a BIOS has no network stack but its NIC's ROM"
        );
        ensure!(rom || nic == Nic::Virtio, "has rom = false: OVMF itself drives virtio-net-pci only");
        ensure!(memory_mib >= 128, "has {memory_mib} MiB of memory: give it 128 at least");
        Ok(())
    }
}

fn unique<T: Eq + std::hash::Hash + fmt::Display>(what: &str, all: impl Iterator<Item = T>) -> Result<()> {
    let mut seen = HashSet::new();
    for one in all {
        ensure!(!seen.contains(&one), "the {what} {one} is there twice: give each its own");
        seen.insert(one);
    }
    Ok(())
}

fn join<T: fmt::Display>(all: impl Iterator<Item = T>) -> String {
    all.map(|one| one.to_string()).collect::<Vec<_>>().join(", ")
}
