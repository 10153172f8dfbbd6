use super::*;

fn named(octet: u8) -> Option<Digest> {
    Some(Digest([octet; 32]))
}

fn manifest(size: u64, extents: Vec<Option<Digest>>) -> Manifest {
    Manifest::new(size, Sha256::new([7; 32]), extents).unwrap()
}

const MIB: u64 = EXTENT as u64;

#[test]
fn the_encoding_of_a_released_version_never_changes() {
    let manifest = manifest(2 * MIB + 512, vec![named(0xab), None, named(1)]);
    let encoded = concat!(
        r#"{"version":1,"size":2097664,"extent_size":1048576,"#,
        r#""sha256":"0707070707070707070707070707070707070707070707070707070707070707","extents":["#,
        r#""abababababababababababababababababababababababababababababababab",null,"#,
        r#""0101010101010101010101010101010101010101010101010101010101010101"]}"#
    );
    assert_eq!(String::from_utf8(manifest.encode()).unwrap(), encoded);
    assert_eq!(manifest.id().to_string(), "2aaa12c58b7e639ed0b97e48076b94ddd7bba2da31eaff75e0bd515b987766a9");
    assert_eq!(Manifest::decode(encoded.as_bytes()).unwrap(), manifest);
}

#[test]
fn what_is_not_the_canonical_encoding_is_refused() {
    let encoded = String::from_utf8(manifest(MIB + 512, vec![named(0xab), None]).encode()).unwrap();
    let long = format!("\"size\":{},", MAX_SIZE + 512);
    for (from, to) in [
        ("{\"version\":1", "{\"version\":2"),
        ("{\"version\":1", "{ \"version\":1"),
        ("\"size\":1049088", "\"size\":1049089"),
        ("\"size\":1049088", "\"size\":0"),
        ("\"size\":1049088,", long.as_str()),
        ("\"size\":1049088", "\"size\":-512"),
        ("\"extent_size\":1048576", "\"extent_size\":4096"),
        ("abab", "ABAB"),
        (",null]", ",null,null]"),
        (",null]", "]"),
        ("\"extents\"", "\"extras\":[],\"extents\""),
    ] {
        let other = encoded.replacen(from, to, 1);
        assert_ne!(other, encoded, "{from}");
        assert!(Manifest::decode(other.as_bytes()).is_err(), "{other}");
    }
    for length in 0..encoded.len() {
        assert!(Manifest::decode(&encoded.as_bytes()[..length]).is_err());
    }
    assert!(Manifest::decode(&vec![b' '; MAX_ENCODED + 1]).is_err());
}

#[test]
fn runs_are_the_stretches_without_holes() {
    let run = |offset, length| Run { offset, length };
    for (size, extents, expected) in [
        (512, vec![None], vec![]),
        (512, vec![named(1)], vec![run(0, 512)]),
        (3 * MIB, vec![named(1), named(1), named(2)], vec![run(0, 3 * MIB)]),
        (3 * MIB, vec![None, named(1), None], vec![run(MIB, MIB)]),
        (
            5 * MIB - 512,
            vec![named(1), None, None, named(2), named(3)],
            vec![run(0, MIB), run(3 * MIB, 2 * MIB - 512)],
        ),
    ] {
        let manifest = manifest(size, extents);
        assert_eq!(manifest.runs().collect::<Vec<_>>(), expected);
        assert_eq!(manifest.data_bytes(), expected.iter().map(|run| run.length).sum::<u64>());
    }
}

#[test]
fn a_piece_ends_where_its_extent_or_its_stretch_of_holes_does() {
    let manifest = manifest(4 * MIB - 512, vec![named(1), None, None, named(2)]);
    let data = |octet, skip, length| Some(Piece::Data { digest: Digest([octet; 32]), skip, length });
    for (range, expected) in [
        (0..10, data(1, 0, 10)),
        (5..u64::MAX, data(1, 5, EXTENT - 5)),
        (MIB - 1..MIB + 1, data(1, EXTENT - 1, 1)),
        (MIB..u64::MAX, Some(Piece::Hole(2 * MIB))),
        (MIB + 7..2 * MIB, Some(Piece::Hole(MIB - 7))),
        (2 * MIB..2 * MIB + 1, Some(Piece::Hole(1))),
        (3 * MIB..u64::MAX, data(2, 0, EXTENT - 512)),
        (4 * MIB - 513..u64::MAX, data(2, EXTENT - 513, 1)),
        (4 * MIB - 512..u64::MAX, None),
        (u64::MAX..u64::MAX, None),
        (10..10, None),
        #[allow(clippy::reversed_empty_ranges, reason = "what a caller may hand in")]
        (11..10, None),
    ] {
        assert_eq!(manifest.piece(range.clone()), expected, "{range:?}");
    }
    assert_eq!(manifest.extent_length(0), EXTENT);
    assert_eq!(manifest.extent_length(3), EXTENT - 512);
    assert_eq!(manifest.extent_length(4), 0);
}

#[test]
fn the_longest_manifest_is_within_its_bound() {
    // Written out it is 70 MB; one extent's share tells as well.
    let one = serde_json::to_vec(&named(0xff)).unwrap().len() + 1;
    let most = (MAX_SIZE / MIB) as usize * one;
    let frame = manifest(MIB, vec![None]).encode().len() + 20;
    assert!(most + frame <= MAX_ENCODED);
}
