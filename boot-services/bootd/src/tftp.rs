//! The TFTP hand: sockets, files and timers around `tftp::Server` and `tftp::Transfer`.
//!
//! Each transfer is a task with a socket of its own, connected to its client: what comes from another port
//! never reaches it (RFC 1350, 4). It sends from the address that the request came to, so a plan should
//! name the address and not listen on all of them.

use crate::{
    clock::Clock,
    desk::{self, Door, FactSender, Served},
    notify,
};
use ::tftp::{Event, Request, Server, Transfer, TransferId, Verdict};
use anyhow::{Context as _, Result};
use boot::{Device, TftpFact, TftpListen, TftpPlan};
use nix::net::if_::if_nametoindex;
use sansio::Time;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, ErrorKind},
    net::SocketAddr,
    os::unix::fs::FileExt as _,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::UdpSocket,
    sync::mpsc,
    task::{JoinHandle, JoinSet},
};

const FIRST_RETRY: Duration = Duration::from_secs(1);
/// How often a missing socket is tried again, and an open one compared with its interface.
const RETRY: Duration = Duration::from_secs(5);
/// The most requests that wait to be decided.
const ARRIVALS: usize = 256;
/// More than the longest packet of a client: requests are 512 octets at most, acknowledgements four.
const LONGEST: usize = 2048;

struct Arrival {
    socket: Arc<UdpSocket>,
    device: Option<Device>,
    peer: SocketAddr,
    bytes: Vec<u8>,
}

/// One socket of the plan.
struct Slot {
    listen: TftpListen,
    open: Option<Open>,
    check: Time,
    told: Option<Option<String>>,
}

struct Open {
    index: Option<u32>,
    reader: JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

struct Hand {
    clock: Clock,
    server: Server,
    slots: BTreeMap<String, Slot>,
    facts: FactSender<TftpFact>,
    arrivals: mpsc::Sender<Arrival>,
    transfers: JoinSet<TransferId>,
}

/// Serves until it is dropped.
///
/// # Errors
/// The desk cannot be opened.
pub async fn run(door: Door) -> Result<()> {
    let Served { mut plans, facts, task: _desk } = desk::serve::<TftpPlan, TftpFact>(door)?;
    let (arrivals, mut arrived) = mpsc::channel(ARRIVALS);
    let mut hand = Hand {
        clock: Clock::start(),
        server: Server::new(),
        slots: BTreeMap::new(),
        facts,
        arrivals,
        transfers: JoinSet::new(),
    };
    let plan = plans.borrow_and_update().clone();
    if let Some(plan) = plan {
        hand.take(&plan).await;
    }
    notify::ready();
    loop {
        let check = hand.slots.values().map(|slot| slot.check).min();
        tokio::select! {
            changed = plans.changed() => {
                changed.context("the desk is gone")?;
                let plan = plans.borrow_and_update().clone();
                if let Some(plan) = plan {
                    hand.take(&plan).await;
                }
            }
            Some(arrival) = arrived.recv() => hand.asked(arrival).await,
            Some(ended) = hand.transfers.join_next() => {
                hand.server.handle_ended(ended.context("a transfer broke")?);
            }
            () = hand.clock.until(check) => hand.check().await,
        }
    }
}

impl Hand {
    async fn take(&mut self, plan: &TftpPlan) {
        self.server.handle_plan(plan);
        let gone: Vec<String> = self
            .slots
            .iter()
            .filter(|(_, slot)| !plan.listen.contains(&slot.listen))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.slots.remove(&key);
            self.facts.forget(key).await;
        }
        for listen in &plan.listen {
            let key = format!("listen/{}", listen.address);
            if !self.slots.contains_key(&key) {
                let check = self.clock.now();
                self.slots
                    .insert(key.clone(), Slot { listen: listen.clone(), open: None, check, told: None });
                self.open(&key, FIRST_RETRY).await;
            }
        }
    }

    async fn check(&mut self) {
        let now = self.clock.now();
        let due: Vec<String> =
            self.slots.iter().filter(|(_, slot)| slot.check <= now).map(|(key, _)| key.clone()).collect();
        for key in due {
            self.open(&key, RETRY).await;
        }
    }

    /// Opens a socket that is not, or whose interface is another one by now.
    async fn open(&mut self, key: &str, again: Duration) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let device = slot.listen.device.as_ref();
        let index = device.and_then(|device| if_nametoindex(device.as_str()).ok());
        slot.open = slot.open.take().filter(|open| open.index == index && !open.reader.is_finished());
        let mut trouble = None;
        if slot.open.is_none() {
            match socket(slot.listen.address, device) {
                Ok(socket) => {
                    let reader = read(Arc::new(socket), slot.listen.device.clone(), self.arrivals.clone());
                    slot.open = Some(Open { index, reader: tokio::spawn(reader) });
                    log::info!(target: "tftp", address:% = slot.listen.address; "listening");
                }
                Err(error) => trouble = Some(advice(&slot.listen, &error)),
            }
        }
        slot.check = self.clock.now() + if trouble.is_some() { again } else { RETRY };
        if slot.told.as_ref() != Some(&trouble) {
            if let Some(trouble) = &trouble {
                log::warn!(target: "tftp", trouble:% = trouble; "not listening");
            }
            slot.told = Some(trouble.clone());
            let fact = TftpFact::Listen { address: slot.listen.address, trouble };
            self.facts.tell(key, fact).await;
        }
    }

    async fn asked(&mut self, arrival: Arrival) {
        let Arrival { socket, device, peer, bytes } = arrival;
        match self.server.handle_request(peer, &bytes) {
            Verdict::Ignore => {}
            Verdict::Refuse { packet, missing } => {
                // As good as lost on the way: the client asks again.
                let _ = socket.try_send_to(&packet, peer);
                if let Some(name) = missing {
                    log::info!(target: "tftp", peer:% = peer, name:% = name; "no such file in the plan");
                    let key = format!("{}/{name}", peer.ip());
                    let ended = Some("no such file in the plan".to_owned());
                    self.facts.tell(key, TftpFact::Transfer { peer, name, sent: 0, size: None, ended }).await;
                }
            }
            Verdict::Begin { id, name, path, request } => {
                let Ok(local) = socket.local_addr() else { return self.server.handle_ended(id) };
                let job = Job {
                    local,
                    device,
                    peer,
                    name,
                    path,
                    request,
                    clock: self.clock,
                    facts: self.facts.clone(),
                };
                self.transfers.spawn(async move {
                    job.run().await;
                    id
                });
            }
        }
    }
}

fn advice(listen: &TftpListen, error: &io::Error) -> String {
    let address = listen.address;
    match error.kind() {
        ErrorKind::PermissionDenied => {
            format!("may not listen on {address}: give bootd CAP_NET_BIND_SERVICE")
        }
        ErrorKind::AddrInUse => format!("{address} is taken: stop the other TFTP server"),
        ErrorKind::AddrNotAvailable => {
            format!("no interface has the address of {address}: ip address add it")
        }
        _ => match &listen.device {
            Some(device) => format!("cannot listen on {address} of {device}: {error}"),
            None => format!("cannot listen on {address}: {error}"),
        },
    }
}

fn socket(address: SocketAddr, device: Option<&Device>) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if let Some(device) = device {
        socket.bind_device(Some(device.as_str().as_bytes()))?;
    }
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

async fn read(socket: Arc<UdpSocket>, device: Option<Device>, arrivals: mpsc::Sender<Arrival>) {
    let mut bytes = [0; LONGEST];
    loop {
        // After an error the socket is opened afresh at the next check.
        let Ok((length, peer)) = socket.recv_from(&mut bytes).await else { return };
        let arrival = Arrival {
            socket: Arc::clone(&socket),
            device: device.clone(),
            peer,
            bytes: bytes[..length].to_vec(),
        };
        if arrivals.send(arrival).await.is_err() {
            return;
        }
    }
}

/// What one transfer needs.
struct Job {
    local: SocketAddr,
    device: Option<Device>,
    peer: SocketAddr,
    name: String,
    path: String,
    request: Request,
    clock: Clock,
    facts: FactSender<TftpFact>,
}

impl Job {
    async fn run(self) {
        let (sent, size, ended) = match self.prepare().await {
            Ok((socket, file, size)) => {
                let (sent, ended) = self.transfer(&socket, &file, size).await;
                (sent, Some(size), ended)
            }
            Err(error) => {
                log::error!(target: "tftp", file:% = self.path, error:% = format!("{error:#}"); "file not served");
                (0, None, format!("{error:#}"))
            }
        };
        log::info!(target: "tftp", peer:% = self.peer, name:% = self.name, sent = sent, ended:% = ended; "transfer ended");
        self.tell(sent, size, Some(ended)).await;
    }

    async fn prepare(&self) -> Result<(UdpSocket, File, u64)> {
        let socket = socket(SocketAddr::new(self.local.ip(), 0), self.device.as_ref())
            .context("cannot open a socket")?;
        socket.connect(self.peer).await.context("cannot reach the client")?;
        let opened = File::open(&self.path).and_then(|file| {
            let size = file.metadata()?.len();
            Ok((file, size))
        });
        if opened.is_err() {
            // As good as lost on the way: the client asks again.
            let _ = socket.send(&::tftp::error(0, "the file cannot be opened")).await;
        }
        let (file, size) = opened.with_context(|| format!("cannot open {}", self.path))?;
        Ok((socket, file, size))
    }

    async fn tell(&self, sent: u64, size: Option<u64>, ended: Option<String>) {
        let fact = TftpFact::Transfer { peer: self.peer, name: self.name.clone(), sent, size, ended };
        self.facts.tell(format!("{}/{}", self.peer.ip(), self.name), fact).await;
    }

    async fn transfer(&self, socket: &UdpSocket, file: &File, size: u64) -> (u64, String) {
        let mut transfer = Transfer::new(&self.request, size, self.clock.now());
        let mut bytes = [0; LONGEST];
        self.tell(0, Some(size), None).await;
        loop {
            while let Some(read) = transfer.poll_read() {
                // Boot files are small and stay in the page cache: no thread of its own for this.
                let mut octets = vec![0; read.length];
                match file.read_at(&mut octets, read.offset) {
                    Ok(length) => transfer.handle_read(&octets[..length], self.clock.now()),
                    Err(error) => transfer.handle_read_failed(&format!("cannot read {}: {error}", self.path)),
                }
            }
            while let Some(packet) = transfer.poll_transmit() {
                // What cannot be sent is as good as lost on the way, and sent again.
                let _ = socket.send(&packet).await;
            }
            while let Some(event) = transfer.poll_event() {
                match event {
                    Event::Progress(sent) => self.tell(sent, Some(size), None).await,
                    Event::Done(sent) => return (sent, "done".to_owned()),
                    Event::Failed(sent, why) => return (sent, why),
                }
            }
            tokio::select! {
                read = socket.recv(&mut bytes) => match read {
                    Ok(length) => transfer.handle_datagram(&bytes[..length], self.clock.now()),
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => transfer.handle_refused(),
                    Err(_) => {}
                },
                () = self.clock.until(transfer.poll_timeout()) => transfer.handle_timeout(self.clock.now()),
            }
        }
    }
}
