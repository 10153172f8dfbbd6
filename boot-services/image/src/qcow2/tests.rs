use super::*;
use crate::import::tests::{Memory, content};
use crate::{Sum, import};
use flate2::write::DeflateEncoder;
use std::io::Write as _;

const CLUSTER: usize = 1 << 16;

struct Slice(Vec<u8>);

impl RandomRead for Slice {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let rest = self.0.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

/// A version 3 image by QEMU's docs/interop/qcow2.txt: header, L1 table, one L2 table, a refcount table
/// and block that nobody reads, then clusters; every other one is compressed, zeros are left out.
fn qcow2(content: &[u8]) -> Vec<u8> {
    let put = |image: &mut Vec<u8>, at: usize, octets: &[u8]| {
        if image.len() < at + octets.len() {
            image.resize((at + octets.len()).next_multiple_of(CLUSTER), 0);
        }
        image[at..at + octets.len()].copy_from_slice(octets);
    };
    let mut image = vec![0; 5 * CLUSTER];
    put(&mut image, 0, b"QFI\xfb\0\0\0\x03");
    put(&mut image, 20, &16u32.to_be_bytes());
    put(&mut image, 24, &(content.len().next_multiple_of(512) as u64).to_be_bytes());
    put(&mut image, 36, &1u32.to_be_bytes());
    put(&mut image, 40, &(CLUSTER as u64).to_be_bytes());
    put(&mut image, 48, &(3 * CLUSTER as u64).to_be_bytes());
    put(&mut image, 56, &1u32.to_be_bytes());
    put(&mut image, 96, &4u32.to_be_bytes());
    put(&mut image, 100, &104u32.to_be_bytes());
    put(&mut image, CLUSTER, &((1 << 63) | (2 * CLUSTER as u64)).to_be_bytes());
    put(&mut image, 3 * CLUSTER, &(4 * CLUSTER as u64).to_be_bytes());
    for (index, part) in content.chunks(CLUSTER).enumerate() {
        if part.iter().all(|octet| *octet == 0) {
            continue;
        }
        let at = image.len();
        let mut part = part.to_vec();
        part.resize(CLUSTER, 0);
        let mut deflate = DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        deflate.write_all(&part).unwrap();
        let packed = deflate.finish().unwrap();
        let entry = if index % 2 == 1 && packed.len() < CLUSTER {
            put(&mut image, at, &packed);
            // Bit 62: compressed; from bit 54 on (cluster_bits 16): sectors after the first.
            1 << 62 | ((packed.len() as u64 - 1) / 512) << 54 | at as u64
        } else {
            put(&mut image, at, &part);
            1 << 63 | at as u64
        };
        put(&mut image, 2 * CLUSTER + 8 * index, &entry.to_be_bytes());
    }
    image
}

fn imported(image: Vec<u8>, terms: &Terms) -> Result<Imported, ImportError> {
    import_qcow2(Slice(image), terms, &mut Memory::default(), &mut |_| {})
}

#[test]
fn a_qcow2_image_is_the_image_of_its_content() {
    let mut content = content();
    content.resize(content.len().next_multiple_of(512), 0);
    let raw = import(&content[..], &Terms::default(), &mut Memory::default(), &mut |_| {}).unwrap();
    let image = qcow2(&content);
    let qcow2 = imported(image.clone(), &Terms::default()).unwrap();
    assert_eq!(qcow2.manifest, raw.manifest);
    assert_eq!((qcow2.format, qcow2.read), (Format::Qcow2, image.len() as u64));
}

#[test]
fn the_uploaded_file_s_checksum_is_compared() {
    let image = qcow2(&[7; 512]);
    let wrong = Terms { file: Some("00".repeat(32).parse::<Sum>().unwrap()), ..Terms::default() };
    assert!(matches!(imported(image, &wrong), Err(ImportError::Mismatch { what: "the uploaded file", .. })));
}

#[test]
fn what_cannot_be_read_alone_is_refused_with_advice() {
    let with = |at: usize, octets: &[u8]| {
        let mut image = qcow2(&[7; 512]);
        image[at..at + octets.len()].copy_from_slice(octets);
        imported(image, &Terms::default()).unwrap_err().to_string()
    };
    for (at, octets, said) in [
        (8, &[0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 11][..], "backing file"),
        (32, &[0, 0, 0, 1], "encrypted"),
        (32, &[0, 0, 0, 2], "encrypted"),
        (79, &[0b10], "marked as corrupt"),
        (79, &[0b100], "another file"),
        (79, &[0b1000], "zstd clusters cannot be imported; convert it with `qemu-img convert -O raw`"),
        (79, &[0b1_0000], "extended L2"),
        (78, &[1], "newer than this release"),
        (7, &[9], "of version 9"),
        (23, &[8], "cluster size"),
        (23, &[40], "cluster size"),
        (36, &[0xff], "ends too early"),
        (40, &[0xff], "ends too early"),
        (24, &[0; 8], "empty"),
        (24, &[0, 0, 0, 0xff], "L1 table"),
        (24, &[0xff], "larger than"),
    ] {
        let refused = with(at, octets);
        assert!(refused.contains(said), "{at}: {refused}");
    }
}

#[test]
fn a_qcow2_image_larger_than_allowed_is_refused_before_it_is_read() {
    let terms = Terms { max_size: 512, ..Terms::default() };
    assert!(matches!(imported(qcow2(&[7; 1024]), &terms), Err(ImportError::TooLarge { limit: 512 })));
    assert!(imported(qcow2(&[7; 512]), &terms).is_ok());
}

#[test]
fn a_qcow2_image_cut_anywhere_or_with_a_flipped_bit_does_no_harm() {
    let image = qcow2(&content()[EXTENT - CLUSTER..EXTENT + CLUSTER]);
    let terms = Terms { max_size: 8 << 20, ..Terms::default() };
    // Its header, tables, and the beginning of each cluster.
    let telling = |at: &usize| at % CLUSTER < 110;
    for at in (0..image.len()).filter(telling) {
        for bit in 0..8 {
            let mut flipped = image.clone();
            flipped[at] ^= 1 << bit;
            let _ = imported(flipped, &terms);
        }
    }
    for length in (0..image.len()).filter(telling) {
        let cut = imported(image[..length].to_vec(), &terms);
        assert!(cut.is_err() || length > 5 * CLUSTER, "{length}");
    }
}
