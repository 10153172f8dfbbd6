//! An appliance in this process that serves one image, and misbehaves on request.

use super::manifest;
use crate::cmdline::Appliance;
use agent_proto::ConfigDrive;
use boot::Attempt;
use image::Manifest;
use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

#[derive(Clone, Copy, PartialEq)]
pub(super) enum Fault {
    /// Nobody answers.
    Gone,
    /// 403.
    Refuse,
    /// Each connection is cut after so many octets of the image.
    CutAfter(usize),
    /// So many times the octet at this place is another.
    CorruptTimes(usize, usize),
}

pub(super) struct Host {
    pub(super) manifest: Manifest,
    pub(super) drive: Option<ConfigDrive>,
    pub(super) attempt: Attempt,
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    image: Vec<u8>,
    manifest: Vec<u8>,
    drive: Mutex<Vec<u8>>,
    fault: Mutex<Option<Fault>>,
    asked: Mutex<Vec<String>>,
    over: AtomicBool,
}

impl Host {
    pub(super) fn new(image: &[u8]) -> Host {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let manifest = manifest(image);
        let shared = Arc::new(Shared {
            image: image.to_vec(),
            manifest: manifest.encode(),
            drive: Mutex::default(),
            fault: Mutex::default(),
            asked: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.over.load(Relaxed) {
                    return;
                }
                let serving = Arc::clone(&serving);
                thread::spawn(move || serving.serve(stream.unwrap()));
            }
        });
        Host { manifest, drive: None, attempt: "n1-1".parse().unwrap(), address, shared }
    }

    pub(super) fn appliance(&self) -> Appliance {
        Appliance::new(&format!("http://{}", self.address), self.attempt.as_str(), "token").unwrap()
    }

    pub(super) fn inject(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = Some(fault);
    }

    pub(super) fn give_drive(&mut self, octets: Vec<u8>) {
        self.drive = Some(ConfigDrive { digest: image::digest(&octets), size: octets.len() as u64 });
        *self.shared.drive.lock().unwrap() = octets;
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.shared.over.store(true, Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut stream = stream;
        let mut sent = 0;
        loop {
            let (mut path, mut range) = (String::new(), None);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).ok()? == 0 {
                    return None;
                }
                let line = line.trim_end();
                if line.is_empty() {
                    break;
                }
                if let Some(request) = line.strip_prefix("GET ") {
                    path = request.split(' ').next()?.to_owned();
                }
                if let Some(bytes) = line.strip_prefix("Range: bytes=") {
                    let (first, last) = bytes.split_once('-')?;
                    range = Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?));
                }
            }
            self.asked.lock().unwrap().push(path.clone());
            let fault = *self.fault.lock().unwrap();
            match fault {
                Some(Fault::Gone) => return None,
                Some(Fault::Refuse) => {
                    stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").ok()?;
                    continue;
                }
                _ => {}
            }
            let Some((first, last)) = range else {
                let body = if path.ends_with("/manifest") {
                    self.manifest.clone()
                } else {
                    self.drive.lock().unwrap().clone()
                };
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).ok()?;
                stream.write_all(&body).ok()?;
                continue;
            };
            let (count, whole) = (last + 1 - first, self.image.len());
            write!(
                stream,
                "HTTP/1.1 206 Partial Content\r\nContent-Length: {count}\r\nContent-Range: bytes {first}-{last}/{whole}\r\n\r\n"
            )
            .ok()?;
            let mut body = self.image[first..=last].to_vec();
            let mut cut = usize::MAX;
            match fault {
                Some(Fault::CutAfter(after)) => cut = after,
                Some(Fault::CorruptTimes(times, at)) if times > 0 && (first..=last).contains(&at) => {
                    *self.fault.lock().unwrap() = Some(Fault::CorruptTimes(times - 1, at));
                    body[at - first] ^= 1;
                }
                _ => {}
            }
            let part = body.len().min(cut - sent);
            stream.write_all(&body[..part]).ok()?;
            sent += part;
            if part < body.len() {
                return None;
            }
        }
    }
}
