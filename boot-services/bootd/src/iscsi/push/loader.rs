//! Extents of an image, read and checked ahead of their being sent.

use crate::library::Reader;
use boot::Digest;
use std::{
    io::{self, Read as _},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    thread::JoinHandle,
};

/// Extents that wait to be read, and those that were read and wait to be sent.
const QUEUE: usize = 4;

/// An extent that was read.
#[derive(Debug)]
pub(super) struct Loaded {
    /// Which, counted in the image.
    pub(super) extent: usize,
    /// Its octets, of the right digest; or what is wrong with the image, and what to do.
    pub(super) octets: Result<Vec<u8>, String>,
}

/// A thread that reads extents.
#[derive(Debug)]
pub(super) struct Loader {
    wanted: Option<SyncSender<(usize, Digest)>>,
    loaded: Receiver<Loaded>,
    under_way: usize,
    thread: Option<JoinHandle<()>>,
}

impl Loader {
    /// Reads of that image; `wake` is called whenever an extent was read.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn start(reader: &Arc<Reader>, wake: impl Fn() + Send + 'static) -> io::Result<Loader> {
        let (wanted, orders) = sync_channel(QUEUE);
        let (done, loaded) = sync_channel(QUEUE);
        let reader = Arc::clone(reader);
        let thread = super::thread("push-loader", move || {
            for (extent, digest) in orders {
                let octets = load(&reader, extent, &digest);
                if done.send(Loaded { extent, octets }).is_err() {
                    return;
                }
                wake();
            }
        })?;
        Ok(Loader { wanted: Some(wanted), loaded, under_way: 0, thread: Some(thread) })
    }

    /// Whether another can be asked for.
    pub(super) fn has_room(&self) -> bool {
        self.under_way < QUEUE
    }

    /// Asks for an extent; only while there is room.
    pub(super) fn want(&mut self, extent: usize, digest: Digest) {
        let Some(wanted) = &self.wanted else { return };
        // The thread takes orders until they end, and there is room for this one.
        if wanted.try_send((extent, digest)).is_ok() {
            self.under_way += 1;
        }
    }

    /// An extent, if one was read; in the order in which they were asked for.
    pub(super) fn poll(&mut self) -> Option<Loaded> {
        match self.loaded.try_recv() {
            Ok(loaded) => {
                self.under_way -= 1;
                Some(loaded)
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.wanted = None;
        // Ends what it is at; there is room for what it has read, and then it finds no more orders.
        while self.loaded.recv().is_ok() {}
        if let Some(thread) = self.thread.take() {
            // Its panic was told by the panic itself.
            let _ = thread.join();
        }
    }
}

fn load(reader: &Reader, extent: usize, digest: &Digest) -> Result<Vec<u8>, String> {
    let length = reader.manifest().extent_length(extent);
    let mut octets = Vec::with_capacity(length + 1);
    let read = reader.extent(digest).and_then(|file| file.take(length as u64 + 1).read_to_end(&mut octets));
    let wrong = |what: &str| {
        format!(
            "extent {extent} of image {} {what} (its digest is {digest}); import the image again",
            reader.id()
        )
    };
    match read {
        Err(e) => Err(e.to_string()),
        Ok(count) if count != length => Err(wrong(&format!("does not have {length} octets"))),
        Ok(_) if image::digest(&octets) != *digest => Err(wrong("has other content in the library")),
        Ok(_) => Ok(octets),
    }
}

#[cfg(test)]
mod tests;
