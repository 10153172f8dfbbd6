//! A DHCPv4 server for machines that boot from the network: who gets which address and which file.
//!
//! | standard | what |
//! |---|---|
//! | RFC 2131 | DISCOVER, REQUEST in all states, DECLINE, RELEASE, INFORM; authoritative for its networks |
//! | RFC 2132, 3396, 6842 | options, split ones, overload; the client identifier is returned |
//! | RFC 3046, 3527 | relays: option 82 echoed, link selection |
//! | RFC 4578, PXE 2.1 | the architecture decides the file; no boot server discovery |
//! | UEFI 2.10, 24.7 | HTTP boot |
//! | RFC 4861 | router advertisements that offer nothing |
//! | not done | rapid commit, leasequery, clients without an Ethernet address, BOOTP, DHCPv6 |
//!
//! ```text
//!   machine                        server                        driver
//!     │ DISCOVER ─────────────────► │
//!     │ ◄───────────────────  OFFER │  address, and the file its firmware can boot
//!     │ REQUEST ──────────────────► │ ── Store(ticket, lease) ──►  on disk
//!     │ ◄─────────────────────  ACK │ ◄── handle_stored(ticket) ──
//! ```
//!
//! A client is known by its MAC alone. RFC 2131, 4.2, prefers the client identifier, but a machine that boots
//! from the network shows three of them within a minute (the ROM's, iPXE's, the system's), and each would take
//! an address of the pool.
//!
//! An address is not probed before it is offered (RFC 2131, 3.1, a SHOULD): iPXE and PXE ROMs would wait the
//! second that it takes. Instead ARP is listened to all the time, and an address that a stranger uses is not
//! offered for ten minutes.
//!
//! A router advertisement is sent where the plan wants it, because iPXE looks for IPv6 routers while it asks for
//! an IPv4 address, and waits for both. One with a lifetime of zero and no prefix ends that: nobody takes us for
//! a router, or makes an address. Tried with Debian's iPXE of 2019: from DISCOVER to its script it takes 16.1 s
//! without the advertisement and without no-pxedhcp (option 175.176), and 0.1 s with both.
//!
//! This crate knows nothing of sockets, files, clocks, nor of what the files are.

mod choice;
mod codec;
mod engine;
mod exchange;
mod frame;
mod lease;
mod network;

pub use choice::{Dress, architecture, dress};
pub use codec::{MessageType, Request, parse};
pub use engine::{Event, Server, Ticket, Transmit, key};
pub use lease::Lease;
