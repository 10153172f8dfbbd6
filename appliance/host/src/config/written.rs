//! A configuration as it is written, with the places of its parts.

use super::{Appliance, BondMode, Nic};
use boot::{Device, NodeName, NotAWord, Prefix, Secret};
use deploy::Patience;
use rack::{NetworkName, Vlan};
use serde::Deserialize;
use std::net::Ipv4Addr;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub(super) serial: Option<u64>,
    pub(super) host: Option<Host>,
    pub(super) uplink: Option<Uplink>,
    pub(super) oob: Option<Leg>,
    pub(super) trunk: Option<Trunk>,
    #[serde(default)]
    pub(super) network: Vec<Spanned<Network>>,
    #[serde(default)]
    pub(super) bond: Vec<Bond>,
    pub(super) api: Option<Api>,
    pub(super) ssh: Option<Ssh>,
    pub(super) appliance: Option<Appliance>,
    pub(super) patience: Option<Patience>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Host {
    pub(super) name: Option<NodeName>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Uplink {
    pub(super) device: Spanned<Nic>,
    pub(super) address: Spanned<Address>,
    pub(super) gateway: Option<Spanned<Ipv4Addr>>,
    #[serde(default)]
    pub(super) dns: Vec<Ipv4Addr>,
    #[serde(default)]
    pub(super) ntp: Vec<Ipv4Addr>,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Address(pub(super) super::Address);

impl TryFrom<String> for Address {
    type Error = NotAWord;

    fn try_from(text: String) -> Result<Address, NotAWord> {
        if text == "dhcp" {
            return Ok(Address(super::Address::Dhcp));
        }
        text.parse().map(|prefix| Address(super::Address::Static(prefix))).map_err(|_| NotAWord {
            expected: "\"dhcp\" or an address with its prefix length such as 192.0.2.10/24",
            found: text.chars().take(80).collect(),
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Leg {
    pub(super) device: Spanned<Nic>,
    pub(super) address: Spanned<Prefix>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trunk {
    pub(super) device: Spanned<Nic>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Network {
    pub(super) name: Spanned<NetworkName>,
    pub(super) vlan: Option<Spanned<Vlan>>,
    pub(super) device: Option<Spanned<Nic>>,
    pub(super) address: Spanned<Prefix>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Bond {
    pub(super) name: Spanned<Device>,
    pub(super) members: Spanned<Vec<Nic>>,
    pub(super) mode: BondMode,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Api {
    pub(super) port: Option<Spanned<u16>>,
    pub(super) token: Option<Spanned<Secret>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ssh {
    /// Not keys yet: a fault of one is to be said by its own line, not the list's.
    pub(super) keys: Vec<Spanned<String>>,
    pub(super) port: Option<Spanned<u16>>,
}
