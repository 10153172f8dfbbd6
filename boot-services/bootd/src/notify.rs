//! What is said to the supervisor, by the convention of sd_notify(3): nothing if there is none.

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
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

fn tell(word: &str) {
    let Some(name) = env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(name.as_encoded_bytes(), word) {
        log::warn!(target: "notify", error:% = error; "supervisor not reached");
    }
}

fn send(name: &[u8], word: &str) -> io::Result<()> {
    let address = match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(String::from_utf8_lossy(name).as_ref())?,
    };
    UnixDatagram::unbound()?.send_to_addr(word.as_bytes(), &address).map(drop)
}
