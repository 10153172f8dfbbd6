//! The initiator against the target, over streams that are cut anywhere, slow, and in pieces of any size.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

#[path = "../memory/target.rs"]
mod target;

use bytes::Bytes;
use iscsi::{
    chap::{Chap, Credentials, Nonce, Secret},
    initiator::{Event, Initiator, Operation, OperationId, Settings, Why},
    keys::{Digest, Offer},
};
use sansio::{
    Time,
    sim::{
        Dice,
        stream::{End, Rapids, run},
    },
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use target::{Disk, Serving, TARGET, serve};

/// Octets of a slot; two operations are never under way in one.
const SLOT: usize = 16 << 10;
const SLOTS: usize = 40;

/// The initiator, with work to do.
struct Pusher {
    engine: Initiator,
    dice: Dice,
    stream: Option<u64>,
    wants: bool,
    hangs_up: Vec<u64>,
    left: usize,
    under_way: BTreeMap<OperationId, (usize, Operation)>,
    /// What the disk has to hold; none where it may hold anything.
    model: Vec<Option<Vec<u8>>>,
    losses: u32,
    over: Option<Why>,
}

impl Pusher {
    fn new(settings: Settings, seed: u64, operations: usize) -> Pusher {
        Pusher {
            engine: Initiator::new(settings, Time::ZERO),
            dice: Dice::new(seed ^ 0x5eed),
            stream: None,
            wants: false,
            hangs_up: Vec::new(),
            left: operations,
            under_way: BTreeMap::new(),
            model: vec![Some(vec![0; SLOT]); SLOTS],
            losses: 0,
            over: None,
        }
    }

    fn pump(&mut self, now: Time) {
        while let Some(event) = self.engine.poll_event() {
            assert_eq!(self.over, None, "nothing follows the end");
            match event {
                Event::Connect => self.wants = true,
                Event::Ready(disk) => assert_eq!(disk.size(), (SLOT * SLOTS) as u64),
                Event::Done { id, result } => self.done(id, result.unwrap()),
                Event::Lost { .. } => {
                    self.losses += 1;
                    self.hangs_up.extend(self.stream.take());
                }
                Event::Over(why) => {
                    self.hangs_up.extend(self.stream.take());
                    self.over = Some(why);
                }
            }
        }
        while self.left > 0 && self.engine.room() > 0 && self.under_way.len() < SLOTS / 2 {
            self.submit();
            self.left -= 1;
            if self.left == 0 {
                self.engine.log_out(now);
            }
        }
    }

    fn submit(&mut self) {
        let slot = loop {
            let slot = self.dice.below(SLOTS as u64) as usize;
            if self.under_way.values().all(|(busy, _)| *busy != slot) {
                break slot;
            }
        };
        let within = |dice: &mut Dice| {
            let from = dice.below(SLOT as u64 / 512);
            let blocks = 1 + dice.below(SLOT as u64 / 512 - from);
            (from * 512, blocks * 512)
        };
        let (from, length) = within(&mut self.dice);
        let offset = (slot * SLOT) as u64 + from;
        let operation = match self.dice.below(10) {
            0..4 => {
                let seed = self.dice.roll();
                let data: Vec<u8> = (0..length).map(|at| (seed >> (at % 57)) as u8 ^ at as u8).collect();
                Operation::Write { offset, data: data.into() }
            }
            4 => Operation::Zero { offset, length },
            5 => Operation::Unmap { offset, length },
            6 => Operation::Flush,
            _ => Operation::Read { offset, length: length as u32 },
        };
        let id = self.engine.submit(operation.clone()).unwrap();
        assert!(self.under_way.insert(id, (slot, operation)).is_none());
    }

    fn done(&mut self, id: OperationId, data: Bytes) {
        let (slot, operation) = self.under_way.remove(&id).expect("an operation ends once");
        let within = |offset: u64| offset as usize - slot * SLOT;
        let model = &mut self.model[slot];
        match operation {
            Operation::Write { offset, data } => {
                if let Some(model) = model {
                    model[within(offset)..][..data.len()].copy_from_slice(&data);
                }
            }
            Operation::Zero { offset, length } => {
                if let Some(model) = model {
                    model[within(offset)..][..length as usize].fill(0);
                }
            }
            // The disk of this test reads as zeros where it was unmapped; a disk need not.
            Operation::Unmap { .. } => *model = None,
            Operation::Read { offset, length } => {
                assert_eq!(data.len(), length as usize);
                if let Some(model) = model {
                    assert!(
                        model[within(offset)..][..length as usize] == data[..],
                        "other data in slot {slot}"
                    );
                }
            }
            Operation::Flush | Operation::Test => {}
        }
    }
}

impl End for Pusher {
    fn dials(&mut self, now: Time) -> bool {
        self.pump(now);
        std::mem::take(&mut self.wants)
    }

    fn opened(&mut self, stream: u64, now: Time) {
        self.stream = Some(stream);
        let mut nonce = [1; 33];
        nonce[..8].copy_from_slice(&stream.to_be_bytes());
        self.engine.handle_connected(Nonce(nonce), now);
        self.pump(now);
    }

    fn receive(&mut self, stream: u64, octets: &[u8], now: Time) {
        if self.stream == Some(stream) {
            self.engine.handle_bytes(octets, now);
            self.pump(now);
        }
    }

    fn closed(&mut self, stream: u64, now: Time) {
        if self.stream.is_none_or(|ours| ours == stream) {
            self.stream = None;
            self.engine.handle_disconnected("closed", now);
            self.pump(now);
        }
    }

    fn transmit(&mut self, stream: u64, now: Time) -> Option<Vec<u8>> {
        let ours = self.stream == Some(stream);
        let octets = ours.then(|| self.engine.poll_transmit(now))?.map(|transmit| transmit.pieces().concat());
        self.pump(now);
        octets
    }

    fn hangs_up(&mut self, stream: u64) -> bool {
        self.hangs_up.contains(&stream)
    }

    fn timeout(&mut self, now: Time) {
        self.engine.handle_timeout(now);
        self.pump(now);
    }

    fn deadline(&self) -> Option<Time> {
        self.engine.poll_timeout()
    }
}

/// The target, with a connection for each stream.
struct Server {
    targets: iscsi::target::Targets<Arc<Disk>>,
    disk: Arc<Disk>,
    streams: BTreeMap<u64, Serving>,
    ended: Vec<u64>,
    dice: Dice,
    /// When the next job is done.
    works: Option<Time>,
    now: Time,
}

impl Server {
    fn new(chap: Option<Chap>, seed: u64) -> Server {
        let (targets, disk) = serve((SLOT * SLOTS / 512) as u64, chap);
        let dice = Dice::new(seed ^ 0xd15c);
        Server {
            targets,
            disk,
            streams: BTreeMap::new(),
            ended: Vec::new(),
            dice,
            works: None,
            now: Time::ZERO,
        }
    }

    fn pump(&mut self, now: Time) {
        self.now = now;
        for _ in 0..2 {
            for serving in self.streams.values_mut() {
                serving.look(now);
            }
        }
        let over = self.streams.extract_if(.., |_, serving| serving.is_over());
        self.ended.extend(over.map(|(stream, _)| stream));
        let has_work = self.streams.values().any(Serving::has_work);
        self.works =
            has_work.then(|| self.works.unwrap_or(now + Duration::from_micros(self.dice.below(3_000))));
    }
}

impl End for Server {
    fn dials(&mut self, _: Time) -> bool {
        false
    }

    fn opened(&mut self, stream: u64, now: Time) {
        self.streams.insert(stream, Serving::new(&self.targets, now));
        self.pump(now);
    }

    fn receive(&mut self, stream: u64, octets: &[u8], now: Time) {
        if let Some(serving) = self.streams.get_mut(&stream) {
            serving.receive(octets, now);
        }
        self.pump(now);
    }

    fn closed(&mut self, stream: u64, now: Time) {
        if let Some(serving) = self.streams.get_mut(&stream) {
            serving.end(now);
        }
        self.pump(now);
    }

    fn transmit(&mut self, stream: u64, now: Time) -> Option<Vec<u8>> {
        self.streams.get_mut(&stream)?.transmit(now)
    }

    fn hangs_up(&mut self, stream: u64) -> bool {
        // What was said last has been sent by now.
        self.pump(self.now);
        self.ended.contains(&stream)
    }

    fn timeout(&mut self, now: Time) {
        if self.works.is_some_and(|at| at <= now) {
            self.works = None;
            let busy: Vec<u64> =
                self.streams.iter().filter(|(_, one)| one.has_work()).map(|(id, _)| *id).collect();
            if let Some(serving) = busy
                .get(self.dice.below(busy.len() as u64) as usize)
                .and_then(|stream| self.streams.get_mut(stream))
            {
                serving.work(&mut self.dice, now);
            }
        }
        for serving in self.streams.values_mut() {
            if serving.deadline().is_some_and(|at| at <= now) {
                serving.timeout(now);
            }
        }
        self.pump(now);
    }

    fn deadline(&self) -> Option<Time> {
        self.streams.values().filter_map(Serving::deadline).chain(self.works).min()
    }
}

fn mutual() -> Chap {
    let with = |user: &str, secret: &str| Credentials {
        user: user.to_owned(),
        secret: Secret::new(secret).unwrap(),
    };
    Chap::new(with("host", "one-two-three"), Some(with("disk", "four-five-six"))).unwrap()
}

/// Every agreement about data, by the seed's bits.
fn settings(seed: u64) -> Settings {
    let bit = |at: u32| seed >> at & 1 == 1;
    let offer = Offer {
        header_digest: if bit(0) { Digest::Preferred } else { Digest::Never },
        data_digest: if bit(1) { Digest::Preferred } else { Digest::Never },
        initial_r2t: bit(2),
        immediate_data: bit(3),
        first_burst: if bit(4) { 1536 } else { 65_536 },
        max_burst: if bit(5) { 4096 } else { 1 << 20 },
        max_recv: if bit(0) { 1024 } else { 65_536 },
        max_outstanding_r2t: if bit(1) { 1 } else { 4 },
        ..Offer::default()
    };
    Settings {
        offer,
        chap: bit(2).then(mutual),
        tries: 10_000,
        silence: Duration::from_secs(4),
        login: Duration::from_secs(3),
        patience: Duration::from_secs(8),
        ..Settings::new("iqn.2026-01.example:host", TARGET)
    }
}

/// Runs a whole life: login, work, logout; gives how often the stream was lost, and when it was over.
fn live(rapids: Rapids, seed: u64, operations: usize) -> (u32, Time) {
    let settings = settings(seed);
    let mut server = Server::new(settings.chap.clone(), seed);
    let mut pusher = Pusher::new(settings, seed, operations);
    let end = run(&mut pusher, &mut server, rapids, seed, 3_000_000, |pusher, _| pusher.over.is_some());
    let end =
        end.unwrap_or_else(|stuck| panic!("seed {seed}: {stuck}; {} under way", pusher.under_way.len()));
    assert_eq!(pusher.over, Some(Why::LoggedOut), "seed {seed}");
    assert!(pusher.under_way.is_empty() && pusher.left == 0, "seed {seed}: not all is over");
    let octets = server.disk.octets();
    for (slot, model) in pusher.model.iter().enumerate() {
        if let Some(model) = model {
            assert!(octets[slot * SLOT..][..SLOT] == model[..], "seed {seed}: slot {slot} differs");
        }
    }
    (pusher.losses, end)
}

#[test]
fn in_calm_water_all_is_done_on_one_connection_under_every_agreement() {
    for seed in 0..64 {
        assert_eq!(live(Rapids::CALM, seed, 150).0, 1, "seed {seed}: but for the logout");
    }
}

#[test]
fn streams_cut_at_any_octet_lose_nothing_and_do_nothing_twice() {
    let rapids = |seed: u64| Rapids {
        refused: 1_000,
        cut: [10, 50, 200][seed as usize % 3],
        unheard: 2_000,
        piece: (1, [600, 3_000, 20_000][seed as usize % 3]),
        delay: (Duration::from_micros(50), Duration::from_millis(5)),
        window: [2_000, 65_536][seed as usize / 3 % 2],
    };
    let losses: u32 = (0..300).map(|seed| live(rapids(seed), seed, 60).0).sum();
    assert!(losses > 1_000, "little was cut: {losses}");
}

#[test]
fn octets_that_come_one_by_one_are_a_stream_all_the_same() {
    let single = Rapids { piece: (1, 1), window: 512, ..Rapids::CALM };
    for seed in 0..8 {
        live(single, seed, 12);
    }
}
