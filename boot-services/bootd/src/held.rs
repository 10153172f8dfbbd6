//! Sockets that outlive the process: the supervisor holds them while it is started again, so that who
//! connects meanwhile waits in their queue and is not refused.
//!
//! By the conventions of sd_pid_notify_with_fds(3) (`FDSTORE=1`, `FDNAME=`) and sd_listen_fds_with_names(3)
//! (`LISTEN_FDNAMES`), as systemd keeps them with `FileDescriptorStoreMax=`.

use crate::notify;
use boot::Device;
use nix::sys::stat::fstat;
use socket2::Socket;
use std::{
    collections::BTreeMap,
    env,
    net::SocketAddr,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
    sync::{Mutex, PoisonError},
};

/// What the process before left, by name; each is taken once.
static HELD: Mutex<BTreeMap<String, OwnedFd>> = Mutex::new(BTreeMap::new());
/// The first descriptor that is passed, by convention.
const FIRST: RawFd = 3;

/// Takes in what the supervisor holds. To be called once, before anything is opened: the descriptors are
/// bare numbers until then. `others` of them, the first ones, are somebody else's.
pub fn take_in(others: usize) {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<usize>().ok());
    let count = number("LISTEN_FDS").unwrap_or(0);
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    for (at, name) in names.split(':').enumerate().take(count).skip(others) {
        let Ok(distance) = RawFd::try_from(at) else { return };
        // SAFETY: the supervisor says that this descriptor is open and ours, nothing of this process has opened
        // or taken one yet, and this is called once.
        // JUSTIFICATION: the convention hands over bare numbers; std has no safe way to take them.
        let socket = unsafe { OwnedFd::from_raw_fd(FIRST + distance) };
        if fstat(&socket).is_ok() {
            held.insert(name.to_owned(), socket);
        } else {
            // There is nothing to close.
            core::mem::forget(socket);
        }
    }
}

/// The listening socket that the process before had there, if it is as good as new.
pub(crate) fn take(address: SocketAddr, device: Option<&Device>) -> Option<Socket> {
    let name = name(address, device);
    let socket = HELD.lock().unwrap_or_else(PoisonError::into_inner).remove(&name)?;
    let socket = Socket::from(socket);
    // An interface that was made anew has the old one's name, and not its socket.
    let bound = socket.device().ok();
    let there =
        bound.is_some_and(|bound| bound.as_deref() == device.map(|device| device.as_str().as_bytes()));
    let at = socket.local_addr().ok().and_then(|at| at.as_socket());
    if there && at == Some(address) {
        return Some(socket);
    }
    let_go(address, device);
    None
}

/// Has the supervisor hold a socket until [`let_go`]; without a supervisor it ends with this process.
pub(crate) fn leave(socket: &Socket, address: SocketAddr, device: Option<&Device>) {
    notify::leave(&name(address, device), socket.as_raw_fd());
}

/// The supervisor need not hold it any more.
pub(crate) fn let_go(address: SocketAddr, device: Option<&Device>) {
    notify::let_go(&name(address, device));
}

/// Lets go of what the process before left and the plan does not have: nobody would accept there.
pub(crate) fn let_the_rest_go() {
    let rest = core::mem::take(&mut *HELD.lock().unwrap_or_else(PoisonError::into_inner));
    rest.keys().for_each(|name| notify::let_go(name));
}

/// `tcp/DEVICE/ADDRESS/PORT`: at most 255 characters, printable, none a colon (sd_pid_notify_with_fds(3)).
fn name(address: SocketAddr, device: Option<&Device>) -> String {
    let device = device.map_or("", Device::as_str);
    format!("tcp/{device}/{}/{}", address.ip(), address.port()).replace(':', "_")
}
