use super::page::{self, HEAD, HEAD_PAGE, PAGE, PER_PAGE, PER_WORD, WORDS, Words};
use super::{BLOCK, LayerId, VolumeError};
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

mod flush;

pub(super) use flush::Unflushed;

/// A file of a layer. Any number of threads call at once.
pub trait LayerFile: Send + Sync {
    /// Fills `into` from `offset` on; what is past the file's end reads as zeros.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;
    /// Writes all of `octets` at `offset`; the file grows if it must.
    fn write_at(&self, offset: u64, octets: &[u8]) -> io::Result<()>;
    /// Gives back the room of these octets, which read as zeros from then on. A file system that cannot
    /// leaves them as they are: that is no error, and nobody relies on the zeros.
    fn punch(&self, offset: u64, length: u64) -> io::Result<()>;
    /// Sees to it that writing these octets later finds room.
    fn reserve(&self, offset: u64, length: u64) -> io::Result<()>;
    /// Returns when all that was written is on the disk.
    fn sync(&self) -> io::Result<()>;
    /// Makes the file empty.
    fn clear(&self) -> io::Result<()>;
}

/// The files of a layer.
#[derive(Debug)]
pub struct LayerFiles<F> {
    /// The blocks, each in its place.
    pub data: F,
    /// The map, as it was flushed.
    pub map: F,
    /// The map as it is, for a process that follows this one in the same [`Epoch`]. A frozen layer has none.
    pub live: Option<F>,
}

/// What a file that was written and never synced lives for: as long as the machine is not restarted. Whoever
/// opens files puts everything into it that changes when their unsynced content may be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(pub [u8; 32]);

/// Where a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Below, if there is something below.
    Below,
    /// In this layer.
    Here,
    /// Nowhere: it is zero.
    Zero,
}

impl State {
    /// A word of blocks that are all in this state.
    fn word(self) -> u64 {
        match self {
            State::Below => 0,
            State::Here => 0x5555_5555_5555_5555,
            State::Zero => 0xaaaa_aaaa_aaaa_aaaa,
        }
    }

    /// Of the block whose two bits are lowest. `11` is written by nobody and stands for the stricter one.
    fn lowest(word: u64) -> State {
        match word & 3 {
            0 => State::Below,
            1 => State::Here,
            _ => State::Zero,
        }
    }
}

/// A layer: some blocks of a volume, and which these are.
#[derive(Debug)]
pub struct Layer<F> {
    id: LayerId,
    size: u64,
    files: LayerFiles<F>,
    pages: Box<[OnceLock<Box<Words>>]>,
    /// A bit for each page that is in the file of the map.
    written: Box<[AtomicU64]>,
    changes: Mutex<Changes>,
}

#[derive(Debug, Default)]
struct Changes {
    /// The sequence number of the copy that is on the disk, of pages that were read or written.
    sequences: BTreeMap<u32, u64>,
    /// Pages that differ from what is on the disk.
    dirty: BTreeSet<u32>,
    /// Pages that are in the live file.
    live: BTreeSet<u32>,
    /// Pages whose copies are of different flushes.
    uneven: BTreeSet<u32>,
}

/// Pages that the words of the head can speak of.
const MOST_PAGES: u64 = (WORDS as u64 - 1) * 64;

const LIVE_MAGIC: [u8; 8] = *b"KilnLiv\x01";

/// Says that a page of the live file is there.
const LIVE_PAGE: [u8; 8] = *b"LivePage";

fn live_place(number: u32) -> u64 {
    (u64::from(number) + 1) * PAGE as u64
}

impl<F: LayerFile> Layer<F> {
    /// Makes a new layer for a volume of `size` octets in empty files. It is on the disk when this returns, if
    /// the directory that names its files is.
    pub fn create(
        id: LayerId,
        size: u64,
        files: LayerFiles<F>,
        epoch: Epoch,
    ) -> Result<Layer<F>, VolumeError> {
        let layer = Layer::bare(id, size, files);
        layer
            .files
            .map
            .reserve(0, 2 * PAGE as u64)
            .map_err(VolumeError::io("reserve room for the map", 0))?;
        layer.write_head(1)?;
        layer.changes().sequences.insert(HEAD_PAGE, 1);
        layer.begin_live(epoch)?;
        Ok(layer)
    }

    /// Opens a layer. With a live file that an earlier process of this `epoch` left, nothing that was
    /// acknowledged is missing; otherwise it is as it was flushed.
    ///
    /// # Errors
    /// Its map's head is damaged, or of another size.
    pub fn open(id: LayerId, size: u64, files: LayerFiles<F>, epoch: Epoch) -> Result<Layer<F>, VolumeError> {
        let layer = Layer::bare(id, size, files);
        if layer.files.live.is_some() {
            // What was written before this process and not synced must not be overwritten's only other copy.
            layer.files.map.sync().map_err(VolumeError::io("sync the map", 0))?;
        }
        let mut head = vec![0; 2 * PAGE];
        layer.files.map.read_at(0, &mut head).map_err(VolumeError::io("read the map", 0))?;
        let damaged = VolumeError::DamagedMap { layer: id, offset: 0, length: size };
        let Some((sequence, octets)) = page::newest(&id, HEAD_PAGE, &head) else { return Err(damaged) };
        let words = page::words(octets);
        if words[0].load(Ordering::Relaxed) != size {
            return Err(damaged);
        }
        for (to, from) in layer.written.iter().zip(&words[1..]) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        layer.changes().sequences.insert(HEAD_PAGE, sequence);
        layer.begin_live(epoch)?;
        Ok(layer)
    }

    fn bare(id: LayerId, size: u64, files: LayerFiles<F>) -> Layer<F> {
        let pages = size.div_ceil(BLOCK).div_ceil(PER_PAGE);
        assert!(pages <= MOST_PAGES, "no volume is larger than an image may be");
        let written = (0..pages.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let pages = (0..pages).map(|_| OnceLock::new()).collect();
        Layer { id, size, files, pages, written, changes: Mutex::default() }
    }

    /// Its name.
    pub fn id(&self) -> LayerId {
        self.id
    }

    /// The file of its blocks: block B is at B times [`BLOCK`].
    pub fn data(&self) -> &F {
        &self.files.data
    }

    fn changes(&self) -> MutexGuard<'_, Changes> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_written(&self, number: u32) -> bool {
        let word = self.written[number as usize / 64].load(Ordering::Acquire);
        word >> (number % 64) & 1 == 1
    }

    /// Takes over what an earlier process of this epoch left in the live file, or begins it.
    fn begin_live(&self, epoch: Epoch) -> Result<(), VolumeError> {
        let Some(live) = &self.files.live else { return Ok(()) };
        let mut expected = Vec::with_capacity(56);
        expected.extend_from_slice(&LIVE_MAGIC);
        expected.extend_from_slice(&self.id.0);
        expected.extend_from_slice(&epoch.0);
        let mut found = vec![0; expected.len()];
        live.read_at(0, &mut found).map_err(VolumeError::io("read the live map", 0))?;
        if found != expected {
            live.clear().map_err(VolumeError::io("empty the live map", 0))?;
            return live.write_at(0, &expected).map_err(VolumeError::io("write the live map", 0));
        }
        let mut changes = self.changes();
        for number in 0..self.pages.len() as u32 {
            let mut octets = vec![0; PAGE];
            let read = |from, into: &mut [u8]| {
                live.read_at(from, into).map_err(VolumeError::io("read the live map", offset_of(number)))
            };
            read(live_place(number), &mut octets[..8])?;
            if octets[..8] != LIVE_PAGE {
                continue;
            }
            read(live_place(number), &mut octets)?;
            if self.is_written(number) {
                // Its sequence number is needed for the next flush. Damage is healed by that.
                let sequence = self.read_page(number)?.map_or(0, |(sequence, _)| sequence);
                changes.sequences.insert(number, sequence);
            }
            // This layer was just made: nobody has set it.
            let _ = self.pages[number as usize].set(page::words(&octets[HEAD..]));
            changes.live.insert(number);
            changes.dirty.insert(number);
        }
        Ok(())
    }

    /// A page from the disk; `None`: no copy is whole.
    fn read_page(&self, number: u32) -> Result<Option<(u64, Box<Words>)>, VolumeError> {
        let mut both = vec![0; 2 * PAGE];
        let read = self.files.map.read_at(page::place(number), &mut both);
        read.map_err(VolumeError::io("read the map", offset_of(number)))?;
        Ok(page::newest(&self.id, number, &both).map(|(sequence, octets)| (sequence, page::words(octets))))
    }

    /// The words of a page; `None`: all its blocks are below.
    fn page(&self, number: u32) -> Result<Option<&Words>, VolumeError> {
        let place = &self.pages[number as usize];
        if let Some(words) = place.get() {
            return Ok(Some(words));
        }
        if !self.is_written(number) {
            // It may have been made in between.
            return Ok(place.get().map(Box::as_ref));
        }
        self.load(number, &mut self.changes()).map(Some)
    }

    fn load(&self, number: u32, changes: &mut Changes) -> Result<&Words, VolumeError> {
        let place = &self.pages[number as usize];
        if place.get().is_none() && self.is_written(number) {
            let offset = offset_of(number);
            let length = (PER_PAGE * BLOCK).min(self.size - offset);
            let damaged = VolumeError::DamagedMap { layer: self.id, offset, length };
            let (sequence, words) = self.read_page(number)?.ok_or(damaged)?;
            changes.sequences.insert(number, sequence);
            return Ok(place.get_or_init(|| words));
        }
        Ok(place.get_or_init(page::empty))
    }

    /// The state of `block`, and how many blocks from it on, at most `most`, are in the same. What is past
    /// the end of a layer, which was frozen before its volume was copied to a larger one, is below.
    pub(super) fn run(&self, block: u64, most: u64) -> Result<(State, u64), VolumeError> {
        let inside = self.size.div_ceil(BLOCK).saturating_sub(block);
        if inside == 0 {
            return Ok((State::Below, most));
        }
        let most = most.min(inside);
        let mut found: Option<State> = None;
        let mut count = 0;
        while count < most {
            let at = block + count;
            let number = (at / PER_PAGE) as u32;
            let rest = (PER_PAGE - at % PER_PAGE).min(most - count);
            let Some(words) = self.page(number)? else {
                if *found.get_or_insert(State::Below) != State::Below {
                    break;
                }
                count += rest;
                continue;
            };
            let within = at % PER_PAGE;
            let word = words[(within / PER_WORD) as usize].load(Ordering::Acquire);
            let skip = within % PER_WORD;
            let rest = (PER_WORD - skip).min(rest);
            let word = word >> (2 * skip);
            let state = *found.get_or_insert(State::lowest(word));
            // Where it differs from a word of that state, if anywhere.
            let same = u64::from((word ^ (state.word() >> (2 * skip))).trailing_zeros() / 2).min(rest);
            count += same;
            if same < rest {
                break;
            }
        }
        Ok((found.unwrap_or(State::Below), count))
    }

    /// Puts blocks into a state: in the live file, then for readers.
    pub(super) fn set(&self, blocks: Range<u64>, state: State) -> Result<(), VolumeError> {
        let mut changes = self.changes();
        let mut at = blocks.start;
        while at < blocks.end {
            let number = (at / PER_PAGE) as u32;
            let end = blocks.end.min((u64::from(number) + 1) * PER_PAGE);
            let within = at % PER_PAGE..end - u64::from(number) * PER_PAGE;
            self.set_in_page(number, within, state, &mut changes)?;
            at = end;
        }
        Ok(())
    }

    fn set_in_page(
        &self,
        number: u32,
        within: Range<u64>,
        state: State,
        changes: &mut Changes,
    ) -> Result<(), VolumeError> {
        let words = self.load(number, changes)?;
        let io = |doing| VolumeError::io(doing, offset_of(number));
        if !changes.dirty.contains(&number) {
            let room = self.files.map.reserve(page::place(number), 2 * PAGE as u64);
            room.map_err(io("reserve room for the map"))?;
        }
        let first = (within.start / PER_WORD) as usize;
        let last = (within.end.div_ceil(PER_WORD)) as usize;
        let mut changed = Vec::with_capacity(last - first);
        for (word, from) in words[first..last].iter().zip((first as u64 * PER_WORD..).step_by(32)) {
            let skip = within.start.saturating_sub(from);
            let count = (within.end - from).min(PER_WORD) - skip;
            let mask = (u64::MAX >> (64 - 2 * count)) << (2 * skip);
            changed.push((word.load(Ordering::Acquire) & !mask) | (state.word() & mask));
        }
        if let Some(live) = &self.files.live {
            let octets: Vec<u8> = changed.iter().flat_map(|word| word.to_le_bytes()).collect();
            let written = if changes.live.contains(&number) {
                live.write_at(live_place(number) + (HEAD + first * 8) as u64, &octets)
            } else {
                let mut whole = page::octets(words, 0..WORDS);
                whole[first * 8..last * 8].copy_from_slice(&octets);
                // That it is there is said when it is.
                live.write_at(live_place(number) + HEAD as u64, &whole)
                    .and_then(|()| live.write_at(live_place(number), &LIVE_PAGE))
            };
            written.map_err(io("write the live map"))?;
            changes.live.insert(number);
        }
        changes.dirty.insert(number);
        for (word, new) in words[first..last].iter().zip(changed) {
            word.store(new, Ordering::Release);
        }
        Ok(())
    }

    /// Makes the live file worthless: what was not flushed may be gone.
    pub(super) fn forget_live(&self) {
        if let Some(live) = &self.files.live {
            // If that fails too, the disk is beyond what can be done here.
            let _ = live.clear();
        }
    }

    /// Octets of the blocks that are in this layer.
    pub(super) fn allocated(&self) -> Result<u64, VolumeError> {
        let mut blocks = 0;
        for number in 0..self.pages.len() as u32 {
            let Some(words) = self.page(number)? else { continue };
            let here = |word: &AtomicU64| {
                u64::from((word.load(Ordering::Acquire) & State::Here.word()).count_ones())
            };
            blocks += words.iter().map(here).sum::<u64>();
        }
        Ok(blocks * BLOCK)
    }

    /// Reads all of the map's file that is in use and gives what is wrong with it: copies of pages that are
    /// not whole. With `both` bad the page is lost.
    pub fn check(&self) -> Result<Vec<BadPage>, VolumeError> {
        let mut bad = Vec::new();
        let written = (0..self.pages.len() as u32).filter(|number| self.is_written(*number));
        for number in core::iter::once(HEAD_PAGE).chain(written) {
            let offset = if number == HEAD_PAGE { 0 } else { offset_of(number) };
            let mut both = vec![0; 2 * PAGE];
            let read = self.files.map.read_at(page::place(number), &mut both);
            read.map_err(VolumeError::io("read the map", offset))?;
            let never = |copy: &[u8]| copy.iter().all(|octet| *octet == 0);
            let used = both.chunks(PAGE).filter(|copy| !never(copy)).count();
            let whole = page::whole(&self.id, number, &both);
            if whole < used.max(1) {
                bad.push(BadPage { offset, lost: whole == 0 });
            }
        }
        Ok(bad)
    }
}

/// A page of a map of which a copy is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPage {
    /// The first octet of the volume it speaks of.
    pub offset: u64,
    /// Whether the other copy is no help.
    pub lost: bool,
}

fn offset_of(number: u32) -> u64 {
    u64::from(number) * PER_PAGE * BLOCK
}
