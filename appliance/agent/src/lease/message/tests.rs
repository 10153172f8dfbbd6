use super::*;

fn message() -> Message {
    Message {
        is_reply: false,
        xid: 0x0102_0304,
        secs: 7,
        broadcast: true,
        ciaddr: Ipv4Addr::new(10, 7, 0, 9),
        yiaddr: Ipv4Addr::UNSPECIFIED,
        mac: Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]),
        options: [(Code::MESSAGE_TYPE, vec![1]), (Code::CLASS_IDENTIFIER, b"kiln-agent".to_vec())].into(),
    }
}

#[test]
fn a_message_is_laid_out_as_rfc_2131_draws_it() {
    let octets = message().encode();
    assert_eq!(octets.len(), BOOTP);
    assert_eq!(octets[..16], [1, 1, 6, 0, 1, 2, 3, 4, 0, 7, 0x80, 0, 10, 7, 0, 9]);
    assert_eq!(octets[28..34], [0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    assert_eq!(octets[236..243], [99, 130, 83, 99, 53, 1, 1]);
    assert_eq!(octets[243..256], *b"\x3c\x0akiln-agent\xff");
    assert!(octets[256..].iter().all(|octet| *octet == 0));
}

#[test]
fn what_is_written_is_read() {
    assert_eq!(Message::decode(&message().encode()), Some(message()));
}

#[test]
fn split_options_are_put_together_and_padding_is_passed_over() {
    let mut octets = message().encode();
    octets.truncate(FIXED);
    octets.extend([0, 3, 2, 10, 7, 0, 3, 2, 0, 1, 255, 1, 4, 9, 9, 9, 9]);
    let read = Message::decode(&octets).unwrap();
    assert_eq!(read.address(Code::ROUTER), Some(Ipv4Addr::new(10, 7, 0, 1)));
    assert_eq!(read.address(Code::SUBNET_MASK), None, "after the end");
}

#[test]
fn a_broken_option_ends_the_list_and_one_of_a_wrong_length_is_none() {
    let mut octets = message().encode();
    octets.truncate(FIXED);
    octets.extend([51, 3, 0, 0, 1, 53, 2, 1, 1, 26, 1, 9, 3, 200, 1]);
    let read = Message::decode(&octets).unwrap();
    assert_eq!(
        (read.seconds(Code::LEASE_TIME), read.kind(), read.short(Code::INTERFACE_MTU)),
        (None, None, None)
    );
    assert_eq!(read.address(Code::ROUTER), None);
}

#[test]
fn what_is_no_dhcp_message_of_an_ethernet_is_none() {
    let good = message().encode();
    for at in [1, 2, 236, 239] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert_eq!(Message::decode(&bad), None, "octet {at}");
    }
    for cut in 0..FIXED {
        assert_eq!(Message::decode(&good[..cut]), None);
    }
}
