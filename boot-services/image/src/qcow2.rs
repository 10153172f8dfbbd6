use crate::import::{agreed, compare};
use crate::sum::Summer;
use crate::unpack::HEAD;
use crate::{Cutter, EXTENT, Format, ImportError, Imported, MAX_SIZE, Progress, Sink, Terms};
use core::fmt;
use imago::io_buffers::{IoVector, IoVectorMut};
use imago::qcow2::Qcow2;
use imago::storage::Storage;
use imago::storage::drivers::CommonStorageHelper;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder, Mapping};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Octets that can be read from anywhere.
pub trait RandomRead: Send + Sync {
    /// How many there are.
    fn size(&self) -> io::Result<u64>;

    /// Reads octets from `offset` on; fewer than asked for only at the end.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;
}

const FORMAT: Format = Format::Qcow2;

/// What the header says that decides whether the image can be imported.
#[derive(Debug)]
struct Header {
    size: u64,
}

impl Header {
    /// Reads it; QEMU's docs/interop/qcow2.txt, "Header".
    fn parse(head: &[u8], file: u64) -> Result<Header, ImportError> {
        let damaged = |why: &str| ImportError::Damaged { format: FORMAT, at: 0, why: why.to_owned() };
        let refused =
            |what: &str, instead| ImportError::Unsupported { what: format!("a qcow2 image {what}"), instead };
        let u32_at = |at: usize| head.get(at..at + 4).and_then(|o| o.try_into().ok()).map(u32::from_be_bytes);
        let u64_at = |at: usize| head.get(at..at + 8).and_then(|o| o.try_into().ok()).map(u64::from_be_bytes);
        let short = || ImportError::Truncated { format: FORMAT, at: file };
        const CONVERT: &str = "convert it with `qemu-img convert -O raw` and import that";

        let version = u32_at(4).ok_or_else(short)?;
        let backing = u64_at(8).ok_or_else(short)?;
        let cluster_bits = u32_at(20).ok_or_else(short)?;
        let size = u64_at(24).ok_or_else(short)?;
        let crypt = u32_at(32).ok_or_else(short)?;
        let l1_size = u32_at(36).ok_or_else(short)?;
        let l1_offset = u64_at(40).ok_or_else(short)?;
        let features = if version >= 3 { u64_at(72).ok_or_else(short)? } else { 0 };
        if !(2..=3).contains(&version) {
            return Err(refused(&format!("of version {version}"), CONVERT));
        }
        if backing != 0 {
            return Err(refused("that has a backing file", CONVERT));
        }
        if crypt != 0 {
            return Err(refused("that is encrypted", "decrypt it with `qemu-img convert` and import that"));
        }
        if features & 0b10 != 0 {
            return Err(damaged("it is marked as corrupt; `qemu-img check -r all` may repair it"));
        }
        if features & 0b100 != 0 {
            return Err(refused("whose data is in another file", CONVERT));
        }
        if features & 0b1000 != 0 {
            return Err(refused("with zstd clusters", CONVERT));
        }
        if features & 0b1_0000 != 0 {
            return Err(refused("with extended L2 entries", CONVERT));
        }
        if features & !0b1_1111 != 0 {
            return Err(refused("with features newer than this release", CONVERT));
        }
        if !(9..=21).contains(&cluster_bits) {
            return Err(damaged("its cluster size is none"));
        }
        if size == 0 {
            return Err(ImportError::Empty);
        }
        if size > MAX_SIZE {
            return Err(ImportError::TooLarge { limit: MAX_SIZE });
        }
        // Each L1 entry stands for a cluster of L2 entries of 8 octets, each of which stands for a cluster.
        let covered = 1u64 << (2 * cluster_bits - 3);
        if u64::from(l1_size) < size.div_ceil(covered) {
            return Err(damaged("its L1 table is smaller than the disk needs"));
        }
        if l1_offset.saturating_add(u64::from(l1_size) * 8) > file {
            return Err(short());
        }
        Ok(Header { size })
    }
}

/// A source as imago wants it.
struct Reading<R> {
    source: R,
    size: u64,
    /// Whether what is missing at the file's end is taken for zeros, as it is for QEMU.
    lenient: Arc<AtomicBool>,
    helper: CommonStorageHelper,
}

impl<R> fmt::Debug for Reading<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("upload")
    }
}

impl<R> fmt::Display for Reading<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the upload")
    }
}

fn read_only() -> io::Error {
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "an upload is not written to")
}

// SAFETY (of every `unsafe fn` below): nothing in their bodies is unsafe; a caller cannot do harm by them.
// JUSTIFICATION: imago declares these methods unsafe, so that they are not called past its own locks.
impl<R: RandomRead> Storage for Reading<R> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    unsafe fn pure_readv(&self, bufv: IoVectorMut<'_>, offset: u64) -> io::Result<()> {
        let mut offset = offset;
        for part in bufv.into_inner() {
            let mut part = part;
            let count = self.source.read_at(offset, &mut part)?;
            if count < part.len() && !self.lenient.load(Ordering::Relaxed) {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it lies past the end of the file"));
            }
            part[count..].fill(0);
            offset = offset.saturating_add(part.len() as u64);
        }
        Ok(())
    }

    unsafe fn pure_writev(&self, _: IoVector<'_>, _: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    unsafe fn invalidate_cache(&self) -> io::Result<()> {
        Ok(())
    }

    fn get_storage_helper(&self) -> &CommonStorageHelper {
        &self.helper
    }
}

/// Imports a qcow2 image, as [`import`](crate::import()) does the other formats. It opens no other file,
/// whatever the image names.
pub fn import_qcow2<R: RandomRead + 'static>(
    upload: R,
    terms: &Terms,
    sink: &mut dyn Sink,
    progress: &mut dyn FnMut(Progress),
) -> Result<Imported, ImportError> {
    let broken = |source: io::Error| ImportError::Source { at: 0, source };
    let file = upload.size().map_err(broken)?;
    let mut head = vec![0; HEAD];
    let count = upload.read_at(0, &mut head).map_err(broken)?;
    head.truncate(count);
    if agreed(terms.format, &head)? != FORMAT {
        return Err(ImportError::NotThat { said: FORMAT, found: "something else" });
    }
    let header = Header::parse(&head, file)?;
    if header.size > terms.max_size {
        return Err(ImportError::TooLarge { limit: terms.max_size });
    }
    if terms.file.is_some() {
        let mut sums = Summer::new(terms.file, false);
        let mut chunk = vec![0; EXTENT];
        let mut at = 0;
        loop {
            match upload.read_at(at, &mut chunk).map_err(|source| ImportError::Source { at, source })? {
                0 => break,
                count => {
                    sums.update(&chunk[..count]);
                    at += count as u64;
                }
            }
        }
        compare("the uploaded file", terms.file, &sums)?;
    }
    let mut cutter = Cutter::new(terms, sink);
    let damaged = |at, why: String| ImportError::Damaged { format: FORMAT, at, why };
    // As for the other formats: a panic of the decoder's is a damaged file.
    catch_unwind(AssertUnwindSafe(|| copy(upload, &header, file, &mut cutter, progress)))
        .unwrap_or_else(|_| Err(damaged(0, "its decoder gave up".to_owned())))?;
    let content = cutter.size();
    let manifest = cutter.finish()?;
    Ok(Imported { manifest, format: FORMAT, read: file, content })
}

fn copy<R: RandomRead + 'static>(
    upload: R,
    header: &Header,
    file: u64,
    cutter: &mut Cutter<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), ImportError> {
    let damaged =
        |at: u64, why: &dyn fmt::Display| ImportError::Damaged { format: FORMAT, at, why: why.to_string() };
    // QEMU writes tables and clusters in full, so that one that ends early was cut off; but the last
    // compressed cluster ends where the file does, in the middle of the sector that its entry counts.
    let lenient = Arc::new(AtomicBool::new(true));
    let helper = CommonStorageHelper::default();
    let reading = Reading { source: upload, size: file, lenient: lenient.clone(), helper };
    let image = Qcow2::<Reading<R>>::builder(reading)
        .open(DenyImplicitOpenGate::default())
        .map_err(|e| ImportError::Damaged { format: FORMAT, at: 0, why: e.to_string() })?;
    let image = FormatAccess::new(image);
    let mut chunk = vec![0; EXTENT];
    let mut at = 0;
    while at < header.size {
        lenient.store(false, Ordering::Relaxed);
        let (mapping, length) = image.get_mapping(at, header.size - at).map_err(|e| damaged(at, &e))?;
        let length = match mapping {
            _ if length == 0 => return Err(damaged(at, &"nothing is mapped here")),
            Mapping::Zero { .. } => {
                cutter.zeros(length)?;
                length
            }
            mapping => {
                lenient.store(matches!(mapping, Mapping::Special { .. }), Ordering::Relaxed);
                let length = length.min(EXTENT as u64);
                let part = &mut chunk[..length as usize];
                image.read(&mut *part, at).map_err(|e| damaged(at, &e))?;
                cutter.push(part)?;
                length
            }
        };
        at += length;
        progress(Progress { read: file.min(at), unpacked: cutter.size(), data: cutter.data() });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
