use crate::{Attempt, Device, Digest, Iqn, Prefix, Secret, VolumeId};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// What the iSCSI hand should be doing.
///
/// What a plan takes away, it takes away before it gives: the sessions of a target, a LUN or a secret that
/// is no longer in the plan are ended, and no write of theirs can land any more, before anything that is
/// new in the plan is opened. So a volume that goes from one target to another never has two writers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IscsiPlan {
    /// Where it listens: an address and the only interface that is heard.
    pub listen: Vec<(SocketAddr, Option<Device>)>,
    /// The directory of the image store.
    pub images: Option<String>,
    /// The directory of the volumes, which this hand owns.
    pub directory: Option<String>,
    /// The volumes that somebody means to keep, or to be rid of. One that is not named is left alone.
    pub volumes: Vec<VolumePlan>,
    /// What is exported, and to whom.
    pub targets: Vec<IscsiTarget>,
    /// The disks of nodes that images are to be written to.
    pub pushes: Vec<Push>,
}

/// A volume, and what should become of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumePlan {
    /// Which.
    pub id: VolumeId,
    /// What.
    pub wish: VolumeWish,
}

/// What should become of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeWish {
    /// It is there. One that is keeps its content, whatever it was made from.
    Kept {
        /// What it is made from; none: it was made before, and if it is not there it is lost, and not made anew.
        source: Option<VolumeSource>,
        /// Its size in octets, a multiple of 512, at least its source's.
        size: u64,
        /// Whether it is to hold all its content itself, nothing of what it was made from.
        flat: bool,
    },
    /// It is not there, nor its content.
    Gone,
}

/// What a volume is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeSource {
    /// Nothing: it reads as zeros.
    Blank,
    /// An image.
    Image(Digest),
    /// What another volume holds when the copy is made.
    Volume(VolumeId),
}

/// A target: what one initiator may see.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IscsiTarget {
    /// Its name.
    pub name: Iqn,
    /// Who may log in.
    pub initiator: Iqn,
    /// The portals by which it is seen, of those the plan listens on.
    pub portals: Vec<SocketAddr>,
    /// From where; empty: from anywhere on the portals' interfaces.
    pub from: Vec<Prefix>,
    /// With what.
    pub chap: IscsiChap,
    /// What it holds.
    pub luns: Vec<IscsiLun>,
}

/// Who both ends prove to be (RFC 7143, 12.1.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IscsiChap {
    /// What the initiator calls itself.
    pub user: String,
    /// Its secret, 12 to 100 octets.
    pub secret: Secret,
    /// What the target calls itself.
    pub target_user: String,
    /// The target's secret, another one; none: the target proves nothing.
    pub target_secret: Option<Secret>,
}

/// A logical unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IscsiLun {
    /// Its number, from 0 to 255.
    pub lun: u16,
    /// What is behind it.
    pub backing: Backing,
    /// Whether writes are refused.
    pub read_only: bool,
}

/// What is behind a logical unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backing {
    /// A volume of the plan; it stands behind one logical unit at most.
    Volume(VolumeId),
    /// A file that is only read, such as a config drive.
    File(String),
}

/// An image that is to be written to a disk that a node exports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Push {
    /// The attempt that needs it, repeated in the facts; the same attempt is the same push, done once.
    pub attempt: Attempt,
    /// Where the node's agent listens.
    pub portal: SocketAddr,
    /// The interface it is reached by.
    pub device: Option<Device>,
    /// Its target.
    pub target: Iqn,
    /// As whom to log in.
    pub initiator: Iqn,
    /// With what; `user` and `secret` are ours, the target's must be proved.
    pub chap: IscsiChap,
    /// The logical unit.
    pub lun: u16,
    /// What to write.
    pub image: Digest,
}

/// What the iSCSI hand does and sees. Keys: `volume/ID`, `target/IQN`, `push/ATTEMPT`, `listen/ADDRESS`,
/// `refused/ADDRESS`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IscsiFact {
    /// A volume of the plan.
    Volume {
        /// Which.
        id: VolumeId,
        /// How it stands.
        state: VolumeState,
        /// The target that exports it now, with its logical unit; none: nobody can write to it.
        exported: Option<(Iqn, u16)>,
    },
    /// A target of the plan.
    Target {
        /// Which.
        name: Iqn,
        /// Who is logged in now.
        sessions: Vec<IscsiSession>,
        /// What keeps it, or a logical unit of it, from being exported, and what to do.
        trouble: Option<String>,
    },
    /// A push of the plan.
    Push {
        /// Whose.
        attempt: Attempt,
        /// How it stands.
        state: PushState,
    },
    /// Somebody was refused; the latest of each address.
    Refused {
        /// Who.
        peer: SocketAddr,
        /// As whom it came, at most 223 characters, if it said so.
        initiator: Option<String>,
        /// For which target.
        target: Option<String>,
        /// Why.
        why: String,
    },
    /// Whether a socket is open: `None`, or what keeps it from being so and what to do.
    Listen {
        /// Which.
        address: SocketAddr,
        /// What is wrong.
        trouble: Option<String>,
    },
}

/// How a volume stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeState {
    /// It can be exported.
    Ready {
        /// Octets of the disk that it holds itself.
        allocated: u64,
        /// Whether it needs nothing of what it was made from.
        flat: bool,
    },
    /// It is no more.
    Gone,
    /// It cannot be made, opened or removed.
    Failed {
        /// Why, and what to do.
        why: String,
    },
}

/// Somebody who is logged in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IscsiSession {
    /// As whom.
    pub initiator: Iqn,
    /// From where.
    pub peer: SocketAddr,
    /// At which portal.
    pub portal: SocketAddr,
}

/// How a push stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PushState {
    /// Not connected, and tried again.
    Connecting {
        /// What was wrong last; none: nothing was tried yet.
        last: Option<String>,
    },
    /// Octets of the image that are on the disk, holes included.
    Writing {
        /// So many.
        done: u64,
        /// Of so many.
        total: u64,
    },
    /// Octets that were read back.
    ReadingBack {
        /// So many.
        done: u64,
        /// Of so many.
        total: u64,
    },
    /// Written, flushed and read back.
    Done {
        /// Octets of data that were sent.
        sent: u64,
        /// Milliseconds of writing, and of reading back, of the hand's last run.
        millis: (u64, u64),
    },
    /// It cannot be done.
    Failed {
        /// Why, and what to do.
        why: String,
    },
}
