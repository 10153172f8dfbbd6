//! What real servers sent, a message a line, given to the engine when it has asked the same again.

use rack::{LinkState, PortMode, SwitchPort, Vlan};
use sansio::Time;
use switch::ovsdb::{Engine, Event};
use switch::{Did, Refusal, Standing};

const NOW: Time = Time::from_secs(1);

/// Open vSwitch 3.1.0 of Debian 12, 2026-11-22: the bridge `br0` with the access port `n1` in VLAN 10 and
/// the trunk `up`, and a schema that allows tags up to 1000.
const OPENVSWITCH: &str = include_str!("captures/openvswitch-3.1.0-2026-11-22.json");

fn vlan(id: u16) -> Vlan {
    id.try_into().expect("a VLAN id")
}

fn sent(engine: &mut Engine) -> String {
    String::from_utf8(engine.poll_transmit().unwrap_or_default()).expect("JSON is UTF-8")
}

fn outcome(engine: &mut Engine) -> Option<Result<Did, Refusal>> {
    std::iter::from_fn(|| engine.poll_event()).find_map(|event| match event {
        Event::Set { outcome, .. } => Some(outcome),
        Event::Ended(error) => panic!("{error}"),
        _ => None,
    })
}

#[test]
fn a_session_with_open_vswitch_is_understood() {
    let n1: SwitchPort = "n1".parse().unwrap();
    let mut engine = Engine::new(NOW);
    let mut lines = OPENVSWITCH.lines();
    let mut hear = |engine: &mut Engine| engine.handle_bytes(NOW, lines.next().unwrap().as_bytes());
    let standing = |engine: &Engine| {
        let seen = engine.seen(&n1);
        (seen.mode, seen.standing)
    };

    assert!(sent(&mut engine).contains(r#""method":"monitor""#));
    hear(&mut engine);
    engine.watch([n1.clone()]);
    assert_eq!(engine.seen(&n1).link, LinkState::Down);
    assert_eq!(engine.seen(&"up".parse().unwrap()).mode, PortMode::Trunk);
    assert_eq!(standing(&engine), (PortMode::Access(vlan(10)), Standing::Awaited));

    engine.handle_timeout(NOW);
    assert!(sent(&mut engine).contains(r#"["next_cfg","+=",1]"#));
    hear(&mut engine);
    hear(&mut engine);
    assert_eq!(standing(&engine), (PortMode::Access(vlan(10)), Standing::Awaited));
    hear(&mut engine);
    assert_eq!(standing(&engine), (PortMode::Access(vlan(10)), Standing::InForce));

    engine.set(NOW, n1.clone(), vlan(200));
    assert!(sent(&mut engine).contains(r#""tag":200"#));
    hear(&mut engine);
    hear(&mut engine);
    assert_eq!(outcome(&mut engine), Some(Ok(Did::Changed)));
    assert_eq!(standing(&engine), (PortMode::Access(vlan(200)), Standing::Awaited));
    hear(&mut engine);
    assert_eq!(standing(&engine), (PortMode::Access(vlan(200)), Standing::InForce));

    engine.set(NOW, n1.clone(), vlan(2000));
    sent(&mut engine);
    hear(&mut engine);
    let details = "2000 is not in the valid range 0 to 1000 (inclusive)".to_owned();
    assert_eq!(outcome(&mut engine), Some(Err(Refusal::Constraint { details })));
    assert_eq!(standing(&engine), (PortMode::Access(vlan(200)), Standing::InForce));

    // Somebody else's change, then the port's removal, then the server's probe.
    hear(&mut engine);
    assert_eq!(standing(&engine), (PortMode::Access(vlan(300)), Standing::Awaited));
    hear(&mut engine);
    assert_eq!(standing(&engine).0, PortMode::Absent);
    assert!(engine.seen(&n1).trouble.unwrap().contains("bridge br0 has br0, up"));
    hear(&mut engine);
    sent(&mut engine);
    hear(&mut engine);
    assert_eq!(sent(&mut engine), r#"{"id":"echo","result":[],"error":null}"#);
    assert_eq!(outcome(&mut engine), None);
}

#[test]
fn a_session_cut_anywhere_is_the_same_session() {
    let n1: SwitchPort = "n1".parse().unwrap();
    for size in [1, 2, 3, 7, 100, 1000] {
        let mut engine = Engine::new(NOW);
        engine.watch([n1.clone()]);
        // The part before the first order, for the engine asks by itself what it answers.
        for line in OPENVSWITCH.lines().take(4) {
            line.as_bytes().chunks(size).for_each(|bytes| engine.handle_bytes(NOW, bytes));
        }
        assert!(outcome(&mut engine).is_none());
        assert_eq!(engine.seen(&n1).standing, Standing::InForce, "in chunks of {size}");
    }
}
