//! A volume on such a disk, and what each of its sectors may hold.

use super::disk::{Disk, File};
use crate::import::tests::Memory;
use crate::volume::{Base, Depth, Epoch, Layer, LayerId, Volume, VolumeError};
use crate::{Blocks, Manifest, Terms, import};
use boot::Digest;
use core::ops::ControlFlow;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

pub(super) const SECTOR: u64 = 512;

/// Extents that are shared by what stands on them.
#[derive(Clone, Debug)]
pub(super) struct Shelf(pub(super) Arc<Memory>);

impl Blocks for Shelf {
    type Error = io::Error;

    fn get(&self, digest: &Digest, skip: usize, into: &mut [u8]) -> io::Result<()> {
        let there = self.0.0.get(digest).ok_or(io::ErrorKind::NotFound)?;
        let part = there.get(skip..skip + into.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(part);
        Ok(())
    }
}

pub(super) type TestVolume = Volume<File, Shelf>;

/// A sector that says which one it is; 0 is zeros.
pub(super) fn sector(tag: u64) -> [u8; 512] {
    let mut octets = [0; 512];
    octets.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&tag.to_le_bytes()));
    octets
}

/// Which one a sector is; `None`: it is a mixture.
pub(super) fn tag(octets: &[u8]) -> Option<u64> {
    let tag = u64::from_le_bytes(octets[..8].try_into().unwrap());
    (octets == sector(tag)).then_some(tag)
}

/// An image whose sector N says `1_000_000 + N` where `data` says so, and is zero elsewhere.
pub(super) fn image(sectors: u64, data: impl Fn(u64) -> bool) -> (Manifest, Shelf) {
    let content: Vec<u8> =
        (0..sectors).flat_map(|number| sector(if data(number) { 1_000_000 + number } else { 0 })).collect();
    let mut memory = Memory::default();
    let terms = Terms { format: Some(crate::Format::Raw), ..Terms::default() };
    let imported = import(&content[..], &terms, &mut memory, &mut |_| {}).unwrap();
    (imported.manifest, Shelf(Arc::new(memory)))
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    /// The first sector and how many.
    Write(u64, u64),
    Zero(u64, u64),
    Flush,
    Freeze,
    Flatten(Depth),
    /// Closed and opened again.
    Reopen,
}

/// What is known of the volume.
#[derive(Clone)]
pub(super) struct Rig {
    pub(super) disk: Disk,
    pub(super) sectors: u64,
    image: Option<(Manifest, Shelf)>,
    /// Layers of the disk, the own one first, and whether it stands on the image: as it is written down.
    pub(super) chain: (Vec<usize>, bool),
    /// The chain that was about to be written down when the power went.
    pub(super) next_chain: Option<(Vec<usize>, bool)>,
    made: usize,
    epoch: u8,
    /// What each sector holds.
    pub(super) current: Vec<u64>,
    /// What each held at the last flush.
    durable: Vec<u64>,
    /// What else it may hold after a power cut.
    since: BTreeMap<u64, Vec<u64>>,
    /// The sectors that are looked at.
    pub(super) windows: Vec<core::ops::Range<u64>>,
    /// What is being written.
    pub(super) under_way: Vec<(u64, u64)>,
    next_tag: u64,
}

fn layer_id(number: usize) -> LayerId {
    LayerId([number as u8 + 1; 16])
}

impl Rig {
    pub(super) fn new(sectors: u64, image: Option<(Manifest, Shelf)>) -> Rig {
        let disk = Disk::default();
        let mut current = vec![0; sectors as usize];
        if let Some((manifest, shelf)) = &image {
            let mut content = vec![0; manifest.size() as usize];
            crate::read_at(manifest, shelf, 0, &mut content).unwrap();
            for (to, from) in current.iter_mut().zip(content.chunks(512)) {
                *to = tag(from).unwrap();
            }
        }
        let stands = image.is_some();
        let rig = Rig {
            disk,
            sectors,
            image,
            chain: (vec![0], stands),
            next_chain: None,
            made: 1,
            epoch: 1,
            durable: current.clone(),
            current,
            since: BTreeMap::new(),
            windows: core::iter::once(0..sectors).collect(),
            under_way: vec![],
            next_tag: 1,
        };
        Layer::create(layer_id(0), sectors * SECTOR, rig.disk.layer(0), rig.epoch()).unwrap();
        rig
    }

    fn epoch(&self) -> Epoch {
        Epoch([self.epoch; 32])
    }

    pub(super) fn open(&self) -> Result<TestVolume, VolumeError> {
        let size = self.sectors * SECTOR;
        let (numbers, stands) = &self.chain;
        let mut layers = vec![];
        for (index, number) in numbers.iter().enumerate() {
            let mut files = self.disk.layer(*number);
            if index > 0 {
                files.live = None;
            }
            layers.push(Arc::new(Layer::open(layer_id(*number), size, files, self.epoch())?));
        }
        let base = self
            .image
            .as_ref()
            .filter(|_| *stands)
            .map(|(manifest, shelf)| Arc::new(Base::new(manifest.id(), manifest.clone(), shelf.clone())));
        Volume::new(size, layers, base)
    }

    fn note(&mut self, sectors: core::ops::Range<u64>, tags: impl Fn(u64) -> u64) {
        self.under_way = sectors.map(|sector| (sector, tags(sector))).collect();
        for (sector, tag) in &self.under_way {
            self.since.entry(*sector).or_default().push(*tag);
        }
    }

    fn kept(&mut self) {
        for (sector, _) in core::mem::take(&mut self.since) {
            self.durable[sector as usize] = self.current[sector as usize];
        }
    }

    /// Does it; an error says that the power is off.
    pub(super) fn run(&mut self, volume: &mut TestVolume, op: Op) -> Result<(), VolumeError> {
        match op {
            Op::Write(first, count) => {
                let tag = self.next_tag;
                self.next_tag += count;
                self.note(first..first + count, |at| tag + at - first);
                let octets: Vec<u8> = (tag..tag + count).flat_map(sector).collect();
                volume.write_at(first * SECTOR, &octets)?;
            }
            Op::Zero(first, count) => {
                self.note(first..first + count, |_| 0);
                volume.zero(first * SECTOR, count * SECTOR)?;
            }
            Op::Flush => {
                volume.flush()?;
                self.kept();
            }
            Op::Freeze => {
                let number = self.made;
                self.made += 1;
                let size = self.sectors * SECTOR;
                let own = Layer::create(layer_id(number), size, self.disk.layer(number), self.epoch())?;
                let next = ([&[number], &self.chain.0[..]].concat(), self.chain.1);
                let state = self.disk.0.clone();
                let mut tried = false;
                let frozen = volume.freeze(Arc::new(own), || {
                    tried = true;
                    state.lock().unwrap().rename().map_err(VolumeError::io("rename", 0))
                });
                self.next_chain = tried.then_some(next);
                frozen?;
                self.chain = self.next_chain.take().unwrap();
                self.kept();
            }
            Op::Flatten(depth) => {
                let next = (vec![self.chain.0[0]], self.chain.1 && depth == Depth::Layers);
                let state = self.disk.0.clone();
                let mut tried = false;
                let done = volume.flatten(depth, &mut |_| ControlFlow::Continue(()), || {
                    tried = true;
                    state.lock().unwrap().rename().map_err(VolumeError::io("rename", 0))
                });
                self.next_chain = tried.then_some(next);
                let _: ControlFlow<()> = done?;
                self.chain = self.next_chain.take().unwrap();
                self.kept();
            }
            Op::Reopen => {
                volume.settle()?;
                self.kept();
                *volume = self.open()?;
            }
        }
        for (sector, tag) in core::mem::take(&mut self.under_way) {
            self.current[sector as usize] = tag;
        }
        Ok(())
    }

    /// The same on another disk, after a restart of the machine or only of the process.
    pub(super) fn on(&self, disk: Disk, restarted: bool, next_chain: bool) -> Rig {
        let mut rig = self.clone();
        let stubborn = rig.disk.0.lock().unwrap().stubborn;
        disk.0.lock().unwrap().stubborn = stubborn;
        rig.disk = disk;
        rig.epoch += u8::from(restarted);
        if next_chain && let Some(chain) = rig.next_chain.take() {
            rig.chain = chain;
        }
        rig
    }

    /// What the sectors of the windows hold.
    pub(super) fn read(&self, volume: &TestVolume) -> Vec<u64> {
        let mut found = vec![];
        for window in &self.windows {
            let mut octets = vec![0; ((window.end - window.start) * SECTOR) as usize];
            volume.read_at(window.start * SECTOR, &mut octets).unwrap();
            found.extend(octets.chunks(512).map(|sector| tag(sector).unwrap_or(u64::MAX)));
        }
        found
    }

    fn open_and_read(&self, what: &str) -> (TestVolume, Vec<(u64, u64)>) {
        let volume = self.open().unwrap_or_else(|e| panic!("{what}: {e}"));
        let found = self.windows.iter().cloned().flatten().zip(self.read(&volume)).collect();
        (volume, found)
    }

    /// After a power cut: opens it and looks at every sector.
    pub(super) fn check_legal(&mut self, what: &str) -> TestVolume {
        let (volume, found) = self.open_and_read(what);
        for (sector, tag) in found {
            let (durable, since) = (self.durable[sector as usize], self.since.get(&sector));
            let legal = tag == durable || since.is_some_and(|tags| tags.contains(&tag));
            assert!(legal, "{what}: sector {sector} is {tag}, not {durable} or one of {since:?}");
            // It is what it is, and may not change any more.
            self.current[sector as usize] = tag;
        }
        self.under_way.clear();
        self.kept();
        volume
    }

    /// After a kill: opens it and looks at every sector.
    pub(super) fn check_all(&mut self, what: &str) -> TestVolume {
        let (volume, found) = self.open_and_read(what);
        for (sector, tag) in found {
            let current = self.current[sector as usize];
            let legal = tag == current || self.under_way.contains(&(sector, tag));
            assert!(legal, "{what}: sector {sector} is {tag}, not {current}");
            self.current[sector as usize] = tag;
        }
        self.under_way.clear();
        volume
    }
}
