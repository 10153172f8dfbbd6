//! What interfaces there should be, and what is left to do until there are.
//!
//! One looks, is told the next [`Act`]s, does them and looks again; when nothing is told, all is as wished.
//! So twice is once, and an interface that appears late is taken up where the others are.

use crate::config::{Address, BondMode, Config, Nic, On};
use boot::{Device, Mac, Prefix};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{
        BondMode as WireMode, BondXmitHashPolicy, InfoBond, InfoData, InfoKind, InfoVlan, LinkAttribute,
        LinkFlags, LinkInfo, LinkMessage,
    },
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};
use rack::Vlan;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr},
};

/// A bond looks at its members' carriers so often.
const MII_MILLIS: u32 = 100;

/// What an interface is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A card, or what a hypervisor has in its place.
    Card,
    /// Several others.
    Bond,
    /// A VLAN of another.
    Vlan,
    /// The machine itself.
    Loopback,
}

/// An interface as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The kernel's number.
    pub index: u32,
    /// What it is called now.
    pub name: String,
    /// What the kernel called it before it got the name of its role.
    pub first_name: Option<String>,
    /// Its address, the one in the card if that is known.
    pub mac: Option<Mac>,
    /// What it is made of.
    pub kind: Kind,
    /// Whether it is set up.
    pub up: bool,
    /// Whether there is somebody at the other end.
    pub carrier: bool,
    /// The bond it is a member of, by number.
    pub bond: Option<u32>,
}

impl Link {
    /// Reads the kernel's description.
    pub fn read(message: &LinkMessage) -> Link {
        let flags = message.header.flags;
        let mut link = Link {
            index: message.header.index,
            name: String::new(),
            first_name: None,
            mac: None,
            kind: if flags.contains(LinkFlags::Loopback) { Kind::Loopback } else { Kind::Card },
            up: flags.contains(LinkFlags::Up),
            carrier: flags.contains(LinkFlags::LowerUp),
            bond: None,
        };
        let mac = |octets: &[u8]| octets.try_into().ok().map(Mac).filter(|mac| mac.is_station());
        let (mut current, mut permanent) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::IfAlias(name) => link.first_name = Some(name.clone()),
                LinkAttribute::Address(octets) => current = mac(octets),
                LinkAttribute::PermAddress(octets) => permanent = mac(octets),
                LinkAttribute::Controller(index) => link.bond = Some(*index).filter(|index| *index > 0),
                LinkAttribute::LinkInfo(infos) => {
                    for info in infos {
                        match info {
                            LinkInfo::Kind(InfoKind::Vlan) => link.kind = Kind::Vlan,
                            LinkInfo::Kind(InfoKind::Bond) => link.kind = Kind::Bond,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        // A bond gives its own address to its members.
        link.mac = permanent.or(current);
        link
    }

    fn is(&self, nic: &Nic) -> bool {
        self.kind == Kind::Card
            && match nic {
                Nic::Mac(mac) => self.mac == Some(*mac),
                Nic::Named(name) => self.first_name.as_deref().unwrap_or(&self.name) == name.as_str(),
            }
    }
}

/// An interface that is to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wish {
    /// A card is to have this name.
    Card(Nic),
    /// A bond is to be there.
    Bond(BondMode, Vec<Nic>),
    /// A VLAN of another is to be there.
    Vlan(Vlan, Device),
}

/// The interfaces that are to be there, with their addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    links: Vec<(Device, Wish)>,
    addresses: Vec<(Device, Prefix)>,
    /// Whose address comes from elsewhere.
    dhcp: bool,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// Take an interface down.
    Down(u32),
    /// Give it another name; the first it had is kept with it.
    Rename { index: u32, from: String, to: String },
    /// Make a bond.
    NewBond { name: String, lacp: bool },
    /// Make an interface a bond's member.
    Join { index: u32, bond: u32 },
    /// Make a sub-interface for a VLAN.
    NewVlan { name: String, vlan: u16, parent: u32 },
    /// Set it up.
    Up(u32),
    /// Give it an address.
    AddAddress { index: u32, address: Ipv4Addr, length: u8 },
    /// Take an address from it.
    RemoveAddress { index: u32, address: Ipv4Addr, length: u8 },
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Act::Down(index) => write!(f, "taking interface {index} down"),
            Act::Rename { from, to, .. } => write!(f, "naming {from} {to}"),
            Act::NewBond { name, .. } => write!(f, "making the bond {name}"),
            Act::Join { index, bond } => write!(f, "making interface {index} a member of bond {bond}"),
            Act::NewVlan { name, vlan, .. } => write!(f, "making {name} on VLAN {vlan}"),
            Act::Up(index) => write!(f, "setting interface {index} up"),
            Act::AddAddress { address, length, .. } => write!(f, "giving {address}/{length}"),
            Act::RemoveAddress { address, length, .. } => write!(f, "removing {address}/{length}"),
        }
    }
}

impl Wishes {
    /// What a configuration wants.
    pub fn of(config: &Config) -> Wishes {
        let name = |text: &str| text.parse::<Device>().expect("roles are interfaces' names");
        let mut wishes = Wishes::default();
        let mut used: BTreeSet<&Device> = BTreeSet::new();
        let bond = |nic: &Nic| match nic {
            Nic::Named(device) => config.bonds.iter().find(|bond| bond.name == *device),
            Nic::Mac(_) => None,
        };
        let mut roles = vec![(name("uplink"), &config.uplink.nic)];
        roles.extend(config.oob.iter().map(|leg| (name("oob"), &leg.nic)));
        roles.extend(config.trunk.iter().map(|nic| (name("trunk"), nic)));
        roles.extend(config.networks.iter().filter_map(|network| match &network.on {
            On::Nic(nic) => Some((network.device(), nic)),
            On::Trunk(_) => None,
        }));
        for (role, nic) in roles {
            let wish = match bond(nic) {
                Some(bond) => {
                    used.insert(&bond.name);
                    Wish::Bond(bond.mode, bond.members.clone())
                }
                None => Wish::Card(nic.clone()),
            };
            wishes.links.push((role, wish));
        }
        for bond in config.bonds.iter().filter(|bond| !used.contains(&bond.name)) {
            wishes.links.push((bond.name.clone(), Wish::Bond(bond.mode, bond.members.clone())));
        }
        for network in &config.networks {
            if let On::Trunk(vlan) = network.on {
                wishes.links.push((network.device(), Wish::Vlan(vlan, name("trunk"))));
            }
        }
        match config.uplink.address {
            Address::Static(prefix) => wishes.addresses.push((name("uplink"), prefix)),
            Address::Dhcp => wishes.dhcp = true,
        }
        wishes.addresses.extend(config.oob.iter().map(|leg| (name("oob"), leg.address)));
        wishes.addresses.extend(config.networks.iter().map(|network| (network.device(), network.address)));
        wishes
    }

    /// The cards that are wished for and not there, with their roles.
    pub fn missing(&self, links: &[Link]) -> Vec<(Nic, Device)> {
        let wanted = self.links.iter().flat_map(|(role, wish)| {
            let nics = match wish {
                Wish::Card(nic) => std::slice::from_ref(nic),
                Wish::Bond(_, members) => members,
                Wish::Vlan(..) => &[],
            };
            nics.iter().map(move |nic| (nic.clone(), role.clone()))
        });
        wanted.filter(|(nic, _)| !links.iter().any(|link| link.is(nic))).collect()
    }

    /// What is to be done next, without what was tried in vain; nothing: all is as wished, as far as can be.
    pub fn acts(&self, links: &[Link], addresses: &[(u32, Prefix)], failed: &BTreeSet<Act>) -> Vec<Act> {
        let stages = [
            self.names(links),
            self.bonds(links),
            self.members(links),
            self.vlans(links),
            self.up(links),
            self.addressed(links, addresses),
        ];
        let left = |acts: Vec<Act>| acts.into_iter().filter(|act| !failed.contains(act)).collect::<Vec<_>>();
        stages.into_iter().map(left).find(|acts| !acts.is_empty()).unwrap_or_default()
    }

    /// Names that are in the way go first; who had one is looked at again afterwards.
    fn names(&self, links: &[Link]) -> Vec<Act> {
        let rename = |link: &Link, to: String| {
            let name = Act::Rename { index: link.index, from: link.name.clone(), to };
            link.up.then_some(Act::Down(link.index)).into_iter().chain([name])
        };
        let aside = |link: &Link| rename(link, format!("was-{}", link.index));
        let (mut away, mut to_role) = (Vec::new(), Vec::new());
        for (role, wish) in &self.links {
            let there = named(links, role);
            let link = match wish {
                Wish::Card(nic) => links.iter().find(|link| link.is(nic)),
                // A card of that name is not what is wished for, and would be taken for it.
                Wish::Bond(..) | Wish::Vlan(..) => {
                    away.extend(there.filter(|link| link.kind == Kind::Card).into_iter().flat_map(aside));
                    continue;
                }
            };
            let Some(link) = link.filter(|link| link.name != role.as_str()) else { continue };
            away.extend(there.into_iter().flat_map(aside));
            to_role.extend(rename(link, role.to_string()));
        }
        if away.is_empty() { to_role } else { away }
    }

    fn bonds(&self, links: &[Link]) -> Vec<Act> {
        let is_there = |name: &Device| named(links, name).is_some();
        let missing = self.links.iter().filter_map(|(name, wish)| match wish {
            Wish::Bond(mode, _) if !is_there(name) => {
                Some(Act::NewBond { name: name.to_string(), lacp: *mode == BondMode::Lacp })
            }
            _ => None,
        });
        missing.collect()
    }

    fn members(&self, links: &[Link]) -> Vec<Act> {
        let mut acts = Vec::new();
        for (name, wish) in &self.links {
            let (Wish::Bond(_, members), Some(bond)) = (wish, named(links, name)) else { continue };
            for member in members {
                let Some(link) = links.iter().find(|link| link.is(member)) else { continue };
                if link.bond != Some(bond.index) {
                    // The kernel takes no member that is up.
                    acts.extend(link.up.then_some(Act::Down(link.index)));
                    acts.push(Act::Join { index: link.index, bond: bond.index });
                }
            }
        }
        acts
    }

    fn vlans(&self, links: &[Link]) -> Vec<Act> {
        let missing = self.links.iter().filter_map(|(name, wish)| match wish {
            Wish::Vlan(vlan, parent) if named(links, name).is_none() => {
                let parent = named(links, parent)?.index;
                Some(Act::NewVlan { name: name.to_string(), vlan: vlan.id(), parent })
            }
            _ => None,
        });
        missing.collect()
    }

    fn up(&self, links: &[Link]) -> Vec<Act> {
        let ours = |link: &&Link| {
            link.kind == Kind::Loopback || self.links.iter().any(|(name, _)| name.as_str() == link.name)
        };
        links.iter().filter(ours).filter(|link| !link.up).map(|link| Act::Up(link.index)).collect()
    }

    fn addressed(&self, links: &[Link], addresses: &[(u32, Prefix)]) -> Vec<Act> {
        let mut acts = Vec::new();
        for (name, _) in &self.links {
            let Some(link) = named(links, name) else { continue };
            let wished: Vec<Prefix> =
                self.addresses.iter().filter(|(of, _)| of == name).map(|(_, prefix)| *prefix).collect();
            let there = addresses.iter().filter(|(index, _)| *index == link.index).map(|(_, prefix)| *prefix);
            let there: Vec<Prefix> = there.collect();
            let index = link.index;
            if !(self.dhcp && name.as_str() == "uplink") {
                for Prefix { address, length } in there.iter().filter(|prefix| !wished.contains(prefix)) {
                    acts.push(Act::RemoveAddress { index, address: *address, length: *length });
                }
            }
            for Prefix { address, length } in wished.iter().filter(|prefix| !there.contains(prefix)) {
                acts.push(Act::AddAddress { index, address: *address, length: *length });
            }
        }
        acts
    }
}

/// A link by its name.
pub fn named<'a>(links: &'a [Link], name: &Device) -> Option<&'a Link> {
    links.iter().find(|link| link.name == name.as_str())
}

impl Act {
    /// As it is asked of the kernel, and whether something new is made.
    pub fn message(&self) -> RouteNetlinkMessage {
        match self {
            Act::Down(index) => flag(*index, LinkFlags::empty()),
            Act::Up(index) => flag(*index, LinkFlags::Up),
            Act::Rename { index, to, .. } => {
                let mut message = link(*index);
                message.attributes.push(LinkAttribute::IfName(to.clone()));
                RouteNetlinkMessage::SetLink(message)
            }
            Act::NewBond { name, lacp } => {
                let mut data = vec![
                    InfoBond::Mode(if *lacp { WireMode::Ieee8023Ad } else { WireMode::ActiveBackup }),
                    InfoBond::MiiMon(MII_MILLIS),
                ];
                if *lacp {
                    data.push(InfoBond::XmitHashPolicy(BondXmitHashPolicy::Layer34));
                }
                made(name, InfoKind::Bond, InfoData::Bond(data), None)
            }
            Act::Join { index, bond } => {
                let mut message = link(*index);
                message.attributes.push(LinkAttribute::Controller(*bond));
                RouteNetlinkMessage::SetLink(message)
            }
            Act::NewVlan { name, vlan, parent } => {
                made(name, InfoKind::Vlan, InfoData::Vlan(vec![InfoVlan::Id(*vlan)]), Some(*parent))
            }
            Act::AddAddress { index, address, length } => {
                let prefix = Prefix { address: *address, length: *length };
                RouteNetlinkMessage::NewAddress(addressed(*index, prefix))
            }
            Act::RemoveAddress { index, address, length } => {
                let prefix = Prefix { address: *address, length: *length };
                RouteNetlinkMessage::DelAddress(addressed(*index, prefix))
            }
        }
    }

    /// Whether it makes something that was not there.
    pub fn makes(&self) -> bool {
        matches!(self, Act::NewBond { .. } | Act::NewVlan { .. } | Act::AddAddress { .. })
    }
}

fn link(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

fn flag(index: u32, flags: LinkFlags) -> RouteNetlinkMessage {
    let mut message = link(index);
    message.header.flags = flags;
    message.header.change_mask = LinkFlags::Up;
    RouteNetlinkMessage::SetLink(message)
}

/// The name the kernel gave, to be kept with the interface.
pub fn first_name(index: u32, name: &str) -> RouteNetlinkMessage {
    let mut message = link(index);
    message.attributes.push(LinkAttribute::IfAlias(name.to_owned()));
    RouteNetlinkMessage::SetLink(message)
}

fn made(name: &str, kind: InfoKind, data: InfoData, parent: Option<u32>) -> RouteNetlinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message.attributes.extend(parent.map(LinkAttribute::Link));
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind), LinkInfo::Data(data)]));
    RouteNetlinkMessage::NewLink(message)
}

/// An address on an interface.
pub fn addressed(index: u32, prefix: Prefix) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix.length;
    message.header.index = index;
    let address = IpAddr::V4(prefix.address);
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
        AddressAttribute::Broadcast(prefix.broadcast()),
    ];
    message
}

/// Everything that is on no network of ours goes to `gateway`.
pub fn default_route(index: u32, gateway: Ipv4Addr) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes =
        vec![RouteAttribute::Gateway(RouteAddress::Inet(gateway)), RouteAttribute::Oif(index)];
    RouteNetlinkMessage::NewRoute(message)
}

/// The IPv4 address in the kernel's description.
pub fn prefix(message: &AddressMessage) -> Option<(u32, Prefix)> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
        _ => None,
    })?;
    Some((message.header.index, Prefix { address: local, length: message.header.prefix_len }))
}

#[cfg(test)]
mod tests;
