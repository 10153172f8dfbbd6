use core::{fmt, str::FromStr};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

/// What a text is not: the word it should have been, and the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAWord {
    /// What was expected, with its form, to be shown to a person.
    pub expected: &'static str,
    /// What was found, cut to 80 characters.
    pub found: String,
}

impl NotAWord {
    fn new(expected: &'static str, found: &str) -> NotAWord {
        NotAWord { expected, found: found.chars().take(80).collect() }
    }
}

impl fmt::Display for NotAWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not {}", self.found, self.expected)
    }
}

impl core::error::Error for NotAWord {}

/// An Ethernet address of six octets; printed in lower case with colons.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The same address with hyphens, as BMCs and file names like it.
    pub fn hyphens(self) -> String {
        self.to_string().replace(':', "-")
    }

    /// Whether it can be one station's: neither a group's nor all zero.
    pub fn is_station(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = NotAWord;

    fn from_str(text: &str) -> Result<Mac, NotAWord> {
        let wrong = || NotAWord::new("a MAC address such as 52:54:00:12:34:56", text);
        let mut octets = [0; 6];
        let mut parts = text.split([':', '-']);
        for octet in &mut octets {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(wrong)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() { Err(wrong()) } else { Ok(Mac(octets)) }
    }
}

impl TryFrom<String> for Mac {
    type Error = NotAWord;

    fn try_from(text: String) -> Result<Mac, NotAWord> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

/// A BLAKE3 digest of 32 octets; printed as 64 hexadecimal digits. It names content: an image, an
/// extent, a config drive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = NotAWord;

    fn from_str(text: &str) -> Result<Digest, NotAWord> {
        let wrong = || NotAWord::new("a digest of 64 hexadecimal digits", text);
        let bytes = text.as_bytes();
        if bytes.len() != 64 || !bytes.is_ascii() {
            return Err(wrong());
        }
        let mut octets = [0; 32];
        for (octet, pair) in octets.iter_mut().zip(bytes.chunks(2)) {
            let pair = core::str::from_utf8(pair).map_err(|_| wrong())?;
            *octet = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
        }
        Ok(Digest(octets))
    }
}

impl TryFrom<String> for Digest {
    type Error = NotAWord;

    fn try_from(text: String) -> Result<Digest, NotAWord> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $max:literal, $expected:literal, $extra:pat) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = NotAWord;

            fn from_str(text: &str) -> Result<$name, NotAWord> {
                let first = text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
                let rest = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, $extra));
                if first && rest && text.len() <= $max {
                    Ok($name(text.to_owned()))
                } else {
                    Err(NotAWord::new($expected, text))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NotAWord;

            fn try_from(text: String) -> Result<$name, NotAWord> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

name! {
    /// A machine's name: letters, digits and hyphens, at most 63, so that it can be its host name
    /// (RFC 1123, 2.1).
    NodeName, 63, "a name of letters, digits and hyphens, at most 63, beginning with a letter or digit", '-'
}

name! {
    /// One try at one thing: what happened is told with the attempt it happened in, and what comes from
    /// an earlier one is seen to be late. It stands in boot URLs.
    Attempt, 120, "an attempt such as n1-4-2: letters, digits, hyphens and dots, at most 120", '-' | '.'
}

name! {
    /// A volume's name: letters, digits and hyphens, at most 100.
    VolumeId, 100, "a volume's name of letters, digits and hyphens, at most 100", '-'
}

name! {
    /// A network interface of this machine, as the kernel names it (at most 15 characters).
    Device, 15, "an interface name of at most 15 letters, digits, hyphens, underscores, dots or at-signs", '-' | '_' | '.' | '@'
}

/// An iSCSI name: `iqn.` with a month, a reversed domain and a text, `eui.` or `naa.` with hexadecimal
/// digits (RFC 7143, 4.2.7); at most 223 octets, kept in lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Iqn(String);

impl Iqn {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Iqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Iqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Iqn {
    type Err = NotAWord;

    fn from_str(text: &str) -> Result<Iqn, NotAWord> {
        let wrong = || NotAWord::new("an iSCSI name such as iqn.2026-01.com.example:host1", text);
        let name = text.to_ascii_lowercase();
        let hexadecimal = |digits: &str, lengths: &[usize]| {
            lengths.contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit())
        };
        let form = match (name.get(..4), name.get(4..)) {
            (Some("iqn."), Some(rest)) => {
                let month = rest.get(..8).is_some_and(|date| {
                    date.bytes().enumerate().all(|(at, b)| match at {
                        4 => b == b'-',
                        7 => b == b'.',
                        _ => b.is_ascii_digit(),
                    })
                });
                month && rest.len() > 8
            }
            (Some("eui."), Some(digits)) => hexadecimal(digits, &[16]),
            (Some("naa."), Some(digits)) => hexadecimal(digits, &[16, 32]),
            _ => false,
        };
        let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':'));
        if form && letters && name.len() <= 223 { Ok(Iqn(name)) } else { Err(wrong()) }
    }
}

impl TryFrom<String> for Iqn {
    type Error = NotAWord;

    fn try_from(text: String) -> Result<Iqn, NotAWord> {
        text.parse()
    }
}

impl From<Iqn> for String {
    fn from(name: Iqn) -> String {
        name.0
    }
}

/// A text that is not for logs: it prints as `***` and says itself only where it is asked to.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes a text into keeping.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for the one place that must send it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `other` is the same text; takes as long wherever they differ.
    pub fn matches(&self, other: &str) -> bool {
        let (a, b) = (self.0.as_bytes(), other.as_bytes());
        a.len() == b.len() && a.iter().zip(b).fold(0, |seen, (x, y)| seen | (x ^ y)) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What a machine's firmware is, from DHCP option 93 (RFC 4578, 2.1, and IANA's list).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    /// 0: PC BIOS.
    Bios,
    /// 7 and 9: x86-64 UEFI by PXE.
    UefiX64,
    /// 16: x86-64 UEFI by HTTP.
    UefiX64Http,
    /// 11: arm64 UEFI by PXE.
    UefiArm64,
    /// 19: arm64 UEFI by HTTP.
    UefiArm64Http,
    /// Anything else, as it came.
    Other(u16),
}

impl Architecture {
    /// From the number on the wire.
    pub fn from_code(code: u16) -> Architecture {
        match code {
            0 => Architecture::Bios,
            7 | 9 => Architecture::UefiX64,
            16 => Architecture::UefiX64Http,
            11 => Architecture::UefiArm64,
            19 => Architecture::UefiArm64Http,
            other => Architecture::Other(other),
        }
    }

    /// Whether the boot file it asks for is fetched by HTTP rather than TFTP.
    pub fn is_http(self) -> bool {
        matches!(self, Architecture::UefiX64Http | Architecture::UefiArm64Http)
    }

    /// Whether its firmware is UEFI; `None` for one this crate does not know.
    pub fn is_uefi(self) -> Option<bool> {
        match self {
            Architecture::Bios => Some(false),
            Architecture::Other(_) => None,
            _ => Some(true),
        }
    }
}

/// A JSON value that is passed on as it is: what an agent and control say to each other through a hand
/// that need not understand it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// Writes a value down.
    pub fn of<T: Serialize>(value: &T) -> Result<Json, serde_json::Error> {
        serde_json::value::to_raw_value(value).map(Json)
    }

    /// Reads it as a `T`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.0.get())
    }

    /// The text.
    pub fn text(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Json) -> bool {
        self.text() == other.text()
    }
}

/// Which disk is meant: all that is given must match, and exactly one disk must.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskHint {
    /// Its serial number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Its world wide name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wwn: Option<String>,
    /// Its kernel name, such as `sda`; moves between boots, so the others are better.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl DiskHint {
    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        *self == DiskHint::default()
    }
}
