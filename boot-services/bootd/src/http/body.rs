use super::outbox::Outbox;
use crate::library::Reader;
use boot::{Attempt, Digest};
use bytes::Bytes;
use core::ops::Range;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use hyper::body::{Body, Frame, SizeHint};
use image::{Piece, ZEROS};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::{JoinHandle, spawn_blocking};

/// Octets read at once.
const CHUNK: usize = 256 << 10;
/// Buffers that are kept for the next reader.
const KEPT: usize = 32;

/// The body of an answer.
pub(super) enum Answer {
    Nothing,
    Text(Option<Bytes>),
    Script(Option<(Bytes, Arc<Outbox>, SocketAddr, Option<Attempt>)>),
    Stretch(Box<Stretch>),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Answer::Nothing => Poll::Ready(None),
            Answer::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Answer::Script(script) => Poll::Ready(script.take().map(|(text, outbox, peer, attempt)| {
                if let Some(attempt) = attempt {
                    outbox.script(peer, &attempt);
                }
                Ok(Frame::data(text))
            })),
            Answer::Stretch(stretch) => stretch.poll_next(cx).map(|next| next.map(|b| b.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Nothing | Answer::Text(None) | Answer::Script(None) => true,
            Answer::Text(_) | Answer::Script(_) => false,
            Answer::Stretch(stretch) => stretch.left() == 0,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(match self {
            Answer::Nothing => 0,
            Answer::Text(text) => text.as_ref().map_or(0, |text| text.len() as u64),
            Answer::Script(script) => script.as_ref().map_or(0, |(text, ..)| text.len() as u64),
            Answer::Stretch(stretch) => stretch.left(),
        })
    }
}

/// Where a stretch is read from.
#[derive(Clone)]
pub(super) enum Source {
    File(Arc<File>),
    Image(Arc<Reader>),
}

/// Who is told how a transfer went.
pub(super) struct Teller {
    pub(super) outbox: Arc<Outbox>,
    pub(super) peer: SocketAddr,
    pub(super) path: String,
    /// For an asset: octets there are.
    pub(super) asset: Option<u64>,
}

/// Octets of a file or an image. One chunk is read ahead while the one before is sent; holes are not read.
pub(super) struct Stretch {
    source: Source,
    start: u64,
    /// The next octet to be read.
    at: u64,
    end: u64,
    /// The next octet to be given away.
    given: u64,
    /// What was read and not given away; while there is more, either this or `reading` is there.
    next: Option<Bytes>,
    extent: Option<(Digest, Arc<File>)>,
    reading: Option<JoinHandle<io::Result<Chunk>>>,
    teller: Teller,
}

struct Chunk {
    octets: Bytes,
    extent: Option<(Digest, Arc<File>)>,
}

impl Stretch {
    /// Octets `range` of a source that has so many; the first of them are read, so that a source that
    /// cannot be read is known before anything is answered.
    pub(super) async fn begin(source: Source, range: Range<u64>, teller: Teller) -> io::Result<Stretch> {
        let Range { start, end } = range;
        let mut stretch = Stretch {
            source,
            start,
            at: start,
            end,
            given: start,
            next: None,
            extent: None,
            reading: None,
            teller,
        };
        if start < end {
            let from = stretch.source.clone();
            let chunk = spawn_blocking(move || read(&from, start..end, None));
            let chunk = chunk.await.unwrap_or_else(|e| Err(io::Error::other(e)))?;
            stretch.at += chunk.octets.len() as u64;
            stretch.extent = chunk.extent;
            stretch.next = Some(chunk.octets);
        }
        if let Some(size) = stretch.teller.asset {
            stretch.teller.outbox.asset(stretch.teller.peer, &stretch.teller.path, 0, size);
        }
        Ok(stretch)
    }

    fn left(&self) -> u64 {
        self.end - self.given
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            if let Some(octets) = self.next.take() {
                self.given += octets.len() as u64;
                self.read_ahead();
                return Poll::Ready(Some(Ok(octets)));
            }
            let Some(reading) = &mut self.reading else { return Poll::Ready(None) };
            let chunk = ready!(Pin::new(reading).poll(cx)).unwrap_or_else(|e| Err(io::Error::other(e)));
            self.reading = None;
            match chunk {
                Ok(chunk) => {
                    self.at += chunk.octets.len() as u64;
                    self.extent = chunk.extent;
                    self.next = Some(chunk.octets);
                }
                Err(e) => {
                    log::error!(target: "http", path = self.teller.path.as_str(), offset = self.at, error:% = e; "transfer broken off, its source cannot be read");
                    self.teller.outbox.lost(self.teller.peer, &self.teller.path, e.to_string());
                    return Poll::Ready(Some(Err(e)));
                }
            }
        }
    }

    /// Begins to read the next chunk, or has it at once if it is zeros.
    fn read_ahead(&mut self) {
        if self.at >= self.end {
            return;
        }
        if let Source::Image(image) = &self.source
            && let Some(Piece::Hole(length)) = image.piece(self.at..self.end)
        {
            let length = length.min(ZEROS.len() as u64);
            self.next = Some(Bytes::from_static(&ZEROS[..length as usize]));
            self.at += length;
            return;
        }
        let (source, range, extent) = (self.source.clone(), self.at..self.end, self.extent.take());
        self.reading = Some(spawn_blocking(move || read(&source, range, extent)));
    }
}

impl Drop for Stretch {
    fn drop(&mut self) {
        if let Some(size) = self.teller.asset {
            let sent = self.given - self.start;
            self.teller.outbox.asset(self.teller.peer, &self.teller.path, sent, size);
        }
    }
}

/// Reads the first octets of a range, at least one.
fn read(source: &Source, range: Range<u64>, extent: Option<(Digest, Arc<File>)>) -> io::Result<Chunk> {
    let (file, offset, length, extent) = match source {
        Source::File(file) => (file.clone(), range.start, range.end - range.start, None),
        Source::Image(image) => match image.piece(range) {
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(Piece::Hole(length)) => {
                let octets = Bytes::from_static(&ZEROS[..length.min(ZEROS.len() as u64) as usize]);
                return Ok(Chunk { octets, extent: None });
            }
            Some(Piece::Data { digest, skip, length }) => {
                let file = match extent {
                    Some((same, file)) if same == digest => file,
                    _ => Arc::new(image.extent(&digest)?),
                };
                (file.clone(), skip as u64, length as u64, Some((digest, file)))
            }
        },
    };
    let mut buffer = Buffer::take(length.min(CHUNK as u64) as usize);
    file.read_exact_at(&mut buffer.octets[..buffer.length], offset)?;
    Ok(Chunk { octets: Bytes::from_owner(buffer), extent })
}

static POOL: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// A buffer that goes back to the pool when the last octet of it was sent: new memory for each chunk costs
/// as much as sending it.
struct Buffer {
    octets: Vec<u8>,
    length: usize,
}

impl Buffer {
    fn take(length: usize) -> Buffer {
        let kept = POOL.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Buffer { octets: kept.unwrap_or_else(|| vec![0; CHUNK]), length }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.octets[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < KEPT {
            pool.push(core::mem::take(&mut self.octets));
        }
    }
}
