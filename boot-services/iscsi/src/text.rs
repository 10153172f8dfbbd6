//! Text as Login and Text PDUs carry it: `key=value` pairs, each followed by a NUL (RFC 7143, 6.1).

use std::fmt;

/// The most octets of text that one request or response may have, over all its PDUs.
pub const MOST_TEXT: usize = 64 << 10;
/// The most pairs in one request or response; SendTargets answers are the longest that are seen.
pub const MOST_PAIRS: usize = 1024;
/// RFC 7143, 6.1: the most octets of a key's name.
pub const MOST_KEY: usize = 63;
/// A name has 255 octets at most, and a binary value of 1024 has 2050 as hexadecimal digits.
pub const MOST_VALUE: usize = 8192;

/// One `key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// What is before the first `=`.
    pub key: String,
    /// What is after it.
    pub value: String,
}

impl Pair {
    /// A pair; [`emit`] leaves out what could not be sent as one.
    pub fn new(key: &str, value: impl fmt::Display) -> Pair {
        Pair { key: key.to_owned(), value: value.to_string() }
    }
}

/// The first value of `key`.
pub fn value<'a>(pairs: &'a [Pair], key: &str) -> Option<&'a str> {
    pairs.iter().find(|pair| pair.key == key).map(|pair| pair.value.as_str())
}

/// Why octets are no text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// More than [`MOST_TEXT`] octets.
    TooLong,
    /// More than [`MOST_PAIRS`] pairs.
    TooMany,
    /// A piece without `=`; its beginning.
    NoValue(String),
    /// A key that is empty, has more than [`MOST_KEY`] octets or others than letters, digits and `.-+@_`;
    /// its beginning.
    BadKey(String),
    /// A value of more than [`MOST_VALUE`] octets, or not of UTF-8; its key.
    BadValue(String),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::TooLong => write!(f, "more than {MOST_TEXT} octets of text"),
            Malformed::TooMany => write!(f, "more than {MOST_PAIRS} pairs of text"),
            Malformed::NoValue(piece) => write!(f, "text without '=': {piece:?}"),
            Malformed::BadKey(key) => write!(f, "{key:?} is no name of a key"),
            Malformed::BadValue(key) => write!(f, "the value of {key} is too long or not UTF-8"),
        }
    }
}

impl std::error::Error for Malformed {}

/// The pairs of a whole request or response, in their order.
///
/// Empty pieces are passed over and the last NUL may be missing: initiators were seen that count their padding.
///
/// # Errors
/// It is no text, or too much of it.
pub fn parse(octets: &[u8]) -> Result<Vec<Pair>, Malformed> {
    if octets.len() > MOST_TEXT {
        return Err(Malformed::TooLong);
    }
    let mut pairs = Vec::new();
    for piece in octets.split(|octet| *octet == 0).filter(|piece| !piece.is_empty()) {
        if pairs.len() == MOST_PAIRS {
            return Err(Malformed::TooMany);
        }
        let Some(at) = piece.iter().position(|octet| *octet == b'=') else {
            return Err(Malformed::NoValue(beginning(piece)));
        };
        let (key, value) = (&piece[..at], &piece[at + 1..]);
        let key = match std::str::from_utf8(key) {
            Ok(name) if is_key(name) => name.to_owned(),
            _ => return Err(Malformed::BadKey(beginning(key))),
        };
        match std::str::from_utf8(value) {
            Ok(value) if value.len() <= MOST_VALUE => pairs.push(Pair { key, value: value.to_owned() }),
            _ => return Err(Malformed::BadValue(key)),
        }
    }
    Ok(pairs)
}

/// RFC 7143, 6.1: a key-name consists of letters, digits, dots, minuses, pluses, commercial ats and
/// underscores, and begins with a capital letter in every key there is; that last is not asked for here.
fn is_key(name: &str) -> bool {
    let allowed = |octet: u8| octet.is_ascii_alphanumeric() || b".-+@_".contains(&octet);
    (1..=MOST_KEY).contains(&name.len()) && name.bytes().all(allowed)
}

fn beginning(octets: &[u8]) -> String {
    String::from_utf8_lossy(&octets[..octets.len().min(MOST_KEY)]).into_owned()
}

/// The octets of pairs: what [`parse`] gives back.
///
/// A pair whose key is none or whose value has a NUL or is too long is left out: it cannot be sent.
pub fn emit(pairs: &[Pair]) -> Vec<u8> {
    let mut octets = Vec::new();
    for Pair { key, value } in pairs {
        if is_key(key) && value.len() <= MOST_VALUE && !value.contains('\0') {
            octets.extend_from_slice(key.as_bytes());
            octets.push(b'=');
            octets.extend_from_slice(value.as_bytes());
            octets.push(0);
        }
    }
    octets
}

/// Puts together the text of several PDUs (RFC 7143, 6.2: the C bit).
#[derive(Clone, Debug, Default)]
pub struct Gather(Vec<u8>);

impl Gather {
    /// The data segment of the next PDU, and whether its C bit says that more comes.
    ///
    /// Gives the pairs when the text is whole; nothing is kept then.
    ///
    /// # Errors
    /// It is no text, or too much of it; what was gathered is dropped.
    pub fn push(&mut self, segment: &[u8], continued: bool) -> Result<Option<Vec<Pair>>, Malformed> {
        if self.0.len() + segment.len() > MOST_TEXT {
            self.0 = Vec::new();
            return Err(Malformed::TooLong);
        }
        self.0.extend_from_slice(segment);
        if continued {
            return Ok(None);
        }
        parse(&std::mem::take(&mut self.0)).map(Some)
    }

    /// Whether a text has begun and not ended.
    pub fn is_open(&self) -> bool {
        !self.0.is_empty()
    }
}

#[cfg(test)]
mod tests;
