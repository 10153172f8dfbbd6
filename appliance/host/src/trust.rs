//! Whether a firmware would start a program: by its variables `db` and `dbx`, and the program's signature.
//!
//! What is looked at: that the program is the one that was signed (its digest stands in the signature), and that the
//! signature carries a certificate that `db` has and `dbx` has not. The signer's RSA is the firmware's to check: it
//! would take a second library of ciphers to do it here, and who can forge a signature's last octets in a bundle has
//! the key that signs bundles.
//!
//! Any octets may come, of the firmware and of the program: nothing here panics.

use crate::pe::Program;
use std::fmt;

/// `EFI_CERT_X509_GUID` and `EFI_CERT_SHA256_GUID` (UEFI 2.10, 32.4.1), as they lie in memory.
const X509: [u8; 16] =
    [0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72];
const SHA256: [u8; 16] =
    [0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28];
/// Octets of `EFI_SIGNATURE_LIST`'s head.
const LIST: usize = 28;
/// Octets of the GUID of whose each signature is.
const OWNER: usize = 16;

/// Why a firmware would not start a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is no UEFI program of 64 bits.
    NoProgram,
    /// Nobody signed it.
    Unsigned,
    /// It is not what was signed.
    Altered,
    /// Whoever signed it is not in `db`.
    Stranger,
    /// It, or who signed it, is in `dbx`.
    Revoked,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::NoProgram => "it is no UEFI program",
            Refused::Unsigned => "it is not signed",
            Refused::Altered => "it was altered after it was signed",
            Refused::Stranger => "it was signed by somebody whom this box's firmware does not trust",
            Refused::Revoked => "this box's firmware trusts it, or who signed it, no more",
        })
    }
}

impl std::error::Error for Refused {}

/// Certificates and digests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists<'a> {
    certificates: Vec<&'a [u8]>,
    digests: Vec<&'a [u8]>,
}

impl<'a> Lists<'a> {
    /// Reads a variable's `EFI_SIGNATURE_LIST`s, one behind the other; what is not whole ends them.
    pub fn parse(mut octets: &'a [u8]) -> Lists<'a> {
        let mut lists = Lists::default();
        let number = |list: &[u8], at: usize| {
            let four: [u8; 4] = list.get(at..at + 4)?.try_into().ok()?;
            usize::try_from(u32::from_le_bytes(four)).ok()
        };
        while let Some(list) =
            number(octets, 16).filter(|size| *size >= LIST).and_then(|size| octets.get(..size))
        {
            octets = octets.get(list.len()..).unwrap_or_default();
            let (Some(head), Some(size)) = (number(list, 20), number(list, 24)) else { break };
            let signatures = LIST.checked_add(head).and_then(|at| list.get(at..)).unwrap_or_default();
            let into = match &list[..16] {
                kind if kind == X509 => &mut lists.certificates,
                kind if kind == SHA256 => &mut lists.digests,
                _ => continue,
            };
            if size > OWNER {
                into.extend(signatures.chunks_exact(size).map(|signature| &signature[OWNER..]));
            }
        }
        lists
    }
}

/// Whether a firmware with these lists starts a program.
///
/// # Errors
/// Why it would not.
pub fn judge(program: &[u8], trusted: &Lists, revoked: &Lists) -> Result<(), Refused> {
    let program = Program::parse(program).ok_or(Refused::NoProgram)?;
    let digest = program.digest().ok_or(Refused::NoProgram)?;
    let is_listed = |lists: &Lists| lists.digests.contains(&&digest[..]);
    if is_listed(revoked) {
        return Err(Refused::Revoked);
    }
    if is_listed(trusted) {
        return Ok(());
    }
    let mut why = Refused::Unsigned;
    for signed in program.signatures().into_iter().filter_map(Signed::parse) {
        let has = |lists: &Lists| signed.certificates.iter().any(|there| lists.certificates.contains(there));
        why = if signed.digest != digest {
            Refused::Altered
        } else if has(revoked) {
            Refused::Revoked
        } else if has(trusted) {
            return Ok(());
        } else {
            Refused::Stranger
        };
    }
    Err(why)
}

/// What a PKCS#7 signature of a program says.
struct Signed<'a> {
    digest: &'a [u8],
    certificates: Vec<&'a [u8]>,
}

const SEQUENCE: u8 = 0x30;
const OCTETS: u8 = 0x04;
const IDENTIFIER: u8 = 0x06;
/// `[0]`, constructed.
const FIRST: u8 = 0xa0;

impl<'a> Signed<'a> {
    /// Reads `ContentInfo` (RFC 2315, 7) with a `SignedData` (9.1) whose content is an `SpcIndirectDataContent`.
    fn parse(octets: &'a [u8]) -> Option<Signed<'a>> {
        let mut outer = Der(octets).inner(SEQUENCE)?;
        outer.inner(IDENTIFIER)?;
        let mut signed = outer.inner(FIRST)?.inner(SEQUENCE)?;
        // The version, and the digests' algorithms.
        signed.next()?;
        signed.next()?;
        let mut content = signed.inner(SEQUENCE)?;
        content.inner(IDENTIFIER)?;
        let mut indirect = content.inner(FIRST)?.inner(SEQUENCE)?;
        // What is signed is a program's image.
        indirect.next()?;
        let mut info = indirect.inner(SEQUENCE)?;
        // The algorithm: a digest that is no SHA-256 is none of this program.
        info.next()?;
        let digest = info.inner(OCTETS)?.0;
        let mut certificates = Vec::new();
        if let Some(mut all) = signed.inner(FIRST) {
            while let Some((_, whole, _)) = all.next() {
                certificates.push(whole);
            }
        }
        Some(Signed { digest, certificates })
    }
}

/// Values in DER (X.690), one behind the other.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next one: its tag, the whole of it, and its content.
    fn next(&mut self) -> Option<(u8, &'a [u8], &'a [u8])> {
        let octets = self.0;
        let (&tag, &first) = (octets.first()?, octets.get(1)?);
        // A tag of more than one octet is nowhere in a signature.
        (tag & 0x1f != 0x1f).then_some(())?;
        let (head, length) = match usize::from(first) {
            short @ ..=0x7f => (2, short),
            // 8.1.3.5: as many octets hold the length. 0x80 is BER's.
            long @ 0x81..=0x84 => {
                let more = octets.get(2..2 + (long - 0x80))?;
                (2 + more.len(), more.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)))
            }
            _ => return None,
        };
        let end = head.checked_add(length)?;
        let whole = octets.get(..end)?;
        self.0 = &octets[end..];
        Some((tag, whole, &whole[head..]))
    }

    /// The content of the next one, if it has this tag; else it stays the next one.
    fn inner(&mut self, tag: u8) -> Option<Der<'a>> {
        let mut ahead = *self;
        let (there, _, content) = ahead.next()?;
        (there == tag).then(|| {
            *self = ahead;
            Der(content)
        })
    }
}

#[cfg(test)]
mod tests;
