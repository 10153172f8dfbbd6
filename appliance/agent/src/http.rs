//! The little HTTP/1.1 that the agent speaks: GET with a range on a connection that is kept, and the
//! upgrade to lines. The other end may say anything.

use crate::cmdline::Appliance;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::{
    fmt,
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    ops::Range,
    time::Duration,
};

/// A response's head is at most so long.
const HEAD: usize = 16 * 1024;
const HEADERS: usize = 64;
const CONNECT: Duration = Duration::from_secs(5);
/// A read returns after this at the latest, so that its caller can look whether to go on.
const TICK: Duration = Duration::from_secs(1);
/// An appliance that is silent for so long in the middle of an answer is gone.
const SILENCE: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The connection cannot be made, or broke.
    Line(io::Error),
    /// The appliance said no: status, reason, and what was asked for.
    Refused(u16, String, String),
    /// It said what no HTTP server should.
    Nonsense(&'static str),
    /// We were told to stop.
    Halted,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Line(e) => write!(f, "connection to the appliance: {e}"),
            Trouble::Refused(status, reason, path) => {
                write!(f, "the appliance answered {status} {reason} to {path}")
            }
            Trouble::Nonsense(what) => write!(f, "the appliance sent {what}"),
            Trouble::Halted => f.write_str("stopped"),
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(e: io::Error) -> Trouble {
        Trouble::Line(e)
    }
}

/// What the agent needs of a response's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    reason: String,
    /// Octets of the body.
    length: Option<u64>,
    /// First octet, last octet, octets of the whole.
    range: Option<(u64, u64)>,
    chunked: bool,
    close: bool,
}

impl Head {
    /// Reads a head from the front of `octets`; with it, how long it is. None: there is more to come.
    pub(crate) fn parse(octets: &[u8]) -> Result<Option<(Head, usize)>, Trouble> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let end = match response.parse(octets) {
            Ok(httparse::Status::Complete(end)) => end,
            Ok(httparse::Status::Partial) if octets.len() < HEAD => return Ok(None),
            Ok(httparse::Status::Partial) => return Err(Trouble::Nonsense("a head of more than 16 KiB")),
            Err(_) => return Err(Trouble::Nonsense("something that is not HTTP")),
        };
        let mut head = Head {
            status: response.code.unwrap_or(0),
            reason: response.reason.unwrap_or("").chars().take(80).collect(),
            length: None,
            range: None,
            chunked: false,
            close: response.version != Some(1),
        };
        for header in response.headers.iter() {
            let value = std::str::from_utf8(header.value).unwrap_or("").trim();
            if header.name.eq_ignore_ascii_case("content-length") {
                let length = value.parse().map_err(|_| Trouble::Nonsense("a length that is no number"))?;
                // RFC 9112, 6.3: differing lengths are an unrecoverable error.
                if head.length.is_some_and(|before| before != length) {
                    return Err(Trouble::Nonsense("two lengths"));
                }
                head.length = Some(length);
            } else if header.name.eq_ignore_ascii_case("content-range") {
                head.range = Some(content_range(value).ok_or(Trouble::Nonsense("a range that is none"))?);
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                head.chunked = true;
            } else if header.name.eq_ignore_ascii_case("connection") {
                head.close |= value.split(',').any(|word| word.trim().eq_ignore_ascii_case("close"));
            }
        }
        Ok(Some((head, end)))
    }
}

/// `bytes 0-99/1000` or `bytes 0-99/*` (RFC 9110, 14.4).
fn content_range(value: &str) -> Option<(u64, u64)> {
    let (range, _whole) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

/// A connection to the appliance.
pub(crate) struct Connection {
    stream: TcpStream,
    /// Read, and not taken yet.
    ahead: Vec<u8>,
    taken: usize,
    /// Octets of the body that are still to come.
    left: u64,
    reusable: bool,
    head_base: String,
}

impl Connection {
    /// Connects.
    pub(crate) fn open(appliance: &Appliance) -> Result<Connection, Trouble> {
        let domain = Domain::for_address(appliance.address);
        let socket = Socket::new(domain, Type::STREAM.cloexec(), Some(Protocol::TCP))?;
        // What is sent and not acknowledged for 6 s, or three probes without answer: the other end is
        // gone, though nothing said so.
        socket.set_tcp_user_timeout(Some(Duration::from_secs(6)))?;
        let probes = TcpKeepalive::new()
            .with_time(Duration::from_secs(4))
            .with_interval(Duration::from_secs(2))
            .with_retries(3);
        socket.set_tcp_keepalive(&probes)?;
        socket.set_tcp_nodelay(true)?;
        socket.connect_timeout(&appliance.address.into(), CONNECT)?;
        socket.set_read_timeout(Some(TICK))?;
        socket.set_write_timeout(Some(SILENCE))?;
        let host = match appliance.address.port() {
            80 if appliance.address.is_ipv4() => appliance.address.ip().to_string(),
            _ => appliance.address.to_string(),
        };
        let head_base = format!(
            "Host: {host}\r\nAuthorization: Bearer {}\r\nUser-Agent: kiln-agent/{}\r\n",
            appliance.token.expose(),
            env!("CARGO_PKG_VERSION")
        );
        Ok(Connection {
            stream: socket.into(),
            ahead: Vec::new(),
            taken: 0,
            left: 0,
            reusable: true,
            head_base,
        })
    }

    /// Whether another request can be sent.
    pub(crate) fn is_reusable(&self) -> bool {
        self.reusable && self.left == 0
    }

    /// Asks for `path`, or octets of it; returns how many octets [`Connection::read`] will give. `halted`
    /// is asked every second.
    pub(crate) fn get(
        &mut self,
        path: &str,
        range: Option<&Range<u64>>,
        halted: &dyn Fn() -> bool,
    ) -> Result<u64, Trouble> {
        let mut request = format!("GET {path} HTTP/1.1\r\n{}", self.head_base);
        if let Some(range) = range {
            request += &format!("Range: bytes={}-{}\r\n", range.start, range.end.saturating_sub(1));
        }
        request += "\r\n";
        self.stream.write_all(request.as_bytes())?;
        let head = self.head(halted)?;
        self.reusable = !head.close;
        if head.status != if range.is_some() { 206 } else { 200 } {
            self.reusable = false;
            return Err(Trouble::Refused(head.status, head.reason, path.to_owned()));
        }
        if head.chunked {
            return Err(Trouble::Nonsense("a body without a length"));
        }
        self.left = head.length.ok_or(Trouble::Nonsense("a body without a length"))?;
        if let Some(range) = range {
            let sent = head.range.ok_or(Trouble::Nonsense("a part that does not say which"))?;
            if (sent.0, sent.1.saturating_add(1)) != (range.start, range.end)
                || self.left != range.end - range.start
            {
                return Err(Trouble::Nonsense("another part than was asked for"));
            }
        }
        Ok(self.left)
    }

    /// Reads `buffer` full from the body.
    pub(crate) fn read(&mut self, buffer: &mut [u8], halted: &dyn Fn() -> bool) -> Result<(), Trouble> {
        if buffer.len() as u64 > self.left {
            return Err(Trouble::Nonsense("a body that is too short"));
        }
        let mut filled = self.ahead.len().saturating_sub(self.taken).min(buffer.len());
        buffer[..filled].copy_from_slice(&self.ahead[self.taken..self.taken + filled]);
        self.taken += filled;
        while filled < buffer.len() {
            filled += receive(&mut self.stream, &mut buffer[filled..], halted)?;
        }
        self.left -= buffer.len() as u64;
        Ok(())
    }

    /// Asks for the connection to be one of lines, at `path`; returns it with what was read ahead.
    pub(crate) fn upgrade(
        mut self,
        path: &str,
        halted: &dyn Fn() -> bool,
    ) -> Result<(TcpStream, Vec<u8>), Trouble> {
        let request = format!(
            "POST {path} HTTP/1.1\r\n{}Upgrade: kiln-agent\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n",
            self.head_base
        );
        self.stream.write_all(request.as_bytes())?;
        let head = self.head(halted)?;
        if head.status != 101 {
            return Err(Trouble::Refused(head.status, head.reason, path.to_owned()));
        }
        Ok((self.stream, self.ahead.split_off(self.taken)))
    }

    fn head(&mut self, halted: &dyn Fn() -> bool) -> Result<Head, Trouble> {
        self.ahead.drain(..self.taken);
        self.taken = 0;
        let mut room = [0; 4096];
        loop {
            if let Some((head, end)) = Head::parse(&self.ahead)? {
                // RFC 9110, 15.2: a client must be able to parse and may ignore interim responses.
                if (100..200).contains(&head.status) && head.status != 101 {
                    self.ahead.drain(..end);
                    continue;
                }
                self.taken = end;
                return Ok(head);
            }
            let count = receive(&mut self.stream, &mut room, halted)?;
            self.ahead.extend_from_slice(&room[..count]);
        }
    }
}

fn receive(stream: &mut TcpStream, buffer: &mut [u8], halted: &dyn Fn() -> bool) -> Result<usize, Trouble> {
    let mut silent = Duration::ZERO;
    loop {
        if halted() {
            return Err(Trouble::Halted);
        }
        match stream.read(buffer) {
            Ok(0) => return Err(Trouble::Line(ErrorKind::UnexpectedEof.into())),
            Ok(count) => return Ok(count),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                silent += TICK;
                if silent >= SILENCE {
                    return Err(Trouble::Line(ErrorKind::TimedOut.into()));
                }
            }
            Err(e) => return Err(Trouble::Line(e)),
        }
    }
}

#[cfg(test)]
mod tests;
