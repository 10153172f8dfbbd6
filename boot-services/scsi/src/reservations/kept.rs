//! What outlasts a loss of power: registrations and the reservation, as octets.
//!
//! ```text
//! 0       version: 1
//! 1       type of the reservation, 0 is none
//! 2..4    which registration holds it, FFFFh is none
//! 4..6    number of registrations, and then each:
//!           0..8    key
//!           8       1: made for all target ports
//!           9..15   ISID
//!           15      length of the name, and then the name
//! last 4  CRC-32C of all before
//! ```
//!
//! Numbers are big-endian. No octets at all are: nothing kept.

use std::fmt;

use super::{Held, MOST_REGISTRATIONS, Registration, Reservations, Type};
use crate::nexus::InitiatorPort;

const VERSION: u8 = 1;
const NOBODY: u16 = 0xffff;

/// Why kept reservations cannot be taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// The octets are not those that were given to be kept.
    Damaged,
    /// They are of a version that this one does not know.
    Version(u8),
}

impl fmt::Display for RestoreError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestoreError::Damaged => out.write_str(
                "the kept reservations are damaged: initiators must register again, so remove them knowingly",
            ),
            RestoreError::Version(version) => {
                write!(
                    out,
                    "the kept reservations are of version {version}: start the version that wrote them"
                )
            }
        }
    }
}

impl std::error::Error for RestoreError {}

impl Reservations {
    /// What is to be kept now.
    pub(crate) fn keep(&self) -> Vec<u8> {
        if !self.persists {
            return Vec::new();
        }
        let kind = self.held.as_ref().map_or(0, |held| held.kind as u8);
        let holder = self.held.as_ref().and_then(|held| {
            let place = self.registrations.iter().position(|one| one.port == held.holder)?;
            u16::try_from(place).ok()
        });
        let mut out = vec![VERSION, kind];
        out.extend_from_slice(&holder.unwrap_or(NOBODY).to_be_bytes());
        out.extend_from_slice(&(self.registrations.len() as u16).to_be_bytes());
        for Registration { port, key, all_ports } in &self.registrations {
            out.extend_from_slice(&key.to_be_bytes());
            out.push((*all_ports).into());
            out.extend_from_slice(&port.isid);
            out.push(u8::try_from(port.name.len()).unwrap_or(u8::MAX));
            out.extend(port.name.bytes().take(usize::from(u8::MAX)));
        }
        out.extend_from_slice(&crc32c::crc32c(&out).to_be_bytes());
        out
    }

    /// What was kept.
    pub(crate) fn restore(octets: &[u8]) -> Result<Reservations, RestoreError> {
        if octets.is_empty() {
            return Ok(Reservations::default());
        }
        let (body, sum) = octets.split_last_chunk::<4>().ok_or(RestoreError::Damaged)?;
        if crc32c::crc32c(body) != u32::from_be_bytes(*sum) {
            return Err(RestoreError::Damaged);
        }
        match body.first() {
            Some(&VERSION) => read(body).ok_or(RestoreError::Damaged),
            Some(version) => Err(RestoreError::Version(*version)),
            None => Err(RestoreError::Damaged),
        }
    }
}

fn read(body: &[u8]) -> Option<Reservations> {
    let ([_, kind, holder @ ..], mut rest) = body.split_first_chunk::<4>()?;
    let number = take::<2>(&mut rest).map(u16::from_be_bytes)?;
    let mut registrations = Vec::new();
    for _ in 0..number {
        let key = take::<8>(&mut rest).map(u64::from_be_bytes)?;
        let [all_ports] = take(&mut rest)?;
        let isid = take(&mut rest)?;
        let [length] = take(&mut rest)?;
        let (name, after) = rest.split_at_checked(length.into())?;
        rest = after;
        let port = InitiatorPort { name: String::from_utf8(name.to_vec()).ok()?, isid };
        registrations.push(Registration { port, key, all_ports: all_ports != 0 });
    }
    let held = match (kind, u16::from_be_bytes(*holder)) {
        (0, NOBODY) => None,
        // Of the all registrants types, who made it may be gone: any registered one stands for it.
        (kind, holder) => {
            let kind = Type::of(*kind)?;
            let place = if holder == NOBODY && kind.is_held_by_all() { 0 } else { holder };
            Some(Held { kind, holder: registrations.get(usize::from(place))?.port.clone() })
        }
    };
    let fits = rest.is_empty() && registrations.len() <= MOST_REGISTRATIONS;
    fits.then_some(Reservations { registrations, held, generation: 0, persists: true, simple: None })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*first)
}
