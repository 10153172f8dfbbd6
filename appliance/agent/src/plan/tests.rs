use super::*;

#[test]
fn an_extent_is_fetched_only_when_the_disk_has_something_else() {
    let data = [7; 1000];
    let digest = Some(image::digest(&data));
    let padded = |octets: &[u8], last: u8| {
        let mut there = octets.to_vec();
        there.resize(4095, 0);
        there.push(last);
        there
    };
    assert_eq!(need(digest, &data, 1000), Need::Keep);
    assert_eq!(need(digest, &[8; 1000], 1000), Need::Fetch);
    assert_eq!(need(digest, &[0; 1000], 1000), Need::Fetch);
    assert_eq!(need(digest, &padded(&data, 0), 1000), Need::Keep);
    assert_eq!(need(digest, &padded(&data, 1), 1000), Need::Fetch, "stale octets after the image's end");
}

#[test]
fn a_hole_is_written_only_when_the_disk_has_data_there() {
    assert_eq!(need(None, &[0; 512], 512), Need::Nothing);
    let mut stale = [0; 512];
    stale[511] = 1;
    assert_eq!(need(None, &stale, 512), Need::Zero);
}

#[test]
fn extents_that_follow_each_other_are_one_request_up_to_a_bound() {
    let run = |extents: &[usize]| run(&extents.iter().copied().collect());
    assert_eq!(run(&[]), 0);
    assert_eq!(run(&[5, 6, 7, 9]), 3);
    assert_eq!(run(&[5, 4]), 1);
    assert_eq!(run(&(10..200).collect::<Vec<_>>()), RUN);
}

#[test]
fn a_config_drive_needs_its_place_and_a_mib_for_the_tables_copy() {
    assert_eq!(needed(1000, None), 1000);
    assert_eq!(needed(MIB + 512, Some(1)), 4 * MIB);
    assert_eq!(needed(u64::MAX, Some(1)), u64::MAX);
}

#[test]
fn what_is_cleared_lies_outside_the_image_and_inside_the_disk() {
    assert_eq!(around(10 * MIB, 100 * MIB, 512), [10 * MIB..11 * MIB, 99 * MIB..100 * MIB]);
    assert_eq!(around(10 * MIB, 10 * MIB, 512), [10 * MIB..10 * MIB, 10 * MIB..10 * MIB]);
    assert_eq!(around(10 * MIB, 11 * MIB + 512, 512), [10 * MIB..11 * MIB, 11 * MIB..11 * MIB + 512]);
    assert_eq!(around(10 * MIB + 512, 12 * MIB, 4096)[0], 10 * MIB + 4096..11 * MIB + 4096);
}
