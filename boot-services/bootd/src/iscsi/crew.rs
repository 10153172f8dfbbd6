//! A few threads for what would keep a connection's other commands waiting: reading what is not in memory,
//! flushing, and whatever takes a command many steps.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

/// Threads. A disk that is asked for so much at once is busy.
const THREADS: usize = 8;
/// Errands that wait for a thread; past it whoever has one does it itself.
const QUEUE: usize = 256;
/// Octets of a thread's stack.
const STACK: usize = 256 << 10;

type Errand = Box<dyn FnOnce() + Send>;

/// The threads; they end when this is dropped and their errands are done.
#[derive(Debug)]
pub(super) struct Crew {
    errands: Option<SyncSender<Errand>>,
    threads: Vec<JoinHandle<()>>,
}

impl Crew {
    pub(super) fn start() -> io::Result<Crew> {
        let (errands, queue) = sync_channel(QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        let thread = |_| {
            let queue = Arc::clone(&queue);
            std::thread::Builder::new().name("crew".to_owned()).stack_size(STACK).spawn(move || work(&queue))
        };
        let threads = (0..THREADS).map(thread).collect::<io::Result<_>>()?;
        Ok(Crew { errands: Some(errands), threads })
    }

    /// Has it done by a thread, or does it before it returns.
    pub(super) fn send(&self, errand: impl FnOnce() + Send + 'static) {
        let Some(errands) = &self.errands else { return errand() };
        match errands.try_send(Box::new(errand)) {
            Ok(()) => {}
            Err(TrySendError::Full(errand) | TrySendError::Disconnected(errand)) => errand(),
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.errands = None;
        for thread in self.threads.drain(..) {
            // One that broke has nothing left to do.
            let _ = thread.join();
        }
    }
}

fn work(queue: &Mutex<Receiver<Errand>>) {
    loop {
        let errand = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match errand {
            Ok(errand) => errand(),
            Err(_) => return,
        }
    }
}
