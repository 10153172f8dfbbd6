//! `bootd http` and other people's clients, and an agent played by hand.

use crate::wire::{PATIENCE, SERVER, Watch, Wire, on_a_wire};
use bootd::library::Library;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

const ADDRESS: &str = "10.7.0.2";
const SIZE: usize = 5_000_001;

fn words(command: &str) -> Vec<String> {
    command.split(' ').map(str::to_owned).collect()
}

fn noise(count: usize) -> Vec<u8> {
    let mut octets = vec![0; count];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut octets).unwrap();
    octets
}

/// The client gets an address, the server a file.
fn prepare(wire: &Wire) -> Vec<u8> {
    wire.at_client(|| wire.run(&format!("ip address add {ADDRESS}/24 dev c0")));
    let content = noise(SIZE);
    fs::write(wire.directory.join("kernel"), &content).unwrap();
    content
}

fn plan(wire: &Wire) -> Value {
    json!({
        "listen": [[format!("{SERVER}:80"), "s0"]],
        "assets": [{"path": "/kernel", "file": wire.path("kernel")}],
        "scripts": [{"path": "/boot/n1-1-1", "body": "#!ipxe\nexit\n", "attempt": "n1-1-1"}],
        "images": wire.path("images"),
        "logs": wire.path("logs"),
        "sessions": [{"attempt": "n1-1-1", "token": "right", "order": {"version": 1, "job": null}, "images": [], "config_drive": null}],
    })
}

/// What any HTTP server does for a file, by curl and busybox wget.
fn fetch_with_all(wire: &Wire, content: &[u8]) {
    let url = format!("http://{SERVER}/kernel");
    let got = || fs::read(wire.directory.join("got")).unwrap();
    let curl = |arguments: &str| wire.at_client(|| wire.run(&format!("curl -sS --fail -o got {arguments}")));
    curl(&url);
    assert!(got() == content);
    for (range, part) in [
        ("1-1", &content[1..2]),
        ("262143-262144", &content[262_143..=262_144]),
        ("1000000-", &content[1_000_000..]),
    ] {
        curl(&format!("-r {range} {url}"));
        assert!(got() == part, "{range}");
    }
    fs::write(wire.directory.join("got"), &content[..3_333_333]).unwrap();
    curl(&format!("-C - {url}"));
    assert!(got() == content, "resumed");
    wire.at_client(|| wire.run(&format!("busybox wget -q -O got {url}")));
    assert!(got() == content, "busybox wget");
    let head = wire.at_client(|| wire.run(&format!("curl -sS -I {url}"))).to_lowercase();
    assert!(head.starts_with("http/1.1 200") && head.contains(&format!("content-length: {SIZE}")), "{head}");
    let (found, said) =
        wire.at_client(|| wire.try_words(&words(&format!("curl -sS --fail http://{SERVER}/none"))));
    assert!(!found && said.contains("404"), "{said}");
}

#[test]
fn the_reference_server_passes_the_same() {
    on_a_wire("http-reference", |wire| {
        let content = prepare(wire);
        let root = wire.directory.display();
        let _reference = wire.start("busybox", &format!("busybox httpd -f -p {SERVER}:80 -h {root}"));
        hw_tests::rack::until(PATIENCE, "busybox httpd", || {
            Ok(wire.at_client(|| TcpStream::connect((SERVER, 80)).is_ok()).then_some(()))
        })
        .unwrap();
        fetch_with_all(wire, &content);
    });
}

#[test]
fn all_clients_read_a_file_whole_and_in_part() {
    on_a_wire("http", |wire| {
        let content = prepare(wire);
        let _hand = wire.bootd("http", &plan(wire));
        fetch_with_all(wire, &content);
        let url = format!("http://{SERVER}/kernel");
        let many = format!(
            "curl -sS -o got {url} -o got {url} -o got http://{SERVER}/boot/n1-1-1 -w %{{num_connects}}"
        );
        assert_eq!(wire.at_client(|| wire.run(&many)), "100", "one connection serves three requests");
        // These the reference does not do.
        for (range, part) in
            [("0-0", &content[..1]), ("-7", &content[SIZE - 7..]), ("4999999-9999999", &content[4_999_999..])]
        {
            wire.at_client(|| wire.run(&format!("curl -sS --fail -o got -r {range} {url}")));
            assert!(fs::read(wire.directory.join("got")).unwrap() == part, "{range}");
        }
        let beyond = format!("curl -sS -o got -r {SIZE}- -w %{{http_code}} {url}");
        assert_eq!(wire.at_client(|| wire.run(&beyond)), "416");
        let eight =
            format!("curl -sS --parallel --parallel-immediate --parallel-max 8 --fail -o p#1 {url}?[1-8]");
        wire.at_client(|| wire.run(&eight));
        for number in 1..=8 {
            assert!(fs::read(wire.directory.join(format!("p{number}"))).unwrap() == content);
        }
        wire.await_text("http.out", "\"script\":{\"attempt\":\"n1-1-1\"");
        wire.await_text("http.out", "\"path\":\"/none\",\"why\":\"not in the plan\"");
        wire.await_text("http.out", &format!("\"sent\":{SIZE},\"size\":{SIZE}"));
    });
}

#[test]
fn only_the_planned_interface_is_heard() {
    on_a_wire("http-interface", |wire| {
        prepare(wire);
        let mut plan = plan(wire);
        plan["listen"] = json!([["0.0.0.0:80", "s0"]]);
        let _hand = wire.bootd("http", &plan);
        wire.run("ip link add d0 type veth peer name d1");
        wire.run("ip address add 10.8.0.1/24 dev d0");
        wire.run("ip link set d0 up");
        let fetch =
            |address| wire.try_words(&words(&format!("curl -sS --fail -o got http://{address}/kernel")));
        let (heard, said) = fetch("10.8.0.1");
        assert!(!heard && said.contains("connect"), "{said}");
        assert!(wire.at_client(|| fetch(SERVER)).0);
    });
}

#[test]
fn an_image_is_read_with_its_token_by_range() {
    on_a_wire("http-image", |wire| {
        prepare(wire);
        let mut disk = noise(2 << 20);
        disk.resize(5 << 20, 0);
        disk.extend(noise(1 << 20));
        let imported = Library::new(wire.path("images"))
            .import(&disk[..], &image::Terms::default(), &mut |_| {})
            .unwrap();
        let mut plan = plan(wire);
        plan["sessions"][0]["images"] = json!([imported.id]);
        let _hand = wire.bootd("http", &plan);
        let url = format!("http://{SERVER}/image/{}", imported.id);
        let curl = |arguments: &str, url: &str| {
            let all = format!("curl -sS -o got -w %{{http_code}} {arguments}");
            let mut all = words(all.trim_end());
            all.extend(["-H".to_owned(), "Authorization: Bearer right".to_owned(), url.to_owned()]);
            wire.at_client(|| wire.run_words(&all))
        };
        let got = || fs::read(wire.directory.join("got")).unwrap();
        assert_eq!(curl("", &url), "200");
        assert!(got() == disk);
        assert_eq!(curl("-r 2097151-5242880", &url), "206");
        assert!(got() == disk[2_097_151..=5_242_880]);
        assert_eq!(curl("", &format!("{url}/manifest")), "200");
        assert_eq!(image::digest(&got()), imported.id);
        assert_eq!(image::Manifest::decode(&got()).unwrap().size(), disk.len() as u64);
        for url in
            [url.as_str(), &format!("{url}/manifest"), &format!("http://{SERVER}/agent/n1-1-1/config-drive")]
        {
            let code = wire.at_client(|| wire.run(&format!("curl -sS -o got -w %{{http_code}} {url}")));
            assert!(code == "403" || (code == "404" && url.ends_with("drive")), "{url}: {code}");
        }
        wire.await_text("http.out", "wrong token");
        let log = wire.read("http.log") + &wire.read("http.out");
        assert!(!log.contains("Bearer") && !log.contains("\"right\""), "the token is told to nobody");
    });
}

/// An agent's connection.
struct Agent {
    lines: BufReader<TcpStream>,
}

impl Agent {
    fn connect(wire: &Wire, token: &str) -> Agent {
        let mut stream = wire.at_client(|| TcpStream::connect((SERVER, 80)).unwrap());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "POST /agent/n1-1-1 HTTP/1.1\r\nHost: {SERVER}\r\nAuthorization: Bearer {token}\r\n\
             Connection: Upgrade\r\nUpgrade: kiln-agent\r\nContent-Length: 0\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        Agent { lines: BufReader::new(stream) }
    }

    /// The next line; empty at the end.
    fn line(&mut self) -> String {
        let mut line = String::new();
        // A connection that is reset is at its end too.
        let _ = self.lines.read_line(&mut line);
        line.trim_end().to_owned()
    }

    /// Reads the answer's head and gives its first line.
    fn head(&mut self) -> String {
        let first = self.line();
        while !self.line().is_empty() {}
        first
    }

    fn say(&mut self, line: &str) {
        self.lines.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

#[test]
fn an_agent_s_line_carries_orders_and_statuses_and_a_silent_one_is_dropped() {
    on_a_wire("http-agent", |wire| {
        prepare(wire);
        let hand = wire.bootd("http", &plan(wire));
        assert_eq!(Agent::connect(wire, "wrong").head(), "HTTP/1.1 403 Forbidden");
        let mut first = Agent::connect(wire, "right");
        assert_eq!(first.head(), "HTTP/1.1 101 Switching Protocols");
        assert_eq!(first.line(), r#"{"order":{"job":null,"version":1}}"#);
        first.say(r#"{"status":{"seen":1}}"#);
        first.say(r#"{"log":["here I am"]}"#);
        wire.await_text("http.out", r#""state":"connected","status":{"seen":1}"#);
        wire.await_text("logs/n1-1-1.log", "here I am\n");

        let mut second = Agent::connect(wire, "right");
        assert_eq!(second.head(), "HTTP/1.1 101 Switching Protocols");
        assert_eq!(second.line(), r#"{"order":{"job":null,"version":1}}"#);
        assert_eq!(first.line(), "", "the newer connection takes its place");
        second.say(r#"{"status":{"seen":2}}"#);
        wire.await_text("http.out", r#""state":"connected","status":{"seen":2}"#);
        assert!(!wire.read("http.out").contains("\"lost\",\"status\""), "the agent was never lost");

        let mut other = plan(wire);
        other["sessions"][0]["order"] = json!({"version": 1, "job": {"id": "erase"}});
        wire.write("http.plan.json", &other.to_string());
        hand.signal(nix::sys::signal::Signal::SIGHUP);
        assert_eq!(second.line(), r#"{"order":{"job":{"id":"erase"},"version":1}}"#);

        let mut slow =
            Agent { lines: BufReader::new(wire.at_client(|| TcpStream::connect((SERVER, 80)).unwrap())) };
        slow.lines.get_mut().write_all(b"GET /kernel HTTP/1.1\r\nHost:").unwrap();
        let watch = Watch::start();
        assert_eq!(second.line(), "", "it was silent");
        let seconds = watch.seconds();
        assert!((15.0..60.0).contains(&seconds), "dropped after {seconds} s");
        wire.await_text("http.out", r#""state":"lost","status":{"seen":2}"#);
        let answer = slow.line();
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
            "half a head is not waited for: {answer}"
        );
        assert!(watch.seconds() < 60.0);
    });
}
