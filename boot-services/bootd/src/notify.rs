//! What is said to the supervisor, by the convention of sd_notify(3): nothing if there is none.

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use std::{
    env,
    io::{self, IoSlice},
    os::{
        fd::{AsRawFd as _, RawFd},
        unix::net::UnixDatagram,
    },
    time::Duration,
};

/// Says `READY=1`: the plan at hand is served, or there is none yet.
pub fn ready() {
    tell("READY=1");
}

/// Says that the hand ends on purpose.
pub fn stopping() {
    tell("STOPPING=1");
}

/// Says `WATCHDOG=1` once, for a loop that is not this crate's; nothing where nobody asked for it.
pub fn alive() {
    if env::var_os("WATCHDOG_USEC").is_some() {
        tell("WATCHDOG=1");
    }
}

/// Says `WATCHDOG=1` as often as `WATCHDOG_USEC` asks, for ever. It shares its thread with the hand's loop,
/// so that a loop that hangs is silent.
pub async fn watchdog() {
    let asked = env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok()).filter(|usec| *usec > 0);
    let Some(usec) = asked else { return core::future::pending().await };
    let mut ticks = tokio::time::interval(Duration::from_micros(usec) / 2);
    loop {
        ticks.tick().await;
        tell("WATCHDOG=1");
    }
}

/// Says `FDSTORE=1` with a descriptor, which the supervisor keeps under this name.
pub(crate) fn leave(name: &str, descriptor: RawFd) {
    say(&format!("FDSTORE=1\nFDNAME={name}"), Some(descriptor));
}

/// Says `FDSTOREREMOVE=1`: the supervisor closes what it keeps under this name.
pub(crate) fn let_go(name: &str) {
    tell(&format!("FDSTOREREMOVE=1\nFDNAME={name}"));
}

/// Asks for everything to be prepared and started anew: a supervisor of another make passes over it.
pub fn anew() {
    tell("X_KILN_ANEW=1");
}

fn tell(word: &str) {
    say(word, None);
}

fn say(word: &str, descriptor: Option<RawFd>) {
    let Some(name) = env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(name.as_encoded_bytes(), word, descriptor) {
        log::warn!(target: "notify", error:% = error; "supervisor not reached");
    }
}

fn send(name: &[u8], word: &str, descriptor: Option<RawFd>) -> io::Result<()> {
    let address = match name.strip_prefix(b"@") {
        Some(name) => UnixAddr::new_abstract(name)?,
        None => UnixAddr::new(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    let rights = descriptor.as_slice();
    let message = [ControlMessage::ScmRights(rights)];
    let control = if rights.is_empty() { &message[..0] } else { &message[..] };
    let words = [IoSlice::new(word.as_bytes())];
    sendmsg(socket.as_raw_fd(), &words, control, MsgFlags::empty(), Some(&address))?;
    Ok(())
}
