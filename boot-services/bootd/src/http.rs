//! The HTTP hand: boot loaders, scripts, kernels and images for nodes, and the line to their agents.
//!
//! ```text
//!   GET  ASSET, SCRIPT                 whoever asks, from the plan's table and nowhere else
//!   GET  /image/DIGEST                 an image's octets, by range;      Authorization: Bearer TOKEN
//!   GET  /image/DIGEST/manifest        what it consists of;              the same
//!   GET  /agent/ATTEMPT/config-drive   its config drive;                 the same
//!   POST /agent/ATTEMPT                Upgrade: kiln-agent, then lines both ways;  the same
//! ```
//!
//! HTTP/1.1 itself (RFC 9112) is hyper's. One task accepts; a task per connection answers; disks are read
//! on the runtime's blocking threads, one chunk ahead of the network. What is seen goes to the desk by way
//! of an outbox that holds the latest of each fact, so that a slow control slows no node.
//!
//! Every queue and wait has a bound: 512 connections, 64 of one address, 16 KiB of request head, 20 s for a
//! head and between two requests, 60 s without an octet going either way, 20 s of an agent's silence.

mod answer;
mod body;
mod limits;
mod listen;
mod log_file;
mod outbox;
mod range;
mod session;
mod table;

use crate::desk::{self, Door};
use answer::Asking;
use anyhow::Result;
use boot::{Digest, HttpFact, HttpPlan};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use limits::{Limits, Moving, Pass};
use listen::Listeners;
use outbox::Outbox;
use session::{Entrant, Sessions};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use table::Table;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The longest request head, in octets.
const HEAD: usize = 16 << 10;
/// How long a request's head may take, and how long a connection may wait for one. Clients keep unused
/// connections for 15 s or less; a server that closes them earlier makes their next request fail.
const HEAD_TIME: Duration = Duration::from_secs(20);

/// Serves until the desk closes.
///
/// # Errors
/// The plan's file cannot be read, or the run directory cannot be made.
pub async fn run(door: Door) -> Result<()> {
    let served = desk::serve::<HttpPlan, HttpFact>(door)?;
    let outbox = Arc::new(Outbox::default());
    crate::notify::ready();
    let tell = async {
        loop {
            match outbox.next().await {
                (key, Some(fact)) => served.facts.tell(key, fact).await,
                (key, None) => served.facts.forget(key).await,
            }
        }
    };
    tokio::select! {
        () = tell => {}
        () = serve(served.plans.clone(), outbox.clone()) => {}
    }
    Ok(())
}

/// What every connection knows.
struct Hand {
    table: watch::Sender<Arc<Table>>,
    outbox: Arc<Outbox>,
    sessions: Sessions,
    images: Mutex<HashMap<Digest, Arc<crate::library::Reader>>>,
}

impl Hand {
    fn new(outbox: Arc<Outbox>) -> Hand {
        Hand {
            table: watch::Sender::new(Arc::default()),
            outbox,
            sessions: Sessions::default(),
            images: Mutex::default(),
        }
    }

    fn images(&self) -> MutexGuard<'_, HashMap<Digest, Arc<crate::library::Reader>>> {
        // A map of open images is whole between any two statements that touch it.
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_plan(&self, plan: &HttpPlan) {
        let table = Arc::new(Table::of(plan));
        let before = self.table.send_replace(table.clone());
        let moved = before.library.as_ref().map(|l| l.root()) != table.library.as_ref().map(|l| l.root());
        self.images().retain(|image, _| !moved && table.lists(image));
        self.sessions.keep_attempts(|attempt| table.knows(attempt));
        self.outbox.keep_attempts(|attempt| table.knows(attempt));
    }
}

/// Serves plans as they come; returns when there will be no more.
async fn serve(mut plans: watch::Receiver<Option<Arc<HttpPlan>>>, outbox: Arc<Outbox>) {
    let hand = Arc::new(Hand::new(outbox.clone()));
    let limits = Limits::default();
    let mut listeners = Listeners::default();
    let mut connections = JoinSet::new();
    plans.mark_changed();
    loop {
        tokio::select! {
            changed = plans.changed() => {
                if changed.is_err() {
                    return;
                }
                let plan = plans.borrow_and_update().clone();
                if let Some(plan) = plan {
                    hand.take_plan(&plan);
                    listeners.want(&plan.listen, &outbox);
                }
            }
            (stream, peer) = listeners.accept(&outbox) => match limits.enter(peer.ip()) {
                Ok(pass) => drop(connections.spawn(connection(hand.clone(), stream, peer, pass))),
                Err(why) => outbox.lost(peer, "", why),
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves one connection, and the agent's session it may become.
async fn connection(hand: Arc<Hand>, stream: TcpStream, peer: SocketAddr, _pass: Pass) {
    // Without it small answers wait for the client's acknowledgement of the one before (RFC 896).
    if let Err(error) = stream.set_nodelay(true) {
        log::debug!(target: "http", peer:% = peer, error:% = error; "no TCP_NODELAY");
    }
    let entrant = Arc::new(Mutex::new(None::<Entrant>));
    let service = {
        let (hand, entrant) = (hand.clone(), entrant.clone());
        service_fn(move |request| {
            let asking = Asking { hand: hand.clone(), peer, entrant: entrant.clone() };
            async move { Ok::<_, core::convert::Infallible>(asking.answer(request).await) }
        })
    };
    let (stream, moving) = Moving::new(stream);
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::select! {
        done = serving => if let Err(error) = done {
            log::debug!(target: "http", peer:% = peer, error:% = error; "connection broken");
        },
        () = moving.stalled(limits::STALL) => log::info!(target: "http", peer:% = peer; "connection dropped, nothing moved on it"),
    }
    let entrant = entrant.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(entrant) = entrant {
        session::run(entrant, &hand.sessions, &hand.outbox, hand.table.subscribe()).await;
    }
}

#[cfg(test)]
mod tests;
