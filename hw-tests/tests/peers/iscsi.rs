//! Our iSCSI target before other people's initiators and their test suite. The reference is tgt, and istgt
//! beside it.

mod conformance;
mod initiators;
mod suite;

use crate::wire::Wire;
use hw_tests::targets::{Make, Offer, Target};
use std::net::{Ipv4Addr, SocketAddrV4};

const MIB: u64 = 1 << 20;

/// An offer on the loopback of the server's place; what is left of a target that was there is removed.
fn offer(wire: &Wire, name: &str, port: u16, size: u64) -> Offer {
    Offer::new(&wire.directory.join(name), SocketAddrV4::new(Ipv4Addr::LOCALHOST, port), size)
}

fn start(offer: &Offer, make: Make) -> Target {
    offer.clone().start(make).unwrap_or_else(|error| panic!("{error:#}"))
}
