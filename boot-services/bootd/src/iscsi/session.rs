//! The thread of one connection: octets between its socket, its engine and its volumes.

use super::{
    crew::Crew,
    disk::{Disk, Fetched},
    line::{BUFFER, Bell, Line, Waited},
};
use crate::clock::Clock;
use iscsi::target::{Closed, Connection, DataIn, Done, Event, Job, Place, Range, TaskId, Transmit, Want};
use scsi::{Medium as _, MediumError};
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Data that go out together with others; longer ones are sent by themselves.
const SMALL: usize = 16 << 10;
/// A write that takes longer waits for the disk.
const SLOW: Duration = Duration::from_millis(2);
/// More than a session has commands.
const MOST_WARMED: usize = 256;

/// What errands of the crew have to say to the connection that sent them.
#[derive(Debug, Default)]
struct Inbox {
    done: Mutex<Vec<(TaskId, Said)>>,
}

#[derive(Debug)]
enum Said {
    Done(Done),
    /// What it reads from there on is in memory.
    Ready(u64),
}

/// What a connection has to say to the others.
#[derive(Debug)]
pub(super) enum Report {
    /// What the engine says.
    Event(Event),
    /// It was cut because its peer takes nothing.
    Stuck,
}

/// One connection and its thread's belongings.
pub(super) struct Session {
    connection: Connection<Disk>,
    line: Line,
    bell: Arc<Bell>,
    clock: Clock,
    crew: Arc<Crew>,
    inbox: Arc<Inbox>,
    /// Errands that the crew has not done.
    away: usize,
    /// What is read ahead of the next DataIn.
    data: Box<[u8]>,
    /// What the crew has read: read again without asking whether it is in memory, or it might never be.
    warmed: Vec<(TaskId, u64)>,
    /// The peer took nothing of what was sent to it.
    stuck: bool,
    /// The last write took long.
    slow: bool,
}

impl Session {
    pub(super) fn new(
        connection: Connection<Disk>,
        bell: Arc<Bell>,
        clock: Clock,
        crew: Arc<Crew>,
    ) -> Session {
        let data = vec![0; BUFFER].into_boxed_slice();
        let line = Line::new(Arc::clone(&bell));
        Session {
            connection,
            line,
            bell,
            clock,
            crew,
            inbox: Arc::default(),
            away: 0,
            data,
            warmed: Vec::new(),
            stuck: false,
            slow: false,
        }
    }

    /// Serves until the connection is over; when this returns, nothing of it can touch a volume any more.
    pub(super) fn run(mut self, tell: &dyn Fn(Report)) {
        while self.turn(tell) {}
        if self.stuck {
            tell(Report::Stuck);
        }
        // What the peer sent may still be on its way to a medium.
        while self.away > 0 {
            self.line.wait_for_alarm(None);
            self.collect();
        }
    }

    /// Everything that can be done without waiting, and then the wait; whether there is more to come.
    fn turn(&mut self, tell: &dyn Fn(Report)) -> bool {
        if self.bell.heard() {
            self.collect();
            self.connection.handle_alarm(self.clock.now());
        }
        while let Some(job) = self.connection.poll_job() {
            self.take(job);
        }
        if let Err(error) = self.transmit() {
            self.broke(&error);
        }
        while let Some(event) = self.connection.poll_event() {
            tell(Report::Event(event));
        }
        if self.connection.is_over() {
            // It is over either way.
            let _ = self.line.flush();
            return false;
        }
        match self.connection.want() {
            Want::Octets(_) => {
                if !self.line.octets().is_empty() {
                    let taken = self.connection.handle_octets(self.line.octets(), self.clock.now());
                    self.line.take(taken);
                    if taken > 0 {
                        return true;
                    }
                }
                self.wait();
            }
            Want::Place(place) => {
                // Answers to what is done are not to wait for a disk that is behind.
                if self.slow
                    && let Err(error) = self.line.flush()
                {
                    self.broke(&error);
                    return true;
                }
                if !self.place(&place) {
                    self.wait();
                }
            }
            Want::Wait => self.wait_for_alarm(),
        }
        true
    }

    fn wait(&mut self) {
        if let Err(error) = self.line.flush() {
            return self.broke(&error);
        }
        let until = self.connection.poll_timeout().map(|at| at.since(self.clock.now()));
        match self.line.wait(until) {
            Waited::Octets => {}
            waited => self.waited(waited),
        }
    }

    fn wait_for_alarm(&mut self) {
        if let Err(error) = self.line.flush() {
            return self.broke(&error);
        }
        let until = self.connection.poll_timeout().map(|at| at.since(self.clock.now()));
        let waited = self.line.wait_for_alarm(until);
        self.waited(waited);
    }

    fn broke(&mut self, error: &io::Error) {
        self.stuck |= error.kind() == io::ErrorKind::TimedOut;
        log::debug!(target: "iscsi", error:% = error; "connection broke");
        self.connection.handle_end(self.clock.now());
    }

    fn waited(&mut self, waited: Waited) {
        let now = self.clock.now();
        match waited {
            Waited::Octets => {}
            Waited::Alarm => {
                self.collect();
                self.connection.handle_alarm(now);
            }
            Waited::Timeout => self.connection.handle_timeout(now),
            Waited::End => self.connection.handle_end(now),
        }
    }

    /// Takes what the crew has done to the engine.
    fn collect(&mut self) {
        let said = std::mem::take(&mut *self.inbox.done.lock().unwrap_or_else(PoisonError::into_inner));
        for (task, said) in said {
            self.away -= 1;
            match said {
                Said::Done(done) => self.connection.handle_done(task, done, self.clock.now()),
                Said::Ready(offset) => {
                    if self.warmed.len() == MOST_WARMED {
                        // Of tasks that were aborted before they were read.
                        self.warmed.remove(0);
                    }
                    self.warmed.push((task, offset));
                    self.connection.handle_ready(task);
                }
            }
        }
    }

    /// Has the crew do it; its answer is collected after the bell.
    fn send_away(&mut self, task: TaskId, errand: impl FnOnce() -> Said + Send + 'static) {
        let (inbox, bell) = (Arc::clone(&self.inbox), Arc::clone(&self.bell));
        self.away += 1;
        self.crew.send(move || {
            let said = errand();
            inbox.done.lock().unwrap_or_else(PoisonError::into_inner).push((task, said));
            iscsi::target::Alarm::wake(&*bell);
        });
    }

    fn take(&mut self, job: Job<Disk>) {
        match job {
            Job::Perform { task, unit, work, data } => {
                self.send_away(task, move || Said::Done(Done::Response(unit.volume().perform(&work, &data))));
            }
            Job::Store { task, unit, offset, data } => {
                let stored = unit.volume().store(offset, &data);
                self.connection.handle_done(task, Done::Medium(stored), self.clock.now());
            }
            Job::Flush { task, unit } => {
                self.send_away(task, move || Said::Done(Done::Medium(unit.volume().flush())));
            }
            Job::Keep { task, unit, octets } => {
                self.send_away(task, move || Said::Done(Done::Medium(unit.volume().keep(&octets))));
            }
        }
    }

    /// Moves octets of the buffer to the medium; `false` if more must come first.
    fn place(&mut self, place: &Place<Disk>) -> bool {
        let octets = self.line.octets();
        let mut count = octets.len().min(place.length);
        if count < place.length {
            // Part of a block would have to be read first if the block is new to its volume.
            let end = place.offset + count as u64;
            count = count.saturating_sub((end % image::volume::BLOCK) as usize);
        }
        if count == 0 {
            return false;
        }
        let began = self.clock.now();
        let written = place.unit.volume().store(place.offset, &octets[..count]);
        let now = self.clock.now();
        self.slow = now.since(began) > SLOW;
        self.connection.handle_placed(count, written, now);
        self.line.take(count);
        true
    }

    fn transmit(&mut self) -> io::Result<()> {
        loop {
            let fetched = match self.connection.peek_read() {
                Some(range) => match self.fetch(&range) {
                    Some(fetched) => Some(fetched),
                    // Others go first until it is in memory.
                    None => continue,
                },
                None => None,
            };
            match self.connection.poll_transmit(self.clock.now()) {
                None => return Ok(()),
                Some(Transmit::Header(header)) => self.line.gather(header.as_ref())?,
                Some(Transmit::Octets(octets)) => self.line.gather(&octets)?,
                Some(Transmit::DataIn(data_in)) => self.send_data(&data_in, fetched)?,
            }
        }
    }

    /// Reads what goes out next; `None` if it is not in memory: somebody else is reading it.
    fn fetch(&mut self, range: &Range<Disk>) -> Option<Result<(), MediumError>> {
        let into = &mut self.data[..range.length];
        if let Some(at) = self.warmed.iter().position(|warmed| *warmed == (range.task, range.offset)) {
            self.warmed.swap_remove(at);
            return Some(range.unit.volume().read_at(range.offset, into));
        }
        match range.unit.volume().fetch(range.offset, into) {
            Ok(Fetched::Cold) => {
                self.connection.set_aside(range.task);
                let (unit, offset, length) = (Arc::clone(&range.unit), range.offset, range.length);
                self.send_away(range.task, move || {
                    unit.volume().warm(offset, length);
                    Said::Ready(offset)
                });
                None
            }
            Ok(Fetched::Whole) => Some(Ok(())),
            Err(error) => Some(Err(error)),
        }
    }

    fn send_data(
        &mut self,
        data_in: &DataIn<Disk>,
        fetched: Option<Result<(), MediumError>>,
    ) -> io::Result<()> {
        let data = &mut self.data[..data_in.length];
        let read = fetched.unwrap_or_else(|| data_in.unit.volume().read_at(data_in.offset, data));
        if let Err(error) = read {
            log::warn!(target: "iscsi", offset = data_in.offset, error:? = error; "a volume could not be read");
            let instead = self.connection.failed(data_in, error);
            return self.line.gather(&instead);
        }
        self.line.gather(data_in.header.as_ref())?;
        if data.len() <= SMALL {
            self.line.gather(data)?
        } else {
            self.line.send(data)?
        }
        self.send_trailer(data_in)
    }

    fn send_trailer(&mut self, data_in: &DataIn<Disk>) -> io::Result<()> {
        if data_in.padding == 0 && !data_in.digest {
            return Ok(());
        }
        let trailer = data_in.trailer(&self.data[..data_in.length]);
        self.line.gather(&trailer)
    }
}

/// Why a connection ended, if somebody should know of it.
pub(super) fn complaint(closed: &Closed) -> Option<String> {
    use iscsi::target::Why;
    match &closed.why {
        Why::Refused(..) | Why::Misbehaved(_) | Why::LoginTimeout => Some(closed.why.to_string()),
        Why::LoggedOut
        | Why::Ended
        | Why::Silent
        | Why::Reinstated
        | Why::Removed
        | Why::Reset
        | Why::ShutDown => None,
    }
}
