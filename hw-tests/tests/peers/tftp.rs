//! The TFTP hand before other people's clients. The reference is dnsmasq.

use crate::wire::{SERVER, Wire, on_a_wire};
use serde_json::{Value, json};
use std::fs;

const CLIENTS: [(&str, &str); 7] = [
    ("tftp-hpa", "tftp -m binary 10.7.0.1 -c get f5m got"),
    ("curl, blocks of 512", "curl -sS --max-time 100 -o got tftp://10.7.0.1/f5m"),
    ("curl, blocks of 1428", "curl -sS --max-time 100 --tftp-blksize 1428 -o got tftp://10.7.0.1/f5m"),
    ("curl, no options", "curl -sS --max-time 100 --tftp-no-options -o got tftp://10.7.0.1/f5m"),
    ("busybox, blocks of 65464", "busybox tftp -g -b 65464 -l got -r f5m 10.7.0.1"),
    ("atftp", "atftp --option|blksize 1428 --option|tsize 0 --option|timeout 2 -g -r /f5m -l got 10.7.0.1"),
    ("atftp, windows of 16", "atftp --option|blksize 1428 --option|windowsize 16 -g -r f5m -l got 10.7.0.1"),
];

pub(crate) fn plan(files: &[(&str, &str)]) -> Value {
    let files: Vec<Value> = files.iter().map(|(name, path)| json!({ "name": name, "path": path })).collect();
    json!({ "listen": [{ "address": format!("{SERVER}:69"), "device": "s0" }], "files": files })
}

/// Content that shows a block in the wrong place.
fn file(wire: &Wire) -> Vec<u8> {
    let content: Vec<u8> =
        (0..5_u32 << 18).flat_map(|word| word.wrapping_mul(0x9e37_79b9).to_be_bytes()).collect();
    fs::write(wire.directory.join("f5m"), &content).unwrap();
    content
}

fn fetch_with_all(wire: &Wire, content: &[u8]) {
    for (client, command) in CLIENTS {
        let _ = fs::remove_file(wire.directory.join("got"));
        wire.at_client(|| wire.run_words(&words(command)));
        let got = fs::read(wire.directory.join("got")).unwrap_or_default();
        assert!(got == content, "{client}: {} octets, or others", got.len());
    }
}

/// A bar joins what is one argument after another, with a blank inside the second.
fn words(command: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut rest = command.split(' ');
    while let Some(word) = rest.next() {
        match word.split_once('|') {
            Some((option, name)) => {
                words.extend([option.to_owned(), format!("{name} {}", rest.next().unwrap())])
            }
            None => words.push(word.to_owned()),
        }
    }
    words
}

fn with_an_address(wire: &Wire) {
    wire.at_client(|| wire.run("ip address add 10.7.0.50/24 dev c0"));
}

#[test]
fn the_reference_is_read_by_all_clients() {
    on_a_wire("tftp-reference", |wire| {
        with_an_address(wire);
        let content = file(wire);
        let root = wire.directory.display();
        let lines = format!(
            "port=0\ninterface=s0\nbind-interfaces\nenable-tftp\ntftp-root={root}\nuser=root\nlog-facility=-\n"
        );
        let configuration = wire.write("dnsmasq.conf", &lines);
        let _reference = wire.start("dnsmasq", &format!("dnsmasq -k -C {configuration} --pid-file="));
        wire.await_text("dnsmasq.log", "started");
        fetch_with_all(wire, &content);
    });
}

#[test]
fn all_clients_read_five_mebibytes() {
    on_a_wire("tftp", |wire| {
        with_an_address(wire);
        let content = file(wire);
        let _hand = wire.bootd("tftp", &plan(&[("f5m", &wire.path("f5m"))]));
        fetch_with_all(wire, &content);
        let facts = wire.read("tftp.out");
        assert_eq!(facts.matches("\"ended\":\"done\"").count(), CLIENTS.len(), "{facts}");
        assert_eq!(facts.matches("\"sent\":5242880").count(), CLIENTS.len(), "{facts}");
    });
}

#[test]
fn what_is_not_in_the_plan_is_refused_and_told() {
    on_a_wire("tftp-missing", |wire| {
        with_an_address(wire);
        let hand = wire.bootd("tftp", &plan(&[("f5m", &wire.path("f5m"))]));
        for name in ["passwd", "../../../../etc/passwd", "/etc/passwd"] {
            let (done, said) = wire.at_client(|| {
                wire.try_words(&words(&format!("curl -sS --max-time 20 --path-as-is tftp://10.7.0.1/{name}")))
            });
            assert!(!done && said.contains("curl: (68)"), "not 'file not found' for {name}: {said}");
        }
        wire.await_text("tftp.out", "no such file in the plan");
        let (done, said) =
            wire.at_client(|| wire.try_words(&words("curl -sS --max-time 20 tftp://10.7.0.1/f5m")));
        assert!(!done, "the plan's file does not exist: {said}");
        wire.await_text("tftp.out", "cannot open");
        drop(hand);
    });
}

#[test]
fn a_client_on_a_line_that_loses_a_fifth_gets_the_file() {
    on_a_wire("tftp-lossy", |wire| {
        with_an_address(wire);
        let content = file(wire);
        let short = &content[..120_000];
        fs::write(wire.directory.join("short"), short).unwrap();
        let _hand = wire.bootd("tftp", &plan(&[("short", &wire.path("short"))]));
        wire.run("nft add table inet weather");
        wire.run("nft add chain inet weather out { type filter hook output priority 0 ; }");
        wire.run("nft add rule inet weather out meta l4proto udp numgen random mod 5 0 drop");
        wire.at_client(|| {
            wire.run_words(&words(
                "atftp --option|blksize 1428 --option|windowsize 8 -g -r short -l got 10.7.0.1",
            ))
        });
        assert!(fs::read(wire.directory.join("got")).unwrap() == short);
    });
}
