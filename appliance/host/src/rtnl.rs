//! The kernel's interfaces and addresses, by rtnetlink.

use crate::links::{Act, Link, first_name, prefix};
use boot::Prefix;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage, address::AddressMessage, link::LinkMessage};
use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily as Family, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv,
            send, setsockopt, socket, sockopt::ReceiveTimeout,
        },
        time::{TimeVal, TimeValLike},
    },
};
use std::{
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

/// The kernel answers at once.
const ANSWER: Duration = Duration::from_secs(5);
/// Group 1: interfaces that come, go, and find or lose their carrier.
const LINKS: u32 = 1;
const HEAD: usize = 16;

/// A socket to the kernel.
pub struct Rtnl {
    fd: OwnedFd,
    sequence: u32,
}

impl Rtnl {
    /// Opens one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> nix::Result<Rtnl> {
        Ok(Rtnl { fd: netlink(0)?, sequence: 0 })
    }

    /// The interfaces.
    ///
    /// # Errors
    /// The kernel's.
    pub fn links(&mut self) -> nix::Result<Vec<Link>> {
        let ask = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let told = self.ask(ask, NLM_F_DUMP)?;
        let links = told.iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(Link::read(link)),
            _ => None,
        });
        Ok(links.collect())
    }

    /// The IPv4 addresses, by the number of their interface.
    ///
    /// # Errors
    /// The kernel's.
    pub fn addresses(&mut self) -> nix::Result<Vec<(u32, Prefix)>> {
        let mut all = AddressMessage::default();
        all.header.family = AddressFamily::Inet;
        let told = self.ask(RouteNetlinkMessage::GetAddress(all), NLM_F_DUMP)?;
        let addresses = told.iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewAddress(address) => prefix(address),
            _ => None,
        });
        Ok(addresses.collect())
    }

    /// Does something.
    ///
    /// # Errors
    /// The kernel's; what is there already is none.
    pub fn act(&mut self, act: &Act) -> nix::Result<()> {
        let flags = if act.makes() { NLM_F_CREATE | NLM_F_EXCL } else { 0 };
        match self.request(act.message(), flags) {
            Err(Errno::EEXIST) if matches!(act, Act::AddAddress { .. }) => Ok(()),
            other => other,
        }?;
        let Act::Rename { index, from, .. } = act else { return Ok(()) };
        // The first name stays the first.
        let links = self.links()?;
        match links.iter().find(|link| link.index == *index) {
            Some(link) if link.first_name.is_none() => self.request(first_name(*index, from), 0),
            _ => Ok(()),
        }
    }

    /// Puts something in the place of what is there.
    ///
    /// # Errors
    /// The kernel's.
    pub fn replace(&mut self, message: RouteNetlinkMessage) -> nix::Result<()> {
        self.request(message, NLM_F_CREATE | NLM_F_REPLACE)
    }

    /// Asks for something to be done.
    ///
    /// # Errors
    /// The kernel's.
    pub fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> nix::Result<()> {
        self.ask(message, flags | NLM_F_ACK).map(drop)
    }

    fn ask(&mut self, message: RouteNetlinkMessage, flags: u16) -> nix::Result<Vec<RouteNetlinkMessage>> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = flags | NLM_F_REQUEST;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut octets = vec![0; message.buffer_len()];
        message.serialize(&mut octets);
        send(self.fd.as_raw_fd(), &octets, MsgFlags::empty())?;
        let mut buffer = vec![0; 1 << 16];
        let mut told = Vec::new();
        loop {
            let length = recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = &buffer[..length];
            while let Some(size) = rest.first_chunk::<4>().map(|octets| u32::from_ne_bytes(*octets) as usize)
            {
                if size < HEAD || size > rest.len() {
                    break;
                }
                let (one, after) = rest.split_at(size);
                rest = after.get(size.next_multiple_of(4) - size..).unwrap_or_default();
                // What this crate of messages does not understand is about nothing that is asked for here.
                let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(one) else { continue };
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok(told),
                    NetlinkPayload::Error(error) => {
                        return match error.raw_code() {
                            0 => Ok(told),
                            code => Err(Errno::from_raw(code.saturating_neg())),
                        };
                    }
                    NetlinkPayload::InnerMessage(inner) => told.push(inner),
                    _ => {}
                }
            }
        }
    }
}

/// News of interfaces.
pub struct News(OwnedFd);

impl News {
    /// Listens from now on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> nix::Result<News> {
        netlink(LINKS).map(News)
    }

    /// Waits for news, or so long. What they are must be looked up: some may be lost.
    pub fn wait(&self, longest: Duration) {
        let millis = longest.as_millis().clamp(1, 60_000) as i64;
        if setsockopt(&self.0, ReceiveTimeout, &TimeVal::milliseconds(millis)).is_ok() {
            // Errors, a time-out among them, mean the same as news: look.
            let _ = recv(self.0.as_raw_fd(), &mut [0; 8192], MsgFlags::empty());
        }
    }
}

fn netlink(groups: u32) -> nix::Result<OwnedFd> {
    let kind = SockProtocol::NetlinkRoute;
    let fd = socket(Family::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, kind)?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    setsockopt(&fd, ReceiveTimeout, &TimeVal::milliseconds(ANSWER.as_millis() as i64))?;
    Ok(fd)
}
