//! What the deploy agent and the appliance say to each other.
//!
//! Both sides say levels, not edges: the appliance says the one [`Order`] that stands, the agent says its
//! whole [`Status`]. Either may be said again at any time and means the same. An order's job has an id;
//! an agent that did a job says so for as long as it runs, and does not do it twice.
//!
//! The bytes of every released version are pinned in `tests/`. How they travel is `boot`'s business
//! ([`boot::AgentLine`], [`boot::HandLine`]).
//!
//! This crate knows nothing of HTTP, disks or deployments.

mod order;
mod status;

pub use order::{ConfigDrive, Export, ImageRef, Job, JobId, Order, Task};
pub use status::{
    Disk, Exported, Failure, FailureKind, Inventory, JobState, JobStatus, Nic, Outcome, Phase, Progress,
    Status,
};

/// The version of this protocol. An agent is always served by the appliance that gave it to the node, so
/// the two differ only while an appliance is being updated under a running deployment.
pub const VERSION: u8 = 1;

/// Kernel command line: the base URL, such as `http://10.7.0.1`.
pub const CMDLINE_URL: &str = "kiln.url";
/// Kernel command line: the attempt.
pub const CMDLINE_ATTEMPT: &str = "kiln.attempt";
/// Kernel command line: the token for this attempt alone.
pub const CMDLINE_TOKEN: &str = "kiln.token";
/// Kernel command line, as iPXE and pxelinux give it: the interface that booted, `01-` and its MAC with hyphens.
pub const CMDLINE_BOOTIF: &str = "BOOTIF";
