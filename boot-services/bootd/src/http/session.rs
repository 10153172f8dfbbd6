use super::log_file::LogFile;
use super::outbox::Outbox;
use super::table::Table;
use boot::{AgentLine, Attempt, HandLine, Json, Secret, SessionState};
use core::fmt;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

/// The longest line an agent may send.
pub(super) const LINE: usize = 256 << 10;
/// An agent that says nothing for so long is gone: it promised to say something every five seconds.
const SILENCE: Duration = Duration::from_secs(20);
/// Octets read at once.
const READ: usize = 16 << 10;

/// The agents on the line.
#[derive(Default)]
pub(super) struct Sessions {
    held: Mutex<HashMap<Attempt, Held>>,
}

struct Held {
    /// Counts the connections of this attempt: what an older one says does not matter any more.
    number: u64,
    status: Option<Json>,
    /// Dropping it ends the connection; none: it is gone.
    line: Option<oneshot::Sender<()>>,
}

impl Sessions {
    fn held(&self) -> MutexGuard<'_, HashMap<Attempt, Held>> {
        // Each row is whole between any two statements that touch it.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection takes an attempt over from whatever had it; gives its number, what ends when the next
    /// one comes, and the status that is known.
    fn enter(&self, attempt: &Attempt) -> (u64, oneshot::Receiver<()>, Option<Json>) {
        let (line, ended) = oneshot::channel();
        let mut held = self.held();
        let row = held.entry(attempt.clone()).or_insert(Held { number: 0, status: None, line: None });
        row.number += 1;
        row.line = Some(line);
        (row.number, ended, row.status.clone())
    }

    /// Notes a status, if the connection is still the attempt's.
    fn note(&self, attempt: &Attempt, number: u64, status: &Json) -> bool {
        match self.held().get_mut(attempt) {
            Some(row) if row.number == number => {
                row.status = Some(status.clone());
                true
            }
            _ => false,
        }
    }

    /// A connection is gone; gives the last status if no other took its place.
    fn leave(&self, attempt: &Attempt, number: u64) -> Option<Option<Json>> {
        let mut held = self.held();
        let row = held.get_mut(attempt).filter(|row| row.number == number)?;
        row.line = None;
        Some(row.status.clone())
    }

    /// Forgets what is known of all other attempts that are not on the line.
    pub(super) fn keep_attempts(&self, kept: impl Fn(&Attempt) -> bool) {
        self.held().retain(|attempt, row| row.line.is_some() || kept(attempt));
    }
}

/// An agent that was let in.
pub(super) struct Entrant {
    pub(super) upgrade: OnUpgrade,
    pub(super) attempt: Attempt,
    pub(super) token: Secret,
    pub(super) peer: SocketAddr,
}

/// Why a session ended.
#[derive(Debug)]
enum End {
    /// The agent closed the connection, or its network did.
    Closed(Option<std::io::Error>),
    Silent,
    /// It does not read what it is sent.
    Stuck,
    TooLong,
    Garbled(String),
    Replaced,
    /// The plan does not have it any more, or with another token.
    Dismissed,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Closed(None) => f.write_str("it closed the connection"),
            End::Closed(Some(e)) => write!(f, "the connection broke: {e}"),
            End::Silent => write!(f, "it was silent for {} s", SILENCE.as_secs()),
            End::Stuck => write!(f, "it read nothing for {} s", SILENCE.as_secs()),
            End::TooLong => write!(f, "it sent a line of more than {LINE} octets"),
            End::Garbled(why) => write!(f, "it sent what is no line of an agent: {why}"),
            End::Replaced => f.write_str("a newer connection took its place"),
            End::Dismissed => f.write_str("it is not in the plan any more"),
        }
    }
}

/// Serves an agent's connection until it ends.
pub(super) async fn run(
    entrant: Entrant,
    sessions: &Sessions,
    outbox: &Arc<Outbox>,
    table: watch::Receiver<Arc<Table>>,
) {
    let Entrant { upgrade, attempt, token, peer } = entrant;
    let Ok(upgraded) = upgrade.await else { return };
    let (number, replaced, known) = sessions.enter(&attempt);
    outbox.agent(&attempt, SessionState::Connected, known);
    log::info!(target: "http", attempt:% = attempt, peer:% = peer; "agent came");
    let mut session = Session { attempt: &attempt, token, number, sessions, outbox, table, log: None };
    let end = session.serve(TokioIo::new(upgraded), replaced).await;
    if let Some(status) = sessions.leave(&attempt, number) {
        outbox.agent(&attempt, SessionState::Lost, status);
    }
    log::info!(target: "http", attempt:% = attempt, peer:% = peer, why:% = end; "agent gone");
}

struct Session<'a> {
    attempt: &'a Attempt,
    token: Secret,
    number: u64,
    sessions: &'a Sessions,
    outbox: &'a Arc<Outbox>,
    table: watch::Receiver<Arc<Table>>,
    log: Option<LogFile>,
}

impl Session<'_> {
    async fn serve(&mut self, line: impl AsyncRead + AsyncWrite, mut replaced: oneshot::Receiver<()>) -> End {
        let (read, write) = tokio::io::split(line);
        tokio::pin!(read, write);
        let mut inbound = Vec::new();
        let mut told = None;
        let mut heard = Instant::now();
        loop {
            let table = self.table.borrow_and_update().clone();
            let Some(planned) = table.session(self.attempt, self.token.expose()) else {
                return End::Dismissed;
            };
            if planned.order != told {
                told = planned.order.clone();
                if let Some(order) = &told {
                    match timeout(SILENCE, write.write_all(&order_line(order))).await {
                        Ok(Ok(())) => {}
                        Ok(Err(e)) => return End::Closed(Some(e)),
                        Err(_) => return End::Stuck,
                    }
                }
            }
            inbound.reserve(READ);
            tokio::select! {
                biased;
                _ = &mut replaced => return End::Replaced,
                changed = self.table.changed() => if changed.is_err() { return End::Dismissed },
                count = read.read_buf(&mut inbound) => {
                    match count {
                        Ok(0) => return End::Closed(None),
                        Ok(_) => {}
                        Err(e) => return End::Closed(Some(e)),
                    }
                    match self.take_lines(&mut inbound, table.logs.as_deref()).await {
                        Ok(0) => {}
                        Ok(_) => heard = Instant::now(),
                        Err(end) => return end,
                    }
                }
                () = sleep_until(heard + SILENCE) => return End::Silent,
            }
        }
    }

    /// Takes the whole lines from what came, and gives how many they were.
    async fn take_lines(
        &mut self,
        inbound: &mut Vec<u8>,
        logs: Option<&std::path::Path>,
    ) -> Result<usize, End> {
        let mut lines = 0;
        let mut begin = 0;
        let mut written = Vec::new();
        while let Some(length) = inbound[begin..].iter().position(|octet| *octet == b'\n') {
            let line = &inbound[begin..begin + length];
            begin += length + 1;
            if line.len() > LINE {
                return Err(End::TooLong);
            }
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            lines += 1;
            match serde_json::from_slice(line).map_err(|e| End::Garbled(e.to_string()))? {
                AgentLine::Status(status) => {
                    if self.sessions.note(self.attempt, self.number, &status) {
                        self.outbox.agent(self.attempt, SessionState::Connected, Some(status));
                    }
                }
                AgentLine::Log(log) => written.extend(log),
            }
        }
        inbound.drain(..begin);
        if inbound.len() > LINE {
            return Err(End::TooLong);
        }
        if !written.is_empty()
            && let Some(directory) = logs
        {
            let log = self.log.take().unwrap_or_else(|| LogFile::new(directory, self.attempt));
            self.log = Some(log.append(written).await);
        }
        Ok(lines)
    }
}

fn order_line(order: &Json) -> Vec<u8> {
    let mut line = serde_json::to_vec(&HandLine::Order(order.clone())).unwrap_or_default();
    line.push(b'\n');
    line
}
