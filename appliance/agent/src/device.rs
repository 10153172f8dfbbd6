//! A disk, as the jobs see it.

use nix::{
    fcntl::{FallocateFlags, OFlag, fallocate},
    libc,
};
use std::{
    fs::{File, OpenOptions},
    io,
    ops::Range,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, FileTypeExt, OpenOptionsExt},
    },
    path::Path,
};

/// Memory that goes to a disk without a copy is aligned to this.
const ALIGN: usize = 4096;

/// A disk. Offsets and lengths are multiples of [`Device::block`].
pub(crate) trait Device: Sync {
    /// What the kernel calls it.
    fn name(&self) -> &str;
    /// Octets; a multiple of the block.
    fn size(&self) -> u64;
    /// Octets of a logical block.
    fn block(&self) -> u64;
    /// Fills the buffer from an offset, from the medium itself.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes it all to an offset.
    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<()>;
    /// Makes octets zero.
    fn zero(&self, range: Range<u64>) -> io::Result<()>;
    /// Tells the disk that nothing in it is needed any more. What is read there afterwards is anything.
    fn discard(&self, range: Range<u64>) -> io::Result<()>;
    /// Everything written is on the medium when this returns.
    fn flush(&self) -> io::Result<()>;
}

/// Memory aligned for a disk.
pub(crate) struct Buffer {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl Buffer {
    /// Zeroes; so many octets.
    pub(crate) fn new(length: usize) -> Buffer {
        let memory = vec![0; length + ALIGN];
        // align_offset may decline; unaligned memory is an error from the kernel then, not a danger.
        let start = memory.as_ptr().align_offset(ALIGN).min(ALIGN);
        Buffer { memory, start, length }
    }

    /// The octets.
    pub(crate) fn octets(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}

/// Whether there is nothing but zeroes.
pub(crate) fn is_zero(octets: &[u8]) -> bool {
    // In pieces, so that memcmp does the work and data ends it early.
    const ZEROES: [u8; 4096] = [0; 4096];
    octets.chunks(ZEROES.len()).all(|chunk| *chunk == ZEROES[..chunk.len()])
}

/// A block device, or a file that stands for one.
pub(crate) struct DiskFile {
    file: File,
    name: String,
    size: u64,
    block: u64,
    is_block_device: bool,
}

impl DiskFile {
    /// Opens a disk past the page cache, for this process alone. `size` and `block` in octets.
    pub(crate) fn open(path: &Path, name: &str, size: u64, block: u64) -> io::Result<DiskFile> {
        let open =
            |flags: OFlag| OpenOptions::new().read(true).write(true).custom_flags(flags.bits()).open(path);
        let is_block_device = std::fs::metadata(path)?.file_type().is_block_device();
        // On a block device O_EXCL fails while somebody else has mounted it.
        let flags = if is_block_device { OFlag::O_EXCL } else { OFlag::empty() };
        let file = match open(flags | OFlag::O_DIRECT) {
            // Some file systems have no O_DIRECT; every block device has.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => open(flags)?,
            other => other?,
        };
        Ok(DiskFile { file, name: name.to_owned(), size: size - size % block, block, is_block_device })
    }
}

impl Device for DiskFile {
    fn name(&self) -> &str {
        &self.name
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn block(&self) -> u64 {
        self.block
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(buffer, offset)
    }

    fn zero(&self, range: Range<u64>) -> io::Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        // On a block device this is BLKZEROOUT, and the disk may do it by itself.
        let flags = FallocateFlags::FALLOC_FL_ZERO_RANGE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let (start, length) = (range.start as libc::off_t, (range.end - range.start) as libc::off_t);
        if fallocate(&self.file, flags, start, length).is_ok() {
            return Ok(());
        }
        let mut zeroes = Buffer::new((range.end - range.start).min(1 << 20) as usize);
        let mut at = range.start;
        while at < range.end {
            let length = (range.end - at).min(1 << 20) as usize;
            self.write_at(&zeroes.octets()[..length], at)?;
            at += length as u64;
        }
        Ok(())
    }

    fn discard(&self, range: Range<u64>) -> io::Result<()> {
        if !self.is_block_device {
            return Err(io::ErrorKind::Unsupported.into());
        }
        ioctl::discard(self.file.as_raw_fd(), &[range.start, range.end - range.start])
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

mod ioctl {
    use nix::{ioctl_write_ptr_bad, request_code_none};
    use std::{io, os::fd::RawFd};

    // linux/fs.h: #define BLKDISCARD _IO(0x12,119), which takes a start and a length.
    ioctl_write_ptr_bad!(blkdiscard, request_code_none!(0x12, 119), [u64; 2]);

    pub(super) fn discard(fd: RawFd, range: &[u64; 2]) -> io::Result<()> {
        // SAFETY: the kernel reads two u64 from the pointer, which lives for the call, and writes nothing.
        // JUSTIFICATION: fallocate(2), which is safe, discards only where zeroes are read afterwards;
        // disks that do not promise that can be told nothing else.
        unsafe { blkdiscard(fd, range) }?;
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
