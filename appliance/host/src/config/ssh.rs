//! Who may log in: public keys as OpenSSH writes them, one a line of its `.pub` files.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use boot::NotAWord;
use std::{fmt, str::FromStr};

/// A remote shell for operators, on the uplink's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssh {
    /// Whose private halves open it: one at least.
    pub keys: Vec<SshKey>,
    /// Its port.
    pub port: u16,
}

/// A public key, of a kind that the server knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshKey {
    /// Its kind and its octets in base64, as they were given.
    key: String,
    comment: String,
}

/// RFC 8709, RFC 5656, RFC 8332's keys, and OpenSSH's PROTOCOL.u2f.
const KINDS: [&str; 7] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];
const EXPECTED: &str = "a public SSH key: the one line of a file such as ~/.ssh/id_ed25519.pub, which begins with ssh-ed25519, ecdsa-sha2-nistp256 or ssh-rsa";
/// Shorter ones can be broken, and the server refuses them.
const SHORTEST_RSA: usize = 2048;
const LONGEST_COMMENT: usize = 200;

impl FromStr for SshKey {
    type Err = NotAWord;

    fn from_str(text: &str) -> Result<SshKey, NotAWord> {
        // What is pasted may be a secret, and what is wrong with it is shown on the console.
        let found = || text.chars().take_while(|c| !c.is_whitespace()).take(24).collect::<String>() + "…";
        let wrong = |expected| NotAWord { expected, found: found() };
        if text.starts_with("-----BEGIN") {
            return Err(wrong(
                "a public SSH key; this is a private one, to be kept to oneself: give the line of the file beside it that ends with .pub",
            ));
        }
        let mut words = text.trim().splitn(3, [' ', '\t']);
        let (kind, octets) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let comment = words.next().unwrap_or_default().trim();
        if !KINDS.contains(&kind) {
            return Err(wrong(EXPECTED));
        }
        if comment.len() > LONGEST_COMMENT || comment.chars().any(char::is_control) {
            return Err(wrong("a public SSH key on one line, whose comment has at most 200 characters"));
        }
        let whole = STANDARD.decode(octets).ok().filter(|blob| is_whole(kind, blob));
        let Some(blob) = whole else {
            return Err(wrong(
                "a whole public SSH key: this one is cut short or changed; copy the line of the .pub file again",
            ));
        };
        if kind == "ssh-rsa" && rsa_bits(&blob) < SHORTEST_RSA {
            return Err(wrong("an RSA key of 2048 bits or more: `ssh-keygen -t ed25519` makes a better one"));
        }
        Ok(SshKey { key: format!("{kind} {octets}"), comment: comment.to_owned() })
    }
}

impl fmt::Display for SshKey {
    /// A line of `authorized_keys`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key, self.comment)
    }
}

impl SshKey {
    /// Whether both let the same person in.
    pub fn is_same(&self, other: &SshKey) -> bool {
        self.key == other.key
    }
}

/// The fields of a key; none: they do not fill it. RFC 4251, 5: "string … stored as a uint32 containing its length".
fn fields(mut blob: &[u8]) -> Option<Vec<&[u8]>> {
    let mut fields = Vec::new();
    while !blob.is_empty() {
        let (length, rest) = blob.split_first_chunk::<4>()?;
        let (field, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        fields.push(field);
        blob = rest;
    }
    Some(fields)
}

/// Whether the key says itself that it is of this kind, and has all fields of its kind.
fn is_whole(kind: &str, blob: &[u8]) -> bool {
    let Some(fields) = fields(blob) else { return false };
    let [said, rest @ ..] = fields.as_slice() else { return false };
    let is_point = |point: &[u8], size: usize| point.first() == Some(&4) && point.len() == 1 + 2 * size;
    *said == kind.as_bytes()
        && match (kind, rest) {
            ("ssh-ed25519", [key]) => key.len() == 32,
            ("ssh-rsa", [exponent, modulus]) => !exponent.is_empty() && !modulus.is_empty(),
            ("ecdsa-sha2-nistp256", [b"nistp256", point]) => is_point(point, 32),
            ("ecdsa-sha2-nistp384", [b"nistp384", point]) => is_point(point, 48),
            ("ecdsa-sha2-nistp521", [b"nistp521", point]) => is_point(point, 66),
            ("sk-ssh-ed25519@openssh.com", [key, _application]) => key.len() == 32,
            ("sk-ecdsa-sha2-nistp256@openssh.com", [b"nistp256", point, _application]) => is_point(point, 32),
            _ => false,
        }
}

fn rsa_bits(blob: &[u8]) -> usize {
    let modulus = fields(blob).and_then(|fields| fields.get(2).copied()).unwrap_or_default();
    let digits = modulus.iter().position(|octet| *octet != 0).map_or(&[][..], |first| &modulus[first..]);
    let unused = digits.first().map_or(0, |first| first.leading_zeros() as usize);
    digits.len() * 8 - unused
}

#[cfg(test)]
mod tests;
