use super::*;

#[test]
fn a_message_is_what_it_was() {
    let message = LanMessage {
        to: BMC_ADDRESS,
        netfn: 0x06,
        from: CONSOLE_ADDRESS,
        sequence: 0x3f,
        command: 0x38,
        data: vec![0x8e, 0x04],
    };
    assert_eq!(message.bytes(), [0x20, 0x18, 0xc8, 0x81, 0xfc, 0x38, 0x8e, 0x04, 0xb9]);
    assert_eq!(LanMessage::parse(&message.bytes()), Ok(message));
}

#[test]
fn a_message_with_a_wrong_checksum_is_refused() {
    let mut bytes = [0x20, 0x18, 0xc8, 0x81, 0xfc, 0x38, 0x8e, 0x04, 0xb9];
    bytes[8] ^= 1;
    assert_eq!(LanMessage::parse(&bytes), Err(Misbehaviour::Checksum));
    assert_eq!(LanMessage::parse(&bytes[..6]), Err(Misbehaviour::Truncated));
}

#[test]
fn a_datagram_is_cut_where_its_lengths_say() {
    let datagram = plain(&[1, 2, 3]);
    assert_eq!(parse(&datagram), Ok(Packet::Plain { message: &[1, 2, 3] }));
    assert_eq!(parse(&datagram[..datagram.len() - 1]), Err(Misbehaviour::Truncated));
    let mut padded = datagram;
    padded.push(0);
    assert_eq!(parse(&padded), Ok(Packet::Plain { message: &[1, 2, 3] }), "a legacy pad");
    let datagram = frame(Kind::Rakp1, [0; 4], 0, &[1, 2, 3]);
    for len in 0..datagram.len() {
        assert_eq!(parse(&datagram[..len]), Err(Misbehaviour::Truncated), "{len}");
    }
}

#[test]
fn what_is_not_ipmi_is_refused() {
    // An ASF presence pong.
    let pong = [0x06, 0x00, 0xff, 0x06, 0x00, 0x00, 0x11, 0xbe, 0x40, 0x00, 0x00, 0x10];
    assert_eq!(parse(&pong), Err(Misbehaviour::NotIpmi));
    assert_eq!(parse(&[0; 2000]), Err(Misbehaviour::NotIpmi));
}

/// OpenIPMI's simulator refuses in two bytes where table 13-10 has eight.
#[test]
fn a_refusal_may_end_after_its_status() {
    assert_eq!(Head::parse(&[5, 4]), Some((Head { tag: 5, status: 4, session: [0; 4] }, &[][..])));
    assert_eq!(Head::parse(&[5, 0]), None);
    assert_eq!(Head::parse(&[5]), None);
}
