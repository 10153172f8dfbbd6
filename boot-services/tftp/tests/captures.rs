//! What real firmware sent, replayed; the files are named after model and version.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use sansio::Time;
use tftp::{Packet, Transfer, option_ack, parse};

/// OVMF asks for the size and stops; then it asks again without.
#[test]
fn ovmf_is_granted_what_it_asks_for() {
    let granted = |bytes| {
        let Some(Packet::ReadRequest(request)) = parse(bytes) else { panic!() };
        assert_eq!(request.name, "snponly.efi");
        Transfer::new(&request, 173_792, Time::ZERO).poll_transmit().unwrap()
    };
    let size = granted(include_bytes!("captures/ovmf-2022.11-rrq-1.bin"));
    assert_eq!(size, option_ack(&[("tsize", 173_792), ("blksize", 1468), ("windowsize", 4)]));
    let fetch = granted(include_bytes!("captures/ovmf-2022.11-rrq-2.bin"));
    assert_eq!(fetch, option_ack(&[("blksize", 1468), ("windowsize", 4)]));
}
