//! Mode parameters: Caching, Control and Informational Exceptions Control (SPC-5 and SBC-4).

use crate::cdb::Cdb;
use crate::identity::Geometry;
use crate::response::Response;
use crate::sense::{Sense, SenseFormat};

/// What an initiator can set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode {
    /// WCE: writes may stay in the volatile cache.
    pub(crate) write_cache: bool,
    /// SWP: writes are refused.
    pub(crate) software_protect: bool,
    /// D_SENSE.
    pub(crate) descriptor_sense: bool,
}

impl Default for Mode {
    fn default() -> Mode {
        Mode { write_cache: true, software_protect: false, descriptor_sense: false }
    }
}

const CACHING: u8 = 0x08;
const CONTROL: u8 = 0x0a;
const EXCEPTIONS: u8 = 0x1c;

impl Mode {
    pub(crate) fn format(&self) -> SenseFormat {
        if self.descriptor_sense { SenseFormat::Descriptor } else { SenseFormat::Fixed }
    }

    /// The page, as it is.
    fn page(&self, code: u8) -> Vec<u8> {
        match code {
            CACHING => {
                let mut page = vec![0; 20];
                page[..2].copy_from_slice(&[CACHING, 18]);
                page[2] = if self.write_cache { 0x04 } else { 0 };
                page
            }
            CONTROL => {
                let mut page = vec![0; 12];
                page[..2].copy_from_slice(&[CONTROL, 10]);
                page[2] = if self.descriptor_sense { 0x04 } else { 0 };
                // QUEUE ALGORITHM MODIFIER 1h: unrestricted reordering.
                page[3] = 0x10;
                page[4] = if self.software_protect { 0x08 } else { 0 };
                // BUSY TIMEOUT PERIOD: unlimited.
                page[8..10].copy_from_slice(&[0xff, 0xff]);
                page
            }
            _ => {
                let mut page = vec![0; 12];
                page[..2].copy_from_slice(&[EXCEPTIONS, 10]);
                page
            }
        }
    }

    /// Ones where an initiator can set it.
    fn changeable(code: u8) -> Vec<u8> {
        let mut page = Mode::default().page(code);
        page[2..].fill(0);
        match code {
            CACHING => page[2] = 0x04,
            CONTROL => (page[2], page[4]) = (0x04, 0x08),
            _ => {}
        }
        page
    }

    fn set(&mut self, page: &[u8]) {
        match page[0] & 0x3f {
            CACHING => self.write_cache = page[2] & 0x04 != 0,
            CONTROL => {
                self.descriptor_sense = page[2] & 0x04 != 0;
                self.software_protect = page[4] & 0x08 != 0;
            }
            _ => {}
        }
    }

    /// MODE SENSE (6) and (10).
    pub(crate) fn sense(&self, cdb: &Cdb, geometry: &Geometry) -> Result<Response, Sense> {
        let long = cdb.octet(0) == 0x5a;
        let no_blocks = cdb.bit(1, 0x08);
        let long_blocks = long && cdb.bit(1, 0x10);
        let wanted = cdb.octet(2) & 0x3f;
        let subpage = cdb.octet(3);
        // Subpages: there are none, so that "all subpages" is the pages themselves.
        let codes: &[u8] = match (wanted, subpage) {
            (0x3f, 0x00 | 0xff) => &[CACHING, CONTROL, EXCEPTIONS],
            (CACHING, 0x00 | 0xff) => &[CACHING],
            (CONTROL, 0x00 | 0xff) => &[CONTROL],
            (EXCEPTIONS, 0x00 | 0xff) => &[EXCEPTIONS],
            (0x3f | CACHING | CONTROL | EXCEPTIONS, _) => return Err(Sense::in_cdb(3)),
            _ => return Err(Sense::in_cdb_bit(2, 5)),
        };
        let mut pages = Vec::new();
        for code in codes {
            pages.extend(match cdb.octet(2) >> 6 {
                0 => self.page(*code),
                1 => Mode::changeable(*code),
                2 => Mode::default().page(*code),
                // SPC-5: where no values are saved, to ask for them is SAVING PARAMETERS NOT SUPPORTED.
                _ => return Err(Sense::SAVING_NOT_SUPPORTED),
            });
        }
        let blocks = if no_blocks { Vec::new() } else { descriptor(geometry, long_blocks) };
        let protect = if geometry.read_only || self.software_protect { 0x80 } else { 0 };
        // DPOFUA: DPO and FUA are looked at.
        let device_specific = protect | 0x10;
        let mut data;
        if long {
            data = vec![0, 0, 0, device_specific, u8::from(long_blocks), 0, 0, blocks.len() as u8];
        } else {
            data = vec![0, 0, device_specific, blocks.len() as u8];
        }
        data.extend(blocks);
        data.extend(pages);
        if long {
            let length = u16::try_from(data.len() - 2).unwrap_or(u16::MAX);
            data[..2].copy_from_slice(&length.to_be_bytes());
            Ok(Response::data(data, cdb.be16(7).into()))
        } else {
            data[0] = u8::try_from(data.len() - 1).unwrap_or(u8::MAX);
            Ok(Response::data(data, cdb.octet(4).into()))
        }
    }

    /// The length of the parameter list of MODE SELECT (6) and (10).
    pub(crate) fn select_length(cdb: &Cdb) -> Result<u32, Sense> {
        // SPC-5, MODE SELECT (6): PF zero is vendor specific, and SP asks for pages that can be saved.
        if !cdb.bit(1, 0x10) {
            return Err(Sense::in_cdb_bit(1, 4));
        }
        if cdb.bit(1, 0x01) {
            return Err(Sense::in_cdb_bit(1, 0));
        }
        Ok(if cdb.octet(0) == 0x55 { cdb.be16(7).into() } else { cdb.octet(4).into() })
    }

    /// MODE SELECT: the mode after it. Nothing is set unless everything can be.
    pub(crate) fn select(&self, cdb: &Cdb, list: &[u8], geometry: &Geometry) -> Result<Mode, Sense> {
        let (header, blocks, long_blocks) = if cdb.octet(0) == 0x55 {
            let [_, _, _, _, long, _, high, low, ..] = list else { return Err(Sense::PARAMETER_LIST_LENGTH) };
            (8, usize::from(u16::from_be_bytes([*high, *low])), long & 0x01 != 0)
        } else {
            let [_, _, _, blocks, ..] = list else { return Err(Sense::PARAMETER_LIST_LENGTH) };
            (4, usize::from(*blocks), false)
        };
        let Some((given, mut pages)) = list[header..].split_at_checked(blocks) else {
            return Err(Sense::PARAMETER_LIST_LENGTH);
        };
        if !given.is_empty() {
            same_blocks(given, long_blocks, geometry).ok_or(Sense::in_list(header as u16))?;
        }
        let mut mode = *self;
        while !pages.is_empty() {
            let at = (list.len() - pages.len()) as u16;
            let [code, length, ..] = pages else { return Err(Sense::PARAMETER_LIST_LENGTH) };
            let (code, length) = (*code, usize::from(*length) + 2);
            if !matches!(code, CACHING | CONTROL | EXCEPTIONS) {
                return Err(Sense::in_list(at));
            }
            let (current, changeable) = (mode.page(code), Mode::changeable(code));
            if length != current.len() {
                return Err(Sense::in_list(at + 1));
            }
            let Some((page, rest)) = pages.split_at_checked(length) else {
                return Err(Sense::PARAMETER_LIST_LENGTH);
            };
            // SPC-5, MODE SELECT (6): a change of what cannot be changed is INVALID FIELD IN PARAMETER LIST.
            for (octet, value) in page.iter().enumerate() {
                if (value ^ current[octet]) & !changeable[octet] != 0 && octet > 1 {
                    return Err(Sense::in_list(at + octet as u16));
                }
            }
            mode.set(page);
            pages = rest;
        }
        Ok(mode)
    }
}

/// The mode parameter block descriptor (SBC-4, mode parameter block descriptors).
fn descriptor(geometry: &Geometry, long: bool) -> Vec<u8> {
    let size = geometry.block_size().octets();
    if long {
        let mut out = geometry.blocks().to_be_bytes().to_vec();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&size.to_be_bytes());
        return out;
    }
    let mut out = u32::try_from(geometry.blocks()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
    out.extend_from_slice(&size.to_be_bytes());
    out
}

/// Whether a block descriptor asks for what there is: the number of blocks may also be zero or all ones, which
/// leave it as it is. We format nothing.
fn same_blocks(given: &[u8], long: bool, geometry: &Geometry) -> Option<()> {
    let expected = descriptor(geometry, long);
    if given.len() != expected.len() {
        return None;
    }
    let number = if long { 8 } else { 4 };
    let kept = given[..number].iter().all(|octet| *octet == 0)
        || given[..number].iter().all(|octet| *octet == 0xff)
        || given[..number] == expected[..number];
    (kept && given[number..] == expected[number..]).then_some(())
}
