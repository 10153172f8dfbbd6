//! The socket of one connection: what is received waits in one buffer, what is sent is gathered.
//!
//! Reception does not block in the kernel at once: an initiator at queue depth 1 answers within a few
//! microseconds, and being put to sleep and woken again costs more than that. So the thread looks again for
//! [`PATIENCE`] first, as long as that has paid off lately and few others do the same.

use iscsi::target::Alarm;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, recv, send},
};
use std::{
    io::{self, IoSlice, PipeReader, PipeWriter, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    os::fd::{AsFd as _, AsRawFd as _},
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// Octets that are received and not yet taken; also the most that one read of the medium fetches.
pub(super) const BUFFER: usize = 256 << 10;
/// The most octets that are received at once: what is copied twice should still be in the cache.
const GULP: usize = 64 << 10;
/// What is gathered before it is sent.
const GATHER: usize = 32 << 10;
/// A peer that takes nothing for so long is cut off.
pub(super) const STUCK: Duration = Duration::from_secs(30);
/// How long the thread looks before it sleeps.
const PATIENCE: Duration = Duration::from_micros(30);
/// A sleep that was shorter would not have been one, but for what waking takes.
const QUICK: Duration = Duration::from_micros(120);
/// Looking that was in vain so often is given up, and tried again when the peer is quick again.
const VAIN: u32 = 3;

/// Buffers that nobody has octets in, the one used last on top: it is still in the processor's cache.
static SPARE: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());
/// More than that many are given up.
const MOST_SPARE: usize = 8;

/// Threads that look at this moment; more than half of the processors never do.
static LOOKING: AtomicUsize = AtomicUsize::new(0);
static HALF: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from).div_ceil(2));

/// The socket, and what ends its thread's waiting.
#[derive(Debug)]
pub(super) struct Bell {
    socket: TcpStream,
    rung: AtomicBool,
    /// Holds one octet while `rung`, for who sleeps in poll(2).
    sound: PipeWriter,
    ear: PipeReader,
}

impl Bell {
    pub(super) fn new(socket: TcpStream) -> io::Result<Arc<Bell>> {
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let (ear, sound) = io::pipe()?;
        Ok(Arc::new(Bell { socket, rung: AtomicBool::new(false), sound, ear }))
    }

    /// Whether it rang since this was asked last.
    pub(super) fn heard(&self) -> bool {
        if !self.rung.load(Ordering::Acquire) {
            return false;
        }
        // The octet was or will be written by who set `rung`: this waits for it and for nothing else.
        let _ = (&self.ear).read(&mut [0]);
        self.rung.swap(false, Ordering::AcqRel)
    }
}

impl Alarm for Bell {
    fn wake(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            // One octet at most is in the pipe: it is never full.
            let _ = (&self.sound).write(&[0]);
        }
    }

    fn cut(&self) {
        // One that is gone is cut.
        let _ = self.socket.shutdown(Shutdown::Both);
        self.wake();
    }
}

/// Why waiting ended.
#[derive(Debug)]
pub(super) enum Waited {
    /// There are more octets in the buffer.
    Octets,
    /// The bell rang.
    Alarm,
    /// The time is over.
    Timeout,
    /// The peer closed its end, or the network broke it.
    End,
}

/// One connection's octets, in and out.
#[derive(Debug)]
pub(super) struct Line {
    bell: Arc<Bell>,
    /// Empty while there are no octets and the thread sleeps.
    input: Box<[u8]>,
    start: usize,
    end: usize,
    output: Vec<u8>,
    vain: u32,
}

impl Drop for Line {
    fn drop(&mut self) {
        (self.start, self.end) = (0, 0);
        self.give_buffer_back();
    }
}

impl Line {
    pub(super) fn new(bell: Arc<Bell>) -> Line {
        Line { bell, input: Box::default(), start: 0, end: 0, output: Vec::with_capacity(GATHER), vain: 0 }
    }

    /// What was received and not taken.
    pub(super) fn octets(&self) -> &[u8] {
        &self.input[self.start..self.end]
    }

    /// These were taken.
    pub(super) fn take(&mut self, count: usize) {
        self.start += count;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Receives at least one octet, or says why not; `until` is how long from now.
    pub(super) fn wait(&mut self, until: Option<Duration>) -> Waited {
        self.take_buffer();
        if self.end == self.input.len() {
            self.input.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        debug_assert!(self.end < self.input.len(), "whoever waits takes what is there");
        if self.bell.heard() {
            return Waited::Alarm;
        }
        if let Some(waited) = self.try_receive() {
            return waited;
        }
        if let Some(waited) = self.look() {
            return waited;
        }
        self.sleep(PollFlags::POLLIN, until)
    }

    fn take_buffer(&mut self) {
        if self.input.is_empty() {
            let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop();
            self.input = spare.unwrap_or_else(|| vec![0; BUFFER].into_boxed_slice());
        }
    }

    fn give_buffer_back(&mut self) {
        if self.start < self.end || self.input.is_empty() {
            return;
        }
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < MOST_SPARE {
            spare.push(std::mem::take(&mut self.input));
        } else {
            self.input = Box::default();
        }
    }

    /// Waits for the bell alone.
    pub(super) fn wait_for_alarm(&mut self, until: Option<Duration>) -> Waited {
        self.sleep(PollFlags::empty(), until)
    }

    fn try_receive(&mut self) -> Option<Waited> {
        self.take_buffer();
        let most = self.input.len().min(self.end + GULP);
        loop {
            let room = &mut self.input[self.end..most];
            return match recv(self.bell.socket.as_raw_fd(), room, MsgFlags::empty()) {
                Ok(0) => Some(Waited::End),
                Ok(count) => {
                    self.end += count;
                    Some(Waited::Octets)
                }
                Err(Errno::EAGAIN) => None,
                Err(Errno::EINTR) => continue,
                Err(_) => Some(Waited::End),
            };
        }
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "microseconds between two looks at a socket are the driver's"
    )]
    fn look(&mut self) -> Option<Waited> {
        if self.vain >= VAIN {
            return None;
        }
        if LOOKING.fetch_add(1, Ordering::Relaxed) >= *HALF {
            LOOKING.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let began = Instant::now();
        let mut seen = None;
        while seen.is_none() && began.elapsed() < PATIENCE {
            seen = if self.bell.rung.load(Ordering::Acquire) {
                self.bell.heard().then_some(Waited::Alarm)
            } else {
                self.try_receive()
            };
        }
        LOOKING.fetch_sub(1, Ordering::Relaxed);
        self.vain = if seen.is_some() { 0 } else { self.vain + 1 };
        seen
    }

    #[allow(clippy::disallowed_methods, reason = "how long a peer was waited for is the driver's to know")]
    fn sleep(&mut self, wanted: PollFlags, until: Option<Duration>) -> Waited {
        self.give_buffer_back();
        let began = Instant::now();
        loop {
            if self.bell.heard() {
                return Waited::Alarm;
            }
            let left = match until.map(|until| until.saturating_sub(began.elapsed())) {
                Some(Duration::ZERO) => return Waited::Timeout,
                // Rounded up: a timeout that comes early would be asked for again at once.
                Some(left) => {
                    PollTimeout::try_from(left + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX)
                }
                None => PollTimeout::NONE,
            };
            let mut watched = [
                PollFd::new(self.bell.ear.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.bell.socket.as_fd(), wanted),
            ];
            let watched = if wanted.is_empty() { &mut watched[..1] } else { &mut watched[..] };
            if poll(watched, left).is_ok() && !wanted.is_empty() && watched[1].any() == Some(true) {
                match self.try_receive() {
                    None => continue,
                    Some(waited) => {
                        // The peer was quick: looking may pay off the next time.
                        if began.elapsed() < QUICK {
                            self.vain = self.vain.min(VAIN - 1);
                        }
                        return waited;
                    }
                }
            }
        }
    }

    /// Sends it with what else is gathered, at the latest at the next [`flush`](Line::flush).
    pub(super) fn gather(&mut self, octets: &[u8]) -> io::Result<()> {
        self.output.extend_from_slice(octets);
        if self.output.len() >= GATHER { self.flush() } else { Ok(()) }
    }

    /// Sends what is gathered and these octets behind it.
    pub(super) fn send(&mut self, octets: &[u8]) -> io::Result<()> {
        let gathered = std::mem::take(&mut self.output);
        let sent = self.write(&gathered, octets);
        self.output = gathered;
        self.output.clear();
        sent
    }

    /// Sends what is gathered.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.send(&[])
    }

    fn write(&self, mut first: &[u8], mut second: &[u8]) -> io::Result<()> {
        while !first.is_empty() || !second.is_empty() {
            let sent = if first.is_empty() || second.is_empty() {
                let one = if first.is_empty() { second } else { first };
                send(self.bell.socket.as_raw_fd(), one, MsgFlags::MSG_NOSIGNAL).map_err(io::Error::from)
            } else {
                (&self.bell.socket).write_vectored(&[IoSlice::new(first), IoSlice::new(second)])
            };
            match sent {
                Ok(count) => {
                    let of_first = count.min(first.len());
                    first = &first[of_first..];
                    second = &second[count - of_first..];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait_for_room()?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn wait_for_room(&self) -> io::Result<()> {
        let most = PollTimeout::try_from(STUCK).unwrap_or(PollTimeout::MAX);
        let mut watched = [PollFd::new(self.bell.socket.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut watched, most) {
            Ok(0) => Err(io::ErrorKind::TimedOut.into()),
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests;
