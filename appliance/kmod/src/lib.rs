//! Which kernel modules a machine needs, in which order, and what the kernel says of its devices.
//!
//! What `depmod` wrote is read by [`Index`]; [`Wanted`] remembers what was asked for and tells the files
//! to load; [`Uevent`] is an announcement of a device that came or went.
//!
//! This crate knows nothing of files: it is given texts and gives names. Whoever uses it reads `/sys` and
//! calls finit_module(2).

mod index;
mod uevent;
mod wanted;

pub use index::Index;
pub use uevent::Uevent;
pub use wanted::{File, Wanted};
