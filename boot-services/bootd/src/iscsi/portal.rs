//! Portals: listening sockets, each with a thread that accepts.

use boot::Device;
use nix::{
    net::if_::if_nametoindex,
    sys::socket::{Shutdown, shutdown},
};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    sync::Arc,
    thread::JoinHandle,
};

const BACKLOG: i32 = 128;
const STACK: usize = 128 << 10;

/// A socket that listens; it stops when this is dropped.
#[derive(Debug)]
pub(super) struct Portal {
    listener: Arc<TcpListener>,
    index: Option<u32>,
    thread: Option<JoinHandle<()>>,
}

/// What is done with a connection: the stream, who it is from, and the address it came to.
pub(super) type Welcome = Arc<dyn Fn(TcpStream, SocketAddr, SocketAddr) + Send + Sync>;

fn index(device: Option<&Device>) -> Option<u32> {
    device.and_then(|device| if_nametoindex(device.as_str()).ok())
}

impl Portal {
    /// Listens, and welcomes who comes.
    pub(super) fn open(address: SocketAddr, device: Option<&Device>, welcome: Welcome) -> io::Result<Portal> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if let Some(device) = device {
            socket.bind_device(Some(device.as_str().as_bytes()))?;
        }
        // Connections of the process before may linger; two that listen are refused all the same.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let listener = Arc::new(TcpListener::from(socket));
        let accepting = Arc::clone(&listener);
        let thread = std::thread::Builder::new()
            .name(format!("portal {}", address.port()))
            .stack_size(STACK)
            .spawn(move || accept(&accepting, &welcome))?;
        Ok(Portal { listener, index: index(device), thread: Some(thread) })
    }

    /// Whether it listens, and on the interface that has the name now.
    pub(super) fn is_sound(&self, device: Option<&Device>) -> bool {
        self.index == index(device) && self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Portal {
    fn drop(&mut self) {
        // Who waits in accept(2) is woken by it, and sees no other connection.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            // One that broke listens no more.
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, welcome: &Welcome) {
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                if let Ok(local) = stream.local_addr() {
                    welcome(stream, peer, local);
                }
            }
            // accept(2): "errors ... already pending on the new socket" are to be treated like EAGAIN.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
            // Closed by its owner, or not to be mended here: it is opened afresh.
            Err(error) => {
                if error.kind() != ErrorKind::InvalidInput {
                    log::warn!(target: "iscsi", error:% = error; "no longer listening");
                }
                return;
            }
        }
    }
}

/// What a person can do about a socket that cannot be opened.
pub(super) fn advice(address: SocketAddr, device: Option<&Device>, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            format!("may not listen on {address}: give bootd CAP_NET_RAW (for the interface) or another port")
        }
        ErrorKind::AddrInUse => format!("{address} is taken: stop the other iSCSI target"),
        ErrorKind::AddrNotAvailable => {
            format!("no interface has the address of {address}: ip address add it")
        }
        _ => match device {
            Some(device) => format!("cannot listen on {address} of {device}: {error}"),
            None => format!("cannot listen on {address}: {error}"),
        },
    }
}
