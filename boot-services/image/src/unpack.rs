use crate::ImportError;
use crate::sum::Summer;
use core::cell::{Cell, RefCell};
use core::fmt;
use flate2::bufread::GzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

/// So many octets from the beginning tell what an upload is.
pub(crate) const HEAD: usize = 512;

/// What `zstd --long=27` needs, the most that the `zstd` command unpacks without being asked to.
const ZST_WINDOW: u64 = 128 << 20;

/// `xz -9` needs 65 MiB. In KiB.
const XZ_MEMORY: u32 = 257 << 10;

/// How an image is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// As it is on the disk.
    Raw,
    /// gzip, RFC 1952.
    Gz,
    /// xz, version 1.1 of its format.
    Xz,
    /// Zstandard, RFC 8878.
    Zst,
    /// QEMU's.
    Qcow2,
}

impl Format {
    /// What something is whose first octets (512, if it has so many) are `head`.
    pub fn of(head: &[u8]) -> Format {
        match head {
            [0x1f, 0x8b, ..] => Format::Gz,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Format::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Format::Zst,
            [b'Q', b'F', b'I', 0xfb, ..] => Format::Qcow2,
            _ => Format::Raw,
        }
    }

    /// The command that checks a file of this format.
    pub(crate) fn check(self) -> &'static str {
        match self {
            Format::Raw => "its checksum",
            Format::Gz => "`gzip -t`",
            Format::Xz => "`xz -t`",
            Format::Zst => "`zstd -t`",
            Format::Qcow2 => "`qemu-img check`",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Raw => "raw",
            Format::Gz => "gzip",
            Format::Xz => "xz",
            Format::Zst => "zstd",
            Format::Qcow2 => "qcow2",
        })
    }
}

/// What something is that is no disk image, and what to do with it.
pub(crate) fn foreign(head: &[u8]) -> Option<(&'static str, &'static str)> {
    const CONVERT: &str = "convert it with `qemu-img convert -O raw` first";
    const UNPACK: &str = "unpack it and import the disk image that is in it";
    let text = head.trim_ascii_start().get(..5).unwrap_or_default().to_ascii_lowercase();
    match head {
        [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A', b'Y', ..] => Some(("a bzip2 file", UNPACK)),
        [b'P', b'K', 3, 4, ..] => Some(("a zip archive", UNPACK)),
        [b'7', b'z', 0xbc, 0xaf, ..] => Some(("a 7z archive", UNPACK)),
        [4, 0x22, 0x4d, 0x18, ..] => Some(("an lz4 file", UNPACK)),
        [b'K', b'D', b'M', b'V', ..] => Some(("a VMDK image", CONVERT)),
        [b'v', b'h', b'd', b'x', b'f', b'i', b'l', b'e', ..] => Some(("a VHDX image", CONVERT)),
        [b'c', b'o', b'n', b'e', b'c', b't', b'i', b'x', ..] => Some(("a VHD image", CONVERT)),
        _ if head.get(257..262) == Some(b"ustar") => Some(("a tar archive", UNPACK)),
        _ if text == b"<!doc" || text == b"<html" => {
            Some(("a web page", "look into it for what the server said instead of sending the image"))
        }
        _ => None,
    }
}

/// What is known of the upload while a decoder has it.
pub(crate) struct Watch {
    at: Cell<u64>,
    ended: Cell<bool>,
    failed: RefCell<Option<io::Error>>,
    pub(crate) sums: RefCell<Summer>,
}

impl Watch {
    pub(crate) fn new(sums: Summer) -> Rc<Watch> {
        Rc::new(Watch {
            at: Cell::new(0),
            ended: Cell::new(false),
            failed: RefCell::new(None),
            sums: RefCell::new(sums),
        })
    }

    /// Octets read so far.
    pub(crate) fn at(&self) -> u64 {
        self.at.get()
    }

    /// What a decoder's fault means, given how the upload went.
    pub(crate) fn explain(&self, format: Format, fault: Fault) -> ImportError {
        let at = self.at();
        match (self.failed.take(), fault) {
            (Some(source), _) => ImportError::Source { at, source },
            (None, Fault::Trailing) => ImportError::Trailing { format, at },
            (None, Fault::Unsupported(what, instead)) => ImportError::Unsupported { what, instead },
            (None, Fault::Damaged(_)) if self.ended.get() => ImportError::Truncated { format, at },
            (None, Fault::Damaged(why)) => ImportError::Damaged { format, at, why },
        }
    }
}

/// The upload, watched.
pub(crate) struct Watched<R> {
    pub(crate) inner: R,
    pub(crate) watch: Rc<Watch>,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(into) {
            Ok(0) => {
                self.watch.ended.set(self.watch.ended.get() || !into.is_empty());
                Ok(0)
            }
            Ok(count) => {
                self.watch.at.set(self.watch.at.get() + count as u64);
                self.watch.sums.borrow_mut().update(&into[..count]);
                Ok(count)
            }
            Err(e) => {
                if e.kind() != io::ErrorKind::Interrupted {
                    let kept = io::Error::new(e.kind(), e.to_string());
                    self.watch.failed.replace(Some(kept));
                }
                Err(e)
            }
        }
    }
}

/// What a decoder met.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Something that cannot be, or the end where there must be more.
    Damaged(String),
    /// More after the end.
    Trailing,
    /// What, and what to do instead.
    Unsupported(String, &'static str),
}

impl From<io::Error> for Fault {
    fn from(e: io::Error) -> Fault {
        Fault::Damaged(e.to_string())
    }
}

/// The octets of a packed stream.
///
/// The formats' members, streams and frames are walked here, because each library treats what lies
/// between and after them in its own way.
pub(crate) enum Decoder<R: BufRead> {
    Raw(R),
    Gz(Option<Box<GzDecoder<R>>>),
    Xz(Option<Box<XzReader<R>>>),
    Zst(Box<Zst<R>>),
    /// It gave its last octet or failed.
    Over,
}

pub(crate) struct Zst<R> {
    source: R,
    decoder: FrameDecoder,
    frames: u64,
    produced: Option<u64>,
}

impl<R: BufRead> Decoder<R> {
    /// Unpacks `source`, which is `format`. qcow2 needs random access and is not unpacked here.
    pub(crate) fn new(format: Format, source: R) -> Decoder<R> {
        match format {
            Format::Raw | Format::Qcow2 => Decoder::Raw(source),
            Format::Gz => Decoder::Gz(Some(Box::new(GzDecoder::new(source)))),
            Format::Xz => Decoder::Xz(Some(Box::new(xz(source)))),
            Format::Zst => {
                let mut decoder = FrameDecoder::new();
                decoder.set_max_window_size(ZST_WINDOW);
                Decoder::Zst(Box::new(Zst { source, decoder, frames: 0, produced: None }))
            }
        }
    }

    /// The next octets; 0 at the end, when everything was checked and nothing follows.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> Result<usize, Fault> {
        // The decoders are other people's: should one of them panic on a hostile stream, then what it was
        // given is damaged, and it is not asked again.
        let answer = catch_unwind(AssertUnwindSafe(|| self.step(into)))
            .unwrap_or_else(|_| Err(Fault::Damaged("its decoder gave up".to_owned())));
        if !matches!(answer, Ok(1..)) {
            *self = Decoder::Over;
        }
        answer
    }

    fn step(&mut self, into: &mut [u8]) -> Result<usize, Fault> {
        loop {
            let count = match self {
                Decoder::Over => return Ok(0),
                Decoder::Raw(source) => return Ok(again(|| source.read(into))?),
                Decoder::Zst(zst) => return zst.read(into),
                Decoder::Gz(member) => match member {
                    Some(reader) => again(|| reader.read(into))?,
                    None => return Ok(0),
                },
                Decoder::Xz(stream) => match stream {
                    Some(reader) => again(|| reader.read(into)).map_err(xz_fault)?,
                    None => return Ok(0),
                },
            };
            if count > 0 {
                return Ok(count);
            }
            match self {
                Decoder::Gz(member) => {
                    let mut source = member.take().map(|m| m.into_inner()).ok_or_else(over)?;
                    // gzip(1) takes zeros after the last member for a tape's padding.
                    match after_zeros(&mut source)?.0 {
                        None => {}
                        Some(0x1f) => *member = Some(Box::new(GzDecoder::new(source))),
                        Some(_) => return Err(Fault::Trailing),
                    }
                }
                Decoder::Xz(stream) => {
                    let mut source = stream.take().map(|s| s.into_inner()).ok_or_else(over)?;
                    let (next, zeros) = after_zeros(&mut source)?;
                    // The .xz file format 1.1, 2.2: "Stream Padding MUST contain only null bytes [and]
                    // the size of Stream Padding MUST be a multiple of four bytes."
                    if zeros % 4 != 0 {
                        return Err(Fault::Trailing);
                    }
                    match next {
                        None => {}
                        Some(0xfd) => *stream = Some(Box::new(xz(source))),
                        Some(_) => return Err(Fault::Trailing),
                    }
                }
                Decoder::Raw(_) | Decoder::Zst(_) | Decoder::Over => return Ok(0),
            }
        }
    }
}

fn xz<R: BufRead>(source: R) -> XzReader<R> {
    XzReader::new_mem_limit(source, false, XZ_MEMORY)
}

fn over() -> Fault {
    Fault::Damaged("its decoder was asked after its end".to_owned())
}

fn xz_fault(e: io::Error) -> Fault {
    match e.kind() {
        io::ErrorKind::OutOfMemory => Fault::Unsupported(
            "an xz file with a dictionary of more than 256 MiB".to_owned(),
            "compress it again with `xz -9` or less",
        ),
        io::ErrorKind::Unsupported => {
            Fault::Unsupported(format!("this kind of xz file ({e})"), "compress it again with plain `xz`")
        }
        _ => e.into(),
    }
}

fn again<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            answer => return answer,
        }
    }
}

/// Skips zeros: what octet follows them, and how many they are.
fn after_zeros<R: BufRead>(source: &mut R) -> io::Result<(Option<u8>, u64)> {
    let mut zeros = 0;
    loop {
        let there =
            again(|| source.fill_buf().map(|octets| (octets.len(), octets.iter().position(|o| *o != 0))));
        match there? {
            (0, _) => return Ok((None, zeros)),
            (all, None) => {
                source.consume(all);
                zeros += all as u64;
            }
            (_, Some(at)) => {
                source.consume(at);
                let next = source.fill_buf()?.first().copied();
                return Ok((next, zeros + at as u64));
            }
        }
    }
}

impl<R: BufRead> Zst<R> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Fault> {
        loop {
            let Some(produced) = &mut self.produced else {
                if again(|| self.source.fill_buf().map(<[u8]>::is_empty))? && self.frames > 0 {
                    return Ok(0);
                }
                self.begin()?;
                continue;
            };
            if self.decoder.can_collect() > 0 {
                let count = self.decoder.read(into)?;
                *produced += count as u64;
                return Ok(count);
            }
            if !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder
                    .decode_blocks(&mut self.source, one)
                    .map_err(|e| Fault::Damaged(e.to_string()))?;
                continue;
            }
            // RFC 8878, 3.1.1: the content checksum is optional, and ruzstd leaves comparing it to us.
            let said = self.decoder.get_checksum_from_data();
            if said.is_some() && said != self.decoder.get_calculated_checksum() {
                return Err(Fault::Damaged("the content's checksum is wrong".to_owned()));
            }
            // Here 0 means that the frame does not tell.
            let size = self.decoder.content_size();
            if size != 0 && size != *produced {
                return Err(Fault::Damaged(format!("a frame has {produced} octets, not {size}")));
            }
            self.produced = None;
        }
    }

    /// Takes up the next frame, or skips one that is to be skipped.
    fn begin(&mut self) -> Result<(), Fault> {
        match self.decoder.init(&mut self.source) {
            Ok(()) => self.produced = Some(0),
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length, ..
            })) => {
                let skipped = io::copy(&mut (&mut self.source).take(length.into()), &mut io::sink())?;
                if skipped < length.into() {
                    return Err(Fault::Damaged("a frame to be skipped is cut off".to_owned()));
                }
            }
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::BadMagicNumber(_)))
                if self.frames > 0 =>
            {
                return Err(Fault::Trailing);
            }
            Err(FrameDecoderError::WindowSizeTooBig { requested, max }) => {
                return Err(Fault::Unsupported(
                    format!("a zstd file with a window of {requested} octets (at most {max} are)"),
                    "compress it again with `zstd --long=27` or less",
                ));
            }
            Err(FrameDecoderError::DictNotProvided { dict_id }) => {
                return Err(Fault::Unsupported(
                    format!("a zstd file that needs dictionary {dict_id}"),
                    "compress it again without a dictionary",
                ));
            }
            Err(e) => return Err(Fault::Damaged(e.to_string())),
        }
        self.frames += 1;
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests;
