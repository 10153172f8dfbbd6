//! A target whose disk is in memory, and a connection to it without a socket.

use iscsi::{
    chap::{Chap, Nonce},
    target::{
        Access, Alarm, Auth, Connection, Done, Event, Job, Limits, Link, Targets, Transmit, Unit, Want, Who,
    },
};
use sansio::{Time, sim::Dice};
use scsi::{BlockSize, Geometry, Identity, LogicalUnit, Lun, Medium, MediumError, Provisioning};
use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};

/// The name of the only target.
pub(crate) const TARGET: &str = "iqn.2026-01.example:disk";

/// A disk.
#[derive(Debug)]
pub(crate) struct Disk(Mutex<Vec<u8>>);

impl Disk {
    pub(crate) fn octets(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap()
    }

    fn range(offset: u64, length: usize) -> std::ops::Range<usize> {
        let offset = usize::try_from(offset).unwrap();
        offset..offset + length
    }
}

impl Medium for Disk {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), MediumError> {
        into.copy_from_slice(&self.octets()[Disk::range(offset, into.len())]);
        Ok(())
    }

    fn write_at(&self, offset: u64, from: &[u8]) -> Result<(), MediumError> {
        self.octets()[Disk::range(offset, from.len())].copy_from_slice(from);
        Ok(())
    }

    fn flush(&self) -> Result<(), MediumError> {
        Ok(())
    }

    fn zero(&self, offset: u64, length: u64, _: bool) -> Result<(), MediumError> {
        self.octets()[Disk::range(offset, usize::try_from(length).unwrap())].fill(0);
        Ok(())
    }

    fn provisioned(&self, _: u64) -> Result<(Provisioning, u64), MediumError> {
        Ok((Provisioning::Mapped, 1 << 20))
    }
}

/// The target and its disk of so many blocks of 512 octets.
pub(crate) fn serve(blocks: u64, chap: Option<Chap>) -> (Targets<Arc<Disk>>, Arc<Disk>) {
    let disk = Arc::new(Disk(Mutex::new(vec![0; usize::try_from(blocks).unwrap() * 512])));
    let identity = Identity {
        product: "disk".to_owned(),
        revision: "1".to_owned(),
        serial: "memory".to_owned(),
        designators: Vec::new(),
        target: TARGET.to_owned(),
        portal_group: 1,
    };
    let geometry = Geometry::new(blocks, BlockSize::B512).unwrap();
    let unit = Unit::new(LogicalUnit::new(identity, geometry), Arc::clone(&disk));
    let targets = Targets::new(Limits { connections: 16 });
    let mut cut = targets.set(Access {
        name: TARGET.to_owned(),
        initiators: Who::Anybody,
        networks: Vec::new(),
        portals: Vec::new(),
        auth: chap.map_or(Auth::None, Auth::Chap),
        luns: vec![(Lun::new(0).unwrap(), unit)],
    });
    assert_eq!(cut.pop(), None);
    (targets, disk)
}

/// Whether another connection called.
#[derive(Debug, Default)]
struct Bell(AtomicBool);

impl Alarm for Bell {
    fn wake(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn cut(&self) {
        self.wake();
    }
}

/// A connection, and what a driver would hold for it.
pub(crate) struct Serving {
    connection: Connection<Arc<Disk>>,
    bell: Arc<Bell>,
    unread: Vec<u8>,
    jobs: Vec<Job<Arc<Disk>>>,
    pub(crate) events: Vec<Event>,
}

impl Serving {
    pub(crate) fn new(targets: &Targets<Arc<Disk>>, now: Time) -> Serving {
        let bell = Arc::new(Bell::default());
        let link = Link { peer: ([127, 0, 0, 1], 40_000).into(), portal: ([127, 0, 0, 1], 3260).into() };
        let connection =
            Connection::new(targets, link, Arc::clone(&bell) as Arc<dyn Alarm>, Nonce([9; 33]), now);
        Serving { connection, bell, unread: Vec::new(), jobs: Vec::new(), events: Vec::new() }
    }

    /// Octets arrive.
    pub(crate) fn receive(&mut self, octets: &[u8], now: Time) {
        self.unread.extend_from_slice(octets);
        self.read(now);
    }

    /// Hands on what has arrived, as far as it is wanted.
    fn read(&mut self, now: Time) {
        loop {
            if self.bell.0.swap(false, Ordering::SeqCst) {
                self.connection.handle_alarm(now);
            }
            self.events.extend(std::iter::from_fn(|| self.connection.poll_event()));
            self.jobs.extend(std::iter::from_fn(|| self.connection.poll_job()));
            if self.unread.is_empty() || self.connection.is_over() {
                return;
            }
            let used = match self.connection.want() {
                Want::Octets(_) => self.connection.handle_octets(&self.unread, now),
                Want::Place(place) => {
                    let count = place.length.min(self.unread.len());
                    let result = place.unit.volume().write_at(place.offset, &self.unread[..count]);
                    self.connection.handle_placed(count, result, now);
                    count
                }
                Want::Wait => return,
            };
            self.unread.drain(..used);
            // Nothing is used only where something else is wanted now.
            if used == 0 && matches!(self.connection.want(), Want::Octets(_)) {
                self.events.extend(std::iter::from_fn(|| self.connection.poll_event()));
                self.jobs.extend(std::iter::from_fn(|| self.connection.poll_job()));
                return;
            }
        }
    }

    /// Does one job that waits, any of them; whether there was one.
    pub(crate) fn work(&mut self, dice: &mut Dice, now: Time) -> bool {
        if self.jobs.is_empty() {
            return false;
        }
        let at = usize::try_from(dice.below(self.jobs.len() as u64)).unwrap();
        let (task, done) = match self.jobs.swap_remove(at) {
            Job::Perform { task, unit, work, data } => {
                (task, Done::Response(work.perform(&**unit.volume(), &data)))
            }
            Job::Store { task, unit, offset, data } => {
                (task, Done::Medium(unit.volume().write_at(offset, &data)))
            }
            Job::Flush { task, .. } | Job::Keep { task, .. } => (task, Done::Medium(Ok(()))),
        };
        self.connection.handle_done(task, done, now);
        self.read(now);
        true
    }

    pub(crate) fn has_work(&self) -> bool {
        !self.jobs.is_empty()
    }

    pub(crate) fn transmit(&mut self, now: Time) -> Option<Vec<u8>> {
        let transmit = self.connection.poll_transmit(now)?;
        Some(match transmit {
            Transmit::Header(header) => header.to_vec(),
            Transmit::Octets(octets) => octets.to_vec(),
            Transmit::DataIn(data_in) => {
                let mut data = vec![0; data_in.length];
                data_in.unit.volume().read_at(data_in.offset, &mut data).unwrap();
                [&data_in.header[..], &data, &data_in.trailer(&data)].concat()
            }
        })
    }

    pub(crate) fn end(&mut self, now: Time) {
        self.connection.handle_end(now);
        self.read(now);
    }

    pub(crate) fn timeout(&mut self, now: Time) {
        self.connection.handle_timeout(now);
        self.read(now);
    }

    /// Somebody else may have called.
    pub(crate) fn look(&mut self, now: Time) {
        if self.bell.0.load(Ordering::SeqCst) {
            self.read(now);
        }
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.connection.poll_timeout()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.connection.is_over() && self.jobs.is_empty()
    }
}
