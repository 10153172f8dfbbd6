use boot::{Attempt, HttpFact, Json, SessionState};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::time::Instant;

/// So many addresses are told of under each of `asset/` and `lost/`; past it the one told of first is forgotten.
const ADDRESSES: usize = 256;
/// So many refusals of one address are told at once, then one a second.
const BURST: u32 = 8;

/// Facts on their way to the desk: the latest of each key, so that nothing piles up and nobody who sees
/// something has to wait.
#[derive(Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    some: Notify,
}

#[derive(Default)]
struct State {
    waiting: BTreeMap<String, Option<HttpFact>>,
    assets: Addresses,
    lost: Addresses,
    allowances: HashMap<IpAddr, Allowance>,
    fetched: HashMap<Attempt, u32>,
}

#[derive(Default)]
struct Addresses(VecDeque<IpAddr>);

struct Allowance {
    left: u32,
    at: Instant,
}

impl Addresses {
    /// Notes one; gives one that is to be forgotten for it.
    fn note(&mut self, address: IpAddr) -> Option<IpAddr> {
        if self.0.contains(&address) {
            return None;
        }
        self.0.push_back(address);
        if self.0.len() > ADDRESSES { self.0.pop_front() } else { None }
    }
}

impl Allowance {
    fn take(&mut self, now: Instant) -> bool {
        let back = now.duration_since(self.at).as_secs().min(BURST.into()) as u32;
        if back > 0 {
            self.left = (self.left + back).min(BURST);
            self.at = now;
        }
        let some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        some
    }
}

impl Outbox {
    fn state(&self) -> MutexGuard<'_, State> {
        // A map of facts is whole between any two statements that touch it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, state: &mut State, key: String, fact: Option<HttpFact>) {
        state.waiting.insert(key, fact);
        self.some.notify_one();
    }

    /// The next fact; `None` with a key says that there is nothing to say under it any more.
    pub(super) async fn next(&self) -> (String, Option<HttpFact>) {
        loop {
            if let Some(next) = self.state().waiting.pop_first() {
                return next;
            }
            self.some.notified().await;
        }
    }

    /// An asset's transfer begins or ends.
    pub(super) fn asset(&self, peer: SocketAddr, path: &str, sent: u64, size: u64) {
        let mut state = self.state();
        if let Some(forgotten) = state.assets.note(peer.ip()) {
            self.put(&mut state, format!("asset/{forgotten}"), None);
        }
        let fact = HttpFact::Asset { peer, path: clip(path), sent, size };
        self.put(&mut state, format!("asset/{}", peer.ip()), Some(fact));
    }

    /// A request was refused.
    pub(super) fn lost(&self, peer: SocketAddr, path: &str, why: String) {
        let mut state = self.state();
        let now = Instant::now();
        let fresh = || Allowance { left: BURST, at: now };
        if !state.allowances.entry(peer.ip()).or_insert_with(fresh).take(now) {
            return;
        }
        log::info!(target: "http", peer:% = peer, path = clip(path).as_str(), why = why.as_str(); "request refused");
        if let Some(forgotten) = state.lost.note(peer.ip()) {
            state.allowances.remove(&forgotten);
            self.put(&mut state, format!("lost/{forgotten}"), None);
        }
        let fact = HttpFact::Lost { peer, path: clip(path), why };
        self.put(&mut state, format!("lost/{}", peer.ip()), Some(fact));
    }

    /// A script was sent in full.
    pub(super) fn script(&self, peer: SocketAddr, attempt: &Attempt) {
        let mut state = self.state();
        let times = state.fetched.entry(attempt.clone()).or_default();
        *times = times.saturating_add(1);
        let times = *times;
        log::info!(target: "http", peer:% = peer, attempt:% = attempt, times; "script fetched");
        let fact = HttpFact::Script { attempt: attempt.clone(), peer, times };
        self.put(&mut state, format!("script/{attempt}"), Some(fact));
    }

    /// An agent came, went or said something.
    pub(super) fn agent(&self, attempt: &Attempt, state: SessionState, status: Option<Json>) {
        let fact = HttpFact::Agent { attempt: attempt.clone(), state, status };
        self.put(&mut self.state(), format!("agent/{attempt}"), Some(fact));
    }

    /// The socket that the plan wants at one address is open at another (its port was 0), or is not.
    pub(super) fn listen(&self, planned: SocketAddr, address: SocketAddr, trouble: Option<String>) {
        let fact = HttpFact::Listen { address, trouble };
        self.put(&mut self.state(), format!("listen/{planned}"), Some(fact));
    }

    /// A socket is no longer wanted.
    pub(super) fn closed(&self, address: SocketAddr) {
        self.put(&mut self.state(), format!("listen/{address}"), None);
    }

    /// Keeps count only of the scripts of these attempts.
    pub(super) fn keep_attempts(&self, kept: impl Fn(&Attempt) -> bool) {
        self.state().fetched.retain(|attempt, _| kept(attempt));
    }
}

impl core::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Outbox")
    }
}

fn clip(path: &str) -> String {
    path.chars().take(200).collect()
}

#[cfg(test)]
mod tests;
