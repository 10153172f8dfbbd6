//! Interfaces: up, an address, a route, by rtnetlink.

use boot::Prefix;
use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
            setsockopt, socket, sockopt::ReceiveTimeout,
        },
        time::{TimeVal, TimeValLike},
    },
};
use std::{
    net::Ipv4Addr,
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

// linux/rtnetlink.h, linux/netlink.h, linux/if.h, linux/if_addr.h
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;
const RTMGRP_LINK: u32 = 1;
const IFF_UP: u32 = 1;
const IFLA_MTU: u16 = 4;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const AF_INET: u8 = 2;
/// The kernel answers at once; a message of its is not longer than this.
const ANSWER: Duration = Duration::from_secs(5);
const HEAD: usize = 16;

/// A socket to the kernel's routing.
pub(crate) struct Routing {
    fd: OwnedFd,
    sequence: u32,
}

impl Routing {
    /// Opens one.
    pub(crate) fn open() -> nix::Result<Routing> {
        Ok(Routing { fd: netlink(0, ANSWER)?, sequence: 0 })
    }

    /// Sets an interface up.
    pub(crate) fn set_up(&mut self, index: u32) -> nix::Result<()> {
        self.request(RTM_NEWLINK, 0, &link(index, IFF_UP))
    }

    /// Sets an interface's MTU.
    pub(crate) fn set_mtu(&mut self, index: u32, mtu: u16) -> nix::Result<()> {
        let mut body = link(index, 0);
        attribute(&mut body, IFLA_MTU, &u32::from(mtu).to_ne_bytes());
        self.request(RTM_NEWLINK, 0, &body)
    }

    /// Gives an interface an address; it may have it already.
    pub(crate) fn add_address(&mut self, index: u32, address: Prefix) -> nix::Result<()> {
        self.request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &addressed(index, address))
    }

    /// Takes an address from an interface.
    pub(crate) fn remove_address(&mut self, index: u32, address: Prefix) -> nix::Result<()> {
        self.request(RTM_DELADDR, 0, &addressed(index, address))
    }

    /// Sends what is for no network of ours to a router; of several interfaces' the lowest index counts.
    pub(crate) fn add_default_route(&mut self, index: u32, router: Ipv4Addr) -> nix::Result<()> {
        // struct rtmsg: family, lengths of destination and source, TOS, table main, protocol dhcp, scope
        // universe, type unicast, flags.
        let mut body = vec![AF_INET, 0, 0, 0, 254, 16, 0, 1, 0, 0, 0, 0];
        attribute(&mut body, RTA_GATEWAY, &router.octets());
        attribute(&mut body, RTA_OIF, &index.to_ne_bytes());
        attribute(&mut body, RTA_PRIORITY, &(100 + index).to_ne_bytes());
        self.request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &body)
    }

    fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> nix::Result<()> {
        self.sequence += 1;
        let message = message(kind, flags | NLM_F_REQUEST | NLM_F_ACK, self.sequence, body);
        send(self.fd.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut buffer = [0; 8192];
        loop {
            let length = recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            if let Some(code) = answer(&buffer[..length], self.sequence) {
                return if code == 0 { Ok(()) } else { Err(Errno::from_raw(code.saturating_neg())) };
            }
        }
    }
}

/// News of interfaces that come, go, and find or lose their carrier.
pub(crate) struct Monitor(OwnedFd);

impl Monitor {
    /// Listens from now on.
    pub(crate) fn open() -> nix::Result<Monitor> {
        netlink(RTMGRP_LINK, ANSWER).map(Monitor)
    }

    /// Waits for news, or so long. What the news are must be looked up: some may be lost.
    pub(crate) fn wait(&self, longest: Duration) {
        let millis = longest.as_millis().clamp(1, 60_000) as i64;
        if setsockopt(&self.0, ReceiveTimeout, &TimeVal::milliseconds(millis)).is_err() {
            return;
        }
        let mut buffer = [0; 8192];
        // Errors, a time-out among them, mean the same as news: look.
        let _ = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty());
    }
}

fn netlink(groups: u32, timeout: Duration) -> nix::Result<OwnedFd> {
    let kind = SockProtocol::NetlinkRoute;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, kind)?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    setsockopt(&fd, ReceiveTimeout, &TimeVal::milliseconds(timeout.as_millis() as i64))?;
    Ok(fd)
}

/// struct nlmsghdr: length, type, flags, sequence, port.
fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut message = ((HEAD + body.len()) as u32).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend(0u32.to_ne_bytes());
    message.extend(body);
    message
}

/// struct ifinfomsg: family, pad, type, index, flags, change.
fn link(index: u32, flags: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(index.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    body
}

/// struct ifaddrmsg: family, prefix length, flags, scope, index.
fn addressed(index: u32, address: Prefix) -> Vec<u8> {
    let mut body = vec![AF_INET, address.length, 0, 0];
    body.extend(index.to_ne_bytes());
    attribute(&mut body, IFA_LOCAL, &address.address.octets());
    attribute(&mut body, IFA_ADDRESS, &address.address.octets());
    attribute(&mut body, IFA_BROADCAST, &address.broadcast().octets());
    body
}

/// struct rtattr: length, type, value, filled up to four octets.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend((4 + value.len() as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// The error code (zero or negative) of the kernel's answer to a request.
fn answer(datagram: &[u8], sequence: u32) -> Option<i32> {
    let number = |at: usize| Some(u32::from_ne_bytes(datagram.get(at..at + 4)?.try_into().ok()?));
    let kind = u16::from_ne_bytes(datagram.get(4..6)?.try_into().ok()?);
    (kind == NLMSG_ERROR && number(8)? == sequence).then_some(number(HEAD)? as i32)
}

#[cfg(test)]
mod tests;
