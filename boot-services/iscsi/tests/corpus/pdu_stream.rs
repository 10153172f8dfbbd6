//! Anything from somebody who has logged in.

use crate::target::{Serving, TARGET, serve};
use iscsi::{
    pdu::{FromInitiator, Isid, Login, Sealed, Serial, Stage, Tag, Tsih, padding},
    text::{self, Pair},
};
use sansio::{Time, sim::Dice};
use std::time::Duration;

/// Blocks of the disk: more than a command may transfer.
const BLOCKS: u64 = 64;

/// What the first octet agrees on at login.
fn keys(how: u8) -> Vec<Pair> {
    let yes = |bit: u8| if how & bit == 0 { "No" } else { "Yes" };
    let length = if how & 16 == 0 { 512 } else { 65_536 };
    let mut keys = vec![
        Pair::new("InitiatorName", "iqn.2026-01.example:host"),
        Pair::new("TargetName", TARGET),
        Pair::new("SessionType", "Normal"),
        Pair::new("InitialR2T", yes(4)),
        Pair::new("ImmediateData", yes(8)),
        Pair::new("MaxRecvDataSegmentLength", length),
        Pair::new("FirstBurstLength", length),
        Pair::new("MaxBurstLength", length),
    ];
    if how & 32 != 0 {
        keys.push(Pair::new("DataDigest", "CRC32C"));
    }
    keys
}

/// A login in one request, without proof.
pub(crate) fn login(how: u8) -> Vec<u8> {
    let request = FromInitiator::Login(Login {
        transit: Some(Stage::FullFeature),
        more: false,
        stage: Stage::Operational,
        version_max: 0,
        version_min: 0,
        isid: Isid([0x80, 0, 0, 0, 0, 1]),
        tsih: Tsih(0),
        itt: Tag(0),
        cid: 0,
        cmd_sn: Serial(1),
        exp_stat_sn: Serial(0),
    });
    let text = text::emit(&keys(how));
    let header = Sealed::new(request.emit(text.len()), false);
    [&header, &*text, &[0; 3][..padding(text.len())]].concat()
}

/// The first octet is what is agreed on and how the others, the stream after the login, are cut into pieces.
pub(crate) fn run(octets: &[u8]) {
    let Some((how, stream)) = octets.split_first() else { return };
    let (targets, disk) = serve(BLOCKS, None);
    let mut now = Time::from_secs(1);
    let mut serving = Serving::new(&targets, now);
    let mut dice = Dice::new(u64::from(*how));
    serving.receive(&login(*how), now);
    while serving.transmit(now).is_some() {}
    assert!(!serving.is_over(), "the login is one");

    let mut rest = stream;
    while !rest.is_empty() && !serving.is_over() {
        let length = if how & 2 == 0 { rest.len() } else { 1 + dice.below(200) as usize };
        let (piece, after) = rest.split_at(length.min(rest.len()));
        rest = after;
        serving.receive(piece, now);
        // Jobs are done at once, or when a few are together.
        let most = if how & 1 == 0 { usize::MAX } else { dice.below(3) as usize };
        for _ in 0..most {
            if !serving.work(&mut dice, now) {
                break;
            }
        }
        for _ in 0..1_000 {
            if serving.transmit(now).is_none() {
                break;
            }
        }
    }
    for _ in 0..4 {
        while serving.work(&mut dice, now) {}
        for _ in 0..100_000 {
            if serving.transmit(now).is_none() {
                break;
            }
        }
        now = now + Duration::from_secs(3600);
        serving.timeout(now);
    }
    assert!(serving.is_over(), "who says no more is let go");
    assert_eq!(disk.octets().len() as u64, BLOCKS * 512);
}
