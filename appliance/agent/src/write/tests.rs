mod appliance;

use super::*;
use crate::{device::tests::Memory, plan::MIB};
use agent_proto::Failure;
use appliance::{Fault, Host};
use boot::Attempt;
use std::{sync::Mutex, time::Duration};

const PATIENCE: Patience = Patience { cut: Duration::from_secs(3), refused: Duration::from_secs(1) };

/// A small image: data, a hole, data that spans two extents and a bit.
fn octets() -> Vec<u8> {
    let mut octets = vec![0; 6 * EXTENT + 1536];
    let mut number = 1u32;
    for (at, octet) in octets.iter_mut().enumerate() {
        if !(2 * EXTENT..4 * EXTENT).contains(&at) {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *octet = (number >> 24) as u8;
        }
    }
    octets
}

pub(super) fn manifest(octets: &[u8]) -> Manifest {
    let extents =
        octets.chunks(EXTENT).map(|extent| (!crate::device::is_zero(extent)).then(|| image::digest(extent)));
    let sha256 = image::Sha256::new([0; 32]);
    Manifest::new(octets.len() as u64, sha256, extents.collect()).unwrap()
}

/// Writes `host`'s image to `disk`.
fn deploy(host: &Host, disk: &dyn Device) -> (Result<Outcome, Halt>, Vec<Progress>) {
    let image = ImageRef { digest: host.manifest.id(), size: host.manifest.size() };
    let told = Mutex::new(Vec::new());
    let result = Write {
        image: &image,
        config_drive: host.drive.as_ref(),
        appliance: &host.appliance(),
        device: disk,
        patience: PATIENCE,
        progress: &|progress| told.lock().unwrap().push(progress),
        stopped: &|| false,
    }
    .run();
    (result, told.into_inner().unwrap())
}

fn failure(result: Result<Outcome, Halt>) -> Failure {
    match result {
        Err(Halt::Failed(failure)) => failure,
        other => panic!("no failure but {other:?}"),
    }
}

/// received, written, kept
fn counts(outcome: &Outcome) -> (u64, u64, u64) {
    let Outcome::Written { received_bytes, written_bytes, kept_bytes, .. } = outcome else { panic!() };
    (*received_bytes, *written_bytes, *kept_bytes)
}

#[test]
fn a_blank_disk_holds_the_image_afterwards_byte_for_byte() {
    let octets = octets();
    let host = Host::new(&octets);
    let disk = Memory::new(vec![0; 10 << 20], 512);
    let (result, told) = deploy(&host, &disk);
    let data = (4 * EXTENT + 1536) as u64;
    assert_eq!(counts(&result.unwrap()), (data, data, 0), "holes are neither sent nor written");
    let there = disk.octets();
    assert_eq!(there[..octets.len()], octets);
    assert!(crate::device::is_zero(&there[octets.len()..]));
    for phase in [Phase::Write, Phase::Verify] {
        let last = told.iter().rfind(|progress| progress.phase == phase).unwrap();
        assert_eq!((last.done, last.total), (octets.len() as u64, octets.len() as u64));
    }
}

#[test]
fn what_an_earlier_tenant_left_in_holes_and_around_the_image_is_gone() {
    let octets = octets();
    let disk = Memory::new(vec![0x55; 10 << 20], 4096);
    let (result, _) = deploy(&Host::new(&octets), &disk);
    result.unwrap();
    let there = disk.octets();
    assert_eq!(there[..octets.len()], octets);
    let end = octets.len().next_multiple_of(4096);
    assert!(crate::device::is_zero(&there[octets.len()..end + EXTENT]), "the MiB after the image");
    assert!(crate::device::is_zero(&there[9 << 20..]), "the disk's last MiB");
}

#[test]
fn deployed_again_only_what_differs_is_written() {
    let octets = octets();
    let host = Host::new(&octets);
    let disk = Memory::new(vec![0; 10 << 20], 512);
    deploy(&host, &disk).0.unwrap();
    let outcome = deploy(&host, &disk).0.unwrap();
    assert_eq!(counts(&outcome), (0, 0, (4 * EXTENT + 1536) as u64));
    disk.octets.lock().unwrap()[5 * EXTENT + 7] ^= 1;
    let outcome = deploy(&host, &disk).0.unwrap();
    assert_eq!(counts(&outcome), (MIB, MIB, (3 * EXTENT + 1536) as u64));
    assert_eq!(disk.octets()[..octets.len()], octets);
}

#[test]
fn cut_connections_are_made_again_and_nothing_is_fetched_twice_but_the_extent_that_was_cut() {
    let octets = octets();
    let host = Host::new(&octets);
    // Every connection is cut after so many octets: no extent is lost for ever.
    host.inject(Fault::CutAfter(EXTENT * 3 / 2));
    let disk = Memory::new(vec![0; 10 << 20], 512);
    let outcome = deploy(&host, &disk).0.unwrap();
    assert_eq!(disk.octets()[..octets.len()], octets);
    let (received, written, _) = counts(&outcome);
    assert_eq!(written, (4 * EXTENT + 1536) as u64);
    assert!(received <= 8 * MIB, "{received}");
}

#[test]
fn more_cuts_than_there_is_memory_for_extents_do_no_harm() {
    let octets: Vec<u8> = octets().into_iter().cycle().take(16 * EXTENT).collect();
    let host = Host::new(&octets);
    host.inject(Fault::CutAfter(EXTENT * 3 / 2));
    let disk = Memory::new(vec![0; 20 << 20], 512);
    deploy(&host, &disk).0.unwrap();
    assert!(host.asked().len() > QUEUE + 2);
    assert!(disk.octets()[..octets.len()] == octets);
}

#[test]
fn a_corrupt_octet_is_fetched_again() {
    let octets = octets();
    let host = Host::new(&octets);
    host.inject(Fault::CorruptTimes(AGAIN as usize, 4 * EXTENT + 9));
    let disk = Memory::new(vec![0; 10 << 20], 512);
    deploy(&host, &disk).0.unwrap();
    assert_eq!(disk.octets()[..octets.len()], octets);
}

#[test]
fn an_octet_that_stays_corrupt_is_an_error_that_names_the_extent_and_both_digests() {
    let octets = octets();
    let host = Host::new(&octets);
    host.inject(Fault::CorruptTimes(AGAIN as usize + 1, 4 * EXTENT + 9));
    let disk = Memory::new(vec![0; 10 << 20], 512);
    let failure = failure(deploy(&host, &disk).0);
    assert_eq!(failure.kind, FailureKind::CorruptImage);
    let mut corrupt = octets[4 * EXTENT..5 * EXTENT].to_vec();
    corrupt[9] ^= 1;
    for part in [
        "extent 4 ",
        &image::digest(&octets[4 * EXTENT..5 * EXTENT]).to_string(),
        &image::digest(&corrupt).to_string(),
    ] {
        assert!(failure.text.contains(part), "{part}: {}", failure.text);
    }
    assert!(crate::device::is_zero(&disk.octets()[4 * EXTENT..5 * EXTENT]), "not written unchecked");
}

#[test]
fn an_appliance_that_is_gone_is_given_up_after_a_while() {
    let octets = octets();
    let host = Host::new(&octets);
    host.inject(Fault::Gone);
    let failure = failure(deploy(&host, &Memory::new(vec![0; 10 << 20], 512)).0);
    assert_eq!(failure.kind, FailureKind::NoImage);
}

#[test]
fn an_appliance_that_refuses_is_given_up_with_its_words() {
    let octets = octets();
    let host = Host::new(&octets);
    host.inject(Fault::Refuse);
    let failure = failure(deploy(&host, &Memory::new(vec![0; 10 << 20], 512)).0);
    assert_eq!(failure.kind, FailureKind::NoImage);
    assert!(failure.text.contains("403 Forbidden"), "{}", failure.text);
}

#[test]
fn a_manifest_that_is_not_the_one_ordered_is_refused() {
    let mut host = Host::new(&octets());
    host.manifest = manifest(&[1; 512]);
    let failure = failure(deploy(&host, &Memory::new(vec![0; 10 << 20], 512)).0);
    assert_eq!(failure.kind, FailureKind::CorruptImage);
}

#[test]
fn a_disk_that_is_too_small_is_refused_before_anything_is_touched() {
    let disk = Memory::new(vec![7; 6 << 20], 512);
    let failure = failure(deploy(&Host::new(&octets()), &disk).0);
    assert_eq!(failure.kind, FailureKind::DiskTooSmall);
    assert!(failure.text.contains("6291456") && failure.text.contains("6292992"), "{}", failure.text);
    assert_eq!(disk.octets(), vec![7; 6 << 20]);
}

#[test]
fn a_disk_of_exactly_the_images_size_is_enough() {
    let octets = octets();
    let disk = Memory::new(vec![7; octets.len()], 512);
    deploy(&Host::new(&octets), &disk).0.unwrap();
    assert_eq!(disk.octets(), octets);
}

#[test]
fn a_disk_that_returns_an_error_is_named_with_the_place() {
    let mut disk = Memory::new(vec![0; 10 << 20], 512);
    disk.bad_write = Some(4 * MIB + 5);
    let failure = failure(deploy(&Host::new(&octets()), &disk).0);
    assert_eq!(failure.kind, FailureKind::DiskFault);
    assert!(failure.text.contains("disk mem: writing octets 4194304 to 5242880"), "{}", failure.text);
}

#[test]
fn a_disk_that_returns_other_data_is_found_out() {
    for (bad, what) in [(MIB + 5, "extent 1 "), (2 * MIB + 5, "zeroing"), (3 * MIB, "instead of zeroes")] {
        let mut disk = Memory::new(vec![0; 10 << 20], 512);
        disk.bad_read = Some(bad);
        let failure = failure(deploy(&Host::new(&octets()), &disk).0);
        assert_eq!(failure.kind, FailureKind::DiskFault, "{what}");
    }
}

#[test]
fn a_write_that_is_stopped_goes_on_where_it_was() {
    let octets = octets();
    let host = Host::new(&octets);
    let disk = Memory::new(vec![0; 10 << 20], 512);
    let image = ImageRef { digest: host.manifest.id(), size: host.manifest.size() };
    let enough = AtomicBool::new(false);
    let stopped = Write {
        image: &image,
        config_drive: None,
        appliance: &host.appliance(),
        device: &disk,
        patience: PATIENCE,
        progress: &|progress| {
            if progress.phase == Phase::Write && progress.done >= 4 * MIB {
                enough.store(true, Relaxed);
            }
        },
        stopped: &|| enough.load(Relaxed),
    }
    .run();
    assert!(matches!(stopped, Err(Halt::Stopped)), "{stopped:?}");
    let outcome = deploy(&host, &disk).0.unwrap();
    let (received, _, kept) = counts(&outcome);
    assert!(kept >= MIB, "{kept}");
    assert_eq!(received + kept, (4 * EXTENT + 1536) as u64);
    assert_eq!(disk.octets()[..octets.len()], octets);
}

#[test]
fn a_config_drive_of_another_digest_is_refused() {
    let mut host = Host::new(&octets());
    host.give_drive(vec![1; 1000]);
    host.drive.as_mut().unwrap().digest = Digest([0; 32]);
    let failure = failure(deploy(&host, &Memory::new(vec![0; 20 << 20], 512)).0);
    assert_eq!(failure.kind, FailureKind::CorruptImage);
}

#[test]
fn a_config_drive_needs_a_partition_table() {
    let mut host = Host::new(&octets());
    host.give_drive(vec![1; 1000]);
    let failure = failure(deploy(&host, &Memory::new(vec![0; 20 << 20], 512)).0);
    assert_eq!(failure.kind, FailureKind::BadOrder);
    assert!(failure.text.contains("no partition table"), "{}", failure.text);
}

#[test]
fn a_config_drive_is_a_partition_at_the_end_and_twice_is_once() {
    let octets = crate::table::tests::gpt_image(6 << 20);
    let mut host = Host::new(&octets);
    let drive = vec![0xcd; 70_000];
    host.give_drive(drive.clone());
    let disk = Memory::new(vec![0x55; 20 << 20], 512);
    deploy(&host, &disk).0.unwrap();
    let first = disk.octets();
    let place = first.windows(8).position(|w| w == [0xcd; 8]).unwrap();
    assert_eq!(place % EXTENT, 0);
    assert_eq!(first[place..place + drive.len()], drive);
    assert_eq!(first[1 << 20..5 << 20], octets[1 << 20..5 << 20]);
    deploy(&host, &disk).0.unwrap();
    assert!(disk.octets() == first);
}

#[test]
fn an_attempt_stands_in_the_config_drives_path() {
    let attempt: Attempt = "n1-4-2".parse().unwrap();
    let mut host = Host::new(&crate::table::tests::gpt_image(6 << 20));
    host.attempt = attempt;
    host.give_drive(vec![1; 1000]);
    deploy(&host, &Memory::new(vec![0; 20 << 20], 512)).0.unwrap();
    assert!(host.asked().iter().any(|path| path == "/agent/n1-4-2/config-drive"));
}
