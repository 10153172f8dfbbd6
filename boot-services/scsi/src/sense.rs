//! Sense data: what went wrong, and where (SPC-5, sense data).

/// The sense keys that a block device of ours reports (SPC-5, sense keys).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SenseKey {
    /// Nothing to report.
    NoSense = 0x0,
    /// The medium cannot be reached now.
    NotReady = 0x2,
    /// The medium is at fault.
    MediumError = 0x3,
    /// The device is at fault.
    HardwareError = 0x4,
    /// The command or its parameters are at fault.
    IllegalRequest = 0x5,
    /// Something happened that this I_T nexus has not been told of.
    UnitAttention = 0x6,
    /// Writing is not allowed.
    DataProtect = 0x7,
    /// The device server ended the command.
    AbortedCommand = 0xb,
    /// The data did not match the medium.
    Miscompare = 0xe,
}

/// Which of the two formats sense data has: the D_SENSE bit of the Control mode page chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenseFormat {
    /// Response code 70h, 18 octets.
    Fixed,
    /// Response code 72h, 8 octets and descriptors.
    Descriptor,
}

/// The field at fault: SPC-5, field pointer sense key specific data, field pointer sense key specific data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// Whether it is in the CDB (else in the parameter list).
    pub in_cdb: bool,
    /// The octet, counted from zero.
    pub octet: u16,
    /// The most significant bit of the field, where a bit is meant.
    pub bit: Option<u8>,
}

/// A condition, as sense data tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sense {
    /// The sense key.
    pub key: SenseKey,
    /// The additional sense code.
    pub code: u8,
    /// The additional sense code qualifier.
    pub qualifier: u8,
    /// The INFORMATION field: the first LBA in error, or the offset of the first octet that differs.
    pub information: Option<u64>,
    /// The field at fault.
    pub pointer: Option<Pointer>,
}

impl Sense {
    /// NO ADDITIONAL SENSE INFORMATION.
    pub const NONE: Sense = Sense::new(SenseKey::NoSense, 0x00, 0x00);
    /// INVALID COMMAND OPERATION CODE.
    pub const INVALID_OPERATION_CODE: Sense = Sense::new(SenseKey::IllegalRequest, 0x20, 0x00);
    /// LOGICAL BLOCK ADDRESS OUT OF RANGE.
    pub const LBA_OUT_OF_RANGE: Sense = Sense::new(SenseKey::IllegalRequest, 0x21, 0x00);
    /// INVALID FIELD IN CDB.
    pub const INVALID_FIELD_IN_CDB: Sense = Sense::new(SenseKey::IllegalRequest, 0x24, 0x00);
    /// LOGICAL UNIT NOT SUPPORTED.
    pub const LOGICAL_UNIT_NOT_SUPPORTED: Sense = Sense::new(SenseKey::IllegalRequest, 0x25, 0x00);
    /// INVALID FIELD IN PARAMETER LIST.
    pub const INVALID_FIELD_IN_PARAMETER_LIST: Sense = Sense::new(SenseKey::IllegalRequest, 0x26, 0x00);
    /// INVALID RELEASE OF PERSISTENT RESERVATION.
    pub const INVALID_RELEASE: Sense = Sense::new(SenseKey::IllegalRequest, 0x26, 0x04);
    /// PARAMETER LIST LENGTH ERROR.
    pub const PARAMETER_LIST_LENGTH: Sense = Sense::new(SenseKey::IllegalRequest, 0x1a, 0x00);
    /// SAVING PARAMETERS NOT SUPPORTED.
    pub const SAVING_NOT_SUPPORTED: Sense = Sense::new(SenseKey::IllegalRequest, 0x39, 0x00);
    /// INSUFFICIENT REGISTRATION RESOURCES.
    pub const INSUFFICIENT_REGISTRATION: Sense = Sense::new(SenseKey::IllegalRequest, 0x55, 0x04);
    /// WRITE PROTECTED.
    pub const WRITE_PROTECTED: Sense = Sense::new(SenseKey::DataProtect, 0x27, 0x00);
    /// LOGICAL UNIT SOFTWARE WRITE PROTECTED.
    pub const SOFTWARE_WRITE_PROTECTED: Sense = Sense::new(SenseKey::DataProtect, 0x27, 0x02);
    /// MISCOMPARE DURING VERIFY OPERATION.
    pub const MISCOMPARE: Sense = Sense::new(SenseKey::Miscompare, 0x1d, 0x00);
    /// INTERNAL TARGET FAILURE.
    pub const INTERNAL_TARGET_FAILURE: Sense = Sense::new(SenseKey::HardwareError, 0x44, 0x00);
    /// I_T NEXUS LOSS OCCURRED, of a command whose nexus is gone.
    pub const NEXUS_LOST: Sense = Sense::new(SenseKey::AbortedCommand, 0x29, 0x07);

    /// A condition without further particulars.
    pub const fn new(key: SenseKey, code: u8, qualifier: u8) -> Sense {
        Sense { key, code, qualifier, information: None, pointer: None }
    }

    /// The same with an INFORMATION field.
    pub const fn about(self, information: u64) -> Sense {
        Sense { information: Some(information), ..self }
    }

    /// INVALID FIELD IN CDB, at this octet.
    pub const fn in_cdb(octet: u16) -> Sense {
        let pointer = Some(Pointer { in_cdb: true, octet, bit: None });
        Sense { pointer, ..Sense::INVALID_FIELD_IN_CDB }
    }

    /// INVALID FIELD IN CDB, at this bit of this octet.
    pub const fn in_cdb_bit(octet: u16, bit: u8) -> Sense {
        let pointer = Some(Pointer { in_cdb: true, octet, bit: Some(bit) });
        Sense { pointer, ..Sense::INVALID_FIELD_IN_CDB }
    }

    /// INVALID FIELD IN PARAMETER LIST, at this octet.
    pub const fn in_list(octet: u16) -> Sense {
        let pointer = Some(Pointer { in_cdb: false, octet, bit: None });
        Sense { pointer, ..Sense::INVALID_FIELD_IN_PARAMETER_LIST }
    }

    /// The sense data: 18 octets in the fixed format, 8 to 28 in the descriptor format.
    pub fn encode(&self, format: SenseFormat) -> Vec<u8> {
        match format {
            SenseFormat::Fixed => self.fixed(),
            SenseFormat::Descriptor => self.descriptors(),
        }
    }

    fn fixed(&self) -> Vec<u8> {
        let mut out = vec![0; 18];
        out[0] = 0x70;
        // SPC-5, fixed format sense data: a value that does not fit the INFORMATION field leaves VALID at zero.
        if let Some(information) = self.information.and_then(|value| u32::try_from(value).ok()) {
            out[0] |= 0x80;
            out[3..7].copy_from_slice(&information.to_be_bytes());
        }
        out[2] = self.key as u8;
        out[7] = 10;
        out[12] = self.code;
        out[13] = self.qualifier;
        if let Some(pointer) = self.pointer {
            out[15..18].copy_from_slice(&pointer.encode());
        }
        out
    }

    fn descriptors(&self) -> Vec<u8> {
        let mut out = vec![0x72, self.key as u8, self.code, self.qualifier, 0, 0, 0, 0];
        if let Some(information) = self.information {
            out.extend_from_slice(&[0x00, 0x0a, 0x80, 0x00]);
            out.extend_from_slice(&information.to_be_bytes());
        }
        if let Some(pointer) = self.pointer {
            out.extend_from_slice(&[0x02, 0x06, 0x00, 0x00]);
            out.extend_from_slice(&pointer.encode());
            out.push(0);
        }
        out[7] = u8::try_from(out.len() - 8).unwrap_or(u8::MAX);
        out
    }
}

impl Pointer {
    fn encode(self) -> [u8; 3] {
        let in_cdb = if self.in_cdb { 0x40 } else { 0 };
        let bit = self.bit.map_or(0, |bit| 0x08 | (bit & 7));
        let [high, low] = self.octet.to_be_bytes();
        [0x80 | in_cdb | bit, high, low]
    }
}
