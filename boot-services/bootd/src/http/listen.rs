use super::outbox::Outbox;
use crate::held;
use boot::Device;
use core::task::Poll;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until};

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 256;
/// How long a socket that could not be opened, or could not accept, is left alone.
const REST: Duration = Duration::from_secs(1);

/// The sockets of the plan. One that cannot be opened is tried again every second for as long as the plan
/// has it: interfaces and addresses come when they come.
#[derive(Default)]
pub(super) struct Listeners {
    wanted: Vec<Wanted>,
    retry: Option<Instant>,
}

struct Wanted {
    address: SocketAddr,
    device: Option<Device>,
    socket: Option<TcpListener>,
    /// What was told of it last.
    told: Option<Option<String>>,
}

impl Listeners {
    /// Opens what the plan has anew and closes what it does not have any more; the rest stays as it is.
    pub(super) fn want(&mut self, plan: &[(SocketAddr, Option<Device>)], outbox: &Outbox) {
        self.wanted.retain(|wanted| {
            let kept = plan.contains(&(wanted.address, wanted.device.clone()));
            if !kept {
                log::info!(target: "http", address:% = wanted.address; "not listening any more");
                held::let_go(wanted.address, wanted.device.as_ref());
                outbox.closed(wanted.address);
            }
            kept
        });
        for (address, device) in plan {
            if !self.wanted.iter().any(|w| w.address == *address && w.device == *device) {
                self.wanted.push(Wanted {
                    address: *address,
                    device: device.clone(),
                    socket: None,
                    told: None,
                });
            }
        }
        self.open(outbox);
        held::let_the_rest_go();
    }

    fn open(&mut self, outbox: &Outbox) {
        for wanted in self.wanted.iter_mut().filter(|wanted| wanted.socket.is_none()) {
            let mut address = wanted.address;
            let trouble = match wanted.listen() {
                Ok(socket) => {
                    // With port 0 the kernel chose one.
                    address = socket.local_addr().unwrap_or(address);
                    wanted.socket = Some(socket);
                    log::info!(target: "http", address:% = address, device:? = wanted.device; "listening");
                    None
                }
                Err(error) => Some(wanted.advice(&error)),
            };
            if wanted.told.as_ref() != Some(&trouble) {
                if let Some(trouble) = &trouble {
                    log::warn!(target: "http", address:% = wanted.address, why = trouble.as_str(); "not listening");
                }
                outbox.listen(wanted.address, address, trouble.clone());
                wanted.told = Some(trouble);
            }
        }
        let missing = self.wanted.iter().any(|wanted| wanted.socket.is_none());
        self.retry = missing.then(|| Instant::now() + REST);
    }

    /// The next connection. It may be called again without loss if it is dropped.
    pub(super) async fn accept(&mut self, outbox: &Outbox) -> (TcpStream, SocketAddr) {
        loop {
            let retry = async {
                match self.retry {
                    Some(at) => sleep_until(at).await,
                    None => core::future::pending().await,
                }
            };
            let accepted = core::future::poll_fn(|cx| {
                for (index, socket) in self.wanted.iter().enumerate() {
                    if let Some(socket) = &socket.socket
                        && let Poll::Ready(done) = socket.poll_accept(cx)
                    {
                        return Poll::Ready((index, done));
                    }
                }
                Poll::Pending
            });
            let (index, error) = tokio::select! {
                () = retry => {
                    self.open(outbox);
                    continue;
                }
                (index, done) = accepted => match done {
                    Ok(connection) => {
                        // The next one gets its turn first next time.
                        self.wanted.rotate_left(index + 1);
                        return connection;
                    }
                    Err(error) => (index, error),
                },
            };
            // accept(2): errors of a connection that broke before it was accepted; the socket is well.
            use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
            if !matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
                log::warn!(target: "http", address:% = self.wanted[index].address, error:% = error; "connections not accepted for a second");
                held::let_go(self.wanted[index].address, self.wanted[index].device.as_ref());
                self.wanted[index].socket = None;
                self.retry = Some(Instant::now() + REST);
            }
        }
    }
}

impl Wanted {
    /// The socket that the process before listened with, or a new one.
    fn listen(&self) -> io::Result<TcpListener> {
        let device = self.device.as_ref();
        let socket = match held::take(self.address, device) {
            Some(socket) => socket,
            None => {
                let socket = self.open()?;
                held::leave(&socket, self.address, device);
                socket
            }
        };
        TcpListener::from_std(socket.into())
    }

    fn open(&self) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if self.address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if let Some(device) = &self.device {
            socket.bind_device(Some(device.as_str().as_bytes()))?;
        }
        socket.bind(&self.address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    /// What is wrong and what to do about it.
    fn advice(&self, error: &io::Error) -> String {
        let device = self.device.as_ref().map_or_else(|| "any interface".to_owned(), |d| d.to_string());
        let address = self.address;
        let todo = match error.kind() {
            io::ErrorKind::AddrInUse => "another program listens there: `ss -ltnp` names it; stop it",
            io::ErrorKind::AddrNotAvailable => "give the interface this address, or correct the network's",
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 and interfaces need CAP_NET_BIND_SERVICE and CAP_NET_RAW"
            }
            _ if error.raw_os_error() == Some(nix::errno::Errno::ENODEV as i32) => {
                "there is no such interface: make it, or correct the network's"
            }
            _ => "see to the interface and its address",
        };
        format!("cannot listen on {address} of {device}: {error}; {todo}")
    }
}
