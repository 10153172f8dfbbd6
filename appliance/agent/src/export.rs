//! Exporting a disk by iSCSI, so that the appliance can put an image on it.
//!
//! One target with one logical unit, for one initiator that proves itself and to whom we prove ourselves,
//! on the address by which the appliance is reached and on the interface that has it. Nothing listens
//! before the job or after it.

mod connection;
mod medium;

use crate::{clock, device::Device, source::Halt};
use agent_proto::{Disk, Export, Exported, FailureKind};
use boot::IscsiChap;
use connection::{Bell, Driver};
use iscsi::{
    chap::{Chap, Credentials, Nonce, Secret},
    target::{Access, Alarm, Auth, Connection, Event, Limits, Link, Targets, Unit, Who},
};
use medium::Medium;
use nix::ifaddrs::getifaddrs;
use sansio::Time;
use scsi::{BlockSize, Designator, Geometry, Identity, LogicalUnit};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    convert::Infallible,
    fs::File,
    io::{self, Read},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

/// Connections at a time: the initiator's, the one it makes when it thinks that one dead, and somebody's
/// who is about to be refused. Each takes some 2 MiB.
const CONNECTIONS: usize = 4;
/// How often it is looked whether sessions came or went.
const LOOK: Duration = Duration::from_millis(200);
/// A port that is still in use by who had it before gets so long to become free.
const BUSY: Duration = Duration::from_secs(5);

/// A disk to be exported.
pub(crate) struct Exporting<'a> {
    pub(crate) export: &'a Export,
    /// Where the appliance is reached.
    pub(crate) appliance: SocketAddr,
    pub(crate) disk: &'a Disk,
    pub(crate) device: &'a dyn Device,
    /// Is told how it stands.
    pub(crate) told: &'a (dyn Fn(Exported) + Sync),
    /// Waits until it is to stop, or for so long; whether it is to stop.
    pub(crate) wait: &'a (dyn Fn(Time) -> bool + Sync),
}

/// The connections there are, by what ends them.
#[derive(Default)]
struct Guests {
    bells: Mutex<Vec<(u64, Arc<Bell>)>>,
    sessions: AtomicU32,
    over: AtomicBool,
}

/// Exports until it is told to stop.
pub(crate) fn run(exporting: &Exporting<'_>) -> Result<Infallible, Halt> {
    let Exporting { export, disk, device, .. } = exporting;
    let medium = Medium::new(*device);
    let targets = targets(exporting)?;
    let (listener, address) = listen(exporting)?;
    log::info!(disk = disk.name, address:%, target:% = export.target, initiator:% = export.initiator; "disk exported");
    let guests = Guests::default();
    thread::scope(|scope| {
        let (serving, waiting) = (&guests, &listener);
        let (targets, medium) = (&targets, &medium);
        scope.spawn(move || {
            let mut number = 0;
            while let Ok((socket, peer)) = waiting.accept() {
                if serving.over.load(Relaxed) {
                    return;
                }
                let stream = TcpStream::from(socket);
                let Some(peer) = peer.as_socket() else { continue };
                number += 1;
                match Guest::enter(serving, number, &stream) {
                    Ok(Some(guest)) => {
                        let link = Link { peer, portal: address };
                        scope.spawn(move || guest.serve(stream, targets, link, medium));
                    }
                    Ok(None) => log::warn!(peer:%; "too many connections; this one is closed"),
                    Err(e) => log::warn!(peer:%, error:% = e; "connection cannot be served"),
                }
            }
        });
        let mut told = None;
        loop {
            let sessions = guests.sessions.load(Relaxed);
            if told != Some(sessions) {
                told = Some(sessions);
                let exported =
                    Exported { disk: disk.name.clone(), size: device.size(), port: address.port(), sessions };
                (exporting.told)(exported);
            }
            if (exporting.wait)(clock::now() + LOOK) {
                break;
            }
        }
        guests.leave();
        // Ends the waiting for connections.
        let _ = listener.shutdown(std::net::Shutdown::Both);
    });
    device.flush().map_err(|e| crate::write::fault(*device, "flushing", 0..device.size(), &e))?;
    log::info!(disk = disk.name; "disk exported no more");
    Err(Halt::Stopped)
}

impl Guests {
    /// Ends all connections; none is taken any more.
    fn leave(&self) {
        self.over.store(true, Relaxed);
        for (_, bell) in self.bells.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            bell.cut();
        }
    }
}

/// A connection that is counted for as long as it lives.
struct Guest<'a> {
    guests: &'a Guests,
    number: u64,
    bell: Arc<Bell>,
    heard: Option<std::os::unix::net::UnixStream>,
}

impl<'a> Guest<'a> {
    fn enter(guests: &'a Guests, number: u64, stream: &TcpStream) -> io::Result<Option<Guest<'a>>> {
        let (bell, heard) = Bell::new(stream)?;
        let bell = Arc::new(bell);
        let mut bells = guests.bells.lock().unwrap_or_else(PoisonError::into_inner);
        if bells.len() >= CONNECTIONS || guests.over.load(Relaxed) {
            return Ok(None);
        }
        bells.push((number, Arc::clone(&bell)));
        Ok(Some(Guest { guests, number, bell, heard: Some(heard) }))
    }

    fn serve(mut self, stream: TcpStream, targets: &Targets<()>, link: Link, medium: &Medium<'_>) {
        let peer = link.peer;
        let ready = self.heard.take().map(|heard| Driver::new(stream, heard, medium)).zip(Some(nonce()));
        let (driver, nonce) = match ready {
            Some((Ok(driver), Ok(nonce))) => (driver, nonce),
            Some((Err(e), _) | (_, Err(e))) => {
                return log::warn!(peer:%, error:% = e; "connection cannot be served");
            }
            None => return,
        };
        let alarm = Arc::clone(&self.bell) as Arc<dyn Alarm>;
        let connection = Connection::new(targets, link, alarm, nonce, clock::now());
        let logged_in = std::cell::Cell::new(false);
        driver.run(connection, &|event| match event {
            Event::LoggedIn(session) => {
                log::info!(peer:%, initiator = session.initiator; "initiator logged in");
                logged_in.set(true);
                self.guests.sessions.fetch_add(1, Relaxed);
            }
            Event::Closed(closed) => {
                let initiator = closed.initiator.unwrap_or_default();
                log::info!(peer:%, initiator, why:% = closed.why; "connection over");
            }
        });
        if logged_in.get() {
            self.guests.sessions.fetch_sub(1, Relaxed);
        }
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        let mut bells = self.guests.bells.lock().unwrap_or_else(PoisonError::into_inner);
        bells.retain(|(number, _)| *number != self.number);
    }
}

fn bad(text: String) -> Halt {
    Halt::failed(FailureKind::BadOrder, text)
}

/// The one target, with the disk as its only logical unit.
fn targets(exporting: &Exporting<'_>) -> Result<Targets<()>, Halt> {
    let Exporting { export, disk, device, .. } = exporting;
    let block = match device.block() {
        512 => BlockSize::B512,
        4096 => BlockSize::B4096,
        other => return Err(bad(format!("disk {} has blocks of {other} octets; take another", disk.name))),
    };
    let geometry = Geometry::new(device.size() / device.block(), block)
        .map_err(|e| bad(format!("disk {}: {e}", disk.name)))?;
    let serial = [&disk.serial, &disk.wwn, &disk.name].into_iter().find(|text| !text.is_empty());
    let serial = serial.cloned().unwrap_or_default();
    let name = image::digest(format!("{}\0{}\0{}", disk.model, disk.wwn, serial).as_bytes()).0;
    let identity = Identity {
        product: "DEPLOY DISK".to_owned(),
        revision: "1".to_owned(),
        serial,
        designators: vec![Designator::local(u64::from_be_bytes(
            name.first_chunk().copied().unwrap_or_default(),
        ))],
        target: export.target.to_string(),
        portal_group: 1,
    };
    // Thin: zeros need not be sent to it, and it says where it has none but zeros.
    let logical = LogicalUnit::new(identity, geometry.thin());
    let lun = scsi::Lun::new(export.lun)
        .ok_or_else(|| bad(format!("{} is no logical unit number; 0 to 255 are", export.lun)))?;
    let targets = Targets::new(Limits::default());
    targets.set(Access {
        name: export.target.to_string(),
        initiators: Who::Named(vec![export.initiator.to_string()]),
        networks: Vec::new(),
        portals: Vec::new(),
        auth: Auth::Chap(chap(&export.chap)?),
        luns: vec![(lun, Unit::new(logical, ()))],
    });
    Ok(targets)
}

/// Both ends prove themselves, or nothing is exported.
fn chap(chap: &IscsiChap) -> Result<Chap, Halt> {
    let unfit = |e: iscsi::chap::Unfit| bad(format!("the order's CHAP: {e}"));
    let credentials = |user: &str, secret: &boot::Secret| -> Result<Credentials, Halt> {
        let secret = Secret::new(secret.expose()).map_err(unfit)?;
        Ok(Credentials { user: user.to_owned(), secret })
    };
    let ours = chap.target_secret.as_ref().ok_or_else(|| {
        bad("the order has no secret for the target to prove itself with; deploy again".to_owned())
    })?;
    Chap::new(credentials(&chap.user, &chap.secret)?, Some(credentials(&chap.target_user, ours)?))
        .map_err(unfit)
}

fn nonce() -> io::Result<Nonce> {
    let mut octets = [0; 33];
    File::open("/dev/urandom")?.read_exact(&mut octets)?;
    Ok(Nonce(octets))
}

/// Listens where the appliance reaches us, and nowhere else.
fn listen(exporting: &Exporting<'_>) -> Result<(Socket, SocketAddr), Halt> {
    let address = own_address(exporting.appliance).map_err(|e| {
        bad(format!("no address by which the appliance at {} is reached: {e}", exporting.appliance))
    })?;
    let wanted = SocketAddr::new(address, exporting.export.port);
    let until = clock::now() + BUSY;
    loop {
        match open(wanted) {
            Ok(listening) => return Ok(listening),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse && clock::now() < until => {
                if (exporting.wait)(clock::now() + LOOK) {
                    return Err(Halt::Stopped);
                }
            }
            Err(e) => return Err(bad(format!("cannot listen on {wanted}: {e}; order another port"))),
        }
    }
}

fn open(wanted: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(wanted), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // An address alone would be answered on every interface.
    if let Some(interface) = interface(wanted.ip()) {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    socket.bind(&wanted.into())?;
    socket.listen(CONNECTIONS as i32)?;
    let address = socket.local_addr()?.as_socket().unwrap_or(wanted);
    Ok((socket, address))
}

/// The address from which the kernel would send to `peer`; nothing is sent.
fn own_address(peer: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if peer.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(peer)?;
    Ok(socket.local_addr()?.ip())
}

/// The interface that has an address.
fn interface(address: IpAddr) -> Option<String> {
    getifaddrs().ok()?.find_map(|entry| {
        let storage = entry.address?;
        let v4 = storage.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        let found = v4.or_else(|| storage.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())));
        (found == Some(address)).then_some(entry.interface_name)
    })
}
