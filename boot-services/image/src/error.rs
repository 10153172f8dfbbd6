use crate::{Format, SECTOR, Sum};
use core::fmt;
use std::io;

/// Why there is no image: what was wrong with what, and what to do.
#[derive(Debug)]
pub enum ImportError {
    /// The upload could not be read to its end.
    Source {
        /// Octets that were read before.
        at: u64,
        /// What reading said.
        source: io::Error,
    },
    /// An extent could not be kept.
    Sink(io::Error),
    /// There is nothing in it.
    Empty,
    /// It ends too early.
    Truncated {
        /// What it is.
        format: Format,
        /// Its octets.
        at: u64,
    },
    /// What is in it contradicts itself.
    Damaged {
        /// What it is.
        format: Format,
        /// Octets that were read when it was noticed; of a qcow2 image, where on the disk it describes.
        at: u64,
        /// What the decoder noticed.
        why: String,
    },
    /// Something follows its end.
    Trailing {
        /// What it is.
        format: Format,
        /// Where it ends.
        at: u64,
    },
    /// The content is larger than the caller allows.
    TooLarge {
        /// Octets allowed.
        limit: u64,
    },
    /// It has another checksum than was said.
    Mismatch {
        /// Of what: `the uploaded file`, `the raw content`.
        what: &'static str,
        /// What was said.
        expected: Sum,
        /// What it has.
        found: Sum,
    },
    /// It is not what it was said to be.
    NotThat {
        /// What it was said to be.
        said: Format,
        /// What it begins like.
        found: &'static str,
    },
    /// It is something that is not imported.
    Unsupported {
        /// What.
        what: String,
        /// What to do, as a half sentence after a semicolon.
        instead: &'static str,
    },
}

impl fmt::Display for ImportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImportError::Source { at, source } => {
                write!(f, "the upload broke off after {at} octets ({source}); send it again")
            }
            ImportError::Sink(source) => write!(f, "an extent of the image cannot be kept: {source}"),
            ImportError::Empty => {
                write!(
                    f,
                    "the upload is empty: an image has at least {SECTOR} octets; check the file and send it again"
                )
            }
            ImportError::Truncated { format, at } => write!(
                f,
                "the {format} file ends too early, after {at} octets; compare its size with the original's and send it again"
            ),
            ImportError::Damaged { format, at, why } => {
                let place =
                    if *format == Format::Qcow2 { "at octet {at} of its disk" } else { "near octet {at}" };
                write!(
                    f,
                    "the {format} file is damaged {} ({why}); ",
                    place.replace("{at}", &at.to_string())
                )?;
                write!(f, "{} says whether the original is", format.check())
            }
            ImportError::Trailing { format, at } => write!(
                f,
                "something follows the end of the {format} data at octet {at}; it is not part of the image: cut it off or compress the image again"
            ),
            ImportError::TooLarge { limit } => write!(
                f,
                "the image is larger than the {limit} octets allowed; if it is meant to be, raise the limit"
            ),
            ImportError::Mismatch { what, expected, found } => write!(
                f,
                "{what} has {found}, not {expected} as was said; fetch it again from where it came or correct the checksum"
            ),
            ImportError::NotThat { said, found } => {
                write!(
                    f,
                    "the upload was said to be {said} but begins like {found}; leave the format out or correct it"
                )
            }
            ImportError::Unsupported { what, instead } => write!(f, "{what} cannot be imported; {instead}"),
        }
    }
}

impl core::error::Error for ImportError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            ImportError::Source { source, .. } | ImportError::Sink(source) => Some(source),
            _ => None,
        }
    }
}
