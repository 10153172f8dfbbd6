use super::Malformed;

/// An additional header segment (RFC 7143, 11.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Additional<'a> {
    /// What follows the sixteenth octet of a CDB.
    ExtendedCdb(&'a [u8]),
    /// The read half of a command that writes too, in octets.
    BidirectionalRead(u32),
}

/// All segments, in order.
///
/// # Errors
/// A length runs past the end, or a type is unknown.
pub fn parse_additional(mut octets: &[u8]) -> Result<Vec<Additional<'_>>, Malformed> {
    let mut found = Vec::new();
    while let [high, low, kind, reserved, ..] = octets {
        // RFC 7143, 11.2.2.1: "This field contains the effective length in bytes of the AHS, excluding AHSType
        // and AHSLength and padding, if any."
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let end = 3 + length;
        let body = octets.get(3..end).ok_or(Malformed::Additional)?;
        found.push(match (kind & 0x3f, body) {
            (1, [_, cdb @ ..]) if length >= 2 => Additional::ExtendedCdb(cdb),
            (2, [_, a, b, c, d]) if *reserved == 0 => {
                Additional::BidirectionalRead(u32::from_be_bytes([*a, *b, *c, *d]))
            }
            _ => return Err(Malformed::Additional),
        });
        octets = octets.get(end.next_multiple_of(4)..).ok_or(Malformed::Additional)?;
    }
    if octets.is_empty() { Ok(found) } else { Err(Malformed::Additional) }
}
