//! One push, from its first connection to what came of it.

use super::{
    Bell, Trouble,
    checkpoint::{Checkpoint, Place, Stage},
    course::{self, Course, Part},
    line::{self, Line},
    loader::Loader,
};
use crate::{
    clock::Clock,
    library::{Library, Reader},
};
use boot::{Push, PushState};
use bytes::Bytes;
use image::{EXTENT, Manifest};
use iscsi::chap::Algorithm;
use iscsi::initiator::{Disk, Failure, MOST_OPERATIONS, Operation, OperationId};
use sansio::Time;
use std::{collections::HashMap, iter, sync::Arc, time::Duration};

/// Commands that carry data at a time, an extent each: with what the loader holds, 12 MiB.
const DEPTH: usize = 8;
/// Progress is told so often at most.
const TELL: Duration = Duration::from_millis(200);
/// The first rest between two connections, and the longest.
const REST: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How much may be at stake, and how long is waited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// So many octets are written at most before they are flushed.
    pub(super) stake: u64,
    /// For so long.
    pub(super) flush: Duration,
    /// Nothing may get done for so long.
    pub(super) patience: Duration,
    /// A node that refuses us for so long will not think better of it.
    pub(super) refused: Duration,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace {
            stake: 64 << 20,
            flush: Duration::from_secs(2),
            patience: Duration::from_secs(120),
            refused: Duration::from_secs(20),
        }
    }
}

/// What a push needs beside its plan.
pub(super) struct Setting<'a> {
    pub(super) images: Option<&'a str>,
    pub(super) place: &'a Place,
    pub(super) bell: &'a Bell,
    pub(super) pace: Pace,
    pub(super) tell: &'a dyn Fn(PushState),
}

/// Pushes; tells how it stands, in the end that it is done or cannot be done.
pub(super) fn run(push: &Push, setting: &Setting<'_>) {
    let tell = setting.tell;
    match begin(push, setting).and_then(Work::run) {
        Ok(done) => {
            log::info!(target: "iscsi", attempt:% = push.attempt, image:% = push.image; "image pushed");
            tell(done);
        }
        Err(Trouble::Stopped) => log::info!(target: "iscsi", attempt:% = push.attempt; "push stopped"),
        Err(Trouble::Fatal(why) | Trouble::Lost(why) | Trouble::Refused(why)) => {
            log::error!(target: "iscsi", attempt:% = push.attempt, why; "push failed");
            tell(PushState::Failed { why });
        }
    }
}

fn begin<'a>(push: &'a Push, setting: &'a Setting<'a>) -> Result<Work<'a>, Trouble> {
    let Setting { images, place, bell, pace, tell } = *setting;
    tell(PushState::Connecting { last: None });
    let images = images
        .ok_or_else(|| Trouble::Fatal("the plan names no image store; give the appliance one".to_owned()))?;
    let reader = Library::new(images).open(&push.image).map_err(|e| Trouble::Fatal(e.to_string()))?;
    let checkpoint = place.read(push.image).unwrap_or_else(|| Checkpoint::new(push.image, String::new()));
    let clock = Clock::start();
    Ok(Work {
        push,
        place,
        bell,
        pace,
        tell,
        clock,
        algorithms: &Algorithm::ALL,
        reader: Arc::new(reader),
        checkpoint,
        spent: [Duration::ZERO; 2],
        progress: clock.now(),
        told: None,
    })
}

struct Work<'a> {
    push: &'a Push,
    place: &'a Place,
    bell: &'a Bell,
    pace: Pace,
    tell: &'a dyn Fn(PushState),
    clock: Clock,
    /// What is offered for CHAP.
    algorithms: &'static [Algorithm],
    reader: Arc<Reader>,
    checkpoint: Checkpoint,
    /// Time of writing, and of reading back.
    spent: [Duration; 2],
    /// When something got done last.
    progress: Time,
    /// When progress was told last, and of which stage.
    told: Option<(Time, bool)>,
}

/// What is under way on one connection.
#[derive(Default)]
struct Afloat {
    /// Operations, with the first extent of their part and the octet of the image that each begins at.
    operations: HashMap<OperationId, (usize, u64)>,
    /// Parts, by their first extent: how many operations of each are not over.
    parts: HashMap<usize, usize>,
}

impl Afloat {
    fn add(&mut self, id: OperationId, first: usize, offset: u64) {
        self.operations.insert(id, (first, offset));
        *self.parts.entry(first).or_default() += 1;
    }

    /// An operation is over: where it began, and its part if that is over, too.
    fn over(&mut self, id: OperationId) -> Option<(u64, Option<usize>)> {
        let (first, offset) = self.operations.remove(&id)?;
        let left = self.parts.get_mut(&first)?;
        *left -= 1;
        let is_over = *left == 0;
        if is_over {
            self.parts.remove(&first);
        }
        Some((offset, is_over.then_some(first)))
    }
}

/// Into how many commands an extent is cut.
fn pieces(disk: &Disk) -> Result<usize, Trouble> {
    let pieces = EXTENT.div_ceil(disk.longest_transfer.max(1) as usize);
    if pieces > MOST_OPERATIONS / 2 {
        return Err(Trouble::Fatal(format!(
            "the node's disk ({}) takes only {} octets at once; take another",
            disk.name, disk.longest_transfer
        )));
    }
    Ok(pieces)
}

impl Work<'_> {
    fn run(mut self) -> Result<PushState, Trouble> {
        let mut rest = REST.0;
        loop {
            if let Stage::Done { millis } = self.checkpoint.stage {
                return Ok(PushState::Done { sent: self.checkpoint.sent, millis });
            }
            let before = self.progress;
            let trouble = match self.connect() {
                Ok(()) => continue,
                Err(trouble) => trouble,
            };
            if self.progress > before {
                rest = REST.0;
            }
            // Some targets take the number of one hash for another. That MD5 will do is known anyway: it is offered
            // from the first.
            self.algorithms = match (&trouble, self.algorithms) {
                (Trouble::Refused(_), [_, _, ..]) => &[Algorithm::Md5],
                _ => &Algorithm::ALL,
            };
            let patience = match trouble {
                Trouble::Lost(_) => self.pace.patience,
                Trouble::Refused(_) => self.pace.refused,
                Trouble::Fatal(_) | Trouble::Stopped => return Err(trouble),
            };
            let (Trouble::Lost(why) | Trouble::Refused(why)) = &trouble else { return Err(trouble) };
            let portal = self.push.portal;
            if self.clock.now().since(self.progress) >= patience {
                let seconds = patience.as_secs();
                return Err(Trouble::Fatal(format!(
                    "nothing got done at {portal} for {seconds} s: {why}; look at the node's console and at the provisioning network"
                )));
            }
            log::warn!(target: "iscsi", attempt:% = self.push.attempt, portal:%, why; "connection lost, trying again");
            (self.tell)(PushState::Connecting { last: Some(why.clone()) });
            self.told = None;
            self.rest(rest)?;
            rest = (rest * 2).min(REST.1);
        }
    }

    fn rest(&self, rest: Duration) -> Result<(), Trouble> {
        let until = self.clock.now() + rest;
        while self.clock.now() < until {
            let left = until.since(self.clock.now()) + Duration::from_millis(1);
            line::pause(None, self.bell, left).map_err(|e| Trouble::lost("waiting", &e))?;
            if self.bell.is_to_stop() {
                return Err(Trouble::Stopped);
            }
        }
        Ok(())
    }

    /// On one connection, as far as it goes.
    fn connect(&mut self) -> Result<(), Trouble> {
        let (mut line, disk) = Line::open(self.push, self.algorithms, self.clock, self.bell)?;
        if disk.size() < self.reader.size() {
            return Err(Trouble::Fatal(format!(
                "the node's disk has {} octets and image {} needs {}; take another disk or a smaller image",
                disk.size(),
                self.push.image,
                self.reader.size()
            )));
        }
        let name = format!("{} {} {} {}", disk.name, disk.serial, disk.blocks, disk.block_size);
        if self.checkpoint.disk != name {
            if !self.checkpoint.disk.is_empty() {
                log::warn!(target: "iscsi", attempt:% = self.push.attempt, before = self.checkpoint.disk, now = name; "another disk, beginning anew");
            }
            let sent = self.checkpoint.sent;
            self.checkpoint = Checkpoint::new(self.push.image, name);
            self.checkpoint.sent = sent;
        }
        loop {
            let began = self.clock.now();
            let stage = self.checkpoint.stage;
            let walked = match stage {
                Stage::Done { .. } => break,
                Stage::Write { .. } | Stage::WriteAgain { .. } => self.write(&mut line, &disk),
                Stage::Read { .. } | Stage::ReadAgain { .. } => self.read(&mut line, &disk),
            };
            self.spent[usize::from(!stage.writes())] += self.clock.now().since(began);
            walked?;
            self.checkpoint.stage = self.after(stage)?;
            self.keep();
        }
        line.leave();
        Ok(())
    }

    /// The stage after one that is over.
    fn after(&mut self, stage: Stage) -> Result<Stage, Trouble> {
        let millis = self.spent.map(|spent| spent.as_millis() as u64);
        let done = Stage::Done { millis: (millis[0], millis[1]) };
        Ok(match stage {
            Stage::Write { .. } => Stage::Read { from: 0 },
            Stage::WriteAgain { .. } => Stage::ReadAgain { from: 0 },
            Stage::Read { .. } if self.checkpoint.wrong.is_empty() => done,
            Stage::Read { .. } => {
                let extents = self.checkpoint.wrong.iter().map(ExactSizeIterator::len).sum::<usize>();
                log::warn!(target: "iscsi", attempt:% = self.push.attempt, extents; "read back otherwise, written again");
                Stage::WriteAgain { from: 0 }
            }
            Stage::ReadAgain { .. } | Stage::Done { .. } => done,
        })
    }

    fn course<'m>(&self, manifest: &'m Manifest, holes: usize) -> Course<'m> {
        let extents = manifest.extents().len();
        let ranges = match self.checkpoint.stage {
            Stage::WriteAgain { .. } | Stage::ReadAgain { .. } => self.checkpoint.wrong.clone(),
            _ => iter::once(0..extents).collect(),
        };
        Course::new(manifest, ranges, self.checkpoint.stage.from(), holes)
    }

    /// Makes the disk hold the image's octets, and holes where it has holes.
    fn write(&mut self, line: &mut Line<'_>, disk: &Disk) -> Result<(), Trouble> {
        let (reader, pieces) = (Arc::clone(&self.reader), pieces(disk)?);
        let mut course = self.course(reader.manifest(), course::HOLES);
        let mut loader =
            Loader::start(&self.reader, self.bell.rope().map_err(|e| Trouble::lost("beginning", &e))?)
                .map_err(|e| Trouble::lost("beginning", &e))?;
        let mut afloat = Afloat::default();
        let mut flush: Option<(OperationId, usize)> = None;
        let (mut unflushed, mut flushed) = (0, self.clock.now());
        let mut next = course.next();
        loop {
            while let Some(part) = next.take_if(|part| part.digest.is_none() || loader.has_room()) {
                match part.digest {
                    // Their order does not matter: no two parts have a block in common.
                    None if line.room() < 2 => {
                        next = Some(part);
                        break;
                    }
                    None => {
                        let length = self.length(&part, disk);
                        let id = line.submit(Operation::Zero { offset: part.offset(), length })?;
                        afloat.add(id, part.extents.start, part.offset());
                    }
                    Some(digest) => loader.want(part.extents.start, digest),
                }
                next = course.next();
            }
            while afloat.parts.len() < DEPTH && line.room() > pieces {
                let Some(loaded) = loader.poll() else { break };
                let octets = loaded.octets.map_err(Trouble::Fatal)?;
                self.send(line, disk, loaded.extent, octets, &mut afloat)?;
            }
            let is_time = unflushed >= self.pace.stake
                || (unflushed > 0 && self.clock.now().since(flushed) >= self.pace.flush)
                || (course.is_over());
            if flush.is_none() && is_time {
                (unflushed, flushed) = (0, self.clock.now());
                flush = Some((line.submit(Operation::Flush)?, course.sure()));
            }
            let until = (flush.is_none() && unflushed > 0).then_some(flushed + self.pace.flush);
            for (id, result) in line.turn(until)? {
                if let Some((_, sure)) = flush.take_if(|(flush, _)| *flush == id) {
                    self.judge(result, "flushing", 0, disk)?;
                    self.checkpoint.stage = self.checkpoint.stage.at(sure);
                    self.keep();
                    if course.is_over() && sure == course.sure() {
                        return Ok(());
                    }
                    continue;
                }
                let Some((offset, part)) = afloat.over(id) else { continue };
                self.judge(result, "writing", offset, disk)?;
                if let Some(part) = part {
                    unflushed += course.ended(part);
                }
            }
            self.say(&course);
        }
    }

    /// Octets of the disk that a part takes: up to the end of a block.
    fn length(&self, part: &Part, disk: &Disk) -> u64 {
        let end = (part.extents.end as u64 * EXTENT as u64).min(self.reader.size());
        (end - part.offset()).next_multiple_of(u64::from(disk.block_size))
    }

    fn send(
        &mut self,
        line: &mut Line<'_>,
        disk: &Disk,
        extent: usize,
        mut octets: Vec<u8>,
        afloat: &mut Afloat,
    ) -> Result<(), Trouble> {
        let begin = extent as u64 * EXTENT as u64;
        self.checkpoint.sent += octets.len() as u64;
        octets.resize(octets.len().next_multiple_of(disk.block_size as usize), 0);
        let mut octets = Bytes::from(octets);
        let mut offset = begin;
        while !octets.is_empty() {
            let data = octets.split_to(octets.len().min(disk.longest_transfer as usize));
            let length = data.len() as u64;
            let id = line.submit(Operation::Write { offset, data })?;
            afloat.add(id, extent, offset);
            offset += length;
        }
        Ok(())
    }

    /// Reads the disk and compares it with the image; what is wrong is noted, and the second time an error.
    fn read(&mut self, line: &mut Line<'_>, disk: &Disk) -> Result<(), Trouble> {
        let (reader, pieces) = (Arc::clone(&self.reader), pieces(disk)?);
        let mut course = self.course(reader.manifest(), 1);
        let mut afloat = Afloat::default();
        // What came of an extent that is not all there yet: by the octet of the image it begins at.
        let mut come: HashMap<usize, Vec<(u64, Bytes)>> = HashMap::new();
        let mut digests = HashMap::new();
        let mut kept = self.clock.now();
        while !course.is_over() {
            while afloat.parts.len() < DEPTH
                && line.room() > pieces
                && let Some(part) = course.next()
            {
                let extent = part.extents.start;
                digests.insert(extent, part.digest);
                let (mut offset, end) = (part.offset(), part.offset() + self.length(&part, disk));
                while offset < end {
                    let length = (end - offset).min(u64::from(disk.longest_transfer)) as u32;
                    let id = line.submit(Operation::Read { offset, length })?;
                    afloat.add(id, extent, offset);
                    offset += u64::from(length);
                }
            }
            for (id, result) in line.turn(None)? {
                let Some((offset, part)) = afloat.over(id) else { continue };
                let octets = self.judge(result, "reading", offset, disk)?;
                come.entry((offset / EXTENT as u64) as usize).or_default().push((offset, octets));
                let Some(extent) = part else { continue };
                let mut pieces = come.remove(&extent).unwrap_or_default();
                pieces.sort_unstable_by_key(|(offset, _)| *offset);
                self.compare(extent, digests.remove(&extent).flatten(), &pieces, disk)?;
                course.ended(extent);
            }
            if self.clock.now().since(kept) >= self.pace.flush {
                kept = self.clock.now();
                self.checkpoint.stage = self.checkpoint.stage.at(course.sure());
                self.keep();
            }
            self.say(&course);
        }
        Ok(())
    }

    /// Compares an extent, and what fills its last block, with what should be there.
    fn compare(
        &mut self,
        extent: usize,
        digest: Option<boot::Digest>,
        pieces: &[(u64, Bytes)],
        disk: &Disk,
    ) -> Result<(), Trouble> {
        let length = self.reader.manifest().extent_length(extent);
        let whole: Bytes = match pieces {
            [(_, octets)] => octets.clone(),
            pieces => pieces.iter().flat_map(|(_, octets)| octets.iter().copied()).collect(),
        };
        let (data, rest) = whole.split_at(length.min(whole.len()));
        let is_right = match digest {
            _ if data.len() < length => false,
            None => *data == image::ZEROS[..length],
            Some(digest) => image::digest(data) == digest,
        };
        if is_right && rest.iter().all(|octet| *octet == 0) {
            return Ok(());
        }
        let block = extent as u64 * EXTENT as u64 / u64::from(disk.block_size);
        let want = digest.map_or_else(|| "zeros".to_owned(), |digest| digest.to_string());
        let found = image::digest(data);
        if matches!(self.checkpoint.stage, Stage::ReadAgain { .. }) {
            return Err(Trouble::Fatal(format!(
                "the node's disk ({}) reads back {found} instead of {want} at LBA {block} (extent {extent}), \
                 though it was written twice; replace the disk",
                disk.name
            )));
        }
        log::warn!(target: "iscsi", attempt:% = self.push.attempt, block, found:%, want; "read back otherwise");
        let wrong = self.checkpoint.wrong.iter().cloned().flatten().chain([extent]);
        self.checkpoint.wrong = course::ranges(wrong);
        Ok(())
    }

    /// What a failed operation means for the push.
    fn judge(
        &mut self,
        result: Result<Bytes, Failure>,
        doing: &str,
        offset: u64,
        disk: &Disk,
    ) -> Result<Bytes, Trouble> {
        let failure = match result {
            Ok(octets) => {
                self.progress = self.clock.now();
                return Ok(octets);
            }
            Err(failure) => failure,
        };
        let block = offset / u64::from(disk.block_size);
        match failure {
            Failure::Status(..) => Err(Trouble::Fatal(format!(
                "the node's disk ({}), {doing} at LBA {block}: {failure}; look at its health and cables",
                disk.name
            ))),
            Failure::Target | Failure::Short { .. } | Failure::Lost(_) | Failure::Stopped => {
                Err(Trouble::Lost(format!("{doing} at LBA {block}: {failure}")))
            }
        }
    }

    fn keep(&self) {
        if let Err(error) = self.place.write(&self.checkpoint) {
            log::warn!(target: "iscsi", attempt:% = self.push.attempt, error:%; "checkpoint not kept");
        }
    }

    /// Tells how far it is, not too often.
    fn say(&mut self, course: &Course<'_>) {
        let (now, writes) = (self.clock.now(), self.checkpoint.stage.writes());
        let is_early = |(at, wrote): (Time, bool)| wrote == writes && now.since(at) < TELL;
        if self.told.is_some_and(is_early) {
            return;
        }
        self.told = Some((now, writes));
        let (done, total) = course.progress();
        let state =
            if writes { PushState::Writing { done, total } } else { PushState::ReadingBack { done, total } };
        (self.tell)(state);
    }
}
