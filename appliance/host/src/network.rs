//! The network, as the configuration wants it: interfaces by rtnetlink, the uplink's lease by udhcpc.

use crate::{
    config::{Address, Config},
    console::{Waiting, say},
    did::Did,
    links::{Act, Kind, Link, Wishes, addressed, default_route},
    report::Interface,
    rtnl::{News, Rtnl},
};
use anyhow::{Context as _, Result};
use boot::Prefix;
use netlink_packet_route::RouteNetlinkMessage;
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fs,
    net::Ipv4Addr,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// Cards that are named in the configuration are awaited so long when the box comes up.
const CARDS: Duration = Duration::from_secs(10);
/// Looks at the interfaces; more are needed only by somebody who changes them meanwhile.
const LOOKS: usize = 40;
/// What is known of the uplink's lease.
pub const LEASE: &str = "/run/kiln/lease.json";
const UDHCPC: &str = "/run/kiln/udhcpc.pid";
/// `/etc/resolv.conf` is a link to it.
const RESOLV: &str = "/run/resolv.conf";

/// The appliance stands on several networks and is a way between none of them.
const SYSCTL: [(&str, &str); 11] = [
    ("net/ipv4/ip_forward", "0"),
    ("net/ipv4/conf/all/rp_filter", "1"),
    ("net/ipv4/conf/default/rp_filter", "1"),
    ("net/ipv4/conf/all/arp_ignore", "1"),
    ("net/ipv4/conf/all/arp_announce", "2"),
    ("net/ipv4/conf/all/accept_redirects", "0"),
    ("net/ipv4/conf/default/accept_redirects", "0"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
    // IPv4 only (README): nobody on a network gives the box an address of another kind.
    ("net/ipv6/conf/all/disable_ipv6", "1"),
    ("net/ipv6/conf/default/disable_ipv6", "1"),
];

/// What a DHCP server gave the uplink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The address.
    pub address: Prefix,
    /// The first router.
    pub gateway: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
}

/// Makes the network as it should be; returns what is wrong. While a card is missing, `drivers` looks for what
/// was plugged in meanwhile.
pub fn apply(config: &Config, drivers: &mut dyn FnMut()) -> Vec<String> {
    let mut troubles = match interfaces_of(config, CARDS, drivers) {
        Ok(made) => made.troubles,
        Err(e) => vec![format!("the network: {e:#}")],
    };
    match config.uplink.address {
        Address::Dhcp => ask_for_lease(&mut troubles),
        Address::Static(_) => resolve_by(&config.uplink.dns, &mut troubles),
    }
    troubles
}

/// What came of [`interfaces_of`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Whether an interface had to be touched.
    pub did: Did,
    /// What is wrong, and what to do.
    pub troubles: Vec<String>,
}

/// Makes the interfaces as they should be, with addresses and the route. Missing ones are waited for, `patience` at
/// most.
///
/// # Errors
/// When the kernel does not tell what interfaces there are.
pub fn interfaces_of(config: &Config, patience: Duration, drivers: &mut dyn FnMut()) -> Result<Made> {
    let mut troubles = Vec::new();
    let mut did = Did::Already;
    let wishes = Wishes::of(config);
    let news = News::open().context("no news of interfaces")?;
    let mut rtnl = Rtnl::open().context("no way to the kernel")?;
    let mut waiting = Waiting::new("the interfaces of the configuration", patience);
    let mut failed = BTreeSet::new();
    loop {
        for _ in 0..LOOKS {
            let links = rtnl.links().context("interfaces cannot be listed")?;
            let addresses = rtnl.addresses().context("addresses cannot be listed")?;
            let acts = wishes.acts(&links, &addresses, &failed);
            if acts.is_empty() {
                break;
            }
            for act in acts {
                match rtnl.act(&act) {
                    Ok(()) => did = Did::Changed,
                    Err(e) => {
                        troubles.push(format!("{act}: {}{}", e.desc(), hint(e)));
                        failed.insert(act);
                    }
                }
            }
        }
        let missing = wishes.missing(&rtnl.links().context("interfaces cannot be listed")?);
        if missing.is_empty() {
            break;
        }
        let Some(left) = waiting.left() else {
            troubles.extend(missing.into_iter().map(|(nic, role)| {
                format!("{MISSING} {nic}, for {role}: correct the configuration, or look at the card")
            }));
            break;
        };
        drivers();
        // A card without a driver is no news of interfaces.
        news.wait(left.min(Duration::from_secs(1)));
    }
    if let (Address::Static(_), Some(gateway)) = (config.uplink.address, config.uplink.gateway) {
        route(&mut rtnl, gateway, &mut troubles)?;
    }
    Ok(Made { did, troubles })
}

fn route(rtnl: &mut Rtnl, gateway: Ipv4Addr, troubles: &mut Vec<String>) -> Result<()> {
    let links = rtnl.links().context("interfaces cannot be listed")?;
    if let Some(uplink) = links.iter().find(|link| link.name == "uplink")
        && let Err(e) = rtnl.replace(default_route(uplink.index, gateway))
    {
        troubles.push(format!("no route by {gateway}: {}", e.desc()));
    }
    Ok(())
}

fn hint(error: Errno) -> &'static str {
    match error {
        Errno::EOPNOTSUPP => ": is its module (8021q, bonding) there?",
        _ => "",
    }
}

fn resolve_by(servers: &[Ipv4Addr], troubles: &mut Vec<String>) {
    let text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    if let Err(e) = fs::write(RESOLV, text) {
        troubles.push(format!("{RESOLV} cannot be written: {e}"));
    }
}

/// The process that asks for a lease, if it is there.
fn asker() -> Option<Pid> {
    let pid = fs::read_to_string(UDHCPC).ok()?.trim().parse().ok()?;
    Path::new("/proc").join(format!("{pid}")).exists().then(|| Pid::from_raw(pid))
}

/// Sees to it that the uplink's lease is asked for, where it has one: by a new process when `afresh`, for another knows
/// the interface by a number that is no more.
pub fn keep_asking(config: &Config, afresh: bool) {
    if config.uplink.address != Address::Dhcp || (asker().is_some() && !afresh) {
        return;
    }
    let there = Rtnl::open().and_then(|mut rtnl| rtnl.links()).unwrap_or_default();
    if !there.iter().any(|link| link.name == "uplink") {
        return;
    }
    if let Some(pid) = asker() {
        // One that has ended is what is wished.
        let _ = kill(pid, Signal::SIGKILL);
        let _ = fs::remove_file(UDHCPC);
    }
    // What came of it is told by the one that is asked for, `host bound`.
    ask_for_lease(&mut Vec::new());
}

/// Starts udhcpc, which stays and runs this program whenever its lease changes.
fn ask_for_lease(troubles: &mut Vec<String>) {
    if asker().is_some() {
        return;
    }
    let program = std::env::current_exe().unwrap_or_else(|_| "/usr/bin/host".into());
    // -b: to the background when there is no lease after 5 times 2 seconds.
    let mut udhcpc = Command::new("udhcpc");
    udhcpc.args(["-b", "-t", "5", "-T", "2", "-A", "5", "-i", "uplink", "-p", UDHCPC, "-s"]).arg(program);
    say("asks for the uplink's address by DHCP");
    match udhcpc.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(status) if status.success() => {}
        Ok(status) => troubles.push(format!("udhcpc ended: {status}")),
        Err(e) => troubles.push(format!("udhcpc cannot be run: {e}")),
    }
    if lease().is_none() {
        troubles.push(
            fs::read_to_string(REFUSAL)
                .unwrap_or_else(|_| format!("{NO_LEASE}: look at its cable, or give it an address")),
        );
    }
}

/// What the trouble begins with that an interface ends.
pub const MISSING: &str = "no interface is";
/// Why the last lease was refused; not there: it was not.
pub const REFUSAL: &str = "/run/kiln/lease.refused";
/// What the trouble begins with when a lease is refused.
pub const REFUSED: &str = "the uplink's DHCP server offers";
/// What the trouble begins with that a lease ends.
pub const NO_LEASE: &str = "no DHCP server answers on the uplink";

/// The lease that there is.
pub fn lease() -> Option<Lease> {
    serde_json::from_str(&fs::read_to_string(LEASE).ok()?).ok()
}

impl Lease {
    /// From what udhcpc tells its script.
    pub fn told(variable: impl Fn(&str) -> Option<String>) -> Option<Lease> {
        let list = |name: &str| -> Vec<Ipv4Addr> {
            variable(name)
                .unwrap_or_default()
                .split_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect()
        };
        let address =
            format!("{}/{}", variable("ip")?, variable("mask").unwrap_or("24".into())).parse().ok()?;
        Some(Lease { address, gateway: list("router").into_iter().next(), dns: list("dns") })
    }
}

/// What udhcpc has to say: a lease that is new, or that is over.
///
/// # Errors
/// The kernel's.
pub fn leased(event: &str, lease: Option<Lease>) -> Result<()> {
    let mut rtnl = Rtnl::open()?;
    let links = rtnl.links()?;
    let Some(uplink) = links.iter().find(|link| link.name == "uplink") else { return Ok(()) };
    let lease = lease.filter(|_| matches!(event, "bound" | "renew"));
    if lease.is_none() && event != "deconfig" {
        return Ok(());
    }
    let wished = lease.as_ref().map(|lease| lease.address);
    for (_, old) in rtnl.addresses()?.into_iter().filter(|(index, _)| *index == uplink.index) {
        if Some(old) != wished {
            rtnl.request(RouteNetlinkMessage::DelAddress(addressed(uplink.index, old)), 0)?;
        }
    }
    let Some(lease) = lease else {
        let _ = fs::remove_file(LEASE);
        return Ok(());
    };
    rtnl.replace(RouteNetlinkMessage::NewAddress(addressed(uplink.index, lease.address)))?;
    if let Some(gateway) = lease.gateway.filter(|gateway| lease.address.contains(*gateway)) {
        rtnl.replace(default_route(uplink.index, gateway))?;
    }
    resolve_by(&lease.dns, &mut Vec::new());
    fs::write(LEASE, serde_json::to_vec(&lease)?)?;
    Ok(())
}

/// Shuts the ways between the networks; returns what is wrong.
pub fn shut_ways() -> Vec<String> {
    let mut troubles = Vec::new();
    for (name, value) in SYSCTL {
        let path = Path::new("/proc/sys").join(name);
        // A kernel without IPv6 needs no telling.
        if path.exists()
            && let Err(e) = fs::write(&path, value)
        {
            troubles.push(format!("{} is not {value}: {e}", path.display()));
        }
    }
    let rules = "/etc/nftables.conf";
    match Command::new("nft").args(["-f", rules]).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let first = said.lines().next().unwrap_or("it says nothing");
            troubles.push(format!("{rules} is not in force: {first}"));
        }
        Err(e) => troubles.push(format!("{rules} is not in force: nft cannot be run: {e}")),
    }
    troubles
}

/// The interfaces there are, the machine's own left out.
///
/// # Errors
/// The kernel's.
pub fn interfaces() -> nix::Result<Vec<Interface>> {
    let mut rtnl = Rtnl::open()?;
    let addresses = rtnl.addresses()?;
    let of = |link: &Link| {
        let own = addresses.iter().filter(|(index, _)| *index == link.index);
        own.map(|(_, prefix)| prefix.to_string()).collect()
    };
    let links = rtnl.links()?.into_iter().filter(|link| link.kind != Kind::Loopback);
    Ok(links.map(|link| Interface { addresses: of(&link), link }).collect())
}

/// The addresses that the box has.
///
/// # Errors
/// The kernel's.
pub fn own_addresses() -> nix::Result<Vec<Ipv4Addr>> {
    Ok(Rtnl::open()?.addresses()?.into_iter().map(|(_, prefix)| prefix.address).collect())
}

/// Sets every card up, so that it is seen which has somebody at its other end.
pub fn light_up() {
    let Ok(mut rtnl) = Rtnl::open() else { return };
    for link in rtnl.links().unwrap_or_default().iter().filter(|link| !link.up) {
        // One that stays down is listed as such.
        let _ = rtnl.act(&Act::Up(link.index));
    }
}
