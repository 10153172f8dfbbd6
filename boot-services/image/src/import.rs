use crate::sum::Summer;
use crate::unpack::{Decoder, HEAD, Watch, Watched, foreign};
use crate::{EXTENT, Format, ImportError, MAX_SIZE, Manifest, SECTOR, Sum, ZEROS, digest};
use boot::Digest;
use std::io::{self, BufReader, Read};

/// Octets asked of an upload at once.
const ASKED: usize = 256 << 10;

/// Where the extents of an image under import go.
pub trait Sink {
    /// Keeps an extent. One that the image holds twice may come twice.
    fn keep(&mut self, digest: Digest, octets: &[u8]) -> io::Result<()>;
}

/// What is allowed and what was said of an upload.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The largest content, in octets, whatever its packed size; never more than [`MAX_SIZE`].
    pub max_size: u64,
    /// How it is packed; none: its first octets tell.
    pub format: Option<Format>,
    /// The checksum of the uploaded file.
    pub file: Option<Sum>,
    /// The checksum of the unpacked content.
    pub content: Option<Sum>,
}

impl Default for Terms {
    fn default() -> Terms {
        Terms { max_size: MAX_SIZE, format: None, file: None, content: None }
    }
}

/// How far an import is, in octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Of the upload, read.
    pub read: u64,
    /// Of the content, unpacked.
    pub unpacked: u64,
    /// Of these, in extents that are no holes.
    pub data: u64,
}

/// An image whose extents are all in the sink.
#[derive(Clone, Debug)]
pub struct Imported {
    /// What it consists of.
    pub manifest: Manifest,
    /// How it was packed.
    pub format: Format,
    /// Octets of the upload.
    pub read: u64,
    /// Octets of the content before it was padded to a multiple of [`SECTOR`].
    pub content: u64,
}

/// Cuts content into extents: content in by [`push`](Cutter::push), extents out to a [`Sink`].
pub struct Cutter<'a> {
    sink: &'a mut dyn Sink,
    limit: u64,
    extents: Vec<Option<Digest>>,
    buffer: Vec<u8>,
    size: u64,
    data: u64,
    sums: Summer,
    expected: Option<Sum>,
}

impl<'a> Cutter<'a> {
    /// Takes the content's limit and checksum from `terms`.
    pub fn new(terms: &Terms, sink: &'a mut dyn Sink) -> Cutter<'a> {
        Cutter {
            sink,
            limit: terms.max_size.min(MAX_SIZE),
            extents: Vec::new(),
            buffer: Vec::with_capacity(EXTENT),
            size: 0,
            data: 0,
            sums: Summer::new(terms.content, true),
            expected: terms.content,
        }
    }

    /// Octets of the content so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Octets so far in extents that are no holes.
    pub fn data(&self) -> u64 {
        self.data
    }

    /// The next octets of the content.
    pub fn push(&mut self, mut octets: &[u8]) -> Result<(), ImportError> {
        self.grow(octets.len() as u64)?;
        self.sums.update(octets);
        while !octets.is_empty() {
            if self.buffer.is_empty() && octets.len() >= EXTENT {
                let (whole, rest) = octets.split_at(EXTENT);
                self.cut(whole)?;
                octets = rest;
                continue;
            }
            let (part, rest) = octets.split_at(octets.len().min(EXTENT - self.buffer.len()));
            self.buffer.extend_from_slice(part);
            octets = rest;
            if self.buffer.len() == EXTENT {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// So many zeros.
    pub fn zeros(&mut self, mut count: u64) -> Result<(), ImportError> {
        self.limited(count)?;
        while count > 0 {
            let part = count.min((EXTENT - self.buffer.len()) as u64);
            self.push(&ZEROS[..part as usize])?;
            count -= part;
        }
        Ok(())
    }

    fn limited(&self, by: u64) -> Result<u64, ImportError> {
        let size = self.size.saturating_add(by);
        if size > self.limit { Err(ImportError::TooLarge { limit: self.limit }) } else { Ok(size) }
    }

    fn grow(&mut self, by: u64) -> Result<(), ImportError> {
        self.size = self.limited(by)?;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ImportError> {
        let buffer = core::mem::take(&mut self.buffer);
        let done = self.cut(&buffer);
        self.buffer = buffer;
        self.buffer.clear();
        done
    }

    fn cut(&mut self, extent: &[u8]) -> Result<(), ImportError> {
        if extent == &ZEROS[..extent.len()] {
            self.extents.push(None);
            return Ok(());
        }
        let digest = digest(extent);
        self.sink.keep(digest, extent).map_err(ImportError::Sink)?;
        self.extents.push(Some(digest));
        self.data += extent.len() as u64;
        Ok(())
    }

    /// The content is complete: pads it to a multiple of [`SECTOR`] and compares its checksum.
    pub fn finish(mut self) -> Result<Manifest, ImportError> {
        if self.size == 0 {
            return Err(ImportError::Empty);
        }
        compare("the raw content", self.expected, &self.sums)?;
        let sha256 = self.sums.sha256().expect("the cutter always computes it");
        let padded = self.size.next_multiple_of(SECTOR);
        let padding = (padded - self.size) as usize;
        if padding > 0 {
            self.buffer.extend_from_slice(&ZEROS[..padding]);
        }
        if !self.buffer.is_empty() {
            self.flush()?;
        }
        Ok(Manifest::new(padded, sha256, self.extents).expect("every extent was cut and counted"))
    }
}

pub(crate) fn compare(what: &'static str, expected: Option<Sum>, sums: &Summer) -> Result<(), ImportError> {
    match expected.and_then(|expected| Some((expected, sums.like(&expected)?))) {
        Some((expected, found)) if expected != found => Err(ImportError::Mismatch { what, expected, found }),
        _ => Ok(()),
    }
}

/// Imports an upload: unpacks it, cuts it, keeps its extents in `sink`. Memory is bounded whatever comes
/// (the formats' windows apart, at most 257 MiB). `progress` is called about once per extent.
///
/// qcow2 needs random access: see [`import_qcow2`](crate::import_qcow2).
pub fn import<R: Read>(
    upload: R,
    terms: &Terms,
    sink: &mut dyn Sink,
    progress: &mut dyn FnMut(Progress),
) -> Result<Imported, ImportError> {
    let watch = Watch::new(Summer::new(terms.file, false));
    let mut upload = BufReader::with_capacity(ASKED, Watched { inner: upload, watch: watch.clone() });
    let mut head = Vec::with_capacity(HEAD);
    (&mut upload)
        .take(HEAD as u64)
        .read_to_end(&mut head)
        .map_err(|e| watch.explain(Format::Raw, e.into()))?;
    let format = agreed(terms.format, &head)?;
    if format == Format::Qcow2 {
        return Err(ImportError::Unsupported {
            what: "a qcow2 image from a stream".to_owned(),
            instead: "save it to a file first",
        });
    }
    let mut decoder = Decoder::new(format, io::Cursor::new(head).chain(upload));
    let mut cutter = Cutter::new(terms, sink);
    let mut chunk = vec![0; EXTENT];
    let mut first = true;
    loop {
        let mut filled = 0;
        while filled < chunk.len() {
            match decoder.read(&mut chunk[filled..]).map_err(|fault| watch.explain(format, fault))? {
                0 => break,
                count => filled += count,
            }
        }
        if core::mem::take(&mut first) && terms.format != Some(Format::Raw) {
            recognise(format, &chunk[..filled.min(HEAD)])?;
        }
        if filled == 0 {
            break;
        }
        cutter.push(&chunk[..filled])?;
        progress(Progress { read: watch.at(), unpacked: cutter.size(), data: cutter.data() });
    }
    compare("the uploaded file", terms.file, &watch.sums.borrow())?;
    let content = cutter.size();
    let manifest = cutter.finish()?;
    Ok(Imported { manifest, format, read: watch.at(), content })
}

/// What the upload is, if it is what it was said to be.
pub(crate) fn agreed(said: Option<Format>, head: &[u8]) -> Result<Format, ImportError> {
    match said {
        _ if head.is_empty() => Err(ImportError::Empty),
        None => Ok(Format::of(head)),
        Some(Format::Raw) => Ok(Format::Raw),
        Some(said) if Format::of(head) == said => Ok(said),
        Some(said) => {
            let found = match Format::of(head) {
                Format::Raw => foreign(head).map_or("none of the packed formats", |(what, _)| what),
                Format::Gz => "a gzip file",
                Format::Xz => "an xz file",
                Format::Zst => "a zstd file",
                Format::Qcow2 => "a qcow2 image",
            };
            Err(ImportError::NotThat { said, found })
        }
    }
}

/// Refuses content that is not a disk's but another file's: nothing would boot from it.
fn recognise(format: Format, content: &[u8]) -> Result<(), ImportError> {
    if let Some((what, instead)) = foreign(content) {
        return Err(ImportError::Unsupported { what: what.to_owned(), instead });
    }
    match Format::of(content) {
        inner if inner != Format::Raw => Err(ImportError::Unsupported {
            what: format!("{inner} data inside a {format} file"),
            instead: "unpack the outer one and import what is in it",
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests;
