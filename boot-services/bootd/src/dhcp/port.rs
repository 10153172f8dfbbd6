//! The two sockets of a network.

use super::{Arrival, Heard};
use boot::{Device, Mac};
use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags, sys::socket::bind};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use std::{
    io::{self, ErrorKind, Read as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4},
    os::fd::AsRawFd as _,
    sync::Arc,
};
use tokio::{net::UdpSocket, sync::mpsc, task::JoinHandle};

/// All protocols, in network order, as packet(7) wants it.
const ETH_P_ALL: i32 = 0x0003_u16.to_be() as i32;
const LONGEST: usize = 2048;
/// A burst of a rack's machines at power-on.
const RECEIVE_BUFFER: usize = 1 << 20;

/// The open sockets of one network, and the task that listens to them.
#[derive(Debug)]
pub(super) struct Port {
    /// The interface's own.
    pub(super) mac: Mac,
    // The same sockets as the reader's. The runtime's own would send nothing before its first round.
    udp: Socket,
    packets: Socket,
    reader: JoinHandle<()>,
    /// Keeps the interface's filter open for what is sent to all routers.
    _member: Option<Socket>,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Port {
    /// Opens both, and listens to them until it is dropped. The error says what is wrong and what to do.
    pub(super) fn open(
        device: &Device,
        all_routers: bool,
        network: Arc<str>,
        opened: u64,
        arrivals: mpsc::Sender<Arrival>,
    ) -> Result<Port, String> {
        let interface = interface(device)?;
        let udp = udp(device).map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => {
                format!(
                    "may not listen on port 67 of {device}: give bootd CAP_NET_BIND_SERVICE and CAP_NET_RAW"
                )
            }
            ErrorKind::AddrInUse => format!("port 67 of {device} is taken: stop the other DHCP server"),
            _ => format!("cannot listen on port 67 of {device}: {error}"),
        })?;
        let packets = packets(&interface.link).map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => {
                format!("may not open a packet socket on {device}: give bootd CAP_NET_RAW")
            }
            _ => format!("cannot open a packet socket on {device}: {error}"),
        })?;
        let member = all_routers.then(|| join_all_routers(interface.index));
        if let Some(Err(error)) = &member {
            log::info!(target: "dhcp", device:% = device, error:% = error; "router solicitations may go unheard");
        }
        let heard = listen(&udp).and_then(|udp| Ok((udp, listen(&packets)?)));
        let heard = heard.map_err(|error| format!("cannot listen on {device}: {error}"))?;
        let reader = tokio::spawn(read(heard, network, opened, arrivals));
        Ok(Port { mac: interface.mac, udp, packets, reader, _member: member.and_then(Result::ok) })
    }

    pub(super) fn send_datagram(&self, to: SocketAddrV4, payload: &[u8]) -> io::Result<()> {
        self.udp.send_to(payload, &SocketAddr::V4(to).into()).map(drop)
    }

    pub(super) fn send_frame(&self, frame: &[u8]) -> io::Result<()> {
        self.packets.send(frame).map(drop)
    }
}

/// Whether the interface has that address now.
pub(super) fn has_address(device: &Device, address: Ipv4Addr) -> bool {
    let mut all = getifaddrs().into_iter().flatten().filter(|entry| entry.interface_name == device.as_str());
    all.any(|entry| {
        entry.address.as_ref().and_then(|a| a.as_sockaddr_in()).is_some_and(|a| a.ip() == address)
    })
}

struct Interface {
    mac: Mac,
    index: u32,
    link: nix::sys::socket::LinkAddr,
}

fn interface(device: &Device) -> Result<Interface, String> {
    let all = getifaddrs().map_err(|error| format!("cannot list interfaces: {error}"))?;
    for entry in all.filter(|entry| entry.interface_name == device.as_str()) {
        let Some(link) = entry.address.as_ref().and_then(|address| address.as_link_addr()) else { continue };
        if !entry.flags.contains(InterfaceFlags::IFF_UP) {
            return Err(format!("{device} is down: ip link set {device} up"));
        }
        let mac = link.addr().map(Mac).filter(|mac| mac.is_station() && link.halen() == 6);
        let mac =
            mac.ok_or_else(|| format!("{device} is no Ethernet interface: give the network another device"))?;
        let index = u32::try_from(link.ifindex()).unwrap_or(0);
        return Ok(Interface { mac, index, link: *link });
    }
    Err(format!("there is no interface {device}: make it, or give the network another device"))
}

fn udp(device: &Device) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_broadcast(true)?;
    socket.bind_device(Some(device.as_str().as_bytes()))?;
    // The system may cap it; less is less, no error.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 67)).into())?;
    Ok(socket)
}

fn packets(link: &nix::sys::socket::LinkAddr) -> io::Result<Socket> {
    let mut socket = Socket::new(Domain::PACKET, Type::RAW.nonblocking(), Some(Protocol::from(ETH_P_ALL)))?;
    // Until it is bound it hears all interfaces: nothing of that may be taken for this one's.
    socket.attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)])?;
    bind(socket.as_raw_fd(), link)?;
    while socket.read(&mut [0; LONGEST]).is_ok() {}
    socket.attach_filter(&filter())?;
    Ok(socket)
}

/// The runtime's end of a socket. It has no type for packet sockets, but to its receive any datagram socket is
/// like another.
fn listen(socket: &Socket) -> io::Result<UdpSocket> {
    UdpSocket::from_std(socket.try_clone()?.into())
}

const LOAD_OCTET: u16 = 0x30;
const LOAD_HALF: u16 = 0x28;
const JUMP_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// SKF_AD_OFF of linux/filter.h; beyond it lies what the kernel knows of a packet.
const KNOWN: u32 = 0xffff_f000;
const PACKET_TYPE: u32 = KNOWN + 4;
const VLAN_TAG_PRESENT: u32 = KNOWN + 48;

/// ARP, and router solicitations; nothing that we sent, and nothing with a VLAN tag: an interface that has
/// sub-interfaces shows their packets too, and they are other networks'.
fn filter() -> [SockFilter; 13] {
    let load = |code, at| SockFilter::new(code, 0, 0, at);
    let equal = |value, then, otherwise| SockFilter::new(JUMP_EQUAL, then, otherwise, value);
    [
        load(LOAD_OCTET, PACKET_TYPE),
        equal(4, 10, 0), // PACKET_OUTGOING
        load(LOAD_OCTET, VLAN_TAG_PRESENT),
        equal(0, 0, 8),
        load(LOAD_HALF, 12),
        equal(0x0806, 5, 0),
        equal(0x86dd, 0, 5),
        load(LOAD_OCTET, 20),
        equal(58, 0, 3), // ICMPv6
        load(LOAD_OCTET, 54),
        equal(133, 0, 1), // router solicitation
        SockFilter::new(RETURN, 0, 0, 0xffff),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

fn join_all_routers(index: u32) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    socket.join_multicast_v6(&Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2), index)?;
    Ok(socket)
}

async fn read(
    (udp, packets): (UdpSocket, UdpSocket),
    network: Arc<str>,
    opened: u64,
    arrivals: mpsc::Sender<Arrival>,
) {
    let (mut datagram, mut frame) = ([0; LONGEST], [0; LONGEST]);
    loop {
        let heard = tokio::select! {
            read = udp.recv(&mut datagram) => read.map(|length| Heard::Datagram(datagram[..length].to_vec())),
            read = packets.recv(&mut frame) => read.map(|length| Heard::Frame(frame[..length].to_vec())),
        };
        let (what, last) = match heard {
            Ok(heard) => (heard, false),
            Err(error) => (Heard::Lost(error), true),
        };
        let arrival = Arrival { network: Arc::clone(&network), opened, what };
        if arrivals.send(arrival).await.is_err() || last {
            return;
        }
    }
}
