use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use std::io::{self, Read};
use tokio::sync::mpsc;

/// Pieces of an upload that wait to be written.
const AHEAD: usize = 16;

/// The two ends of an upload: where its pieces go in, and what a thread reads.
pub(crate) fn channel() -> (mpsc::Sender<io::Result<Bytes>>, Upload) {
    let (pieces, received) = mpsc::channel(AHEAD);
    (pieces, Upload { received, rest: Bytes::new(), ended: false })
}

/// Hands the body's pieces to the thread that imports. An end is an end only when the body says so: an empty
/// piece. Without one the client is gone, and this with it.
pub(crate) async fn feed(
    mut upload: Body,
    pieces: mpsc::Sender<io::Result<Bytes>>,
) -> Result<(), axum::Error> {
    while let Some(frame) = upload.frame().await {
        match frame {
            Ok(frame) => {
                let Some(piece) = frame.into_data().ok().filter(|piece| !piece.is_empty()) else { continue };
                if pieces.send(Ok(piece)).await.is_err() {
                    // The import gave up, and says why itself. The rest is read away, or the client
                    // would never come to read our answer.
                    while let Some(Ok(_)) = upload.frame().await {}
                    return Ok(());
                }
            }
            Err(e) => {
                pieces.send(Err(io::Error::other(e.to_string()))).await.ok();
                return Err(e);
            }
        }
    }
    pieces.send(Ok(Bytes::new())).await.ok();
    Ok(())
}

/// The pieces as something to read, for a thread that may wait.
pub(crate) struct Upload {
    received: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
    ended: bool,
}

impl Read for Upload {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() && !self.ended {
            let gone = || io::Error::new(io::ErrorKind::UnexpectedEof, "the client is gone");
            self.rest = self.received.blocking_recv().ok_or_else(gone)??;
            self.ended = self.rest.is_empty();
        }
        let length = self.rest.len().min(into.len());
        into[..length].copy_from_slice(&self.rest.split_to(length));
        Ok(length)
    }
}

#[cfg(test)]
mod tests;
