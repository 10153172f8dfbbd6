use super::*;
use std::{net::TcpListener, thread};

fn head(text: &str) -> Result<Option<(Head, usize)>, Trouble> {
    Head::parse(text.as_bytes())
}

#[test]
fn a_head_is_read_when_it_is_whole() {
    let text =
        "HTTP/1.1 206 Partial Content\r\ncontent-length: 5\r\nContent-Range: bytes 10-14/100\r\n\r\nhello";
    for cut in 0..text.len() - 5 {
        assert!(head(&text[..cut]).unwrap().is_none(), "{cut}");
    }
    let (head, end) = head(text).unwrap().unwrap();
    assert_eq!(&text[end..], "hello");
    assert_eq!((head.status, head.length, head.range), (206, Some(5), Some((10, 14))));
    assert!(!head.close);
}

#[test]
fn nonsense_is_refused() {
    let table = [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 206 OK\r\nContent-Range: bytes 5-4/10\r\n\r\n",
        "HTTP/1.1 206 OK\r\nContent-Range: lines 1-2/10\r\n\r\n",
        "HTTP/1.1 206 OK\r\nContent-Range: bytes */10\r\n\r\n",
    ];
    for text in table {
        assert!(matches!(head(text), Err(Trouble::Nonsense(_))), "{text}");
    }
    let endless = "HTTP/1.1 200 OK\r\nX: ".to_owned() + &"y".repeat(HEAD);
    assert!(matches!(head(&endless), Err(Trouble::Nonsense(_))));
    let many = "HTTP/1.1 200 OK\r\n".to_owned() + &"a: b\r\n".repeat(HEADERS + 1) + "\r\n";
    assert!(matches!(head(&many), Err(Trouble::Nonsense(_))));
}

#[test]
fn no_octets_make_it_panic() {
    let text = b"HTTP/1.1 206 Partial Content\r\ncontent-length: 5\r\nContent-Range: bytes 10-14/100\r\n\r\n";
    for at in 0..text.len() {
        for octet in 0..=255 {
            let mut changed = text.to_vec();
            changed[at] = octet;
            let _ = Head::parse(&changed);
        }
    }
}

/// Answers one request on one connection with `answer` and returns what was asked.
fn once(answer: &'static [u8]) -> (Appliance, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        let mut room = [0; 1024];
        while !asked.ends_with(b"\r\n\r\n") {
            let count = stream.read(&mut room).unwrap();
            asked.extend_from_slice(&room[..count]);
        }
        stream.write_all(answer).unwrap();
        String::from_utf8(asked).unwrap()
    });
    (Appliance::new(&url, "n1-1", "token").unwrap(), serving)
}

fn never() -> bool {
    false
}

#[test]
fn a_range_is_asked_for_and_given() {
    let (appliance, serving) = once(
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nContent-Range: bytes 10-14/100\r\n\r\nhello",
    );
    let mut connection = Connection::open(&appliance).unwrap();
    assert_eq!(connection.get("/image/x", Some(&(10..15)), &never).unwrap(), 5);
    assert!(!connection.is_reusable());
    let mut octets = [0; 5];
    connection.read(&mut octets, &never).unwrap();
    assert_eq!(&octets, b"hello");
    assert!(connection.is_reusable());
    assert!(matches!(connection.read(&mut octets, &never), Err(Trouble::Nonsense(_))));
    let asked = serving.join().unwrap();
    assert!(asked.starts_with("GET /image/x HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("\r\nRange: bytes=10-14\r\n"), "{asked}");
    assert!(asked.contains("\r\nAuthorization: Bearer token\r\n"), "{asked}");
}

#[test]
fn another_part_the_whole_or_chunks_instead_of_the_range_are_refused() {
    let table: [&[u8]; 4] = [
        b"HTTP/1.1 206 P\r\nContent-Length: 5\r\nContent-Range: bytes 11-15/100\r\n\r\nhello",
        b"HTTP/1.1 206 P\r\nContent-Length: 6\r\nContent-Range: bytes 10-14/100\r\n\r\nhello",
        b"HTTP/1.1 206 P\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 206 P\r\nTransfer-Encoding: chunked\r\nContent-Range: bytes 10-14/100\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ];
    for answer in table {
        let (appliance, _serving) = once(answer);
        let got = Connection::open(&appliance).unwrap().get("/image/x", Some(&(10..15)), &never);
        assert!(matches!(got, Err(Trouble::Nonsense(_))), "{}", String::from_utf8_lossy(answer));
    }
    let (appliance, _serving) = once(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    let got = Connection::open(&appliance).unwrap().get("/image/x", Some(&(10..15)), &never);
    assert!(matches!(got, Err(Trouble::Refused(200, ..))));
}

#[test]
fn a_connection_that_ends_in_the_body_is_an_error_of_the_line() {
    let (appliance, _serving) = once(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel");
    let mut connection = Connection::open(&appliance).unwrap();
    connection.get("/image/x", None, &never).unwrap();
    assert!(matches!(connection.read(&mut [0; 5], &never), Err(Trouble::Line(_))));
}

#[test]
fn after_the_upgrade_what_was_read_ahead_is_kept() {
    let (appliance, serving) = once(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: kiln-agent\r\nConnection: upgrade\r\n\r\n{\"order\":",
    );
    let (_stream, ahead) = Connection::open(&appliance).unwrap().upgrade("/agent/n1-1", &never).unwrap();
    assert_eq!(ahead, b"{\"order\":");
    assert!(serving.join().unwrap().contains("\r\nUpgrade: kiln-agent\r\n"));
}

#[test]
fn an_interim_response_is_passed_over() {
    let (appliance, _serving) =
        once(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(Connection::open(&appliance).unwrap().get("/x", None, &never).unwrap(), 0);
}

#[test]
fn whoever_is_told_to_stop_does_not_wait() {
    let (appliance, _serving) = once(b"");
    let got = Connection::open(&appliance).unwrap().get("/x", None, &|| true);
    assert!(matches!(got, Err(Trouble::Halted)));
}
