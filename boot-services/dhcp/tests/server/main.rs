//! The server as its driver sees it: packets in, packets and events out.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod boot_files;
mod captures;
mod client;
mod hostile;
mod neighbours;
mod rfc2131;
mod weather;
