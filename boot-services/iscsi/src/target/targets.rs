//! What all connections share: which targets there are, who is logged in, and word from one to another.

use super::{Access, Alarm, Auth, ConnectionId, Link, Refusal, Session, Unit, Why};
use crate::{
    chap::Chap,
    pdu::{Isid, Tsih},
};
use scsi::Nexus;
use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// How much there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections, sessions of discovery included; one more is told so and closed.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { connections: 256 }
    }
}

/// The targets and sessions of an appliance; clones are the same.
pub struct Targets<V>(Arc<Shared<V>>);

impl<V> Clone for Targets<V> {
    fn clone(&self) -> Targets<V> {
        Targets(Arc::clone(&self.0))
    }
}

impl<V> fmt::Debug for Targets<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Targets").finish_non_exhaustive()
    }
}

struct Shared<V> {
    limits: Limits,
    state: Mutex<State<V>>,
}

struct State<V> {
    targets: Vec<Access<V>>,
    connections: Vec<Entry<V>>,
    last_connection: u64,
    last_tsih: u16,
    closing: bool,
}

/// A connection as the others see it.
struct Entry<V> {
    id: ConnectionId,
    link: Link,
    alarm: Arc<dyn Alarm>,
    inbox: Arc<Inbox<V>>,
    session: Option<Seated<V>>,
    /// Who waits for it to be gone.
    awaited_by: Vec<(ConnectionId, Arc<dyn Alarm>)>,
}

struct Seated<V> {
    initiator: String,
    isid: Isid,
    tsih: Tsih,
    /// None in a discovery session.
    target: Option<String>,
    luns: Luns<V>,
}

/// What one connection is told by the others.
pub(super) enum Notice<V> {
    /// It is over.
    Close(Why),
    /// Its initiator is to be asked to log out.
    AskLogout,
    /// This is in its target now; nothing it had was taken away.
    Luns(Luns<V>),
    /// The tasks of a unit are to be ended, all or those of some nexuses.
    Abort(Abort<V>),
}

/// Which tasks, and on whose behalf.
pub(super) struct Abort<V> {
    pub(super) unit: Arc<Unit<V>>,
    /// Of these nexuses only.
    pub(super) nexuses: Option<Vec<Nexus>>,
    /// Who lost a task is told that this nexus cleared it.
    pub(super) cleared_by: Option<Nexus>,
    pub(super) token: Arc<Token>,
}

impl<V> Clone for Abort<V> {
    fn clone(&self) -> Abort<V> {
        Abort {
            unit: Arc::clone(&self.unit),
            nexuses: self.nexuses.clone(),
            cleared_by: self.cleared_by,
            token: Arc::clone(&self.token),
        }
    }
}

/// Held by all who have not done yet what somebody waits for.
pub(super) struct Token {
    done: Arc<AtomicBool>,
    alarm: Arc<dyn Alarm>,
}

impl Token {
    pub(super) fn new(alarm: &Arc<dyn Alarm>) -> (Arc<Token>, Arc<AtomicBool>) {
        let done = Arc::new(AtomicBool::new(false));
        (Arc::new(Token { done: Arc::clone(&done), alarm: Arc::clone(alarm) }), done)
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Release);
        self.alarm.wake();
    }
}

/// Notices that wait; looked at by a flag, so that a connection without any pays nothing.
pub(super) struct Inbox<V> {
    full: AtomicBool,
    notices: Mutex<Vec<Notice<V>>>,
}

impl<V> Inbox<V> {
    pub(super) fn new() -> Arc<Inbox<V>> {
        Arc::new(Inbox { full: AtomicBool::new(false), notices: Mutex::new(Vec::new()) })
    }

    pub(super) fn has_any(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    pub(super) fn take(&self) -> Vec<Notice<V>> {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        self.full.store(false, Ordering::Release);
        std::mem::take(&mut *notices)
    }

    fn put(&self, notice: Notice<V>) {
        let mut notices = self.notices.lock().unwrap_or_else(PoisonError::into_inner);
        // Of what says how things are, only one counts: the inbox holds what is yet to be done, no more.
        match &notice {
            Notice::Close(_) if notices.iter().any(|other| matches!(other, Notice::Close(_))) => return,
            Notice::Luns(_) => notices.retain(|other| !matches!(other, Notice::Luns(_))),
            Notice::AskLogout => notices.retain(|other| !matches!(other, Notice::AskLogout)),
            _ => {}
        }
        notices.push(notice);
        self.full.store(true, Ordering::Release);
    }
}

/// What is in a target.
type Luns<V> = Vec<(scsi::Lun, Arc<Unit<V>>)>;

/// Whether a session may begin.
pub(super) enum Claim<V> {
    /// With this number, at these units.
    Granted(Tsih, Luns<V>),
    /// Another must end first; the alarm says when to ask again.
    Wait,
}

impl<V> Targets<V> {
    /// None yet.
    pub fn new(limits: Limits) -> Targets<V> {
        Targets(Arc::new(Shared {
            limits,
            state: Mutex::new(State {
                targets: Vec::new(),
                connections: Vec::new(),
                last_connection: 0,
                last_tsih: 0,
                closing: false,
            }),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State<V>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a target or replaces the one of that name.
    ///
    /// A session goes on if it may still be there, by the same proof, and every unit it had is still there
    /// under its number; it is told of new ones. All others are cut: gives whose. Until these connections have
    /// been dropped, writes of theirs may still be on their way to a medium.
    pub fn set(&self, access: Access<V>) -> Vec<ConnectionId> {
        let mut state = self.state();
        let State { targets, connections, .. } = &mut *state;
        let before = targets.iter().position(|target| target.is_named(&access.name));
        let before = before.map(|at| targets.swap_remove(at));
        let mut ended = Vec::new();
        for entry in connections.iter_mut() {
            let Some(seated) = entry.session.as_mut().filter(|seated| seated.is_of(&access)) else {
                continue;
            };
            let kept = seated.luns.iter().all(|(lun, unit)| {
                access.luns.iter().any(|(other, now)| other == lun && Arc::ptr_eq(unit, now))
            });
            let same_proof = before.as_ref().is_some_and(|before| before.auth == access.auth);
            if !kept || !same_proof || !access.admits(&seated.initiator, entry.link) {
                entry.close(Why::Removed);
                ended.push(entry.id);
            } else if seated.luns.len() != access.luns.len() {
                seated.luns = access.luns.clone();
                entry.tell(Notice::Luns(access.luns.clone()));
            }
        }
        let inventory: Vec<scsi::Lun> = access.luns.iter().map(|(lun, _)| *lun).collect();
        for (_, unit) in &access.luns {
            unit.logical().set_inventory(&inventory);
        }
        targets.push(access);
        ended
    }

    /// Takes a target away and cuts its sessions: gives whose. As with [`Targets::set`], no write of theirs can
    /// land once these connections have been dropped.
    pub fn remove(&self, name: &str) -> Vec<ConnectionId> {
        let mut state = self.state();
        state.targets.retain(|target| !target.is_named(name));
        let seated = |entry: &&mut Entry<V>| {
            let target = entry.session.as_ref().and_then(|seated| seated.target.as_ref());
            target.is_some_and(|target| target.eq_ignore_ascii_case(name))
        };
        state.connections.iter_mut().filter(seated).map(|entry| entry.close(Why::Removed)).collect()
    }

    /// Lets nobody log in any more and asks everybody to log out; who does not within ten seconds is cut by his
    /// own connection's timeout. Who is not logged in is cut at once.
    pub fn shut_down(&self) {
        let mut state = self.state();
        state.closing = true;
        for entry in &mut state.connections {
            if entry.session.is_some() {
                entry.tell(Notice::AskLogout);
            } else {
                entry.close(Why::ShutDown);
            }
        }
    }

    /// Who is logged in.
    pub fn sessions(&self) -> Vec<Session> {
        let state = self.state();
        let session = |entry: &Entry<V>| {
            let seated = entry.session.as_ref()?;
            Some(Session {
                connection: entry.id,
                initiator: seated.initiator.clone(),
                target: seated.target.clone(),
                link: entry.link,
            })
        };
        state.connections.iter().filter_map(session).collect()
    }

    /// A new connection; the other value is why it is not to go far.
    pub(super) fn join(
        &self,
        link: Link,
        alarm: Arc<dyn Alarm>,
        inbox: Arc<Inbox<V>>,
    ) -> (ConnectionId, Option<Refusal>) {
        let mut state = self.state();
        state.last_connection += 1;
        let id = ConnectionId(state.last_connection);
        let refusal = if state.closing {
            Some(Refusal::ShuttingDown)
        } else if state.connections.len() >= self.0.limits.connections {
            Some(Refusal::Crowded)
        } else {
            None
        };
        state.connections.push(Entry { id, link, alarm, inbox, session: None, awaited_by: Vec::new() });
        (id, refusal)
    }

    /// A connection that will touch no medium any more.
    pub(super) fn leave(&self, id: ConnectionId) {
        let mut state = self.state();
        let Some(at) = state.connections.iter().position(|entry| entry.id == id) else { return };
        let entry = state.connections.swap_remove(at);
        drop(state);
        for (_, alarm) in entry.awaited_by {
            alarm.wake();
        }
    }

    /// The target of a login.
    pub(super) fn admit(&self, name: &str, initiator: &str, link: Link) -> Result<Auth, Refusal> {
        let state = self.state();
        let target = state.targets.iter().find(|target| target.is_named(name));
        let target = target.ok_or_else(|| Refusal::NoSuchTarget(name.to_owned()))?;
        if !target.admits(initiator, link) {
            return Err(Refusal::NotAdmitted(name.to_owned()));
        }
        Ok(target.auth.clone())
    }

    /// By which proofs this initiator may ask which targets there are; the first value is whether without any.
    pub(super) fn proofs(&self, initiator: &str, link: Link) -> (bool, Vec<Chap>) {
        let state = self.state();
        let mut open = false;
        let mut proofs: Vec<Chap> = Vec::new();
        for target in state.targets.iter().filter(|target| target.admits(initiator, link)) {
            match &target.auth {
                Auth::None => open = true,
                Auth::Chap(chap) if !proofs.contains(chap) => proofs.push(chap.clone()),
                Auth::Chap(_) => {}
            }
        }
        // Who may see nothing may be told so.
        (open || proofs.is_empty(), proofs)
    }

    /// The names this initiator may be told.
    pub(super) fn names(&self, initiator: &str, user: Option<&str>, link: Link) -> Vec<String> {
        let state = self.state();
        let proved = |target: &&Access<V>| match &target.auth {
            Auth::None => true,
            Auth::Chap(chap) => user == Some(chap.user()),
        };
        let seen = state.targets.iter().filter(|target| target.admits(initiator, link));
        let mut names: Vec<String> = seen.filter(proved).map(|target| target.name.clone()).collect();
        names.sort();
        names
    }

    /// Begins a session, once the one that it takes the place of is gone, and everything is still as it was
    /// when the login began.
    ///
    /// RFC 7143, 6.3.5: "If an initiator logs in with ISID equal to that of an existing session ... the target
    /// MUST do the session reinstatement: the session state machine of the old session is closed, all its
    /// tasks are terminated".
    pub(super) fn claim(
        &self,
        id: ConnectionId,
        initiator: &str,
        isid: Isid,
        target: Option<(&str, &Auth)>,
    ) -> Result<Claim<V>, Refusal> {
        let mut state = self.state();
        if state.closing {
            return Err(Refusal::ShuttingDown);
        }
        let Some(own) = state.connections.iter().position(|entry| entry.id == id) else {
            return Err(Refusal::Crowded);
        };
        let mut luns = Vec::new();
        if let Some((name, auth)) = target {
            let link = state.connections[own].link;
            let access = state.targets.iter().find(|access| access.is_named(name));
            let access = access.ok_or_else(|| Refusal::NoSuchTarget(name.to_owned()))?;
            if !access.admits(initiator, link) || access.auth != *auth {
                return Err(Refusal::NotAdmitted(name.to_owned()));
            }
            luns = access.luns.clone();
            let alarm = Arc::clone(&state.connections[own].alarm);
            let mut waits = false;
            for entry in state.connections.iter_mut().filter(|entry| entry.id != id) {
                let same = |seated: &Seated<V>| {
                    seated.isid == isid
                        && seated.initiator.eq_ignore_ascii_case(initiator)
                        && seated.target.as_ref().is_some_and(|target| target.eq_ignore_ascii_case(name))
                };
                if entry.session.as_ref().is_some_and(same) {
                    entry.close(Why::Reinstated);
                    entry.awaited_by.retain(|(other, _)| *other != id);
                    entry.awaited_by.push((id, Arc::clone(&alarm)));
                    waits = true;
                }
            }
            if waits {
                return Ok(Claim::Wait);
            }
        }
        let tsih = state.free_tsih();
        state.connections[own].session = Some(Seated {
            initiator: initiator.to_owned(),
            isid,
            tsih,
            target: target.map(|(name, _)| name.to_owned()),
            luns: luns.clone(),
        });
        Ok(Claim::Granted(tsih, luns))
    }

    /// Whether a session of that number is there for this initiator.
    pub(super) fn has_session(&self, initiator: &str, isid: Isid, tsih: Tsih) -> bool {
        let state = self.state();
        state.connections.iter().filter_map(|entry| entry.session.as_ref()).any(|seated| {
            seated.tsih == tsih && seated.isid == isid && seated.initiator.eq_ignore_ascii_case(initiator)
        })
    }

    /// Tells all other sessions that have a unit to end its tasks; each holds the token until it has.
    pub(super) fn abort(&self, id: ConnectionId, abort: &Abort<V>) {
        let mut state = self.state();
        for entry in state.connections.iter_mut().filter(|entry| entry.id != id) {
            let has =
                |seated: &Seated<V>| seated.luns.iter().any(|(_, other)| Arc::ptr_eq(other, &abort.unit));
            if entry.session.as_ref().is_some_and(has) {
                entry.tell(Notice::Abort(abort.clone()));
            }
        }
    }

    /// Cuts all sessions of a target but one.
    pub(super) fn cut_others(&self, id: ConnectionId, name: &str) {
        let mut state = self.state();
        for entry in state.connections.iter_mut().filter(|entry| entry.id != id) {
            let target = entry.session.as_ref().and_then(|seated| seated.target.as_ref());
            if target.is_some_and(|target| target.eq_ignore_ascii_case(name)) {
                entry.close(Why::Reset);
            }
        }
    }
}

impl<V> State<V> {
    fn free_tsih(&mut self) -> Tsih {
        loop {
            self.last_tsih = self.last_tsih.wrapping_add(1);
            let tsih = Tsih(self.last_tsih);
            let mut taken = self.connections.iter().filter_map(|entry| entry.session.as_ref());
            // RFC 7143, 11.12.6: zero is for a session that is yet to be.
            if tsih != Tsih(0) && !taken.any(|seated| seated.tsih == tsih) {
                return tsih;
            }
        }
    }
}

impl<V> Seated<V> {
    fn is_of(&self, access: &Access<V>) -> bool {
        self.target.as_ref().is_some_and(|target| access.is_named(target))
    }
}

impl<V> Entry<V> {
    fn tell(&self, notice: Notice<V>) {
        self.inbox.put(notice);
        self.alarm.wake();
    }

    fn close(&mut self, why: Why) -> ConnectionId {
        self.inbox.put(Notice::Close(why));
        self.alarm.cut();
        self.id
    }
}
