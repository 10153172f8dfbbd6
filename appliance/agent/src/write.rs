//! Putting an image on a disk.
//!
//! Three threads: this one looks at what the disk has, one receives and checks, one writes. What was
//! begun before is found on the disk and kept, so that a restart goes on where it was.

mod finish;
mod verify;

pub(crate) use finish::{Finish, fetch, read};

use crate::{
    cmdline::Appliance,
    device::{Buffer, Device},
    plan::{self, Need, RUN, up},
    source::{Halt, Patience, Source},
};
use agent_proto::{ConfigDrive, FailureKind, ImageRef, Outcome, Phase, Progress};
use boot::Digest;
use image::{EXTENT, MAX_ENCODED, Manifest};
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    ops::Range,
    panic,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, Sender, SyncSender, channel, sync_channel},
    },
    thread::{self, ScopedJoinHandle},
};
use xxhash_rust::xxh64::xxh64;

/// Extents between the network and the disk: memory, on machines that have little.
const QUEUE: usize = 6;
/// An extent is fetched again so many times when its digest is wrong.
const AGAIN: u32 = 3;
/// Extents of the image under which the disk is looked at to see whether it is blank.
const PROBE: usize = 8;
/// A digest is computed of so much at once, while the kernel receives the next.
const PIECE: usize = 256 * 1024;
/// A config drive is at most so long, for it is kept in memory (OpenStack's are at most 64 MiB).
const CONFIG_DRIVE: u64 = 64 << 20;

/// Quick checksums of what was received and is right, to be compared with what is read back.
///
/// What comes by the network is judged by its BLAKE3 digest: somebody may have altered it. What comes back
/// from the disk can only have been damaged, for which XXH64 is enough; it costs a fifth, which on slow
/// processors is the difference between reading back and not.
struct Sums(Vec<Mutex<Option<u64>>>);

impl Sums {
    fn of(manifest: &Manifest) -> Sums {
        Sums(manifest.extents().iter().map(|_| Mutex::new(None)).collect())
    }

    fn keep(&self, extent: usize, octets: &[u8]) {
        *self.0[extent].lock().unwrap_or_else(PoisonError::into_inner) = Some(xxh64(octets, 0));
    }

    /// Whether octets are those of the extent; none: it was not received but found on the disk.
    fn judge(&self, extent: usize, octets: &[u8]) -> Option<bool> {
        let sum = *self.0[extent].lock().unwrap_or_else(PoisonError::into_inner);
        sum.map(|sum| sum == xxh64(octets, 0))
    }
}

/// One image to be put on one disk.
pub(crate) struct Write<'a> {
    pub(crate) image: &'a ImageRef,
    pub(crate) config_drive: Option<&'a ConfigDrive>,
    pub(crate) appliance: &'a Appliance,
    pub(crate) device: &'a dyn Device,
    pub(crate) patience: Patience,
    /// Is told how far it is.
    pub(crate) progress: &'a (dyn Fn(Progress) + Sync),
    /// Is asked whether to go on.
    pub(crate) stopped: &'a (dyn Fn() -> bool + Sync),
}

/// Octets so far.
#[derive(Default)]
struct Tally {
    done: AtomicU64,
    received: AtomicU64,
    written: AtomicU64,
    kept: AtomicU64,
}

/// Octets of disk that an image of `size` octets needs. An order that asks for too much is refused before
/// anything is touched.
pub(crate) fn needed(size: u64, config_drive: Option<&ConfigDrive>) -> Result<u64, Halt> {
    if let Some(drive) = config_drive
        && (drive.size == 0 || drive.size > CONFIG_DRIVE)
    {
        let text = format!("a config drive of {} octets; 1 to {CONFIG_DRIVE} are possible", drive.size);
        return Err(Halt::failed(FailureKind::BadOrder, text));
    }
    Ok(plan::needed(size, config_drive.map(|drive| drive.size)))
}

impl Write<'_> {
    /// Does it all.
    pub(crate) fn run(&self) -> Result<Outcome, Halt> {
        self.say(Phase::Prepare, 0, self.image.size);
        let needed = needed(self.image.size, self.config_drive)?;
        if self.device.size() < needed {
            return Err(crate::disk::too_small(self.device.name(), self.device.size(), needed).into());
        }
        let mut source = Source::new(self.appliance, self.patience, self.stopped);
        let manifest = self.manifest(&mut source)?;
        let config_drive = fetch(self.appliance, &mut source, self.config_drive)?;

        let began = crate::clock::now();
        let tally = Tally::default();
        let sums = Sums::of(&manifest);
        self.write(&manifest, &tally, &sums)?;
        self.device.flush().map_err(|e| self.fault("flushing", 0..self.device.size(), &e))?;
        let written = crate::clock::now();
        self.verify(&manifest, &sums)?;
        let verified = crate::clock::now();
        let finish = Finish {
            size: self.image.size,
            config_drive: config_drive.as_deref().zip(self.config_drive.map(|drive| drive.digest)),
            device: self.device,
            progress: self.progress,
            written: &tally.written,
        };
        finish.run()?;
        Ok(Outcome::Written {
            disk: self.device.name().to_owned(),
            image_bytes: manifest.size(),
            received_bytes: tally.received.load(Relaxed),
            written_bytes: tally.written.load(Relaxed),
            kept_bytes: tally.kept.load(Relaxed),
            millis: (written.since(began).as_millis() as u64, verified.since(written).as_millis() as u64),
        })
    }

    fn manifest(&self, source: &mut Source<'_>) -> Result<Manifest, Halt> {
        let name = self.image.digest;
        let what = format!("manifest of image {name}");
        let octets = source.whole(&format!("/image/{name}/manifest"), MAX_ENCODED as u64, &what)?;
        let found = image::digest(&octets);
        if found != name {
            let text = format!("{what}: its digest is {found}; import the image again");
            return Err(Halt::failed(FailureKind::CorruptImage, text));
        }
        let manifest = Manifest::decode(&octets).map_err(|e| {
            Halt::failed(FailureKind::BadOrder, format!("image {name}: {e}; import it again"))
        })?;
        if manifest.size() != self.image.size {
            let text =
                format!("image {name} has {} octets and {} were ordered", manifest.size(), self.image.size);
            return Err(Halt::failed(FailureKind::BadOrder, text));
        }
        Ok(manifest)
    }

    /// Makes the disk hold the image's octets.
    fn write(&self, manifest: &Manifest, tally: &Tally, sums: &Sums) -> Result<(), Halt> {
        self.say(Phase::Write, 0, manifest.size());
        let blank = self.is_blank(manifest)?;
        let broken = AtomicBool::new(false);
        let stopped = || broken.load(Relaxed) || (self.stopped)();
        let (todo, extents) = sync_channel(RUN);
        let (full, filled) = sync_channel(QUEUE);
        let (empty, emptied) = channel();
        for _ in 0..QUEUE + 2 {
            // Received below: the channel is open.
            let _ = empty.send(Buffer::new(EXTENT));
        }
        thread::scope(|scope| {
            let fetching = scope.spawn(|| {
                let mut fetch = Fetch {
                    write: self,
                    manifest,
                    tally,
                    sums,
                    stopped: &stopped,
                    tries: BTreeMap::new(),
                    spare: None,
                };
                note(&broken, fetch.run(extents, emptied, full))
            });
            let storing = scope.spawn(|| note(&broken, self.store(manifest, tally, filled, empty)));
            let looked = note(&broken, self.look(manifest, tally, blank, todo, &stopped));
            let stored = joined(storing);
            let fetched = joined(fetching);
            // What failed by itself counts, not what stopped because of it.
            let mut halts = [stored, fetched, looked].into_iter().filter_map(Result::err);
            let mut stopped = None;
            if let Some(failed) = halts.find_map(|halt| match halt {
                Halt::Failed(_) => Some(halt),
                Halt::Stopped => {
                    stopped = Some(halt);
                    None
                }
            }) {
                return Err(failed);
            }
            stopped.map_or(Ok(()), Err)
        })
    }

    /// Whether the disk has nothing but zeroes where the image begins: then it is not worth hashing.
    fn is_blank(&self, manifest: &Manifest) -> Result<bool, Halt> {
        let mut buffer = Buffer::new(EXTENT);
        let data = manifest.extents().iter().enumerate().filter(|(_, extent)| extent.is_some());
        for (index, _) in data.take(PROBE) {
            if !crate::device::is_zero(self.extent(manifest, index, &mut buffer)?) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Decides for each extent; does what needs no network.
    fn look(
        &self,
        manifest: &Manifest,
        tally: &Tally,
        blank: bool,
        todo: SyncSender<usize>,
        stopped: &dyn Fn() -> bool,
    ) -> Result<(), Halt> {
        let mut buffer = Buffer::new(EXTENT);
        for (index, want) in manifest.extents().iter().enumerate() {
            if stopped() {
                return Err(Halt::Stopped);
            }
            let length = manifest.extent_length(index);
            let need = if blank && want.is_some() {
                Need::Fetch
            } else {
                plan::need(*want, self.extent(manifest, index, &mut buffer)?, length)
            };
            match need {
                Need::Fetch => {
                    if todo.send(index).is_err() {
                        return Err(Halt::Stopped);
                    }
                    continue;
                }
                Need::Nothing => {}
                Need::Keep => _ = tally.kept.fetch_add(length as u64, Relaxed),
                Need::Zero => {
                    let range = self.place(manifest, index);
                    self.device.zero(range.clone()).map_err(|e| self.fault("zeroing", range.clone(), &e))?;
                    tally.written.fetch_add(range.end - range.start, Relaxed);
                }
            }
            self.done(tally, length as u64, manifest);
        }
        Ok(())
    }

    /// Writes what was received.
    fn store(
        &self,
        manifest: &Manifest,
        tally: &Tally,
        filled: Receiver<(usize, Buffer)>,
        empty: Sender<Buffer>,
    ) -> Result<(), Halt> {
        for (index, mut buffer) in filled {
            let range = self.place(manifest, index);
            let octets = &buffer.octets()[..(range.end - range.start) as usize];
            self.device
                .write_at(octets, range.start)
                .map_err(|e| self.fault("writing", range.clone(), &e))?;
            tally.written.fetch_add(range.end - range.start, Relaxed);
            self.done(tally, manifest.extent_length(index) as u64, manifest);
            // At the end nobody takes it any more.
            let _ = empty.send(buffer);
        }
        Ok(())
    }

    /// Where extent `index` lies on the disk; the last one up to the end of its block.
    fn place(&self, manifest: &Manifest, index: usize) -> Range<u64> {
        let start = index as u64 * EXTENT as u64;
        start..start + up(manifest.extent_length(index) as u64, self.device.block())
    }

    fn extent<'a>(
        &self,
        manifest: &Manifest,
        index: usize,
        buffer: &'a mut Buffer,
    ) -> Result<&'a [u8], Halt> {
        let range = self.place(manifest, index);
        let octets = &mut buffer.octets()[..(range.end - range.start) as usize];
        self.device.read_at(octets, range.start).map_err(|e| self.fault("reading", range, &e))?;
        Ok(octets)
    }

    fn done(&self, tally: &Tally, octets: u64, manifest: &Manifest) {
        let done = tally.done.fetch_add(octets, Relaxed) + octets;
        self.say(Phase::Write, done, manifest.size());
    }

    fn say(&self, phase: Phase, done: u64, total: u64) {
        (self.progress)(Progress { phase, done, total });
    }

    fn fault(&self, doing: &str, range: Range<u64>, error: &io::Error) -> Halt {
        fault(self.device, doing, range, error)
    }
}

/// The disk returned an error.
pub(crate) fn fault(device: &dyn Device, doing: &str, range: Range<u64>, error: &io::Error) -> Halt {
    let text = format!(
        "disk {}: {doing} octets {} to {}: {error}; look at the disk's health and cables",
        device.name(),
        range.start,
        range.end
    );
    Halt::failed(FailureKind::DiskFault, text)
}

/// Lets the other threads know that one cannot go on.
fn note(broken: &AtomicBool, result: Result<(), Halt>) -> Result<(), Halt> {
    if result.is_err() {
        broken.store(true, Relaxed);
    }
    result
}

fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
}

/// The thread that receives and checks.
struct Fetch<'a> {
    write: &'a Write<'a>,
    manifest: &'a Manifest,
    tally: &'a Tally,
    sums: &'a Sums,
    stopped: &'a (dyn Fn() -> bool + Sync),
    /// How often an extent's digest was wrong.
    tries: BTreeMap<usize, u32>,
    /// Memory of an extent that did not come whole.
    spare: Option<Buffer>,
}

/// What came of a request.
enum Got {
    All,
    Corrupt(usize, Digest),
    Trouble(crate::http::Trouble),
    /// Nobody takes what we receive.
    Unwanted,
}

impl Fetch<'_> {
    fn run(
        &mut self,
        extents: Receiver<usize>,
        empty: Receiver<Buffer>,
        full: SyncSender<(usize, Buffer)>,
    ) -> Result<(), Halt> {
        let mut source = Source::new(self.write.appliance, self.write.patience, self.stopped);
        let what = format!("image {}", self.write.image.digest);
        let mut wanted: VecDeque<usize> = VecDeque::new();
        loop {
            if wanted.is_empty() {
                match extents.recv() {
                    Ok(extent) => wanted.push_back(extent),
                    Err(_) => return Ok(()),
                }
                // Looking at the disk takes time that is not the network's fault.
                source.arrived();
            }
            while wanted.len() < RUN
                && let Ok(extent) = extents.try_recv()
            {
                wanted.push_back(extent);
            }
            match self.request(&mut source, &mut wanted, &empty, &full) {
                Got::All => {}
                Got::Unwanted => return Err(Halt::Stopped),
                Got::Trouble(trouble) => source.endure(trouble, &what)?,
                Got::Corrupt(extent, found) => {
                    source.hang_up();
                    self.corrupt(extent, found)?;
                }
            }
        }
    }

    /// Asks for the extents at the front of `wanted` that follow each other; takes away those that came.
    fn request(
        &mut self,
        source: &mut Source<'_>,
        wanted: &mut VecDeque<usize>,
        empty: &Receiver<Buffer>,
        full: &SyncSender<(usize, Buffer)>,
    ) -> Got {
        let count = plan::run(wanted);
        let Some(first) = wanted.front().copied() else { return Got::All };
        let last = first + count - 1;
        let end = last as u64 * EXTENT as u64 + self.manifest.extent_length(last) as u64;
        let range = first as u64 * EXTENT as u64..end;
        if let Err(trouble) = source.get(&format!("/image/{}", self.write.image.digest), Some(&range)) {
            return Got::Trouble(trouble);
        }
        for extent in first..first + count {
            let Some(mut buffer) = self.spare.take().or_else(|| empty.recv().ok()) else {
                return Got::Unwanted;
            };
            if let Err(got) = self.receive(source, extent, &mut buffer) {
                self.spare = Some(buffer);
                return got;
            }
            source.arrived();
            wanted.pop_front();
            if full.send((extent, buffer)).is_err() {
                return Got::Unwanted;
            }
        }
        Got::All
    }

    fn receive(&self, source: &mut Source<'_>, extent: usize, buffer: &mut Buffer) -> Result<(), Got> {
        let (octets, rest) = buffer.octets().split_at_mut(self.manifest.extent_length(extent));
        rest.fill(0);
        let mut hasher = blake3::Hasher::new();
        for piece in octets.chunks_mut(PIECE) {
            source.read(piece).map_err(Got::Trouble)?;
            self.tally.received.fetch_add(piece.len() as u64, Relaxed);
            hasher.update(piece);
        }
        let found = Digest(*hasher.finalize().as_bytes());
        if self.manifest.extents()[extent] != Some(found) {
            return Err(Got::Corrupt(extent, found));
        }
        self.sums.keep(extent, octets);
        Ok(())
    }

    fn corrupt(&mut self, extent: usize, found: Digest) -> Result<(), Halt> {
        let tries = self.tries.entry(extent).or_default();
        *tries += 1;
        let name = self.write.image.digest;
        if *tries <= AGAIN {
            log::warn!(extent, found:%, tries = *tries; "extent has the wrong digest; fetching it again");
            return Ok(());
        }
        let want = self.manifest.extents()[extent].map(|digest| digest.to_string()).unwrap_or_default();
        let text = format!(
            "image {name}: extent {extent} (octet {}) came {tries} times with a wrong digest, at last {found} \
             instead of {want}; check the image on the appliance and import it again",
            extent as u64 * EXTENT as u64
        );
        Err(Halt::failed(FailureKind::CorruptImage, text))
    }
}

#[cfg(test)]
mod tests;
