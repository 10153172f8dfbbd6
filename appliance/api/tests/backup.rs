//! Backup and restore over HTTP, by a client that has the keys.
#![cfg(test)]
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod stage;

use age::x25519::Identity;
use serde_json::{Value, json};
use stage::{Stage, TOKEN};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use store::{Options, Sled, Store, Table};

/// How often somebody was told to start all services anew.
static ANEW: AtomicU32 = AtomicU32::new(0);

/// An appliance whose store is on the disk.
fn stage() -> Stage {
    stage_with(|| {
        ANEW.fetch_add(1, Ordering::SeqCst);
    })
}

fn stage_with(anew: fn()) -> Stage {
    let store = |path: &Path| Box::new(Sled::open(path, Options::default()).unwrap()) as Box<dyn Store>;
    let stage = Stage::begin(store, anew);
    fs::write(stage.files.path().join("token"), format!("{TOKEN}\n")).unwrap();
    fs::create_dir(stage.files.path().join("restore")).unwrap();
    stage
}

impl Stage {
    fn call(&self, method: &str, path: &str, body: &[u8]) -> (u16, Vec<u8>) {
        self.ask(TOKEN, method, path, body)
    }

    fn json(&self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        let (status, octets) = self.call(method, path, body);
        (status, serde_json::from_slice(&octets).unwrap_or(Value::Null))
    }

    fn backup(&self, key: &Identity, images: bool) -> Vec<u8> {
        let body = json!({ "recipient": key.to_public().to_string(), "images": images }).to_string();
        let (status, octets) = self.call("POST", "/v1/appliance/backup", body.as_bytes());
        assert_eq!(status, 200);
        assert!(octets.starts_with(b"age-encryption.org/v1\n"));
        octets
    }

    /// The same backup, encrypted to the key that this appliance gives.
    fn sealed(&self, backup: &[u8], key: &Identity) -> Vec<u8> {
        let (_, door) = self.json("GET", "/v1/appliance/restore", b"");
        let to: age::x25519::Recipient = door["recipient"].as_str().unwrap().parse().unwrap();
        age::encrypt(&to, &age::decrypt(key, backup).unwrap()).unwrap()
    }

    fn restore(&self, backup: &[u8], terms: &str) -> (u16, Value) {
        self.json("PUT", &format!("/v1/appliance/restore{terms}"), backup)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.files.path().join(path)
    }

    /// Nothing is ready to be taken, and nothing is left.
    fn expect_nothing(&self) {
        assert_eq!(fs::read_dir(self.at("restore")).unwrap().count(), 0);
    }
}

fn said(answer: &Value) -> &str {
    answer["error"]["text"].as_str().unwrap_or_else(|| panic!("no error text in {answer}"))
}

/// A stage with a network, an image of three extents and a configuration.
fn filled() -> Stage {
    let stage = stage();
    let network = json!({ "purpose": "provisioning", "vlan": 100, "subnet": "10.7.0.1/24" }).to_string();
    assert_eq!(stage.call("PUT", "/v1/networks/prov", network.as_bytes()).0, 201);
    let image: Vec<u8> = (0..3u32 << 18).flat_map(|at| (at / 99).to_le_bytes()).collect();
    assert_eq!(stage.call("PUT", "/v1/images/web", &image).0, 201);
    fs::write(stage.at("box.toml"), "[uplink]\n").unwrap();
    stage
}

#[test]
fn a_backup_is_unpacked_elsewhere_with_all_that_was_in_it() {
    let (from, to) = (filled(), stage());
    let key = Identity::generate();
    let backup = from.backup(&key, true);
    let told = ANEW.load(Ordering::SeqCst);
    let (status, answer) = to.restore(&to.sealed(&backup, &key), "?configuration=true");
    assert_eq!(status, 202, "{answer}");
    assert_eq!((&answer["images"], &answer["configuration"]), (&json!(true), &json!(true)));
    while ANEW.load(Ordering::SeqCst) == told {
        std::thread::yield_now();
    }

    let ready = |part: &str| to.at("restore/ready").join(part);
    let store = Sled::open(ready("store"), Options::default()).unwrap();
    assert!(store.get(Table::Network, "prov").unwrap().is_some());
    assert!(store.get(Table::Image, "web").unwrap().is_some());
    assert_eq!(fs::read(ready("token")).unwrap(), b"the-token\n");
    assert_eq!(fs::read(ready("kiln.toml")).unwrap(), b"[uplink]\n");
    let library = bootd::library::Library::new(ready("images"));
    assert_eq!(library.ids().unwrap().len(), 1);
    assert!(library.scrub(&mut |_| {}).unwrap().is_empty());
    assert!(!to.at("restore/incoming").exists());
}

#[test]
fn the_boxs_configuration_and_the_images_are_left_out_when_told_so() {
    let (from, to) = (filled(), stage());
    let key = Identity::generate();
    let backup = from.backup(&key, false);
    assert!(backup.len() < 100_000, "{} octets", backup.len());
    let (status, answer) = to.restore(&to.sealed(&backup, &key), "");
    assert_eq!((status, &answer["images"]), (202, &json!(false)), "{answer}");
    let ready = to.at("restore/ready");
    assert!(ready.join("more-images").exists() && !ready.join("images").exists());
    assert!(!ready.join("kiln.toml").exists());
    assert!(ready.join("token").exists() && answer["token"] == json!(true));
}

#[test]
fn a_token_that_the_boxs_configuration_names_stays() {
    let (from, to) = (filled(), stage());
    fs::write(to.at("box.toml"), "[uplink]\n[api]\ntoken = \"of the box\"\n").unwrap();
    let key = Identity::generate();
    let backup = from.backup(&key, false);
    let (status, answer) = to.restore(&to.sealed(&backup, &key), "");
    assert_eq!((status, &answer["token"]), (202, &json!(false)), "{answer}");
    assert!(!to.at("restore/ready/token").exists());
    // Where that configuration goes, its word goes too.
    let (status, answer) = to.restore(&to.sealed(&backup, &key), "?configuration=true");
    assert_eq!((status, &answer["token"]), (202, &json!(true)), "{answer}");
    assert!(to.at("restore/ready/token").exists());
}

/// How often the appliance of the next test was told to start anew.
static GONE: AtomicU32 = AtomicU32::new(0);

#[test]
fn a_client_that_goes_away_after_its_last_octet_leaves_nothing_waiting_for_a_later_start() {
    let from = filled();
    let to = stage_with(|| {
        GONE.fetch_add(1, Ordering::SeqCst);
    });
    let key = Identity::generate();
    let sealed = to.sealed(&from.backup(&key, true), &key);
    let mut client = std::net::TcpStream::connect(to.address).unwrap();
    let head = format!(
        "PUT /v1/appliance/restore HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {}\r\n\r\n",
        sealed.len()
    );
    client.write_all(head.as_bytes()).unwrap();
    client.write_all(&sealed).unwrap();
    drop(client);
    // What is ready is taken now, not at some later start.
    let is_told = |_| {
        std::thread::park_timeout(std::time::Duration::from_millis(10));
        to.at("restore/ready").exists() && GONE.load(Ordering::SeqCst) == 1
    };
    assert!((0..3000).any(is_told), "nobody was told to start anew");
}

#[test]
fn what_is_there_is_replaced_only_when_told_so() {
    let stage = filled();
    let key = Identity::generate();
    let sealed = stage.sealed(&stage.backup(&key, true), &key);
    assert_eq!(stage.json("GET", "/v1/appliance/restore", b"").1["empty"], json!(false));
    let (status, answer) = stage.restore(&sealed, "");
    assert_eq!(status, 409);
    assert!(said(&answer).contains("--replace"), "{answer}");
    stage.expect_nothing();
    assert_eq!(stage.restore(&sealed, "?replace=true").0, 202);
}

#[test]
fn what_is_cut_flipped_or_for_another_key_changes_nothing_and_is_said() {
    let (from, to) = (filled(), stage());
    let key = Identity::generate();
    let sealed = to.sealed(&from.backup(&key, true), &key);
    let chunk = 64 * 1024 + 16;
    for at in [0, 100, sealed.len() / 2, sealed.len() - sealed.len() % chunk, sealed.len() - 1] {
        let (status, answer) = to.restore(&sealed[..at], "");
        assert_eq!(status, 400, "cut at {at}: {answer}");
        to.expect_nothing();
    }
    // One that ends where a piece of the encryption does.
    let header = sealed.windows(4).position(|four| four == b"\n---").unwrap() + 4;
    let payload = header + sealed[header..].iter().position(|octet| *octet == b'\n').unwrap() + 1 + 16;
    let (status, answer) = to.restore(&sealed[..payload + 2 * chunk], "");
    assert_eq!(status, 400);
    assert!(said(&answer).contains("cut off"), "{answer}");

    for at in [payload + 5, sealed.len() / 2, sealed.len() - 1] {
        let mut flipped = sealed.clone();
        flipped[at] ^= 1;
        let (status, answer) = to.restore(&flipped, "");
        assert_eq!(status, 400, "flipped at {at}: {answer}");
        assert!(said(&answer).contains("damaged"), "flipped at {at}: {answer}");
        to.expect_nothing();
    }
    let strange = age::encrypt(&Identity::generate().to_public(), b"kiln backup 1\n").unwrap();
    let (status, answer) = to.restore(&strange, "");
    assert_eq!(status, 409);
    assert!(said(&answer).contains("another key"), "{answer}");
    let (status, answer) = to.restore(b"no backup at all", "");
    assert_eq!(status, 400, "{answer}");
    to.expect_nothing();
    // And the whole one is taken.
    assert_eq!(to.restore(&sealed, "").0, 202);
}

#[test]
fn a_client_that_goes_away_leaves_nothing_behind() {
    let (from, to) = (filled(), stage());
    let key = Identity::generate();
    let sealed = to.sealed(&from.backup(&key, true), &key);
    let mut half = std::net::TcpStream::connect(to.address).unwrap();
    let head = format!(
        "PUT /v1/appliance/restore HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer the-token\r\nContent-Length: {}\r\n\r\n",
        sealed.len()
    );
    half.write_all(head.as_bytes()).unwrap();
    half.write_all(&sealed[..sealed.len() / 2]).unwrap();
    drop(half);
    // The next is refused while the first is being given up, and taken then.
    assert!((0..1000).any(|_| to.restore(&sealed, "").0 == 202));
    assert!(!to.at("restore/incoming").exists());
}

#[test]
fn a_recipient_that_is_none_is_refused() {
    let stage = stage();
    for recipient in ["", "age1", "age1qqqq", "ssh-ed25519 AAAA"] {
        let body = json!({ "recipient": recipient }).to_string();
        let (status, answer) = stage.json("POST", "/v1/appliance/backup", body.as_bytes());
        assert_eq!(status, 400);
        assert!(said(&answer).contains("no age recipient"), "{answer}");
    }
}
