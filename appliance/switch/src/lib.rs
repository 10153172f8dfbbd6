//! Which VLAN a port is in: put it there, read it back.
//!
//! ```text
//!   plan ──► keeper ──► set ──► driver ──► switch         a wish is a level: look, set what differs,
//!   facts ◄── keeper ◄── look ◄── driver ◄── switch       look again, for as long as the wish stands
//! ```
//!
//! | driver | standard | looks | in force is |
//! |---|---|---|---|
//! | [`ovsdb`] | RFC 7047 over TCP and Unix sockets | is told of changes | acknowledged by ovs-vswitchd |
//! | [`double`] | none: in memory | is told of changes | as it is told to say |
//!
//! Done of RFC 7047: `transact`, `monitor`, `update`, `echo` both ways. Not: TLS, `lock`, `cancel`,
//! `get_schema`, and `monitor_cond`, which spares a server rows of other ports that cost nothing here.
//!
//! A port is never touched unless a wish names it. This crate knows nothing of nodes, of networks or of
//! why a port should be where it should be.
//!
//! *Rejected*: waiting on the old value of a port in the transaction that changes it (a wish is a level,
//! and whoever changed the port meanwhile is overruled either way); a lock on the database, which would
//! keep ovs-vswitchd from its own.

mod driver;
mod error;
mod hand;
mod keeper;

pub mod double;
pub mod ovsdb;

pub use driver::{Did, Order, Seen, Standing, Switch};
pub use error::{Error, Refusal};
pub use hand::{run, run_with};
