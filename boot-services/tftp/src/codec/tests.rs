use super::*;
use sansio::sim::Dice;

#[test]
fn what_is_emitted_is_parsed() {
    let options = [("blksize", 1432), ("tsize", 0)];
    let owned = || vec![("blksize".to_owned(), "1432".to_owned()), ("tsize".to_owned(), "0".to_owned())];
    let request = Request { name: "a/b".to_owned(), mode: Some(Mode::Octet), options: owned() };
    assert_eq!(parse(&read_request("a/b", Mode::Octet, &options)), Some(Packet::ReadRequest(request)));
    assert_eq!(parse(&option_ack(&options)), Some(Packet::OptionAck(owned())));
    assert_eq!(parse(&data(0xfffe, b"abc")), Some(Packet::Data(0xfffe, b"abc")));
    assert_eq!(parse(&ack(7)), Some(Packet::Ack(7)));
    assert_eq!(parse(&error(1, "no such file")), Some(Packet::Error(1, "no such file".to_owned())));
}

#[test]
fn what_is_malformed_is_none() {
    for bytes in [
        &b""[..],
        b"\0",
        b"\0\x01",
        b"\0\x01name",
        b"\0\x01name\0",
        b"\0\x03\0",
        b"\0\x04\0",
        b"\0\x07\0\0",
        b"\x01\0a\0octet\0",
    ] {
        assert_eq!(parse(bytes), None, "{bytes:?}");
    }
}

#[test]
fn modes_and_option_names_are_taken_in_any_case_and_trailing_octets_are_ignored() {
    let Some(Packet::ReadRequest(request)) = parse(b"\0\x01f\0OcTeT\0BLKSIZE\x001432\0tsize\0junk") else {
        panic!()
    };
    assert_eq!(request.mode, Some(Mode::Octet));
    assert_eq!(request.options, [("blksize".to_owned(), "1432".to_owned())]);
}

#[test]
fn no_bytes_make_it_panic() {
    let mut dice = Dice::new(1);
    for _ in 0..200_000 {
        let mut bytes: Vec<u8> =
            (0..dice.below(60)).map(|_| (dice.roll() & 0x7f) as u8 & dice.roll() as u8).collect();
        if let Some(first) = bytes.first_mut() {
            *first = 0;
        }
        let _ = parse(&bytes);
    }
}
