use super::{AHEAD, Upload};
use bytes::Bytes;
use std::io::{self, Read as _};
use tokio::sync::mpsc;

/// What is read of an upload whose pieces are these.
fn read(pieces: &[&'static [u8]]) -> io::Result<Vec<u8>> {
    let (sender, received) = mpsc::channel(AHEAD);
    for piece in pieces {
        sender.try_send(Ok(Bytes::from_static(piece))).unwrap();
    }
    drop(sender);
    let mut octets = Vec::new();
    Upload { received, rest: Bytes::new(), ended: false }.read_to_end(&mut octets)?;
    Ok(octets)
}

#[test]
fn an_upload_ends_where_it_says_so() {
    assert_eq!(read(&[b"one ", b"two", b""]).unwrap(), b"one two");
    assert_eq!(read(&[b""]).unwrap(), b"");
}

#[test]
fn an_upload_whose_client_is_gone_is_no_upload() {
    for pieces in [&[][..], &[b"one ".as_slice(), b"two"]] {
        assert_eq!(read(pieces).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
