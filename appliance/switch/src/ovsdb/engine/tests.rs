mod server;

use super::*;
use crate::Order;
use crate::keeper::Keeper;
use rack::{PortWish, SwitchFact};
use server::Server;

const SEC: Duration = Duration::from_secs(1);

fn vlan(id: u16) -> Vlan {
    id.try_into().unwrap()
}

fn port(name: &str) -> SwitchPort {
    name.parse().unwrap()
}

/// A session with a server that has the access ports `n1` and `n2` in VLAN 10, and watches both.
fn session() -> (Engine, Server, Time) {
    let now = Time::from_secs(1);
    let mut engine = Engine::new(now);
    let mut server = Server::new(&[("n1", Some(10)), ("n2", Some(10)), ("up", None)]);
    exchange(&mut engine, &mut server, now);
    assert!(matches!(engine.poll_event(), Some(Event::Changed)));
    assert!(matches!(engine.poll_event(), Some(Event::Ready)));
    engine.watch([port("n1"), port("n2")]);
    (engine, server, now)
}

fn exchange(engine: &mut Engine, server: &mut Server, now: Time) {
    loop {
        if engine.poll_timeout(now).is_some_and(|due| due <= now) {
            engine.handle_timeout(now);
        }
        let Some(bytes) = engine.poll_transmit() else { return };
        server.handle_bytes(&bytes);
        engine.handle_bytes(now, &server.poll_transmit());
    }
}

fn events(engine: &mut Engine) -> Vec<Event> {
    std::iter::from_fn(|| engine.poll_event()).collect()
}

fn end(engine: &mut Engine) -> Error {
    match events(engine).pop() {
        Some(Event::Ended(error)) => error,
        other => panic!("the session goes on: {other:?}"),
    }
}

#[test]
fn a_change_is_in_force_when_the_daemon_has_reached_its_number() {
    let (mut engine, mut server, now) = session();
    server.daemon_runs = false;
    engine.set(now, port("n1"), vlan(100));
    exchange(&mut engine, &mut server, now);
    let accepted = |event: &Event| matches!(event, Event::Set { outcome: Ok(Did::Changed), .. });
    assert!(events(&mut engine).iter().any(accepted));
    let seen = engine.seen(&port("n1"));
    assert_eq!((seen.mode, seen.standing), (PortMode::Access(vlan(100)), Standing::Awaited));
    server.daemon_runs = true;
    engine.handle_bytes(now, &server.poll_transmit());
    assert_eq!(engine.seen(&port("n1")).standing, Standing::InForce);
}

#[test]
fn a_change_by_somebody_else_is_in_force_only_when_the_daemon_was_asked_after_it() {
    let (mut engine, mut server, now) = session();
    exchange(&mut engine, &mut server, now);
    events(&mut engine);
    server.drift("n1", Some(300));
    server.daemon_runs = false;
    engine.handle_bytes(now, &server.poll_transmit());
    assert!(matches!(engine.poll_event(), Some(Event::Changed)));
    assert_eq!(engine.seen(&port("n1")).standing, Standing::Awaited);
    assert_eq!(engine.seen(&port("n2")).standing, Standing::InForce);
    exchange(&mut engine, &mut server, now);
    assert_eq!(engine.seen(&port("n1")).standing, Standing::Awaited);
    server.daemon_runs = true;
    engine.handle_bytes(now, &server.poll_transmit());
    assert_eq!(engine.seen(&port("n1")).standing, Standing::InForce);
}

#[test]
fn a_daemon_that_makes_no_progress_is_told_and_believed_again_when_it_does() {
    let (mut engine, mut server, now) = session();
    exchange(&mut engine, &mut server, now);
    server.daemon_runs = false;
    engine.set(now, port("n1"), vlan(100));
    exchange(&mut engine, &mut server, now);
    events(&mut engine);
    let late = now + GRACE;
    engine.handle_timeout(late);
    assert!(events(&mut engine).iter().any(|event| matches!(event, Event::Changed)));
    for name in ["n1", "n2"] {
        let seen = engine.seen(&port(name));
        assert_eq!(seen.standing, Standing::Stuck);
        assert!(seen.trouble.unwrap().contains("ovs-vswitchd"));
    }
    server.daemon_runs = true;
    engine.handle_bytes(late, &server.poll_transmit());
    assert_eq!(engine.seen(&port("n1")).standing, Standing::InForce);
    assert_eq!(engine.seen(&port("n1")).trouble, None);
}

#[test]
fn a_daemon_that_dies_is_missed_though_nothing_changes() {
    let (mut engine, mut server, mut now) = session();
    exchange(&mut engine, &mut server, now);
    server.daemon_runs = false;
    let started = now;
    while engine.seen(&port("n1")).standing == Standing::InForce {
        now = engine.poll_timeout(now).unwrap();
        exchange(&mut engine, &mut server, now);
        assert!(now.since(started) <= AUDIT + GRACE, "it is missed");
    }
    assert_eq!(engine.seen(&port("n1")).standing, Standing::Stuck);
}

#[test]
fn a_port_that_is_there_already_is_not_written() {
    let (mut engine, mut server, now) = session();
    exchange(&mut engine, &mut server, now);
    events(&mut engine);
    engine.set(now, port("n1"), vlan(10));
    assert!(matches!(engine.poll_event(), Some(Event::Set { outcome: Ok(Did::Already), .. })));
    assert_eq!(engine.poll_transmit(), None);
}

#[test]
fn what_the_server_refuses_is_told_in_its_words() {
    let (mut engine, mut server, now) = session();
    exchange(&mut engine, &mut server, now);
    let mut refused = |error: &str, name: &str| {
        server.refusal = Some(error.to_owned());
        engine.set(now, port(name), vlan(100));
        exchange(&mut engine, &mut server, now);
        events(&mut engine).into_iter().find_map(|event| match event {
            Event::Set { outcome, .. } => Some(outcome.unwrap_err()),
            _ => None,
        })
    };
    let details = "details".to_owned();
    assert_eq!(refused("constraint violation", "n1"), Some(Refusal::Constraint { details: details.clone() }));
    assert_eq!(
        refused("referential integrity violation", "n1"),
        Some(Refusal::Referential { details: details.clone() })
    );
    assert_eq!(refused("I/O error", "n1"), Some(Refusal::Other { error: "I/O error".to_owned(), details }));
    assert_eq!(refused("I/O error", "n9"), Some(Refusal::Absent));
    assert_eq!(engine.seen(&port("n1")).mode, PortMode::Access(vlan(10)));
}

#[test]
fn a_port_that_goes_away_between_look_and_set_is_absent() {
    let (mut engine, mut server, now) = session();
    exchange(&mut engine, &mut server, now);
    events(&mut engine);
    server.remove("n1");
    engine.set(now, port("n1"), vlan(100));
    exchange(&mut engine, &mut server, now);
    let absent = |event: &Event| matches!(event, Event::Set { outcome: Err(Refusal::Absent), .. });
    assert!(events(&mut engine).iter().any(absent));
    assert_eq!(engine.seen(&port("n1")).mode, PortMode::Absent);
}

#[test]
fn a_silent_server_is_asked_whether_it_lives_and_given_up() {
    let (mut engine, mut server, mut now) = session();
    exchange(&mut engine, &mut server, now);
    for _ in 0..100 {
        now = engine.poll_timeout(now).unwrap();
        exchange(&mut engine, &mut server, now);
    }
    events(&mut engine);
    let silent_since = now;
    while engine.poll_timeout(now).is_some() {
        now = engine.poll_timeout(now).unwrap();
        engine.handle_timeout(now);
        engine.poll_transmit();
    }
    assert!(now.since(silent_since) <= SILENCE + PATIENCE);
    assert!(matches!(end(&mut engine), Error::Silent { .. }));
}

#[test]
fn a_server_that_speaks_but_owes_a_reply_is_given_up() {
    let (mut engine, mut server, mut now) = session();
    exchange(&mut engine, &mut server, now);
    events(&mut engine);
    engine.set(now, port("n1"), vlan(100));
    let asked = now;
    while now.since(asked) < PATIENCE {
        now = now + SEC;
        engine.handle_bytes(now, br#"{"id":"echo","method":"echo","params":[]}"#);
        engine.handle_timeout(now);
        engine.poll_transmit();
    }
    assert!(matches!(end(&mut engine), Error::Silent { waited_for: "its word on a change", .. }));
}

#[test]
fn a_timeout_in_the_past_is_never_asked_for_twice() {
    let (mut engine, mut server, mut now) = session();
    server.daemon_runs = false;
    for round in 0..1000 {
        let Some(due) = engine.poll_timeout(now) else { return };
        now = now.max(due);
        engine.handle_timeout(now);
        assert!(engine.poll_timeout(now).is_none_or(|next| next > now), "round {round}");
        if round % 3 == 0 {
            exchange(&mut engine, &mut server, now);
        }
        if round == 500 {
            engine.set(now, port("n1"), vlan(100));
        }
    }
}

#[test]
fn a_server_without_the_database_is_no_switch() {
    let mut engine = Engine::new(Time::ZERO);
    engine.handle_bytes(Time::ZERO, br#"{"id":0,"result":null,"error":{"error":"unknown database"}}"#);
    let Error::PeerIncompatible { what } = end(&mut engine) else { panic!() };
    assert!(what.contains("unknown database"));
}

#[test]
fn a_database_that_was_never_initialised_is_told_as_that() {
    let mut engine = Engine::new(Time::ZERO);
    let mut server = Server::new(&[("n1", Some(10))]);
    server.initialised = false;
    exchange(&mut engine, &mut server, Time::ZERO);
    engine.watch([port("n1")]);
    exchange(&mut engine, &mut server, Time::ZERO);
    let Error::PeerIncompatible { what } = end(&mut engine) else { panic!() };
    assert!(what.contains("ovs-vsctl init"));
}

#[test]
fn a_server_that_asks_and_does_not_read_is_left() {
    let (mut engine, ..) = session();
    let echo = format!(r#"{{"id":1,"method":"echo","params":["{}"]}}"#, "x".repeat(1 << 20));
    for _ in 0..=MOST_WAITING >> 20 {
        engine.handle_bytes(Time::from_secs(1), echo.as_bytes());
    }
    assert!(matches!(end(&mut engine), Error::PeerMisbehaved { .. }));
    assert_eq!(engine.poll_transmit(), None);
}

/// A small generator, so that a seed says everything (Marsaglia's xorshift).
struct Dice(u64);

impl Dice {
    fn of(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

/// Keeper, engine and server, with bytes cut anywhere and late, a daemon that comes and goes, a person who
/// changes ports, and a connection that breaks.
#[test]
fn in_any_weather_every_port_ends_where_it_is_wished() {
    for seed in 1..=100 {
        let mut dice = Dice::of(seed);
        let mut server = Server::new(&[("n1", Some(10)), ("n2", None), ("n3", Some(30)), ("up", None)]);
        let mut keeper = Keeper::new("sw1".parse().unwrap());
        let mut now = Time::from_secs(1);
        let mut engine = Engine::new(now);
        let (mut ready, mut to, mut fro) = (false, Vec::new(), Vec::new());
        let mut told = BTreeMap::new();
        let mut wished = 10;
        for round in 0..4000 {
            let calm = round >= 2000;
            now = now + Duration::from_millis(if calm { 20 } else { dice.below(40) });
            match dice.below(if calm { 1 << 20 } else { 100 }) {
                0 => server.drift("n1", Some(300)),
                1 => server.drift("n3", None),
                2 => server.daemon_runs = dice.below(2) == 0,
                3 | 4 => wished = 100 + u16::try_from(dice.below(3)).unwrap(),
                5 => {
                    server.hang_up();
                    (to, fro, ready) = (Vec::new(), Vec::new(), false);
                    keeper.handle_reach(Some("hung up".to_owned()));
                    engine = Engine::new(now);
                }
                _ if calm => server.daemon_runs = true,
                _ => {}
            }
            let wishes = ["n1", "n2", "n3"].map(|name| PortWish {
                port: port(name),
                vlan: vlan(wished),
                attempt: None,
            });
            keeper.handle_plan(now, &wishes);
            if engine.poll_timeout(now).is_some_and(|due| due <= now) {
                engine.handle_timeout(now);
            }
            to.extend(engine.poll_transmit().unwrap_or_default());
            let cut = usize::try_from(dice.below(to.len() as u64 + 1)).unwrap();
            server.handle_bytes(&to.drain(..cut).collect::<Vec<u8>>());
            fro.extend(server.poll_transmit());
            let cut = usize::try_from(dice.below(fro.len() as u64 + 1)).unwrap();
            engine.handle_bytes(now, &fro.drain(..cut).collect::<Vec<u8>>());
            while let Some(event) = engine.poll_event() {
                match event {
                    Event::Ready => {
                        ready = true;
                        keeper.handle_reach(None);
                        engine.watch(keeper.ports());
                    }
                    Event::Set { port, outcome } => {
                        keeper.handle_outcome(now, &Order { port, vlan: vlan(wished) }, outcome);
                    }
                    Event::Changed => {}
                    Event::Ended(error) => panic!("seed {seed}, round {round}: {error}"),
                }
            }
            if ready {
                let ports = keeper.ports();
                let seen: Vec<_> = ports.into_iter().map(|port| (port.clone(), engine.seen(&port))).collect();
                for (port, seen) in &seen {
                    // Told as in force is nothing but what the daemon truly forwards by, or did a moment ago
                    // while the news is on its way.
                    if seen.standing == Standing::InForce && fro.is_empty() && server.is_told() {
                        let forwards = server.forwards(port.as_str());
                        assert_eq!(seen.mode, forwards, "seed {seed}, round {round}, {port}");
                    }
                }
                keeper.handle_seen(now, seen);
                for order in keeper.orders(now) {
                    engine.set(now, order.port, order.vlan);
                }
            }
            while let Some(fact) = keeper.fact(now) {
                keeper.handle_told(&fact);
                if let SwitchFact::Port(fact) = fact {
                    told.insert(fact.port.clone(), fact);
                }
            }
        }
        for name in ["n1", "n2", "n3"] {
            let fact = &told[&port(name)];
            assert_eq!(fact.mode, Some(PortMode::Access(vlan(wished))), "seed {seed}: {fact:?}");
            assert_eq!(server.forwards(name), PortMode::Access(vlan(wished)), "seed {seed}");
        }
        assert_eq!(server.forwards("up"), PortMode::Trunk, "seed {seed}: no wish names it");
    }
}

#[test]
fn no_bytes_make_it_panic_or_hang() {
    let recorded = include_bytes!("../../../tests/captures/openvswitch-3.1.0-2026-11-22.json");
    let pieces: [&[u8]; 12] = [
        b"[",
        b"{",
        b"]",
        b"}",
        b"\"",
        b"\\",
        b"null",
        b"\"set\"",
        b"-1",
        b"1e999",
        b"\"new\":",
        b"\xff\xed",
    ];
    for seed in 1..=1000_u64 {
        let mut dice = Dice::of(seed);
        let now = Time::from_secs(1);
        let mut engine = Engine::new(now);
        engine.watch([port("n1"), port("up")]);
        let mut bytes = recorded.to_vec();
        for _ in 0..dice.below(4) {
            let at = usize::try_from(dice.below(bytes.len() as u64)).unwrap();
            let until = at + usize::try_from(dice.below(20)).unwrap();
            let piece = pieces[usize::try_from(dice.below(12)).unwrap()];
            match dice.below(3) {
                0 => bytes[at] = u8::try_from(dice.below(256)).unwrap(),
                1 => drop(bytes.splice(at..until.min(bytes.len()), piece.iter().copied())),
                _ => drop(bytes.splice(at..at, piece.iter().copied())),
            }
        }
        let mut noise = Vec::new();
        noise.resize_with(200, || u8::try_from(dice.below(256)).unwrap());
        for bytes in [bytes.as_slice(), noise.as_slice()] {
            let size = 1 + usize::try_from(dice.below(5000)).unwrap();
            for chunk in bytes.chunks(size) {
                engine.handle_bytes(now, chunk);
                engine.set(now, port("n1"), vlan(200));
                engine.poll_timeout(now);
                engine.handle_timeout(now);
                engine.poll_transmit();
                events(&mut engine);
                engine.seen(&port("n1"));
            }
        }
    }
}
