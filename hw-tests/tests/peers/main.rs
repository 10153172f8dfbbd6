//! Our ends against other people's.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod dhcp;
mod http;
mod image;
mod ipmi;
mod iscsi;
mod netboot;
mod switch;
mod tftp;
mod wire;
