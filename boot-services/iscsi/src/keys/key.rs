//! The keys as a table.

/// How a value follows from what both ends said (RFC 7143, 6.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// The smaller number.
    Least,
    /// The greater number.
    Most,
}

/// What a value may be, its default, and how it is agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A number between two, agreed on by a result function.
    Number {
        /// The least.
        least: u32,
        /// The greatest.
        most: u32,
        /// Before it is agreed on.
        default: u32,
        /// The result function.
        merge: Merge,
    },
    /// Yes or No, agreed on by OR, or else by AND.
    Switch {
        /// Before it is agreed on.
        default: bool,
        /// OR, not AND.
        or: bool,
    },
    /// A number between two, that one end says of itself.
    Declared {
        /// The least.
        least: u32,
        /// The greatest.
        most: u32,
        /// Before it is said.
        default: u32,
    },
    /// A list, of which the other end takes the first that it knows.
    List,
    /// A text that one end says.
    Text,
    /// Obsolete (RFC 7143, 13.25), answered so.
    Obsolete(&'static str),
}

macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $kind:expr, [$($mark:ident)*];)*) => {
        /// A key of RFC 7143, 13 (iSCSIProtocolLevel: RFC 7144).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Key { $($(#[$doc])* $name,)* }

        impl Key {
            /// All of them.
            pub const ALL: &[Key] = &[$(Key::$name),*];

            /// Its name on the wire.
            pub fn name(self) -> &'static str {
                match self { $(Key::$name => $text,)* }
            }

            /// The key of a name.
            pub fn of(name: &str) -> Option<Key> {
                match name { $($text => Some(Key::$name),)* _ => None }
            }

            /// Its values.
            pub fn kind(self) -> Kind {
                match self { $(Key::$name => $kind,)* }
            }

            fn has(self, mark: &str) -> bool {
                match self { $(Key::$name => [$(stringify!($mark)),*].contains(&mark),)* }
            }
        }
    };
}

const fn number(least: u32, most: u32, default: u32, merge: Merge) -> Kind {
    Kind::Number { least, most, default, merge }
}

const OCTETS: u32 = (1 << 24) - 1;

// Marks: `i` and `t`, whom it may come from; `again`, it may be said more than once; `full`, it may come in the
// full feature phase; `normal`, it is irrelevant in a discovery session; `security`, only in the security stage.
keys! {
    /// 13.2.
    HeaderDigest = "HeaderDigest", Kind::List, [i t];
    /// 13.2.
    DataDigest = "DataDigest", Kind::List, [i t];
    /// 13.3.
    MaxConnections = "MaxConnections", number(1, 65_535, 1, Merge::Least), [i t normal];
    /// 13.4, Appendix C.
    SendTargets = "SendTargets", Kind::Text, [i full again];
    /// 13.5.
    TargetName = "TargetName", Kind::Text, [i t full again];
    /// 13.6.
    InitiatorName = "InitiatorName", Kind::Text, [i];
    /// 13.7.
    TargetAlias = "TargetAlias", Kind::Text, [t full again];
    /// 13.8.
    InitiatorAlias = "InitiatorAlias", Kind::Text, [i full again];
    /// 13.9.
    TargetAddress = "TargetAddress", Kind::Text, [t full again];
    /// 13.10.
    TargetPortalGroupTag = "TargetPortalGroupTag", Kind::Declared { least: 0, most: 65_535, default: 1 }, [t];
    /// 13.11.
    InitialR2T = "InitialR2T", Kind::Switch { default: true, or: true }, [i t normal];
    /// 13.12.
    ImmediateData = "ImmediateData", Kind::Switch { default: true, or: false }, [i t normal];
    /// 13.13.
    MaxRecvDataSegmentLength = "MaxRecvDataSegmentLength",
        Kind::Declared { least: 512, most: OCTETS, default: 8192 }, [i t full again];
    /// 13.14.
    MaxBurstLength = "MaxBurstLength", number(512, OCTETS, 262_144, Merge::Least), [i t normal];
    /// 13.15.
    FirstBurstLength = "FirstBurstLength", number(512, OCTETS, 65_536, Merge::Least), [i t normal];
    /// 13.16.
    DefaultTime2Wait = "DefaultTime2Wait", number(0, 3600, 2, Merge::Most), [i t];
    /// 13.17.
    DefaultTime2Retain = "DefaultTime2Retain", number(0, 3600, 20, Merge::Least), [i t];
    /// 13.18.
    MaxOutstandingR2T = "MaxOutstandingR2T", number(1, 65_535, 1, Merge::Least), [i t normal];
    /// 13.19.
    DataPDUInOrder = "DataPDUInOrder", Kind::Switch { default: true, or: true }, [i t normal];
    /// 13.20.
    DataSequenceInOrder = "DataSequenceInOrder", Kind::Switch { default: true, or: true }, [i t normal];
    /// 13.21.
    ErrorRecoveryLevel = "ErrorRecoveryLevel", number(0, 2, 0, Merge::Least), [i t];
    /// 13.22.
    SessionType = "SessionType", Kind::List, [i];
    /// 13.24.
    TaskReporting = "TaskReporting", Kind::List, [i t normal];
    /// RFC 7144, 7.1.
    ProtocolLevel = "iSCSIProtocolLevel", number(0, 31, 1, Merge::Least), [i t normal];
    /// 12.1.
    AuthMethod = "AuthMethod", Kind::List, [i t security];
    /// 12.1.3.
    ChapA = "CHAP_A", Kind::List, [i t security];
    /// 12.1.3.
    ChapI = "CHAP_I", Kind::Text, [i t security];
    /// 12.1.3.
    ChapC = "CHAP_C", Kind::Text, [i t security];
    /// 12.1.3.
    ChapN = "CHAP_N", Kind::Text, [i t security];
    /// 12.1.3.
    ChapR = "CHAP_R", Kind::Text, [i t security];
    /// 13.25.
    OFMarker = "OFMarker", Kind::Obsolete("No"), [i t];
    /// 13.25.
    IFMarker = "IFMarker", Kind::Obsolete("No"), [i t];
    /// 13.25.
    OFMarkInt = "OFMarkInt", Kind::Obsolete("Reject"), [i t];
    /// 13.25.
    IFMarkInt = "IFMarkInt", Kind::Obsolete("Reject"), [i t];
}

impl Key {
    /// Whether the initiator may send it (to propose, declare or ask).
    pub fn is_initiators(self) -> bool {
        self.has("i")
    }

    /// Whether the target may send it other than as an answer.
    pub fn is_targets(self) -> bool {
        self.has("t")
    }

    /// Whether it may come more than once.
    pub fn may_come_again(self) -> bool {
        self.has("again")
    }

    /// Whether it may come in the full feature phase.
    pub fn is_for_full_feature(self) -> bool {
        self.has("full")
    }

    /// Whether it means nothing in a discovery session.
    pub fn is_for_normal_sessions_only(self) -> bool {
        self.has("normal")
    }

    /// Whether it belongs to [`crate::chap`].
    pub fn is_for_security(self) -> bool {
        self.has("security")
    }

    /// Whether `name` is an iSCSI name (RFC 7143, 4.2.7): `iqn.`, `eui.` or `naa.` and what may follow.
    pub fn is_name(name: &str) -> bool {
        let hexadecimal = |text: &str| text.bytes().all(|octet| octet.is_ascii_hexdigit());
        if let Some(rest) = name.strip_prefix("eui.") {
            return rest.len() == 16 && hexadecimal(rest);
        }
        if let Some(rest) = name.strip_prefix("naa.") {
            return matches!(rest.len(), 16 | 32) && hexadecimal(rest);
        }
        // Capitals are what stringprep would have made small; they were seen and are taken as they are.
        let allowed = |letter: char| letter.is_alphanumeric() || "-.:".contains(letter);
        // 4.2.7.1: "The maximum length of an iSCSI name is 223 bytes."
        name.strip_prefix("iqn.").is_some_and(|rest| !rest.is_empty() && rest.chars().all(allowed))
            && name.len() <= 223
    }
}
