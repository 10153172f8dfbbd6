//! The appliance's end: a session with one agent, and one image by ranges.

use agent_proto::{Order, Status};
use boot::{AgentLine, Digest, HandLine, Json};
use image::{EXTENT, Manifest, Sha256};
use std::{
    io::{BufRead, BufReader, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

/// Whatever is waited for happens within this.
const DEADLINE: Duration = Duration::from_secs(60);

/// What the agent said on its connection.
pub(crate) enum Said {
    /// The head of the request that made it.
    Head(String),
    Status(Box<Status>),
    /// A line of its log.
    Log(String),
}

pub(crate) struct Appliance {
    manifest: Manifest,
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    image: Vec<u8>,
    manifest: Vec<u8>,
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    said: Vec<Said>,
    /// What was looked at already.
    seen: usize,
    log: String,
    order: Option<String>,
    session: Option<TcpStream>,
    asked: usize,
    stall: usize,
    over: bool,
}

impl Appliance {
    pub(crate) fn new(image: &[u8]) -> Appliance {
        let extents = image.chunks(EXTENT).map(|extent| Some(image::digest(extent)));
        let manifest = Manifest::new(image.len() as u64, Sha256::new([0; 32]), extents.collect()).unwrap();
        let shared = Arc::new(Shared {
            image: image.to_vec(),
            manifest: manifest.encode(),
            state: Mutex::new(State { stall: usize::MAX, ..State::default() }),
            bell: Condvar::new(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.state.lock().unwrap().over {
                    return;
                }
                let serving = Arc::clone(&serving);
                thread::spawn(move || serving.serve(stream.unwrap()));
            }
        });
        Appliance { manifest, address, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn image_id(&self) -> Digest {
        self.manifest.id()
    }

    pub(crate) fn image_size(&self) -> u64 {
        self.manifest.size()
    }

    /// Sends an order, now if there is a connection, and on every one that comes.
    pub(crate) fn order(&self, order: &Order) {
        let line = serde_json::to_string(&HandLine::Order(Json::of(order).unwrap())).unwrap();
        self.shared.state.lock().unwrap().order = Some(line.clone());
        self.say(&line);
    }

    /// Sends a line, if there is a connection.
    pub(crate) fn say(&self, line: &str) {
        let session = self.shared.state.lock().unwrap().session.as_ref().map(|s| s.try_clone().unwrap());
        if let Some(mut session) = session {
            // The agent may be hanging up.
            let _ = session.write_all(format!("{line}\n").as_bytes());
        }
    }

    /// Ends the session's connection.
    pub(crate) fn cut(&self) {
        let session = self.shared.state.lock().unwrap().session.take();
        if let Some(session) = session {
            let _ = session.shutdown(Shutdown::Both);
        }
    }

    /// Octets of the image, from the first on, after which no more come for now.
    pub(crate) fn stall_after(&self, octets: usize) {
        self.shared.state.lock().unwrap().stall = octets;
        self.shared.bell.notify_all();
    }

    /// Waits for something to be said that was not looked at yet.
    pub(crate) fn wait(&self, wanted: impl Fn(&Said) -> bool) -> Said {
        let mut state = self.shared.state.lock().unwrap();
        loop {
            while state.seen < state.said.len() {
                state.seen += 1;
                let at = state.seen - 1;
                if wanted(&state.said[at]) {
                    return std::mem::replace(&mut state.said[at], Said::Log(String::new()));
                }
            }
            let (after, timeout) = self.shared.bell.wait_timeout(state, DEADLINE).unwrap();
            assert!(!timeout.timed_out(), "nothing of that sort was said; the agent's log:\n{}", after.log);
            state = after;
        }
    }

    /// All of the agent's log.
    pub(crate) fn log(&self) -> String {
        self.shared.state.lock().unwrap().log.clone()
    }

    /// How many requests for octets of the image there were.
    pub(crate) fn asked(&self) -> usize {
        self.shared.state.lock().unwrap().asked
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        {
            let mut state = self.shared.state.lock().unwrap();
            state.over = true;
            state.stall = usize::MAX;
        }
        self.shared.bell.notify_all();
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut stream = stream;
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head).ok()? == 0 {
                    return None;
                }
            }
            if head.starts_with("POST ") {
                return self.session(head, stream, reader);
            }
            let Some(range) = head.lines().find_map(|line| line.strip_prefix("Range: bytes=")) else {
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", self.manifest.len()).ok()?;
                stream.write_all(&self.manifest).ok()?;
                continue;
            };
            let (first, last) = range.split_once('-')?;
            let (first, end) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()? + 1);
            let whole = self.image.len();
            let (length, last) = (end - first, end - 1);
            self.state.lock().unwrap().asked += 1;
            write!(
                stream,
                "HTTP/1.1 206 Partial Content\r\nContent-Length: {length}\r\nContent-Range: bytes {first}-{last}/{whole}\r\n\r\n"
            )
            .ok()?;
            for at in (first..end).step_by(EXTENT / 4) {
                let to = end.min(at + EXTENT / 4);
                let mut state = self.state.lock().unwrap();
                while to > state.stall {
                    state = self.bell.wait(state).unwrap();
                }
                drop(state);
                stream.write_all(&self.image[at..to]).ok()?;
            }
        }
    }

    fn session(&self, head: String, mut stream: TcpStream, reader: BufReader<TcpStream>) -> Option<()> {
        stream
            .write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: kiln-agent\r\n\r\n",
            )
            .ok()?;
        {
            let mut state = self.state.lock().unwrap();
            if let Some(order) = &state.order {
                stream.write_all(format!("{order}\n").as_bytes()).ok()?;
            }
            state.session = Some(stream);
            state.said.push(Said::Head(head));
        }
        self.bell.notify_all();
        for line in reader.lines() {
            let line = serde_json::from_str(&line.ok()?).expect("the agent says nothing but its lines");
            let mut state = self.state.lock().unwrap();
            match line {
                AgentLine::Status(status) => {
                    state.said.push(Said::Status(Box::new(status.read().expect("a status"))));
                }
                AgentLine::Log(lines) => {
                    for line in lines {
                        state.log += &format!("{line}\n");
                        state.said.push(Said::Log(line));
                    }
                }
            }
            drop(state);
            self.bell.notify_all();
        }
        None
    }
}
