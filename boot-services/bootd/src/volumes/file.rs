use image::volume::{Epoch, LayerFile, LayerId};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::Arc;

/// A file of a layer. Its clones are the same open file.
#[derive(Clone, Debug)]
pub struct Opened(pub(super) Arc<File>);

impl Opened {
    /// The file.
    pub fn file(&self) -> &Arc<File> {
        &self.0
    }

    fn allocate(&self, flags: FallocateFlags, offset: u64, length: u64) -> io::Result<()> {
        let (Ok(offset), Ok(length)) = (offset.try_into(), length.try_into()) else {
            return Err(io::ErrorKind::FileTooLarge.into());
        };
        match fallocate(&*self.0, flags | FallocateFlags::FALLOC_FL_KEEP_SIZE, offset, length) {
            // A file system that cannot: the trait says that this is no error.
            Ok(()) | Err(Errno::EOPNOTSUPP) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for Opened {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl LayerFile for Opened {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < into.len() {
            match self.0.read_at(&mut into[done..], offset + done as u64) {
                Ok(0) => {
                    into[done..].fill(0);
                    break;
                }
                Ok(count) => done += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, octets: &[u8]) -> io::Result<()> {
        self.0.write_all_at(octets, offset)
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        self.allocate(FallocateFlags::FALLOC_FL_PUNCH_HOLE, offset, length)
    }

    fn reserve(&self, offset: u64, length: u64) -> io::Result<()> {
        self.allocate(FallocateFlags::empty(), offset, length)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn clear(&self) -> io::Result<()> {
        self.0.set_len(0)
    }
}

/// The epoch of files that lie beside `data`: until the machine is started again, and not that of a copy of
/// the file, which may have been taken between two writes. A disk that was pulled out of a running machine
/// and put back is not told from one that stayed.
pub(super) fn epoch(data: &File) -> io::Result<Epoch> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let meta = data.metadata()?;
    let told = format!("{} {} {}", boot.trim(), meta.dev(), meta.ino());
    Ok(Epoch(image::digest(told.as_bytes()).0))
}

/// A name that no layer has.
pub(super) fn fresh_id() -> io::Result<LayerId> {
    let mut octets = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut octets)?;
    Ok(LayerId(octets))
}
