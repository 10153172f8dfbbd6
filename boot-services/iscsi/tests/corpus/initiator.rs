//! Anything from a target, to somebody who wants something of it.

use bytes::Bytes;
use iscsi::{
    chap::Nonce,
    initiator::{Event, Initiator, Operation, Settings},
    keys::{Digest, Offer},
};
use sansio::{Time, sim::Dice};
use std::collections::BTreeSet;

pub(crate) fn settings(how: u8) -> Settings {
    let digest = |bit: u8| if how & bit == 0 { Digest::IfAsked } else { Digest::Preferred };
    let offer = Offer {
        header_digest: digest(4),
        data_digest: digest(8),
        immediate_data: how & 16 == 0,
        initial_r2t: how & 32 == 0,
        max_recv: 4096,
        ..Offer::default()
    };
    Settings { offer, tries: 3, ..Settings::new("iqn.2026-01.example:host", "iqn.2026-01.example:disk") }
}

/// What is wanted of the disk, whatever it is.
pub(crate) fn operations() -> [Operation; 6] {
    [
        Operation::Write { offset: 0, data: Bytes::from(vec![7; 8192]) },
        Operation::Read { offset: 8192, length: 1024 },
        Operation::Zero { offset: 4096, length: 20_480 },
        Operation::Unmap { offset: 0, length: 512 },
        Operation::Flush,
        Operation::Test,
    ]
}

/// The first octet is what is proposed, and how the others, the target's stream, are cut into pieces.
pub(crate) fn run(octets: &[u8]) {
    let Some((how, stream)) = octets.split_first() else { return };
    let mut now = Time::from_secs(1);
    let mut engine = Initiator::new(settings(*how), now);
    let mut dice = Dice::new(u64::from(*how));
    let (mut submitted, mut done) = (BTreeSet::new(), BTreeSet::new());
    let (mut rest, mut over) = (stream, false);
    // The stream goes on where it was on the next connection; when it is used up, there is none any more.
    for _ in 0..20_000 {
        while let Some(event) = engine.poll_event() {
            assert!(!over, "nothing follows the end");
            match event {
                Event::Connect if rest.is_empty() => engine.handle_disconnected("refused", now),
                Event::Connect => engine.handle_connected(Nonce([1; 33]), now),
                Event::Ready(disk) => assert!(disk.block_size >= 512 && disk.longest_transfer <= 4 << 20),
                Event::Done { id, .. } => assert!(done.insert(id), "told twice"),
                Event::Lost { .. } => {}
                Event::Over(_) => over = true,
            }
        }
        if over {
            break;
        }
        if submitted.is_empty() && engine.room() > 0 {
            submitted.extend(operations().into_iter().filter_map(|operation| engine.submit(operation).ok()));
            engine.log_out(now);
        }
        let mut sent = 0;
        while let Some(transmit) = engine.poll_transmit(now) {
            sent += transmit.length();
            assert!(sent < 64 << 20, "it sends without end");
        }
        if rest.is_empty() {
            let Some(at) = engine.poll_timeout() else { continue };
            now = now.max(at);
            engine.handle_timeout(now);
            continue;
        }
        let length = if how & 2 == 0 { rest.len() } else { 1 + dice.below(90) as usize };
        let (piece, after) = rest.split_at(length.min(rest.len()));
        rest = after;
        engine.handle_bytes(piece, now);
        if how & 1 == 1 && dice.below(8) == 0 {
            now = engine.poll_timeout().map_or(now, |at| at.max(now));
            engine.handle_timeout(now);
        }
    }
    assert!(over, "it goes on for ever");
    assert_eq!(submitted, done, "every operation is told once");
}
