use super::*;
use crate::read_at;
use crate::unpack::tests::{self as packed, Packing};
use core::convert::Infallible;
use std::collections::BTreeMap;

/// Extents in memory.
#[derive(Debug, Default)]
pub(crate) struct Memory(pub(crate) BTreeMap<Digest, Vec<u8>>);

impl Sink for Memory {
    fn keep(&mut self, digest: Digest, octets: &[u8]) -> io::Result<()> {
        self.0.insert(digest, octets.to_vec());
        Ok(())
    }
}

impl crate::Blocks for Memory {
    type Error = Infallible;

    fn get(&self, digest: &Digest, skip: usize, into: &mut [u8]) -> Result<(), Infallible> {
        into.copy_from_slice(&self.0[digest][skip..skip + into.len()]);
        Ok(())
    }
}

/// Hands out a stream in unequal pieces.
struct Dribble<'a>(&'a [u8], usize);

impl Read for Dribble<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.1 = self.1 * 5 % 7919 + 1;
        let count = into.len().min(self.0.len()).min(self.1);
        into[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

fn import_of(upload: &[u8], terms: &Terms) -> Result<(Imported, Memory), ImportError> {
    let mut memory = Memory::default();
    import(Dribble(upload, 3), terms, &mut memory, &mut |_| {}).map(|imported| (imported, memory))
}

/// Noise, a hole of two extents, text, and an end that is no multiple of 512 octets.
pub(crate) fn content() -> Vec<u8> {
    let mut content = packed::noise(EXTENT + 4096);
    content.resize(4 * EXTENT, 0);
    while content.len() < 5 * EXTENT + 700 {
        content.extend_from_slice(b"what is written twice is kept once. ");
    }
    content.truncate(5 * EXTENT + 700);
    content
}

#[test]
fn every_packing_of_a_content_is_the_same_image() {
    let content = content();
    let (expected, memory) = import_of(&content, &Terms::default()).unwrap();
    assert_eq!(expected.format, Format::Raw);
    assert_eq!(expected.content, content.len() as u64);
    assert_eq!(expected.manifest.size(), content.len().next_multiple_of(512) as u64);
    let holes = expected.manifest.extents().iter().map(Option::is_none).collect::<Vec<_>>();
    assert_eq!(holes, [false, false, true, true, false, false]);
    let mut back = vec![1; content.len() + 1000];
    let count = read_at(&expected.manifest, &memory, 0, &mut back).unwrap();
    assert_eq!(count, content.len().next_multiple_of(512));
    assert!(back[..content.len()] == content && back[content.len()..count].iter().all(|o| *o == 0));

    let (first, second) = content.split_at(content.len() / 3);
    for packing in Packing::ALL {
        let whole = packing.pack(&content);
        let (imported, _) = import_of(&whole, &Terms::default()).unwrap();
        assert_eq!(imported.manifest, expected.manifest, "{packing:?}");
        assert_eq!((imported.format, imported.read), (packing.format(), whole.len() as u64));

        let joined = [packing.pack(first), packing.between(), packing.pack(second)].concat();
        let (imported, _) = import_of(&joined, &Terms::default()).unwrap();
        assert_eq!(imported.manifest, expected.manifest, "{packing:?} in two");
    }
}

#[test]
fn reading_by_offset_gives_the_same_octets_wherever_it_begins() {
    let content = content();
    let (imported, memory) = import_of(&content, &Terms::default()).unwrap();
    let edge = EXTENT as u64;
    for offset in [0, 1, edge - 1, edge, 2 * edge - 7, 4 * edge - 1, 5 * edge, content.len() as u64 - 1] {
        for length in [0, 1, 512, EXTENT, 2 * EXTENT + 3] {
            let mut back = vec![1; length];
            let count = read_at(&imported.manifest, &memory, offset, &mut back).unwrap();
            let there = &content[offset as usize..(offset as usize + length).min(content.len())];
            assert_eq!(&back[..there.len()], there, "{length} from {offset}");
            assert!(count == length || offset + count as u64 == imported.manifest.size());
        }
    }
    assert_eq!(read_at(&imported.manifest, &memory, u64::MAX, &mut [0; 9]), Ok(0));
}

#[test]
fn a_checksum_that_was_said_is_compared() {
    let content = content();
    let packed = Packing::Gz.pack(&content);
    let sum = |octets: &[u8], blake3: bool| {
        let probe = if blake3 { "blake3:" } else { "sha256:" };
        let probe: Sum = format!("{probe}{}", "00".repeat(32)).parse().unwrap();
        let mut summer = Summer::new(Some(probe), false);
        summer.update(octets);
        summer.like(&probe).unwrap()
    };
    for blake3 in [false, true] {
        let right = Terms {
            file: Some(sum(&packed, blake3)),
            content: Some(sum(&content, blake3)),
            ..Terms::default()
        };
        let (imported, _) = import_of(&packed, &right).unwrap();
        assert_eq!(Some(Sum::Sha256(imported.manifest.sha256())), Some(sum(&content, false)));
        let file = Terms { file: right.content, ..right.clone() };
        let what = |terms| match import_of(&packed, &terms) {
            Err(ImportError::Mismatch { what, .. }) => what,
            other => panic!("{:?}", other.map(|(imported, _)| imported)),
        };
        assert_eq!(what(file), "the uploaded file");
        assert_eq!(what(Terms { content: right.file, ..right }), "the raw content");
    }
    let digits = "0123456789abcdef".repeat(4);
    assert_eq!(digits.parse::<Sum>().unwrap().to_string(), format!("sha256:{digits}"));
    assert_eq!(format!("blake3:{digits}").parse::<Sum>().unwrap().to_string(), format!("blake3:{digits}"));
    assert!("md5:00".parse::<Sum>().is_err());
}

#[test]
fn a_bomb_is_stopped_at_the_limit() {
    let bomb = Packing::Gz.pack(&vec![0; 64 << 20]);
    assert!(bomb.len() < 1_000_000);
    let terms = Terms { max_size: 1 << 20, ..Terms::default() };
    assert!(matches!(import_of(&bomb, &terms), Err(ImportError::TooLarge { limit: 1_048_576 })));
    assert!(import_of(&vec![1; 1 << 20], &terms).is_ok());
    assert!(import_of(&vec![1; (1 << 20) + 1], &terms).is_err());
}

#[test]
fn a_stream_that_ends_early_or_goes_on_is_refused() {
    let content = &content()[EXTENT + 3500..EXTENT + 9000];
    for packing in Packing::ALL {
        let whole = packing.pack(content);
        for length in 1..whole.len() {
            match import_of(&whole[..length], &Terms { format: Some(packing.format()), ..Terms::default() }) {
                // Before its magic is whole it cannot be known for what it was to be.
                Err(ImportError::NotThat { .. }) => assert!(length < 6),
                Err(ImportError::Truncated { format, .. }) => assert_eq!(format, packing.format()),
                other => panic!("{packing:?} {length}: {:?}", other.map(|(imported, _)| imported)),
            }
        }
        let longer = [&whole[..], b"what is this?"].concat();
        assert!(
            matches!(import_of(&longer, &Terms::default()), Err(ImportError::Trailing { .. })),
            "{packing:?}"
        );
    }
}

#[test]
fn a_flipped_bit_yields_no_other_image() {
    let content = &content()[EXTENT + 3500..EXTENT + 5000];
    let (expected, _) = import_of(content, &Terms::default()).unwrap();
    for packing in Packing::ALL {
        let whole = packing.pack(content);
        let terms = Terms { format: Some(packing.format()), max_size: 8 << 20, ..Terms::default() };
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                // A name or a date in a header may change, the content may not.
                if let Ok((imported, _)) = import_of(&flipped, &terms) {
                    assert_eq!(imported.manifest, expected.manifest, "{packing:?} octet {at} bit {bit}");
                }
            }
        }
    }
}

#[test]
fn what_is_no_disk_image_is_refused_by_its_name() {
    let mut tar = vec![0; 512];
    tar[257..262].copy_from_slice(b"ustar");
    for (upload, name) in [
        (&b"BZh91AY&SY"[..], "bzip2"),
        (b"PK\x03\x04", "zip"),
        (b"KDMV\x01\0\0\0", "VMDK"),
        (b"vhdxfile", "VHDX"),
        (b"conectix", "VHD"),
        (b"7z\xbc\xaf\x27\x1c", "7z"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"\n<!DOCTYPE html><title>404</title>", "web page"),
        (b"<HTML>", "web page"),
        (&tar, "tar"),
        (b"QFI\xfb\0\0\0\x03", "from a stream"),
    ] {
        let refused = import_of(upload, &Terms::default()).map(|(imported, _)| imported).unwrap_err();
        assert!(refused.to_string().contains(name), "{refused}");
        // Inside of something it is as useless.
        let refused = import_of(&Packing::Gz.pack(upload), &Terms::default()).map(|_| ()).unwrap_err();
        assert!(matches!(refused, ImportError::Unsupported { .. }), "{refused}");
    }
    // Unless somebody says that this is what the disk begins with.
    let raw = Terms { format: Some(Format::Raw), ..Terms::default() };
    assert!(import_of(b"PK\x03\x04", &raw).is_ok());
    assert!(import_of(&Packing::Xz.pack(b"x"), &raw).is_ok());
}

#[test]
fn a_wrong_hint_and_an_empty_upload_are_refused() {
    let hint = |format| Terms { format: Some(format), ..Terms::default() };
    let gz = Packing::Gz.pack(b"content");
    for format in [Format::Xz, Format::Zst, Format::Qcow2] {
        let refused = import_of(&gz, &hint(format)).map(|_| ()).unwrap_err();
        assert!(matches!(refused, ImportError::NotThat { found: "a gzip file", .. }), "{refused}");
    }
    assert!(matches!(import_of(b"", &Terms::default()), Err(ImportError::Empty)));
    for packing in Packing::ALL {
        assert!(matches!(import_of(&packing.pack(b""), &Terms::default()), Err(ImportError::Empty)));
    }
}

#[test]
fn a_broken_upload_and_a_full_disk_are_told_apart() {
    struct Broken(Vec<u8>, usize);
    impl Read for Broken {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let rest = &self.0[self.1..];
            if rest.is_empty() {
                return Err(io::Error::new(io::ErrorKind::ConnectionReset, "reset"));
            }
            let count = rest.len().min(into.len()).min(1000);
            into[..count].copy_from_slice(&rest[..count]);
            self.1 += count;
            Ok(count)
        }
    }
    struct Full;
    impl Sink for Full {
        fn keep(&mut self, _: Digest, _: &[u8]) -> io::Result<()> {
            Err(io::ErrorKind::StorageFull.into())
        }
    }
    for packing in Packing::ALL {
        let mut half = packing.pack(&content());
        half.truncate(half.len() / 2);
        let (count, mut memory) = (half.len() as u64, Memory::default());
        let broken = import(Broken(half, 0), &Terms::default(), &mut memory, &mut |_| {}).unwrap_err();
        assert!(matches!(broken, ImportError::Source { at, .. } if at == count), "{packing:?} {broken}");
        let whole = packing.pack(&content());
        let full = import(&whole[..], &Terms::default(), &mut Full, &mut |_| {}).unwrap_err();
        assert!(matches!(full, ImportError::Sink(_)), "{packing:?} {full}");
    }
}

#[test]
fn progress_grows_to_what_there_is() {
    let whole = Packing::Xz.pack(&content());
    let (mut seen, mut memory) = (vec![], Memory::default());
    import(&whole[..], &Terms::default(), &mut memory, &mut |progress| seen.push(progress)).unwrap();
    assert!(seen.is_sorted_by_key(|p| (p.read, p.unpacked, p.data)));
    let last = seen.last().unwrap();
    assert_eq!((last.read, last.unpacked), (whole.len() as u64, content().len() as u64));
}

#[test]
fn zeros_and_octets_pushed_in_any_sizes_make_the_same_manifest() {
    let content = content();
    let (expected, _) = import_of(&content, &Terms::default()).unwrap();
    for step in [1000, EXTENT - 1, EXTENT, EXTENT + 1, 3 * EXTENT + 5] {
        let mut memory = Memory::default();
        let mut cutter = Cutter::new(&Terms::default(), &mut memory);
        for part in content.chunks(step) {
            match part.iter().position(|o| *o != 0) {
                None => cutter.zeros(part.len() as u64).unwrap(),
                Some(_) => cutter.push(part).unwrap(),
            }
        }
        assert_eq!(cutter.finish().unwrap(), expected.manifest, "{step}");
    }
}
