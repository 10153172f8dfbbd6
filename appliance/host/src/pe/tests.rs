#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use super::*;

/// Where the PE header of [`program`] is, and its optional header.
const PE: usize = 0x80;
const OPTIONAL: usize = PE + COFF;
const ROW: usize = OPTIONAL + DIRECTORIES + 4 + 8 * SECURITY;

fn put(octets: &mut [u8], at: usize, value: u32) {
    octets[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// A program with these sections, and behind them certificates.
pub(crate) fn program(sections: &[(&str, &[u8])], certificates: &[u8]) -> Vec<u8> {
    let mut octets = vec![0; 0x400];
    octets[..2].copy_from_slice(b"MZ");
    put(&mut octets, PLACE, PE as u32);
    octets[PE..PE + 4].copy_from_slice(b"PE\0\0");
    octets[PE + 6] = sections.len() as u8;
    octets[PE + 20] = 240;
    octets[OPTIONAL..OPTIONAL + 2].copy_from_slice(&PE32_PLUS.to_le_bytes());
    put(&mut octets, OPTIONAL + SIZE_OF_HEADERS, 0x400);
    put(&mut octets, OPTIONAL + DIRECTORIES, 16);
    for (number, (name, content)) in sections.iter().enumerate() {
        let at = OPTIONAL + 240 + number * SECTION;
        octets[at..at + name.len()].copy_from_slice(name.as_bytes());
        put(&mut octets, at + 8, content.len() as u32);
        let (begin, raw) = (octets.len() as u32, content.len().next_multiple_of(512) as u32);
        put(&mut octets, at + 16, raw);
        put(&mut octets, at + 20, begin);
        octets.extend(*content);
        octets.resize((begin + raw) as usize, 0);
    }
    if !certificates.is_empty() {
        let begin = octets.len() as u32;
        put(&mut octets, ROW, begin);
        put(&mut octets, ROW + 4, certificates.len() as u32);
        octets.extend(certificates);
    }
    octets
}

/// A row of the certificates' table.
pub(crate) fn certificate(kind: u16, content: &[u8]) -> Vec<u8> {
    let mut octets = ((CERTIFICATE + content.len()) as u32).to_le_bytes().to_vec();
    octets.extend([0, 2]);
    octets.extend(kind.to_le_bytes());
    octets.extend(content);
    octets.resize(octets.len().next_multiple_of(8), 0);
    octets
}

const SECTIONS_HERE: [(&str, &[u8]); 2] = [(".cmdline", b"kiln.slot=loader"), (".linux", &[7; 700])];

#[test]
fn a_section_is_its_content_without_what_fills_it_up() {
    let octets = program(&SECTIONS_HERE, b"");
    let read = Program::parse(&octets).unwrap();
    assert_eq!(
        read.section(".cmdline"),
        Some(&b"kiln.slot=loader"[..]),
        "a name of eight letters has no zero"
    );
    assert_eq!(read.section(".linux"), Some(&[7; 700][..]));
    assert_eq!(read.section(".lin"), None);
    assert_eq!(read.section(""), None);
}

#[test]
fn the_digest_is_of_all_but_the_checksum_and_the_signature() {
    let plain = program(&SECTIONS_HERE, b"");
    let digest = |octets: &[u8]| Program::parse(octets).unwrap().digest();
    let of_plain = digest(&plain).unwrap();
    assert_eq!(digest(&program(&SECTIONS_HERE, &certificate(PKCS7, b"a signature"))), Some(of_plain));
    for at in (0..plain.len()).step_by(3) {
        let mut changed = plain.clone();
        changed[at] ^= 1;
        let Some(read) = Program::parse(&changed) else { continue };
        if (ROW..ROW + 8).contains(&at) {
            // Certificates where there are none.
            continue;
        }
        let is_checksum = (OPTIONAL + CHECKSUM..OPTIONAL + CHECKSUM + 4).contains(&at);
        assert_eq!(read.digest() == Some(of_plain), is_checksum, "the octet {at:#x}");
    }
    let more = [plain, vec![0; 8]].concat();
    assert_ne!(digest(&more), Some(of_plain), "what is behind the sections is signed too");
}

#[test]
fn signatures_are_read_and_other_certificates_passed_over() {
    let all =
        [certificate(PKCS7, b"one"), certificate(1, b"no"), certificate(PKCS7, b"another one")].concat();
    let octets = program(&SECTIONS_HERE, &all);
    let read = Program::parse(&octets).unwrap();
    assert_eq!(read.signatures(), [&b"one"[..], b"another one"]);
    let mut hidden = octets.clone();
    hidden.extend([0; 8]);
    assert_eq!(
        Program::parse(&hidden).unwrap().digest(),
        None,
        "what is behind the certificates nobody signed"
    );
}

#[test]
fn no_octets_make_it_panic() {
    let whole = program(&SECTIONS_HERE, &certificate(PKCS7, b"a signature"));
    let all = |octets: &[u8]| {
        if let Some(read) = Program::parse(octets) {
            let _ = (read.digest(), read.signatures(), read.section(".linux"));
        }
    };
    (0..whole.len()).for_each(|end| all(&whole[..end]));
    for at in 0..0x400 {
        for octet in [0, 1, 0x7f, 0x80, 0xff] {
            let mut noise = whole.clone();
            noise[at] = octet;
            all(&noise);
            noise[at..whole.len().min(at + 4)].fill(octet);
            all(&noise);
        }
    }
}
