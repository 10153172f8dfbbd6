use super::*;
use crate::library::Library;
use boot::{Attempt, HttpAsset, Json, Script, Secret, Session, SessionState};
use std::fs::{self, File};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;
use tokio::time::timeout;

mod agent;

const PATIENCE: Duration = Duration::from_secs(20);

/// A server on a port of its own, and a place for its files.
struct Stage {
    plan: HttpPlan,
    plans: watch::Sender<Option<Arc<HttpPlan>>>,
    outbox: Arc<Outbox>,
    address: SocketAddr,
    server: JoinHandle<()>,
    directory: tempfile::TempDir,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Stage {
    async fn new() -> Stage {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        fs::write(at("kernel"), content(700_000)).unwrap();
        let plan = HttpPlan {
            listen: vec![("127.0.0.1:0".parse().unwrap(), None)],
            assets: vec![
                HttpAsset { path: "/kernel".to_owned(), file: at("kernel") },
                HttpAsset { path: "/boot/x.efi".to_owned(), file: at("kernel") },
                HttpAsset { path: "/gone".to_owned(), file: at("gone") },
            ],
            scripts: vec![Script {
                path: "/boot/n1-1-1".to_owned(),
                body: Secret::new("#!ipxe\n"),
                attempt: Some(attempt()),
            }],
            images: Some(at("images")),
            logs: Some(at("logs")),
            sessions: vec![Session {
                attempt: attempt(),
                token: Secret::new("right"),
                order: Some(Json::of(&"first").unwrap()),
                images: vec![],
                config_drive: Some(at("kernel")),
            }],
        };
        let plans = watch::Sender::new(Some(Arc::new(plan.clone())));
        let outbox = Arc::new(Outbox::default());
        let server = tokio::spawn(serve(plans.subscribe(), outbox.clone()));
        let unknown = "127.0.0.1:0".parse().unwrap();
        let mut stage = Stage { plan, plans, outbox, address: unknown, server, directory };
        match stage.fact("listen/127.0.0.1:0").await {
            Some(HttpFact::Listen { address, trouble: None }) => stage.address = address,
            other => panic!("{other:?}"),
        }
        stage
    }

    fn tell_plan(&self) {
        self.plans.send_replace(Some(Arc::new(self.plan.clone())));
    }

    /// Waits for a fact under a key; others are passed over.
    async fn fact(&self, wanted: &str) -> Option<HttpFact> {
        timeout(PATIENCE, async {
            loop {
                let (key, fact) = self.outbox.next().await;
                if key == wanted {
                    return fact;
                }
            }
        })
        .await
        .unwrap_or_else(|_| panic!("no fact under {wanted}"))
    }

    async fn connect(&self) -> Client {
        Client { stream: TcpStream::connect(self.address).await.unwrap(), inbound: Vec::new() }
    }

    async fn ask(&self, request: &str) -> Reply {
        self.connect().await.ask(request).await
    }

    async fn agent(&self, token: &str) -> Client {
        let mut client = self.connect().await;
        client
            .send(&format!(
                "POST /agent/n1-1-1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\
                 Connection: upgrade\r\nUpgrade: kiln-agent\r\n\r\n"
            ))
            .await;
        client
    }

    async fn agent_fact(&self) -> (SessionState, Option<String>) {
        match self.fact("agent/n1-1-1").await {
            Some(HttpFact::Agent { state, status, .. }) => (state, status.map(|s| s.text().to_owned())),
            other => panic!("{other:?}"),
        }
    }
}

struct Client {
    stream: TcpStream,
    inbound: Vec<u8>,
}

#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Client {
    async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads until `whole` finds so many octets; gives them. `None` at the end of the stream.
    async fn take(&mut self, whole: impl Fn(&[u8]) -> Option<usize>) -> Option<Vec<u8>> {
        timeout(PATIENCE, async {
            loop {
                if let Some(length) = whole(&self.inbound) {
                    return Some(self.inbound.drain(..length).collect());
                }
                if self.stream.read_buf(&mut self.inbound).await.unwrap_or(0) == 0 {
                    return None;
                }
            }
        })
        .await
        .unwrap()
    }

    async fn head(&mut self) -> Option<String> {
        let end = |octets: &[u8]| octets.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
        self.take(end).await.map(|head| String::from_utf8(head).unwrap())
    }

    async fn line(&mut self) -> Option<String> {
        let line = self.take(|octets| octets.iter().position(|o| *o == b'\n').map(|at| at + 1)).await?;
        Some(String::from_utf8(line).unwrap().trim_end().to_owned())
    }

    async fn ask(&mut self, request: &str) -> Reply {
        self.send(&request.replacen(" HTTP/1.1", " HTTP/1.1\r\nHost: a", 1)).await;
        let head = self.head().await.unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        let length = if request.starts_with("HEAD") { 0 } else { length };
        let body = self.take(|octets| (octets.len() >= length).then_some(length)).await.unwrap();
        Reply { status, head, body }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().filter_map(|line| line.split_once(": ")).find(|(n, _)| *n == name).map(|(_, value)| value)
}

fn attempt() -> Attempt {
    "n1-1-1".parse().unwrap()
}

fn content(length: usize) -> Vec<u8> {
    (0..length as u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).take(length).collect()
}

/// An image of three extents and a bit with a hole as the second, readable by the token `right`.
async fn with_image(stage: &mut Stage) -> (Digest, Vec<u8>) {
    let mut disk = content(image::EXTENT);
    disk.resize(2 * image::EXTENT, 0);
    disk.extend_from_slice(&content(image::EXTENT + 1024));
    let library = Library::new(stage.directory.path().join("images"));
    let imported = library.import(&disk[..], &image::Terms::default(), &mut |_| {}).unwrap();
    stage.plan.sessions[0].images.push(imported.id);
    stage.tell_plan();
    // The server has taken the plan up when it answers by it.
    timeout(PATIENCE, async {
        while stage.ask(&get(&format!("/image/{}", imported.id), "Range: bytes=0-0\r\n")).await.status != 206
        {
        }
    })
    .await
    .unwrap();
    (imported.id, disk)
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nAuthorization: Bearer right\r\n{headers}\r\n")
}

#[tokio::test]
async fn an_asset_is_sent_whole_by_range_and_as_a_head() {
    let stage = Stage::new().await;
    let kernel = content(700_000);
    let mut client = stage.connect().await;
    let whole = client.ask("GET /kernel HTTP/1.1\r\n\r\n").await;
    assert!(whole.status == 200 && whole.body == kernel);
    assert_eq!(header(&whole.head, "accept-ranges"), Some("bytes"));
    let part = client.ask("GET /kernel HTTP/1.1\r\nRange: bytes=262143-524289\r\n\r\n").await;
    assert!(part.status == 206 && part.body == kernel[262_143..=524_289]);
    assert_eq!(header(&part.head, "content-range"), Some("bytes 262143-524289/700000"));
    let beyond = client.ask("GET /kernel HTTP/1.1\r\nRange: bytes=700000-\r\n\r\n").await;
    assert_eq!((beyond.status, header(&beyond.head, "content-range")), (416, Some("bytes */700000")));
    let head = client.ask("HEAD /kernel HTTP/1.1\r\nRange: bytes=1-2\r\n\r\n").await;
    assert_eq!((head.status, header(&head.head, "content-length")), (200, Some("700000")));
    let stale = client.ask("GET /kernel HTTP/1.1\r\nRange: bytes=1-2\r\nIf-Range: \"x\"\r\n\r\n").await;
    assert_eq!((stale.status, stale.body.len()), (200, 700_000));
    let efi = client.ask("HEAD /boot/x.efi HTTP/1.1\r\n\r\n").await;
    assert_eq!(header(&efi.head, "content-type"), Some("application/efi"));
    let encoded = client.ask("HEAD /boot/x%2Eefi HTTP/1.1\r\n\r\n").await;
    assert_eq!(encoded.status, 200);
}

#[tokio::test]
async fn an_asset_s_transfer_is_told_when_it_begins_and_ends() {
    let stage = Stage::new().await;
    let size = 256 << 20;
    File::options().write(true).open(stage.directory.path().join("kernel")).unwrap().set_len(size).unwrap();
    let mut client = stage.connect().await;
    client.send("GET /kernel HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let told = async || match stage.fact("asset/127.0.0.1").await {
        Some(HttpFact::Asset { path, sent, size: all, .. }) if path == "/kernel" && all == size => sent,
        other => panic!("{other:?}"),
    };
    // More than the sockets hold, so that it cannot be over before it is read.
    assert_eq!(told().await, 0);
    client.head().await.unwrap();
    drop(client);
    let sent = told().await;
    assert!(sent > 0 && sent < size, "{sent}");
}

#[tokio::test]
async fn a_script_s_fetch_is_told_and_counted() {
    let stage = Stage::new().await;
    let head = stage.ask("HEAD /boot/n1-1-1 HTTP/1.1\r\n\r\n").await;
    assert_eq!((head.status, header(&head.head, "content-length")), (200, Some("7")));
    for expected in 1..3 {
        let script = stage.ask("GET /boot/n1-1-1 HTTP/1.1\r\n\r\n").await;
        assert_eq!((script.status, &script.body[..]), (200, &b"#!ipxe\n"[..]));
        match stage.fact("script/n1-1-1").await {
            Some(HttpFact::Script { times, .. }) => assert_eq!(times, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn nothing_is_there_but_what_the_plan_has() {
    let stage = Stage::new().await;
    for path in [
        "/",
        "/kernel/",
        "//kernel",
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/etc/passwd",
        "/kernel%00",
        "/%",
        "/%zz",
        "/image",
        "/image/",
        "/image/00",
        "/agent",
        "/agent/",
        "/agent/n2",
        "/agent/n1-1-1/other",
        "/agent/n1-1-1/config-drive/x",
        "/agent/%ff/config-drive",
    ] {
        assert_eq!(stage.ask(&get(path, "")).await.status, 404, "{path}");
    }
    match stage.fact("lost/127.0.0.1").await {
        Some(HttpFact::Lost { why, .. }) => assert!(!why.is_empty()),
        other => panic!("{other:?}"),
    }
    assert_eq!(stage.ask("GET /gone HTTP/1.1\r\n\r\n").await.status, 500);
    for (request, allowed) in [
        ("POST /kernel HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "GET, HEAD"),
        ("PUT /boot/n1-1-1 HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "GET, HEAD"),
        ("GET /agent/n1-1-1 HTTP/1.1\r\nAuthorization: Bearer right\r\n\r\n", "POST"),
    ] {
        let refused = stage.ask(request).await;
        assert_eq!((refused.status, header(&refused.head, "allow")), (405, Some(allowed)));
    }
}

#[tokio::test]
async fn an_image_is_read_by_range_with_its_session_s_token_only() {
    let mut stage = Stage::new().await;
    let (id, disk) = with_image(&mut stage).await;
    let path = format!("/image/{id}");
    let mut client = stage.connect().await;
    let whole = client.ask(&get(&path, "")).await;
    assert!(whole.status == 200 && whole.body == disk);
    assert_eq!(header(&whole.head, "etag"), Some(format!("\"{id}\"").as_str()));
    let mib = image::EXTENT;
    for (first, last) in [
        (0, 0),
        (mib - 1, mib),
        (mib, 2 * mib - 1),
        (mib + 5, 2 * mib + 5),
        (0, 3 * mib),
        (3 * mib + 1000, 3 * mib + 1023),
    ] {
        let part =
            client.ask(&get(&path, &format!("Range: bytes={first}-{last}\r\nIf-Range: \"{id}\"\r\n"))).await;
        assert!(part.status == 206 && part.body == disk[first..=last], "{first}-{last}");
    }
    let manifest = client.ask(&get(&format!("{path}/manifest"), "")).await;
    assert_eq!((manifest.status, image::digest(&manifest.body)), (200, id));
    let strange = Digest([7; 32]);
    assert_eq!(client.ask(&get(&format!("/image/{strange}"), "")).await.status, 403);
    for token in [
        "",
        "Authorization: Bearer wrong\r\n",
        "Authorization: Bearer \r\n",
        "Authorization: Basic right\r\n",
        "Authorization: right\r\n",
    ] {
        for path in [&path, &format!("{path}/manifest"), "/agent/n1-1-1/config-drive"] {
            let refused = client.ask(&format!("GET {path} HTTP/1.1\r\n{token}\r\n")).await;
            assert_eq!(refused.status, 403, "{token}");
        }
    }
    match stage.fact("lost/127.0.0.1").await {
        Some(HttpFact::Lost { why, .. }) => assert!(why.contains("token"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(client.ask(&get("/agent/n1-1-1/config-drive", "")).await.body, content(700_000));
    stage.plan.sessions[0].images.push(strange);
    stage.tell_plan();
    timeout(PATIENCE, async {
        while client.ask(&get(&format!("/image/{strange}"), "")).await.status != 404 {}
    })
    .await
    .unwrap();
    stage.plan.sessions.clear();
    stage.tell_plan();
    timeout(PATIENCE, async { while client.ask(&get(&path, "")).await.status != 403 {} }).await.unwrap();
}

#[tokio::test]
async fn an_image_whose_extent_is_missing_is_refused_or_broken_off_never_made_up() {
    let mut stage = Stage::new().await;
    let (id, _) = with_image(&mut stage).await;
    let library = Library::new(stage.directory.path().join("images"));
    let reader = library.open(&id).unwrap();
    let last = reader.manifest().digests().last().unwrap().to_string();
    fs::remove_file(library.root().join("extents").join(&last[..2]).join(&last)).unwrap();
    let path = format!("/image/{id}");
    let at_it = stage.ask(&get(&path, &format!("Range: bytes={}-\r\n", 3 * image::EXTENT))).await;
    assert_eq!(at_it.status, 500);
    let mut client = stage.connect().await;
    client.send(&get(&path, "").replacen(" HTTP/1.1", " HTTP/1.1\r\nHost: a", 1)).await;
    client.head().await.unwrap();
    assert!(client.take(|octets| (octets.len() > 3 * image::EXTENT).then_some(1)).await.is_none());
    match stage.fact("lost/127.0.0.1").await {
        Some(HttpFact::Lost { why, .. }) => assert!(why.contains("import the image again"), "{why}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn no_octets_break_the_server() {
    let stage = Stage::new().await;
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(20_000));
    let many = format!("GET /kernel HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(1000));
    for octets in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET /kernel HTTP/9.9\r\n\r\n",
        b"GET /kernel HTTP/1.1\r\nHost a\r\n\r\n",
        b"GET /kernel HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /agent/n1-1-1 HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /kernel HTTP/1.1\r\nHost: a\r\nRange: bytes=\xff\xfe\r\nAuthorization: \x80\r\n\r\n",
        long.as_bytes(),
        many.as_bytes(),
    ] {
        let mut client = stage.connect().await;
        // It may be refused before all of it is sent.
        let _ = client.stream.write_all(octets).await;
        let _ = client.stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = timeout(PATIENCE, client.stream.read_to_end(&mut answer)).await.unwrap();
        assert!(!answer.starts_with(b"HTTP/1.1 500"), "{:?}", String::from_utf8_lossy(octets));
    }
    assert_eq!(stage.ask("HEAD /kernel HTTP/1.1\r\n\r\n").await.status, 200);
}

#[tokio::test]
async fn one_address_has_so_many_connections_and_no_more() {
    let stage = Stage::new().await;
    let mut clients = Vec::new();
    for _ in 0..limits::EACH {
        let mut client = stage.connect().await;
        assert_eq!(client.ask("HEAD /kernel HTTP/1.1\r\n\r\n").await.status, 200);
        clients.push(client);
    }
    let mut more = stage.connect().await;
    assert_eq!(more.head().await, None);
    match stage.fact("lost/127.0.0.1").await {
        Some(HttpFact::Lost { why, .. }) => assert!(why.contains("64 connections"), "{why}"),
        other => panic!("{other:?}"),
    }
    clients.pop();
    timeout(PATIENCE, async {
        loop {
            let mut again = stage.connect().await;
            again.send("HEAD /kernel HTTP/1.1\r\nHost: a\r\n\r\n").await;
            if again.head().await.is_some() {
                break;
            }
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_socket_that_cannot_be_opened_is_told_and_opened_when_it_can_be() {
    let mut stage = Stage::new().await;
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap();
    let strange = "127.0.0.1:0".parse().unwrap();
    stage.plan.listen = vec![(taken, None), (strange, Some("no-such-dev".parse().unwrap()))];
    stage.tell_plan();
    for (key, todo) in [(strange, "make it"), (taken, "stop it")] {
        let trouble = loop {
            match stage.fact(&format!("listen/{key}")).await {
                Some(HttpFact::Listen { trouble: Some(trouble), .. }) => break trouble,
                // What was open at that address is closed.
                None => {}
                other => panic!("{other:?}"),
            }
        };
        assert!(trouble.contains(todo) || trouble.contains("CAP_NET_RAW"), "{trouble}");
    }
    drop(other);
    match stage.fact(&format!("listen/{taken}")).await {
        Some(HttpFact::Listen { trouble: None, .. }) => stage.address = taken,
        other => panic!("{other:?}"),
    }
    assert_eq!(stage.ask("HEAD /kernel HTTP/1.1\r\n\r\n").await.status, 200);
}

#[tokio::test]
async fn a_plan_is_taken_up_without_a_connection_lost() {
    let mut stage = Stage::new().await;
    let mut client = stage.connect().await;
    assert_eq!(client.ask("GET /boot/n1-1-1 HTTP/1.1\r\n\r\n").await.status, 200);
    stage.plan.scripts[0].path = "/boot/n1-1-2".to_owned();
    stage.tell_plan();
    timeout(PATIENCE, async { while client.ask("GET /boot/n1-1-2 HTTP/1.1\r\n\r\n").await.status != 200 {} })
        .await
        .unwrap();
    assert_eq!(client.ask("GET /boot/n1-1-1 HTTP/1.1\r\n\r\n").await.status, 404);
}
