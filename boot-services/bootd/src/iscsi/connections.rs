//! The threads of connections: each is started when somebody connects, and joined when it must be gone.

use super::{
    crew::Crew,
    disk::Disk,
    keeper::Word,
    line::{Bell, STUCK},
    session::{Report, Session, complaint},
};
use crate::clock::Clock;
use boot::IscsiFact;
use iscsi::{
    chap::Nonce,
    target::{Alarm as _, Closed, Connection, ConnectionId, Event, Link, Targets},
};
use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{self, Read as _},
    net::{IpAddr, SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        mpsc::{SyncSender, TrySendError},
    },
    thread::JoinHandle,
    time::Duration,
};

/// Sessions at once.
pub(super) const MOST: usize = 256;
/// Connections that are on their way in or out, besides.
const COMING: usize = 32;
/// Octets of a connection's stack.
const STACK: usize = 256 << 10;
/// Addresses of which the latest refusal is kept.
const REFUSED: usize = 256;
/// TCP's own look whether the other end is there, for one that sends nothing.
const KEEPALIVE: Duration = Duration::from_secs(60);

type Threads = HashMap<ConnectionId, Thread>;

/// A connection's thread, and how its socket is cut.
struct Thread {
    handle: JoinHandle<()>,
    // Not its owner: the socket is closed by the thread's end, not by somebody's looking into the table.
    bell: Weak<Bell>,
}

/// The connections of the process.
pub(super) struct Connections {
    targets: Targets<Disk>,
    crew: Arc<Crew>,
    clock: Clock,
    words: SyncSender<Word>,
    threads: Mutex<Threads>,
    refused: Mutex<BTreeMap<IpAddr, IscsiFact>>,
}

impl Connections {
    pub(super) fn new(
        targets: Targets<Disk>,
        clock: Clock,
        words: SyncSender<Word>,
    ) -> io::Result<Connections> {
        let crew = Arc::new(Crew::start()?);
        Ok(Connections { targets, crew, clock, words, threads: Mutex::default(), refused: Mutex::default() })
    }

    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever is at the other end gets a thread.
    pub(super) fn welcome(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, portal: SocketAddr) {
        if let Err(error) = self.start(stream, Link { peer, portal }) {
            log::warn!(target: "iscsi", peer:% = peer, error:% = error; "connection not served");
            self.refuse(peer, None, None, format!("it could not be served: {error}"));
        }
    }

    fn start(self: &Arc<Self>, stream: TcpStream, link: Link) -> io::Result<()> {
        // Held until the thread is in the table: who waits for it finds it there.
        let mut threads = self.threads();
        threads.retain(|_, thread| !thread.handle.is_finished());
        if threads.len() >= MOST + COMING {
            return Err(io::Error::other("there are too many connections already"));
        }
        socket2::SockRef::from(&stream)
            .set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))?;
        let bell = Bell::new(stream)?;
        let alarm: Arc<dyn iscsi::target::Alarm> = Arc::<Bell>::clone(&bell);
        let connection = Connection::new(&self.targets, link, alarm, nonce()?, self.clock.now());
        let id = connection.id();
        let ringing = Arc::downgrade(&bell);
        let session = Session::new(connection, bell, self.clock, Arc::clone(&self.crew));
        let all = Arc::clone(self);
        let handle = std::thread::Builder::new().name(format!("session {}", id.0)).stack_size(STACK).spawn(
            move || {
                session.run(&|report| all.tell(link, report));
                all.nudge();
            },
        )?;
        threads.insert(id, Thread { handle, bell: ringing });
        Ok(())
    }

    fn tell(&self, link: Link, report: Report) {
        match report {
            Report::Stuck => {
                let why = format!("it took nothing of what was sent for {} seconds", STUCK.as_secs());
                log::warn!(target: "iscsi", peer:% = link.peer, why:% = why; "connection cut");
                self.refuse(link.peer, None, None, why);
            }
            Report::Event(Event::LoggedIn(session)) => {
                log::info!(target: "iscsi", peer:% = link.peer, initiator:% = session.initiator, target:? = session.target; "logged in");
                self.nudge();
            }
            Report::Event(Event::Closed(closed)) => {
                log::info!(target: "iscsi", peer:% = link.peer, initiator:? = closed.initiator, target:? = closed.target, why:% = closed.why; "connection ended");
                if let Some(why) = complaint(&closed) {
                    let Closed { initiator, target, .. } = closed;
                    self.refuse(link.peer, initiator, target, why);
                }
            }
        }
    }

    /// What is kept of each address is the latest.
    pub(super) fn refuse(
        &self,
        peer: SocketAddr,
        initiator: Option<String>,
        target: Option<String>,
        why: String,
    ) {
        let cut = |text: String| text.chars().take(223).collect();
        let fact = IscsiFact::Refused { peer, initiator: initiator.map(cut), target: target.map(cut), why };
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.len() >= REFUSED && !refused.contains_key(&peer.ip()) {
            return;
        }
        refused.insert(peer.ip(), fact);
        drop(refused);
        self.nudge();
    }

    /// Refusals since this was asked last.
    pub(super) fn refusals(&self) -> BTreeMap<IpAddr, IscsiFact> {
        std::mem::take(&mut *self.refused.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn nudge(&self) {
        match self.words.try_send(Word::Look) {
            // It is going to look anyway, or nobody looks any more.
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    /// Waits until the threads of these connections have ended: nothing of theirs is under way then.
    pub(super) fn join(&self, ids: &[ConnectionId]) {
        for id in ids {
            let thread = self.threads().remove(id);
            if let Some(thread) = thread {
                // One that broke has ended, too.
                let _ = thread.handle.join();
            }
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        let mut threads = self.threads();
        threads.retain(|_, thread| !thread.handle.is_finished());
        threads.len()
    }

    /// Cuts all that are left, and waits for their ends.
    pub(super) fn end(&self) {
        let threads: Vec<_> = self.threads().drain().collect();
        for bell in threads.iter().filter_map(|(_, thread)| thread.bell.upgrade()) {
            bell.cut();
        }
        for (_, thread) in threads {
            // One that broke has ended, too.
            let _ = thread.handle.join();
        }
    }
}

fn nonce() -> io::Result<Nonce> {
    let mut octets = [0; 33];
    File::open("/dev/urandom")?.read_exact(&mut octets)?;
    Ok(Nonce(octets))
}
