//! Anything from somebody who has not logged in.

use crate::target::{Serving, serve};
use iscsi::chap::{Chap, Credentials, Secret};
use sansio::{Time, sim::Dice};
use std::time::Duration;

/// What both ends of the seeds know.
pub(crate) fn secrets() -> Chap {
    let with = |user: &str, secret: &str| Credentials {
        user: user.to_owned(),
        secret: Secret::new(secret).unwrap(),
    };
    Chap::new(with("host", "one-two-three"), Some(with("disk", "four-five-six"))).unwrap()
}

/// The first octet says whether CHAP is asked for and how the others, the stream, are cut into pieces.
pub(crate) fn run(octets: &[u8]) {
    let Some((how, stream)) = octets.split_first() else { return };
    let (targets, _disk) = serve(16, (how & 1 == 1).then(secrets));
    let mut now = Time::from_secs(1);
    let mut serving = Serving::new(&targets, now);
    let mut dice = Dice::new(u64::from(*how));
    let mut rest = stream;
    let mut sent = 0;
    while !rest.is_empty() && !serving.is_over() {
        let length = if how & 2 == 0 { rest.len() } else { 1 + dice.below(70) as usize };
        let (piece, after) = rest.split_at(length.min(rest.len()));
        rest = after;
        serving.receive(piece, now);
        while serving.work(&mut dice, now) {}
        while let Some(octets) = serving.transmit(now) {
            sent += octets.len();
        }
        // An answer to each request, and a request has 48 octets at least.
        assert!(sent <= (stream.len() / 48 + 2) * (64 << 10), "{sent} octets in answer to {}", stream.len());
    }
    now = now + Duration::from_secs(3600);
    serving.timeout(now);
    while serving.transmit(now).is_some() {}
    assert!(serving.is_over() || serving.deadline().is_some(), "it waits for nothing");
}
