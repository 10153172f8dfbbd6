//! Our ends against other people's.

mod dhcp;
mod http;
mod image;
mod ipmi;
mod netboot;
mod switch;
mod tftp;
mod wire;
