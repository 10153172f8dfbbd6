//! One connection of the export: the loop around `iscsi::target::Connection`.

use super::medium::Medium;
use crate::{clock, device::Buffer};
use image::EXTENT;
use iscsi::target::{Alarm, Connection, DataIn, Done, Event, Job, Place, TaskId, Transmit, Want};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use scsi::Medium as _;
use std::{
    io::{self, ErrorKind, IoSlice, Read, Write},
    net::{Shutdown, TcpStream},
    os::{fd::AsFd, unix::net::UnixStream},
    time::Duration,
};

/// Octets taken from the socket at once, where they are no data that are to be written.
const INBOX: usize = 64 * 1024;
/// Small PDUs are sent together until they are so long.
const OUTBOX: usize = 64 * 1024;
/// A peer that takes nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(30);
/// The longest wait.
const LOOK: Duration = Duration::from_secs(60);

/// How others reach the thread of a connection.
pub(super) struct Bell {
    stream: TcpStream,
    rope: UnixStream,
}

impl Bell {
    /// For a connection's socket; the other end is for the thread to wait on.
    pub(super) fn new(stream: &TcpStream) -> io::Result<(Bell, UnixStream)> {
        let (rope, heard) = UnixStream::pair()?;
        rope.set_nonblocking(true)?;
        heard.set_nonblocking(true)?;
        Ok((Bell { stream: stream.try_clone()?, rope }, heard))
    }
}

impl Alarm for Bell {
    fn wake(&self) {
        // Full: it rings already.
        let _ = (&self.rope).write(&[1]);
    }

    fn cut(&self) {
        // It may be closed by the peer already.
        let _ = self.stream.shutdown(Shutdown::Both);
        self.wake();
    }
}

/// What is received and not yet written, for the range it belongs to.
struct Stage {
    memory: Buffer,
    task: TaskId,
    offset: u64,
    filled: usize,
}

/// A connection's socket and memory.
pub(super) struct Driver<'a> {
    stream: TcpStream,
    heard: UnixStream,
    medium: &'a Medium<'a>,
    inbox: Vec<u8>,
    /// What of the inbox was not handed on yet.
    unread: std::ops::Range<usize>,
    outbox: Vec<u8>,
    stage: Stage,
    read: Buffer,
}

/// Why the socket cannot be used any more.
struct Broken;

impl<'a> Driver<'a> {
    pub(super) fn new(
        stream: TcpStream,
        heard: UnixStream,
        medium: &'a Medium<'a>,
    ) -> io::Result<Driver<'a>> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Driver {
            stream,
            heard,
            medium,
            inbox: vec![0; INBOX],
            unread: 0..0,
            outbox: Vec::with_capacity(OUTBOX),
            stage: Stage { memory: Buffer::new(EXTENT), task: TaskId(0), offset: 0, filled: 0 },
            read: Buffer::new(EXTENT),
        })
    }

    /// Serves until the connection is over; tells what happens.
    pub(super) fn run(mut self, mut connection: Connection<()>, tell: &dyn Fn(Event)) {
        loop {
            while let Some(event) = connection.poll_event() {
                tell(event);
            }
            while let Some(job) = connection.poll_job() {
                let (task, done) = self.perform(job);
                connection.handle_done(task, done, clock::now());
            }
            if self.transmit(&mut connection).is_err() {
                connection.handle_end(clock::now());
                // Nobody hears what else it would say.
                while connection.poll_transmit(clock::now()).is_some() {}
            }
            if connection.is_over() {
                break;
            }
            if self.advance(&mut connection).is_err() {
                connection.handle_end(clock::now());
            }
        }
        while let Some(event) = connection.poll_event() {
            tell(event);
        }
    }

    /// Takes what the connection wants, or waits for it.
    fn advance(&mut self, connection: &mut Connection<()>) -> Result<(), Broken> {
        match connection.want() {
            Want::Place(place) => {
                self.put_back(Some(&place));
                self.place(&place, connection)
            }
            Want::Octets(least) => {
                self.put_back(None);
                if self.unread.len() < least && !self.receive(connection)? {
                    return Ok(());
                }
                let used = connection.handle_octets(&self.inbox[self.unread.clone()], clock::now());
                self.unread.start += used;
                Ok(())
            }
            Want::Wait => self.wait(PollFlags::empty(), connection),
        }
    }

    /// What is staged for a range that is not wanted any more goes where all octets go.
    fn put_back(&mut self, wanted: Option<&Place<()>>) {
        let is_wanted =
            |place: &Place<()>| (place.task, place.offset) == (self.stage.task, self.stage.offset);
        if self.stage.filled == 0 || wanted.is_some_and(is_wanted) {
            return;
        }
        let mut inbox = self.stage.memory.octets()[..self.stage.filled].to_vec();
        inbox.extend_from_slice(&self.inbox[self.unread.clone()]);
        self.unread = 0..inbox.len();
        inbox.resize(inbox.len().max(INBOX), 0);
        self.inbox = inbox;
        self.stage.filled = 0;
    }

    /// Receives into place: first into aligned memory, as much as fits, and then onto the disk.
    fn place(&mut self, place: &Place<()>, connection: &mut Connection<()>) -> Result<(), Broken> {
        let goal = place.length.min(EXTENT);
        let stage = &mut self.stage;
        (stage.task, stage.offset) = (place.task, place.offset);
        let from = &self.inbox[self.unread.clone()];
        let count = from.len().min(goal - stage.filled);
        stage.memory.octets()[stage.filled..][..count].copy_from_slice(&from[..count]);
        self.unread.start += count;
        stage.filled += count;
        if stage.filled < goal {
            match self.stream.read(&mut stage.memory.octets()[stage.filled..goal]) {
                Ok(0) => return Err(Broken),
                Ok(count) => stage.filled += count,
                Err(e) if is_pause(&e) => return self.wait(PollFlags::POLLIN, connection),
                Err(_) => return Err(Broken),
            }
        }
        if stage.filled == goal {
            stage.filled = 0;
            let done = self.medium.write_aligned(place.offset, &stage.memory.octets()[..goal]);
            connection.handle_placed(goal, done, clock::now());
        }
        Ok(())
    }

    /// Receives into the inbox; whether anything came, or something else happened first.
    fn receive(&mut self, connection: &mut Connection<()>) -> Result<bool, Broken> {
        self.inbox.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        if self.unread.end == self.inbox.len() {
            // The connection wants more at once than there is room for: it is bounded by what it announced.
            self.inbox.resize(self.inbox.len() + INBOX, 0);
        }
        match self.stream.read(&mut self.inbox[self.unread.end..]) {
            Ok(0) => Err(Broken),
            Ok(count) => {
                self.unread.end += count;
                Ok(true)
            }
            Err(e) if is_pause(&e) => self.wait(PollFlags::POLLIN, connection).map(|()| false),
            Err(_) => Err(Broken),
        }
    }

    /// Waits for the socket, the bell, or the connection's own time.
    fn wait(&mut self, events: PollFlags, connection: &mut Connection<()>) -> Result<(), Broken> {
        let now = clock::now();
        let until = connection.poll_timeout().map_or(LOOK, |at| at.since(now).min(LOOK));
        let mut fds =
            [PollFd::new(self.stream.as_fd(), events), PollFd::new(self.heard.as_fd(), PollFlags::POLLIN)];
        // Rounded up, so that it is time when it returns.
        let limit = PollTimeout::try_from(until + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        let rung = match poll(&mut fds, limit) {
            Ok(_) => {
                let hung_up = fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP));
                if events.is_empty() && hung_up {
                    return Err(Broken);
                }
                fds[1].any().unwrap_or(false)
            }
            Err(nix::errno::Errno::EINTR) => false,
            Err(_) => return Err(Broken),
        };
        if rung {
            let mut rings = [0; 64];
            while matches!((&self.heard).read(&mut rings), Ok(count) if count > 0) {}
            connection.handle_alarm(clock::now());
        }
        let now = clock::now();
        if connection.poll_timeout().is_some_and(|at| at <= now) {
            connection.handle_timeout(now);
        }
        Ok(())
    }

    fn perform(&self, job: Job<()>) -> (TaskId, Done) {
        match job {
            Job::Perform { task, work, data, .. } => (task, Done::Response(work.perform(self.medium, &data))),
            Job::Store { task, offset, data, .. } => {
                (task, Done::Medium(self.medium.write_at(offset, &data)))
            }
            Job::Flush { task, .. } => (task, Done::Medium(self.medium.flush())),
            // The export ends with the deployment: there is no power cut for them to outlast.
            Job::Keep { task, .. } => (task, Done::Medium(Ok(()))),
        }
    }

    /// Sends all there is to be sent.
    fn transmit(&mut self, connection: &mut Connection<()>) -> Result<(), Broken> {
        while let Some(next) = connection.poll_transmit(clock::now()) {
            match next {
                Transmit::Header(header) => self.outbox.extend_from_slice(&header),
                Transmit::Octets(octets) => self.outbox.extend_from_slice(&octets),
                Transmit::DataIn(data_in) => self.send_data(&data_in, connection)?,
            }
            if self.outbox.len() >= OUTBOX {
                self.send(0)?;
            }
        }
        self.send(0)
    }

    fn send_data(&mut self, data_in: &DataIn<()>, connection: &mut Connection<()>) -> Result<(), Broken> {
        if data_in.length > EXTENT {
            // Longer than what the target takes itself is not asked of it by any initiator we know.
            self.read = Buffer::new(data_in.length);
        }
        let octets = &mut self.read.octets()[..data_in.length];
        if let Err(error) = self.medium.read_aligned(data_in.offset, octets) {
            self.outbox.extend_from_slice(&connection.failed(data_in, error));
            return Ok(());
        }
        let trailer = data_in.trailer(octets);
        self.outbox.extend_from_slice(&data_in.header);
        self.send(data_in.length)?;
        self.outbox.extend_from_slice(&trailer);
        Ok(())
    }

    /// Sends the outbox, and so many octets of what was read from the disk.
    fn send(&mut self, data: usize) -> Result<(), Broken> {
        let (mut sent, total) = (0, self.outbox.len() + data);
        let mut progress = clock::now();
        while sent < total {
            let head = &self.outbox[sent.min(self.outbox.len())..];
            let tail = &self.read.octets()[sent.saturating_sub(self.outbox.len())..data];
            match self.stream.write_vectored(&[IoSlice::new(head), IoSlice::new(tail)]) {
                Ok(0) => return Err(Broken),
                Ok(count) => {
                    sent += count;
                    progress = clock::now();
                }
                Err(e) if is_pause(&e) => {
                    let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::POLLOUT)];
                    let limit = PollTimeout::try_from(SILENCE).unwrap_or(PollTimeout::MAX);
                    let ready = poll(&mut fds, limit);
                    if clock::now().since(progress) >= SILENCE
                        || ready.is_err_and(|e| e != nix::errno::Errno::EINTR)
                    {
                        return Err(Broken);
                    }
                }
                Err(_) => return Err(Broken),
            }
        }
        self.outbox.clear();
        Ok(())
    }
}

fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
