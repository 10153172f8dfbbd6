//! Logical unit numbers, and what a target answers where there is no logical unit.

use crate::cdb::Cdb;
use crate::response::Response;
use crate::sense::{Sense, SenseFormat};

/// A logical unit number: 0 to 16383.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lun(u16);

impl Lun {
    /// At most 16383 (SAM-5, flat space addressing: 14 bits of flat space addressing).
    pub fn new(number: u16) -> Option<Lun> {
        (number < 0x4000).then_some(Lun(number))
    }

    /// The number.
    pub fn number(self) -> u16 {
        self.0
    }

    /// Reads the LUN field; `None` is one of a kind that we have none of (well known, hierarchical, extended).
    pub fn parse(field: [u8; 8]) -> Option<Lun> {
        let [first, second, rest @ ..] = field;
        if rest != [0; 6] {
            return None;
        }
        match first >> 6 {
            // SAM-5, peripheral device addressing: peripheral device addressing, bus identifier zero.
            0 if first == 0 => Some(Lun(second.into())),
            // SAM-5, flat space addressing: flat space addressing.
            1 => Some(Lun(u16::from_be_bytes([first & 0x3f, second]))),
            _ => None,
        }
    }

    /// The LUN field: peripheral device addressing up to 255, flat space addressing above.
    pub fn encode(self) -> [u8; 8] {
        let [high, low] = self.0.to_be_bytes();
        let first = if self.0 < 256 { 0 } else { 0x40 | high };
        [first, low, 0, 0, 0, 0, 0, 0]
    }
}

/// Answers a command to a LUN behind which there is nothing; `inventory` is what the target has.
pub fn absent(cdb: &[u8], inventory: &[Lun]) -> Response {
    let refused = Response::check(&Sense::LOGICAL_UNIT_NOT_SUPPORTED, SenseFormat::Fixed);
    let Some(cdb) = Cdb::new(cdb) else { return refused };
    match cdb.octet(0) {
        // SPC-5: PERIPHERAL QUALIFIER 011b goes with PERIPHERAL DEVICE TYPE 1Fh.
        0x12 if !cdb.bit(1, 0x03) => {
            let mut data = vec![0; 36];
            data[0] = 0x7f;
            data[2] = 0x06;
            data[3] = 0x02;
            data[4] = 31;
            data[8..16].copy_from_slice(&crate::identity::field(crate::identity::VENDOR, 8));
            data[16..36].fill(b' ');
            Response::data(data, cdb.be16(3).into())
        }
        // SPC-5, REQUEST SENSE: to a LUN without a logical unit, the sense data is parameter data.
        0x03 => {
            let format = if cdb.bit(1, 0x01) { SenseFormat::Descriptor } else { SenseFormat::Fixed };
            Response::data(Sense::LOGICAL_UNIT_NOT_SUPPORTED.encode(format), cdb.octet(4).into())
        }
        0xa0 => match report(&cdb, inventory) {
            Ok(response) => response,
            Err(sense) => Response::check(&sense, SenseFormat::Fixed),
        },
        _ => refused,
    }
}

/// REPORT LUNS (SPC-5, REPORT LUNS).
pub(crate) fn report(cdb: &Cdb, inventory: &[Lun]) -> Result<Response, Sense> {
    let listed: &[Lun] = match cdb.octet(2) {
        0x00 | 0x02 => inventory,
        // Well known logical units only, and the administrative ones: there are none.
        0x01 | 0x10..=0x12 => &[],
        _ => return Err(Sense::in_cdb(2)),
    };
    // An allocation length below 16 was an error in SPC-2, and is a short answer since.
    let mut data = vec![0; 8];
    for lun in listed {
        data.extend_from_slice(&lun.encode());
    }
    let length = u32::try_from(data.len() - 8).unwrap_or(u32::MAX);
    data[..4].copy_from_slice(&length.to_be_bytes());
    Ok(Response::data(data, usize::try_from(cdb.be32(6)).unwrap_or(usize::MAX)))
}
