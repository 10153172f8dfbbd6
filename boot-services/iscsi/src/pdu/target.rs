use super::{Header, LoginResponse, Lun, Malformed, Serial, Tag, Windows, begin, get, put};

/// A PDU that targets send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromTarget {
    /// 0x20.
    NopIn(NopIn),
    /// 0x21.
    Response(Response),
    /// 0x22.
    TaskResponse(TaskResponse),
    /// 0x23.
    Login(LoginResponse),
    /// 0x24.
    Text(TextResponse),
    /// 0x25.
    DataIn(DataIn),
    /// 0x26.
    Logout(LogoutResponse),
    /// 0x31.
    R2t(R2t),
    /// 0x32.
    Async(Async),
    /// 0x3f.
    Reject(Reject),
}

/// NOP-In; ping data is the data segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NopIn {
    /// Of a ping.
    pub lun: Lun,
    /// Of the NOP-Out it answers, or none.
    pub itt: Tag,
    /// Of the ping that wants an answer, or none.
    pub ttt: Tag,
    /// Sequence.
    pub windows: Windows,
}

/// What was left of the expected length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Residual {
    /// Nothing.
    #[default]
    None,
    /// So many octets were not transferred though expected: the U bit.
    Underflow(u32),
    /// So many octets more there would have been: the O bit.
    Overflow(u32),
}

impl Residual {
    fn parse(header: &Header) -> Residual {
        match header[1] & 6 {
            2 => Residual::Underflow(get(header, 44)),
            4 => Residual::Overflow(get(header, 44)),
            _ => Residual::None,
        }
    }

    fn emit(self, header: &mut Header) {
        let (bit, count) = match self {
            Residual::None => (0, 0),
            Residual::Underflow(count) => (2, count),
            Residual::Overflow(count) => (4, count),
        };
        header[1] |= bit;
        put(header, 44, count);
    }
}

/// SCSI Response; length and sense data are the data segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// 0 completed at the target, 1 target failure.
    pub response: u8,
    /// The SCSI status.
    pub status: u8,
    /// The task.
    pub itt: Tag,
    /// Sequence.
    pub windows: Windows,
    /// How many Data-In (or R2T) PDUs the command had.
    pub exp_data_sn: Serial,
    /// What is left.
    pub residual: Residual,
}

/// How a task management function went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskAnswer {
    /// 0.
    Complete,
    /// 1.
    TaskDoesNotExist,
    /// 2.
    LunDoesNotExist,
    /// 3.
    TaskStillAllegiant,
    /// 4.
    ReassignmentNotSupported,
    /// 5.
    NotSupported,
    /// 6.
    AuthorizationFailed,
    /// 255.
    Rejected,
    /// Any other number.
    Other(u8),
}

const ANSWERS: [(TaskAnswer, u8); 8] = [
    (TaskAnswer::Complete, 0),
    (TaskAnswer::TaskDoesNotExist, 1),
    (TaskAnswer::LunDoesNotExist, 2),
    (TaskAnswer::TaskStillAllegiant, 3),
    (TaskAnswer::ReassignmentNotSupported, 4),
    (TaskAnswer::NotSupported, 5),
    (TaskAnswer::AuthorizationFailed, 6),
    (TaskAnswer::Rejected, 255),
];

/// Task Management Function Response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskResponse {
    /// How it went.
    pub answer: TaskAnswer,
    /// Of the request.
    pub itt: Tag,
    /// Sequence.
    pub windows: Windows,
}

/// Text Response; its keys are the data segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextResponse {
    /// The negotiation is over: the F bit.
    pub last: bool,
    /// The text goes on in the next response: the C bit.
    pub more: bool,
    /// Of the request.
    pub lun: Lun,
    /// Of the request.
    pub itt: Tag,
    /// What a continuation has to name; none if it is over.
    pub ttt: Tag,
    /// Sequence.
    pub windows: Windows,
}

/// SCSI Data-In; the data are the data segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataIn {
    /// The sequence ends: the F bit.
    pub last: bool,
    /// The command's status and what is left, if the PDU carries it: the S bit.
    pub status: Option<(u8, Residual)>,
    /// With a wish for DataACK only.
    pub lun: Lun,
    /// The task.
    pub itt: Tag,
    /// With a wish for DataACK only; else none.
    pub ttt: Tag,
    /// Sequence; its `stat_sn` means something only with a status.
    pub windows: Windows,
    /// Its number in the command.
    pub data_sn: Serial,
    /// Where in the command's data it goes, in octets.
    pub offset: u32,
}

/// How a logout went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogoutAnswer {
    /// 0.
    Closed,
    /// 1.
    CidNotFound,
    /// 2.
    RecoveryNotSupported,
    /// 3.
    CleanupFailed,
    /// Any other number.
    Other(u8),
}

/// Logout Response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogoutResponse {
    /// How it went.
    pub answer: LogoutAnswer,
    /// Of the request.
    pub itt: Tag,
    /// Sequence.
    pub windows: Windows,
    /// Seconds before which nothing should be tried.
    pub time2wait: u16,
    /// Seconds after which nothing is kept.
    pub time2retain: u16,
}

/// Ready To Transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct R2t {
    /// Of the command.
    pub lun: Lun,
    /// The task.
    pub itt: Tag,
    /// What the data have to name.
    pub ttt: Tag,
    /// Sequence; its `stat_sn` is the next to be.
    pub windows: Windows,
    /// Its number in the command.
    pub r2t_sn: Serial,
    /// Where in the command's data, in octets.
    pub offset: u32,
    /// How many octets are wanted.
    pub length: u32,
}

/// What an asynchronous message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsyncEvent {
    /// 0: sense data are in the data segment.
    Sense,
    /// 1: log out within so many seconds.
    LogoutRequest(u16),
    /// 2: the connection of this CID will be dropped; seconds to wait, seconds kept.
    DropConnection(u16, u16, u16),
    /// 3: all connections of the session will; seconds to wait, seconds kept.
    DropSession(u16, u16),
    /// 4: negotiate again within so many seconds.
    Negotiate(u16),
    /// Any other number.
    Other(u8),
}

/// Asynchronous Message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Async {
    /// What of.
    pub lun: Lun,
    /// Sequence.
    pub windows: Windows,
    /// What it says.
    pub event: AsyncEvent,
}

/// Why a PDU is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectReason {
    /// 0x02.
    DataDigest,
    /// 0x03.
    Snack,
    /// 0x04.
    Protocol,
    /// 0x05.
    NotSupported,
    /// 0x06.
    ImmediateCommand,
    /// 0x07.
    TaskInProgress,
    /// 0x08.
    InvalidDataAck,
    /// 0x09.
    InvalidField,
    /// 0x0a.
    LongOperation,
    /// 0x0c.
    WaitingForLogout,
    /// Any other number.
    Other(u8),
}

const REASONS: [(RejectReason, u8); 10] = [
    (RejectReason::DataDigest, 2),
    (RejectReason::Snack, 3),
    (RejectReason::Protocol, 4),
    (RejectReason::NotSupported, 5),
    (RejectReason::ImmediateCommand, 6),
    (RejectReason::TaskInProgress, 7),
    (RejectReason::InvalidDataAck, 8),
    (RejectReason::InvalidField, 9),
    (RejectReason::LongOperation, 10),
    (RejectReason::WaitingForLogout, 12),
];

/// Reject; the rejected header is the data segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Why.
    pub reason: RejectReason,
    /// Sequence.
    pub windows: Windows,
    /// Of data PDUs: the next one awaited.
    pub data_sn: Serial,
}

fn lun(header: &Header) -> Lun {
    Lun(u64::from(get(header, 8)) << 32 | u64::from(get(header, 12)))
}

fn half(header: &Header, at: usize) -> u16 {
    u16::from_be_bytes([header[at], header[at + 1]])
}

impl FromTarget {
    /// Reads a header.
    ///
    /// # Errors
    /// No target's opcode, or a reserved value in a field that decides what follows.
    pub fn parse(header: &Header) -> Result<FromTarget, Malformed> {
        let flags = header[1];
        let last = flags & 0x80 != 0;
        let lun = lun(header);
        let (itt, ttt) = (Tag(get(header, 16)), Tag(get(header, 20)));
        let windows = Windows::parse(header);
        let third = Serial(get(header, 36));
        Ok(match header[0] & 0x3f {
            0x20 => FromTarget::NopIn(NopIn { lun, itt, ttt, windows }),
            0x21 => FromTarget::Response(Response {
                response: header[2],
                status: header[3],
                itt,
                windows,
                exp_data_sn: third,
                residual: Residual::parse(header),
            }),
            0x22 => {
                let row = ANSWERS.iter().find(|row| row.1 == header[2]);
                let answer = row.map_or(TaskAnswer::Other(header[2]), |row| row.0);
                FromTarget::TaskResponse(TaskResponse { answer, itt, windows })
            }
            0x23 => FromTarget::Login(LoginResponse::parse(header)?),
            0x24 => {
                let more = flags & 0x40 != 0;
                FromTarget::Text(TextResponse { last, more, lun, itt, ttt, windows })
            }
            0x25 => FromTarget::DataIn(DataIn {
                last,
                status: (flags & 1 != 0).then(|| (header[3], Residual::parse(header))),
                lun,
                itt,
                ttt,
                windows,
                data_sn: third,
                offset: get(header, 40),
            }),
            0x26 => FromTarget::Logout(LogoutResponse {
                answer: match header[2] {
                    0 => LogoutAnswer::Closed,
                    1 => LogoutAnswer::CidNotFound,
                    2 => LogoutAnswer::RecoveryNotSupported,
                    3 => LogoutAnswer::CleanupFailed,
                    other => LogoutAnswer::Other(other),
                },
                itt,
                windows,
                time2wait: half(header, 40),
                time2retain: half(header, 42),
            }),
            0x31 => FromTarget::R2t(R2t {
                lun,
                itt,
                ttt,
                windows,
                r2t_sn: third,
                offset: get(header, 40),
                length: get(header, 44),
            }),
            0x32 => FromTarget::Async(Async {
                lun,
                windows,
                event: match header[36] {
                    0 => AsyncEvent::Sense,
                    1 => AsyncEvent::LogoutRequest(half(header, 42)),
                    2 => AsyncEvent::DropConnection(half(header, 38), half(header, 40), half(header, 42)),
                    3 => AsyncEvent::DropSession(half(header, 40), half(header, 42)),
                    4 => AsyncEvent::Negotiate(half(header, 42)),
                    other => AsyncEvent::Other(other),
                },
            }),
            0x3f => {
                let row = REASONS.iter().find(|row| row.1 == header[2]);
                let reason = row.map_or(RejectReason::Other(header[2]), |row| row.0);
                FromTarget::Reject(Reject { reason, windows, data_sn: third })
            }
            other => return Err(Malformed::Opcode(other)),
        })
    }

    /// Writes a header for a data segment of so many octets.
    pub fn emit(&self, data: usize) -> Header {
        let tagged = |opcode: u8, flags: u8, lun: Lun, itt: Tag, ttt: u32, windows: Windows| {
            let mut header = begin(opcode, data);
            header[1] = flags;
            header[8..16].copy_from_slice(&lun.0.to_be_bytes());
            put(&mut header, 16, itt.0);
            put(&mut header, 20, ttt);
            windows.emit(&mut header);
            header
        };
        let plain = Lun(0);
        match self {
            FromTarget::NopIn(p) => tagged(0x20, 0x80, p.lun, p.itt, p.ttt.0, p.windows),
            FromTarget::Response(p) => {
                let mut header = tagged(0x21, 0x80, plain, p.itt, 0, p.windows);
                (header[2], header[3]) = (p.response, p.status);
                put(&mut header, 36, p.exp_data_sn.0);
                p.residual.emit(&mut header);
                header
            }
            FromTarget::TaskResponse(p) => {
                let mut header = tagged(0x22, 0x80, plain, p.itt, 0, p.windows);
                header[2] = match p.answer {
                    TaskAnswer::Other(other) => other,
                    known => ANSWERS.iter().find(|row| row.0 == known).map_or(255, |row| row.1),
                };
                header
            }
            FromTarget::Login(p) => p.emit(data),
            FromTarget::Text(p) => {
                let flags = u8::from(p.last) << 7 | u8::from(p.more) << 6;
                tagged(0x24, flags, p.lun, p.itt, p.ttt.0, p.windows)
            }
            FromTarget::DataIn(p) => {
                let flags = u8::from(p.last) << 7 | u8::from(p.status.is_some());
                let mut header = tagged(0x25, flags, p.lun, p.itt, p.ttt.0, p.windows);
                put(&mut header, 36, p.data_sn.0);
                put(&mut header, 40, p.offset);
                match p.status {
                    Some((status, residual)) => {
                        header[3] = status;
                        residual.emit(&mut header);
                    }
                    // RFC 7143, 11.7.4: "StatSN, Status, and Residual Count only have meaningful content if the S
                    // bit is set to 1."
                    None => put(&mut header, 24, 0),
                }
                header
            }
            FromTarget::Logout(p) => {
                let mut header = tagged(0x26, 0x80, plain, p.itt, 0, p.windows);
                header[2] = match p.answer {
                    LogoutAnswer::Closed => 0,
                    LogoutAnswer::CidNotFound => 1,
                    LogoutAnswer::RecoveryNotSupported => 2,
                    LogoutAnswer::CleanupFailed => 3,
                    LogoutAnswer::Other(other) => other,
                };
                put(&mut header, 40, u32::from(p.time2wait) << 16 | u32::from(p.time2retain));
                header
            }
            FromTarget::R2t(p) => {
                let mut header = tagged(0x31, 0x80, p.lun, p.itt, p.ttt.0, p.windows);
                put(&mut header, 36, p.r2t_sn.0);
                put(&mut header, 40, p.offset);
                put(&mut header, 44, p.length);
                header
            }
            FromTarget::Async(p) => {
                let mut header = tagged(0x32, 0x80, p.lun, Tag::NONE, 0, p.windows);
                let (event, first, second, third) = match p.event {
                    AsyncEvent::Sense => (0, 0, 0, 0),
                    AsyncEvent::LogoutRequest(within) => (1, 0, 0, within),
                    AsyncEvent::DropConnection(cid, wait, retain) => (2, cid, wait, retain),
                    AsyncEvent::DropSession(wait, retain) => (3, 0, wait, retain),
                    AsyncEvent::Negotiate(within) => (4, 0, 0, within),
                    AsyncEvent::Other(other) => (other, 0, 0, 0),
                };
                header[36] = event;
                header[38..40].copy_from_slice(&u16::to_be_bytes(first));
                header[40..42].copy_from_slice(&u16::to_be_bytes(second));
                header[42..44].copy_from_slice(&u16::to_be_bytes(third));
                header
            }
            FromTarget::Reject(p) => {
                let mut header = tagged(0x3f, 0x80, plain, Tag::NONE, 0, p.windows);
                header[2] = match p.reason {
                    RejectReason::Other(other) => other,
                    known => REASONS.iter().find(|row| row.0 == known).map_or(4, |row| row.1),
                };
                put(&mut header, 36, p.data_sn.0);
                header
            }
        }
    }
}
