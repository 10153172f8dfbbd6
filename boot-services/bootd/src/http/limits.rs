use core::pin::Pin;
use core::task::{Context, Poll};
use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::interval;

/// Connections at once.
pub(super) const ALL: usize = 512;
/// Of these, from one address.
pub(super) const EACH: usize = 64;
/// A connection on which no octet moves for so long is dropped. A node's disk may keep it from reading.
pub(super) const STALL: Duration = Duration::from_secs(60);
/// How often it is looked at within that time.
const LOOKS: u32 = 6;

/// Counts the connections.
#[derive(Clone, Default)]
pub(super) struct Limits(Arc<Mutex<Count>>);

#[derive(Default)]
struct Count {
    all: usize,
    each: HashMap<IpAddr, usize>,
}

impl Limits {
    /// A connection from `address`; the error says which bound it would pass.
    pub(super) fn enter(&self, address: IpAddr) -> Result<Pass, String> {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if count.all >= ALL {
            return Err(format!("{ALL} connections are open, which is the most"));
        }
        let each = count.each.entry(address).or_default();
        if *each >= EACH {
            return Err(format!("it has {EACH} connections open, which is the most"));
        }
        *each += 1;
        count.all += 1;
        Ok(Pass { limits: self.clone(), address })
    }
}

/// A connection that is counted until this is dropped.
pub(super) struct Pass {
    limits: Limits,
    address: IpAddr,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut count = self.limits.0.lock().unwrap_or_else(PoisonError::into_inner);
        count.all = count.all.saturating_sub(1);
        if let Some(each) = count.each.get_mut(&self.address) {
            *each -= 1;
            if *each == 0 {
                count.each.remove(&self.address);
            }
        }
    }
}

/// A stream whose octets are counted.
pub(super) struct Moving {
    stream: TcpStream,
    moved: Arc<AtomicU64>,
}

/// Sees whether octets move.
pub(super) struct Watcher(Arc<AtomicU64>);

impl Moving {
    pub(super) fn new(stream: TcpStream) -> (Moving, Watcher) {
        let moved = Arc::new(AtomicU64::new(0));
        (Moving { stream, moved: moved.clone() }, Watcher(moved))
    }

    fn count<T>(&self, moved: T, octets: impl FnOnce(&T) -> usize) -> T {
        let octets = octets(&moved) as u64;
        self.moved.fetch_add(octets, Ordering::Relaxed);
        moved
    }
}

impl Watcher {
    /// Returns when nothing moved for `patience`, or a little longer.
    pub(super) async fn stalled(&self, patience: Duration) {
        let mut looks = interval(patience / LOOKS);
        let (mut seen, mut still) = (0, 0);
        while still <= LOOKS {
            looks.tick().await;
            let moved = self.0.load(Ordering::Relaxed);
            still = if moved == seen { still + 1 } else { 0 };
            seen = moved;
        }
    }
}

fn written(done: &Poll<io::Result<usize>>) -> usize {
    match done {
        Poll::Ready(Ok(count)) => *count,
        _ => 0,
    }
}

impl AsyncRead for Moving {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let done = Pin::new(&mut self.stream).poll_read(cx, into);
        self.count(done, |_| into.filled().len() - before)
    }
}

impl AsyncWrite for Moving {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write(cx, octets);
        self.count(done, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.stream).poll_write_vectored(cx, octets);
        self.count(done, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
