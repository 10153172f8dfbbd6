//! `kiln.toml`: what the box is told of itself. Parsed, or refused with line and what to do.
//!
//! Everything in a [`Config`] can be acted on: names are unique, a VLAN has a trunk to be on, no interface
//! has two roles, no two networks overlap.

mod check;
mod ssh;
mod written;

pub use ssh::{Ssh, SshKey};

use boot::{Device, Mac, NodeName, NotAWord, Prefix, Secret};
use deploy::Patience;
use rack::{IqnPrefix, NetworkName, Vlan};
use serde::{Deserialize, Serialize};
use std::{fmt, net::Ipv4Addr, str::FromStr};

/// What is wrong with a configuration, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong and what to do.
    pub text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)
    }
}

/// A configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Of two configurations the higher counts.
    pub serial: u64,
    /// The box's host name.
    pub name: Option<NodeName>,
    /// Where operators and controllers are.
    pub uplink: Uplink,
    /// Where BMCs and switches are.
    pub oob: Option<Leg>,
    /// What carries VLANs.
    pub trunk: Option<Nic>,
    /// The networks that the appliance serves.
    pub networks: Vec<Network>,
    /// Interfaces made of several.
    pub bonds: Vec<Bond>,
    /// The API.
    pub api: Api,
    /// The shell for operators; none: nobody logs in.
    pub ssh: Option<Ssh>,
    /// What is passed on to `applianced`.
    pub appliance: Appliance,
    /// Likewise.
    pub patience: Option<Patience>,
}

/// The interface of operators and controllers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Which interface.
    pub nic: Nic,
    /// Its address.
    pub address: Address,
    /// Who else than this network is reached by.
    pub gateway: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Time servers.
    pub ntp: Vec<Ipv4Addr>,
}

/// Where an address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// From the network's DHCP server.
    Dhcp,
    /// It is this one.
    Static(Prefix),
}

/// An interface with an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leg {
    /// Which interface.
    pub nic: Nic,
    /// Its address.
    pub address: Prefix,
}

/// A network that the appliance serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its name, which is its interface's too.
    pub name: NetworkName,
    /// What it is on.
    pub on: On,
    /// The appliance's address on it.
    pub address: Prefix,
}

impl Network {
    /// What its interface is called.
    pub fn device(&self) -> Device {
        self.name.as_str().parse().expect("a network's name was checked to be an interface's")
    }
}

/// What a network is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum On {
    /// Tagged on the trunk.
    Trunk(Vlan),
    /// An interface of its own.
    Nic(Nic),
}

/// An interface, before it has the name of its role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum Nic {
    /// The one with this address.
    Mac(Mac),
    /// The one that the kernel called so, or a bond.
    Named(Device),
}

impl FromStr for Nic {
    type Err = NotAWord;

    fn from_str(text: &str) -> Result<Nic, NotAWord> {
        let wrong = || NotAWord {
            expected: "an interface: a MAC address such as 52:54:00:12:34:56, a kernel's name such as eth0, or the name of a bond",
            found: text.chars().take(80).collect(),
        };
        match text.parse::<Mac>() {
            Ok(mac) if mac.is_station() => Ok(Nic::Mac(mac)),
            Ok(_) => Err(wrong()),
            Err(_) => text.parse().map(Nic::Named).map_err(|_| wrong()),
        }
    }
}

impl TryFrom<String> for Nic {
    type Error = NotAWord;

    fn try_from(text: String) -> Result<Nic, NotAWord> {
        text.parse()
    }
}

impl fmt::Display for Nic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Nic::Mac(mac) => mac.fmt(f),
            Nic::Named(device) => device.fmt(f),
        }
    }
}

/// An interface made of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bond {
    /// What it is called in the configuration.
    pub name: Device,
    /// What it is made of.
    pub members: Vec<Nic>,
    /// How they share the work.
    pub mode: BondMode,
}

/// How a bond's members share the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum BondMode {
    /// One works, the others stand by; the switch need not know.
    #[serde(rename = "active-backup")]
    ActiveBackup,
    /// All work; the switch must speak LACP (IEEE 802.1AX).
    #[serde(rename = "802.3ad")]
    Lacp,
}

/// The API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// Its port on the uplink's address.
    pub port: u16,
    /// Its token; none: one is made by the box.
    pub token: Option<Secret>,
}

/// What is passed on to `applianced` as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Appliance {
    /// The largest disk that an image may describe, in GiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_image_gib: Option<u64>,
    /// Added to the ramdisk's kernel command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_args: Option<String>,
    /// What the names of iSCSI targets and initiators begin with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iqn: Option<IqnPrefix>,
}

impl Config {
    /// Reads one.
    ///
    /// # Errors
    /// All that is wrong, by line.
    pub fn parse(text: &str) -> Result<Config, Vec<Fault>> {
        check::checked(text)
    }

    /// Whether the uplink may have an address that somebody else gave it: a subnet of its own, as one in the
    /// configuration has to be.
    ///
    /// # Errors
    /// Why not, and what to do.
    pub fn admit(&self, lease: Prefix) -> Result<(), String> {
        if !check::is_machine(lease) {
            return Err(format!("{lease}, which is no machine's address: look at the DHCP server"));
        }
        let oob = self.oob.iter().map(|leg| (leg.address, "oob".to_owned()));
        let networks = self.networks.iter().map(|network| (network.address, network.name.to_string()));
        match oob.chain(networks).find(|(other, _)| check::overlap(*other, lease)) {
            None => Ok(()),
            Some((other, what)) => Err(format!(
                "{lease}, which overlaps {other} of {what}: give each network a subnet of its own, or look at who answers DHCP on the uplink"
            )),
        }
    }
}

#[cfg(test)]
mod tests;
