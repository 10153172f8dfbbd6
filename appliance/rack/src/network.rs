use boot::{Device, NotAWord, Pool, Prefix};
use core::{fmt, str::FromStr};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// A VLAN id that a port can be in: 1 to 4094 (IEEE 802.1Q, table 9-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Vlan(u16);

impl Vlan {
    /// The number.
    pub const fn id(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for Vlan {
    type Error = NotAWord;

    fn try_from(id: u16) -> Result<Vlan, NotAWord> {
        if (1..=4094).contains(&id) {
            Ok(Vlan(id))
        } else {
            Err(NotAWord { expected: "a VLAN id from 1 to 4094", found: id.to_string() })
        }
    }
}

impl From<Vlan> for u16 {
    fn from(vlan: Vlan) -> u16 {
        vlan.0
    }
}

impl FromStr for Vlan {
    type Err = NotAWord;

    fn from_str(text: &str) -> Result<Vlan, NotAWord> {
        let wrong =
            || NotAWord { expected: "a VLAN id from 1 to 4094", found: text.chars().take(80).collect() };
        text.parse::<u16>().map_err(|_| wrong())?.try_into()
    }
}

impl fmt::Display for Vlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A network's name: letters, digits and hyphens, at most 63.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NetworkName(String);

impl NetworkName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NetworkName {
    type Err = NotAWord;

    fn from_str(text: &str) -> Result<NetworkName, NotAWord> {
        let first = text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
        if first && text.len() <= 63 && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            Ok(NetworkName(text.to_owned()))
        } else {
            let expected = "a network's name of letters, digits and hyphens, at most 63";
            Err(NotAWord { expected, found: text.chars().take(80).collect() })
        }
    }
}

impl TryFrom<String> for NetworkName {
    type Error = NotAWord;

    fn try_from(text: String) -> Result<NetworkName, NotAWord> {
        text.parse()
    }
}

impl From<NetworkName> for String {
    fn from(name: NetworkName) -> String {
        name.0
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A network: a VLAN with a subnet and a purpose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// Its name.
    pub name: NetworkName,
    /// What it is for.
    pub purpose: Purpose,
    /// Its VLAN on the switches.
    pub vlan: Vlan,
    /// The appliance's own address on it, with the subnet's prefix length.
    pub subnet: Prefix,
    /// Who gives addresses on it.
    #[serde(default)]
    pub dhcp: NetworkDhcp,
    /// Addresses for machines; none: from the eleventh of the subnet to its last but one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
    /// What tenants' machines are told to route by; none: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<Ipv4Addr>,
    /// Name servers that machines are told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<Ipv4Addr>,
    /// The appliance's interface on it; none: the one of its configuration that has this name or VLAN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Device>,
    /// The storage network by which a tenant's machines reach their volumes, with a port of their own; none:
    /// they reach them on this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<NetworkName>,
}

impl NetworkSpec {
    /// The addresses that machines get.
    pub fn pool(&self) -> Pool {
        self.pool.unwrap_or_else(|| {
            let net = self.subnet.address.to_bits() & self.subnet.netmask().to_bits();
            let last = self.subnet.broadcast().to_bits() - 1;
            let first = (net + 10).min(last);
            Pool { first: Ipv4Addr::from_bits(first), last: Ipv4Addr::from_bits(last) }
        })
    }
}

/// What a network is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Nodes are on it while they are deployed.
    Provisioning,
    /// Nodes are on it while they are cleaned; none: the provisioning network serves.
    Cleaning,
    /// Nodes that failed, and nodes that nobody has.
    Quarantine,
    /// A tenant's.
    Tenant,
    /// Where nodes reach their volumes with a second port. Ports of several tenants are on it; who may
    /// log in to what is by name, secret and logical unit.
    Storage,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Purpose::Provisioning => "provisioning",
            Purpose::Cleaning => "cleaning",
            Purpose::Quarantine => "quarantine",
            Purpose::Tenant => "tenant",
            Purpose::Storage => "storage",
        })
    }
}

/// Who gives addresses on a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkDhcp {
    /// The appliance.
    #[default]
    Kiln,
    /// Somebody else's server; the appliance looks on.
    Other,
    /// Nobody; the appliance looks on.
    None,
}
