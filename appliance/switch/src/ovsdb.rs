//! Open vSwitch, and switches that are driven like it, by their OVSDB server (RFC 7047).
//!
//! [`codec`] parses and emits, [`Engine`] decides, and [`Ovsdb`] is the loop around it.

pub mod codec;
mod engine;
mod mirror;

pub use engine::{Engine, Event};

use crate::hand::Clock;
use crate::{Did, Error, Order, Refusal, Seen, Switch};
use core::{net::SocketAddr, str::FromStr, time::Duration};
use rack::SwitchPort;
use std::collections::BTreeMap;
use std::{io, path::PathBuf};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep_until, timeout};

/// How long a connection may take to come about.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where an OVSDB server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `IP:PORT`, with or without `tcp:` before it. A name would have to be resolved, by a server that may
    /// hang on the very switch.
    Tcp(SocketAddr),
    /// `unix:PATH`.
    Unix(PathBuf),
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Address, Error> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Address::Unix(path.into()));
        }
        let address = text.strip_prefix("tcp:").unwrap_or(text);
        address.parse().map(Address::Tcp).map_err(|_| Error::Address { text: text.to_owned() })
    }
}

/// A switch behind an OVSDB server.
#[derive(Debug)]
pub struct Ovsdb {
    address: String,
    clock: Clock,
    session: Option<Session>,
}

#[derive(Debug)]
struct Session {
    stream: Stream,
    engine: Engine,
    clock: Clock,
    /// What is being sent, and how much of it is.
    outbox: (Vec<u8>, usize),
    inbox: Vec<u8>,
    watched: Vec<SwitchPort>,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Ovsdb {
    /// A switch that is not connected yet. `address` is an [`Address`]; one that is none is told by
    /// [`connect`](Switch::connect).
    pub fn new(address: impl Into<String>) -> Ovsdb {
        Ovsdb { address: address.into(), clock: Clock::start(), session: None }
    }

    fn session(&mut self) -> Result<&mut Session, Error> {
        self.session.as_mut().ok_or(Error::Closed)
    }
}

impl Switch for Ovsdb {
    async fn connect(&mut self) -> Result<(), Error> {
        self.session = None;
        let address: Address = self.address.parse()?;
        let connecting = async {
            match &address {
                Address::Tcp(address) => {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    Ok(Stream::Tcp(stream))
                }
                Address::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
            }
        };
        let stream = match timeout(PATIENCE, connecting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(source)) => return Err(Error::Unreachable { address: self.address.clone(), source }),
            Err(_) => return Err(Error::Deaf { address: self.address.clone(), patience: PATIENCE }),
        };
        let mut session = Session {
            stream,
            engine: Engine::new(self.clock.now()),
            clock: self.clock,
            outbox: (Vec::new(), 0),
            inbox: vec![0; 64 << 10],
            watched: Vec::new(),
        };
        while !matches!(session.event().await?, Event::Ready) {}
        self.session = Some(session);
        Ok(())
    }

    async fn look(&mut self, ports: &[SwitchPort]) -> Result<Vec<Seen>, Error> {
        let session = self.session()?;
        if session.watched != ports {
            session.watched = ports.to_vec();
            session.engine.watch(ports.iter().cloned());
        }
        Ok(ports.iter().map(|port| session.engine.seen(port)).collect())
    }

    async fn set(&mut self, orders: &[Order]) -> Result<Vec<Result<Did, Refusal>>, Error> {
        let session = self.session()?;
        let now = session.clock.now();
        for order in orders {
            session.engine.set(now, order.port.clone(), order.vlan);
        }
        let mut outcomes = BTreeMap::new();
        let mut answers = 0;
        while answers < orders.len() {
            if let Event::Set { port, outcome } = session.event().await? {
                answers += 1;
                outcomes.insert(port, outcome);
            }
        }
        let outcome = |order: &Order| outcomes.get(&order.port).cloned().unwrap_or(Err(Refusal::Absent));
        Ok(orders.iter().map(outcome).collect())
    }

    async fn changed(&mut self) -> Result<(), Error> {
        let session = self.session()?;
        while !matches!(session.event().await?, Event::Changed) {}
        Ok(())
    }
}

impl Session {
    async fn event(&mut self) -> Result<Event, Error> {
        loop {
            match self.engine.poll_event() {
                Some(Event::Ended(error)) => return Err(error),
                Some(event) => return Ok(event),
                None => self.step().await?,
            }
        }
    }

    /// Moves bytes once, or time. Dropped while it waits, it has moved nothing.
    async fn step(&mut self) -> Result<(), Error> {
        if self.outbox.1 == self.outbox.0.len() {
            self.outbox = (self.engine.poll_transmit().unwrap_or_default(), 0);
        }
        let writes = !self.outbox.0.is_empty();
        let interest = if writes { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        let due = self.engine.poll_timeout(self.clock.now());
        let due = self.clock.instant(due.unwrap_or_else(|| self.clock.now() + PATIENCE));
        let ready = tokio::select! {
            ready = self.stream.ready(interest) => ready.map_err(|source| Error::Lost { source })?,
            () = sleep_until(due) => {
                self.engine.handle_timeout(self.clock.now());
                return Ok(());
            }
        };
        if writes && ready.is_writable() {
            match self.stream.try_write(&self.outbox.0[self.outbox.1..]) {
                Ok(sent) => self.outbox.1 += sent,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(source) => return Err(Error::Lost { source }),
            }
        }
        if ready.is_readable() {
            match self.stream.try_read(&mut self.inbox) {
                Ok(0) => return Err(Error::Closed),
                Ok(read) => self.engine.handle_bytes(self.clock.now(), &self.inbox[..read]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(source) => return Err(Error::Lost { source }),
            }
        }
        Ok(())
    }
}

impl Stream {
    async fn ready(&self, interest: Interest) -> io::Result<tokio::io::Ready> {
        match self {
            Stream::Tcp(stream) => stream.ready(interest).await,
            Stream::Unix(stream) => stream.ready(interest).await,
        }
    }

    fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.try_read(into),
            Stream::Unix(stream) => stream.try_read(into),
        }
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.try_write(bytes),
            Stream::Unix(stream) => stream.try_write(bytes),
        }
    }
}
