//! A connection to a node's disk: octets between its socket and `iscsi::initiator`.

use super::{Bell, Trouble};
use crate::clock::Clock;
use boot::Push;
use bytes::Bytes;
use iscsi::{
    chap::{Algorithm, Chap, Credentials, Nonce, Secret, Unfit},
    initiator::{Disk, Event, Failure, Initiator, Operation, OperationId, Settings, Transmit, Why},
    pdu::Lun,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sansio::Time;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    collections::VecDeque,
    fs::File,
    io::{self, ErrorKind, IoSlice, Read as _, Write as _},
    net::TcpStream,
    os::fd::AsFd as _,
    time::Duration,
};

/// A connection that is not there after so long is tried again.
const DIAL: Duration = Duration::from_secs(5);
/// Octets taken from the socket at once.
const INBOX: usize = 256 << 10;
/// PDUs that wait to be sent; their data are the caller's.
const OUTBOX: usize = 32;
/// The longest wait.
const LOOK: Duration = Duration::from_secs(60);

/// An operation that is over.
pub(super) type Done = (OperationId, Result<Bytes, Failure>);

/// A connection on which somebody is logged in.
pub(super) struct Line<'a> {
    engine: Initiator,
    stream: TcpStream,
    bell: &'a Bell,
    clock: Clock,
    inbox: Box<[u8]>,
    outbox: VecDeque<Transmit>,
    /// Octets of the first that were sent.
    sent: usize,
}

impl<'a> Line<'a> {
    /// Connects and logs in. With it, the disk.
    pub(super) fn open(
        push: &Push,
        algorithms: &[Algorithm],
        clock: Clock,
        bell: &'a Bell,
    ) -> Result<(Line<'a>, Disk), Trouble> {
        let settings = Settings { algorithms: algorithms.to_vec(), ..settings(push)? };
        let until = clock.now() + DIAL;
        let stream = dial(push, bell, until, clock)?;
        let mut engine = Initiator::new(settings, clock.now());
        // Its first wish is the connection that is there.
        while engine.poll_event().is_some() {}
        engine
            .handle_connected(nonce().map_err(|e| Trouble::lost("drawing random octets", &e))?, clock.now());
        let mut line = Line {
            engine,
            stream,
            bell,
            clock,
            inbox: vec![0; INBOX].into_boxed_slice(),
            outbox: VecDeque::new(),
            sent: 0,
        };
        loop {
            line.turn(None)?;
            if let Some(disk) = line.engine.disk() {
                let disk = disk.clone();
                return Ok((line, disk));
            }
        }
    }

    /// How many more operations may be submitted now.
    pub(super) fn room(&self) -> usize {
        self.engine.room()
    }

    /// Has it done; what came of it is told by a later [`Line::turn`].
    pub(super) fn submit(&mut self, operation: Operation) -> Result<OperationId, Trouble> {
        self.engine.submit(operation).map_err(|e| Trouble::Lost(e.to_string()))
    }

    /// Sends and receives, and waits if there is neither to do: until operations are over, somebody rings,
    /// or `until`.
    pub(super) fn turn(&mut self, until: Option<Time>) -> Result<Vec<Done>, Trouble> {
        loop {
            if self.bell.is_to_stop() {
                return Err(Trouble::Stopped);
            }
            let wrote = self.write()?;
            let read = self.read()?;
            let (done, news) = self.events()?;
            if news {
                return Ok(done);
            }
            if !wrote && !read && (self.wait(until)? || until.is_some_and(|at| at <= self.clock.now())) {
                return Ok(Vec::new());
            }
        }
    }

    /// Takes leave; the connection ends whether the target says something to it or not.
    pub(super) fn leave(mut self) {
        self.engine.log_out(self.clock.now());
        let until = self.clock.now() + Duration::from_secs(2);
        // Over, lost or out of time: nobody is interested any more.
        while self.clock.now() < until && self.turn(Some(until)).is_ok() {}
    }

    /// Whether something was sent.
    fn write(&mut self) -> Result<bool, Trouble> {
        let mut any = false;
        loop {
            while self.outbox.len() < OUTBOX
                && let Some(transmit) = self.engine.poll_transmit(self.clock.now())
            {
                self.outbox.push_back(transmit);
            }
            let mut slices: Vec<IoSlice<'_>> = self.outbox.iter().flat_map(Transmit::slices).collect();
            let mut rest = slices.as_mut_slice();
            IoSlice::advance_slices(&mut rest, self.sent);
            if rest.is_empty() {
                return Ok(any);
            }
            match self.stream.write_vectored(rest) {
                Ok(0) => return Err(Trouble::Lost("the socket takes nothing any more".to_owned())),
                Ok(count) => {
                    any = true;
                    self.sent += count;
                    while let Some(first) =
                        self.outbox.front().map(Transmit::length).filter(|l| *l <= self.sent)
                    {
                        self.sent -= first;
                        self.outbox.pop_front();
                    }
                }
                Err(e) if is_pause(&e) => return Ok(any),
                Err(e) => return Err(Trouble::lost("sending", &e)),
            }
        }
    }

    /// Whether something was received.
    fn read(&mut self) -> Result<bool, Trouble> {
        match self.stream.read(&mut self.inbox) {
            Ok(0) => {
                self.engine.handle_disconnected("the node closed the connection", self.clock.now());
                Ok(true)
            }
            Ok(count) => {
                self.engine.handle_bytes(&self.inbox[..count], self.clock.now());
                Ok(true)
            }
            Err(e) if is_pause(&e) => Ok(false),
            Err(e) => Err(Trouble::lost("receiving", &e)),
        }
    }

    /// What is over; and whether there is anything new.
    fn events(&mut self) -> Result<(Vec<Done>, bool), Trouble> {
        let (mut done, mut news) = (Vec::new(), false);
        while let Some(event) = self.engine.poll_event() {
            news = true;
            match event {
                Event::Connect | Event::Ready(_) => {}
                Event::Done { id, result } => done.push((id, result)),
                // What is not over is begun again on a new connection, from what was flushed last.
                Event::Lost { why, .. } | Event::Over(why) => return Err(Trouble::from(why)),
            }
        }
        Ok((done, news))
    }

    /// Waits for the socket, the bell, the engine's own time, or `until`; whether somebody rang.
    fn wait(&mut self, until: Option<Time>) -> Result<bool, Trouble> {
        let now = self.clock.now();
        let at = [self.engine.poll_timeout(), until, Some(now + LOOK)].into_iter().flatten().min();
        let limit = at.map_or(LOOK, |at| at.since(now)) + Duration::from_millis(1);
        let rang = pause(Some((&self.stream, !self.outbox.is_empty())), self.bell, limit)
            .map_err(|e| Trouble::lost("waiting", &e))?;
        let now = self.clock.now();
        if self.engine.poll_timeout().is_some_and(|at| at <= now) {
            self.engine.handle_timeout(now);
        }
        Ok(rang)
    }
}

/// Waits until there is something to receive (or also room to send), somebody rings, or for so long; whether
/// somebody rang.
pub(super) fn pause(stream: Option<(&TcpStream, bool)>, bell: &Bell, limit: Duration) -> io::Result<bool> {
    let mut fds = vec![PollFd::new(bell.as_fd(), PollFlags::POLLIN)];
    if let Some((stream, sends)) = stream {
        let events = if sends { PollFlags::POLLIN | PollFlags::POLLOUT } else { PollFlags::POLLIN };
        fds.push(PollFd::new(stream.as_fd(), events));
    }
    match poll(&mut fds, PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX)) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(e) => return Err(e.into()),
    }
    let rang = fds[0].any().unwrap_or(false);
    if rang {
        bell.quiet();
    }
    Ok(rang)
}

fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn dial(push: &Push, bell: &Bell, until: Time, clock: Clock) -> Result<TcpStream, Trouble> {
    let begin = || -> io::Result<Socket> {
        let socket =
            Socket::new(Domain::for_address(push.portal), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(device) = &push.device {
            socket.bind_device(Some(device.as_str().as_bytes()))?;
        }
        match socket.connect(&push.portal.into()) {
            Err(e) if e.raw_os_error() != Some(nix::libc::EINPROGRESS) => Err(e),
            _ => Ok(socket),
        }
    };
    let lost = |e: io::Error| Trouble::lost(&format!("connecting to {}", push.portal), &e);
    let stream = TcpStream::from(begin().map_err(lost)?);
    loop {
        if bell.is_to_stop() {
            return Err(Trouble::Stopped);
        }
        if let Some(error) = stream.take_error().map_err(lost)? {
            return Err(lost(error));
        }
        if stream.peer_addr().is_ok() {
            return Ok(stream);
        }
        let now = clock.now();
        if now >= until {
            return Err(lost(ErrorKind::TimedOut.into()));
        }
        pause(Some((&stream, true)), bell, until.since(now)).map_err(lost)?;
    }
}

fn settings(push: &Push) -> Result<Settings, Trouble> {
    let unfit = |e: Unfit| Trouble::Fatal(format!("the plan's CHAP: {e}"));
    let credentials = |user: &str, secret: &boot::Secret| -> Result<Credentials, Trouble> {
        let secret = Secret::new(secret.expose()).map_err(unfit)?;
        Ok(Credentials { user: user.to_owned(), secret })
    };
    let chap = &push.chap;
    // The image may hold a tenant's secrets: it goes to nobody who does not prove that he is the node.
    let theirs = chap.target_secret.as_ref().ok_or_else(|| {
        Trouble::Fatal("the plan has no secret for the node to prove itself with; deploy again".to_owned())
    })?;
    let ours = credentials(&chap.user, &chap.secret)?;
    let proof = Chap::new(ours, Some(credentials(&chap.target_user, theirs)?)).map_err(unfit)?;
    Ok(Settings {
        lun: Lun::single(push.lun),
        chap: Some(proof),
        ..Settings::new(push.initiator.as_str(), push.target.as_str())
    })
}

fn nonce() -> io::Result<Nonce> {
    let mut octets = [0; 33];
    File::open("/dev/urandom")?.read_exact(&mut octets)?;
    Ok(Nonce(octets))
}

impl From<Why> for Trouble {
    fn from(why: Why) -> Trouble {
        match why {
            Why::Unfit(_) => Trouble::Fatal(format!("the node's disk: {why}; deploy again")),
            Why::Refused(_) | Why::Unproved(_) | Why::Text(_) => Trouble::Refused(why.to_string()),
            _ => Trouble::Lost(why.to_string()),
        }
    }
}
