//! The keys of a session, and what is sealed and opened with them (IPMI v2.0, sections 13.19 to 13.33).

use crate::codec::{self, Frame, Kind};
use crate::error::Misbehaviour;
use aes::Aes128;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use core::fmt;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::Sha256;
use subtle::ConstantTimeEq;

const BLOCK: usize = 16;

/// The two cipher suites that are spoken (IPMI v2.0, table 22-20). Both encrypt with AES-CBC-128.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CipherSuite {
    /// Suite 3: RAKP-HMAC-SHA1, HMAC-SHA1-96, AES-CBC-128.
    Three,
    /// Suite 17: RAKP-HMAC-SHA256, HMAC-SHA256-128, AES-CBC-128.
    Seventeen,
}

impl CipherSuite {
    /// The suite's number in the standard's table.
    pub const fn id(self) -> u8 {
        match self {
            CipherSuite::Three => 3,
            CipherSuite::Seventeen => 17,
        }
    }

    /// Numbers of the authentication, integrity and confidentiality algorithms (tables 13-17 to 13-19).
    pub(crate) const fn algorithms(self) -> [u8; 3] {
        match self {
            CipherSuite::Three => [0x01, 0x01, 0x01],
            CipherSuite::Seventeen => [0x03, 0x04, 0x01],
        }
    }

    pub(crate) fn from_algorithms(found: [u8; 3]) -> Option<CipherSuite> {
        [CipherSuite::Seventeen, CipherSuite::Three].into_iter().find(|suite| suite.algorithms() == found)
    }

    /// Bytes of a key exchange authentication code.
    pub(crate) const fn code_len(self) -> usize {
        match self {
            CipherSuite::Three => 20,
            CipherSuite::Seventeen => 32,
        }
    }

    /// Bytes of an integrity check value.
    pub(crate) const fn check_len(self) -> usize {
        match self {
            CipherSuite::Three => 12,
            CipherSuite::Seventeen => 16,
        }
    }

    fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Code {
        fn run<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> Code {
            let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes a key of any length");
            parts.iter().for_each(|part| mac.update(part));
            let out = mac.finalize().into_bytes();
            let mut code = Code { bytes: [0; 32], len: out.len() };
            code.bytes[..out.len()].copy_from_slice(&out);
            code
        }
        match self {
            CipherSuite::Three => run::<Hmac<Sha1>>(key, parts),
            CipherSuite::Seventeen => run::<Hmac<Sha256>>(key, parts),
        }
    }
}

impl fmt::Display for CipherSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id())
    }
}

/// The output of an HMAC.
#[derive(Clone)]
pub(crate) struct Code {
    bytes: [u8; 32],
    len: usize,
}

impl Code {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Compares the first `len` bytes, without telling by the time it takes where they differ.
    pub(crate) fn begins_like(&self, found: &[u8], len: usize) -> bool {
        found.len() >= len && bool::from(self.bytes()[..len].ct_eq(&found[..len]))
    }
}

/// What both ends know of a handshake once RAKP message 2 is out, under the standard's names: `M` is the
/// remote console, `C` the managed system.
#[derive(Clone)]
pub(crate) struct Exchange {
    pub(crate) suite: CipherSuite,
    /// SIDm: the console's session id, little-endian as on the wire.
    pub(crate) console_session: [u8; 4],
    /// SIDc.
    pub(crate) bmc_session: [u8; 4],
    /// Rm.
    pub(crate) console_random: [u8; 16],
    /// Rc.
    pub(crate) bmc_random: [u8; 16],
    /// GUIDc.
    pub(crate) guid: [u8; 16],
    /// ROLEm: the whole byte of RAKP message 1, the name-only look-up bit included.
    pub(crate) role: u8,
    /// UNAMEm.
    pub(crate) user: Vec<u8>,
    /// Kuid.
    pub(crate) key: [u8; 20],
}

impl Exchange {
    fn user_len(&self) -> [u8; 1] {
        [u8::try_from(self.user.len()).expect("a user name has at most 16 bytes")]
    }

    /// Section 13.31: the managed system's code, in RAKP message 2.
    pub(crate) fn rakp2_code(&self) -> Code {
        self.suite.hmac(
            &self.key,
            &[
                &self.console_session,
                &self.bmc_session,
                &self.console_random,
                &self.bmc_random,
                &self.guid,
                &[self.role],
                &self.user_len(),
                &self.user,
            ],
        )
    }

    /// Section 13.31: the console's code, in RAKP message 3.
    pub(crate) fn rakp3_code(&self) -> Code {
        self.suite.hmac(
            &self.key,
            &[&self.bmc_random, &self.console_session, &[self.role], &self.user_len(), &self.user],
        )
    }

    /// Section 13.31: the Session Integrity Key. Kg is taken to be null, and Kuid stands in its place.
    fn integrity_key(&self) -> Code {
        self.suite.hmac(
            &self.key,
            &[&self.console_random, &self.bmc_random, &[self.role], &self.user_len(), &self.user],
        )
    }

    /// The integrity check value of RAKP message 4, of which `CipherSuite::check_len` bytes are sent.
    pub(crate) fn rakp4_check(&self) -> Code {
        let key = self.integrity_key();
        self.suite.hmac(key.bytes(), &[&self.console_random, &self.bmc_session, &self.guid])
    }

    /// Section 13.32: K1 signs and the first 128 bits of K2 encrypt. The constants are 20 bytes long with
    /// every algorithm.
    pub(crate) fn keys(&self) -> Keys {
        let key = self.integrity_key();
        let sign = self.suite.hmac(key.bytes(), &[&[0x01; 20]]);
        let second = self.suite.hmac(key.bytes(), &[&[0x02; 20]]);
        let mut encrypt = [0; BLOCK];
        encrypt.copy_from_slice(&second.bytes()[..BLOCK]);
        Keys { suite: self.suite, sign, encrypt }
    }
}

/// The keys of an active session.
#[derive(Clone)]
pub(crate) struct Keys {
    suite: CipherSuite,
    sign: Code,
    encrypt: [u8; BLOCK],
}

impl Keys {
    /// A datagram that carries `payload` encrypted and signed.
    pub(crate) fn seal(&self, session: [u8; 4], sequence: u32, payload: &[u8], iv: [u8; BLOCK]) -> Vec<u8> {
        let sealed = self.encrypt(payload, iv);
        let mut datagram = codec::frame(Kind::IpmiSealed, session, sequence, &sealed);
        // Section 13.28.4, table 13-8: FFh until the length from Auth Type to Next Header is a multiple of 4.
        let pad = (4 - (datagram.len() - codec::RMCP.len() + 2) % 4) % 4;
        datagram.resize(datagram.len() + pad, 0xff);
        datagram.push(u8::try_from(pad).expect("a pad has at most 3 bytes"));
        datagram.push(0x07);
        let code = self.suite.hmac(self.sign.bytes(), &[&datagram[codec::RMCP.len()..]]);
        datagram.extend_from_slice(&code.bytes()[..self.suite.check_len()]);
        datagram
    }

    /// The payload of a frame, if it was signed and encrypted with these keys.
    pub(crate) fn open(&self, frame: &Frame<'_>) -> Result<Vec<u8>, Misbehaviour> {
        if frame.kind != Kind::IpmiSealed {
            return Err(Misbehaviour::NotSealed);
        }
        let len = self.suite.check_len();
        // At least a pad length and a next header stand between the payload and the code.
        if frame.trailer.len() < len + 2 {
            return Err(Misbehaviour::Truncated);
        }
        let (covered, code) = frame.signed.split_at(frame.signed.len() - len);
        if !self.suite.hmac(self.sign.bytes(), &[covered]).begins_like(code, len) {
            return Err(Misbehaviour::BadIntegrity);
        }
        self.decrypt(frame.payload)
    }

    /// Section 13.29: initialization vector, then the payload with a confidentiality pad of 01h 02h …
    /// and the pad's length.
    fn encrypt(&self, payload: &[u8], iv: [u8; BLOCK]) -> Vec<u8> {
        let pad = (BLOCK - (payload.len() + 1) % BLOCK) % BLOCK;
        let mut out = Vec::with_capacity(BLOCK + payload.len() + pad + 1);
        out.extend_from_slice(&iv);
        out.extend_from_slice(payload);
        let pad = u8::try_from(pad).expect("a pad is shorter than a block");
        out.extend(1..=pad);
        out.push(pad);
        let mut cipher = cbc::Encryptor::<Aes128>::new(&self.encrypt.into(), &iv.into());
        for block in out[BLOCK..].chunks_exact_mut(BLOCK) {
            cipher.encrypt_block(block.try_into().expect("chunks are whole blocks"));
        }
        out
    }

    fn decrypt(&self, sealed: &[u8]) -> Result<Vec<u8>, Misbehaviour> {
        let Some((iv, body)) = sealed.split_first_chunk::<BLOCK>() else {
            return Err(Misbehaviour::Truncated);
        };
        if body.is_empty() || !body.len().is_multiple_of(BLOCK) {
            return Err(Misbehaviour::BadPadding);
        }
        let mut body = body.to_vec();
        let mut cipher = cbc::Decryptor::<Aes128>::new(&self.encrypt.into(), iv.into());
        for block in body.chunks_exact_mut(BLOCK) {
            cipher.decrypt_block(block.try_into().expect("chunks are whole blocks"));
        }
        // Some BMCs fill the pad with what they like; its length is what matters.
        let pad = usize::from(body[body.len() - 1]);
        let Some(len) = body.len().checked_sub(pad + 1).filter(|_| pad < BLOCK) else {
            return Err(Misbehaviour::BadPadding);
        };
        body.truncate(len);
        Ok(body)
    }
}

/// Unpredictable bytes, drawn out of one seed: HMAC-SHA256 of a counter.
pub(crate) struct Random {
    seed: [u8; 32],
    counter: u64,
}

impl Random {
    pub(crate) fn new(seed: [u8; 32]) -> Random {
        Random { seed, counter: 0 }
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        const { assert!(N <= 32) };
        self.counter += 1;
        let code = CipherSuite::Seventeen.hmac(&self.seed, &[&self.counter.to_le_bytes()]);
        let mut out = [0; N];
        out.copy_from_slice(&code.bytes()[..N]);
        out
    }

    /// A session id; never 0, which stands for "no session" (section 13.6).
    pub(crate) fn session_id(&mut self) -> [u8; 4] {
        loop {
            let id = self.bytes();
            if id != [0; 4] {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests;
