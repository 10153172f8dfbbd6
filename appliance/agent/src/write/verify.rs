//! Reading an image back from the disk.

use super::{Sums, Write, joined};
use crate::{
    device::{Buffer, is_zero},
    source::Halt,
};
use agent_proto::{FailureKind, Phase};
use image::{EXTENT, Manifest};
use std::{
    sync::mpsc::{Receiver, SyncSender, channel, sync_channel},
    thread,
};

/// Extents between the disk and the processor.
const QUEUE: usize = 2;

impl Write<'_> {
    /// Compares every extent with what was received or with its digest, and every hole with zero.
    pub(super) fn verify(&self, manifest: &Manifest, sums: &Sums) -> Result<(), Halt> {
        self.say(Phase::Verify, 0, manifest.size());
        let (full, filled) = sync_channel(QUEUE);
        let (empty, emptied) = channel();
        for _ in 0..QUEUE + 2 {
            // Received below: the channel is open.
            let _ = empty.send(Buffer::new(EXTENT));
        }
        thread::scope(|scope| {
            let reading = scope.spawn(|| self.read_back(manifest, emptied, full));
            let mut compared = Ok(());
            let mut done = 0;
            for (index, mut buffer) in &filled {
                let range = self.place(manifest, index);
                let there = &buffer.octets()[..(range.end - range.start) as usize];
                compared = self.compare(manifest, sums, index, there);
                if compared.is_err() {
                    break;
                }
                done += manifest.extent_length(index) as u64;
                self.say(Phase::Verify, done, manifest.size());
                // At the end nobody takes it any more.
                let _ = empty.send(buffer);
            }
            drop((filled, empty));
            compared.and(joined(reading))
        })
    }

    fn read_back(
        &self,
        manifest: &Manifest,
        empty: Receiver<Buffer>,
        full: SyncSender<(usize, Buffer)>,
    ) -> Result<(), Halt> {
        for index in 0..manifest.extents().len() {
            if (self.stopped)() {
                return Err(Halt::Stopped);
            }
            // The other thread has found a fault and takes no more.
            let Ok(mut buffer) = empty.recv() else { return Ok(()) };
            self.extent(manifest, index, &mut buffer)?;
            if full.send((index, buffer)).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn compare(&self, manifest: &Manifest, sums: &Sums, index: usize, there: &[u8]) -> Result<(), Halt> {
        let (data, rest) = there.split_at(manifest.extent_length(index));
        let (want, is_right) = match manifest.extents()[index] {
            None => ("zeroes".to_owned(), is_zero(data)),
            Some(digest) => {
                let is_right = sums.judge(index, data).unwrap_or_else(|| image::digest(data) == digest);
                (digest.to_string(), is_right)
            }
        };
        if is_right && is_zero(rest) {
            return Ok(());
        }
        let text = format!(
            "disk {}: extent {index} (octet {}) reads back as {} instead of {want}; replace the disk",
            self.device.name(),
            index as u64 * EXTENT as u64,
            image::digest(data)
        );
        Err(Halt::failed(FailureKind::DiskFault, text))
    }
}
