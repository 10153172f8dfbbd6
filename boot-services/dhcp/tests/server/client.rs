//! A rack's networks, and what clients send.

use boot::{Attempt, Boot, DhcpFact, DhcpHost, DhcpMoment, DhcpNetwork, DhcpPlan, DhcpService, Mac, Pool};
use dhcp::{Event, Lease, Server, Transmit};
use dhcproto::{
    Decodable as _, Encodable as _,
    v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode, UnknownOption},
};
use sansio::Time;
use std::net::{Ipv4Addr, SocketAddrV4};

pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
pub(crate) const SERVER_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
pub(crate) const KNOWN: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
pub(crate) const KNOWN_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 50);
pub(crate) const STRANGER: Mac = Mac([0x52, 0x54, 0, 0, 0, 0x99]);
pub(crate) const NETWORK: &str = "provisioning";

pub(crate) fn boot() -> Boot {
    Boot {
        bios: "undionly.kpxe".to_owned(),
        uefi_x64: "snponly.efi".to_owned(),
        uefi_arm64: None,
        http_x64: "http://10.7.0.1/snponly.efi".to_owned(),
        http_arm64: None,
        ipxe: "http://10.7.0.1/boot/n1-4-2".to_owned(),
    }
}

pub(crate) fn attempt() -> Attempt {
    "n1-4-2".parse().unwrap()
}

pub(crate) fn plan() -> DhcpPlan {
    let host = DhcpHost {
        mac: KNOWN,
        address: KNOWN_ADDRESS,
        hostname: "n1".to_owned(),
        boot: Some(boot()),
        attempt: Some(attempt()),
    };
    let network = DhcpNetwork {
        name: NETWORK.to_owned(),
        device: "p0".parse().unwrap(),
        address: "10.7.0.1/24".parse().unwrap(),
        service: DhcpService::Full,
        pool: Some(Pool { first: Ipv4Addr::new(10, 7, 0, 100), last: Ipv4Addr::new(10, 7, 0, 119) }),
        router: Some(Ipv4Addr::new(10, 7, 0, 254)),
        dns: vec![Ipv4Addr::new(10, 7, 0, 253)],
        lease_seconds: 3600,
        router_advertisements: false,
        boot: Some(Boot { ipxe: "http://10.7.0.1/hold".to_owned(), ..boot() }),
        hosts: vec![host],
    };
    DhcpPlan { networks: vec![network] }
}

pub(crate) fn with(change: impl FnOnce(&mut DhcpNetwork)) -> DhcpPlan {
    let mut plan = plan();
    change(&mut plan.networks[0]);
    plan
}

pub(crate) fn server(plan: &DhcpPlan) -> Server {
    let mut server = Server::new();
    server.handle_plan(plan, Time::ZERO);
    for network in &plan.networks {
        server.handle_link(&network.name, Some(SERVER_MAC), Time::ZERO);
    }
    server
}

/// A message to be sent by a client.
#[derive(Clone, Debug)]
pub(crate) struct Ask(Message, Option<Vec<u8>>);

impl Ask {
    pub(crate) fn new(mac: Mac, kind: MessageType) -> Ask {
        let zero = Ipv4Addr::UNSPECIFIED;
        let mut message = Message::new_with_id(0x1234_5678, zero, zero, zero, zero, &mac.0);
        message.set_opcode(Opcode::BootRequest);
        Ask(message, None).option(DhcpOption::MessageType(kind))
    }

    pub(crate) fn discover(mac: Mac) -> Ask {
        Ask::new(mac, MessageType::Discover)
    }

    /// In SELECTING state.
    pub(crate) fn select(mac: Mac, address: Ipv4Addr) -> Ask {
        Ask::reboot(mac, address).option(DhcpOption::ServerIdentifier(SERVER))
    }

    /// In INIT-REBOOT state.
    pub(crate) fn reboot(mac: Mac, address: Ipv4Addr) -> Ask {
        Ask::new(mac, MessageType::Request).option(DhcpOption::RequestedIpAddress(address))
    }

    /// In RENEWING or REBINDING state.
    pub(crate) fn renew(mac: Mac, address: Ipv4Addr) -> Ask {
        Ask::new(mac, MessageType::Request).having(address)
    }

    pub(crate) fn option(mut self, option: DhcpOption) -> Ask {
        self.0.opts_mut().insert(option);
        self
    }

    pub(crate) fn raw(self, code: u8, octets: &[u8]) -> Ask {
        self.option(DhcpOption::Unknown(UnknownOption::new(OptionCode::from(code), octets.to_vec())))
    }

    /// Option 82, which dhcproto would write twice if it came as `raw`.
    pub(crate) fn information(mut self, octets: &[u8]) -> Ask {
        self.1 = Some(octets.to_vec());
        self
    }

    pub(crate) fn having(mut self, ciaddr: Ipv4Addr) -> Ask {
        self.0.set_ciaddr(ciaddr);
        self
    }

    pub(crate) fn relayed(mut self, giaddr: Ipv4Addr) -> Ask {
        self.0.set_giaddr(giaddr);
        self
    }

    pub(crate) fn broadcast(mut self) -> Ask {
        self.0.set_flags(Flags::default().set_broadcast());
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.0.to_vec().unwrap();
        if let Some(information) = &self.1 {
            assert_eq!(bytes.pop(), Some(255));
            bytes.extend([82, information.len() as u8]);
            bytes.extend(information);
            bytes.push(255);
        }
        bytes
    }
}

/// An answer, and where it went.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) message: Message,
    /// The length of the message in octets.
    pub(crate) length: usize,
    pub(crate) to: To,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Frame(Mac, Ipv4Addr),
    Datagram(SocketAddrV4),
}

impl Answer {
    pub(crate) fn of(transmit: &Transmit) -> Answer {
        let answer = Answer::unchecked(transmit);
        assert_eq!(answer.message.xid(), 0x1234_5678);
        answer
    }

    /// To a request that is not an [`Ask`].
    pub(crate) fn unchecked(transmit: &Transmit) -> Answer {
        let (to, payload) = match transmit {
            Transmit::Datagram { to, payload, .. } => (To::Datagram(*to), &payload[..]),
            Transmit::Frame { frame, .. } => {
                let mac = Mac(frame[..6].try_into().unwrap());
                assert_eq!(frame[6..12], SERVER_MAC.0);
                assert_eq!(frame[12..14], [8, 0]);
                assert_eq!(frame[34..38], [0, 67, 0, 68]);
                (To::Frame(mac, Ipv4Addr::new(frame[30], frame[31], frame[32], frame[33])), &frame[42..])
            }
        };
        let message = Message::from_bytes(payload).unwrap();
        assert_eq!(message.opcode(), Opcode::BootReply);
        Answer { message, length: payload.len(), to }
    }

    pub(crate) fn kind(&self) -> MessageType {
        self.message.opts().msg_type().unwrap()
    }

    pub(crate) fn get(&self, code: u8) -> Option<&DhcpOption> {
        self.message.opts().get(OptionCode::from(code))
    }

    pub(crate) fn file(&self) -> Option<String> {
        let name = self.message.fname()?;
        let name = String::from_utf8(name.to_vec()).unwrap();
        Some(name.trim_end_matches('\0').to_owned())
    }
}

/// What came of one packet; leases are stored at once.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) answers: Vec<Answer>,
    pub(crate) facts: Vec<DhcpFact>,
    pub(crate) leases: Vec<Lease>,
    pub(crate) gone: Vec<Mac>,
}

impl Outcome {
    pub(crate) fn only(&self) -> &Answer {
        assert_eq!(self.answers.len(), 1, "{self:?}");
        &self.answers[0]
    }

    pub(crate) fn moments(&self) -> Vec<DhcpMoment> {
        let moment = |fact: &DhcpFact| match fact {
            DhcpFact::Client { moment, .. } => *moment,
            other => panic!("{other:?}"),
        };
        self.facts.iter().map(moment).collect()
    }
}

pub(crate) fn settle(server: &mut Server) -> Outcome {
    let mut outcome = Outcome::default();
    loop {
        outcome.answers.extend(core::iter::from_fn(|| server.poll_transmit()).map(|t| Answer::of(&t)));
        match server.poll_event() {
            Some(Event::Fact(fact)) => outcome.facts.push(fact),
            Some(Event::Store(ticket, lease)) => {
                outcome.leases.push(lease);
                server.handle_stored(ticket);
            }
            Some(Event::Gone { mac, .. }) => outcome.gone.push(mac),
            Some(Event::Forget { .. }) => {}
            None => return outcome,
        }
    }
}

pub(crate) fn send(server: &mut Server, ask: &Ask, now: Time) -> Outcome {
    server.handle_datagram(NETWORK, &ask.bytes(), now);
    settle(server)
}

/// DISCOVER to ACK; returns the address.
pub(crate) fn lease(server: &mut Server, mac: Mac, now: Time) -> Ipv4Addr {
    let offer = send(server, &Ask::discover(mac), now).only().message.yiaddr();
    let ack = send(server, &Ask::select(mac, offer), now);
    assert_eq!(ack.only().kind(), MessageType::Ack);
    offer
}
