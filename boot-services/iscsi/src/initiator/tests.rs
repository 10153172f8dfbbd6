mod peer;

use super::*;
use crate::{
    chap::{Credentials, Nonce, Secret},
    keys::Digest,
    pdu::AsyncEvent,
};
use peer::{BLOCK, Fault, Peer};
use sansio::Time;

/// An engine and a peer with a wire between them that is cut only on demand.
struct Wire {
    engine: Initiator,
    peer: Peer,
    now: Time,
    events: Vec<Event>,
}

impl Wire {
    fn new(settings: Settings, peer: Peer) -> Wire {
        let now = Time::from_secs(1);
        Wire { engine: Initiator::new(settings, now), peer, now, events: Vec::new() }
    }

    fn cut(&mut self) {
        self.peer.connection = None;
        self.engine.handle_disconnected("cut", self.now);
    }

    /// One exchange in each direction; whether anything moved.
    fn turn(&mut self) -> bool {
        let mut moved = false;
        while let Some(event) = self.engine.poll_event() {
            moved = true;
            match &event {
                Event::Connect => {
                    self.peer.connect();
                    self.engine.handle_connected(Nonce([1; 33]), self.now);
                }
                Event::Lost { .. } => self.peer.connection = None,
                _ => {}
            }
            self.events.push(event);
        }
        while let Some(transmit) = self.engine.poll_transmit(self.now) {
            moved = true;
            self.peer.receive(&transmit.pieces().concat());
        }
        if let Some(connection) = &mut self.peer.connection {
            let octets = std::mem::take(&mut connection.out);
            moved |= !octets.is_empty();
            let cut = connection.cut;
            self.engine.handle_bytes(&octets, self.now);
            if cut {
                self.cut();
                moved = true;
            }
        }
        moved
    }

    /// Runs until `done`, or nothing happens until `limit` from now.
    fn run(&mut self, limit: Duration, done: impl Fn(&Wire) -> bool) -> bool {
        let end = self.now + limit;
        for _ in 0..100_000 {
            if done(self) {
                return true;
            }
            if self.turn() {
                continue;
            }
            match self.engine.poll_timeout() {
                Some(at) if at <= end => {
                    self.now = self.now.max(at);
                    self.engine.handle_timeout(self.now);
                }
                _ => break,
            }
        }
        done(self)
    }

    fn ready(settings: Settings, peer: Peer) -> Wire {
        let mut wire = Wire::new(settings, peer);
        assert!(wire.run(Duration::from_secs(60), |wire| wire.engine.room() > 0), "{:?}", wire.events);
        wire
    }

    fn results(&self) -> Vec<&Result<Bytes, Failure>> {
        let mut found = Vec::new();
        for event in &self.events {
            if let Event::Done { result, .. } = event {
                found.push(result);
            }
        }
        found
    }

    /// Submits, and runs until all is over.
    fn work(&mut self, operations: &[Operation]) -> Vec<Result<Bytes, Failure>> {
        let before = self.results().len();
        for operation in operations {
            self.engine.submit(operation.clone()).unwrap();
        }
        let all = before + operations.len();
        assert!(self.run(Duration::from_secs(600), |wire| wire.results().len() == all), "{:?}", self.events);
        self.results()[before..].iter().map(|result| (*result).clone()).collect()
    }

    fn over(&self) -> Option<&Why> {
        self.events.iter().find_map(|event| if let Event::Over(why) = event { Some(why) } else { None })
    }
}

fn settings() -> Settings {
    Settings::new("iqn.2026-01.example:host", "iqn.2026-01.example:disk")
}

fn pattern(length: usize, seed: u8) -> Bytes {
    (0..length).map(|at| (at / 7 % 251) as u8 ^ seed).collect::<Vec<u8>>().into()
}

fn credentials(user: &str, secret: &str) -> Credentials {
    Credentials { user: user.to_owned(), secret: Secret::new(secret).unwrap() }
}

#[test]
fn the_disk_is_asked_what_it_is_before_anything_is_submitted() {
    let mut wire = Wire::new(settings(), Peer::new(100));
    assert_eq!(wire.engine.submit(Operation::Flush), Err(NotTaken::NotReady));
    assert!(wire.run(Duration::from_secs(1), |wire| wire.engine.room() > 0));
    let disk = wire.engine.disk().unwrap();
    assert_eq!((disk.size(), disk.block_size, &*disk.name), (51_200, 512, "KILN disk 1"));
    assert_eq!((&*disk.serial, disk.longest_transfer), ("one", 256 * 512));
    assert!(disk.makes_holes());
}

#[test]
fn what_is_written_is_read_under_every_agreement_about_data() {
    for case in 0..64_u32 {
        let bit = |at: u32| case >> at & 1 == 1;
        let mut wire_settings = settings();
        let digest = if bit(0) { Digest::Always } else { Digest::Never };
        wire_settings.offer = Offer {
            header_digest: if bit(1) { Digest::Always } else { Digest::IfAsked },
            data_digest: digest,
            initial_r2t: bit(2),
            immediate_data: bit(3),
            first_burst: if bit(4) { 1024 } else { 65_536 },
            max_burst: if bit(5) { 2048 } else { 1 << 20 },
            max_recv: if bit(5) { 512 } else { 65_536 },
            ..Offer::default()
        };
        let mut peer = Peer::new(1000);
        peer.offer.max_recv = if bit(4) { 1024 } else { 1 << 20 };
        let mut wire = Wire::ready(wire_settings, peer);
        let data = pattern(100 * BLOCK, case as u8);
        let write = Operation::Write { offset: 3 * BLOCK as u64, data: data.clone() };
        let one = Operation::Write { offset: 200 * BLOCK as u64, data: data.slice(..BLOCK) };
        let read = Operation::Read { offset: 3 * BLOCK as u64, length: 100 * BLOCK as u32 };
        assert_eq!(wire.work(&[write, one]), [Ok(Bytes::new()), Ok(Bytes::new())], "{case}");
        assert_eq!(wire.work(&[read]), [Ok(data.clone())], "{case}");
        assert_eq!(wire.peer.disk[200 * BLOCK..][..BLOCK], data[..BLOCK]);
        assert!(wire.peer.disk[..3 * BLOCK].iter().all(|octet| *octet == 0xee));
    }
}

#[test]
fn chap_is_done_both_ways_and_a_wrong_secret_ends_it_at_once() {
    let ours =
        Chap::new(credentials("host", "one-two-three"), Some(credentials("disk", "four-five-six"))).unwrap();
    let with = |ours: Option<&Chap>, theirs: Option<&Chap>| {
        let mut peer = Peer::new(10);
        peer.chap = theirs.cloned();
        let mut wire = Wire::new(Settings { chap: ours.cloned(), ..settings() }, peer);
        wire.run(Duration::from_secs(600), |wire| wire.engine.room() > 0 || wire.over().is_some());
        (wire.engine.room() > 0, wire.over().cloned(), wire.peer.logins)
    };
    assert_eq!(with(Some(&ours), Some(&ours)), (true, None, 1));
    let other =
        Chap::new(credentials("host", "one-two-threE"), Some(credentials("disk", "four-five-six"))).unwrap();
    let refused = Why::Refused(LoginStatus::AuthenticationFailure);
    assert_eq!(with(Some(&ours), Some(&other)), (false, Some(refused.clone()), 0));
    let liar =
        Chap::new(credentials("host", "one-two-three"), Some(credentials("disk", "four-five-siX"))).unwrap();
    assert_eq!(with(Some(&ours), Some(&liar)).1, Some(Why::Unproved(chap::Refused::TargetUnproved)));
    assert_eq!(with(None, Some(&ours)).1, Some(refused.clone()));
    assert_eq!(with(Some(&ours), None).1, Some(refused));
}

#[test]
fn thirty_two_commands_are_under_way_and_no_more_than_the_window() {
    for (window, expected) in [(64, 32), (5, 5)] {
        let mut peer = Peer::new(1000);
        peer.window = window;
        let mut wire = Wire::ready(settings(), peer);
        let read = |at: u64| Operation::Read { offset: at * 512, length: 512 };
        wire.peer.fault(0x88, &vec![Fault::Silence; 64]);
        // The last answer before it told the window.
        for at in 0..MOST_OPERATIONS as u64 {
            wire.engine.submit(read(at)).unwrap();
        }
        assert_eq!(wire.engine.submit(read(0)), Err(NotTaken::Full));
        let sent = std::iter::from_fn(|| wire.engine.poll_transmit(wire.now)).count();
        assert_eq!(sent, expected);
    }
}

#[test]
fn holes_are_made_by_what_the_disk_knows() {
    for (provisioning, fault, codes) in [
        (0xc0, None, vec![0x93; 4]),
        (0x00, None, vec![0x93; 1]),
        (0xc0, Some(vec![Fault::Sense(5, 0x24, 0)]), vec![0x93; 4]),
        (0xc0, Some(vec![Fault::Sense(5, 0x20, 0); 2]), vec![0x8a; 1]),
    ] {
        let mut peer = Peer::new(1000);
        peer.provisioning = provisioning;
        let mut wire = Wire::ready(settings(), peer);
        wire.peer.done.clear();
        wire.peer.fault(0x93, &fault.unwrap_or_default());
        let zero = Operation::Zero { offset: 10 * BLOCK as u64, length: 200 * BLOCK as u64 };
        assert_eq!(wire.work(&[zero]), [Ok(Bytes::new())]);
        assert!(wire.peer.disk[10 * BLOCK..210 * BLOCK].iter().all(|octet| *octet == 0));
        assert!(
            wire.peer.disk[..10 * BLOCK]
                .iter()
                .chain(&wire.peer.disk[210 * BLOCK..])
                .all(|octet| *octet == 0xee)
        );
        assert_eq!(wire.peer.done, codes, "{provisioning:#x}");
    }
}

#[test]
fn unmap_is_cut_to_what_the_disk_takes_and_is_nothing_where_there_is_none() {
    let unmap = Operation::Unmap { offset: 0, length: 200 * BLOCK as u64 };
    let mut wire = Wire::ready(settings(), Peer::new(1000));
    wire.peer.done.clear();
    assert_eq!(wire.work(std::slice::from_ref(&unmap)), [Ok(Bytes::new())]);
    assert_eq!(wire.peer.done, [0x42; 4]);
    let mut peer = Peer::new(1000);
    peer.provisioning = 0;
    let mut wire = Wire::ready(settings(), peer);
    wire.peer.done.clear();
    assert_eq!(wire.work(&[unmap, Operation::Flush, Operation::Test]), vec![Ok(Bytes::new()); 3]);
    assert_eq!(wire.peer.done, [0x91, 0x00]);
}

#[test]
fn what_does_not_fit_the_disk_is_not_taken() {
    let mut wire = Wire::ready(settings(), Peer::new(1000));
    let mut submit = |offset, length| wire.engine.submit(Operation::Read { offset, length });
    assert_eq!(submit(1, 512), Err(NotTaken::NotAligned));
    assert_eq!(submit(0, 100), Err(NotTaken::NotAligned));
    assert_eq!(submit(0, 0), Err(NotTaken::NotAligned));
    assert_eq!(submit(999 * 512, 1024), Err(NotTaken::PastTheEnd));
    assert_eq!(submit(u64::MAX - 511, 512), Err(NotTaken::PastTheEnd));
    assert_eq!(submit(0, 257 * 512), Err(NotTaken::TooLong));
    assert!(submit(999 * 512, 512).is_ok());
}

#[test]
fn unit_attentions_busy_and_becoming_ready_are_borne_and_other_faults_are_told() {
    let mut peer = Peer::new(100);
    peer.fault(0x00, &[Fault::Sense(6, 0x29, 0), Fault::Sense(2, 4, 1), Fault::Status(8)]);
    let mut wire = Wire::ready(settings(), peer);
    let read = Operation::Read { offset: 0, length: 512 };
    wire.peer.fault(
        0x88,
        &[Fault::Status(0x28), Fault::Sense(6, 0x2a, 9), Fault::Status(0x40), Fault::Sense(11, 0, 0)],
    );
    assert!(wire.work(std::slice::from_ref(&read))[0].is_ok());
    wire.peer.fault(0x88, &[Fault::Sense(3, 0x11, 0), Fault::Status(0x18)]);
    let sense = Sense { key: 3, code: (0x11, 0), deferred: false, information: None };
    let failed = wire.work(&[read.clone(), read.clone()]);
    assert_eq!(failed, [Err(Failure::Status(2, Some(sense))), Err(Failure::Status(0x18, None))]);
    wire.peer.fault(0x88, &vec![Fault::Status(8); 100]);
    assert_eq!(wire.work(&[read]), [Err(Failure::Status(8, None))], "but not for ever");
}

#[test]
fn what_was_not_answered_when_the_connection_fell_is_sent_again_and_told_once() {
    let mut wire = Wire::ready(settings(), Peer::new(1000));
    wire.peer.fault(0x8a, &[Fault::Silence, Fault::Cut]);
    let writes: Vec<Operation> =
        (0..10).map(|at| Operation::Write { offset: at * 4096, data: pattern(4096, at as u8) }).collect();
    assert_eq!(wire.work(&writes), vec![Ok(Bytes::new()); 10]);
    for at in 0..10_usize {
        assert_eq!(wire.peer.disk[at * 4096..][..4096], pattern(4096, at as u8));
    }
    assert_eq!(wire.peer.logins, 2);
    assert_eq!(wire.events.iter().filter(|event| matches!(event, Event::Lost { losses: 1, .. })).count(), 1);
}

#[test]
fn an_operation_that_the_target_falls_over_is_given_up_and_the_others_are_not() {
    let mut wire = Wire::ready(Settings { tries: 4, ..settings() }, Peer::new(1000));
    wire.peer.fault(0x8a, &vec![Fault::Cut; 4]);
    let write = Operation::Write { offset: 0, data: pattern(512, 0) };
    let found = wire.work(std::slice::from_ref(&write));
    assert_eq!(found, [Err(Failure::Lost(Why::Disconnected("cut".to_owned())))]);
    assert_eq!(wire.over(), None);
    assert_eq!(wire.work(&[write]), [Ok(Bytes::new())]);
}

#[test]
fn a_target_that_is_not_there_is_tried_a_bounded_number_of_times() {
    let mut wire = Wire::new(settings(), Peer::new(10));
    for _ in 0..100 {
        while let Some(event) = wire.engine.poll_event() {
            if event == Event::Connect {
                wire.engine.handle_disconnected("refused", wire.now);
            }
            wire.events.push(event);
        }
        let Some(at) = wire.engine.poll_timeout() else { break };
        wire.now = at;
        wire.engine.handle_timeout(at);
    }
    assert_eq!(wire.over(), Some(&Why::Disconnected("refused".to_owned())));
    assert_eq!(wire.events.iter().filter(|event| **event == Event::Connect).count(), 11);
    assert!(wire.now.since(Time::ZERO) > Duration::from_secs(30), "{}", wire.now);
}

#[test]
fn a_silent_target_is_pinged_and_then_given_up() {
    let mut wire = Wire::ready(settings(), Peer::new(10));
    assert!(!wire.run(Duration::from_secs(3600), |wire| wire.over().is_some()), "its pings are answered");
    let before = wire.now;
    let peer = wire.peer.connection.take();
    assert!(peer.is_some());
    wire.run(Duration::from_secs(25), |wire| wire.events.len() > 2);
    let lost = wire.events.iter().any(|event| matches!(event, Event::Lost { why: Why::Silent, .. }));
    assert!(lost, "{:?}", wire.events);
    assert!(wire.now.since(before) <= Duration::from_secs(21));
}

#[test]
fn a_command_that_is_never_answered_is_sent_on_another_connection() {
    let mut wire = Wire::ready(settings(), Peer::new(10));
    wire.peer.fault(0x91, &[Fault::Silence]);
    assert_eq!(wire.work(&[Operation::Flush]), [Ok(Bytes::new())]);
    assert!(wire.events.iter().any(|event| matches!(event, Event::Lost { why: Why::Unanswered, .. })));
}

#[test]
fn pings_are_answered() {
    let mut wire = Wire::ready(settings(), Peer::new(10));
    wire.peer.connection.as_mut().unwrap().ping();
    wire.run(Duration::ZERO, |wire| wire.peer.pings_answered == 1);
    assert_eq!(wire.peer.pings_answered, 1);
    for _ in 0..100 {
        wire.peer.connection.as_mut().unwrap().ping();
    }
    let octets = std::mem::take(&mut wire.peer.connection.as_mut().unwrap().out);
    wire.engine.handle_bytes(&octets, wire.now);
    assert!(
        wire.engine.poll_event().is_some_and(|event| matches!(event, Event::Lost { .. })),
        "a flood is no ping"
    );
}

#[test]
fn a_target_that_asks_us_to_leave_is_left_and_found_again() {
    for event in [AsyncEvent::LogoutRequest(5), AsyncEvent::DropSession(1, 0), AsyncEvent::Negotiate(1)] {
        let mut wire = Wire::ready(settings(), Peer::new(100));
        let ready = |wire: &Wire| wire.events.iter().filter(|event| matches!(event, Event::Ready(_))).count();
        wire.peer.connection.as_mut().unwrap().message(event);
        assert!(wire.run(Duration::from_secs(5), |wire| ready(wire) == 2), "{event:?}: {:?}", wire.events);
        assert_eq!(wire.work(&[Operation::Test]), [Ok(Bytes::new())]);
    }
}

#[test]
fn a_logout_comes_after_all_that_was_submitted() {
    let mut wire = Wire::ready(settings(), Peer::new(100));
    wire.engine.submit(Operation::Write { offset: 0, data: pattern(512, 1) }).unwrap();
    wire.engine.submit(Operation::Flush).unwrap();
    wire.engine.log_out(wire.now);
    assert_eq!(wire.engine.submit(Operation::Flush), Err(NotTaken::NotReady));
    assert!(wire.run(Duration::from_secs(5), |wire| wire.over().is_some()));
    assert_eq!((wire.over(), wire.results().len()), (Some(&Why::LoggedOut), 2));
    assert_eq!(wire.peer.done[wire.peer.done.len() - 2..], [0x8a, 0x91]);
    assert_eq!(wire.engine.poll_timeout(), None);
    wire.engine.stop();
    assert_eq!(wire.engine.poll_event(), None);
}

#[test]
fn another_disk_after_a_reconnection_is_the_end() {
    let mut wire = Wire::ready(settings(), Peer::new(100));
    wire.peer.serial = "two".to_owned();
    wire.cut();
    wire.engine.submit(Operation::Test).unwrap();
    assert!(wire.run(Duration::from_secs(60), |wire| wire.over().is_some()));
    assert_eq!(
        (wire.over(), wire.results()),
        (Some(&Why::OtherDisk), vec![&Err(Failure::Lost(Why::OtherDisk))])
    );
}

#[test]
fn a_connection_with_two_faults_is_lost_once() {
    let mut wire = Wire::new(settings(), Peer::new(100));
    wire.peer.fault(0x12, &[Fault::Sense(5, 0x25, 0)]);
    wire.peer.garbles = true;
    wire.run(Duration::from_secs(60), |wire| wire.over().is_some());
    wire.turn();
    let why = Why::Unfit("the disk answers ILLEGAL REQUEST 25/00".to_owned());
    assert_eq!(wire.events[1..], [Event::Lost { why: why.clone(), losses: 1 }, Event::Over(why)]);
}

#[test]
fn stopping_fails_what_is_under_way() {
    let mut wire = Wire::ready(settings(), Peer::new(100));
    wire.engine.submit(Operation::Test).unwrap();
    wire.engine.stop();
    wire.turn();
    assert_eq!((wire.results(), wire.over()), (vec![&Err(Failure::Stopped)], Some(&Why::LoggedOut)));
}

#[test]
fn every_octet_that_is_flipped_is_borne_and_with_digests_seen() {
    let mut offer = Offer { header_digest: Digest::Always, data_digest: Digest::Always, ..Offer::default() };
    offer.max_recv = 4096;
    let mut dice = sansio::sim::Dice::new(3);
    for _ in 0..300 {
        let mut wire = Wire::ready(Settings { offer: offer.clone(), ..settings() }, Peer::new(100));
        wire.engine.submit(Operation::Read { offset: 0, length: 20 * 512 }).unwrap();
        while let Some(transmit) = wire.engine.poll_transmit(wire.now) {
            wire.peer.receive(&transmit.pieces().concat());
        }
        let out = &mut wire.peer.connection.as_mut().unwrap().out;
        let at = dice.below(out.len() as u64) as usize;
        out[at] ^= 1 << dice.below(8);
        let found = wire.run(Duration::from_secs(600), |wire| !wire.results().is_empty());
        assert!(found, "{:?}", wire.events);
        assert_eq!(wire.results(), [&Ok(Bytes::from(vec![0xee; 20 * 512]))]);
    }
}

#[test]
fn any_octets_from_a_target_are_borne() {
    let mut dice = sansio::sim::Dice::new(5);
    for round in 0..3_000 {
        let mut engine = Initiator::new(settings(), Time::ZERO);
        let mut now = Time::ZERO;
        for _ in 0..20 {
            while let Some(event) = engine.poll_event() {
                if event == Event::Connect {
                    engine.handle_connected(Nonce([1; 33]), now);
                }
            }
            while engine.poll_transmit(now).is_some() {}
            let mut octets: Vec<u8> = (0..48 + dice.below(40)).map(|_| dice.roll() as u8).collect();
            octets[0] = [0x23, 0x21, 0x25, 0x31, 0x20, 0x3f, 0x32, 0x26][dice.below(8) as usize];
            if round % 2 == 0 {
                octets[4..7].fill(0);
            }
            engine.handle_bytes(&octets, now);
            if let Some(at) = engine.poll_timeout() {
                now = now.max(at);
                engine.handle_timeout(now);
            }
        }
    }
}
