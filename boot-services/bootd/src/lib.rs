//! The sockets and timers around the engines: each module of the name of an engine is the loop around it.
//!
//! A hand is made of three: its engine (a value), its loop (here), and its [`desk`], which brings plans and
//! takes facts. This crate decides nothing of any protocol.

pub mod clock;
pub mod desk;
pub mod dhcp;
pub mod held;
pub mod http;
pub mod iscsi;
pub mod library;
pub mod logging;
pub mod notify;
pub mod tftp;
pub mod volumes;
