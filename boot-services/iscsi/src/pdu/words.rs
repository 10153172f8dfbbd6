use super::{Header, Malformed, begin, get, put};
use core::fmt;

/// A number of a sequence that wraps: CmdSN, StatSN, DataSN and their like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Serial(pub u32);

impl Serial {
    /// So many further on.
    pub const fn plus(self, by: u32) -> Serial {
        Serial(self.0.wrapping_add(by))
    }

    /// How far `self` is past `earlier`; negative if it comes before it.
    pub const fn past(self, earlier: Serial) -> i32 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// An Initiator Task Tag or a Target Transfer Tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag(pub u32);

impl Tag {
    /// The reserved one: no task, no transfer.
    pub const NONE: Tag = Tag(u32::MAX);
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

/// The initiator's part of a session's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Isid(pub [u8; 6]);

/// The target's part of a session's name; 0 before there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tsih(pub u16);

/// The eight octets of a LUN as SAM-5 has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lun(pub u64);

impl Lun {
    /// A single-level LUN: peripheral device addressing below 256, flat space addressing up to 16383.
    pub const fn single(number: u16) -> Lun {
        let first = if number < 256 { number } else { 0x4000 | (number & 0x3fff) };
        Lun((first as u64) << 48)
    }

    /// The number of a single-level LUN, however it is addressed; none for anything deeper.
    pub const fn number(self) -> Option<u16> {
        let first = (self.0 >> 48) as u16;
        match (self.0 & 0xffff_ffff_ffff == 0, first >> 14) {
            // SAM-5, 4.7.7.2: a bus identifier of zero is the logical unit at this level.
            (true, 0) if first < 256 => Some(first),
            (true, 1) => Some(first & 0x3fff),
            _ => None,
        }
    }
}

/// What every PDU of a target carries about sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// Of this PDU if it carries a status; else the next one to be.
    pub stat_sn: Serial,
    /// The next command awaited.
    pub exp_cmd_sn: Serial,
    /// The last command that would be taken; one less than `exp_cmd_sn` when the window is shut.
    pub max_cmd_sn: Serial,
}

impl Windows {
    pub(super) fn parse(header: &Header) -> Windows {
        Windows {
            stat_sn: Serial(get(header, 24)),
            exp_cmd_sn: Serial(get(header, 28)),
            max_cmd_sn: Serial(get(header, 32)),
        }
    }

    pub(super) fn emit(self, header: &mut Header) {
        put(header, 24, self.stat_sn.0);
        put(header, 28, self.exp_cmd_sn.0);
        put(header, 32, self.max_cmd_sn.0);
    }
}

/// A stage of the login phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// SecurityNegotiation.
    Security,
    /// LoginOperationalNegotiation.
    Operational,
    /// FullFeaturePhase.
    FullFeature,
}

impl Stage {
    fn parse(bits: u8) -> Result<Stage, Malformed> {
        match bits & 3 {
            0 => Ok(Stage::Security),
            1 => Ok(Stage::Operational),
            3 => Ok(Stage::FullFeature),
            _ => Err(Malformed::Field(1)),
        }
    }

    fn bits(self) -> u8 {
        match self {
            Stage::Security => 0,
            Stage::Operational => 1,
            Stage::FullFeature => 3,
        }
    }
}

/// A Login Request; its keys are the data segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Login {
    /// The stage it would go to: the T bit and NSG.
    pub transit: Option<Stage>,
    /// The text goes on in the next request: the C bit.
    pub more: bool,
    /// CSG.
    pub stage: Stage,
    /// The highest version it speaks.
    pub version_max: u8,
    /// The lowest.
    pub version_min: u8,
    /// The session, the initiator's part.
    pub isid: Isid,
    /// 0 for a new session.
    pub tsih: Tsih,
    /// The same in all requests of one login.
    pub itt: Tag,
    /// The connection.
    pub cid: u16,
    /// The first command's number.
    pub cmd_sn: Serial,
    /// The next status awaited.
    pub exp_stat_sn: Serial,
}

impl Login {
    pub(super) fn parse(header: &Header) -> Result<Login, Malformed> {
        let flags = header[1];
        let mut isid = [0; 6];
        isid.copy_from_slice(&header[8..14]);
        let stage = Stage::parse(flags >> 2)?;
        Ok(Login {
            transit: if flags & 0x80 == 0 { None } else { Some(Stage::parse(flags)?) },
            more: flags & 0x40 != 0,
            stage,
            version_max: header[2],
            version_min: header[3],
            isid: Isid(isid),
            tsih: Tsih(u16::from_be_bytes([header[14], header[15]])),
            itt: Tag(get(header, 16)),
            cid: u16::from_be_bytes([header[20], header[21]]),
            cmd_sn: Serial(get(header, 24)),
            exp_stat_sn: Serial(get(header, 28)),
        })
    }

    pub(super) fn emit(&self, data: usize) -> Header {
        // RFC 7143, 11.12: a Login Request is always immediate.
        let mut header = begin(0x43, data);
        header[1] = login_flags(self.transit, self.more, self.stage);
        header[2] = self.version_max;
        header[3] = self.version_min;
        header[8..14].copy_from_slice(&self.isid.0);
        header[14..16].copy_from_slice(&self.tsih.0.to_be_bytes());
        put(&mut header, 16, self.itt.0);
        header[20..22].copy_from_slice(&self.cid.to_be_bytes());
        put(&mut header, 24, self.cmd_sn.0);
        put(&mut header, 28, self.exp_stat_sn.0);
        header
    }
}

fn login_flags(transit: Option<Stage>, more: bool, stage: Stage) -> u8 {
    transit.map_or(0, |next| 0x80 | next.bits()) | u8::from(more) << 6 | stage.bits() << 2
}

/// How a login went (RFC 7143, 11.13.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginStatus {
    /// Class 0.
    Success,
    /// The target is elsewhere for now; TargetAddress says where.
    MovedTemporarily,
    /// For good.
    MovedPermanently,
    /// Class 2: the initiator is at fault.
    InitiatorError,
    /// The initiator could not prove who it is.
    AuthenticationFailure,
    /// It is who it says, and may not.
    AuthorizationFailure,
    /// There is no such target for this initiator.
    NotFound,
    /// It was there once.
    TargetRemoved,
    /// No common version.
    UnsupportedVersion,
    /// MaxConnections is reached.
    TooManyConnections,
    /// A key that there must be is not there.
    MissingParameter,
    /// This connection cannot be in that session.
    CannotInclude,
    /// Of this type there are no sessions here.
    SessionTypeNotSupported,
    /// There is no session with that TSIH.
    SessionDoesNotExist,
    /// Not while logging in.
    InvalidDuringLogin,
    /// Class 3: the target is at fault.
    TargetError,
    /// The target is there, and cannot serve now.
    ServiceUnavailable,
    /// It has no room left.
    OutOfResources,
    /// Anything else: class, detail.
    Other(u8, u8),
}

const STATUSES: [(LoginStatus, u8, u8); 18] = [
    (LoginStatus::Success, 0, 0),
    (LoginStatus::MovedTemporarily, 1, 1),
    (LoginStatus::MovedPermanently, 1, 2),
    (LoginStatus::InitiatorError, 2, 0),
    (LoginStatus::AuthenticationFailure, 2, 1),
    (LoginStatus::AuthorizationFailure, 2, 2),
    (LoginStatus::NotFound, 2, 3),
    (LoginStatus::TargetRemoved, 2, 4),
    (LoginStatus::UnsupportedVersion, 2, 5),
    (LoginStatus::TooManyConnections, 2, 6),
    (LoginStatus::MissingParameter, 2, 7),
    (LoginStatus::CannotInclude, 2, 8),
    (LoginStatus::SessionTypeNotSupported, 2, 9),
    (LoginStatus::SessionDoesNotExist, 2, 10),
    (LoginStatus::InvalidDuringLogin, 2, 11),
    (LoginStatus::TargetError, 3, 0),
    (LoginStatus::ServiceUnavailable, 3, 1),
    (LoginStatus::OutOfResources, 3, 2),
];

impl LoginStatus {
    /// Status-Class and Status-Detail.
    pub fn code(self) -> (u8, u8) {
        if let LoginStatus::Other(class, detail) = self {
            return (class, detail);
        }
        STATUSES.iter().find(|row| row.0 == self).map_or((3, 0), |row| (row.1, row.2))
    }

    /// From Status-Class and Status-Detail.
    pub fn from_code(class: u8, detail: u8) -> LoginStatus {
        let row = STATUSES.iter().find(|row| (row.1, row.2) == (class, detail));
        row.map_or(LoginStatus::Other(class, detail), |row| row.0)
    }
}

/// A Login Response; its keys are the data segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginResponse {
    /// The stage it goes to: the T bit and NSG.
    pub transit: Option<Stage>,
    /// The text goes on in the next response: the C bit.
    pub more: bool,
    /// CSG.
    pub stage: Stage,
    /// The highest version it speaks.
    pub version_max: u8,
    /// The one in use.
    pub version_active: u8,
    /// Of the request.
    pub isid: Isid,
    /// The session's, in the last response of a login that makes one.
    pub tsih: Tsih,
    /// Of the request.
    pub itt: Tag,
    /// Sequence.
    pub windows: Windows,
    /// How it went.
    pub status: LoginStatus,
}

impl LoginResponse {
    pub(super) fn parse(header: &Header) -> Result<LoginResponse, Malformed> {
        let flags = header[1];
        let mut isid = [0; 6];
        isid.copy_from_slice(&header[8..14]);
        let status = LoginStatus::from_code(header[36], header[37]);
        // RFC 7143, 11.13: with a status other than 0 the stages mean nothing.
        let stage = if status == LoginStatus::Success { Stage::parse(flags >> 2)? } else { Stage::Security };
        Ok(LoginResponse {
            transit: if flags & 0x80 == 0 || status != LoginStatus::Success {
                None
            } else {
                Some(Stage::parse(flags)?)
            },
            more: flags & 0x40 != 0,
            stage,
            version_max: header[2],
            version_active: header[3],
            isid: Isid(isid),
            tsih: Tsih(u16::from_be_bytes([header[14], header[15]])),
            itt: Tag(get(header, 16)),
            windows: Windows::parse(header),
            status,
        })
    }

    pub(super) fn emit(&self, data: usize) -> Header {
        let mut header = begin(0x23, data);
        header[1] = login_flags(self.transit, self.more, self.stage);
        header[2] = self.version_max;
        header[3] = self.version_active;
        header[8..14].copy_from_slice(&self.isid.0);
        header[14..16].copy_from_slice(&self.tsih.0.to_be_bytes());
        put(&mut header, 16, self.itt.0);
        self.windows.emit(&mut header);
        (header[36], header[37]) = self.status.code();
        header
    }
}
