//! A DHCPv4 client (RFC 2131) as an engine: datagrams and time in, datagrams and leases out.
//!
//! The address is not probed by ARP before it is used, and not declined: a deploy network's addresses are
//! the appliance's to give.

mod message;

use boot::{Mac, Prefix};
use message::{Code, Kind, Message};
use sansio::Time;
use std::{net::Ipv4Addr, time::Duration};

/// The first answer is awaited so long, doubled up to [`LONGEST`]: shorter than RFC 2131, 4.1 has it, for
/// the first question is often lost in a switch port that is not forwarding yet.
const FIRST: Duration = Duration::from_millis(300);
const LONGEST: Duration = Duration::from_secs(16);
/// An offer is asked for so many times before it is forgotten.
const REQUESTS: u32 = 4;
/// "down to a minimum of 60 seconds, before retransmission" (RFC 2131, 4.4.5).
const RENEWAL: Duration = Duration::from_secs(60);
/// Leases that are shorter are kept for so long.
const SHORTEST: u32 = 10;
/// Who we are, in option 60.
const VENDOR_CLASS: &[u8] = b"kiln-agent";

/// What a lease gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    /// The address and its network.
    pub(crate) address: Prefix,
    /// The first router.
    pub(crate) router: Option<Ipv4Addr>,
    /// Octets of a packet.
    pub(crate) mtu: Option<u16>,
    /// Who gave it.
    pub(crate) server: Ipv4Addr,
}

/// What happened to the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// There is one; also when it is renewed with another content.
    Bound(Lease),
    /// It is over and must not be used any more.
    Lost(Lease),
}

/// A datagram to be sent from port 68 to port 67.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transmit {
    pub(crate) to: Ipv4Addr,
    pub(crate) octets: Vec<u8>,
}

/// The client of one interface.
pub(crate) struct Client {
    mac: Mac,
    seed: u32,
    exchanges: u32,
    began: Time,
    state: State,
    /// When to send again.
    next: Time,
    /// Sent since the state began.
    sent: u32,
    event: Option<Event>,
}

#[derive(Clone)]
enum State {
    Selecting,
    Requesting { address: Ipv4Addr, server: Ipv4Addr },
    Bound { lease: Lease, rebind: Time, expire: Time },
}

impl Client {
    /// One that asks at once. `seed` is any number, another for every client.
    pub(crate) fn new(mac: Mac, seed: u32, now: Time) -> Client {
        Client {
            mac,
            seed,
            exchanges: 0,
            began: now,
            state: State::Selecting,
            next: now,
            sent: 0,
            event: None,
        }
    }

    /// When [`Client::poll_transmit`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Time {
        match &self.state {
            State::Bound { expire, .. } => self.next.min(*expire),
            _ => self.next,
        }
    }

    /// What happened.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.event.take()
    }

    /// What is to be sent now.
    pub(crate) fn poll_transmit(&mut self, now: Time) -> Option<Transmit> {
        if let State::Bound { expire, lease, .. } = &self.state
            && now >= *expire
        {
            self.event = Some(Event::Lost(lease.clone()));
            self.start(now);
        }
        if now < self.next {
            return None;
        }
        let transmit = match self.state.clone() {
            State::Selecting => {
                let transmit = self.message(now, Kind::DISCOVER, None, &[]);
                self.next = now + self.pause();
                transmit
            }
            State::Requesting { .. } if self.sent >= REQUESTS => {
                self.start(now);
                return self.poll_transmit(now);
            }
            State::Requesting { address, server } => {
                let asked = [(Code::REQUESTED_ADDRESS, address), (Code::SERVER_IDENTIFIER, server)];
                let transmit = self.message(now, Kind::REQUEST, None, &asked);
                self.next = now + self.pause();
                transmit
            }
            State::Bound { lease, rebind, expire, .. } => {
                if self.sent == 0 {
                    self.exchanges += 1;
                    self.began = now;
                }
                // "one-half of the remaining time until T2 (in RENEWING state) and one-half of the remaining
                // lease time (in REBINDING state)" (RFC 2131, 4.4.5); at T2 the broadcasts begin.
                let (to, until) =
                    if now < rebind { (lease.server, rebind) } else { (Ipv4Addr::BROADCAST, expire) };
                let transmit = self.message(now, Kind::REQUEST, Some(lease.address.address), &[]);
                self.next = (now + (until.since(now) / 2).max(RENEWAL)).min(until);
                Transmit { to, ..transmit }
            }
        };
        self.sent += 1;
        Some(transmit)
    }

    /// A datagram came from port 67.
    pub(crate) fn handle_datagram(&mut self, now: Time, octets: &[u8]) {
        let Some(message) = Message::decode(octets) else { return };
        if !message.is_reply || message.xid != self.xid() || message.mac != self.mac {
            return;
        }
        let server = message.address(Code::SERVER_IDENTIFIER);
        let offered = message.yiaddr;
        let is_usable = !offered.is_unspecified()
            && !offered.is_broadcast()
            && !offered.is_multicast()
            && !offered.is_loopback();
        match (&self.state, message.kind(), server) {
            (State::Selecting, Some(Kind::OFFER), Some(server)) if is_usable => {
                self.state = State::Requesting { address: offered, server };
                (self.next, self.sent) = (now, 0);
            }
            (State::Requesting { address, server: asked }, Some(Kind::ACK), Some(server))
                if offered == *address && server == *asked =>
            {
                self.bind(now, offered, server, &message, None);
            }
            (State::Bound { lease, .. }, Some(Kind::ACK), _)
                if self.sent > 0 && offered == lease.address.address =>
            {
                let lease = lease.clone();
                self.bind(now, offered, server.unwrap_or(lease.server), &message, Some(lease));
            }
            (State::Requesting { server: asked, .. }, Some(Kind::NAK), Some(server)) if server == *asked => {
                self.start(now);
            }
            (State::Bound { lease, .. }, Some(Kind::NAK), _) if self.sent > 0 => {
                self.event = Some(Event::Lost(lease.clone()));
                self.start(now);
            }
            _ => {}
        }
    }

    fn start(&mut self, now: Time) {
        self.state = State::Selecting;
        self.exchanges += 1;
        (self.began, self.next, self.sent) = (now, now, 0);
    }

    fn bind(&mut self, now: Time, address: Ipv4Addr, server: Ipv4Addr, ack: &Message, old: Option<Lease>) {
        // A mask with holes is cut at the first.
        let length = ack.address(Code::SUBNET_MASK).map_or(24, |mask| mask.to_bits().leading_ones() as u8);
        let lease = Lease {
            address: Prefix { address, length },
            router: ack.address(Code::ROUTER),
            // 576 is what every host must accept (RFC 791, 3.1).
            mtu: ack.short(Code::INTERFACE_MTU).filter(|mtu| *mtu >= 576),
            server,
        };
        // RFC 2131, 4.3.1: a DHCPACK must have a lease time; without one, an hour is as good as any.
        let total = ack.seconds(Code::LEASE_TIME).unwrap_or(3600).max(SHORTEST);
        // "T1 defaults to (0.5 * duration_of_lease). T2 defaults to (0.875 * duration_of_lease)" (4.4.5).
        let eighths = |count| (u64::from(total) * count / 8) as u32;
        let second =
            ack.seconds(Code::REBINDING_TIME).filter(|t2| *t2 < total && *t2 > 0).unwrap_or(eighths(7));
        let first = ack
            .seconds(Code::RENEWAL_TIME)
            .filter(|t1| *t1 <= second && *t1 > 0)
            .unwrap_or(eighths(4).min(second));
        // 0xffffffff is for ever (RFC 2131, 3.3): 136 years are.
        let after = |seconds: u32| now + Duration::from_secs(u64::from(seconds));
        if old.as_ref() != Some(&lease) {
            self.event = Some(Event::Bound(lease.clone()));
        }
        self.state = State::Bound { lease, rebind: after(second), expire: after(total) };
        (self.next, self.sent) = (after(first), 0);
    }

    /// The transaction: the same for a DHCPDISCOVER and the DHCPREQUEST that follows (RFC 2131, 4.4.1).
    fn xid(&self) -> u32 {
        self.seed ^ self.exchanges.wrapping_mul(0x9e37_79b9)
    }

    /// The time to wait for an answer; a little of it differs between clients that were started at once.
    fn pause(&self) -> Duration {
        let jitter = Duration::from_millis(u64::from(self.seed.wrapping_mul(self.sent + 1) % 250));
        FIRST.saturating_mul(1 << self.sent.min(6)).min(LONGEST) + jitter
    }

    fn message(&self, now: Time, kind: Kind, own: Option<Ipv4Addr>, asked: &[(Code, Ipv4Addr)]) -> Transmit {
        let wanted = [
            Code::SUBNET_MASK,
            Code::ROUTER,
            Code::INTERFACE_MTU,
            Code::LEASE_TIME,
            Code::SERVER_IDENTIFIER,
            Code::RENEWAL_TIME,
            Code::REBINDING_TIME,
        ];
        let options = [
            (Code::MESSAGE_TYPE, vec![kind.0]),
            (Code::CLASS_IDENTIFIER, VENDOR_CLASS.to_vec()),
            (Code::PARAMETER_REQUEST_LIST, wanted.map(|code| code.0).to_vec()),
        ];
        let asked = asked.iter().map(|(code, address)| (*code, address.octets().to_vec()));
        let message = Message {
            is_reply: false,
            xid: self.xid(),
            secs: now.since(self.began).as_secs().min(u64::from(u16::MAX)) as u16,
            // Without an address we do not hear what is sent to it (RFC 2131, 4.1).
            broadcast: own.is_none(),
            ciaddr: own.unwrap_or(Ipv4Addr::UNSPECIFIED),
            yiaddr: Ipv4Addr::UNSPECIFIED,
            mac: self.mac,
            options: options.into_iter().chain(asked).collect(),
        };
        Transmit { to: Ipv4Addr::BROADCAST, octets: message.encode() }
    }
}

#[cfg(test)]
mod tests;
