//! The stream of a backup, inside its encryption.
//!
//! ```text
//!   kiln backup 1\n
//!   {"manifest": {…}}\n
//!   {"file": {"path", "size"}}\n  runs: offset (8 octets), length (4), octets; …; a run of length 0
//!   …
//!   {"end": {"files", "octets"}}\n
//! ```
//!
//! Numbers in runs are little end first. What no run covers is zero, so a volume's holes cost nothing. Encryption
//! gives every octet its checksum; what is checked here is that nothing in it can harm who unpacks it.

use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::FileExt as _;

const MAGIC: &[u8] = b"kiln backup 1\n";
/// The longest line.
const LINE: u64 = 4096;
/// The longest run.
const RUN: usize = 256 << 10;
/// The largest file: a volume of 64 TiB, and its map.
const LARGEST: u64 = 65 << 40;
/// Most files.
const MOST: u64 = 64 << 20;

/// What a backup is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The release that made it.
    pub(crate) release: String,
    /// When, in microseconds since 1970.
    pub(crate) made: u64,
    /// Whether the images are in it, or only what volumes stand on.
    pub(crate) images: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Line {
    Manifest(Manifest),
    File { path: String, size: u64 },
    End { files: u64, octets: u64 },
}

/// Why a stream is no backup that can be taken.
#[derive(Debug)]
pub(crate) enum Refused {
    /// It ends too early, or cannot be decrypted further: in these words.
    Read(io::Error),
    /// It is something else, or was made to do harm.
    Bad(String),
    /// It cannot be written.
    Write(io::Error),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Read(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                f.write_str("the backup is cut off: take another copy of it")
            }
            Refused::Read(e) => write!(f, "the backup is damaged ({e}): take another copy of it"),
            Refused::Bad(why) => write!(f, "this is no backup that can be restored: {why}"),
            Refused::Write(e) => write!(f, "the backup cannot be unpacked: {e}"),
        }
    }
}

/// Writes a backup.
pub(crate) struct Writer<W> {
    to: W,
    files: u64,
    octets: u64,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(mut to: W, manifest: &Manifest) -> io::Result<Writer<W>> {
        to.write_all(MAGIC)?;
        let mut writer = Writer { to, files: 0, octets: 0 };
        writer.line(&Line::Manifest(manifest.clone()))?;
        Ok(writer)
    }

    fn line(&mut self, line: &Line) -> io::Result<()> {
        serde_json::to_writer(&mut self.to, line)?;
        self.to.write_all(b"\n")
    }

    pub(crate) fn octets(&mut self, path: &str, octets: &[u8]) -> io::Result<()> {
        self.begin(path, octets.len() as u64)?;
        for (index, run) in octets.chunks(RUN).enumerate() {
            self.run((index * RUN) as u64, run)?;
        }
        self.run(0, &[])
    }

    /// A file as long as it is now, without its holes.
    pub(crate) fn file(&mut self, path: &str, file: &File) -> io::Result<()> {
        let size = file.metadata()?.len();
        self.begin(path, size)?;
        let mut buffer = vec![0; RUN];
        let mut at = 0;
        while let Some((start, end)) = next_data(file, at, size)? {
            at = start;
            while at < end {
                let want = RUN.min((end - at) as usize);
                let read = file.read_at(&mut buffer[..want], at)?;
                if read == 0 {
                    return Err(io::Error::other(format!("{path} became shorter while it was read")));
                }
                self.run(at, &buffer[..read])?;
                at += read as u64;
            }
        }
        self.run(0, &[])
    }

    fn begin(&mut self, path: &str, size: u64) -> io::Result<()> {
        self.files += 1;
        self.line(&Line::File { path: path.to_owned(), size })
    }

    fn run(&mut self, offset: u64, octets: &[u8]) -> io::Result<()> {
        self.octets += octets.len() as u64;
        self.to.write_all(&offset.to_le_bytes())?;
        self.to.write_all(&(octets.len() as u32).to_le_bytes())?;
        self.to.write_all(octets)
    }

    /// The end of it; what was written to.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        let (files, octets) = (self.files, self.octets);
        self.line(&Line::End { files, octets })?;
        Ok(self.to)
    }
}

/// Where a file has data next, from `at` on.
fn next_data(file: &File, at: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    use nix::errno::Errno;
    use nix::unistd::{Whence, lseek};
    if at >= size {
        return Ok(None);
    }
    let offset = |at: u64| i64::try_from(at).map_err(io::Error::other);
    match lseek(file, offset(at)?, Whence::SeekData) {
        Ok(start) => {
            let end = lseek(file, start, Whence::SeekHole)?;
            Ok(Some((start as u64, (end as u64).min(size))))
        }
        // Only a hole is left.
        Err(Errno::ENXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Who takes what is in a backup.
pub(crate) trait Sink {
    /// A new file of this size, zero.
    fn create(&mut self, path: &str, size: u64) -> io::Result<File>;
}

/// Reads a backup to its end.
pub(crate) fn read(mut from: impl BufRead, sink: &mut impl Sink) -> Result<Manifest, Refused> {
    let mut magic = vec![0; MAGIC.len()];
    from.read_exact(&mut magic).map_err(Refused::Read)?;
    if magic != MAGIC {
        return Err(Refused::Bad("it does not begin as one of this release's".to_owned()));
    }
    let Line::Manifest(manifest) = line(&mut from)? else {
        return Err(Refused::Bad("its manifest does not come first".to_owned()));
    };
    let mut seen = HashSet::new();
    let (mut files, mut octets) = (0, 0);
    let mut buffer = vec![0; RUN];
    loop {
        match line(&mut from)? {
            Line::File { path, size } => {
                check_path(&path)?;
                if size > LARGEST || files == MOST {
                    return Err(Refused::Bad(format!("{path} is larger than anything that is kept")));
                }
                // Two names for one file, or a file where a directory is to be, the file system refuses.
                if !seen.insert(blake3::hash(path.as_bytes())) {
                    return Err(Refused::Bad(format!("{path} is in it twice")));
                }
                let file = sink.create(&path, size).map_err(Refused::Write)?;
                octets += fill(&mut from, &path, size, &file, &mut buffer)?;
                files += 1;
            }
            Line::End { files: said_files, octets: said_octets } => {
                if (said_files, said_octets) != (files, octets) {
                    return Err(Refused::Bad("something is missing in the middle of it".to_owned()));
                }
                break;
            }
            Line::Manifest(_) => return Err(Refused::Bad("it has two manifests".to_owned())),
        }
    }
    // The encryption knows of its end only when it is read to it.
    match from.read(&mut buffer).map_err(Refused::Read)? {
        0 => Ok(manifest),
        _ => Err(Refused::Bad("something follows its end".to_owned())),
    }
}

fn line(from: &mut impl BufRead) -> Result<Line, Refused> {
    let mut text = Vec::new();
    from.take(LINE).read_until(b'\n', &mut text).map_err(Refused::Read)?;
    if text.last() != Some(&b'\n') {
        return Err(match text.len() as u64 {
            LINE => Refused::Bad("a line of it is too long".to_owned()),
            _ => Refused::Read(io::ErrorKind::UnexpectedEof.into()),
        });
    }
    serde_json::from_slice(&text).map_err(|e| Refused::Bad(format!("a line of it is unknown ({e})")))
}

/// Writes a file's runs; how many octets they are.
fn fill(from: &mut impl Read, path: &str, size: u64, file: &File, buffer: &mut [u8]) -> Result<u64, Refused> {
    let (mut least, mut octets) = (0, 0);
    loop {
        let mut head = [0; 12];
        from.read_exact(&mut head).map_err(Refused::Read)?;
        let (offset, length) = head.split_at(8);
        let offset = u64::from_le_bytes(offset.try_into().expect("these are eight"));
        let length = u32::from_le_bytes(length.try_into().expect("these are four")) as usize;
        if length == 0 {
            return Ok(octets);
        }
        let end = offset.checked_add(length as u64);
        let Some(end) = end.filter(|end| *end <= size && offset >= least && length <= buffer.len()) else {
            return Err(Refused::Bad(format!("{path} holds more than it says")));
        };
        let run = &mut buffer[..length];
        from.read_exact(run).map_err(Refused::Read)?;
        file.write_all_at(run, offset).map_err(Refused::Write)?;
        (least, octets) = (end, octets + length as u64);
    }
}

/// Files of a backup, and directories of it with files in them.
const FILES: [&str; 3] = ["store", "token", "kiln.toml"];
const DIRECTORIES: [&str; 3] = ["drives", "images", "volumes"];

/// Only what a backup of ours could have: no way out of the directory, no name that begins another file's life.
fn check_path(path: &str) -> Result<(), Refused> {
    let parts: Vec<&str> = path.split('/').collect();
    let is_fit = |part: &&str| {
        (1..=128).contains(&part.len())
            && part.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"._-".contains(&octet))
            && *part != "."
            && *part != ".."
    };
    let is_placed = match parts.len() {
        1 => FILES.contains(&parts[0]),
        2..=4 => DIRECTORIES.contains(&parts[0]),
        _ => false,
    };
    if !is_placed || !parts.iter().all(is_fit) {
        let shown: String = path.chars().take(80).collect();
        return Err(Refused::Bad(format!("{shown:?} is no path of a backup")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
