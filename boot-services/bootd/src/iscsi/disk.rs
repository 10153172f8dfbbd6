//! What is behind a logical unit: a volume, or a file that is only read.

use crate::volumes::{OpenVolume, Segment, VolumesError};
use image::{EXTENT, volume};
use nix::{errno::Errno, libc};
use scsi::{Compound, Medium, MediumError, MediumFault, Provisioning, Response};
use std::{
    fs::{self, File},
    io,
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// The longest file of reservations that is taken.
const LONGEST: u64 = 1 << 20;

/// What a logical unit reads and writes.
#[derive(Debug)]
pub(super) struct Disk {
    backing: Backing,
    /// Where persistent reservations are kept; a file that is only read has none.
    reservations: Option<PathBuf>,
    /// A bit for each extent's worth of a volume over an image that was read once: reading one for the first
    /// time compares all of it with its digest.
    seen: Box<[AtomicU64]>,
    full: AtomicBool,
    /// Held by all who write, together; by COMPARE AND WRITE and ORWRITE alone.
    alone: RwLock<()>,
}

#[derive(Debug)]
enum Backing {
    Volume(Arc<OpenVolume>),
    File { file: File, size: u64 },
}

/// How far reading what is in memory came.
#[derive(Debug)]
pub(super) enum Fetched {
    /// All of it was read.
    Whole,
    /// Some of it has to come from a disk.
    Cold,
}

impl Disk {
    /// A volume, in whose directory reservations are kept.
    pub(super) fn volume(volume: Arc<OpenVolume>, over_image: bool, directory: &Path) -> Disk {
        let extents = if over_image { volume.size().div_ceil(EXTENT as u64) } else { 0 };
        let seen = (0..extents.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let reservations = Some(directory.join("reservations"));
        Disk {
            backing: Backing::Volume(volume),
            reservations,
            seen,
            full: AtomicBool::new(false),
            alone: RwLock::new(()),
        }
    }

    /// A file; what is missing of its last sector reads as zeros.
    pub(super) fn file(path: &Path) -> io::Result<Disk> {
        let file = File::open(path)?;
        let size = file.metadata()?.len().next_multiple_of(image::SECTOR);
        let backing = Backing::File { file, size };
        Ok(Disk {
            backing,
            reservations: None,
            seen: Box::default(),
            full: AtomicBool::new(false),
            alone: RwLock::new(()),
        })
    }

    pub(super) fn size(&self) -> u64 {
        match &self.backing {
            Backing::Volume(volume) => volume.size(),
            Backing::File { size, .. } => *size,
        }
    }

    pub(super) fn is_read_only(&self) -> bool {
        matches!(self.backing, Backing::File { .. })
    }

    /// Takes note that these were read before, and says whether they were.
    fn note(&self, offset: u64, length: usize) -> bool {
        if self.seen.is_empty() || length == 0 {
            return true;
        }
        let extents = offset / EXTENT as u64..=(offset + length as u64 - 1) / EXTENT as u64;
        extents.fold(true, |all, extent| {
            let Some(word) = self.seen.get((extent / 64) as usize) else { return all };
            let bit = 1 << (extent % 64);
            all & (word.load(Ordering::Relaxed) & bit != 0
                || word.fetch_or(bit, Ordering::Relaxed) & bit != 0)
        })
    }

    /// Fills `into` from `offset` on with what is in memory, or says where it is if it may.
    pub(super) fn fetch(&self, offset: u64, into: &mut [u8]) -> Result<Fetched, MediumError> {
        if !self.note(offset, into.len()) {
            return Ok(Fetched::Cold);
        }
        match &self.backing {
            Backing::File { file, .. } => match fetch(file, offset, into) {
                Ok(true) => Ok(Fetched::Whole),
                Ok(false) => Ok(Fetched::Cold),
                Err(_) => Err(at(MediumFault::UnrecoveredRead, Some(offset))),
            },
            Backing::Volume(volume) => self.fetch_segments(volume, offset, into),
        }
    }

    /// Writes what a plain command brought, beside other writes but not beside what must be one with them.
    pub(super) fn store(&self, offset: u64, octets: &[u8]) -> Result<(), MediumError> {
        let _together = self.alone.read().unwrap_or_else(PoisonError::into_inner);
        self.write_at(offset, octets)
    }

    /// Does any other command.
    pub(super) fn perform(&self, work: &Compound, data: &[u8]) -> Response {
        if work.is_atomic() {
            let _alone = self.alone.write().unwrap_or_else(PoisonError::into_inner);
            return work.perform(self, data);
        }
        let _together = self.alone.read().unwrap_or_else(PoisonError::into_inner);
        work.perform(self, data)
    }

    /// Brings a range into memory.
    pub(super) fn warm(&self, offset: u64, length: usize) {
        let mut octets = vec![0; length];
        // What cannot be read is told by who reads it next.
        let _ = self.read_at(offset, &mut octets);
    }

    /// Keeps these reservations instead of the ones before: they are on the disk when this returns.
    pub(super) fn keep(&self, octets: &[u8]) -> Result<(), MediumError> {
        let Some(path) = &self.reservations else { return Ok(()) };
        crate::desk::replace(path, octets).map_err(|error| {
            log::error!(target: "iscsi", file:% = path.display(), error:% = error; "reservations not kept, the initiator is told");
            MediumFault::WriteFault.into()
        })
    }

    /// The reservations that were kept, if any were.
    pub(super) fn kept(&self) -> io::Result<Option<Vec<u8>>> {
        let Some(path) = &self.reservations else { return Ok(None) };
        match fs::metadata(path) {
            Ok(meta) if meta.len() <= LONGEST => fs::read(path).map(Some),
            Ok(_) => Err(io::ErrorKind::FileTooLarge.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn failed(&self, fault: MediumFault, offset: Option<u64>, error: &VolumesError) -> MediumError {
        let offset = match error {
            VolumesError::Volume { source, .. } => source.offset().or(offset),
            _ => offset,
        };
        if error.is_full() {
            if !self.full.swap(true, Ordering::Relaxed) {
                log::warn!(target: "iscsi", error:% = error; "no room for what is written");
            }
            return at(MediumFault::NoSpace, offset);
        }
        log::error!(target: "iscsi", error:% = error; "volume failed");
        at(fault, offset)
    }

    fn fetch_segments(
        &self,
        volume: &OpenVolume,
        offset: u64,
        into: &mut [u8],
    ) -> Result<Fetched, MediumError> {
        let segments = volume
            .segments(offset, into.len() as u64)
            .map_err(|error| self.failed(MediumFault::UnrecoveredRead, Some(offset), &error))?;
        let mut rest = into;
        for Segment { length, file } in segments {
            let (part, after) = rest.split_at_mut(length as usize);
            match file {
                None => part.fill(0),
                Some((file, skip)) => match fetch(&file, skip, part) {
                    Ok(true) => {}
                    Ok(false) => return Ok(Fetched::Cold),
                    Err(error) => {
                        log::error!(target: "iscsi", volume:% = volume.id(), offset = offset, error:% = error; "volume cannot be read");
                        return Err(at(MediumFault::UnrecoveredRead, Some(offset)));
                    }
                },
            }
            rest = after;
        }
        Ok(Fetched::Whole)
    }
}

fn at(fault: MediumFault, offset: Option<u64>) -> MediumError {
    MediumError { fault, offset }
}

impl Medium for Disk {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), MediumError> {
        self.note(offset, into.len());
        match &self.backing {
            Backing::Volume(volume) => volume
                .read_at(offset, into)
                .map_err(|error| self.failed(MediumFault::UnrecoveredRead, Some(offset), &error)),
            Backing::File { file, .. } => {
                read_padded(file, offset, into).map_err(|_| at(MediumFault::UnrecoveredRead, Some(offset)))
            }
        }
    }

    fn write_at(&self, offset: u64, from: &[u8]) -> Result<(), MediumError> {
        let Backing::Volume(volume) = &self.backing else {
            return Err(at(MediumFault::WriteFault, Some(offset)));
        };
        let written = volume.write_at(offset, from);
        written.map_err(|error| self.failed(MediumFault::WriteFault, Some(offset), &error))
    }

    fn flush(&self) -> Result<(), MediumError> {
        let Backing::Volume(volume) = &self.backing else { return Ok(()) };
        volume.flush().map_err(|error| self.failed(MediumFault::WriteFault, None, &error))
    }

    fn zero(&self, offset: u64, length: u64, _unmap: bool) -> Result<(), MediumError> {
        let Backing::Volume(volume) = &self.backing else {
            return Err(at(MediumFault::WriteFault, Some(offset)));
        };
        let zeroed = volume.zero(offset, length);
        zeroed.map_err(|error| self.failed(MediumFault::WriteFault, Some(offset), &error))
    }

    fn provisioned(&self, offset: u64) -> Result<(Provisioning, u64), MediumError> {
        match &self.backing {
            Backing::File { size, .. } => Ok((Provisioning::Mapped, size - offset)),
            Backing::Volume(volume) => match volume.provisioned(offset) {
                Ok((volume::Provisioning::Mapped, length)) => Ok((Provisioning::Mapped, length)),
                Ok((volume::Provisioning::Deallocated, length)) => Ok((Provisioning::Deallocated, length)),
                Err(error) => Err(self.failed(MediumFault::UnrecoveredRead, Some(offset), &error)),
            },
        }
    }
}

fn read_padded(file: &File, offset: u64, into: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < into.len() {
        match file.read_at(&mut into[done..], offset + done as u64) {
            Ok(0) => {
                into[done..].fill(0);
                return Ok(());
            }
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads what is in the page cache; what is past the file's end reads as zeros. Whether that was all.
fn fetch(file: &File, offset: u64, into: &mut [u8]) -> io::Result<bool> {
    let mut done = 0;
    while done < into.len() {
        match read_nowait(file, offset + done as u64, &mut into[done..]) {
            Ok(0) => {
                into[done..].fill(0);
                return Ok(true);
            }
            Ok(count) => done += count,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(false),
            // A file system in memory never waits, and says so like this.
            Err(Errno::EOPNOTSUPP) => {
                return read_padded(file, offset + done as u64, &mut into[done..]).map(|()| true);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(true)
}

fn read_nowait(file: &File, offset: u64, into: &mut [u8]) -> Result<usize, Errno> {
    let Ok(offset) = libc::off_t::try_from(offset) else { return Err(Errno::EINVAL) };
    let part = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    // SAFETY: one part, which is `into`: valid for writes of its length for as long as the call lasts.
    // JUSTIFICATION: no safe crate of ours offers preadv2(2), the one call that reads what is in memory and
    // does not wait for what is not.
    let read = unsafe { libc::preadv2(file.as_raw_fd(), &raw const part, 1, offset, libc::RWF_NOWAIT) };
    Errno::result(read).map(|count| count as usize)
}

#[cfg(test)]
mod tests;
