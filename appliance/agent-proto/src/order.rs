use boot::{Digest, DiskHint, Iqn, IscsiChap};
use serde::{Deserialize, Serialize};

/// What the agent is to do now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// [`crate::VERSION`] of the appliance.
    pub version: u8,
    /// The job; none: wait.
    pub job: Option<Job>,
}

/// Names a job within an attempt: `write`, `export`, `finish`, `erase`.
pub type JobId = String;

/// One job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its id. The same id is the same job, done once.
    pub id: JobId,
    /// What it is.
    pub task: Task,
}

/// What there is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// Put an image on a disk, read it back, write the config drive.
    WriteImage {
        /// The image.
        image: ImageRef,
        /// The disk.
        disk: DiskHint,
        /// A file system to put into a partition of its own at the disk's end; none: no such partition.
        config_drive: Option<ConfigDrive>,
    },
    /// Export a disk by iSCSI, so that the appliance can put an image on it. Goes on until another job is
    /// ordered, which ends the sessions.
    ExportDisk {
        /// Octets of the disk that the image describes.
        size: u64,
        /// The disk.
        disk: DiskHint,
        /// What is to be put at the disk's end afterwards, so that there is room for it.
        config_drive: Option<ConfigDrive>,
        /// As what, and to whom.
        export: Export,
    },
    /// Finish the disk that was exported, now that an image is on it: the partition table's second half at
    /// the disk's end, the config drive, and everything flushed.
    FinishDisk {
        /// Octets of the disk that the image describes.
        size: u64,
        /// A file system to put into a partition of its own at the disk's end; none: no such partition.
        config_drive: Option<ConfigDrive>,
    },
    /// Wipe partition tables, file system and RAID signatures from every disk that is meant: the first
    /// and last 4 MiB of the disk and of each partition, and a discard of the whole where the disk can.
    EraseMetadata {
        /// The disks; an empty hint means all.
        disk: DiskHint,
    },
}

/// How a disk is exported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Export {
    /// The target's name.
    pub target: Iqn,
    /// Who alone may log in.
    pub initiator: Iqn,
    /// With what, both ways.
    pub chap: IscsiChap,
    /// The logical unit.
    pub lun: u16,
    /// The TCP port, on the address that the agent reaches the appliance from.
    pub port: u16,
}

/// An image, at `/image/DIGEST` and `/image/DIGEST/manifest` below the base URL, with the agent's token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImageRef {
    /// The digest of its manifest, which names it.
    pub digest: Digest,
    /// The size of the disk it describes, in octets.
    pub size: u64,
}

/// A config drive, at `/agent/ATTEMPT/config-drive` below the base URL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigDrive {
    /// BLAKE3 of its octets.
    pub digest: Digest,
    /// How many.
    pub size: u64,
}
