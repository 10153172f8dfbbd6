//! A disk in memory, a driver without sockets, and an initiator that says what it is told to.

use iscsi::{
    chap::{self, Nonce},
    pdu::*,
    target::{
        Access, Alarm, Auth, Connection, ConnectionId, Done, Event, Job, Limits, Link, Targets, Transmit,
        Unit, Want, Who, Why,
    },
    text::{self, Pair},
};
use sansio::Time;
use scsi::{
    BlockSize, Designator, Geometry, Identity, LogicalUnit, Medium, MediumError, MediumFault, Provisioning,
};
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

pub(crate) const TARGET: &str = "iqn.2026-01.rack:disk";
pub(crate) const INITIATOR: &str = "iqn.2026-01.rack:node";
pub(crate) const SIZE: usize = 4 << 20;

#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) octets: Mutex<Vec<u8>>,
    pub(crate) broken: AtomicBool,
    pub(crate) flushes: AtomicU64,
}

impl Disk {
    fn fault(&self, fault: MediumFault) -> Result<(), MediumError> {
        if self.broken.load(Ordering::Relaxed) { Err(fault.into()) } else { Ok(()) }
    }
}

impl Medium for Disk {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), MediumError> {
        self.fault(MediumFault::UnrecoveredRead)?;
        into.copy_from_slice(&self.octets.lock().unwrap()[offset as usize..][..into.len()]);
        Ok(())
    }

    fn write_at(&self, offset: u64, from: &[u8]) -> Result<(), MediumError> {
        self.fault(MediumFault::WriteFault)?;
        self.octets.lock().unwrap()[offset as usize..][..from.len()].copy_from_slice(from);
        Ok(())
    }

    fn flush(&self) -> Result<(), MediumError> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.fault(MediumFault::WriteFault)
    }

    fn zero(&self, offset: u64, length: u64, _unmap: bool) -> Result<(), MediumError> {
        self.octets.lock().unwrap()[offset as usize..][..length as usize].fill(0);
        Ok(())
    }

    fn provisioned(&self, _offset: u64) -> Result<(Provisioning, u64), MediumError> {
        Ok((Provisioning::Mapped, u64::MAX))
    }
}

pub(crate) type Volume = Arc<Disk>;

pub(crate) fn disk() -> Volume {
    let octets = (0..SIZE).map(|at| (at / 512 + at) as u8).collect();
    Arc::new(Disk { octets: Mutex::new(octets), broken: AtomicBool::new(false), flushes: AtomicU64::new(0) })
}

pub(crate) fn unit(disk: &Volume) -> Arc<Unit<Volume>> {
    let identity = Identity {
        product: "disk".into(),
        revision: "1".into(),
        serial: "1".into(),
        designators: vec![Designator::local(1)],
        target: TARGET.into(),
        portal_group: 1,
    };
    let geometry = Geometry::new((SIZE / 512) as u64, BlockSize::B512).unwrap().thin();
    Unit::new(LogicalUnit::new(identity, geometry), Arc::clone(disk))
}

pub(crate) fn access(units: &[Arc<Unit<Volume>>]) -> Access<Volume> {
    let luns = (0_u16..).zip(units).map(|(lun, unit)| (scsi::Lun::new(lun).unwrap(), Arc::clone(unit)));
    Access {
        name: TARGET.into(),
        initiators: Who::Anybody,
        networks: Vec::new(),
        portals: Vec::new(),
        auth: Auth::None,
        luns: luns.collect(),
    }
}

pub(crate) struct Rig {
    pub(crate) targets: Targets<Volume>,
    pub(crate) disk: Volume,
    pub(crate) unit: Arc<Unit<Volume>>,
}

impl Rig {
    /// One target with one unit that anybody may use.
    pub(crate) fn new() -> Rig {
        let disk = disk();
        let unit = unit(&disk);
        let targets = Targets::new(Limits { connections: 100 });
        assert_eq!(targets.set(access(std::slice::from_ref(&unit))), []);
        Rig { targets, disk, unit }
    }

    pub(crate) fn peer(&self) -> Peer {
        Peer::new(&self.targets, "10.0.0.7:4000", Time::ZERO)
    }

    /// A session whose unit attention has been taken.
    pub(crate) fn session(&self) -> Peer {
        let mut peer = self.peer();
        peer.log_in(&[]);
        peer.clear_attention(0);
        peer
    }

    pub(crate) fn octets(&self, offset: usize, length: usize) -> Vec<u8> {
        self.disk.octets.lock().unwrap()[offset..][..length].to_vec()
    }
}

#[derive(Default)]
pub(crate) struct Bell {
    rung: AtomicBool,
    pub(crate) cut: AtomicBool,
}

impl Alarm for Bell {
    fn wake(&self) {
        self.rung.store(true, Ordering::Relaxed);
    }

    fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
        self.wake();
    }
}

pub(crate) struct Peer {
    pub(crate) connection: Connection<Volume>,
    pub(crate) bell: Arc<Bell>,
    pub(crate) now: Time,
    pub(crate) sent: Vec<u8>,
    pub(crate) events: Vec<Event>,
    pub(crate) cmd_sn: Serial,
    pub(crate) itt: u32,
    pub(crate) isid: Isid,
    pub(crate) header_digest: bool,
    pub(crate) data_digest: bool,
    /// Jobs are kept and not done.
    pub(crate) lazy: bool,
    pub(crate) kept: VecDeque<Job<Volume>>,
}

pub(crate) type Seen = (FromTarget, Vec<u8>);

impl Peer {
    pub(crate) fn new(targets: &Targets<Volume>, from: &str, now: Time) -> Peer {
        Peer::with_nonce(targets, from, Nonce([7; 33]), now)
    }

    pub(crate) fn with_nonce(targets: &Targets<Volume>, from: &str, nonce: Nonce, now: Time) -> Peer {
        let bell = Arc::new(Bell::default());
        let link = Link { peer: from.parse().unwrap(), portal: "10.0.0.1:3260".parse().unwrap() };
        let connection = Connection::new(targets, link, bell.clone(), nonce, now);
        Peer {
            connection,
            bell,
            now,
            sent: Vec::new(),
            events: Vec::new(),
            cmd_sn: Serial(100),
            itt: 0,
            isid: Isid([0x80, 1, 2, 3, 4, 5]),
            header_digest: false,
            data_digest: false,
            lazy: false,
            kept: VecDeque::new(),
        }
    }

    pub(crate) fn id(&self) -> ConnectionId {
        self.connection.id()
    }

    /// All that a driver does when nothing arrives.
    pub(crate) fn pump(&mut self) {
        loop {
            if self.bell.rung.swap(false, Ordering::Relaxed) {
                self.connection.handle_alarm(self.now);
            }
            while let Some(job) = self.connection.poll_job() {
                if self.lazy {
                    self.kept.push_back(job);
                } else {
                    self.work(job);
                }
            }
            while let Some(event) = self.connection.poll_event() {
                self.events.push(event);
            }
            let Some(transmit) = self.connection.poll_transmit(self.now) else {
                if self.bell.rung.load(Ordering::Relaxed) {
                    continue;
                }
                return;
            };
            match transmit {
                Transmit::Header(header) => self.sent.extend_from_slice(&header),
                Transmit::Octets(octets) => self.sent.extend_from_slice(&octets),
                Transmit::DataIn(data_in) => {
                    let mut octets = vec![0; data_in.length];
                    match data_in.unit.volume().read_at(data_in.offset, &mut octets) {
                        Ok(()) => {
                            self.sent.extend_from_slice(&data_in.header);
                            self.sent.extend_from_slice(&octets);
                            self.sent.extend_from_slice(&data_in.trailer(&octets));
                        }
                        Err(error) => {
                            let instead = self.connection.failed(&data_in, error);
                            self.sent.extend_from_slice(&instead);
                        }
                    }
                }
            }
        }
    }

    pub(crate) fn work(&mut self, job: Job<Volume>) {
        let (task, done) = match job {
            Job::Perform { task, unit, work, data } => {
                (task, Done::Response(work.perform(unit.volume().as_ref(), &data)))
            }
            Job::Store { task, unit, offset, data } => {
                (task, Done::Medium(unit.volume().write_at(offset, &data)))
            }
            Job::Flush { task, unit } => (task, Done::Medium(unit.volume().flush())),
            Job::Keep { task, .. } => (task, Done::Medium(Ok(()))),
        };
        self.connection.handle_done(task, done, self.now);
    }

    /// What a driver does with octets from the socket.
    pub(crate) fn feed(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            match self.connection.want() {
                Want::Octets(_) => {
                    let used = self.connection.handle_octets(octets, self.now);
                    assert!(used > 0, "no octet is used, and none is wanted elsewhere");
                    octets = &octets[used..];
                }
                Want::Place(place) => {
                    let count = place.length.min(octets.len());
                    let result = place.unit.volume().write_at(place.offset, &octets[..count]);
                    self.connection.handle_placed(count, result, self.now);
                    octets = &octets[count..];
                }
                Want::Wait => {
                    let before = self.kept.len();
                    self.pump();
                    assert!(before == self.kept.len(), "it waits for a job that is kept");
                }
            }
            self.pump();
        }
        self.pump();
    }

    pub(crate) fn octets(&self, pdu: &FromInitiator, data: &[u8]) -> Vec<u8> {
        let header = Sealed::new(pdu.emit(data.len()), self.header_digest);
        let mut octets = header.to_vec();
        octets.extend_from_slice(data);
        octets.resize(octets.len() + padding(data.len()), 0);
        if self.data_digest && !data.is_empty() {
            octets.extend_from_slice(&data_digest(data));
        }
        octets
    }

    pub(crate) fn send(&mut self, pdu: &FromInitiator, data: &[u8]) {
        let octets = self.octets(pdu, data);
        self.feed(&octets);
    }

    /// The next PDU that the target sent.
    pub(crate) fn see(&mut self) -> Option<Seen> {
        self.pump();
        let header: &Header = self.sent.first_chunk()?;
        let pdu = FromTarget::parse(header).unwrap();
        let length = Lengths::of(header).data;
        let login = matches!(pdu, FromTarget::Login(_));
        let mut at = HEADER;
        if self.header_digest && !login {
            assert_eq!(self.sent[at..at + 4], digest(header));
            at += 4;
        }
        let data = self.sent[at..at + length].to_vec();
        at += length + padding(length);
        if self.data_digest && length > 0 && !login {
            assert_eq!(self.sent[at..at + 4], data_digest(&data));
            at += 4;
        }
        self.sent.drain(..at);
        Some((pdu, data))
    }

    pub(crate) fn see_all(&mut self) -> Vec<Seen> {
        std::iter::from_fn(|| self.see()).collect()
    }

    pub(crate) fn next_itt(&mut self) -> Tag {
        self.itt += 1;
        Tag(self.itt)
    }

    pub(crate) fn next_cmd_sn(&mut self) -> Serial {
        let cmd_sn = self.cmd_sn;
        self.cmd_sn = cmd_sn.plus(1);
        cmd_sn
    }

    pub(crate) fn login_request(&self, stage: Stage, transit: Option<Stage>) -> Login {
        Login {
            transit,
            more: false,
            stage,
            version_max: 0,
            version_min: 0,
            isid: self.isid,
            tsih: Tsih(0),
            itt: Tag(0x1000),
            cid: 0,
            cmd_sn: self.cmd_sn,
            exp_stat_sn: Serial(0),
        }
    }

    pub(crate) fn login_step(
        &mut self,
        request: Login,
        pairs: &[(&str, &str)],
    ) -> (LoginResponse, Vec<Pair>) {
        let pairs: Vec<Pair> = pairs.iter().map(|(key, value)| Pair::new(key, value)).collect();
        self.send(&FromInitiator::Login(request), &text::emit(&pairs));
        match self.see() {
            Some((FromTarget::Login(response), data)) => (response, text::parse(&data).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    /// A login without proof, in one request; `more` are operational keys.
    pub(crate) fn log_in(&mut self, more: &[(&str, &str)]) -> (LoginResponse, Vec<Pair>) {
        let mut pairs = vec![("InitiatorName", INITIATOR), ("TargetName", TARGET), ("SessionType", "Normal")];
        pairs.extend(more);
        let request = self.login_request(Stage::Operational, Some(Stage::FullFeature));
        let answer = self.login_step(request, &pairs);
        assert_eq!(answer.0.status, LoginStatus::Success);
        assert_eq!(answer.0.transit, Some(Stage::FullFeature));
        answer
    }

    pub(crate) fn discover(&mut self, initiator: &str) {
        let request = self.login_request(Stage::Operational, Some(Stage::FullFeature));
        let (response, _) =
            self.login_step(request, &[("InitiatorName", initiator), ("SessionType", "Discovery")]);
        assert_eq!(response.status, LoginStatus::Success);
    }

    /// SendTargets; all the names.
    pub(crate) fn send_targets(&mut self, which: &str) -> Vec<Pair> {
        let mut itt = Text {
            immediate: true,
            last: true,
            more: false,
            lun: Lun(0),
            itt: self.next_itt(),
            ttt: Tag::NONE,
            cmd_sn: self.cmd_sn,
            exp_stat_sn: Serial(0),
        };
        let mut gathered = Vec::new();
        let mut data = text::emit(&[Pair::new("SendTargets", which)]);
        loop {
            self.send(&FromInitiator::Text(itt), &data);
            let Some((FromTarget::Text(answer), octets)) = self.see() else { panic!("no answer") };
            gathered.extend(octets);
            if answer.last {
                return text::parse(&gathered).unwrap();
            }
            (itt.ttt, data) = (answer.ttt, Vec::new());
        }
    }

    pub(crate) fn command(&mut self, lun: u16, cdb: &[u8], length: u32, writes: bool) -> Command {
        let mut whole = [0; 16];
        whole[..cdb.len()].copy_from_slice(cdb);
        Command {
            immediate: false,
            last: true,
            reads: length > 0 && !writes,
            writes,
            attribute: TaskAttribute::Simple,
            lun: Lun::single(lun),
            itt: self.next_itt(),
            length,
            cmd_sn: self.next_cmd_sn(),
            exp_stat_sn: Serial(0),
            cdb: whole,
        }
    }

    pub(crate) fn run(&mut self, command: Command, data: &[u8]) -> Vec<Seen> {
        self.send(&FromInitiator::Command(command), data);
        self.see_all()
    }

    /// READ (10).
    pub(crate) fn read(&mut self, block: u32, blocks: u16) -> Command {
        let cdb = ten(0x28, block, blocks);
        self.command(0, &cdb, u32::from(blocks) * 512, false)
    }

    /// WRITE (10).
    pub(crate) fn write(&mut self, block: u32, blocks: u16) -> Command {
        let cdb = ten(0x2a, block, blocks);
        self.command(0, &cdb, u32::from(blocks) * 512, true)
    }

    pub(crate) fn clear_attention(&mut self, lun: u16) {
        let command = self.command(lun, &[0; 6], 0, false);
        let seen = self.run(command, &[]);
        assert_eq!(status(&seen), 2, "{seen:?}");
    }

    pub(crate) fn why(&mut self) -> Option<Why> {
        self.pump();
        self.events.iter().find_map(|event| match event {
            Event::Closed(closed) => Some(closed.why.clone()),
            Event::LoggedIn(_) => None,
        })
    }

    pub(crate) fn task_management(
        &mut self,
        function: TaskFunction,
        lun: u16,
        referenced: Tag,
    ) -> TaskManagement {
        TaskManagement {
            immediate: true,
            function,
            lun: Lun::single(lun),
            itt: self.next_itt(),
            referenced,
            cmd_sn: self.cmd_sn,
            exp_stat_sn: Serial(0),
            ref_cmd_sn: self.cmd_sn.plus(u32::MAX),
            exp_data_sn: Serial(0),
        }
    }

    pub(crate) fn manage(&mut self, request: TaskManagement) -> Option<TaskAnswer> {
        self.send(&FromInitiator::TaskManagement(request), &[]);
        self.see_all().into_iter().find_map(|(pdu, _)| match pdu {
            FromTarget::TaskResponse(response) if response.itt == request.itt => Some(response.answer),
            _ => None,
        })
    }
}

pub(crate) fn ten(opcode: u8, block: u32, blocks: u16) -> [u8; 10] {
    let [a, b, c, d] = block.to_be_bytes();
    let [high, low] = blocks.to_be_bytes();
    [opcode, 0, a, b, c, d, 0, high, low, 0]
}

/// The only status among what was seen.
pub(crate) fn status(seen: &[Seen]) -> u8 {
    let statuses: Vec<u8> = seen
        .iter()
        .filter_map(|(pdu, _)| match pdu {
            FromTarget::Response(response) => Some(response.status),
            FromTarget::DataIn(data_in) => data_in.status.map(|(status, _)| status),
            _ => None,
        })
        .collect();
    assert_eq!(statuses.len(), 1, "{seen:?}");
    statuses[0]
}

pub(crate) fn residual(seen: &[Seen]) -> Residual {
    let residual = seen.iter().find_map(|(pdu, _)| match pdu {
        FromTarget::Response(response) => Some(response.residual),
        FromTarget::DataIn(data_in) => data_in.status.map(|(_, residual)| residual),
        _ => None,
    });
    residual.unwrap()
}

/// Key, code and qualifier of the only sense data among what was seen.
pub(crate) fn sense(seen: &[Seen]) -> (u8, u8, u8) {
    let sense = seen.iter().find_map(|(pdu, data)| match pdu {
        FromTarget::Response(_) if data.len() > 2 => Some(data[2..].to_vec()),
        _ => None,
    });
    let sense = sense.expect("sense data");
    (sense[2] & 15, sense[12], sense[13])
}

/// All data that came, in their places.
pub(crate) fn data(seen: &[Seen]) -> Vec<u8> {
    let mut all = Vec::new();
    for (pdu, octets) in seen {
        if let FromTarget::DataIn(data_in) = pdu {
            assert_eq!(data_in.offset as usize, all.len());
            all.extend_from_slice(octets);
        }
    }
    all
}

pub(crate) fn chap(mutual: bool) -> chap::Chap {
    let credentials = |user: &str, secret: &str| chap::Credentials {
        user: user.into(),
        secret: chap::Secret::new(secret.as_bytes()).unwrap(),
    };
    let target = mutual.then(|| credentials("disk", "the target's own"));
    chap::Chap::new(credentials("node", "the node's secret"), target).unwrap()
}
