use super::*;
use sansio::sim::{self, Dice, Station, Weather};

fn request(mode: Mode, options: &[(&str, u64)]) -> Request {
    match codec::parse(&codec::read_request("f", mode, options)) {
        Some(Packet::ReadRequest(request)) => request,
        other => panic!("{other:?}"),
    }
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8 ^ (i / 512) as u8).collect()
}

/// A transfer with its file.
struct Source {
    transfer: Transfer,
    file: Vec<u8>,
    events: Vec<Event>,
    sent: usize,
}

impl Source {
    fn new(request: &Request, file: Vec<u8>) -> Source {
        let transfer = Transfer::new(request, file.len() as u64, Time::ZERO);
        Source { transfer, file, events: Vec::new(), sent: 0 }
    }

    fn settle(&mut self, now: Time) {
        while let Some(read) = self.transfer.poll_read() {
            let start = (read.offset as usize).min(self.file.len());
            let end = (start + read.length).min(self.file.len());
            self.transfer.handle_read(&self.file[start..end], now);
        }
        self.events.extend(core::iter::from_fn(|| self.transfer.poll_event()));
    }

    fn ended(&self) -> Option<&Event> {
        self.events.iter().find(|event| !matches!(event, Event::Progress(_)))
    }

    fn packets(&mut self, now: Time) -> Vec<Vec<u8>> {
        core::iter::from_fn(|| self.transmit(now)).collect()
    }

    fn blocks(&mut self, now: Time) -> Vec<u16> {
        let number = |p: &Vec<u8>| match codec::parse(p) {
            Some(Packet::Data(number, _)) => Some(number),
            _ => None,
        };
        self.packets(now).iter().filter_map(number).collect()
    }
}

impl Station for Source {
    type Packet = Vec<u8>;

    fn receive(&mut self, packet: Vec<u8>, now: Time) {
        self.transfer.handle_datagram(&packet, now);
        self.settle(now);
    }

    fn timeout(&mut self, now: Time) {
        self.transfer.handle_timeout(now);
        self.settle(now);
    }

    fn transmit(&mut self, now: Time) -> Option<Vec<u8>> {
        self.settle(now);
        let packet = self.transfer.poll_transmit()?;
        self.sent += 1;
        Some(packet)
    }

    fn deadline(&self) -> Option<Time> {
        self.transfer.poll_timeout()
    }
}

/// A client as RFC 1350 and RFC 7440 want it: acknowledges every window, and at once what comes out of order.
struct Sink {
    block: usize,
    window: u64,
    got: Vec<u8>,
    next: u64,
    since: u64,
    done: bool,
    out: Vec<Vec<u8>>,
    again: Option<Time>,
    last: Option<Vec<u8>>,
}

impl Sink {
    fn new() -> Sink {
        Sink {
            block: 512,
            window: 1,
            got: Vec::new(),
            next: 1,
            since: 0,
            done: false,
            out: Vec::new(),
            again: Some(Time::from_secs(3)),
            last: None,
        }
    }

    fn ack(&mut self, now: Time) {
        let packet = codec::ack(wire(self.next - 1));
        self.since = 0;
        self.last = Some(packet.clone());
        self.out.push(packet);
        self.again = Some(now + Duration::from_secs(3));
    }
}

impl Station for Sink {
    type Packet = Vec<u8>;

    fn receive(&mut self, packet: Vec<u8>, now: Time) {
        match codec::parse(&packet) {
            Some(Packet::OptionAck(options)) => {
                for (name, value) in options {
                    match name.as_str() {
                        "blksize" => self.block = value.parse().unwrap(),
                        "windowsize" => self.window = value.parse().unwrap(),
                        _ => {}
                    }
                }
                if self.next == 1 {
                    self.ack(now);
                }
            }
            Some(Packet::Data(number, octets)) if number == wire(self.next) && !self.done => {
                self.got.extend_from_slice(octets);
                self.next += 1;
                self.since += 1;
                self.done = octets.len() < self.block;
                if self.done || self.since == self.window {
                    self.ack(now);
                }
            }
            // "the client SHOULD send an ACK for the last block correctly received in order".
            Some(Packet::Data(..)) => self.ack(now),
            other => panic!("{other:?}"),
        }
    }

    fn timeout(&mut self, now: Time) {
        self.out.extend(self.last.clone());
        self.again = Some(now + Duration::from_secs(3));
    }

    fn transmit(&mut self, _: Time) -> Option<Vec<u8>> {
        self.out.pop()
    }

    fn deadline(&self) -> Option<Time> {
        self.again
    }
}

fn fetch(
    mode: Mode,
    options: &[(&str, u64)],
    file: Vec<u8>,
    weather: Weather,
    seed: u64,
) -> (Source, Sink, Time) {
    let mut source = Source::new(&request(mode, options), file);
    let mut sink = Sink::new();
    let steps = 400_000;
    let end = sim::run(&mut source, &mut sink, weather, seed, steps, |source, sink| {
        sink.done && source.ended().is_some()
    });
    let end =
        end.unwrap_or_else(|stuck| panic!("seed {seed}: {stuck}; {:?} {:?}", source.transfer, source.events));
    (source, sink, end)
}

#[test]
fn files_of_every_length_near_a_block_arrive() {
    for length in [0, 1, 511, 512, 513, 1023, 1024, 1025, 5 * 512] {
        let (source, sink, _) = fetch(Mode::Octet, &[], content(length), Weather::FAIR, 1);
        assert_eq!(sink.got, content(length));
        assert_eq!(source.ended(), Some(&Event::Done(length as u64)));
        assert_eq!(source.sent, length / 512 + 1);
    }
}

#[test]
fn block_numbers_wrap() {
    let length = 66_000 * 512;
    let (_, sink, _) = fetch(Mode::Octet, &[], content(length), Weather::FAIR, 1);
    assert!(sink.got == content(length));
    let (_, sink, _) = fetch(Mode::Octet, &[("windowsize", 16)], content(length), Weather::FAIR, 1);
    assert!(sink.got == content(length));
}

#[test]
fn every_block_arrives_once_and_in_order_in_any_weather() {
    let mut dice = Dice::new(1350);
    for seed in 0..300 {
        let options: &[(&str, u64)] = match seed % 4 {
            0 => &[],
            1 => &[("blksize", 1428), ("tsize", 0)],
            2 => &[("blksize", 900), ("windowsize", 7)],
            _ => &[("windowsize", 64), ("timeout", 2)],
        };
        let length = dice.below(40_000) as usize;
        let weather = Weather { lost: 100, ..Weather::FOUL };
        let mut source = Source::new(&request(Mode::Octet, options), content(length));
        let mut sink = Sink::new();
        let end = sim::run(&mut source, &mut sink, weather, seed, 100_000, |source, sink| {
            sink.done || source.ended().is_some()
        });
        end.unwrap_or_else(|stuck| panic!("seed {seed}: {stuck}"));
        assert_eq!(sink.got, content(length)[..sink.got.len()], "seed {seed}");
        assert!(sink.done, "seed {seed}: {:?}", source.ended());
    }
}

#[test]
fn a_doubled_ack_sends_nothing_twice() {
    // The Sorcerer's Apprentice: RFC 1123, 4.2.3.1.
    let weather = Weather { doubled: 1000, ..Weather::FAIR };
    let (source, sink, _) = fetch(Mode::Octet, &[], content(100 * 512), weather, 3);
    assert_eq!(sink.got.len(), 100 * 512);
    assert_eq!(source.sent, 101, "each block once, though every packet was doubled");
}

#[test]
fn a_lost_block_of_a_window_is_sent_again_at_once_and_only_once() {
    let now = Time::from_millis(5);
    let mut source = Source::new(&request(Mode::Octet, &[("windowsize", 4)]), content(40 * 512));
    assert_eq!(source.packets(now).len(), 1);
    source.receive(codec::ack(0), now);
    assert_eq!(source.blocks(now), [1, 2, 3, 4]);
    source.receive(codec::ack(2), now);
    assert_eq!(source.blocks(now), [3, 4, 5, 6], "3 was lost");
    source.receive(codec::ack(2), now);
    assert_eq!(source.blocks(now), [3, 4, 5, 6], "3 was lost again");
    source.receive(codec::ack(2), now);
    assert_eq!(source.blocks(now), [] as [u16; 0], "now it is the timer's turn");
    source.receive(codec::ack(1), now);
    source.receive(codec::ack(900), now);
    assert_eq!(source.blocks(now), [] as [u16; 0], "old and invented numbers");
}

#[test]
fn a_silent_client_is_given_up_after_31_seconds_with_six_tries() {
    let mut source = Source::new(&request(Mode::Octet, &[]), content(10));
    let mut tries = 0;
    let mut now = Time::ZERO;
    for _ in 0..100 {
        tries += source.packets(now).len();
        let Some(next) = source.deadline() else { break };
        now = next;
        source.timeout(now);
    }
    assert_eq!((tries, now), (6, Time::from_secs(31)));
    assert!(matches!(source.ended(), Some(Event::Failed(0, why)) if why.contains("silent")));
}

#[test]
fn a_client_that_probes_the_size_and_stops_ends_it() {
    let mut source = Source::new(&request(Mode::Octet, &[("tsize", 0)]), content(10));
    assert_eq!(
        codec::parse(&source.packets(Time::ZERO)[0]),
        Some(Packet::OptionAck(vec![("tsize".into(), "10".into())]))
    );
    source.receive(codec::error(8, "User aborted the transfer"), Time::ZERO);
    assert_eq!(
        source.ended(),
        Some(&Event::Failed(0, "the client stopped it: error 8 User aborted the transfer".into()))
    );
    assert_eq!((source.deadline(), source.packets(Time::ZERO).len()), (None, 0));
}

#[test]
fn options_that_are_out_of_range_or_unknown_are_left_out() {
    let granted = |options: &[(&str, u64)]| {
        let mut source = Source::new(&request(Mode::Octet, options), content(3));
        match codec::parse(&source.packets(Time::ZERO)[0]) {
            Some(Packet::OptionAck(options)) => {
                options.into_iter().map(|(n, v)| (n, v.parse().unwrap())).collect()
            }
            _ => Vec::<(String, u64)>::new(),
        }
    };
    let one = |name: &str, value| vec![(name.to_owned(), value)];
    assert_eq!(granted(&[("blksize", 7)]), []);
    assert_eq!(granted(&[("blksize", 8)]), one("blksize", 8));
    assert_eq!(granted(&[("BlkSize", 65464)]), one("blksize", 1468));
    assert_eq!(granted(&[("blksize", 65465)]), []);
    assert_eq!(granted(&[("timeout", 0)]), []);
    assert_eq!(granted(&[("timeout", 256)]), []);
    assert_eq!(granted(&[("windowsize", 0)]), []);
    assert_eq!(granted(&[("windowsize", 65535)]), one("windowsize", 64));
    assert_eq!(granted(&[("windowsize", 65536), ("multicast", 1)]), []);
    assert_eq!(granted(&[("tsize", 0), ("tsize", 0)]), one("tsize", 3));
    assert_eq!(granted(&[("tsize", 0), ("rollover", 0), ("blksize", 1432)]).len(), 2);
}

#[test]
fn text_travels_with_its_line_ends_translated() {
    let (_, sink, _) =
        fetch(Mode::Netascii, &[("tsize", 0)], b"one\ntwo\rthree\r\n".to_vec(), Weather::FAIR, 1);
    assert_eq!(sink.got, b"one\r\ntwo\r\0three\r\0\r\n");
    let file: Vec<u8> = (0..3000).map(|i| if i % 3 == 0 { b'\n' } else { b'\r' }).collect();
    let (_, sink, _) = fetch(Mode::Netascii, &[], file, Weather::FAIR, 1);
    assert_eq!(sink.got.len(), 6000);
}

#[test]
fn an_unreadable_file_tells_the_client() {
    let mut transfer = Transfer::new(&request(Mode::Octet, &[]), 10, Time::ZERO);
    assert!(transfer.poll_read().is_some());
    transfer.handle_read_failed("disk on fire");
    assert!(matches!(codec::parse(&transfer.poll_transmit().unwrap()), Some(Packet::Error(0, _))));
    assert_eq!(transfer.poll_event(), Some(Event::Failed(0, "disk on fire".into())));
}

#[test]
fn no_bytes_make_it_panic_or_run_on() {
    for seed in 0..2000 {
        let mut dice = Dice::new(seed);
        let mut source = Source::new(
            &request(Mode::Octet, &[("windowsize", dice.below(5)), ("blksize", dice.below(600))]),
            content(5000),
        );
        let mut now = Time::ZERO;
        for _ in 0..100 {
            let packet = match dice.below(4) {
                0 => (0..dice.below(20)).map(|_| dice.roll() as u8).collect(),
                1 => codec::error(dice.roll() as u16, "x"),
                _ => codec::ack(dice.below(14) as u16),
            };
            now = now + Duration::from_millis(dice.below(900));
            source.receive(packet, now);
            if source.deadline().is_some_and(|at| at <= now) {
                source.timeout(now);
            }
            assert!(source.packets(now).len() <= 70);
        }
    }
}

#[test]
fn progress_is_told_once_a_second() {
    let mut source = Source::new(&request(Mode::Octet, &[]), content(100 * 512));
    for block in 1..=50 {
        let now = Time::from_millis(u64::from(block) * 100);
        source.packets(now);
        source.receive(codec::ack(block), now);
    }
    assert_eq!(source.events.len(), 5, "{:?}", source.events);
}

#[test]
fn a_client_that_leaves_after_the_last_block_has_the_file() {
    let leave = |acknowledged: u16| {
        let mut source = Source::new(&request(Mode::Octet, &[]), content(700));
        source.packets(Time::ZERO);
        (1..=acknowledged).for_each(|block| source.receive(codec::ack(block), Time::ZERO));
        source.transfer.handle_refused();
        source.settle(Time::ZERO);
        source.ended().cloned()
    };
    assert_eq!(leave(1), Some(Event::Done(700)));
    assert_eq!(leave(0), Some(Event::Failed(0, "the client closed its port".into())));
}
