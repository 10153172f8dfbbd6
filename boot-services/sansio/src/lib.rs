//! The shape of an engine, and the weather to try it in.
//!
//! An engine is a value. What comes from outside goes in by `handle_*` (a datagram, bytes, a read
//! result, a timeout); what goes out is asked for by `poll_*` (a transmit, a deadline, an event).
//! Nothing in an engine owns a socket, a file, a task or a clock: every `handle_*` takes `now: Time`.
//!
//! The driver's part is always the same: hand in what arrived, poll until nothing comes, sleep until
//! the deadline or the next arrival. `poll_timeout` gives the only moment at which an engine wants to
//! be called again; calling earlier does no harm.
//!
//! This crate knows nothing of any protocol.

pub mod sim;
mod time;

pub use time::Time;
