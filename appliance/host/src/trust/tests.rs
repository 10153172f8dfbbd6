#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use super::*;
use crate::pe::tests::{certificate, program};

const OURS: &[u8] = &[0x30, 3, 2, 1, 1];
const THEIRS: &[u8] = &[0x30, 3, 2, 1, 2];

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut octets = vec![tag];
    match content.len() {
        short @ 0..0x80 => octets.push(short as u8),
        long => octets.extend([0x82, (long >> 8) as u8, long as u8]),
    }
    octets.extend(content);
    octets
}

/// A signature of a digest that carries certificates, as sbsign makes it but for its last part.
fn signature(digest: &[u8], certificates: &[u8]) -> Vec<u8> {
    let identifier = der(IDENTIFIER, &[1]);
    let info = der(SEQUENCE, &[der(SEQUENCE, &identifier), der(OCTETS, digest)].concat());
    let indirect = der(SEQUENCE, &[der(SEQUENCE, &identifier), info].concat());
    let content = der(SEQUENCE, &[identifier.clone(), der(FIRST, &indirect)].concat());
    let parts = [der(2, &[1]), der(0x31, &identifier), content, der(FIRST, certificates), der(0x31, b"")];
    let signed = der(SEQUENCE, &parts.concat());
    der(SEQUENCE, &[identifier, der(FIRST, &signed)].concat())
}

/// A program that somebody signed.
fn signed(certificates: &[u8]) -> Vec<u8> {
    let sections: [(&str, &[u8]); 1] = [(".linux", &[7; 700])];
    let digest = Program::parse(&program(&sections, b"")).unwrap().digest().unwrap();
    program(&sections, &certificate(2, &signature(&digest, certificates)))
}

/// An `EFI_SIGNATURE_LIST` of signatures of one size.
fn list(kind: [u8; 16], signatures: &[&[u8]]) -> Vec<u8> {
    let size = OWNER + signatures[0].len();
    let mut octets = kind.to_vec();
    for number in [LIST + size * signatures.len(), 0, size] {
        octets.extend((number as u32).to_le_bytes());
    }
    for signature in signatures {
        octets.extend([9; OWNER]);
        octets.extend(*signature);
    }
    octets
}

fn verdict(program: &[u8], trusted: &[u8], revoked: &[u8]) -> Result<(), Refused> {
    judge(program, &Lists::parse(trusted), &Lists::parse(revoked))
}

#[test]
fn who_is_in_db_and_not_in_dbx_is_trusted() {
    let (ours, theirs) = (list(X509, &[OURS]), list(X509, &[THEIRS]));
    let program = signed(OURS);
    assert_eq!(verdict(&program, &ours, b""), Ok(()));
    assert_eq!(verdict(&program, &[list(X509, &[b"another one"]), ours.clone()].concat(), b""), Ok(()));
    assert_eq!(verdict(&program, &list(X509, &[THEIRS, OURS]), b""), Ok(()));
    assert_eq!(verdict(&program, &theirs, b""), Err(Refused::Stranger));
    assert_eq!(verdict(&program, b"", b""), Err(Refused::Stranger));
    assert_eq!(verdict(&program, &ours, &ours), Err(Refused::Revoked));
    assert_eq!(verdict(&program, &ours, &theirs), Ok(()));
    assert_eq!(verdict(&signed(&[THEIRS, OURS].concat()), &ours, b""), Ok(()));
}

#[test]
fn a_program_may_be_trusted_and_revoked_by_its_digest() {
    let program = signed(OURS);
    let digest = Program::parse(&program).unwrap().digest().unwrap();
    let itself = list(SHA256, &[&digest]);
    assert_eq!(verdict(&program, &itself, b""), Ok(()));
    assert_eq!(verdict(&program, &list(X509, &[OURS]), &itself), Err(Refused::Revoked));
    assert_eq!(verdict(&program, &list(SHA256, &[&[0; 32]]), b""), Err(Refused::Stranger));
}

#[test]
fn what_nobody_signed_or_somebody_altered_is_refused() {
    let ours = list(X509, &[OURS]);
    let mut altered = signed(OURS);
    altered[0x500] ^= 1;
    assert_eq!(verdict(&altered, &ours, b""), Err(Refused::Altered));
    assert_eq!(verdict(&program(&[(".linux", &[7; 700])], b""), &ours, b""), Err(Refused::Unsigned));
    assert_eq!(verdict(b"kernel", &ours, b""), Err(Refused::NoProgram));
    let nonsense = program(&[(".linux", &[7; 700])], &certificate(2, b"no signature"));
    assert_eq!(verdict(&nonsense, &ours, b""), Err(Refused::Unsigned));
}

#[test]
fn no_octets_make_it_panic() {
    let (whole, ours) = (signed(OURS), list(X509, &[OURS]));
    let table = whole.len() - 200;
    for at in table..whole.len() {
        for octet in [0, 0x1f, 0x7f, 0x80, 0x84, 0xff] {
            let mut noise = whole.clone();
            noise[at] = octet;
            let _ = verdict(&noise, &ours, b"");
        }
        let _ = Signed::parse(&whole[table..at]);
    }
    for at in 0..ours.len() {
        for octet in [0, 1, 16, 28, 0x7f, 0x80, 0xff] {
            let mut noise = ours.clone();
            noise[at] = octet;
            let _ = Lists::parse(&noise);
            noise[at..ours.len().min(at + 4)].fill(octet);
            let _ = Lists::parse(&noise);
        }
        let _ = Lists::parse(&ours[..at]);
    }
}
