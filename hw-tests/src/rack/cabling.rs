//! The rack's cables: namespaces, and the interfaces between them.
//!
//! ```text
//!   kPID-kiln        kPID-sw                                   kPID-t1
//!   prov ─────────── kiln-100 ┐
//!   tenant-1 ─────── kiln-201 ┤                ┌ host-201 ──── eth0    another machine of the tenant
//!   tenant-2 ─────── kiln-202 ┼─ Open vSwitch ─┤
//!   quarantine ───── kiln-666 ┤   access ports └ node1, node2          TAPs, their machines beside them
//!   storage ──────── kiln-300 ┘                  node1-b, node2-b      their second NICs, where there are
//!   oob ──────────── kiln-oob ── oob: the switch's management address and every BMC's
//! ```
//!
//! An appliance that is a machine has three cables instead; who drives it is in kPID-kiln, on its uplink:
//!
//! ```text
//!   kPID-kiln        kPID-sw
//!   uplink ───────── operator ── uplink ── kiln-uplink        TAPs, the appliance beside them
//!                                    oob ── kiln-oob
//!                           Open vSwitch ── kiln-trunk        tagged, every network's VLAN
//! ```

use super::{
    description::{Description, Network, Purpose},
    footprint::Footprint,
    namespace::{Namespace, feed},
    openvswitch::Mode,
};
use anyhow::{Context as _, Result, bail, ensure};
use std::{fmt::Write as _, net::Ipv4Addr, process::Command};

const STRONG_HOST: &str = include_str!("../../../rootfs/etc/nftables.conf");
/// The data switch has no kernel module: each port is also an interface of the kernel's, which would answer
/// ARP on it for every address it has.
const SWITCH_ONLY: &str = "\
table netdev switch {
	chain ports {
		type filter hook ingress devices = { PORTS } priority filter
		policy drop
	}
}
";

/// The appliance's place in the rack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    /// A namespace with one interface per network.
    Namespace,
    /// A machine with an uplink, an OOB port and a trunk.
    Machine,
}

/// The TAPs of an appliance that is a machine: uplink, OOB, trunk.
pub(super) const MACHINE_PORTS: [&str; 3] = ["kiln-uplink", "kiln-oob", "kiln-trunk"];
/// Who drives the machine, and the machine, on its uplink: TEST-NET-1 (RFC 5737).
pub const OPERATOR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// An appliance that is a machine, on its uplink.
pub const UPLINK: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// The namespaces of a rack, joined.
#[derive(Debug)]
pub(super) struct Cabling {
    pub(super) switch: Namespace,
    pub(super) kiln: Namespace,
    pub(super) tenants: Vec<(Network, Namespace)>,
    /// The data switch's ports and what each is at first.
    pub(super) ports: Vec<(String, Mode)>,
}

impl Cabling {
    pub(super) fn lay(footprint: &Footprint, description: &Description, seat: Seat) -> Result<Cabling> {
        let [data_switch] = description.switches.as_slice() else {
            bail!("a virtual rack has one switch, not {}", description.switches.len())
        };
        let oob = description.networks_for(Purpose::Oob).next().context("the rack has no network for oob")?;
        let quarantine = description.networks_for(Purpose::Quarantine).next();
        let quarantine = quarantine.and_then(|q| q.vlan).context("the rack has no network for quarantine")?;

        let switch = footprint.namespace("sw")?;
        let kiln = footprint.namespace("kiln")?;
        prepare(&kiln)?;
        // Nothing of the kernel's own may be heard on a switch's ports.
        for scope in ["all", "default"] {
            switch.set(&format!("net/ipv6/conf/{scope}/disable_ipv6"), "1")?;
        }
        feed(Command::new("ip").args(["netns", "exec", kiln.name(), "nft", "-f", "-"]), STRONG_HOST)?;

        let mut lines = "link add oob type bridge\nlink set oob up\n".to_owned();
        let mut beside_oob = vec![*data_switch.address.ip()];
        beside_oob.extend(description.nodes.iter().map(|node| node.bmc.address));
        for address in beside_oob {
            ensure!(
                oob.subnet.contains(address),
                "{address} is not on the network {} ({})",
                oob.name,
                oob.subnet
            );
            writeln!(lines, "addr add {address}/{} dev oob", oob.subnet.length)?;
        }
        let mut ports = Vec::new();
        let mut wires = match seat {
            Seat::Namespace => legs(description, oob, &kiln, &mut ports)?,
            Seat::Machine => {
                let vlans = description.networks.iter().filter_map(|network| network.vlan).collect();
                ports.push((MACHINE_PORTS[2].to_owned(), Mode::Trunk(vlans)));
                lines.push_str("link add uplink type bridge\nlink set uplink up\n");
                for tap in MACHINE_PORTS {
                    writeln!(lines, "tuntap add dev {tap} mode tap\nlink set {tap} up")?;
                }
                lines.push_str("link set kiln-uplink master uplink\n");
                vec![Wire { port: "operator".to_owned(), inside: kiln.clone(), as_: "uplink".to_owned() }]
            }
        };
        let mut tenants = Vec::new();
        for (network, number) in description.networks_for(Purpose::Tenant).zip(1..) {
            let namespace = footprint.namespace(&format!("t{number}"))?;
            prepare(&namespace)?;
            let vlan = network.vlan.context("a tenant's network without a VLAN")?;
            let port = format!("host-{vlan}");
            wires.push(Wire { port: port.clone(), inside: namespace.clone(), as_: "eth0".to_owned() });
            ports.push((port, Mode::Access(vlan)));
            tenants.push((network.clone(), namespace));
        }
        for Wire { port, inside, as_ } in &wires {
            writeln!(lines, "link add {port} type veth peer name {as_} netns {}", inside.name())?;
            writeln!(lines, "link set {port} up")?;
        }
        lines.push_str("link set kiln-oob master oob\n");
        if seat == Seat::Machine {
            lines.push_str("link set operator master uplink\n");
        }
        for port in description.ports() {
            let tap = &port.switch_port;
            writeln!(lines, "tuntap add dev {tap} mode tap\nlink set {tap} up")?;
            ports.push((tap.to_string(), Mode::Access(quarantine)));
        }
        switch.links(&lines).context("cannot lay the rack's cables")?;
        for wire in &wires {
            // Checksums left to a network card are never made: Open vSwitch forwards the half-made ones.
            for (namespace, interface) in [(&switch, &wire.port), (&wire.inside, &wire.as_)] {
                namespace.run(Command::new("ethtool").args(["-K", interface, "tx", "off"]))?;
            }
        }
        let names: Vec<&str> = ports.iter().map(|(port, _)| port.as_str()).collect();
        let rules = SWITCH_ONLY.replace("PORTS", &names.join(", "));
        feed(Command::new("ip").args(["netns", "exec", switch.name(), "nft", "-f", "-"]), &rules)
            .context("the kernel's own answers on the switch's ports cannot be silenced")?;

        let mut lines = String::new();
        match seat {
            Seat::Namespace => {
                for network in &description.networks {
                    writeln!(lines, "addr add {} dev {}\nlink set {1} up", network.subnet, network.name)?;
                }
            }
            Seat::Machine => writeln!(lines, "addr add {OPERATOR}/24 dev uplink\nlink set uplink up")?,
        }
        kiln.links(&lines)?;
        for (network, namespace) in &tenants {
            let address = second(network);
            namespace.links(&format!(
                "addr add {address}/{} dev eth0\nlink set eth0 up\n",
                network.subnet.length
            ))?;
        }
        Ok(Cabling { switch, kiln, tenants, ports })
    }
}

/// One cable per network for an appliance that is programs.
fn legs(
    description: &Description,
    oob: &Network,
    kiln: &Namespace,
    ports: &mut Vec<(String, Mode)>,
) -> Result<Vec<Wire>> {
    let mut wires = Vec::new();
    for network in &description.networks {
        let end = match network.vlan {
            Some(vlan) => format!("kiln-{vlan}"),
            None if network.name == oob.name => "kiln-oob".to_owned(),
            None => bail!("a virtual rack has one network for oob, not also {}", network.name),
        };
        wires.push(Wire { port: end.clone(), inside: kiln.clone(), as_: network.name.to_string() });
        ports.extend(network.vlan.map(|vlan| (end, Mode::Access(vlan))));
    }
    Ok(wires)
}

/// A veth: one end a port of the switch, the other an interface elsewhere.
struct Wire {
    port: String,
    inside: Namespace,
    as_: String,
}

/// The address of the machine that a tenant's network has beside the appliance: the one after the
/// appliance's.
pub(super) fn second(network: &Network) -> Ipv4Addr {
    Ipv4Addr::from_bits(network.subnet.address.to_bits() + 1)
}

fn prepare(namespace: &Namespace) -> Result<()> {
    // RFC 4862, 5.4: without duplicate address detection a link-local address is usable at once.
    for scope in ["all", "default"] {
        namespace.set(&format!("net/ipv6/conf/{scope}/accept_dad"), "0")?;
        namespace.set(&format!("net/ipv6/conf/{scope}/dad_transmits"), "0")?;
        // The strong host model for ARP: no leg answers or asks with another's address.
        namespace.set(&format!("net/ipv4/conf/{scope}/arp_ignore"), "1")?;
        namespace.set(&format!("net/ipv4/conf/{scope}/arp_announce"), "2")?;
    }
    Ok(())
}
