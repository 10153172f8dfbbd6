//! What one part of a configuration must be to another.

use super::{
    Address, Api, Bond, Config, Fault, Leg, Network, Nic, On, Ssh, SshKey, Uplink,
    written::{self, Written},
};
use boot::Prefix;
use std::{collections::BTreeMap, ops::Range};

/// The API's port, unless another is given.
const PORT: u16 = 8080;
/// SSH's, unless another is given.
const SSH_PORT: u16 = 22;
/// What the kernel or this program calls interfaces itself.
const TAKEN: [&str; 6] = ["uplink", "oob", "trunk", "lo", "all", "default"];
/// The kernel takes no longer name for an interface.
const LONGEST_NAME: usize = 15;
/// A token that is given and not made must not be guessed.
const SHORTEST_TOKEN: usize = 32;

pub(super) fn checked(text: &str) -> Result<Config, Vec<Fault>> {
    let written: Written = toml::from_str(text).map_err(|e| {
        let at = e.span().map_or(0, |span| span.start);
        vec![Fault { line: line(text, at), text: e.message().to_owned() }]
    })?;
    let mut check = Check { text, faults: Vec::new(), used: BTreeMap::new(), subnets: Vec::new() };
    let config = check.config(written);
    match config {
        Some(config) if check.faults.is_empty() => Ok(config),
        _ => {
            check.faults.sort_by_key(|fault| fault.line);
            Err(check.faults)
        }
    }
}

fn line(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|octet| **octet == b'\n').count() + 1
}

/// Whether an address with its subnet can be a machine's.
pub(super) fn is_machine(prefix: Prefix) -> bool {
    let network = prefix.address.to_bits() & prefix.netmask().to_bits();
    let is_inside = prefix.address.to_bits() != network && prefix.address != prefix.broadcast();
    is_inside && !prefix.address.is_loopback() && !prefix.address.is_multicast()
}

/// Whether two subnets have an address in common.
pub(super) fn overlap(one: Prefix, other: Prefix) -> bool {
    one.contains(other.address) || other.contains(one.address)
}

struct Check<'a> {
    text: &'a str,
    faults: Vec<Fault>,
    /// Interfaces, and the role each has.
    used: BTreeMap<Nic, String>,
    /// What is at which address.
    subnets: Vec<(Prefix, String)>,
}

impl Check<'_> {
    fn fault(&mut self, span: Range<usize>, text: impl Into<String>) {
        self.faults.push(Fault { line: line(self.text, span.start), text: text.into() });
    }

    /// An interface gets a role, and has no other.
    fn use_nic(&mut self, nic: &Nic, span: Range<usize>, role: &str) {
        if let Some(other) = self.used.insert(nic.clone(), role.to_owned()) {
            self.fault(span, format!("{nic} is {role} and {other} too: give each its own interface"));
        }
    }

    /// An address is a machine's, on a subnet that nothing else has.
    fn use_prefix(&mut self, prefix: Prefix, span: Range<usize>, role: &str) {
        if !is_machine(prefix) {
            self.fault(
                span.clone(),
                format!("{prefix} is not a machine's address: give the appliance's own"),
            );
        }
        if let Some((other, what)) = self.subnets.iter().find(|(other, _)| overlap(*other, prefix)) {
            let text = format!("{prefix} overlaps {other} of {what}: give each network a subnet of its own");
            self.fault(span, text);
        }
        self.subnets.push((prefix, role.to_owned()));
    }

    fn config(&mut self, written: Written) -> Option<Config> {
        let bonds = self.bonds(written.bond);
        let uplink = match written.uplink {
            Some(uplink) => Some(self.uplink(uplink)),
            None => {
                let text = "[uplink] is missing: write it, with device = and address =";
                self.fault(0..0, text);
                None
            }
        };
        let oob = written.oob.map(|leg| {
            self.use_nic(leg.device.get_ref(), leg.device.span(), "oob");
            self.use_prefix(*leg.address.get_ref(), leg.address.span(), "oob");
            Leg { nic: leg.device.into_inner(), address: leg.address.into_inner() }
        });
        let trunk = written.trunk.map(|trunk| {
            self.use_nic(trunk.device.get_ref(), trunk.device.span(), "trunk");
            trunk.device.into_inner()
        });
        let networks = self.networks(written.network, trunk.is_some(), &bonds);
        let api = self.api(written.api);
        let ssh = written.ssh.and_then(|ssh| self.ssh(ssh, api.port));
        Some(Config {
            serial: written.serial.unwrap_or(0),
            name: written.host.and_then(|host| host.name),
            uplink: uplink?,
            oob,
            trunk,
            networks,
            bonds,
            api,
            ssh,
            appliance: written.appliance.unwrap_or_default(),
            patience: written.patience,
        })
    }

    fn bonds(&mut self, written: Vec<written::Bond>) -> Vec<Bond> {
        let mut bonds: Vec<Bond> = Vec::new();
        for bond in written {
            let (at, name) = (bond.name.span(), bond.name.into_inner());
            if TAKEN.contains(&name.as_str()) {
                self.fault(at.clone(), format!("a bond cannot be called {name}: call it bond0 or the like"));
            }
            if bonds.iter().any(|other| other.name == name) {
                self.fault(at, format!("there are two bonds {name}: call one otherwise"));
            }
            let at = bond.members.span();
            for member in bond.members.get_ref() {
                self.use_nic(member, at.clone(), &format!("a member of {name}"));
            }
            let members = bond.members.into_inner();
            if members.is_empty() {
                self.fault(at, format!("{name} has no members: name at least one interface"));
            }
            bonds.push(Bond { name, members, mode: bond.mode });
        }
        bonds
    }

    fn uplink(&mut self, written: written::Uplink) -> Uplink {
        self.use_nic(written.device.get_ref(), written.device.span(), "uplink");
        let at = written.address.span();
        let address = written.address.into_inner().0;
        if let Address::Static(prefix) = address {
            self.use_prefix(prefix, at, "uplink");
        }
        if let Some(gateway) = &written.gateway {
            let (at, gateway) = (gateway.span(), *gateway.get_ref());
            match address {
                Address::Dhcp => {
                    self.fault(at, "the DHCP server says what the gateway is: take this line out");
                }
                Address::Static(prefix) if !prefix.contains(gateway) || prefix.address == gateway => {
                    self.fault(at, format!("{gateway} is not another machine's address in {prefix}"));
                }
                Address::Static(_) => {}
            }
        }
        Uplink {
            nic: written.device.into_inner(),
            address,
            gateway: written.gateway.map(|gateway| gateway.into_inner()),
            dns: written.dns,
            ntp: written.ntp,
        }
    }

    fn networks(
        &mut self,
        written: Vec<toml::Spanned<written::Network>>,
        has_trunk: bool,
        bonds: &[Bond],
    ) -> Vec<Network> {
        let mut networks: Vec<Network> = Vec::new();
        for network in written {
            let (whole, network) = (network.span(), network.into_inner());
            let (at, name) = (network.name.span(), network.name.into_inner());
            if name.as_str().len() > LONGEST_NAME {
                self.fault(
                    at,
                    format!(
                        "{name} is longer than {LONGEST_NAME} characters, as many as an interface's name has"
                    ),
                );
                continue;
            }
            if TAKEN.contains(&name.as_str()) || bonds.iter().any(|bond| bond.name.as_str() == name.as_str())
            {
                self.fault(
                    at.clone(),
                    format!("an interface is called {name} already: call the network otherwise"),
                );
            }
            if networks.iter().any(|other| other.name == name) {
                self.fault(at, format!("there are two networks {name}: call one otherwise"));
            }
            let role = format!("network {name}");
            let on = match (network.vlan, network.device) {
                (Some(vlan), None) => {
                    let (at, vlan) = (vlan.span(), vlan.into_inner());
                    if !has_trunk {
                        self.fault(
                            at.clone(),
                            format!("{role} is on a VLAN and there is no [trunk]: write it, with device ="),
                        );
                    }
                    let other = networks.iter().find(|other| other.on == On::Trunk(vlan));
                    if let Some(other) = other {
                        let text =
                            format!("VLAN {vlan} is network {}'s: give each network its own", other.name);
                        self.fault(at, text);
                    }
                    On::Trunk(vlan)
                }
                (None, Some(device)) => {
                    self.use_nic(device.get_ref(), device.span(), &role);
                    On::Nic(device.into_inner())
                }
                (Some(_), Some(_)) => {
                    self.fault(whole, format!("{role} has vlan = and device =: leave vlan = if it is on the trunk, device = if not"));
                    continue;
                }
                (None, None) => {
                    self.fault(
                        whole,
                        format!("{role} is on nothing: write vlan = if it is on the trunk, device = if not"),
                    );
                    continue;
                }
            };
            self.use_prefix(*network.address.get_ref(), network.address.span(), &role);
            networks.push(Network { name, on, address: network.address.into_inner() });
        }
        networks
    }

    fn api(&mut self, written: Option<written::Api>) -> Api {
        let Some(api) = written else { return Api { port: PORT, token: None } };
        let port = api.port.map_or(PORT, |port| {
            // The boot services have these on their networks.
            if matches!(port.get_ref(), 0 | 80 | 3260) {
                self.fault(port.span(), "the API needs a port of its own: 8080, for example");
            }
            port.into_inner()
        });
        let token = api.token.map(|token| {
            let text = token.get_ref().expose();
            if text.len() < SHORTEST_TOKEN || !text.bytes().all(|b| b.is_ascii_graphic()) {
                let text = format!("the token is not {SHORTEST_TOKEN} or more printable characters without spaces: `openssl rand -hex 24` makes one");
                self.fault(token.span(), text);
            }
            token.into_inner()
        });
        Api { port, token }
    }

    /// An empty list of keys lets nobody in: then nothing listens.
    fn ssh(&mut self, written: written::Ssh, api: u16) -> Option<Ssh> {
        let port = written.port.map_or(SSH_PORT, |port| {
            if matches!(port.get_ref(), 0 | 80 | 3260) || *port.get_ref() == api {
                self.fault(port.span(), "SSH needs a port of its own: take this line out, and it is 22");
            }
            port.into_inner()
        });
        let mut keys: Vec<SshKey> = Vec::new();
        for key in written.keys {
            match key.get_ref().parse::<SshKey>() {
                Ok(new) if keys.iter().any(|other| other.is_same(&new)) => {
                    self.fault(key.span(), "this key is in the list already: take it out here");
                }
                Ok(new) => keys.push(new),
                Err(e) => self.fault(key.span(), e.to_string()),
            }
        }
        (!keys.is_empty()).then_some(Ssh { keys, port })
    }
}
