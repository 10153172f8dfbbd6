//! The network: every interface up, an address by DHCP where the appliance may be.

use crate::{
    board::Board,
    clock, inventory,
    lease::{Client, Event},
    link::{Monitor, Routing},
};
use agent_proto::Nic;
use boot::Mac;
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher, RandomState},
    io,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    sync::Arc,
    thread,
    time::Duration,
};

const SERVER: u16 = 67;
const CLIENT: u16 = 68;
/// The interface that booted has so long to get an address before the others are asked too.
const PATIENCE: Duration = Duration::from_secs(10);
/// An interface that does not say whether it is operational is taken to be after so long.
const UNKNOWN: Duration = Duration::from_secs(1);
/// The longest wait for news of interfaces.
const LOOK: Duration = Duration::from_secs(30);

/// Which interfaces ask for an address: the one that booted, and the others when it has none after
/// [`PATIENCE`]. A second network is not asked without need: it may be a tenant's.
fn may_ask(nic: &Nic, bootif: Option<Mac>, waited: Duration, leases: u64) -> bool {
    let is_first = bootif.is_none_or(|mac| mac == nic.mac);
    nic.carrier && (is_first || (leases == 0 && waited >= PATIENCE))
}

/// Whether what is sent on an interface that is up for so long goes out.
fn can_send(operational_state: &str, up: Duration) -> bool {
    operational_state == "up" || (operational_state == "unknown" && up >= UNKNOWN)
}

/// Looks after the interfaces, for ever.
pub(crate) fn run(board: &Arc<Board>, bootif: Option<Mac>) -> ! {
    let monitor = open("news of interfaces", Monitor::open);
    let mut routing = open("routing", Routing::open);
    let began = clock::now();
    let (mut up, mut asking, mut warned) = (BTreeMap::new(), BTreeSet::new(), false);
    loop {
        let nics = inventory::nics();
        let waited = clock::now().since(began);
        let mut look = if waited < PATIENCE { PATIENCE - waited } else { LOOK };
        for nic in &nics {
            let Ok(index) = if_nametoindex(nic.name.as_str()) else { continue };
            let up_for = match up.get(&index) {
                Some(since) => clock::now().since(*since),
                None => {
                    match routing.set_up(index) {
                        Ok(()) => {
                            log::info!(interface = nic.name, mac:% = nic.mac, driver = nic.driver; "interface up");
                        }
                        Err(e) => log::warn!(interface = nic.name, error = e.desc(); "interface stays down"),
                    }
                    up.insert(index, clock::now());
                    Duration::ZERO
                }
            };
            if !may_ask(nic, bootif, waited, board.leases()) || asking.contains(&index) {
                continue;
            }
            if !can_send(&inventory::operational_state(&nic.name), up_for) {
                look = look.min(UNKNOWN);
                continue;
            }
            asking.insert(index);
            let (board, nic) = (Arc::clone(board), nic.clone());
            thread::spawn(move || keep(&board, &nic, index));
        }
        if waited >= PATIENCE && !warned && board.leases() == 0 {
            warned = true;
            let dark: Vec<&str> =
                nics.iter().filter(|nic| !nic.carrier).map(|nic| nic.name.as_str()).collect();
            let interfaces = nics.len();
            log::warn!(interfaces, without_carrier = dark.join(","); "no address yet; look at the cable, the switch port's VLAN and the DHCP hand");
        }
        board.set_inventory(inventory::look());
        monitor.wait(look);
    }
}

/// Without these sockets PID 1 has nothing to do: the panic hook says so and boots again.
fn open<T>(what: &str, open: fn() -> nix::Result<T>) -> T {
    open().unwrap_or_else(|e| panic!("{what}: {e}; the kernel needs CONFIG_NET and netlink"))
}

/// Keeps an address on one interface, for ever.
fn keep(board: &Board, nic: &Nic, index: u32) {
    let began = clock::now();
    let mut client = Client::new(nic.mac, seed(nic.mac), began);
    let socket = match socket(&nic.name) {
        Ok(socket) => socket,
        Err(e) => return log::error!(interface = nic.name, error:% = e; "no DHCP socket"),
    };
    let mut routing = open("routing", Routing::open);
    let mut buffer = [0; 2048];
    loop {
        let now = clock::now();
        while let Some(transmit) = client.poll_transmit(now) {
            // It is sent again, if it was not: the client's own timers see to that.
            if let Err(e) = socket.send_to(&transmit.octets, (transmit.to, SERVER)) {
                log::debug!(interface = nic.name, error:% = e; "not sent");
            }
        }
        while let Some(event) = client.poll_event() {
            if let Err(e) = apply(&mut routing, index, &event) {
                log::error!(interface = nic.name, error = e.desc(), event:?; "interface not configured");
            }
            match event {
                Event::Bound(lease) => {
                    let millis = now.since(began).as_millis() as u64;
                    log::info!(interface = nic.name, address:% = lease.address, server:% = lease.server, millis; "lease got");
                    board.lease();
                    board.set_inventory(inventory::look());
                }
                Event::Lost(lease) => {
                    log::warn!(interface = nic.name, address:% = lease.address; "lease lost")
                }
            }
        }
        // Zero would mean for ever.
        let wait = client.poll_timeout().since(clock::now()).max(Duration::from_millis(1));
        if socket.set_read_timeout(Some(wait.min(LOOK))).is_err() {
            continue;
        }
        if let Ok((length, from)) = socket.recv_from(&mut buffer)
            && from.port() == SERVER
        {
            client.handle_datagram(clock::now(), &buffer[..length]);
        }
    }
}

fn apply(routing: &mut Routing, index: u32, event: &Event) -> nix::Result<()> {
    match event {
        Event::Lost(lease) => routing.remove_address(index, lease.address),
        Event::Bound(lease) => {
            routing.add_address(index, lease.address)?;
            if let Some(mtu) = lease.mtu {
                routing.set_mtu(index, mtu)?;
            }
            // A router outside of our network could not be reached; it is of no use to us.
            match lease.router.filter(|router| lease.address.contains(*router)) {
                Some(router) => routing.add_default_route(index, router),
                None => Ok(()),
            }
        }
    }
}

fn socket(interface: &str) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_broadcast(true)?;
    socket.bind_device(Some(interface.as_bytes()))?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT).into())?;
    Ok(socket.into())
}

/// A number that other machines do not have. `/dev/urandom` would let us wait for entropy, a second or
/// more on a machine that has just started; what a hash map is seeded with does not.
fn seed(mac: Mac) -> u32 {
    RandomState::new().hash_one(mac.0) as u32
}

#[cfg(test)]
mod tests;
