//! Sense data, decoded (SPC-5, 4.4).

use std::fmt;

/// Why a command ended with CHECK CONDITION.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense {
    /// The sense key.
    pub key: u8,
    /// Additional sense code and its qualifier.
    pub code: (u8, u8),
    /// Of an earlier command that had been called done.
    pub deferred: bool,
    /// INFORMATION, where it is valid: for a medium error the block.
    pub information: Option<u64>,
}

impl Sense {
    /// Reads fixed and descriptor format; none if it is neither.
    pub fn parse(octets: &[u8]) -> Option<Sense> {
        let at = |index: usize| octets.get(index).copied();
        let kind = at(0)? & 0x7f;
        match kind {
            0x70 | 0x71 => {
                let valid = at(0)? & 0x80 != 0;
                let information = octets.get(3..7).filter(|_| valid);
                Some(Sense {
                    key: at(2)? & 15,
                    code: (at(12).unwrap_or(0), at(13).unwrap_or(0)),
                    deferred: kind == 0x71,
                    information: information.map(number),
                })
            }
            0x72 | 0x73 => Some(Sense {
                key: at(1)? & 15,
                code: (at(2)?, at(3)?),
                deferred: kind == 0x73,
                information: information(octets.get(8..).unwrap_or_default()),
            }),
            _ => None,
        }
    }
}

/// The first information descriptor of a list.
fn information(mut descriptors: &[u8]) -> Option<u64> {
    while let [kind, length, rest @ ..] = descriptors {
        let body = rest.get(..usize::from(*length))?;
        if *kind == 0 && body.len() == 10 && body[0] & 0x80 != 0 {
            return Some(number(&body[2..]));
        }
        descriptors = &rest[body.len()..];
    }
    None
}

pub(super) fn number(octets: &[u8]) -> u64 {
    octets.iter().fold(0, |number, octet| number << 8 | u64::from(*octet))
}

impl fmt::Display for Sense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const KEYS: [&str; 16] = [
            "NO SENSE",
            "RECOVERED ERROR",
            "NOT READY",
            "MEDIUM ERROR",
            "HARDWARE ERROR",
            "ILLEGAL REQUEST",
            "UNIT ATTENTION",
            "DATA PROTECT",
            "BLANK CHECK",
            "VENDOR SPECIFIC",
            "COPY ABORTED",
            "ABORTED COMMAND",
            "RESERVED",
            "VOLUME OVERFLOW",
            "MISCOMPARE",
            "COMPLETED",
        ];
        let (code, qualifier) = self.code;
        write!(f, "{} {code:02x}/{qualifier:02x}", KEYS[usize::from(self.key & 15)])?;
        if let Some(information) = self.information {
            write!(f, " at {information}")?;
        }
        if self.deferred {
            f.write_str(", deferred")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
