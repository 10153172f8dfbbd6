//! A TFTP server that only reads: the first boot file for firmware that speaks no HTTP.
//!
//! | standard | what |
//! |---|---|
//! | RFC 1350 | read requests, octet and netascii; ERROR ends a transfer |
//! | RFC 2347, 2348, 2349 | option negotiation, blksize, tsize, timeout |
//! | RFC 7440 | windowsize |
//! | block numbers | wrap from 65535 to 0, as all clients of files over 32 MiB expect |
//! | not done | write requests (refused), mail mode, multicast (RFC 2090) |
//!
//! ```text
//!   client                      server, a port of its own for each transfer
//!     │ RRQ name, options ───────► │ port 69: Server decides
//!     │ ◄─────── OACK, or DATA 1   │ Transfer: a window of blocks,
//!     │ ACK 0, or ACK 1 ─────────► │ again when its ACK does not come
//!     │ ◄──────────────── DATA …   │
//! ```
//!
//! Files are those of the plan, by name; there is no directory that a name could leave.
//!
//! A block has at most [`MOST_BLOCK`] octets, whatever is asked for: that is one Ethernet frame. ROMs ask for
//! 1432 or 1468; larger datagrams would be fragments, and many ROMs cannot put those together.
//!
//! This crate knows nothing of sockets, files or clocks.

mod codec;
mod engine;
mod netascii;
mod server;

pub use codec::{Mode, Packet, Request, ack, data, error, option_ack, parse, read_request};
pub use engine::{Event, MOST_BLOCK, MOST_WINDOW, Read, Transfer};
pub use server::{Server, TransferId, Verdict};
