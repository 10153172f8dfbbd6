//! Numbers and large binary values as text (RFC 7143, 6.1).

/// RFC 7143, 12.1.3: before they are encoded, responses and challenges have 1024 octets at most.
const MOST: usize = 1024;

/// A value of 1 to 1024 octets: `0x` and hexadecimal digits, or `0b` and base64.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let octets = match text.as_bytes() {
        [b'0', b'x' | b'X', digits @ ..] => hexadecimal(digits)?,
        [b'0', b'b' | b'B', digits @ ..] => base64(digits)?,
        _ => return None,
    };
    (1..=MOST).contains(&octets.len()).then_some(octets)
}

/// As [`decode`] takes it; hexadecimal, for every initiator reads that.
pub(super) fn encode(octets: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    let mut text = String::with_capacity(2 + 2 * octets.len());
    text.push_str("0x");
    for octet in octets {
        text.push(digit(octet >> 4));
        text.push(digit(octet & 15));
    }
    text
}

/// A number of one octet, decimal or hexadecimal.
pub(super) fn octet(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [b'0', b'x' | b'X', digits @ ..] if (1..=2).contains(&digits.len()) => {
            let text = std::str::from_utf8(digits).ok()?;
            if text.starts_with('+') { None } else { u8::from_str_radix(text, 16).ok() }
        }
        [b'0'..=b'9', ..] => text.parse().ok(),
        _ => None,
    }
}

/// An odd number of digits is one with a leading zero left out.
fn hexadecimal(digits: &[u8]) -> Option<Vec<u8>> {
    if digits.len() > 2 * MOST {
        return None;
    }
    let mut octets = Vec::with_capacity(digits.len().div_ceil(2));
    let mut high = (digits.len() % 2 == 1).then_some(0);
    for digit in digits {
        let value = u8::try_from(char::from(*digit).to_digit(16)?).ok()?;
        match high.take() {
            None => high = Some(value),
            Some(above) => octets.push(above << 4 | value),
        }
    }
    Some(octets)
}

fn base64(digits: &[u8]) -> Option<Vec<u8>> {
    let padded = digits.iter().rev().take_while(|digit| **digit == b'=').count();
    let padding_fits = padded == 0 || (padded <= 2 && digits.len().is_multiple_of(4));
    if !padding_fits || digits.len() > MOST * 4 / 3 + 4 {
        return None;
    }
    let digits = &digits[..digits.len() - padded];
    if digits.len() % 4 == 1 {
        return None;
    }
    let mut octets = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut gathered, mut bits) = (0_u32, 0);
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        gathered = (gathered << 6 | u32::from(value)) & 0x3fff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            octets.push((gathered >> bits) as u8);
        }
    }
    Some(octets)
}

#[cfg(test)]
mod tests;
