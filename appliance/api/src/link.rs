use control::Control;
use core::fmt;
use sansio::Time;
use std::sync::mpsc::{SyncSender, TrySendError};
use store::Store;
use tokio::sync::{oneshot, watch};

/// Something to be done by the thread that owns control.
pub type Ask = Box<dyn FnOnce(&mut Control<Box<dyn Store>>, Time) + Send>;

/// The way to control: a bounded queue of questions, and the number of the newest event.
#[derive(Clone)]
pub struct Link {
    asks: SyncSender<Ask>,
    newest: watch::Receiver<u64>,
}

/// Control did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It has more to do than it can; ask again later.
    Busy,
    /// It is ending.
    Ended,
}

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Gone::Busy => "the appliance has too many requests waiting: try again in a second",
            Gone::Ended => "the appliance is restarting: try again in a second",
        })
    }
}

impl std::error::Error for Gone {}

impl Link {
    /// A link that puts questions into `asks` and learns of events by `newest`.
    pub fn new(asks: SyncSender<Ask>, newest: watch::Receiver<u64>) -> Link {
        Link { asks, newest }
    }

    /// Has something done by control, and waits for what it says.
    pub async fn ask<R, W>(&self, work: W) -> Result<R, Gone>
    where
        R: Send + 'static,
        W: FnOnce(&mut Control<Box<dyn Store>>, Time) -> R + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let ask: Ask = Box::new(move |control, now| {
            // Nobody may be waiting any more.
            reply.send(work(control, now)).ok();
        });
        match self.asks.try_send(ask) {
            Ok(()) => answer.await.map_err(|_| Gone::Ended),
            Err(TrySendError::Full(_)) => Err(Gone::Busy),
            Err(TrySendError::Disconnected(_)) => Err(Gone::Ended),
        }
    }

    /// The number of the newest event, to wait on.
    pub fn newest_event(&self) -> watch::Receiver<u64> {
        self.newest.clone()
    }
}
