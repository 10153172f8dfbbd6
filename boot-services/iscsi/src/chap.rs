//! Who is who: AuthMethod and CHAP (RFC 1994) in the security stage of a login (RFC 7143, 9.2.1, 12.1).
//!
//! ```text
//!   Initiator                                    Target
//!     │ AuthMethod=CHAP ──────────────────────────► │
//!     │ ◄────────────────────────── AuthMethod=CHAP │
//!     │ CHAP_A=8,7,5 ─────────────────────────────► │ 8 SHA3-256, 7 SHA-256, 5 MD5
//!     │ ◄───────────── CHAP_A=7 CHAP_I=n CHAP_C=0x… │
//!     │ CHAP_N=user CHAP_R=0x… ───────────────────► │ and CHAP_I, CHAP_C, if the target is to prove itself
//!     │ ◄───────────────────── CHAP_N=user CHAP_R=… │ only if it was asked to
//! ```
//!
//! Both ends are values: pairs in, pairs out; the random octets are handed in.

mod binary;
mod hash;
mod initiator;
mod target;

pub use hash::Algorithm;
pub use initiator::Initiator;
pub use target::Target;

use crate::text::Pair;
use std::fmt;
use subtle::ConstantTimeEq;

/// The fewest octets of a secret.
///
/// RFC 7143, 9.2.1: 96 bits where nothing else protects the connection.
pub const LEAST_SECRET: usize = 12;
/// The most octets of a secret; many initiators end at 16.
pub const MOST_SECRET: usize = 255;
/// The most octets of a name.
pub const MOST_NAME: usize = 255;

/// A CHAP secret. It is printed as `***`.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes a secret into keeping: its octets as the other end's administrator wrote them.
    ///
    /// # Errors
    /// It is too short or too long.
    pub fn new(octets: impl Into<Vec<u8>>) -> Result<Secret, Unfit> {
        let octets = octets.into();
        match octets.len() {
            LEAST_SECRET..=MOST_SECRET => Ok(Secret(octets)),
            length => Err(Unfit::SecretLength(length)),
        }
    }

    fn is(&self, other: &Secret) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        self.is(other)
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What one end proves itself with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// CHAP_N.
    pub user: String,
    /// What both ends know.
    pub secret: Secret,
}

/// What both ends know of each other: the same value at the target and at the initiator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chap {
    initiator: Credentials,
    target: Option<Credentials>,
}

impl Chap {
    /// The initiator proves itself with `initiator`; if there is a `target`, the target proves itself with that.
    ///
    /// # Errors
    /// A name is empty or too long, or both secrets are the same.
    pub fn new(initiator: Credentials, target: Option<Credentials>) -> Result<Chap, Unfit> {
        for credentials in [Some(&initiator), target.as_ref()].into_iter().flatten() {
            let user = &credentials.user;
            if user.is_empty() || user.len() > MOST_NAME || user.contains('\0') {
                return Err(Unfit::Name(user.chars().take(40).collect()));
            }
        }
        // RFC 7143, 9.2.1: a secret that authenticates initiators MUST NOT be one that authenticates targets.
        if target.as_ref().is_some_and(|target| target.secret.is(&initiator.secret)) {
            return Err(Unfit::SameSecret);
        }
        Ok(Chap { initiator, target })
    }

    /// CHAP_N of the initiator.
    pub fn user(&self) -> &str {
        &self.initiator.user
    }

    /// Whether the target proves itself, too.
    pub fn is_mutual(&self) -> bool {
        self.target.is_some()
    }
}

/// Why a secret or a name cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It has so many octets.
    SecretLength(usize),
    /// The initiator's and the target's are the same.
    SameSecret,
    /// It is empty, too long or has a NUL; its beginning.
    Name(String),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::SecretLength(length) => write!(
                f,
                "a CHAP secret has {LEAST_SECRET} to {MOST_SECRET} octets, this one {length}: choose another \
                 (12 to 16 random letters and digits suit every initiator)"
            ),
            Unfit::SameSecret => f.write_str(
                "the initiator's and the target's CHAP secrets are the same: choose another for one of them",
            ),
            Unfit::Name(name) => {
                write!(f, "a CHAP user name has 1 to {MOST_NAME} octets and no NUL; {name:?} does not fit")
            }
        }
    }
}

impl std::error::Error for Unfit {}

/// Random octets for one login; the driver draws them anew for each.
///
/// One is the identifier, the others the challenge.
#[derive(Clone)]
pub struct Nonce(pub [u8; 33]);

impl Nonce {
    fn identifier(&self) -> u8 {
        self.0[32]
    }

    fn challenge(&self, algorithm: Algorithm) -> &[u8] {
        &self.0[..algorithm.challenge()]
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What to send next, and whether that is the last of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The pairs to send.
    pub pairs: Vec<Pair>,
    /// This end is content: once these pairs are sent, the stage may be left.
    pub done: bool,
}

/// Why a login fails here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The methods offered, of which none is accepted.
    Method(String),
    /// The algorithms offered, of which none is accepted.
    Algorithm(String),
    /// A key that should have come now and did not.
    Missing(&'static str),
    /// A key whose value is none of its kind.
    Malformed(&'static str),
    /// A key that has no place in this step.
    Unexpected(&'static str),
    /// The other end's name or answer is wrong: with this name.
    Wrong(String),
    /// The other end sent our own challenge or answer back to us.
    Reflected,
    /// The target was to prove itself, and cannot.
    TargetUnproved,
    /// The initiator asks the target to prove itself, and there is nothing to do that with.
    NotMutual,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Method(offer) => {
                write!(f, "no way to authenticate is accepted by both: offered {offer:?}")
            }
            Refused::Algorithm(offer) => {
                write!(f, "no CHAP algorithm is accepted by both: offered {offer:?}")
            }
            Refused::Missing(key) => write!(f, "{key} is missing in the CHAP exchange"),
            Refused::Malformed(key) => write!(f, "{key} is malformed"),
            Refused::Unexpected(key) => write!(f, "{key} has no place in this step of the CHAP exchange"),
            Refused::Wrong(user) => {
                write!(
                    f,
                    "CHAP user {user:?} is not known here or has another secret: compare both ends' secrets"
                )
            }
            Refused::Reflected => f.write_str("the peer sent our own CHAP challenge or answer back to us"),
            Refused::TargetUnproved => {
                f.write_str("the target did not prove itself by CHAP: it has no or another mutual secret")
            }
            Refused::NotMutual => f.write_str(
                "the initiator asks for mutual CHAP and the target has no secret for that: set one",
            ),
        }
    }
}

impl std::error::Error for Refused {}

fn required<'a>(pairs: &'a [Pair], key: &'static str) -> Result<&'a str, Refused> {
    crate::text::value(pairs, key).ok_or(Refused::Missing(key))
}

fn forbid(pairs: &[Pair], keys: &[&'static str]) -> Result<(), Refused> {
    match keys.iter().find(|key| crate::text::value(pairs, key).is_some()) {
        Some(key) => Err(Refused::Unexpected(key)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
