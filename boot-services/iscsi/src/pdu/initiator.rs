use super::{Header, Login, Lun, Malformed, Serial, Tag, begin, get, put};

/// A PDU that initiators send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromInitiator {
    /// 0x00.
    NopOut(NopOut),
    /// 0x01.
    Command(Command),
    /// 0x02.
    TaskManagement(TaskManagement),
    /// 0x03.
    Login(Login),
    /// 0x04.
    Text(Text),
    /// 0x05.
    DataOut(DataOut),
    /// 0x06.
    Logout(Logout),
    /// 0x10.
    Snack(Snack),
}

/// NOP-Out; ping data is the data segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NopOut {
    /// Not numbered: the I bit.
    pub immediate: bool,
    /// Of the target's ping, if it answers one.
    pub lun: Lun,
    /// None if no answer is wanted.
    pub itt: Tag,
    /// Of the target's ping, or none.
    pub ttt: Tag,
    /// Its number, or the next one's.
    pub cmd_sn: Serial,
    /// The next status awaited.
    pub exp_stat_sn: Serial,
}

/// A task attribute of SAM-5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskAttribute {
    /// 0: as simple.
    Untagged,
    /// 1.
    Simple,
    /// 2: after all before it, before all after it.
    Ordered,
    /// 3: before all that have not begun.
    HeadOfQueue,
    /// 4.
    Aca,
}

/// SCSI Command; immediate data is the data segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command {
    /// Not numbered: the I bit.
    pub immediate: bool,
    /// No unsolicited Data-Out follows: the F bit.
    pub last: bool,
    /// Data come from the target.
    pub reads: bool,
    /// Data go to the target.
    pub writes: bool,
    /// The task's.
    pub attribute: TaskAttribute,
    /// The logical unit.
    pub lun: Lun,
    /// The task.
    pub itt: Tag,
    /// Expected Data Transfer Length, in octets; of the write if it does both.
    pub length: u32,
    /// Its number, or the next one's.
    pub cmd_sn: Serial,
    /// The next status awaited.
    pub exp_stat_sn: Serial,
    /// The CDB's first sixteen octets.
    pub cdb: [u8; 16],
}

/// A task management function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskFunction {
    /// 1.
    AbortTask,
    /// 2.
    AbortTaskSet,
    /// 3.
    ClearAca,
    /// 4.
    ClearTaskSet,
    /// 5.
    LogicalUnitReset,
    /// 6.
    TargetWarmReset,
    /// 7.
    TargetColdReset,
    /// 8.
    TaskReassign,
    /// Any other number.
    Other(u8),
}

/// Task Management Function Request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskManagement {
    /// Not numbered: the I bit.
    pub immediate: bool,
    /// What to do.
    pub function: TaskFunction,
    /// To which unit.
    pub lun: Lun,
    /// The function's own tag.
    pub itt: Tag,
    /// The task it means.
    pub referenced: Tag,
    /// Its number, or the next one's.
    pub cmd_sn: Serial,
    /// The next status awaited.
    pub exp_stat_sn: Serial,
    /// Of the task it means.
    pub ref_cmd_sn: Serial,
    /// For reassignment.
    pub exp_data_sn: Serial,
}

/// Text Request; its keys are the data segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text {
    /// Not numbered: the I bit.
    pub immediate: bool,
    /// The initiator has no more to say: the F bit.
    pub last: bool,
    /// The text goes on in the next request: the C bit.
    pub more: bool,
    /// Of the answer it continues.
    pub lun: Lun,
    /// The same in all requests of one negotiation.
    pub itt: Tag,
    /// Of the answer it continues; none at first.
    pub ttt: Tag,
    /// Its number, or the next one's.
    pub cmd_sn: Serial,
    /// The next status awaited.
    pub exp_stat_sn: Serial,
}

/// SCSI Data-Out; the data are the data segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataOut {
    /// The sequence ends: the F bit.
    pub last: bool,
    /// Of the R2T.
    pub lun: Lun,
    /// The task.
    pub itt: Tag,
    /// Of the R2T; none if unsolicited.
    pub ttt: Tag,
    /// The next status awaited.
    pub exp_stat_sn: Serial,
    /// Its number in the sequence.
    pub data_sn: Serial,
    /// Where in the command's data it goes, in octets.
    pub offset: u32,
}

/// Why a logout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogoutReason {
    /// 0.
    CloseSession,
    /// 1.
    CloseConnection,
    /// 2.
    RemoveForRecovery,
    /// Any other number.
    Other(u8),
}

/// Logout Request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logout {
    /// Not numbered: the I bit.
    pub immediate: bool,
    /// Why.
    pub reason: LogoutReason,
    /// Its tag.
    pub itt: Tag,
    /// Which connection.
    pub cid: u16,
    /// Its number, or the next one's.
    pub cmd_sn: Serial,
    /// The next status awaited.
    pub exp_stat_sn: Serial,
}

/// SNACK Request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snack {
    /// 0 data or R2T, 1 status, 2 DataACK, 3 R-Data.
    pub kind: u8,
    /// The unit.
    pub lun: Lun,
    /// The task, or none.
    pub itt: Tag,
    /// For DataACK.
    pub ttt: Tag,
    /// The next status awaited.
    pub exp_stat_sn: Serial,
    /// From which number.
    pub begin: Serial,
    /// How many.
    pub run: u32,
}

fn lun(header: &Header) -> Lun {
    Lun(u64::from(get(header, 8)) << 32 | u64::from(get(header, 12)))
}

fn put_lun(header: &mut Header, lun: Lun) {
    header[8..16].copy_from_slice(&lun.0.to_be_bytes());
}

impl FromInitiator {
    /// Reads a header.
    ///
    /// # Errors
    /// No initiator's opcode, or a reserved value in a field that decides what follows.
    pub fn parse(header: &Header) -> Result<FromInitiator, Malformed> {
        let immediate = header[0] & 0x40 != 0;
        let flags = header[1];
        let last = flags & 0x80 != 0;
        let itt = Tag(get(header, 16));
        let ttt = Tag(get(header, 20));
        let (cmd_sn, exp_stat_sn) = (Serial(get(header, 24)), Serial(get(header, 28)));
        let lun = lun(header);
        // The highest bit is reserved and not looked at.
        Ok(match header[0] & 0x3f {
            0x00 => FromInitiator::NopOut(NopOut { immediate, lun, itt, ttt, cmd_sn, exp_stat_sn }),
            0x01 => {
                let mut cdb = [0; 16];
                cdb.copy_from_slice(&header[32..]);
                FromInitiator::Command(Command {
                    immediate,
                    last,
                    reads: flags & 0x40 != 0,
                    writes: flags & 0x20 != 0,
                    attribute: match flags & 7 {
                        0 => TaskAttribute::Untagged,
                        1 => TaskAttribute::Simple,
                        2 => TaskAttribute::Ordered,
                        3 => TaskAttribute::HeadOfQueue,
                        4 => TaskAttribute::Aca,
                        _ => return Err(Malformed::Field(1)),
                    },
                    lun,
                    itt,
                    length: ttt.0,
                    cmd_sn,
                    exp_stat_sn,
                    cdb,
                })
            }
            0x02 => FromInitiator::TaskManagement(TaskManagement {
                immediate,
                function: match flags & 0x7f {
                    1 => TaskFunction::AbortTask,
                    2 => TaskFunction::AbortTaskSet,
                    3 => TaskFunction::ClearAca,
                    4 => TaskFunction::ClearTaskSet,
                    5 => TaskFunction::LogicalUnitReset,
                    6 => TaskFunction::TargetWarmReset,
                    7 => TaskFunction::TargetColdReset,
                    8 => TaskFunction::TaskReassign,
                    other => TaskFunction::Other(other),
                },
                lun,
                itt,
                referenced: ttt,
                cmd_sn,
                exp_stat_sn,
                ref_cmd_sn: Serial(get(header, 32)),
                exp_data_sn: Serial(get(header, 36)),
            }),
            0x03 => FromInitiator::Login(Login::parse(header)?),
            0x04 => {
                let more = flags & 0x40 != 0;
                FromInitiator::Text(Text { immediate, last, more, lun, itt, ttt, cmd_sn, exp_stat_sn })
            }
            0x05 => FromInitiator::DataOut(DataOut {
                last,
                lun,
                itt,
                ttt,
                exp_stat_sn,
                data_sn: Serial(get(header, 36)),
                offset: get(header, 40),
            }),
            0x06 => FromInitiator::Logout(Logout {
                immediate,
                reason: match flags & 0x7f {
                    0 => LogoutReason::CloseSession,
                    1 => LogoutReason::CloseConnection,
                    2 => LogoutReason::RemoveForRecovery,
                    other => LogoutReason::Other(other),
                },
                itt,
                cid: u16::from_be_bytes([header[20], header[21]]),
                cmd_sn,
                exp_stat_sn,
            }),
            0x10 => FromInitiator::Snack(Snack {
                kind: flags & 0x0f,
                lun,
                itt,
                ttt,
                exp_stat_sn,
                begin: Serial(get(header, 40)),
                run: get(header, 44),
            }),
            other => return Err(Malformed::Opcode(other)),
        })
    }

    /// Writes a header for a data segment of so many octets.
    pub fn emit(&self, data: usize) -> Header {
        let bit = |set: bool, value: u8| if set { value } else { 0 };
        let tagged = |opcode: u8, immediate: bool, flags: u8, lun: Lun, itt: Tag, second: u32| {
            let mut header = begin(opcode | bit(immediate, 0x40), data);
            header[1] = flags;
            put_lun(&mut header, lun);
            put(&mut header, 16, itt.0);
            put(&mut header, 20, second);
            header
        };
        let numbered = |mut header: Header, cmd_sn: Serial, exp_stat_sn: Serial| {
            put(&mut header, 24, cmd_sn.0);
            put(&mut header, 28, exp_stat_sn.0);
            header
        };
        match self {
            FromInitiator::NopOut(p) => {
                numbered(tagged(0x00, p.immediate, 0x80, p.lun, p.itt, p.ttt.0), p.cmd_sn, p.exp_stat_sn)
            }
            FromInitiator::Command(p) => {
                let attribute = match p.attribute {
                    TaskAttribute::Untagged => 0,
                    TaskAttribute::Simple => 1,
                    TaskAttribute::Ordered => 2,
                    TaskAttribute::HeadOfQueue => 3,
                    TaskAttribute::Aca => 4,
                };
                let flags = bit(p.last, 0x80) | bit(p.reads, 0x40) | bit(p.writes, 0x20) | attribute;
                let header = tagged(0x01, p.immediate, flags, p.lun, p.itt, p.length);
                let mut header = numbered(header, p.cmd_sn, p.exp_stat_sn);
                header[32..].copy_from_slice(&p.cdb);
                header
            }
            FromInitiator::TaskManagement(p) => {
                let function = match p.function {
                    TaskFunction::AbortTask => 1,
                    TaskFunction::AbortTaskSet => 2,
                    TaskFunction::ClearAca => 3,
                    TaskFunction::ClearTaskSet => 4,
                    TaskFunction::LogicalUnitReset => 5,
                    TaskFunction::TargetWarmReset => 6,
                    TaskFunction::TargetColdReset => 7,
                    TaskFunction::TaskReassign => 8,
                    TaskFunction::Other(other) => other & 0x7f,
                };
                let header = tagged(0x02, p.immediate, 0x80 | function, p.lun, p.itt, p.referenced.0);
                let mut header = numbered(header, p.cmd_sn, p.exp_stat_sn);
                put(&mut header, 32, p.ref_cmd_sn.0);
                put(&mut header, 36, p.exp_data_sn.0);
                header
            }
            FromInitiator::Login(p) => p.emit(data),
            FromInitiator::Text(p) => {
                let flags = bit(p.last, 0x80) | bit(p.more, 0x40);
                numbered(tagged(0x04, p.immediate, flags, p.lun, p.itt, p.ttt.0), p.cmd_sn, p.exp_stat_sn)
            }
            FromInitiator::DataOut(p) => {
                let mut header = tagged(0x05, false, bit(p.last, 0x80), p.lun, p.itt, p.ttt.0);
                put(&mut header, 28, p.exp_stat_sn.0);
                put(&mut header, 36, p.data_sn.0);
                put(&mut header, 40, p.offset);
                header
            }
            FromInitiator::Logout(p) => {
                let reason = match p.reason {
                    LogoutReason::CloseSession => 0,
                    LogoutReason::CloseConnection => 1,
                    LogoutReason::RemoveForRecovery => 2,
                    LogoutReason::Other(other) => other & 0x7f,
                };
                let cid = u32::from(p.cid) << 16;
                let header = tagged(0x06, p.immediate, 0x80 | reason, Lun(0), p.itt, cid);
                numbered(header, p.cmd_sn, p.exp_stat_sn)
            }
            FromInitiator::Snack(p) => {
                let mut header = tagged(0x10, false, 0x80 | p.kind & 0x0f, p.lun, p.itt, p.ttt.0);
                put(&mut header, 28, p.exp_stat_sn.0);
                put(&mut header, 40, p.begin.0);
                put(&mut header, 44, p.run);
                header
            }
        }
    }
}
