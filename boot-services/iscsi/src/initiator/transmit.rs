use crate::pdu::{self, FromInitiator, Sealed};
use bytes::Bytes;
use std::io::IoSlice;

/// A PDU to be sent: its pieces one after the other, nothing between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    header: Sealed,
    data: Bytes,
    trailer: [u8; 7],
    trailer_length: usize,
}

impl Transmit {
    pub(super) fn new(pdu: &FromInitiator, data: Bytes, header_digest: bool, data_digest: bool) -> Transmit {
        let mut trailer = [0; 7];
        let mut trailer_length = pdu::padding(data.len());
        if data_digest && !data.is_empty() {
            trailer[trailer_length..trailer_length + 4].copy_from_slice(&pdu::data_digest(&data));
            trailer_length += 4;
        }
        Transmit { header: Sealed::new(pdu.emit(data.len()), header_digest), data, trailer, trailer_length }
    }

    /// The pieces: header, data (the caller's own octets), padding and digest.
    pub fn pieces(&self) -> [&[u8]; 3] {
        [&self.header, &self.data, &self.trailer[..self.trailer_length]]
    }

    /// The pieces for a vectored write.
    pub fn slices(&self) -> [IoSlice<'_>; 3] {
        self.pieces().map(IoSlice::new)
    }

    /// Octets in all.
    pub fn length(&self) -> usize {
        self.pieces().iter().map(|piece| piece.len()).sum()
    }
}
