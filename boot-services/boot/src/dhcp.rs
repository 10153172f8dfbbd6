use crate::{Architecture, Attempt, Device, Mac, NotAWord};
use core::{fmt, str::FromStr};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// What the DHCP hand should be doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DhcpPlan {
    /// One entry per network that it listens on.
    pub networks: Vec<DhcpNetwork>,
}

/// What is answered on one interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DhcpNetwork {
    /// The network's name, for facts and logs.
    pub name: String,
    /// The interface it is reached by.
    pub device: Device,
    /// Our own address on it and the length of its prefix, such as 10.7.0.1/24.
    pub address: Prefix,
    /// Whether we answer, or only look.
    pub service: DhcpService,
    /// Addresses for machines without an entry in `hosts`; none: they get no address.
    pub pool: Option<Pool>,
    /// Option 3.
    pub router: Option<Ipv4Addr>,
    /// Option 6.
    pub dns: Vec<Ipv4Addr>,
    /// Option 51, in seconds; renewal and rebinding at 1/2 and 7/8 of it.
    pub lease_seconds: u32,
    /// Whether to send IPv6 router advertisements that offer nothing: iPXE waits some 12 seconds for one.
    pub router_advertisements: bool,
    /// What machines without an entry in `hosts` boot; none: they are told no boot file.
    pub boot: Option<Boot>,
    /// The machines that are known.
    pub hosts: Vec<DhcpHost>,
}

/// How far our service goes on a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DhcpService {
    /// Addresses and boot files.
    Full,
    /// Somebody else gives addresses; we answer nothing and tell what we see.
    Watch,
}

/// A machine that is known on a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DhcpHost {
    /// Its interface.
    pub mac: Mac,
    /// The address it always gets.
    pub address: Ipv4Addr,
    /// Option 12.
    pub hostname: String,
    /// What it may boot now; none: it is told no boot file, and its firmware goes on to its disk.
    pub boot: Option<Boot>,
    /// Repeated in every fact about this machine on this network.
    pub attempt: Option<Attempt>,
}

/// What to boot, for each kind of firmware.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// Name of the TFTP file for BIOS PXE ROMs.
    pub bios: String,
    /// Name of the TFTP file for x86-64 UEFI PXE.
    pub uefi_x64: String,
    /// Name of the TFTP file for arm64 UEFI PXE; none: not served.
    pub uefi_arm64: Option<String>,
    /// URL for x86-64 UEFI HTTP boot.
    pub http_x64: String,
    /// URL for arm64 UEFI HTTP boot; none: not served.
    pub http_arm64: Option<String>,
    /// URL of the script for iPXE.
    pub ipxe: String,
}

/// A range of addresses, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The first.
    pub first: Ipv4Addr,
    /// The last.
    pub last: Ipv4Addr,
}

/// An address with the length of its prefix: `10.7.0.1/24`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    /// The address itself, host part and all.
    pub address: Ipv4Addr,
    /// 0 to 32.
    pub length: u8,
}

impl Prefix {
    /// Option 1.
    pub fn netmask(self) -> Ipv4Addr {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.length.min(32))).unwrap_or(0);
        Ipv4Addr::from_bits(mask)
    }

    /// Whether `other` is on the same network.
    pub fn contains(self, other: Ipv4Addr) -> bool {
        let mask = self.netmask().to_bits();
        self.address.to_bits() & mask == other.to_bits() & mask
    }

    /// The network's directed broadcast address.
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | !self.netmask().to_bits())
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Prefix {
    type Err = NotAWord;

    fn from_str(text: &str) -> Result<Prefix, NotAWord> {
        let wrong = || NotAWord {
            expected: "an address with its prefix length such as 10.7.0.1/24",
            found: text.chars().take(80).collect(),
        };
        let (address, length) = text.split_once('/').ok_or_else(wrong)?;
        let address = address.parse().map_err(|_| wrong())?;
        let length = length.parse().ok().filter(|l| (1..=30).contains(l)).ok_or_else(wrong)?;
        Ok(Prefix { address, length })
    }
}

impl TryFrom<String> for Prefix {
    type Error = NotAWord;

    fn try_from(text: String) -> Result<Prefix, NotAWord> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> String {
        prefix.to_string()
    }
}

/// What the DHCP hand saw of one machine on one network. Key: `NETWORK/MAC`, or `network/NETWORK` for
/// what it can say of the network itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DhcpFact {
    /// A machine asked, and how far it came.
    Client {
        /// The network it asked on.
        network: String,
        /// Its interface.
        mac: Mac,
        /// What its entry carried then.
        attempt: Option<Attempt>,
        /// How far it came, latest first.
        moment: DhcpMoment,
        /// The address we offered or gave, or that it was seen to use.
        address: Option<Ipv4Addr>,
        /// Option 93.
        architecture: Option<Architecture>,
        /// Option 60, with unprintable octets replaced, at most 64 characters.
        vendor_class: Option<String>,
        /// Whether it said that it is iPXE (option 77 or 175).
        ipxe: bool,
        /// Option 97 as a UUID, in the order in which SMBIOS prints it.
        uuid: Option<String>,
    },
    /// Whether the network is served: `None`, or what keeps it from being served and what to do.
    Network {
        /// The network.
        network: String,
        /// What is wrong.
        trouble: Option<String>,
    },
}

/// How far a client came in its exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DhcpMoment {
    /// It asked, and we had nothing for it.
    Ignored,
    /// It asked and was offered an address.
    Offered,
    /// It asked for an address and was refused it.
    Refused,
    /// It has the address.
    Bound,
    /// It gave the address back.
    Released,
    /// It says that somebody else uses the address.
    Declined,
    /// Not by DHCP: an ARP packet of its was seen, with the address it uses.
    Seen,
}
