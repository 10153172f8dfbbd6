//! Images on their way to the disks of nodes: the loop around `iscsi::initiator`, a thread for each push.
//!
//! ```text
//!   Write ──► flush ──► Read ──► Done
//!                        │ wrong somewhere
//!                        ▼
//!                    WriteAgain ──► flush ──► ReadAgain ──► Done, or Failed
//! ```
//!
//! An extent is checked against its digest before it is sent and after it was read back. Whatever breaks,
//! the push goes on from what was flushed last: while it lives from its own memory, after it was killed
//! from its [`checkpoint`]. What was there before is never relied on: holes are made, and read back too.

mod checkpoint;
mod course;
mod line;
mod loader;
mod work;

use boot::{Attempt, IscsiFact, Push, PushState};
use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
};
use work::{Pace, Setting};

/// Pushes at a time; the others wait for their turn.
const TURNS: usize = 8;
/// These threads keep what is large elsewhere.
const STACK: usize = 256 << 10;

/// Takes what a push has to say: the key of the fact, and the fact; none: it says nothing any more.
pub(super) type Tell = Arc<dyn Fn(String, Option<IscsiFact>) + Send + Sync>;

/// The pushes of the plan. When this is dropped they stop, where they are.
pub(super) struct Pushes {
    run_dir: Option<PathBuf>,
    tell: Tell,
    pace: Pace,
    turns: Arc<Turns>,
    workers: BTreeMap<Attempt, Worker>,
}

struct Worker {
    push: Push,
    images: Option<String>,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl Pushes {
    /// None so far; how far each is will be kept in the run directory.
    pub(super) fn new(run_dir: Option<PathBuf>, tell: Tell) -> Pushes {
        let turns = Arc::new(Turns { free: Mutex::new(TURNS), bell: Condvar::new() });
        Pushes { run_dir, tell, pace: Pace::default(), turns, workers: BTreeMap::new() }
    }

    /// Takes a plan: what is not in it has stopped when this returns, what is new in it has begun. It may
    /// wait for a disk of ours, never for the network.
    pub(super) fn set(&mut self, images: Option<&str>, pushes: &[Push]) {
        let is_wanted = |worker: &Worker| worker.images.as_deref() == images && pushes.contains(&worker.push);
        let gone: Vec<Attempt> =
            self.workers.iter().filter(|(_, worker)| !is_wanted(worker)).map(|(id, _)| id.clone()).collect();
        for attempt in &gone {
            self.workers[attempt].stop.ring();
        }
        self.turns.wake();
        for attempt in &gone {
            self.workers.remove(attempt);
            (self.tell)(key(attempt), None);
        }
        if let Some(run_dir) = &self.run_dir {
            let kept: Vec<&Attempt> = pushes.iter().map(|push| &push.attempt).collect();
            if let Err(error) = checkpoint::sweep(run_dir, &kept) {
                log::warn!(target: "iscsi", directory:% = run_dir.display(), error:%; "checkpoints of old pushes stay");
            }
        }
        for push in pushes {
            if !self.workers.contains_key(&push.attempt) {
                let worker = self.start(images, push);
                self.workers.insert(push.attempt.clone(), worker);
            }
        }
    }

    fn start(&self, images: Option<&str>, push: &Push) -> Worker {
        let images = images.map(str::to_owned);
        let mut worker = Worker {
            push: push.clone(),
            images: images.clone(),
            stop: Arc::new(Stop::default()),
            thread: None,
        };
        let (tell, attempt) = (Arc::clone(&self.tell), push.attempt.clone());
        let say = move |state: PushState| {
            let fact = IscsiFact::Push { attempt: attempt.clone(), state };
            tell(key(&attempt), Some(fact));
        };
        let bell = match Bell::new(&worker.stop) {
            Ok(bell) => bell,
            Err(error) => {
                say(PushState::Failed { why: cannot_begin(&error) });
                return worker;
            }
        };
        let place = checkpoint::Place::new(self.run_dir.as_deref(), &push.attempt);
        let (turns, push, pace) = (Arc::clone(&self.turns), push.clone(), self.pace);
        let told = say.clone();
        let thread = thread("push", move || {
            let Some(_turn) = turns.take(&bell, || {
                let last = Some(format!("waits for its turn: {TURNS} others are under way"));
                told(PushState::Connecting { last });
            }) else {
                return;
            };
            let setting =
                Setting { images: images.as_deref(), place: &place, bell: &bell, pace, tell: &told };
            work::run(&push, &setting);
        });
        match thread {
            Ok(thread) => worker.thread = Some(thread),
            Err(error) => say(PushState::Failed { why: cannot_begin(&error) }),
        }
        worker
    }
}

impl Pushes {
    /// All stop where they are; another run of this process goes on from there.
    pub(super) fn stop(&mut self) {
        for worker in self.workers.values() {
            worker.stop.ring();
        }
        self.turns.wake();
        self.workers.clear();
    }
}

impl Drop for Pushes {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.ring();
        if let Some(thread) = self.thread.take() {
            // Its panic was told by the panic itself.
            let _ = thread.join();
        }
    }
}

fn key(attempt: &Attempt) -> String {
    format!("push/{attempt}")
}

fn cannot_begin(error: &io::Error) -> String {
    format!("cannot begin: {error}; give the hand more threads and descriptors")
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).stack_size(STACK).spawn(work)
}

/// How many may be under way.
struct Turns {
    free: Mutex<usize>,
    bell: Condvar,
}

struct Turn(Arc<Turns>);

impl Turns {
    /// Somebody is to stop who may be waiting for a turn.
    fn wake(&self) {
        // Taken so that nobody is between his look and his wait.
        drop(self.free.lock().unwrap_or_else(PoisonError::into_inner));
        self.bell.notify_all();
    }

    /// Waits for a turn, and says so if it has to; none: it is to stop.
    fn take(self: &Arc<Turns>, bell: &Bell, mut waits: impl FnMut()) -> Option<Turn> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if *free == 0 {
            waits();
        }
        while *free == 0 && !bell.is_to_stop() {
            free = self.bell.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        if bell.is_to_stop() {
            return None;
        }
        *free -= 1;
        Some(Turn(Arc::clone(self)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        // All, because the one that is woken may be one that is to stop.
        self.0.bell.notify_all();
    }
}

/// Why a push does not go on.
#[derive(Debug)]
enum Trouble {
    /// The connection is lost or cannot be made: another is tried.
    Lost(String),
    /// The node refuses us; it may be about to learn who we are.
    Refused(String),
    /// It cannot be done: why, and what to do.
    Fatal(String),
    /// It left the plan.
    Stopped,
}

impl Trouble {
    fn lost(doing: &str, error: &io::Error) -> Trouble {
        Trouble::Lost(format!("{doing}: {error}"))
    }
}

/// How a push is told to stop.
#[derive(Default)]
struct Stop {
    now: AtomicBool,
    rope: Mutex<Option<UnixStream>>,
}

impl Stop {
    fn ring(&self) {
        self.now.store(true, Relaxed);
        if let Some(mut rope) = self.rope.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            // Full: it rings already.
            let _ = rope.write(&[0]);
        }
    }
}

/// What a push waits on beside its socket: it is to stop, or an extent was loaded.
struct Bell {
    stop: Arc<Stop>,
    rope: UnixStream,
    heard: UnixStream,
}

impl Bell {
    fn new(stop: &Arc<Stop>) -> io::Result<Bell> {
        let (rope, heard) = UnixStream::pair()?;
        rope.set_nonblocking(true)?;
        heard.set_nonblocking(true)?;
        *stop.rope.lock().unwrap_or_else(PoisonError::into_inner) = Some(rope.try_clone()?);
        Ok(Bell { stop: Arc::clone(stop), rope, heard })
    }

    fn is_to_stop(&self) -> bool {
        self.stop.now.load(Relaxed)
    }

    /// For others, to wake the push.
    fn rope(&self) -> io::Result<impl Fn() + Send + 'static> {
        let rope = self.rope.try_clone()?;
        // Full: it rings already.
        Ok(move || _ = (&rope).write(&[0]))
    }

    /// Takes note of all that rang.
    fn quiet(&self) {
        let mut rings = [0; 64];
        while matches!((&self.heard).read(&mut rings), Ok(count) if count > 0) {}
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.heard.as_fd()
    }
}

#[cfg(test)]
mod tests;
