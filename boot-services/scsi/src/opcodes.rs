//! Every command that a logical unit knows: its CDB's fields, and what reservations do to it.
//!
//! One table says it all: it finds a command, refuses what is set outside of its fields, holds it against a
//! reservation, and is what REPORT SUPPORTED OPERATION CODES reports.

use crate::cdb::Cdb;
use crate::sense::Sense;

/// What the command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    TestUnitReady,
    RequestSense,
    Inquiry,
    ModeSelect6,
    ModeSelect10,
    ModeSense6,
    ModeSense10,
    Reserve,
    Release,
    StartStopUnit,
    PreventAllow,
    ReadCapacity10,
    ReadCapacity16,
    Read,
    Write,
    WriteVerify,
    Verify,
    Prefetch,
    SynchronizeCache,
    WriteSame,
    Unmap,
    CompareAndWrite,
    OrWrite,
    GetLbaStatus,
    ReportLuns,
    ReservationIn,
    ReservationOut,
    ReportOpcodes,
    ReportManagement,
}

impl Kind {
    /// Whether it changes the medium, so that a write-protected one refuses it.
    pub(crate) fn writes(self) -> bool {
        use Kind::{CompareAndWrite, OrWrite, Unmap, Write, WriteSame, WriteVerify};
        matches!(self, Write | WriteVerify | WriteSame | Unmap | CompareAndWrite | OrWrite)
    }
}

/// What a persistent reservation does to the command (SPC-5 and SBC-4: commands allowed in the presence of
/// various reservations).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Allowed, whoever asks.
    Free,
    /// Allowed, unless the reservation is an exclusive access one and the asker has no part in it.
    Reads,
    /// Refused to who has no part in the reservation.
    Writes,
    /// PERSISTENT RESERVE OUT, RESERVE and RELEASE have rules of their own.
    Own,
}

/// One command.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) kind: Kind,
    pub(crate) access: Access,
    /// The CDB usage data (SPC-5): the operation code and the service action as they are, a one in every bit that is
    /// looked at.
    pub(crate) usage: &'static [u8],
    /// Whether octet 1 has a service action in it.
    pub(crate) has_action: bool,
    allowed: u128,
}

impl Command {
    pub(crate) fn opcode(&self) -> u8 {
        self.usage[0]
    }

    /// The service action; zero where there is none.
    pub(crate) fn action(&self) -> u8 {
        if self.has_action { self.usage[1] & 0x1f } else { 0 }
    }

    /// SBC-4: UNMAP is there only where LBPU is one.
    pub(crate) fn is_there(&self, thin: bool) -> bool {
        thin || self.kind != Kind::Unmap
    }

    /// SBC-4: the UNMAP bit of WRITE SAME (16) is there where LBPWS is one. LBPWS10 is zero always: nobody who
    /// can only send ten octets unmaps, and libiscsi's tests want blocks of ones unmapped by them.
    fn has_no_unmap(&self, thin: bool) -> bool {
        self.kind == Kind::WriteSame && !(thin && self.opcode() == 0x93)
    }

    /// The usage data, without bits that mean nothing here.
    pub(crate) fn usage(&self, thin: bool) -> Vec<u8> {
        let mut usage = self.usage.to_vec();
        if self.has_no_unmap(thin) {
            usage[1] &= !0x08;
        }
        usage
    }

    /// Refuses a bit outside of the fields. SPC-5 leaves it to the device server whether reserved fields are
    /// looked at; we do, because an option that we do not know must not be taken for its absence.
    fn check(&self, cdb: &Cdb, thin: bool) -> Result<(), Sense> {
        let unmap = if self.has_no_unmap(thin) { 0x08 << (14 * 8) } else { 0 };
        let wrong = u128::from_be_bytes(*cdb.octets()) & !(self.allowed & !unmap);
        if wrong == 0 {
            return Ok(());
        }
        let first = wrong.leading_zeros() as u16;
        Err(Sense::in_cdb_bit(first / 8, (7 - first % 8) as u8))
    }
}

/// Ones wherever a bit may be set, in a CDB read as one number.
const fn allowed(usage: &[u8], has_action: bool) -> u128 {
    let mut octets = [0xff; 16];
    let mut at = 1;
    while at < usage.len() {
        octets[at] = usage[at];
        at += 1;
    }
    if has_action {
        octets[1] |= 0x1f;
    }
    // The vendor specific and the obsolete bits of CONTROL are not looked at; NACA is refused.
    octets[usage.len() - 1] |= 0xc3;
    u128::from_be_bytes(octets)
}

const fn plain(kind: Kind, access: Access, usage: &'static [u8]) -> Command {
    Command { kind, access, usage, has_action: false, allowed: allowed(usage, false) }
}

const fn action(kind: Kind, access: Access, usage: &'static [u8]) -> Command {
    Command { kind, access, usage, has_action: true, allowed: allowed(usage, true) }
}

use Access::{Free, Own, Reads, Writes};

/// By operation code and service action.
#[rustfmt::skip]
pub(crate) static COMMANDS: &[Command] = &[
    plain(Kind::TestUnitReady, Free, &[0x00, 0, 0, 0, 0, 0]),
    plain(Kind::RequestSense, Free, &[0x03, 0x01, 0, 0, 0xff, 0]),
    plain(Kind::Read, Reads, &[0x08, 0x1f, 0xff, 0xff, 0xff, 0]),
    plain(Kind::Write, Writes, &[0x0a, 0x1f, 0xff, 0xff, 0xff, 0]),
    plain(Kind::Inquiry, Free, &[0x12, 0x01, 0xff, 0xff, 0xff, 0]),
    plain(Kind::ModeSelect6, Writes, &[0x15, 0x11, 0, 0, 0xff, 0]),
    plain(Kind::Reserve, Own, &[0x16, 0, 0xff, 0xff, 0xff, 0]),
    plain(Kind::Release, Own, &[0x17, 0, 0xff, 0, 0, 0]),
    plain(Kind::ModeSense6, Reads, &[0x1a, 0x08, 0xff, 0xff, 0xff, 0]),
    plain(Kind::StartStopUnit, Writes, &[0x1b, 0x01, 0, 0x0f, 0xf7, 0]),
    plain(Kind::PreventAllow, Writes, &[0x1e, 0, 0, 0, 0x03, 0]),
    plain(Kind::ReadCapacity10, Free, &[0x25, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0x01, 0]),
    plain(Kind::Read, Reads, &[0x28, 0x18, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0]),
    plain(Kind::Write, Writes, &[0x2a, 0x18, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0]),
    plain(Kind::WriteVerify, Writes, &[0x2e, 0x16, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0]),
    plain(Kind::Verify, Reads, &[0x2f, 0x16, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0]),
    plain(Kind::Prefetch, Reads, &[0x34, 0x02, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0]),
    plain(Kind::SynchronizeCache, Writes, &[0x35, 0x02, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0]),
    plain(Kind::WriteSame, Writes, &[0x41, 0x08, 0xff, 0xff, 0xff, 0xff, 0x3f, 0xff, 0xff, 0]),
    plain(Kind::Unmap, Writes, &[0x42, 0, 0, 0, 0, 0, 0x3f, 0xff, 0xff, 0]),
    plain(Kind::ModeSelect10, Writes, &[0x55, 0x11, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    plain(Kind::Reserve, Own, &[0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    plain(Kind::Release, Own, &[0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    plain(Kind::ModeSense10, Reads, &[0x5a, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff, 0]),
    action(Kind::ReservationIn, Free, &[0x5e, 0x00, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    action(Kind::ReservationIn, Free, &[0x5e, 0x01, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    action(Kind::ReservationIn, Free, &[0x5e, 0x02, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    action(Kind::ReservationIn, Free, &[0x5e, 0x03, 0, 0, 0, 0, 0, 0xff, 0xff, 0]),
    action(Kind::ReservationOut, Own, &[0x5f, 0x00, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    action(Kind::ReservationOut, Own, &[0x5f, 0x01, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    action(Kind::ReservationOut, Own, &[0x5f, 0x02, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    action(Kind::ReservationOut, Own, &[0x5f, 0x03, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    action(Kind::ReservationOut, Own, &[0x5f, 0x04, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    action(Kind::ReservationOut, Own, &[0x5f, 0x05, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    action(Kind::ReservationOut, Own, &[0x5f, 0x06, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    action(Kind::ReservationOut, Own, &[0x5f, 0x07, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff, 0]),
    plain(Kind::Read, Reads, &[0x88, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0]),
    plain(Kind::CompareAndWrite, Writes, &[0x89, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0xff, 0x3f, 0]),
    plain(Kind::Write, Writes, &[0x8a, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0]),
    plain(Kind::OrWrite, Writes, &[0x8b, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0]),
    plain(Kind::WriteVerify, Writes, &[0x8e, 0x16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0]),
    plain(Kind::Verify, Reads, &[0x8f, 0x16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0]),
    plain(Kind::Prefetch, Reads, &[0x90, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0]),
    plain(Kind::SynchronizeCache, Writes, &[0x91, 0x02, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0]),
    plain(Kind::WriteSame, Writes, &[0x93, 0x09, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0]),
    action(Kind::ReadCapacity16, Free, &[0x9e, 0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0]),
    action(Kind::GetLbaStatus, Reads, &[0x9e, 0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    plain(Kind::ReportLuns, Free, &[0xa0, 0, 0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    action(Kind::ReportOpcodes, Reads, &[0xa3, 0x0c, 0x87, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    action(Kind::ReportManagement, Reads, &[0xa3, 0x0d, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0]),
    plain(Kind::Read, Reads, &[0xa8, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0]),
    plain(Kind::Write, Writes, &[0xaa, 0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0]),
    plain(Kind::WriteVerify, Writes, &[0xae, 0x16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0]),
    plain(Kind::Verify, Reads, &[0xaf, 0x16, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f, 0]),
];

/// Where in [`COMMANDS`] an operation code begins; 255 where it does not.
static FIRST: [u8; 256] = {
    let mut first = [255; 256];
    let mut at = COMMANDS.len();
    while at > 0 {
        at -= 1;
        first[COMMANDS[at].usage[0] as usize] = at as u8;
    }
    first
};

/// The commands of an operation code: none, one, or one for each service action.
pub(crate) fn of(opcode: u8, thin: bool) -> impl Iterator<Item = &'static Command> {
    let first = usize::from(FIRST[usize::from(opcode)]);
    let rest = COMMANDS.get(first..).unwrap_or_default();
    rest.iter().take_while(move |command| command.opcode() == opcode && command.is_there(thin))
}

/// The command that a CDB is; its fields are not looked at yet.
pub(crate) fn find(cdb: &Cdb, thin: bool) -> Result<&'static Command, Sense> {
    let first = COMMANDS.get(usize::from(FIRST[usize::from(cdb.octet(0))]));
    match first.filter(|command| command.is_there(thin)) {
        None => Err(Sense::INVALID_OPERATION_CODE),
        Some(command) if !command.has_action => Ok(command),
        // SPC-5: a service action that is not supported is INVALID FIELD IN CDB.
        Some(command) => of(command.opcode(), thin)
            .find(|command| command.action() == cdb.action())
            .ok_or(Sense::in_cdb_bit(1, 4)),
    }
}

/// Whether the CDB is as long as the command's, and nothing is set outside of its fields.
pub(crate) fn check(command: &Command, cdb: &Cdb, length: usize, thin: bool) -> Result<(), Sense> {
    if length < command.usage.len() {
        return Err(Sense::INVALID_FIELD_IN_CDB);
    }
    command.check(cdb, thin)
}
