use super::*;
use flate2::write::GzEncoder;
use lzma_rust2::{XzOptions, XzWriter};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use std::io::Write as _;

/// The packed formats that are streams.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Packing {
    Gz,
    Xz,
    Zst,
}

impl Packing {
    pub(crate) const ALL: [Packing; 3] = [Packing::Gz, Packing::Xz, Packing::Zst];

    pub(crate) fn format(self) -> Format {
        match self {
            Packing::Gz => Format::Gz,
            Packing::Xz => Format::Xz,
            Packing::Zst => Format::Zst,
        }
    }

    pub(crate) fn pack(self, content: &[u8]) -> Vec<u8> {
        match self {
            Packing::Gz => {
                let mut gz = GzEncoder::new(Vec::new(), flate2::Compression::fast());
                gz.write_all(content).unwrap();
                gz.finish().unwrap()
            }
            Packing::Xz => {
                let mut xz = XzWriter::new(Vec::new(), XzOptions::with_preset(0)).unwrap();
                xz.write_all(content).unwrap();
                xz.finish().unwrap()
            }
            Packing::Zst => compress_to_vec(content, CompressionLevel::Fastest),
        }
    }

    /// What may lie between two of them.
    pub(crate) fn between(self) -> Vec<u8> {
        match self {
            Packing::Gz => vec![],
            Packing::Xz => vec![0; 8],
            Packing::Zst => [&[0x53, 0x2a, 0x4d, 0x18, 5, 0, 0, 0][..], b"12345"].concat(),
        }
    }
}

/// Octets that do not compress, the same each time (xorshift64).
pub(crate) fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut octets = Vec::with_capacity(count + 8);
    while octets.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        octets.extend_from_slice(&state.to_le_bytes());
    }
    octets.truncate(count);
    octets
}

fn unpack(format: Format, packed: &[u8]) -> Result<Vec<u8>, Fault> {
    let mut decoder = Decoder::new(format, packed);
    let (mut content, mut chunk) = (vec![], vec![0; 1000]);
    loop {
        match decoder.read(&mut chunk)? {
            0 => return Ok(content),
            count => content.extend_from_slice(&chunk[..count]),
        }
    }
}

/// RFC 1952, 2.2: "A gzip file consists of a series of 'members' (compressed data sets)."
#[test]
fn gzip_members_follow_each_other_and_a_tape_pads_with_zeros() {
    let member = Packing::Gz.pack(b"abc");
    let padded = [&member[..], &member, &[0; 1000]].concat();
    assert_eq!(unpack(Format::Gz, &padded).unwrap(), b"abcabc");
}

/// The .xz file format 1.1, 2.2: "Stream Padding MUST contain only null bytes [...] MUST be a multiple of
/// four bytes."
#[test]
fn xz_padding_is_a_multiple_of_four_zeros() {
    let stream = Packing::Xz.pack(b"abc");
    for (padding, fine) in [(0, true), (4, true), (400, true), (1, false), (3, false), (5, false)] {
        for after in [&[][..], &stream] {
            let padded = [&stream[..], &vec![0; padding], after].concat();
            let content = unpack(Format::Xz, &padded);
            assert_eq!(content.is_ok(), fine, "{padding}");
        }
    }
}

/// RFC 8878, 3.1.2: "Skippable frames allow the insertion of user-defined metadata into a flow of
/// concatenated frames."
#[test]
fn zstd_frames_that_are_to_be_skipped_are() {
    let frame = Packing::Zst.pack(b"abc");
    let skipped = Packing::Zst.between();
    let all = [&skipped[..], &frame, &skipped, &skipped, &frame, &skipped].concat();
    assert_eq!(unpack(Format::Zst, &all).unwrap(), b"abcabc");
    assert!(matches!(unpack(Format::Zst, &all[..all.len() - 1]), Err(Fault::Damaged(_))));
    assert_eq!(unpack(Format::Zst, &skipped).unwrap(), b"");
}

/// A frame of one raw block whose header asks for a window of 2^log octets (RFC 8878, 3.1.1.1.2).
fn windowed(log: u8) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3];
    frame.extend_from_slice(&[3 << 3 | 1, 0, 0]);
    frame.extend_from_slice(b"abc");
    frame
}

#[test]
fn a_zstd_window_of_128_mib_is_taken_and_more_is_refused_with_advice() {
    assert_eq!(unpack(Format::Zst, &windowed(27)).unwrap(), b"abc");
    match unpack(Format::Zst, &windowed(28)) {
        Err(Fault::Unsupported(what, instead)) => {
            assert!(what.contains("window of 268435456"), "{what}");
            assert!(instead.contains("--long=27"), "{instead}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_zstd_frame_with_a_dictionary_is_refused_with_advice() {
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x21, 7, 3, 3 << 3 | 1, 0, 0, b'a', b'b', b'c'];
    assert!(
        matches!(unpack(Format::Zst, &frame), Err(Fault::Unsupported(what, _)) if what.contains("dictionary 7"))
    );
}

#[test]
fn a_frame_of_another_size_than_it_says_is_damaged() {
    let frame = |size: u8| [0x28, 0xb5, 0x2f, 0xfd, 0x20, size, 3 << 3 | 1, 0, 0, b'a', b'b', b'c'];
    assert_eq!(unpack(Format::Zst, &frame(3)).unwrap(), b"abc");
    assert!(matches!(unpack(Format::Zst, &frame(4)), Err(Fault::Damaged(_))));
}

#[test]
fn a_decoder_that_failed_is_not_asked_again() {
    let mut decoder = Decoder::new(Format::Xz, &b"\xfd7zXZ\0nonsense nonsense"[..]);
    assert!(decoder.read(&mut [0; 10]).is_err());
    assert_eq!(decoder.read(&mut [0; 10]).unwrap(), 0);
}

#[test]
fn formats_are_told_by_their_first_octets() {
    for packing in Packing::ALL {
        assert_eq!(Format::of(&packing.pack(b"content")), packing.format());
    }
    assert_eq!(Format::of(b"QFI\xfb"), Format::Qcow2);
    assert_eq!(Format::of(b"QF"), Format::Raw);
    assert_eq!(Format::of(b""), Format::Raw);
}
