//! Makes what the tests and the demo boot: the deploy ramdisk, and user images that answer.
//!
//! Everything is made from Debian packages with plain file operations (no loop device, no mount),
//! kept under `target/artifacts` by what it is made of, and made once.

pub mod appliance;
pub mod command;
pub mod cpio;
pub mod debian;
pub mod disk;
pub mod format;
pub mod greeting;
pub mod kernel;
pub mod ramdisk;
pub mod rauc;
pub mod san;
pub mod system;
pub mod tiny;
pub mod workshop;

pub use greeting::Greeting;
pub use ramdisk::Ramdisk;
pub use workshop::{Made, Workshop};

/// Which of Debian's kernels an artifact boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Flavour {
    /// For virtual machines: half the boot time under emulation, but virtio alone for a network card.
    Cloud,
    /// For servers: has e1000, AHCI and the rest.
    Server,
}
