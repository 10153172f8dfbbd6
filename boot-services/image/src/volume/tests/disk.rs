//! A disk that can lose power.
//!
//! What was synced is there. Of the rest any part is: each of the sectors (of maps: of the octets, up to one
//! cut) that were written since, or none of them, in whatever order. A process that is killed loses nothing.

use crate::volume::{LayerFile, LayerFiles};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

/// What is done to a file.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write(u64, Vec<u8>),
    Punch(u64, u64),
    Clear,
}

/// What a file holds: the sectors that are not zero.
#[derive(Clone, Debug, Default)]
pub(super) struct Content(BTreeMap<u64, Arc<[u8; 512]>>);

impl Content {
    pub(super) fn write(&mut self, offset: u64, octets: &[u8]) {
        let mut at = 0;
        while at < octets.len() {
            let (sector, skip) = ((offset + at as u64) / 512, ((offset + at as u64) % 512) as usize);
            let count = (512 - skip).min(octets.len() - at);
            let mut new = self.0.get(&sector).map_or([0; 512], |there| **there);
            new[skip..skip + count].copy_from_slice(&octets[at..at + count]);
            self.0.insert(sector, Arc::new(new));
            at += count;
        }
    }

    fn read(&self, offset: u64, into: &mut [u8]) {
        let mut at = 0;
        while at < into.len() {
            let (sector, skip) = ((offset + at as u64) / 512, ((offset + at as u64) % 512) as usize);
            let count = (512 - skip).min(into.len() - at);
            match self.0.get(&sector) {
                Some(there) => into[at..at + count].copy_from_slice(&there[skip..skip + count]),
                None => into[at..at + count].fill(0),
            }
            at += count;
        }
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Write(offset, octets) => self.write(*offset, octets),
            Change::Punch(offset, length) => {
                let gone = self.0.range(offset / 512..(offset + length).div_ceil(512));
                let gone: Vec<u64> = gone.map(|(sector, _)| *sector).collect();
                for sector in gone {
                    self.0.remove(&sector);
                }
            }
            Change::Clear => self.0.clear(),
        }
    }
}

/// All files of a disk.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// As they are after a power cut in which nothing is lucky.
    pub(super) durable: Vec<Content>,
    /// As they are.
    pub(super) cached: Vec<Content>,
    /// What is not synced, in order: of which file.
    pub(super) pending: Vec<(usize, Change)>,
    /// So many more changes and syncs succeed.
    pub(super) fuse: Option<usize>,
    /// The change that the fuse stopped.
    pub(super) stopped: Option<(usize, Change)>,
    /// Changes and syncs that were made.
    pub(super) steps: usize,
    /// Whether there is no room for anything new.
    pub(super) full: bool,
    /// Whether it cannot give room back.
    pub(super) stubborn: bool,
    /// Sectors of files that have room without being written to.
    reserved: BTreeSet<(usize, u64)>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Disk(pub(super) Arc<Mutex<State>>);

/// A file of a disk.
#[derive(Clone, Debug)]
pub(super) struct File {
    disk: Disk,
    number: usize,
}

impl Disk {
    /// The disk that a machine finds when it starts again.
    pub(super) fn after(files: Vec<Content>) -> Disk {
        let state = State { durable: files.clone(), cached: files, ..State::default() };
        Disk(Arc::new(Mutex::new(state)))
    }

    pub(super) fn file(&self, number: usize) -> File {
        let mut state = self.0.lock().unwrap();
        while state.cached.len() <= number {
            state.cached.push(Content::default());
            state.durable.push(Content::default());
        }
        File { disk: self.clone(), number }
    }

    /// The files of layer `number`.
    pub(super) fn layer(&self, number: usize) -> LayerFiles<File> {
        let file = |part| self.file(3 * number + part);
        LayerFiles { data: file(0), map: file(1), live: Some(file(2)) }
    }

    /// The disk as a process that follows a killed one finds it: of the change under way, so much.
    pub(super) fn killed(&self, part: usize) -> Disk {
        let state = self.0.lock().unwrap();
        let mut files = state.cached.clone();
        if let Some((number, change)) = &state.stopped {
            files[*number].apply(&cut(change, part));
        }
        // Nothing of it is synced, which is what a power cut that follows must find.
        let mut pending = state.pending.clone();
        pending.extend(state.stopped.iter().map(|(number, change)| (*number, cut(change, part))));
        let state = State { durable: state.durable.clone(), cached: files, pending, ..State::default() };
        Disk(Arc::new(Mutex::new(state)))
    }

    /// The disk after a power cut. Of the pieces of what was pending those are there that `keeps` says, which
    /// is asked with the change's index; of the last, if it is a map's, no more than `torn` octets.
    pub(super) fn cut(&self, keeps: &mut dyn FnMut(usize) -> bool, torn: usize) -> Disk {
        let state = self.0.lock().unwrap();
        let mut files = state.durable.clone();
        for (index, (number, change)) in state.pending.iter().chain(&state.stopped).enumerate() {
            let last = index + 1 == state.pending.len() + usize::from(state.stopped.is_some());
            for piece in pieces(*number, change) {
                let piece = if last && number % 3 != 0 { cut(&piece, torn) } else { piece };
                if keeps(index) {
                    files[*number].apply(&piece);
                }
            }
        }
        Disk::after(files)
    }

    /// Whether the last change under way is one of a map or a live map.
    pub(super) fn is_last_of_map(&self) -> bool {
        let state = self.0.lock().unwrap();
        let last = state.pending.iter().chain(&state.stopped).next_back();
        last.is_some_and(|(number, change)| number % 3 == 1 && matches!(change, Change::Write(..)))
    }

    pub(super) fn pending(&self) -> usize {
        let state = self.0.lock().unwrap();
        state.pending.len() + usize::from(state.stopped.is_some())
    }
}

/// What a disk does of a change at once: sectors of data; of a map the whole, which may be cut anywhere.
fn pieces(number: usize, change: &Change) -> Vec<Change> {
    match change {
        Change::Write(offset, octets) if number.is_multiple_of(3) => {
            let first = (512 - offset % 512) as usize;
            let (head, rest) = octets.split_at(first.min(octets.len()));
            let mut at = *offset;
            core::iter::once(head)
                .chain(rest.chunks(512))
                .map(|part| {
                    let piece = Change::Write(at, part.to_vec());
                    at += part.len() as u64;
                    piece
                })
                .collect()
        }
        Change::Punch(offset, length) => {
            (*offset..offset + length).step_by(512).map(|at| Change::Punch(at, 512)).collect()
        }
        whole => vec![whole.clone()],
    }
}

fn cut(change: &Change, part: usize) -> Change {
    match change {
        Change::Write(offset, octets) => Change::Write(*offset, octets[..part.min(octets.len())].to_vec()),
        other => other.clone(),
    }
}

impl File {
    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.disk.0.lock().unwrap();
        state.step()?;
        if state.full
            && let Change::Write(offset, octets) = &change
            && (offset / 512..(offset + octets.len() as u64).div_ceil(512))
                .any(|sector| !state.room(self.number, sector))
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if state.fuse == Some(0) {
            state.stopped = Some((self.number, change));
            return Err(io::Error::other("the power is off"));
        }
        state.burn();
        state.cached[self.number].apply(&change);
        state.pending.push((self.number, change));
        Ok(())
    }
}

impl State {
    fn room(&self, number: usize, sector: u64) -> bool {
        self.cached[number].0.contains_key(&sector) || self.reserved.contains(&(number, sector))
    }

    /// Something that is there whole or not at all, such as a file that is renamed.
    pub(super) fn rename(&mut self) -> io::Result<()> {
        self.step()?;
        if self.fuse == Some(0) {
            self.stopped = Some((0, Change::Punch(0, 0)));
            return Err(io::Error::other("the power is off"));
        }
        self.burn();
        Ok(())
    }

    fn step(&mut self) -> io::Result<()> {
        if self.stopped.is_some() {
            return Err(io::Error::other("the power is off"));
        }
        self.steps += 1;
        Ok(())
    }

    fn burn(&mut self) {
        if let Some(fuse) = &mut self.fuse {
            *fuse -= 1;
        }
    }
}

impl LayerFile for File {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let state = self.disk.0.lock().unwrap();
        state.cached[self.number].read(offset, into);
        Ok(())
    }

    fn write_at(&self, offset: u64, octets: &[u8]) -> io::Result<()> {
        self.change(Change::Write(offset, octets.to_vec()))
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        let stubborn = self.disk.0.lock().unwrap().stubborn;
        if stubborn { Ok(()) } else { self.change(Change::Punch(offset, length)) }
    }

    fn reserve(&self, offset: u64, length: u64) -> io::Result<()> {
        let mut state = self.disk.0.lock().unwrap();
        for sector in offset / 512..(offset + length).div_ceil(512) {
            if state.full && !state.room(self.number, sector) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            state.reserved.insert((self.number, sector));
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.0.lock().unwrap();
        state.step()?;
        if state.fuse == Some(0) {
            // As if the power went before anything was sent to the disk.
            state.stopped = Some((self.number, Change::Punch(0, 0)));
            return Err(io::Error::other("the power is off"));
        }
        state.burn();
        let number = self.number;
        let pending = core::mem::take(&mut state.pending);
        for (of, change) in pending {
            if of == number {
                state.durable[number].apply(&change);
            } else {
                state.pending.push((of, change));
            }
        }
        Ok(())
    }

    fn clear(&self) -> io::Result<()> {
        self.change(Change::Clear)
    }
}
