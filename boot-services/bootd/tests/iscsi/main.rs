//! The iSCSI hand as a process, with initiators that are not ours: libiscsi's tools and QEMU's own driver.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod hand;
mod rude;

use boot::{IscsiFact, Secret, VolumeState, VolumeWish};
use hand::{Hand, MIB, SECRET, good, iqn, is_exported, kept, lun, noise, sessions};
use nix::sys::signal::Signal;
use std::{
    fs,
    io::{Read as _, Write as _},
};

#[test]
fn qemu_writes_a_volume_over_chap_and_reads_the_same_back() {
    let hand = Hand::with("one", 64 * MIB);
    let (file, back) = (hand.directory.path().join("file"), hand.directory.path().join("back"));
    let octets = noise(1, 64 * MIB);
    fs::write(&file, &octets).unwrap();
    good(&hand.write("one", &file));
    good(&hand.read("one", &back));
    assert!(fs::read(&back).unwrap() == octets, "other octets came back");
}

#[test]
fn an_initiator_is_told_what_the_unit_is() {
    let hand = Hand::with("one", 8 * MIB);
    let text = good(&hand.tool("iscsi-inq", "one", SECRET));
    assert!(text.contains("KILN"), "{text}");
    let text = good(&hand.tool("iscsi-readcapacity16", "one", SECRET));
    assert!(text.contains("Total size:8388608") || text.contains("8388608"), "{text}");
}

#[test]
fn a_wrong_secret_is_refused_and_named() {
    let hand = Hand::with("one", 8 * MIB);
    assert!(!hand.tool("iscsi-inq", "one", "not-the-secret").status.success());
    hand.wait("the refusal is told", |facts| {
        matches!(facts.get("refused/127.0.0.1"), Some(IscsiFact::Refused { initiator: Some(who), why, .. })
            if *who == iqn("from-one").to_string() && why.contains("secret"))
    });
}

#[test]
fn another_initiator_sees_no_target() {
    let mut hand = Hand::new();
    hand.add("one", 8 * MIB);
    hand.add("two", 8 * MIB);
    hand.start();
    hand.wait("both are exported", |facts| is_exported(facts, "one") && is_exported(facts, "two"));
    let list = |initiator: &str| {
        let url = format!("iscsi://node%{SECRET}@{}", hand.portal);
        let mut command = std::process::Command::new("timeout");
        command.args(["60", "iscsi-ls", "-i", iqn(initiator).as_str(), &url]);
        String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
    };
    assert!(list("from-one").contains(iqn("one").as_str()));
    assert!(!list("from-one").contains(iqn("two").as_str()));
    assert!(!list("from-nowhere").contains("iqn.2026-01.test:one"));
    // A name that is known does not help, either.
    let url = hand.url("one", SECRET);
    let mut command = std::process::Command::new("timeout");
    let output = command.args(["60", "iscsi-inq", "-i", iqn("from-two").as_str(), &url]).output().unwrap();
    assert!(!output.status.success());
}

#[test]
fn two_targets_hold_their_own() {
    let mut hand = Hand::new();
    hand.add("one", 8 * MIB);
    hand.add("two", 8 * MIB);
    hand.start();
    hand.wait("both are exported", |facts| is_exported(facts, "one") && is_exported(facts, "two"));
    for (seed, name) in ["one", "two"].into_iter().enumerate() {
        let file = hand.directory.path().join(name);
        fs::write(&file, noise(seed as u64 + 1, 8 * MIB)).unwrap();
        good(&hand.write(name, &file));
    }
    for (seed, name) in ["one", "two"].into_iter().enumerate() {
        let back = hand.directory.path().join("back");
        good(&hand.read(name, &back));
        assert!(fs::read(&back).unwrap() == noise(seed as u64 + 1, 8 * MIB), "{name} came back otherwise");
    }
}

#[test]
fn a_volume_that_is_wished_gone_is_gone() {
    let mut hand = Hand::with("one", 8 * MIB);
    hand.plan.targets.clear();
    hand.plan.volumes[0].wish = VolumeWish::Gone;
    hand.apply();
    hand.wait("it is gone", |facts| {
        matches!(
            facts.get("volume/one"),
            Some(IscsiFact::Volume { state: VolumeState::Gone, exported: None, .. })
        )
    });
    assert!(!hand.directory.path().join("volumes/one").exists());
}

#[test]
fn a_volume_behind_two_units_is_refused_the_second() {
    let mut hand = Hand::new();
    hand.add("one", 8 * MIB);
    hand.plan.targets[0].luns.push(lun(1, "one"));
    hand.start();
    hand.wait("it says why", |facts| {
        matches!(facts.get(&format!("target/{}", iqn("one"))),
            Some(IscsiFact::Target { trouble: Some(why), .. }) if why.contains("LUN 1"))
    });
    good(&hand.tool("iscsi-inq", "one", SECRET));
}

#[test]
fn a_hand_that_is_told_to_stop_ends_and_keeps_what_was_written() {
    let mut hand = Hand::with("one", 8 * MIB);
    let (file, back) = (hand.directory.path().join("file"), hand.directory.path().join("back"));
    fs::write(&file, noise(3, 8 * MIB)).unwrap();
    good(&hand.write("one", &file));
    hand.signal(Signal::SIGTERM);
    assert!(hand.ended().success(), "{}", hand.said());
    hand.start();
    hand.wait("it is exported again", |facts| is_exported(facts, "one"));
    good(&hand.read("one", &back));
    assert!(fs::read(&back).unwrap() == noise(3, 8 * MIB));
}

#[test]
fn a_secret_that_changes_ends_the_sessions_of_its_target_alone() {
    let mut hand = Hand::new();
    hand.add("one", 64 * MIB);
    hand.add("two", 64 * MIB);
    hand.start();
    hand.wait("both are exported", |facts| is_exported(facts, "one") && is_exported(facts, "two"));
    let _one = hand::Load::start(&hand, "one");
    let two = hand::Load::start(&hand, "two");
    hand.wait("both are used", |facts| {
        !sessions(facts, "one").is_empty() && !sessions(facts, "two").is_empty()
    });
    hand.plan.targets[0].chap.secret = Secret::new("another-secret");
    hand.apply();
    hand.wait("the first is alone", |facts| sessions(facts, "one").is_empty());
    assert!(!sessions_of(&hand, "two").is_empty());
    two.goes_on();
}

#[test]
fn a_unit_taken_away_under_load_takes_no_write_after_the_fact() {
    let mut hand = Hand::with("one", 64 * MIB);
    let load = hand::Load::start(&hand, "one");
    hand.wait("it is used", |facts| !sessions(facts, "one").is_empty());
    hand.plan.targets.clear();
    hand.apply();
    hand.wait("it is not exported", |facts| {
        matches!(facts.get("volume/one"), Some(IscsiFact::Volume { exported: None, .. }))
    });
    let written = hand::newest(&hand.directory.path().join("volumes"));
    load.end();
    assert_eq!(
        hand::newest(&hand.directory.path().join("volumes")),
        written,
        "something was written after that"
    );
    // Somebody else may have it now.
    hand.plan.volumes.push(kept("two", 8 * MIB));
    hand.add_target("other", "one");
    hand.apply();
    hand.wait("it is exported to another", |facts| is_exported(facts, "two") || is_ready_for(facts, "other"));
    good(&hand.tool("iscsi-inq", "other", SECRET));
}

fn is_ready_for(facts: &std::collections::BTreeMap<String, IscsiFact>, target: &str) -> bool {
    facts.values().any(
        |fact| matches!(fact, IscsiFact::Volume { exported: Some((name, _)), .. } if *name == iqn(target)),
    )
}

#[test]
fn what_was_flushed_is_there_after_a_kill_under_load() {
    let mut hand = Hand::with("one", 64 * MIB);
    for round in 0..3 {
        let pattern = format!("0x{:02x}", 0x11 * (round + 1));
        let (write, read) =
            (format!("write -P {pattern} {round}M 1M"), format!("read -P {pattern} {round}M 1M"));
        good(&hand.io("one", &[&write, "flush"]));
        let load = hand::Load::start_at(&hand, "one", 32 * MIB);
        hand.wait("it is under load", |facts| !sessions(facts, "one").is_empty());
        hand.kill();
        load.end();
        hand.start();
        hand.wait("it is exported again", |facts| is_exported(facts, "one"));
        let text = good(&hand.io("one", &[&read]));
        assert!(!text.contains("verification failed"), "{text}");
    }
}

#[test]
fn what_has_to_come_from_the_disk_comes() {
    let hand = Hand::with("one", 64 * MIB);
    let (file, back) = (hand.directory.path().join("file"), hand.directory.path().join("back"));
    fs::write(&file, noise(5, 64 * MIB)).unwrap();
    good(&hand.write("one", &file));
    good(&hand.io("one", &["flush"]));
    hand::forget(&hand.directory.path().join("volumes"));
    good(&hand.read("one", &back));
    assert!(fs::read(&back).unwrap() == noise(5, 64 * MIB));
}

#[test]
fn a_peer_that_sends_garbage_is_cut_off_and_named_and_harms_nobody() {
    let hand = Hand::with("one", 64 * MIB);
    let load = hand::Load::start(&hand, "one");
    hand.wait("it is used", |facts| !sessions(facts, "one").is_empty());
    for seed in 1..20 {
        let mut stream = std::net::TcpStream::connect(hand.portal).unwrap();
        stream.set_read_timeout(Some(hand::PATIENCE)).unwrap();
        // It may be cut before it has said everything, and is cut when it has.
        let _ = stream.write_all(&noise(seed, 64 << 10));
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    hand.wait("it is told", |facts| facts.contains_key("refused/127.0.0.1"));
    load.goes_on();
}

#[test]
fn who_asks_and_never_reads_harms_nobody_and_costs_little() {
    let hand = Hand::with("one", 64 * MIB);
    let before = hand.memory();
    let mut rude: Vec<_> = (0..8).map(|number| rude::Rude::new(&hand, "one", number)).collect();
    let asked: u64 = rude.iter_mut().map(|rude| rude.ask(4 << 20)).sum();
    assert!(asked > 512 * MIB, "{asked} octets were asked for");
    let (file, back) = (hand.directory.path().join("file"), hand.directory.path().join("back"));
    fs::write(&file, noise(7, 64 * MIB)).unwrap();
    good(&hand.write("one", &file));
    good(&hand.read("one", &back));
    assert!(fs::read(&back).unwrap() == noise(7, 64 * MIB));
    let grown = hand.memory().saturating_sub(before);
    assert!(grown < 9 * 4 * MIB, "{grown} octets for nine sessions");
}

#[test]
fn sixty_four_sessions_need_at_most_four_mebibytes_each() {
    const SESSIONS: u64 = 64;
    let hand = Hand::with("one", 64 * MIB);
    let before = hand.memory();
    let loads: Vec<_> = (0..SESSIONS).map(|_| hand::Load::reading(&hand, "one")).collect();
    hand.wait("all are logged in", |facts| sessions(facts, "one").len() as u64 == SESSIONS);
    let grown = hand.memory().saturating_sub(before);
    println!("{} KiB a session", grown / SESSIONS / 1024);
    assert!(grown < SESSIONS * 4 * MIB, "{grown} octets for {SESSIONS} sessions");
    for load in loads {
        load.goes_on();
    }
}

#[test]
fn a_target_that_comes_leaves_the_sessions_of_another_alone() {
    let mut hand = Hand::with("one", 64 * MIB);
    let load = hand::Load::start(&hand, "one");
    hand.wait("it is used", |facts| !sessions(facts, "one").is_empty());
    let before = sessions_of(&hand, "one");
    hand.add("two", 8 * MIB);
    hand.apply();
    hand.wait("the second is exported", |facts| is_exported(facts, "two"));
    // One that goes, too.
    hand.plan.targets.pop();
    hand.apply();
    hand.wait("it is not any more", |facts| {
        matches!(facts.get("volume/two"), Some(IscsiFact::Volume { exported: None, .. }))
    });
    assert_eq!(sessions_of(&hand, "one"), before);
    load.goes_on();
}

fn sessions_of(hand: &Hand, name: &str) -> Vec<boot::IscsiSession> {
    match hand.fact(&format!("target/{}", iqn(name))) {
        Some(IscsiFact::Target { sessions, .. }) => sessions,
        _ => Vec::new(),
    }
}
