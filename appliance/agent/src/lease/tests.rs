use super::*;

const MAC: Mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 9);

fn secs(seconds: u64) -> Time {
    Time::from_secs(seconds)
}

fn sent(client: &mut Client, now: Time) -> (Ipv4Addr, Message) {
    let transmit = client.poll_transmit(now).expect("something to send");
    (transmit.to, Message::decode(&transmit.octets).unwrap())
}

fn seconds(code: Code, seconds: u32) -> (Code, Vec<u8>) {
    (code, seconds.to_be_bytes().to_vec())
}

/// The server's answer to what was asked.
fn answer(asked: &Message, kind: Kind, options: &[(Code, Vec<u8>)]) -> Vec<u8> {
    let usual = [
        (Code::MESSAGE_TYPE, vec![kind.0]),
        (Code::SERVER_IDENTIFIER, SERVER.octets().to_vec()),
        seconds(Code::LEASE_TIME, 1000),
        (Code::SUBNET_MASK, vec![255, 255, 255, 0]),
    ];
    let options = usual.into_iter().chain(options.iter().cloned()).collect();
    Message { is_reply: true, yiaddr: ADDRESS, ciaddr: Ipv4Addr::UNSPECIFIED, options, ..asked.clone() }
        .encode()
}

fn bound(options: &[(Code, Vec<u8>)]) -> (Client, Lease) {
    let mut client = Client::new(MAC, 77, Time::ZERO);
    let (_, discover) = sent(&mut client, Time::ZERO);
    client.handle_datagram(Time::ZERO, &answer(&discover, Kind::OFFER, &[]));
    let (_, request) = sent(&mut client, Time::ZERO);
    client.handle_datagram(Time::ZERO, &answer(&request, Kind::ACK, options));
    let Some(Event::Bound(lease)) = client.poll_event() else { panic!("no lease") };
    (client, lease)
}

#[test]
fn an_offer_is_requested_and_an_ack_is_a_lease() {
    let mut client = Client::new(MAC, 77, Time::ZERO);
    let (to, discover) = sent(&mut client, Time::ZERO);
    assert_eq!((to, discover.kind()), (Ipv4Addr::BROADCAST, Some(Kind::DISCOVER)));
    assert!(discover.broadcast);
    assert_eq!(discover.mac, MAC);
    client.handle_datagram(Time::ZERO, &answer(&discover, Kind::OFFER, &[]));
    let (to, request) = sent(&mut client, Time::ZERO);
    // "The 'xid' field … the same" and "MUST include the 'server identifier'" (RFC 2131, 4.3.2, 4.4.1).
    assert_eq!((to, request.xid), (Ipv4Addr::BROADCAST, discover.xid));
    assert_eq!(request.address(Code::SERVER_IDENTIFIER), Some(SERVER));
    assert_eq!(request.address(Code::REQUESTED_ADDRESS), Some(ADDRESS));
    assert_eq!(request.ciaddr, Ipv4Addr::UNSPECIFIED);
    let options = [(Code::ROUTER, SERVER.octets().to_vec()), (Code::INTERFACE_MTU, vec![0x23, 0x28])];
    client.handle_datagram(Time::ZERO, &answer(&request, Kind::ACK, &options));
    let lease = Lease {
        address: Prefix { address: ADDRESS, length: 24 },
        router: Some(SERVER),
        mtu: Some(9000),
        server: SERVER,
    };
    assert_eq!(client.poll_event(), Some(Event::Bound(lease)));
}

#[test]
fn a_discover_without_answer_is_repeated_with_growing_pauses_for_ever() {
    let mut client = Client::new(MAC, 77, Time::ZERO);
    let mut now = Time::ZERO;
    for expected in [300, 600, 1200, 2400, 4800, 9600, 16_000, 16_000] {
        sent(&mut client, now);
        assert_eq!(client.poll_transmit(now), None);
        let pause = client.poll_timeout().since(now).as_millis();
        assert!((expected..expected + 250).contains(&pause), "{expected}: {pause}");
        now = client.poll_timeout();
    }
    assert_eq!(sent(&mut client, now).1.secs as u64, now.millis() / 1000);
}

#[test]
fn an_offer_whose_request_is_not_answered_is_forgotten() {
    let mut client = Client::new(MAC, 77, Time::ZERO);
    let (_, discover) = sent(&mut client, Time::ZERO);
    client.handle_datagram(Time::ZERO, &answer(&discover, Kind::OFFER, &[]));
    let mut now = Time::ZERO;
    for _ in 0..REQUESTS {
        assert_eq!(sent(&mut client, now).1.kind(), Some(Kind::REQUEST));
        now = client.poll_timeout();
    }
    let (_, again) = sent(&mut client, now);
    assert_eq!(again.kind(), Some(Kind::DISCOVER));
    assert_ne!(again.xid, discover.xid);
}

#[test]
fn a_nak_begins_anew() {
    let mut client = Client::new(MAC, 77, Time::ZERO);
    let (_, discover) = sent(&mut client, Time::ZERO);
    client.handle_datagram(Time::ZERO, &answer(&discover, Kind::OFFER, &[]));
    let (_, request) = sent(&mut client, Time::ZERO);
    client.handle_datagram(Time::ZERO, &answer(&request, Kind::NAK, &[]));
    assert_eq!(sent(&mut client, Time::ZERO).1.kind(), Some(Kind::DISCOVER));
}

#[test]
fn a_lease_is_renewed_at_half_of_it_by_unicast_then_by_broadcast_then_lost() {
    let (mut client, lease) = bound(&[]);
    // 1000 s: T1 at 500, T2 at 875.
    assert_eq!(client.poll_timeout(), secs(500));
    assert_eq!(client.poll_transmit(secs(499)), None);
    let mut sends = Vec::new();
    while client.poll_timeout() < secs(1000) {
        let now = client.poll_timeout();
        let (to, request) = sent(&mut client, now);
        // "'requested IP address' option MUST NOT … 'ciaddr' MUST be filled in" (RFC 2131, 4.3.2).
        assert_eq!(request.address(Code::REQUESTED_ADDRESS), None);
        assert_eq!(request.address(Code::SERVER_IDENTIFIER), None);
        assert_eq!(request.ciaddr, ADDRESS);
        sends.push((now.millis() / 1000, to));
    }
    let all = Ipv4Addr::BROADCAST;
    let expected =
        [(500, SERVER), (687, SERVER), (781, SERVER), (841, SERVER), (875, all), (937, all), (997, all)];
    assert_eq!(sends, expected);
    assert_eq!(sent(&mut client, secs(1000)).1.kind(), Some(Kind::DISCOVER));
    assert_eq!(client.poll_event(), Some(Event::Lost(lease)));
}

#[test]
fn a_renewal_extends_the_lease_and_says_nothing_when_nothing_changed() {
    let (mut client, _) = bound(&[]);
    let (_, request) = sent(&mut client, secs(500));
    client.handle_datagram(secs(501), &answer(&request, Kind::ACK, &[]));
    assert_eq!(client.poll_event(), None);
    assert_eq!(client.poll_timeout(), secs(1001));
    let (_, request) = sent(&mut client, secs(1001));
    client.handle_datagram(
        secs(1001),
        &answer(&request, Kind::ACK, &[(Code::INTERFACE_MTU, vec![0x05, 0x78])]),
    );
    assert!(matches!(client.poll_event(), Some(Event::Bound(lease)) if lease.mtu == Some(1400)));
}

#[test]
fn a_nak_to_a_renewal_takes_the_address_away() {
    let (mut client, lease) = bound(&[]);
    let (_, request) = sent(&mut client, secs(500));
    client.handle_datagram(secs(500), &answer(&request, Kind::NAK, &[]));
    assert_eq!(client.poll_event(), Some(Event::Lost(lease)));
    assert_eq!(sent(&mut client, secs(500)).1.kind(), Some(Kind::DISCOVER));
}

#[test]
fn the_servers_times_count_when_they_make_sense() {
    let (client, _) = bound(&[seconds(Code::RENEWAL_TIME, 100), seconds(Code::REBINDING_TIME, 200)]);
    assert_eq!(client.poll_timeout(), secs(100));
    let (client, _) = bound(&[seconds(Code::RENEWAL_TIME, 5000), seconds(Code::REBINDING_TIME, 0)]);
    assert_eq!(client.poll_timeout(), secs(500));
    let (client, _) = bound(&[seconds(Code::LEASE_TIME, 0)]);
    assert_eq!(client.poll_timeout(), secs(5));
    let (client, _) = bound(&[seconds(Code::LEASE_TIME, u32::MAX)]);
    assert!(client.poll_timeout() > secs(60 * 60 * 24 * 365));
}

#[test]
fn what_is_for_another_or_from_nobody_is_passed_over() {
    let mut client = Client::new(MAC, 77, Time::ZERO);
    let (_, discover) = sent(&mut client, Time::ZERO);
    let good = answer(&discover, Kind::OFFER, &[]);
    let mut other_xid = good.clone();
    other_xid[4] ^= 1;
    let mut other_mac = good.clone();
    other_mac[30] ^= 1;
    let mut request = good.clone();
    request[0] = 1;
    let mut long = good.clone();
    long[2] = 200;
    let mut nowhere = good.clone();
    nowhere[16..20].fill(0);
    for bad in [other_xid, other_mac, request, long, nowhere, Vec::new(), vec![0xff; 2000]] {
        client.handle_datagram(Time::ZERO, &bad);
        assert_eq!(client.poll_transmit(Time::ZERO), None);
    }
    client.handle_datagram(Time::ZERO, &good);
    assert!(client.poll_transmit(Time::ZERO).is_some());
}

#[test]
fn no_octets_make_it_panic() {
    let (_, discover) = sent(&mut Client::new(MAC, 77, Time::ZERO), Time::ZERO);
    let good = answer(&discover, Kind::OFFER, &[(Code::ROUTER, SERVER.octets().to_vec())]);
    for at in 0..good.len() {
        for octet in [0, 1, 0x7f, 0x80, 0xff] {
            let mut client = Client::new(MAC, 77, Time::ZERO);
            sent(&mut client, Time::ZERO);
            let mut changed = good.clone();
            changed[at] = octet;
            client.handle_datagram(Time::ZERO, &changed);
            client.handle_datagram(Time::ZERO, &changed[..at]);
            client.poll_transmit(secs(1));
        }
    }
}
