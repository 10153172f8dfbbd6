//! A node that exports a disk in memory, loses its power, and lies on request.

use boot::{IscsiChap, Secret};
use iscsi::{
    chap::{self, Chap, Credentials, Nonce},
    target::{Access, Alarm, Auth, Connection, Done, Job, Limits, Link, Targets, Transmit, Unit, Want, Who},
};
use sansio::Time;
use scsi::{BlockSize, Designator, Geometry, Identity, LogicalUnit, Medium, MediumError, Provisioning};
use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

pub(super) const TARGET: &str = "iqn.2026-01.example:n1";
pub(super) const INITIATOR: &str = "iqn.2026-01.example:kiln";

/// What both ends know, with these secrets.
pub(super) fn chap(ours: &str, theirs: &str) -> IscsiChap {
    IscsiChap {
        user: "kiln".into(),
        secret: Secret::new(ours),
        target_user: "n1".into(),
        target_secret: Some(Secret::new(theirs)),
    }
}

pub(super) struct Node {
    pub(super) disk: Arc<Disk>,
    pub(super) address: SocketAddr,
    targets: Targets<()>,
}

/// Octets now, and octets that would be there after a power cut.
pub(super) struct Disk {
    octets: Mutex<(Vec<u8>, Vec<u8>)>,
    streams: Mutex<Vec<TcpStream>>,
    over: AtomicBool,
    /// Octets that were written, zeros by WRITE SAME apart.
    pub(super) written: AtomicU64,
    /// After so many written octets the power fails, once.
    pub(super) cut_at: AtomicU64,
    /// Nothing is answered any more once so many octets are written.
    pub(super) stall_at: AtomicU64,
    /// So many times an octet that is written is kept as another: the times, and the octet.
    pub(super) lie: Mutex<(usize, u64)>,
}

impl Disk {
    pub(super) fn octets(&self) -> Vec<u8> {
        self.octets.lock().unwrap().0.clone()
    }

    /// The power fails: connections end, and what was not flushed is lost.
    pub(super) fn crash(&self) {
        for stream in self.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let mut octets = self.octets.lock().unwrap();
        octets.0 = octets.1.clone();
    }
}

impl Medium for Disk {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), MediumError> {
        into.copy_from_slice(&self.octets.lock().unwrap().0[offset as usize..][..into.len()]);
        Ok(())
    }

    fn write_at(&self, offset: u64, from: &[u8]) -> Result<(), MediumError> {
        {
            let mut octets = self.octets.lock().unwrap();
            octets.0[offset as usize..][..from.len()].copy_from_slice(from);
            let mut lie = self.lie.lock().unwrap();
            if lie.0 > 0 && (offset..offset + from.len() as u64).contains(&lie.1) {
                lie.0 -= 1;
                octets.0[lie.1 as usize] ^= 1;
            }
        }
        let written = self.written.fetch_add(from.len() as u64, SeqCst) + from.len() as u64;
        if written >= self.cut_at.load(SeqCst) {
            self.cut_at.store(u64::MAX, SeqCst);
            self.crash();
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), MediumError> {
        let mut octets = self.octets.lock().unwrap();
        octets.1 = octets.0.clone();
        Ok(())
    }

    fn zero(&self, offset: u64, length: u64, _: bool) -> Result<(), MediumError> {
        self.octets.lock().unwrap().0[offset as usize..][..length as usize].fill(0);
        Ok(())
    }

    fn provisioned(&self, _: u64) -> Result<(Provisioning, u64), MediumError> {
        Ok((Provisioning::Mapped, 1 << 20))
    }
}

impl Node {
    /// With a disk that holds so many octets of an earlier tenant.
    pub(super) fn new(size: usize, block: BlockSize) -> Node {
        let octets = vec![0x55; size];
        let disk = Arc::new(Disk {
            octets: Mutex::new((octets.clone(), octets)),
            streams: Mutex::default(),
            over: AtomicBool::new(false),
            written: AtomicU64::new(0),
            cut_at: AtomicU64::new(u64::MAX),
            stall_at: AtomicU64::new(u64::MAX),
            lie: Mutex::default(),
        });
        let identity = Identity {
            product: "TEST".into(),
            revision: "1".into(),
            serial: "S1".into(),
            designators: vec![Designator::local(1)],
            target: TARGET.into(),
            portal_group: 1,
        };
        let geometry = Geometry::new(size as u64 / u64::from(block.octets()), block).unwrap();
        let credentials = |user: &str, secret: &str| Credentials {
            user: user.into(),
            secret: chap::Secret::new(secret).unwrap(),
        };
        let proof =
            Chap::new(credentials("kiln", "initiators-own"), Some(credentials("n1", "targets-own-word")))
                .unwrap();
        let targets = Targets::new(Limits::default());
        targets.set(Access {
            name: TARGET.into(),
            initiators: Who::Named(vec![INITIATOR.into()]),
            networks: Vec::new(),
            portals: Vec::new(),
            auth: Auth::Chap(proof),
            luns: vec![(scsi::Lun::new(0).unwrap(), Unit::new(LogicalUnit::new(identity, geometry), ()))],
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (there, known) = (Arc::clone(&disk), targets.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                if there.over.load(SeqCst) {
                    return;
                }
                let (disk, targets, stream) = (Arc::clone(&there), known.clone(), stream.unwrap());
                disk.streams.lock().unwrap().push(stream.try_clone().unwrap());
                thread::spawn(move || serve(&disk, &targets, stream));
            }
        });
        Node { disk, address, targets }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.disk.over.store(true, SeqCst);
        let _ = self.targets.remove(TARGET);
        self.disk.crash();
        let _ = TcpStream::connect(self.address);
    }
}

struct Cutting(TcpStream);

impl Alarm for Cutting {
    fn wake(&self) {}

    fn cut(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// The loop of `iscsi::target`, as plain as can be.
fn serve(disk: &Disk, targets: &Targets<()>, mut stream: TcpStream) {
    let clock = crate::clock::Clock::start();
    let now = || -> Time { clock.now() };
    let link = Link { peer: stream.peer_addr().unwrap(), portal: stream.local_addr().unwrap() };
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    stream.set_nodelay(true).unwrap();
    let alarm = Arc::new(Cutting(stream.try_clone().unwrap()));
    let mut connection = Connection::new(targets, link, alarm, Nonce([9; 33]), now());
    let mut inbox: Vec<u8> = Vec::new();
    let mut room = vec![0; 1 << 20];
    loop {
        while connection.poll_event().is_some() {}
        while let Some(job) = connection.poll_job() {
            let (task, done) = match job {
                Job::Perform { task, work, data, .. } => (task, Done::Response(work.perform(disk, &data))),
                Job::Store { task, offset, data, .. } => (task, Done::Medium(disk.write_at(offset, &data))),
                Job::Flush { task, .. } => (task, Done::Medium(disk.flush())),
                Job::Keep { task, .. } => (task, Done::Medium(Ok(()))),
            };
            connection.handle_done(task, done, now());
        }
        while let Some(next) = connection.poll_transmit(now()) {
            let octets = match next {
                Transmit::Header(header) => header.to_vec(),
                Transmit::Octets(octets) => octets.to_vec(),
                Transmit::DataIn(data_in) => {
                    let mut octets = data_in.header.to_vec();
                    let mut data = vec![0; data_in.length];
                    disk.read_at(data_in.offset, &mut data).unwrap();
                    octets.extend_from_slice(&data);
                    octets.extend_from_slice(&data_in.trailer(&data));
                    octets
                }
            };
            if stream.write_all(&octets).is_err() {
                connection.handle_end(now());
                break;
            }
        }
        while disk.written.load(SeqCst) >= disk.stall_at.load(SeqCst) && !disk.over.load(SeqCst) {
            thread::park_timeout(Duration::from_millis(10));
        }
        if connection.is_over() {
            return;
        }
        let least = match connection.want() {
            Want::Octets(least) => least.max(1),
            Want::Place(_) => 1,
            Want::Wait => 0,
        };
        if inbox.len() < least {
            match stream.read(&mut room) {
                Ok(0) => connection.handle_end(now()),
                Ok(count) => inbox.extend_from_slice(&room[..count]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    connection.handle_alarm(now());
                    connection.handle_timeout(now());
                }
                Err(_) => connection.handle_end(now()),
            }
            continue;
        }
        let used = match connection.want() {
            Want::Octets(_) => connection.handle_octets(&inbox, now()),
            Want::Place(place) => {
                let count = place.length.min(inbox.len());
                let done = disk.write_at(place.offset, &inbox[..count]);
                connection.handle_placed(count, done, now());
                count
            }
            Want::Wait => 0,
        };
        inbox.drain(..used);
    }
}
