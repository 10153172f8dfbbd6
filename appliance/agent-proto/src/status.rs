use crate::JobId;
use boot::Mac;
use serde::{Deserialize, Serialize};

/// The whole of what the agent is and does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`crate::VERSION`] of the agent.
    pub version: u8,
    /// The agent's release.
    pub agent: String,
    /// What machine it runs on.
    pub inventory: Inventory,
    /// The job it does or did last; none yet.
    pub job: Option<JobStatus>,
}

/// How a job stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobStatus {
    /// Which.
    pub id: JobId,
    /// How.
    pub state: JobState,
}

/// How a job stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// Under way.
    Running(Progress),
    /// The disk can be logged in to, and stays so until another job is ordered.
    Exported(Exported),
    /// Done.
    Done(Outcome),
    /// It cannot be done; the agent waits for another order.
    Failed(Failure),
}

/// A disk that is exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// The disk's kernel name.
    pub disk: String,
    /// Its octets.
    pub size: u64,
    /// The TCP port.
    pub port: u16,
    /// How many are logged in.
    pub sessions: u32,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// At what.
    pub phase: Phase,
    /// Octets of this phase that are done.
    pub done: u64,
    /// Octets of this phase.
    pub total: u64,
}

/// What a job is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Looking for the disk and the image's manifest.
    Prepare,
    /// Receiving, checking and writing.
    Write,
    /// Reading back.
    Verify,
    /// Partition table, config drive, flush.
    Finish,
    /// Wiping.
    Erase,
}

/// What a finished job has to show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The image is on the disk and was read back.
    Written {
        /// The disk's kernel name.
        disk: String,
        /// Octets that the image describes.
        image_bytes: u64,
        /// Octets that came over the network.
        received_bytes: u64,
        /// Octets that were written, zeroes over old data included.
        written_bytes: u64,
        /// Octets of data that the disk held already.
        kept_bytes: u64,
        /// Milliseconds of writing, and of reading back.
        millis: (u64, u64),
    },
    /// The disk that was exported is finished.
    Finished {
        /// Its kernel name.
        disk: String,
    },
    /// The disks are wiped.
    Erased {
        /// Their kernel names.
        disks: Vec<String>,
    },
}

/// Why a job cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What sort of thing.
    pub kind: FailureKind,
    /// For people: what was found, where, and what to do.
    pub text: String,
}

/// What sort of thing keeps a job from being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// No disk is what the hint says.
    NoDisk,
    /// Several are, and nothing tells which is meant.
    AmbiguousDisk,
    /// The disk is smaller than the image (with its config drive).
    DiskTooSmall,
    /// The disk returned an error, or other data than was written.
    DiskFault,
    /// The image's octets do not match its digests, again and again.
    CorruptImage,
    /// The image cannot be had: not found, refused, or cut off again and again.
    NoImage,
    /// The order is not one this agent can carry out.
    BadOrder,
}

/// What machine the agent runs on, as its kernel tells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Inventory {
    /// SMBIOS system manufacturer, product and serial.
    pub vendor: String,
    /// Product name.
    pub product: String,
    /// Serial number.
    pub serial: String,
    /// SMBIOS system UUID.
    pub uuid: String,
    /// Whether it was started by UEFI.
    pub uefi: bool,
    /// Processors.
    pub cpus: u32,
    /// Model of the first.
    pub cpu_model: String,
    /// Memory that the kernel has, in octets.
    pub memory: u64,
    /// Interfaces.
    pub nics: Vec<Nic>,
    /// Disks.
    pub disks: Vec<Disk>,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Nic {
    /// Kernel name.
    pub name: String,
    /// Address.
    pub mac: Mac,
    /// Driver.
    pub driver: String,
    /// Whether there is light.
    pub carrier: bool,
    /// IPv4 address, if it got one.
    pub address: Option<String>,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Disk {
    /// Kernel name, without `/dev/`.
    pub name: String,
    /// Octets.
    pub size: u64,
    /// Model, as it says.
    pub model: String,
    /// Serial number, as it says.
    pub serial: String,
    /// World wide name, as it says.
    pub wwn: String,
    /// Whether it is removable media.
    pub removable: bool,
}
