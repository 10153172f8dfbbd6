//! RFC 1350, 1123 (4.2.3), 2347, 2348, 2349 and 7440, sentence by sentence.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use boot::{TftpFile, TftpPlan};
use sansio::Time;
use std::time::Duration;
use tftp::{Event, Mode, Packet, Request, Server, Transfer, Verdict, ack, data, error, parse, read_request};

fn request(options: &[(&str, u64)]) -> Request {
    let Some(Packet::ReadRequest(request)) = parse(&read_request("f", Mode::Octet, options)) else {
        panic!()
    };
    request
}

/// A transfer of `length` octets, and its packets.
struct Sent(Transfer, usize, Time);

impl Sent {
    fn new(options: &[(&str, u64)], length: usize) -> Sent {
        Sent(Transfer::new(&request(options), length as u64, Time::ZERO), length, Time::ZERO)
    }

    fn packets(&mut self) -> Vec<Vec<u8>> {
        while let Some(read) = self.0.poll_read() {
            let left = self.1.saturating_sub(read.offset as usize);
            self.0.handle_read(&vec![7; left.min(read.length)], self.2);
        }
        core::iter::from_fn(|| self.0.poll_transmit()).collect()
    }

    fn after(&mut self, packet: &[u8]) -> Vec<Vec<u8>> {
        self.0.handle_datagram(packet, self.2);
        self.packets()
    }
}

fn block(number: u16, length: usize) -> Vec<u8> {
    data(number, &vec![7; length])
}

/// RFC 1350, 2: "Each data packet contains one block of data, and must be acknowledged by an acknowledgment packet
/// before the next packet can be sent. A data packet of less than 512 bytes signals termination of a transfer."
#[test]
fn a_block_follows_the_acknowledgement_of_the_one_before_and_a_short_one_ends_it() {
    let mut sent = Sent::new(&[], 1024);
    assert_eq!(sent.packets(), [block(1, 512)]);
    assert_eq!(sent.packets(), [] as [Vec<u8>; 0]);
    assert_eq!(sent.after(&ack(1)), [block(2, 512)]);
    assert_eq!(sent.after(&ack(2)), [block(3, 0)], "a multiple of 512 ends with an empty block");
    assert_eq!(sent.after(&ack(3)), [] as [Vec<u8>; 0]);
    assert_eq!(sent.0.poll_event(), Some(Event::Done(1024)));
}

/// "If a packet gets lost in the network, the intended recipient will timeout and may retransmit his last
/// packet". RFC 1123, 4.2.3.2: "A TFTP implementation MUST use an adaptive timeout", "at least an exponential
/// backoff of retransmission timeout is necessary".
#[test]
fn what_is_not_acknowledged_is_sent_again_after_ever_longer_waits() {
    let mut sent = Sent::new(&[], 10);
    assert_eq!(sent.packets(), [block(1, 10)]);
    let mut waits = Vec::new();
    while let Some(at) = sent.0.poll_timeout() {
        waits.push(at.since(sent.2).as_secs());
        sent.2 = at;
        sent.0.handle_timeout(at);
        let again = sent.packets();
        assert!(again == [block(1, 10)] || sent.0.poll_timeout().is_none());
    }
    assert_eq!(waits, [1, 2, 4, 8, 8, 8]);
    assert!(matches!(sent.0.poll_event(), Some(Event::Failed(..))));
}

/// RFC 1123, 4.2.3.1: "The sender […] must never resend the current DATA packet on receipt of a duplicate ACK."
#[test]
fn a_duplicate_ack_resends_nothing() {
    let mut sent = Sent::new(&[], 5000);
    sent.packets();
    assert_eq!(sent.after(&ack(1)), [block(2, 512)]);
    for _ in 0..5 {
        assert_eq!(sent.after(&ack(1)), [] as [Vec<u8>; 0]);
        assert_eq!(sent.after(&ack(0)), [] as [Vec<u8>; 0]);
    }
}

/// RFC 1350, 7: "If an error […] the connection is terminated"; 2: "This packet is not acknowledged, and not
/// retransmitted".
#[test]
fn an_error_ends_it_without_an_answer() {
    let mut sent = Sent::new(&[], 5000);
    sent.packets();
    assert_eq!(sent.after(&error(3, "disk full")), [] as [Vec<u8>; 0]);
    assert_eq!(sent.0.poll_timeout(), None);
    assert_eq!(sent.after(&ack(1)), [] as [Vec<u8>; 0]);
}

/// RFC 1350, 5: "The mode field contains the string 'netascii', 'octet', or 'mail' (or any combination of upper and
/// lower case […])".
#[test]
fn a_file_is_asked_for_by_name_in_a_mode_of_any_case() {
    let mut server = Server::new();
    let file = TftpFile { name: "f".to_owned(), path: "/srv/f".to_owned() };
    server.handle_plan(&TftpPlan { listen: Vec::new(), files: vec![file] });
    for (port, mode) in ["octet", "OCTET", "NetASCII"].iter().enumerate() {
        let bytes = format!("\0\x01f\0{mode}\0");
        let from = ([10, 7, 0, 50], port as u16 + 1).into();
        assert!(matches!(server.handle_request(from, bytes.as_bytes()), Verdict::Begin { .. }), "{mode}");
    }
}

/// RFC 2347: "If the server supports option negotiation, and it recognizes one or more of the options specified in
/// the request packet, the server may respond with an Options Acknowledgment (OACK)"; the client's ACK of it has
/// "the block number […] set to zero".
#[test]
fn options_are_acknowledged_first_and_data_follows_the_ack_of_block_0() {
    let mut sent = Sent::new(&[("blksize", 1432), ("tsize", 0)], 3000);
    assert_eq!(sent.packets(), [b"\0\x06blksize\x001432\0tsize\x003000\0".to_vec()]);
    assert_eq!(sent.after(&ack(1)), [] as [Vec<u8>; 0], "nothing was sent that this could acknowledge");
    assert_eq!(sent.after(&ack(0)), [block(1, 1432)]);
    assert_eq!(sent.after(&ack(1)), [block(2, 1432)]);
    assert_eq!(sent.after(&ack(2)), [block(3, 136)]);
}

/// RFC 2347: "The client […] if […] not […] acceptable […] ERROR packet with error code 8". The same, when an
/// option is not in the request: "the server MUST NOT include in the OACK any option which had not been
/// specifically requested".
#[test]
fn without_options_there_is_no_oack() {
    assert_eq!(Sent::new(&[], 3).packets(), [block(1, 3)]);
    assert_eq!(Sent::new(&[("unknown", 1)], 3).packets(), [block(1, 3)]);
}

/// RFC 2349: "the number of seconds to wait before retransmitting".
#[test]
fn a_client_chooses_the_wait() {
    let mut sent = Sent::new(&[("timeout", 5)], 3);
    sent.packets();
    assert_eq!(sent.0.poll_timeout(), Some(Time::from_secs(5)));
    sent.0.handle_timeout(Time::from_secs(5));
    assert_eq!(sent.0.poll_timeout(), Some(Time::from_secs(10)), "and it does not grow");
}

/// RFC 7440, 4: "the data sender […] MUST transmit the agreed number of consecutive blocks before stopping and
/// waiting for the reception of the acknowledgment of the last block of the window".
#[test]
fn a_window_is_sent_and_then_its_acknowledgement_awaited() {
    let mut sent = Sent::new(&[("windowsize", 3)], 512 * 5);
    sent.packets();
    assert_eq!(sent.after(&ack(0)), [block(1, 512), block(2, 512), block(3, 512)]);
    assert_eq!(sent.after(&ack(3)), [block(4, 512), block(5, 512), block(6, 0)]);
    sent.2 = Time::ZERO + Duration::from_secs(9);
    sent.0.handle_timeout(sent.2);
    assert_eq!(sent.packets(), [block(4, 512), block(5, 512), block(6, 0)]);
    assert!(sent.after(&ack(6)).is_empty());
    assert_eq!(sent.0.poll_event(), Some(Event::Done(512 * 5)));
}
