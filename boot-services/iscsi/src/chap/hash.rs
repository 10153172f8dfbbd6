//! RFC 1994, 4.1: "The Response Value is the one-way hash calculated over a stream of octets consisting of
//! the Identifier, followed by (concatenated with) the "secret", followed by (concatenated with) the Challenge
//! Value."

use super::{Nonce, Secret};
use md5::Digest as _;
use subtle::ConstantTimeEq;

/// A hash that CHAP may use, by IANA's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// 5, which every initiator has.
    Md5,
    /// 7.
    Sha256,
    /// 8.
    Sha3,
}

impl Algorithm {
    /// All, the best first.
    pub const ALL: [Algorithm; 3] = [Algorithm::Sha3, Algorithm::Sha256, Algorithm::Md5];

    /// IANA's number.
    pub fn number(self) -> u8 {
        match self {
            Algorithm::Md5 => 5,
            Algorithm::Sha256 => 7,
            Algorithm::Sha3 => 8,
        }
    }

    /// The algorithm of a list's item.
    pub(super) fn of(item: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| item.trim() == algorithm.number().to_string())
    }

    /// Octets of a challenge that we make: as many as the hash has.
    pub(super) fn challenge(self) -> usize {
        match self {
            Algorithm::Md5 => 16,
            Algorithm::Sha256 | Algorithm::Sha3 => 32,
        }
    }

    pub(super) fn response(self, identifier: u8, secret: &Secret, challenge: &[u8]) -> Vec<u8> {
        let stream = [&[identifier], &*secret.0, challenge].concat();
        match self {
            Algorithm::Md5 => md5::Md5::digest(stream).to_vec(),
            Algorithm::Sha256 => sha2::Sha256::digest(stream).to_vec(),
            Algorithm::Sha3 => sha3::Sha3_256::digest(stream).to_vec(),
        }
    }

    /// Whether `response` is the answer to our challenge; takes as long wherever it differs.
    pub(super) fn holds(self, nonce: &Nonce, secret: &Secret, response: &[u8]) -> bool {
        self.response(nonce.identifier(), secret, nonce.challenge(self)).ct_eq(response).into()
    }
}
