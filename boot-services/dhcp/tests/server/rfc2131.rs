//! RFC 2131 and its relatives, sentence by sentence.

use crate::client::*;
use boot::{DhcpFact, DhcpMoment, DhcpService, Mac, Pool};
use dhcp::{Event, Server};
use dhcproto::v4::{DhcpOption, MessageType};
use sansio::Time;
use std::net::{Ipv4Addr, SocketAddrV4};

const NOW: Time = Time::from_secs(1_000_000);

fn later(seconds: u64) -> Time {
    Time::from_secs(1_000_000 + seconds)
}

#[test]
fn a_known_machine_gets_its_address_and_all_that_goes_with_it() {
    let mut server = server(&plan());
    let offer = send(&mut server, &Ask::discover(KNOWN), NOW);
    assert_eq!(offer.moments(), [DhcpMoment::Offered]);
    assert_eq!((offer.only().kind(), offer.only().message.yiaddr()), (MessageType::Offer, KNOWN_ADDRESS));
    let ack = send(&mut server, &Ask::select(KNOWN, KNOWN_ADDRESS), NOW);
    let answer = ack.only();
    assert_eq!(answer.kind(), MessageType::Ack);
    assert_eq!(answer.get(1), Some(&DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0))));
    assert_eq!(answer.get(3), Some(&DhcpOption::Router(vec![Ipv4Addr::new(10, 7, 0, 254)])));
    assert_eq!(answer.get(6), Some(&DhcpOption::DomainNameServer(vec![Ipv4Addr::new(10, 7, 0, 253)])));
    assert_eq!(answer.get(12), Some(&DhcpOption::Hostname("n1".to_owned())));
    assert_eq!(answer.get(51), Some(&DhcpOption::AddressLeaseTime(3600)));
    assert_eq!(answer.get(54), Some(&DhcpOption::ServerIdentifier(SERVER)));
    assert_eq!(answer.get(58), Some(&DhcpOption::Renewal(1800)));
    assert_eq!(answer.get(59), Some(&DhcpOption::Rebinding(3150)));
    assert_eq!(ack.moments(), [DhcpMoment::Bound]);
    let [DhcpFact::Client { attempt: told, address, mac, .. }] = &ack.facts[..] else { panic!() };
    assert_eq!((told, address, mac), (&Some(attempt()), &Some(KNOWN_ADDRESS), &KNOWN));
    assert_eq!(ack.leases.len(), 1);
    assert_eq!(ack.leases[0].until, later(3600));
}

#[test]
fn the_ack_waits_until_the_lease_is_on_disk() {
    let mut server = server(&plan());
    send(&mut server, &Ask::discover(KNOWN), NOW);
    server.handle_datagram(NETWORK, &Ask::select(KNOWN, KNOWN_ADDRESS).bytes(), NOW);
    let Some(Event::Store(ticket, _)) = server.poll_event() else { panic!() };
    assert_eq!((server.poll_transmit(), server.poll_event()), (None, None));
    server.handle_stored(ticket);
    assert_eq!(settle(&mut server).moments(), [DhcpMoment::Bound]);
    server.handle_datagram(NETWORK, &Ask::renew(KNOWN, KNOWN_ADDRESS).bytes(), NOW);
    let Some(Event::Store(ticket, _)) = server.poll_event() else { panic!() };
    server.handle_not_stored(ticket);
    assert_eq!((server.poll_transmit(), server.poll_event()), (None, None));
}

#[test]
fn an_unknown_machine_gets_an_address_of_the_pool_and_the_same_again() {
    let mut server = server(&plan());
    let address = lease(&mut server, STRANGER, NOW);
    assert!((100..=119).contains(&address.octets()[3]));
    assert_eq!(lease(&mut server, STRANGER, later(5000)), address, "its old one, though the lease is over");
    // 4.3.1: "The client's current address as recorded in the client's current binding, ELSE …".
    let wish = Ask::discover(STRANGER).option(DhcpOption::RequestedIpAddress(Ipv4Addr::new(10, 7, 0, 117)));
    assert_eq!(send(&mut server, &wish, later(5001)).only().message.yiaddr(), address);
}

#[test]
fn a_wish_for_a_free_address_is_granted_and_one_for_another_is_not() {
    let mut server = server(&plan());
    let wish =
        |mac, last| Ask::discover(mac).option(DhcpOption::RequestedIpAddress(Ipv4Addr::new(10, 7, 0, last)));
    let granted = |server: &mut Server, ask: &Ask| send(server, ask, NOW).only().message.yiaddr().octets()[3];
    assert_eq!(granted(&mut server, &wish(STRANGER, 117)), 117);
    assert_ne!(granted(&mut server, &wish(Mac([2, 0, 0, 0, 0, 9]), 117)), 117);
    assert!((100..=119).contains(&granted(&mut server, &wish(Mac([2, 0, 0, 0, 0, 8]), 50))));
}

#[test]
fn a_pool_that_is_full_ignores_more_and_offers_that_nobody_took_make_room() {
    let mut server = server(&plan());
    let mac = |i: u8| Mac([2, 0, 0, 0, 1, i]);
    let mut given: Vec<_> = (0..19).map(|i| lease(&mut server, mac(i), NOW)).collect();
    given.push(send(&mut server, &Ask::discover(mac(19)), NOW).only().message.yiaddr());
    given.sort();
    given.dedup();
    assert_eq!(given.len(), 20, "every address once");
    let taken = send(&mut server, &Ask::discover(mac(20)), NOW).only().message.yiaddr();
    assert_eq!(send(&mut server, &Ask::select(mac(20), taken), NOW).only().kind(), MessageType::Ack);
    let full = send(&mut server, &Ask::discover(mac(21)), NOW);
    assert_eq!((full.answers.len(), full.moments()), (0, vec![DhcpMoment::Ignored]));
    assert_eq!(send(&mut server, &Ask::select(mac(19), taken), NOW).only().kind(), MessageType::Nak);
    assert_eq!(send(&mut server, &Ask::discover(mac(21)), later(3601)).answers.len(), 1, "leases are over");
}

#[test]
fn what_is_taken_is_not_given_though_it_lies_in_the_pool() {
    let mut server = server(&with(|network| {
        let around = |last| Ipv4Addr::new(10, 7, 0, last);
        network.router = Some(around(49));
        network.pool = Some(Pool { first: around(49), last: around(51) });
    }));
    assert_eq!(lease(&mut server, STRANGER, NOW).octets()[3], 51, "49 is the router, 50 a known machine");
    assert!(send(&mut server, &Ask::discover(Mac([2, 0, 0, 0, 0, 9])), NOW).answers.is_empty());
}

#[test]
fn without_a_pool_an_unknown_machine_is_told_of_and_not_answered() {
    let mut server = server(&with(|network| network.pool = None));
    let nothing = send(&mut server, &Ask::discover(STRANGER), NOW);
    assert_eq!((nothing.answers.len(), nothing.moments()), (0, vec![DhcpMoment::Ignored]));
}

/// 4.1: "If the 'giaddr' field in a DHCP message from a client is non-zero, the server sends any return
/// messages to the 'DHCP server' port on the BOOTP relay agent whose address appears in 'giaddr'."
#[test]
fn a_relay_is_answered_at_its_own_address() {
    let mut server = server(&plan());
    let relay = Ipv4Addr::new(10, 7, 0, 7);
    let to = To::Datagram(SocketAddrV4::new(relay, 67));
    assert_eq!(send(&mut server, &Ask::discover(KNOWN).relayed(relay), NOW).only().to, to);
    assert_eq!(send(&mut server, &Ask::select(KNOWN, KNOWN_ADDRESS).relayed(relay), NOW).only().to, to);
    // 4.3.2: "If 'giaddr' is set in the DHCPREQUEST message […] the server MUST set the broadcast bit in the
    // DHCPNAK".
    let nak = send(&mut server, &Ask::reboot(KNOWN, Ipv4Addr::new(10, 9, 9, 9)).relayed(relay), NOW);
    assert_eq!((nak.only().kind(), nak.only().to), (MessageType::Nak, to));
    assert!(nak.only().message.flags().broadcast());
    // The network is that of the relay, not of the interface.
    let elsewhere = send(&mut server, &Ask::discover(KNOWN).relayed(Ipv4Addr::new(192, 0, 2, 1)), NOW);
    assert!(elsewhere.answers.is_empty() && elsewhere.facts.is_empty());
}

/// RFC 3527, 3: the link selection sub-option says where the client is.
#[test]
fn the_link_selection_says_the_network() {
    let mut server = server(&plan());
    let ask =
        Ask::discover(KNOWN).relayed(Ipv4Addr::new(192, 0, 2, 1)).information(&[1, 1, 9, 5, 4, 10, 7, 0, 0]);
    let answer = send(&mut server, &ask, NOW);
    assert_eq!(answer.only().to, To::Datagram(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 67)));
    assert_eq!(answer.only().message.yiaddr(), KNOWN_ADDRESS);
}

/// RFC 3046, 2.2: "DHCP servers claiming to support the Relay Agent Information option SHALL echo the entire
/// contents of the Relay Agent Information option in all replies", 2.1: as the last.
#[test]
fn the_relays_information_is_echoed_octet_by_octet_and_last() {
    let mut server = server(&plan());
    let information = [1, 2, 0xaa, 0xbb, 2, 1, 0xcc, 151, 1, 0];
    server.handle_datagram(
        NETWORK,
        &Ask::discover(KNOWN).relayed(SERVER).information(&information).bytes(),
        NOW,
    );
    let Some(dhcp::Transmit::Datagram { payload, .. }) = server.poll_transmit() else { panic!() };
    let mut option = vec![82, information.len() as u8];
    option.extend(information);
    option.push(255);
    assert!(payload.windows(option.len()).any(|part| part == option), "{payload:?}");
}

/// 4.1: "If the 'giaddr' field is zero and the 'ciaddr' field is nonzero, then the server unicasts DHCPOFFER
/// and DHCPACK messages to the address in 'ciaddr'."
#[test]
fn a_renewal_is_answered_to_the_address_that_it_has() {
    let mut server = server(&plan());
    lease(&mut server, KNOWN, NOW);
    let ack = send(&mut server, &Ask::renew(KNOWN, KNOWN_ADDRESS).broadcast(), later(1800));
    assert_eq!((ack.only().kind(), ack.only().to), (MessageType::Ack, To::Frame(KNOWN, KNOWN_ADDRESS)));
    assert_eq!(ack.only().message.ciaddr(), KNOWN_ADDRESS);
    assert_eq!(ack.leases[0].until, later(5400));
}

/// "If 'giaddr' is zero and 'ciaddr' is zero, and the broadcast bit is set, then the server broadcasts
/// DHCPOFFER and DHCPACK messages to 0xffffffff. If the broadcast bit is not set […] then the server unicasts
/// DHCPOFFER and DHCPACK messages to the client's hardware address and 'yiaddr' address. In all cases, when
/// 'giaddr' is zero, the server broadcasts any DHCPNAK messages to 0xffffffff."
#[test]
fn a_client_without_an_address_is_answered_to_its_mac_or_to_all() {
    let mut server = server(&plan());
    let all = To::Frame(Mac([0xff; 6]), Ipv4Addr::BROADCAST);
    assert_eq!(send(&mut server, &Ask::discover(KNOWN), NOW).only().to, To::Frame(KNOWN, KNOWN_ADDRESS));
    assert_eq!(send(&mut server, &Ask::discover(KNOWN).broadcast(), NOW).only().to, all);
    assert_eq!(send(&mut server, &Ask::reboot(KNOWN, Ipv4Addr::new(10, 7, 0, 51)), NOW).only().to, all);
}

/// 4.3.2: "Server SHOULD send a DHCPNAK message to the client if the 'requested IP address' is incorrect, or
/// is on the wrong network."
#[test]
fn a_machine_that_comes_from_another_network_is_told_no_at_once() {
    let mut server = server(&plan());
    let wrong = Ipv4Addr::new(192, 168, 1, 5);
    for ask in [
        Ask::reboot(KNOWN, wrong),
        Ask::renew(KNOWN, wrong),
        Ask::reboot(STRANGER, wrong),
        Ask::renew(STRANGER, wrong),
    ] {
        let no = send(&mut server, &ask, NOW);
        assert_eq!((no.only().kind(), no.moments()), (MessageType::Nak, vec![DhcpMoment::Refused]));
        assert_eq!(no.only().message.yiaddr(), Ipv4Addr::UNSPECIFIED);
        assert_eq!(no.only().get(51), None);
    }
}

/// "If the DHCP server has no record of this client, then it MUST remain silent".
#[test]
fn a_stranger_that_reboots_with_an_address_of_the_network_is_not_answered() {
    let mut server = server(&plan());
    for ask in [
        Ask::reboot(STRANGER, Ipv4Addr::new(10, 7, 0, 105)),
        Ask::renew(STRANGER, Ipv4Addr::new(10, 7, 0, 105)),
    ] {
        assert!(send(&mut server, &ask, NOW).answers.is_empty());
    }
    let address = lease(&mut server, STRANGER, NOW);
    assert_eq!(send(&mut server, &Ask::reboot(STRANGER, address), NOW).only().kind(), MessageType::Ack);
    let other = Ipv4Addr::from_bits(if address.octets()[3] == 119 {
        address.to_bits() - 1
    } else {
        address.to_bits() + 1
    });
    assert_eq!(send(&mut server, &Ask::reboot(STRANGER, other), NOW).only().kind(), MessageType::Nak);
}

#[test]
fn a_known_machine_that_reboots_is_acknowledged_though_we_remember_nothing() {
    let mut server = server(&plan());
    assert_eq!(send(&mut server, &Ask::reboot(KNOWN, KNOWN_ADDRESS), NOW).only().kind(), MessageType::Ack);
}

/// 3.1, 4: "Those servers not selected by the DHCPREQUEST message use the message as notification that the
/// client has declined that server's offer."
#[test]
fn a_request_for_another_server_is_not_answered_and_frees_the_offer() {
    let mut server = server(&plan());
    let address = send(&mut server, &Ask::discover(STRANGER), NOW).only().message.yiaddr();
    let other =
        Ask::reboot(STRANGER, address).option(DhcpOption::ServerIdentifier(Ipv4Addr::new(10, 7, 0, 2)));
    let silent = send(&mut server, &other, NOW);
    assert!(silent.answers.is_empty() && silent.facts.is_empty());
    let wish = Ask::discover(Mac([2, 0, 0, 0, 0, 5])).option(DhcpOption::RequestedIpAddress(address));
    assert_eq!(send(&mut server, &wish, NOW).only().message.yiaddr(), address);
}

/// 4.3.2, table 4: in SELECTING state "'requested IP address' MUST be filled in with the yiaddr value from the
/// chosen DHCPOFFER".
#[test]
fn a_selection_of_what_was_not_offered_is_refused() {
    let mut server = server(&plan());
    send(&mut server, &Ask::discover(KNOWN), NOW);
    assert_eq!(
        send(&mut server, &Ask::select(KNOWN, Ipv4Addr::new(10, 7, 0, 51)), NOW).only().kind(),
        MessageType::Nak
    );
    let nothing = Ask::new(KNOWN, MessageType::Request).option(DhcpOption::ServerIdentifier(SERVER));
    assert!(send(&mut server, &nothing, NOW).answers.is_empty());
    assert!(send(&mut server, &Ask::new(KNOWN, MessageType::Request), NOW).answers.is_empty());
}

/// 4.3.3: "If the server receives a DHCPDECLINE message, the client has discovered through some other means
/// that the suggested network address is already in use. The server MUST mark the network address as not
/// available".
#[test]
fn a_declined_address_is_not_offered_again() {
    let mut server = server(&plan());
    let address = lease(&mut server, STRANGER, NOW);
    let decline = Ask::new(STRANGER, MessageType::Decline)
        .option(DhcpOption::RequestedIpAddress(address))
        .option(DhcpOption::ServerIdentifier(SERVER));
    let declined = send(&mut server, &decline, NOW);
    assert_eq!(
        (declined.answers.len(), declined.moments(), &declined.gone[..]),
        (0, vec![DhcpMoment::Declined], &[STRANGER][..])
    );
    assert_ne!(lease(&mut server, STRANGER, NOW), address);
    let wish =
        |last| Ask::discover(Mac([2, 0, 0, 0, 0, last])).option(DhcpOption::RequestedIpAddress(address));
    assert_ne!(send(&mut server, &wish(5), NOW).only().message.yiaddr(), address);
    assert_eq!(send(&mut server, &wish(6), later(7200)).only().message.yiaddr(), address, "in the end it is");
}

/// 4.3.4: "Upon receipt of a DHCPRELEASE message, the server marks the network address as not allocated."
#[test]
fn a_released_address_is_free() {
    let mut server = server(&plan());
    let address = lease(&mut server, STRANGER, NOW);
    let release = |mac| {
        Ask::new(mac, MessageType::Release).having(address).option(DhcpOption::ServerIdentifier(SERVER))
    };
    assert!(send(&mut server, &release(KNOWN), NOW).facts.is_empty(), "not its own");
    let released = send(&mut server, &release(STRANGER), NOW);
    assert_eq!(
        (released.answers.len(), released.moments(), &released.gone[..]),
        (0, vec![DhcpMoment::Released], &[STRANGER][..])
    );
    assert!(send(&mut server, &release(STRANGER), NOW).facts.is_empty(), "once");
    assert!(server.leases(NOW).is_empty());
}

/// 4.3.5: "The server responds to a DHCPINFORM message by sending a DHCPACK message directly to the address
/// given in the 'ciaddr' field […] The server MUST NOT send a lease expiration time to the client and SHOULD NOT
/// fill in 'yiaddr'."
#[test]
fn an_inform_is_answered_without_a_lease() {
    let mut server = server(&plan());
    let address = Ipv4Addr::new(10, 7, 0, 77);
    let told = send(&mut server, &Ask::new(KNOWN, MessageType::Inform).having(address), NOW);
    let answer = told.only();
    assert_eq!((answer.kind(), answer.to), (MessageType::Ack, To::Frame(KNOWN, address)));
    assert_eq!(
        (answer.message.yiaddr(), answer.get(51), answer.get(58)),
        (Ipv4Addr::UNSPECIFIED, None, None)
    );
    assert!(answer.get(3).is_some() && told.leases.is_empty());
}

/// RFC 6842, 3: "If the 'client identifier' option is present in a message received from a client, the server
/// MUST return the 'client identifier' option, unaltered, in its response message."
#[test]
fn the_client_identifier_is_returned_unaltered() {
    let mut server = server(&plan());
    let id = vec![0xff, 1, 2, 3, 4, 0, 1];
    let ask = |ask: Ask| ask.option(DhcpOption::ClientIdentifier(id.clone()));
    for ask in
        [ask(Ask::discover(KNOWN)), ask(Ask::select(KNOWN, KNOWN_ADDRESS)), ask(Ask::reboot(KNOWN, SERVER))]
    {
        assert_eq!(
            send(&mut server, &ask, NOW).only().get(61),
            Some(&DhcpOption::ClientIdentifier(id.clone()))
        );
    }
}

#[test]
fn a_machine_keeps_its_address_whatever_identifier_its_present_program_shows() {
    let mut server = server(&plan());
    let address = lease(&mut server, STRANGER, NOW);
    let other = Ask::discover(STRANGER).option(DhcpOption::ClientIdentifier(vec![0xff, 1, 2, 3]));
    assert_eq!(send(&mut server, &other, NOW).only().message.yiaddr(), address);
}

/// RFC 951 and RFC 1542, 2.1: a message has at least 300 octets. RFC 2132, 9.10: the client's longest message.
#[test]
fn no_answer_is_shorter_than_300_octets_or_longer_than_the_client_takes() {
    let long = with(|network| {
        network.dns = (0..70).map(|i| Ipv4Addr::new(10, 8, 0, i)).collect();
        network.hosts[0].hostname = "n".repeat(63);
    });
    let mut server = server(&plan());
    assert!(send(&mut server, &Ask::discover(KNOWN), NOW).only().length >= 300);
    assert!(send(&mut server, &Ask::reboot(KNOWN, SERVER), NOW).only().length >= 300);
    server.handle_plan(&long, NOW);
    let short = send(&mut server, &Ask::discover(KNOWN), NOW);
    assert!(short.only().length <= 548, "{}", short.only().length);
    assert!(short.only().get(51).is_some() && short.only().get(6).is_none(), "what matters most is kept");
    let roomy = send(&mut server, &Ask::discover(KNOWN).option(DhcpOption::MaxMessageSize(1500)), NOW);
    assert!(roomy.only().length > 548 && roomy.only().get(6).is_some());
    let liar = send(&mut server, &Ask::discover(KNOWN).option(DhcpOption::MaxMessageSize(20)), NOW);
    assert!((300..=548).contains(&liar.only().length));
}

#[test]
fn an_entry_that_comes_moves_or_goes_takes_effect_at_the_next_renewal() {
    let mut server = server(&plan());
    let address = lease(&mut server, STRANGER, NOW);
    server.handle_plan(&with(|network| network.hosts[0].address = address), NOW);
    assert_eq!(
        send(&mut server, &Ask::renew(STRANGER, address), NOW).only().kind(),
        MessageType::Nak,
        "reserved by now"
    );
    assert_eq!(lease(&mut server, KNOWN, NOW), address);
    assert_ne!(lease(&mut server, STRANGER, NOW), address);
    server.handle_plan(&with(|network| network.hosts.clear()), NOW);
    server.handle_plan(
        &with(|network| {
            network.hosts.clear();
            network.pool = None;
        }),
        NOW,
    );
    assert_eq!(send(&mut server, &Ask::renew(KNOWN, address), NOW).only().kind(), MessageType::Nak);
}

#[test]
fn what_was_given_outlives_a_restart_and_is_told_again() {
    let mut server = server(&plan());
    let address = lease(&mut server, STRANGER, NOW);
    lease(&mut server, KNOWN, NOW);
    let leases = server.leases(later(10));
    assert_eq!(leases.len(), 2);
    let mut again = Server::new();
    again.handle_restored(leases.clone(), later(20));
    again.handle_plan(&plan(), later(20));
    again.handle_link(NETWORK, Some(SERVER_MAC), later(20));
    assert_eq!(settle(&mut again).moments(), [DhcpMoment::Bound; 2]);
    assert_eq!(send(&mut again, &Ask::renew(STRANGER, address), later(30)).only().kind(), MessageType::Ack);
    let mut too_late = Server::new();
    too_late.handle_restored(leases, later(4000));
    assert!(settle(&mut too_late).facts.is_empty());
}

#[test]
fn where_somebody_else_serves_we_only_look() {
    let mut server = server(&with(|network| network.service = DhcpService::Watch));
    let seen = send(&mut server, &Ask::discover(KNOWN), NOW);
    assert_eq!((seen.answers.len(), seen.moments()), (0, vec![DhcpMoment::Ignored]));
    for ask in [Ask::discover(STRANGER), Ask::reboot(STRANGER, Ipv4Addr::new(1, 2, 3, 4))] {
        let nothing = send(&mut server, &ask, NOW);
        assert!(nothing.answers.is_empty() && nothing.facts.is_empty());
    }
    let no = send(&mut server, &Ask::renew(KNOWN, Ipv4Addr::new(1, 2, 3, 4)), NOW);
    assert!(no.answers.is_empty(), "not even no");
}

#[test]
fn without_its_interface_a_network_sends_nothing() {
    let mut server = server(&plan());
    server.handle_link(NETWORK, None, NOW);
    assert!(send(&mut server, &Ask::discover(KNOWN), NOW).answers.is_empty());
}
