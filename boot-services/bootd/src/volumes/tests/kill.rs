//! A process that is killed: nothing that it was told is done may be missing.

use super::{Stage, noise, read};
use crate::volumes::{OpenVolume, Volumes, VolumesError};
use boot::{VolumeId, VolumeSource};
use core::ops::ControlFlow;
use image::volume::Depth;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

const CHILD: &str = "KILN_TEST_VOLUMES";

const OPS: usize = 100_000;

/// Numbers that look random (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

#[derive(Clone, Debug)]
enum Op {
    Write(u64, Vec<u8>),
    Zero(u64, u64),
    Flush,
    Copy,
    Remove,
    Flatten(Depth),
    Reopen,
}

/// The operations of a seed; each process goes on with those that follow the ones that are done.
fn op(seed: u64, number: usize, size: u64) -> Op {
    let mut random = Random(seed * 1_000_003 + number as u64);
    let first = random.below(size / 512);
    let count = (random.below(40) + 1).min(size / 512 - first);
    match random.below(100) {
        0..65 => Op::Write(first * 512, noise(number as u8, count as usize * 512)),
        65..82 => Op::Zero(first * 512, count * 512),
        82..90 => Op::Flush,
        90..93 => Op::Copy,
        93..96 => Op::Remove,
        96..98 => Op::Reopen,
        98 => Op::Flatten(Depth::Layers),
        _ => Op::Flatten(Depth::All),
    }
}

fn copy_id(number: usize) -> VolumeId {
    format!("copy-{}", number % 3).parse().unwrap()
}

/// Copies as a person does: where too many layers are stacked up by then, they are made one first.
fn copy(volumes: &Volumes, to: &VolumeId, from: &VolumeId, size: u64) {
    let source = VolumeSource::Volume(from.clone());
    match volumes.create(to, &source, size) {
        Err(VolumesError::Volume { source: image::volume::VolumeError::TooDeep { .. }, .. }) => {
            let done = volumes.flatten(from, Depth::Layers, &mut |_| ControlFlow::Continue(())).unwrap();
            assert!(done.is_continue());
            volumes.create(to, &source, size).unwrap();
        }
        done => drop(done.unwrap()),
    }
}

fn perform(volumes: &Volumes, volume: &mut Option<Arc<OpenVolume>>, number: usize, op: Op) {
    let id: VolumeId = "a".parse().unwrap();
    let open = volume.as_ref().unwrap();
    match op {
        Op::Write(offset, octets) => open.write_at(offset, &octets).unwrap(),
        Op::Zero(offset, length) => open.zero(offset, length).unwrap(),
        Op::Flush => open.flush().unwrap(),
        Op::Copy => {
            volumes.remove(&copy_id(number)).unwrap();
            copy(volumes, &copy_id(number), &id, open.size());
        }
        Op::Remove => {
            volumes.remove(&copy_id(number)).unwrap();
        }
        Op::Flatten(depth) => {
            let done = volumes.flatten(&id, depth, &mut |_| ControlFlow::Continue(())).unwrap();
            assert!(done.is_continue());
        }
        Op::Reopen => {
            *volume = None;
            *volume = Some(volumes.open(&id).unwrap());
        }
    }
}

/// What the test below kills.
#[test]
fn child_that_writes_to_a_volume() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let mut told = told.split(' ');
    let mut next = || told.next().unwrap();
    let (root, images) = (next(), next());
    let (seed, from): (u64, usize) = (next().parse().unwrap(), next().parse().unwrap());
    let volumes = Volumes::new(root, crate::library::Library::new(images).with_volumes(root));
    volumes.sweep().unwrap();
    let mut volume = Some(volumes.open(&"a".parse().unwrap()).unwrap());
    let size = volume.as_ref().unwrap().size();
    let mut out = std::io::stdout().lock();
    for number in from..OPS {
        perform(&volumes, &mut volume, number, op(seed, number, size));
        writeln!(out, "\ndone {number}").and_then(|()| out.flush()).unwrap();
    }
}

fn child(stage: &Stage, seed: u64, from: usize) -> Child {
    let told = format!("{} {} {seed} {from}", stage.volumes.root().display(), stage.library.root().display());
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "volumes::tests::kill::child_that_writes_to_a_volume", "--nocapture"])
        .env(CHILD, told)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What the volumes hold, by the operations that are done.
#[derive(Clone)]
struct Model {
    content: Vec<u8>,
    copies: BTreeMap<VolumeId, Vec<u8>>,
}

impl Model {
    fn apply(&mut self, number: usize, op: &Op) {
        match op {
            Op::Write(offset, octets) => {
                self.content[*offset as usize..][..octets.len()].copy_from_slice(octets);
            }
            Op::Zero(offset, length) => self.content[*offset as usize..][..*length as usize].fill(0),
            Op::Copy => drop(self.copies.insert(copy_id(number), self.content.clone())),
            Op::Remove => drop(self.copies.remove(&copy_id(number))),
            Op::Flush | Op::Flatten(_) | Op::Reopen => {}
        }
    }
}

#[test]
fn a_process_killed_thirty_times_loses_nothing_that_it_said_was_done() {
    let stage = Stage::new();
    drop(stage.clone_as("a"));
    let size = stage.content.len() as u64;
    let mut model = Model { content: stage.content.clone(), copies: BTreeMap::new() };
    let (seed, mut from) = (u64::from(std::process::id()), 0);
    let mut random = Random(seed);
    for life in 0..30 {
        let mut child = child(&stage, seed, from);
        let wanted = from + random.below(120) as usize;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let number = |line: String| line.strip_prefix("done ").and_then(|n| n.parse::<usize>().ok());
        let mut last = lines.by_ref().map(|line| line.unwrap()).filter_map(number).find(|n| *n >= wanted);
        assert!(last.is_some(), "seed {seed}, life {life}: the child ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
        last = lines.map(|line| line.unwrap()).filter_map(number).last().or(last);
        let done = last.unwrap() + 1;
        for number in from..done {
            model.apply(number, &op(seed, number, size));
        }
        // The next one may be done, not, or in part.
        let mut next = model.clone();
        let under_way = op(seed, done, size);
        next.apply(done, &under_way);
        let what = format!("seed {seed}, life {life}, {done} done, {under_way:?} under way");

        let volumes = Volumes::new(stage.volumes.root(), stage.library.clone());
        volumes.sweep().unwrap();
        let volume = volumes.open(&stage.id("a")).unwrap();
        let found = read(&volume);
        for (at, found) in found.chunks(512).enumerate() {
            let is = |model: &Model| model.content[at * 512..][..found.len()] == *found;
            assert!(is(&model) || is(&next), "{what}: sector {at}");
        }
        model.content = found;
        let mut there: BTreeMap<VolumeId, Vec<u8>> = BTreeMap::new();
        for listed in volumes.list().unwrap() {
            if listed.id != stage.id("a") {
                there.insert(listed.id.clone(), read(&volumes.open(&listed.id).unwrap()));
            }
        }
        // One that is made anew is removed before.
        if matches!(under_way, Op::Copy) && !there.contains_key(&copy_id(done)) {
            next.copies.remove(&copy_id(done));
        }
        assert!(there == model.copies || there == next.copies, "{what}: {:?}", there.keys());
        model.copies = there;
        assert_eq!(volumes.scrub(&mut |_| {}).unwrap(), [], "{what}");
        from = done;
        // The one under way is skipped if it was done, repeated if not: either is right.
    }
}
