use super::*;
use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

/// A disk in memory that counts, checks alignment, and fails on request.
pub(crate) struct Memory {
    pub(crate) octets: Mutex<Vec<u8>>,
    block: u64,
    /// Octets written and zeroed.
    pub(crate) written: AtomicU64,
    /// Writing here fails.
    pub(crate) bad_write: Option<u64>,
    /// What is written here is another octet when it is read.
    pub(crate) bad_read: Option<u64>,
}

impl Memory {
    pub(crate) fn new(octets: Vec<u8>, block: u64) -> Memory {
        let octets = Mutex::new(octets);
        Memory { octets, block, written: AtomicU64::new(0), bad_write: None, bad_read: None }
    }

    pub(crate) fn octets(&self) -> Vec<u8> {
        self.octets.lock().unwrap().clone()
    }

    fn check(&self, offset: u64, length: usize) {
        assert_eq!(
            (offset % self.block, length as u64 % self.block),
            (0, 0),
            "not whole blocks: {offset}+{length}"
        );
    }
}

impl Device for Memory {
    fn name(&self) -> &str {
        "mem"
    }

    fn size(&self) -> u64 {
        self.octets.lock().unwrap().len() as u64
    }

    fn block(&self) -> u64 {
        self.block
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.check(offset, buffer.len());
        assert_eq!(buffer.as_ptr() as usize % ALIGN, 0, "memory is not aligned");
        buffer.copy_from_slice(&self.octets.lock().unwrap()[offset as usize..][..buffer.len()]);
        if let Some(bad) = self.bad_read
            && (offset..offset + buffer.len() as u64).contains(&bad)
        {
            buffer[(bad - offset) as usize] ^= 1;
        }
        Ok(())
    }

    fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<()> {
        self.check(offset, buffer.len());
        assert_eq!(buffer.as_ptr() as usize % ALIGN, 0, "memory is not aligned");
        if self.bad_write.is_some_and(|bad| (offset..offset + buffer.len() as u64).contains(&bad)) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.octets.lock().unwrap()[offset as usize..][..buffer.len()].copy_from_slice(buffer);
        self.written.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    fn zero(&self, range: Range<u64>) -> io::Result<()> {
        self.check(range.start, (range.end - range.start) as usize);
        self.octets.lock().unwrap()[range.start as usize..range.end as usize].fill(0);
        self.written.fetch_add(range.end - range.start, Ordering::Relaxed);
        Ok(())
    }

    fn discard(&self, _: Range<u64>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_file_stands_for_a_disk() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(1 << 20).unwrap();
    let disk = DiskFile::open(file.path(), "file", 1 << 20, 512).unwrap();
    let mut buffer = Buffer::new(8192);
    buffer.octets().fill(7);
    disk.write_at(buffer.octets(), 4096).unwrap();
    disk.zero(4096..8192).unwrap();
    disk.flush().unwrap();
    let octets = std::fs::read(file.path()).unwrap();
    assert!(is_zero(&octets[..8192]));
    assert_eq!(octets[8192..12288], [7; 4096]);
    assert_eq!(octets.len(), 1 << 20);
    assert!(disk.discard(0..4096).is_err(), "a file is not discarded: it would lose its place");
}

#[test]
fn zero_is_zero_everywhere() {
    assert!(is_zero(&[]));
    assert!(is_zero(&[0; 10_000]));
    for at in [0, 4095, 4096, 9999] {
        let mut octets = [0; 10_000];
        octets[at] = 1;
        assert!(!is_zero(&octets), "{at}");
    }
}
