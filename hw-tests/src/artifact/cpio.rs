//! An initramfs in the kernel's "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! The same entries give the same octets: sorted by name, owned by root, dated 0, numbered in order.

use std::collections::BTreeMap;
use std::io::{self, Write};

/// What is at a name.
enum Entry {
    Directory,
    File { data: Vec<u8>, executable: bool },
    Link { target: String },
}

/// An archive being filled. Names are relative to the root, without a leading `/`.
#[derive(Default)]
pub struct Archive {
    entries: BTreeMap<String, Entry>,
}

impl Archive {
    /// An empty directory, and those above it.
    pub fn directory(&mut self, name: &str) {
        self.above(name);
        self.entries.insert(name.to_owned(), Entry::Directory);
    }

    /// A file with mode 0644, or 0755 when it is executable.
    pub fn file(&mut self, name: &str, data: Vec<u8>, executable: bool) {
        self.above(name);
        self.entries.insert(name.to_owned(), Entry::File { data, executable });
    }

    /// A symbolic link.
    pub fn link(&mut self, name: &str, target: &str) {
        self.above(name);
        self.entries.insert(name.to_owned(), Entry::Link { target: target.to_owned() });
    }

    fn above(&mut self, name: &str) {
        for (at, _) in name.match_indices('/') {
            self.entries.entry(name[..at].to_owned()).or_insert(Entry::Directory);
        }
    }

    /// Writes the archive. A directory comes before what is in it, as the kernel's unpacker needs.
    ///
    /// # Errors
    /// The writer's.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        for (number, (name, entry)) in (1..).zip(&self.entries) {
            match entry {
                Entry::Directory => put(out, number, name, 0o040_755, &[])?,
                Entry::File { data, executable: true } => put(out, number, name, 0o100_755, data)?,
                Entry::File { data, executable: false } => put(out, number, name, 0o100_644, data)?,
                Entry::Link { target } => put(out, number, name, 0o120_777, target.as_bytes())?,
            }
        }
        put(out, 0, "TRAILER!!!", 0, &[])
    }
}

fn put(out: &mut impl Write, number: u32, name: &str, mode: u32, data: &[u8]) -> io::Result<()> {
    let too_big = |_| io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is 4 GiB or more"));
    let size = u32::try_from(data.len()).map_err(too_big)?;
    let name_size = u32::try_from(name.len() + 1).map_err(too_big)?;
    // c_ino c_mode c_uid c_gid c_nlink c_mtime c_filesize c_maj c_min c_rmaj c_rmin c_namesize c_chksum
    let fields = [number, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
    let mut header = String::from("070701");
    for field in fields {
        header.push_str(&format!("{field:08x}"));
    }
    out.write_all(header.as_bytes())?;
    out.write_all(name.as_bytes())?;
    out.write_all(&[0])?;
    pad(out, header.len() + name.len() + 1)?;
    out.write_all(data)?;
    pad(out, data.len())
}

/// "n × \0: padding to a multiple of 4".
fn pad(out: &mut impl Write, length: usize) -> io::Result<()> {
    out.write_all(&[0; 3][..length.wrapping_neg() % 4])
}

#[cfg(test)]
mod tests;
