//! Content-addressed images of disks.
//!
//! An image is a disk's content cut into extents of 1 MiB. An extent that is all zero is a hole and is
//! kept nowhere; any other is named by its BLAKE3 digest, so that two images that hold the same extent
//! hold it once. The [`Manifest`] lists the extents, and the digest of its encoding names the image:
//! who knows that digest can check every octet, whoever sent it.
//!
//! ```text
//!   upload ─► unpack (gz, xz, zst, qcow2) ─► Cutter ─┬─► extents  ─► Sink
//!                                                    └─► Manifest ─► id
//!   Manifest + Blocks ─► read_at(offset)
//! ```
//!
//! | Format | Done | Not done, and refused with what to do |
//! |---|---|---|
//! | raw | any disk image, partitioned or not; padded with zeros to 512 octets | |
//! | gzip | several members (RFC 1952, 2.2) | |
//! | xz | several streams, padding, every filter and check of the format | dictionaries past 256 MiB |
//! | zstd | several frames, skippable frames (RFC 8878, 3.1.2), windows to 128 MiB | dictionaries, `--long=28` and more |
//! | qcow2 | versions 2 and 3, compressed clusters (deflate) | backing files, encryption, external data files, zstd clusters, extended L2 entries |
//!
//! A [`volume`] is what is written to over an image.
//!
//! This crate knows nothing of files, directories or threads: octets come from a `Read`, extents go to a
//! [`Sink`] and are had again from [`Blocks`].

mod error;
mod import;
mod manifest;
mod qcow2;
mod read;
mod sum;
mod unpack;
pub mod volume;

pub use error::ImportError;
pub use import::{Cutter, Imported, Progress, Sink, Terms, import};
pub use manifest::{EXTENT, MAX_ENCODED, MAX_SIZE, Manifest, NotAManifest, Piece, Run, SECTOR, digest};
pub use qcow2::{RandomRead, import_qcow2};
pub use read::{Blocks, read_at};
pub use sum::{Sha256, Sum};
pub use unpack::Format;

/// So many zeros as the largest extent has octets, to compare with and to send.
pub static ZEROS: [u8; EXTENT] = [0; EXTENT];
