//! A UEFI program as a firmware reads it before it starts it: its sections, what is signed of it, and by whom.
//!
//! Of Microsoft's "PE Format", and "Windows Authenticode Portable Executable Signature Format" (2008), which UEFI
//! 2.10, 32.2.2 follows. Any octets may come: nothing here panics, and what is out of bounds is no program.

use sha2::{Digest as _, Sha256};
use std::ops::Range;

/// Where the MZ header says where the PE header is.
const PLACE: usize = 0x3c;
/// Octets of the COFF header, with the signature before it.
const COFF: usize = 24;
/// PE32+: what 64 bits have.
const PE32_PLUS: u16 = 0x20b;
/// In the optional header of PE32+.
const SIZE_OF_HEADERS: usize = 60;
const CHECKSUM: usize = 64;
const DIRECTORIES: usize = 108;
/// The certificates' place among the data directories.
const SECURITY: usize = 4;
/// Octets of a row of the section table.
const SECTION: usize = 40;
/// A program with more sections is none of ours.
const SECTIONS: usize = 96;
/// A certificate that is a PKCS#7 signature (`WIN_CERT_TYPE_PKCS_SIGNED_DATA`).
const PKCS7: u16 = 2;
/// Octets of a certificate's head.
const CERTIFICATE: usize = 8;

/// A section.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Section {
    name: [u8; 8],
    /// In the file.
    range: Range<usize>,
    /// Octets of it that count: the file's may be filled up.
    size: usize,
}

/// A program.
#[derive(Clone, Debug)]
pub struct Program<'a> {
    octets: &'a [u8],
    sections: Vec<Section>,
    /// Where the checksum stands: it is no part of what is signed.
    checksum: usize,
    /// Where the certificates' row of the directory stands: nor is that.
    row: usize,
    headers: usize,
    certificates: Range<usize>,
}

fn short(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(octets.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn long(octets: &[u8], at: usize) -> Option<usize> {
    let four = octets.get(at..at.checked_add(4)?)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(four)).ok()
}

/// So many octets from there on, if the file has them.
fn within(octets: &[u8], at: usize, length: usize) -> Option<Range<usize>> {
    let range = at..at.checked_add(length)?;
    octets.get(range.clone()).map(|_| range)
}

impl<'a> Program<'a> {
    /// Reads a program of 64 bits; nothing: it is none.
    pub fn parse(octets: &'a [u8]) -> Option<Program<'a>> {
        let pe = long(octets, PLACE).filter(|_| octets.starts_with(b"MZ"))?;
        octets.get(pe..)?.starts_with(b"PE\0\0").then_some(())?;
        let count = usize::from(short(octets, pe.checked_add(6)?)?);
        let optional = pe.checked_add(COFF)?;
        let length = usize::from(short(octets, pe + 20)?);
        let table = within(octets, optional, length)?.end;
        let is_whole = short(octets, optional)? == PE32_PLUS
            && count <= SECTIONS
            && length >= DIRECTORIES + 4 + 8 * (SECURITY + 1)
            && long(octets, optional + DIRECTORIES)? > SECURITY;
        is_whole.then_some(())?;
        let row = optional + DIRECTORIES + 4 + 8 * SECURITY;
        let certificates = within(octets, long(octets, row)?, long(octets, row + 4)?)?;
        let headers = long(octets, optional + SIZE_OF_HEADERS)?;
        within(octets, 0, headers).filter(|headers| headers.end >= table + count * SECTION)?;
        let sections = (0..count).map(|number| {
            let at = table + number * SECTION;
            let (size, raw) = (long(octets, at + 8)?, long(octets, at + 16)?);
            let range = match raw {
                // Of one that is all zeros the file has nothing.
                0 => 0..0,
                raw => within(octets, long(octets, at + 20)?, raw)?,
            };
            Some(Section { name: octets.get(at..at + 8)?.try_into().ok()?, range, size: size.min(raw) })
        });
        let sections = sections.collect::<Option<Vec<_>>>()?;
        Some(Program { octets, sections, checksum: optional + CHECKSUM, row, headers, certificates })
    }

    /// What is in a section.
    pub fn section(&self, name: &str) -> Option<&'a [u8]> {
        let is_it = |section: &&Section| {
            section
                .name
                .strip_prefix(name.as_bytes())
                .is_some_and(|rest| rest.iter().all(|octet| *octet == 0))
        };
        let section = self.sections.iter().find(is_it)?;
        self.octets.get(section.range.clone())?.get(..section.size)
    }

    /// SHA-256 of all that a signature is for: the file but its checksum, the place of its certificates, and them.
    /// Nothing: no firmware would take it, for they do not stand at its end.
    pub fn digest(&self) -> Option<[u8; 32]> {
        let mut sum = Sha256::new();
        let mut add = |range: Range<usize>| self.octets.get(range).map(|octets| sum.update(octets));
        add(0..self.checksum)?;
        add(self.checksum + 4..self.row)?;
        add(self.row + 8..self.headers)?;
        let mut sections: Vec<&Section> =
            self.sections.iter().filter(|section| !section.range.is_empty()).collect();
        sections.sort_by_key(|section| section.range.start);
        let mut hashed = self.headers;
        for section in sections {
            add(section.range.clone())?;
            hashed = hashed.checked_add(section.range.len())?;
        }
        let end = match self.certificates.is_empty() {
            true => self.octets.len(),
            false if self.certificates.end == self.octets.len() => self.certificates.start,
            false => return None,
        };
        // Sections that lie over one another make it begin behind its end.
        add(hashed..end)?;
        Some(sum.finalize().into())
    }

    /// The PKCS#7 signatures that it carries.
    pub fn signatures(&self) -> Vec<&'a [u8]> {
        let mut found = Vec::new();
        let mut rest = self.octets.get(self.certificates.clone()).unwrap_or_default();
        while let (Some(length), Some(kind)) = (long(rest, 0), short(rest, 6)) {
            let Some(content) = rest.get(CERTIFICATE..length) else { break };
            if kind == PKCS7 {
                found.push(content);
            }
            // Each begins at a multiple of eight.
            rest = length.checked_next_multiple_of(8).and_then(|next| rest.get(next..)).unwrap_or_default();
        }
        found
    }
}

#[cfg(test)]
pub(crate) mod tests;
