//! The power cut and the kill at every step.

use super::disk::Disk;
use super::rig::{Op, Rig, image};
use crate::volume::Depth;

/// Lives of a volume that are made up.
const SEEDS: u64 = 200;

/// Numbers that look random (SplitMix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Runs operations until the power goes.
fn run(rig: &mut Rig, ops: &[Op]) {
    let Ok(mut volume) = rig.open() else { return };
    for op in ops {
        if rig.run(&mut volume, *op).is_err() {
            return;
        }
    }
}

/// What the next process does must work too, and survive the next power cut if it was flushed.
fn go_on(mut rig: Rig, what: &str) {
    let volume = &mut rig.open().unwrap();
    let sectors = rig.sectors;
    for op in [Op::Write(3, 2), Op::Zero(8, 8), Op::Write(sectors - 5, 4), Op::Flush, Op::Write(0, 9)] {
        rig.run(volume, op).unwrap();
    }
    rig.on(rig.disk.cut(&mut |_| false, 0), true, false).check_legal(&format!("{what}, went on"));
    rig.on(rig.disk.cut(&mut |_| true, usize::MAX), true, false).check_legal(&format!("{what}, went on"));
}

/// All that a power cut or a kill may leave of what `rig` did; `octets`: at how many a map's page is torn.
fn try_all(rig: &Rig, octets: impl Iterator<Item = usize>, random: &mut Random, what: &str) {
    for (part, next) in [(0, false), (512, false), (usize::MAX, true)] {
        let what = format!("{what}, killed");
        let mut after = rig.on(rig.disk.killed(part), false, next);
        drop(after.check_all(&what));
        // And the power goes before the next process did anything.
        after.on(after.disk.cut(&mut |_| false, 0), true, false).check_legal(&what);
        go_on(after, &what);
    }
    let power = |disk: Disk, next: bool, what: &str, on: bool| {
        let mut after = rig.on(disk, true, next);
        drop(after.check_legal(what));
        if on {
            go_on(after, what);
        }
    };
    let pending = rig.disk.pending();
    for count in 0..=pending {
        let what = format!("{what}, the first {count} of {pending}");
        power(rig.disk.cut(&mut |index| index < count, usize::MAX), count == pending, &what, true);
    }
    for torn in octets {
        let what = format!("{what}, torn at {torn}");
        power(rig.disk.cut(&mut |_| true, torn), false, &what, torn % 509 == 100);
    }
    for subset in 0..24 {
        let mut keeps = |_| random.below(2) == 0;
        let torn = [usize::MAX, 1000][subset % 2];
        let disk = rig.disk.cut(&mut keeps, torn);
        power(disk, subset % 4 == 0, &format!("{what}, subset {subset}"), subset == 0);
    }
}

/// How many changes and syncs the operations are.
fn steps(rig: &Rig, ops: &[Op]) -> usize {
    let disk = Disk::after(rig.disk.0.lock().unwrap().cached.clone());
    let mut whole = rig.on(disk, false, false);
    run(&mut whole, ops);
    let state = whole.disk.0.lock().unwrap();
    assert!(state.stopped.is_none());
    state.steps
}

fn stopped_at(rig: &Rig, ops: &[Op], step: usize) -> Rig {
    let disk = Disk::after(rig.disk.0.lock().unwrap().cached.clone());
    disk.0.lock().unwrap().fuse = Some(step);
    let mut rig = rig.on(disk, false, false);
    run(&mut rig, ops);
    rig
}

/// A volume of 12 blocks and a half over an image of 5 and a bit.
fn small() -> Rig {
    Rig::new(100, Some(image(43, |number| !(16..24).contains(&number))))
}

#[test]
fn power_cut_or_kill_at_every_step_leaves_each_sector_old_or_new() {
    let scripts: [&[Op]; 4] = [
        // First writes, whole and in part; over the image's end; the short last block.
        &[
            Op::Write(1, 1),
            Op::Write(8, 8),
            Op::Write(40, 12),
            Op::Flush,
            Op::Write(2, 9),
            Op::Write(96, 4),
            Op::Flush,
            Op::Write(97, 1),
            Op::Write(9, 1),
        ],
        // Zeroing, writing to what is zero, whole and in part.
        &[
            Op::Write(0, 24),
            Op::Zero(8, 8),
            Op::Flush,
            Op::Zero(30, 20),
            Op::Write(9, 2),
            Op::Flush,
            Op::Zero(0, 100),
            Op::Write(32, 8),
            Op::Flush,
            Op::Write(32, 1),
        ],
        // Layers.
        &[
            Op::Write(4, 12),
            Op::Zero(32, 8),
            Op::Freeze,
            Op::Write(6, 2),
            Op::Zero(8, 8),
            Op::Freeze,
            Op::Write(9, 1),
            Op::Flatten(Depth::Layers),
            Op::Write(33, 1),
            Op::Zero(32, 9),
            Op::Flatten(Depth::All),
            Op::Write(0, 3),
        ],
        // Many pages' worth of flushes of the same page, and closing.
        &[
            Op::Write(0, 1),
            Op::Flush,
            Op::Write(8, 1),
            Op::Flush,
            Op::Write(16, 1),
            Op::Reopen,
            Op::Write(24, 1),
            Op::Flush,
            Op::Zero(24, 8),
            Op::Reopen,
            Op::Write(25, 1),
        ],
    ];
    let mut random = Random(1);
    for (number, script) in scripts.iter().enumerate() {
        let rig = small();
        // A file system that cannot punch holes leaves what was there.
        rig.disk.0.lock().unwrap().stubborn = number == 2;
        let steps = steps(&rig, script);
        assert!(steps > 10);
        for step in 0..=steps {
            let rig = stopped_at(&rig, script, step);
            let is_map = rig.disk.is_last_of_map();
            // Every octet once; where another script tears the same page, some.
            let octets = (0..if is_map { 4096 } else { 0 }).step_by(if number == 0 { 1 } else { 61 });
            try_all(&rig, octets, &mut random, &format!("script {number}, step {step} of {steps}"));
        }
    }
}

#[test]
fn power_cuts_and_kills_one_after_the_other_lose_nothing_that_was_flushed() {
    let base = image(4096 + 3, |number| number < 2048);
    for seed in 0..SEEDS {
        let mut random = Random(seed);
        // Three pages of the map; what is written lies at their borders.
        let page = crate::volume::page::PER_PAGE * 8;
        let places = [0, page - 20, 2 * page - 30, 2 * page + 100];
        let mut rig = Rig::new(2 * page + 160, Some(base.clone()));
        rig.disk.0.lock().unwrap().stubborn = seed % 4 == 0;
        rig.windows = places.iter().map(|place| *place..place + 60).collect();
        for life in 0..6 {
            let fuse = random.below(60) as usize;
            let disk = Disk::after(rig.disk.0.lock().unwrap().cached.clone());
            disk.0.lock().unwrap().fuse = Some(fuse);
            rig = rig.on(disk, false, false);
            let Ok(mut volume) = rig.open() else { continue };
            loop {
                let first = places[random.below(4) as usize] + random.below(40);
                let count = random.below(20) + 1;
                let op = match random.below(16) {
                    0..8 => Op::Write(first, count),
                    8..11 => Op::Zero(first, count),
                    11..13 => Op::Flush,
                    13 if rig.chain.0.len() < 4 => Op::Freeze,
                    14 => Op::Flatten([Depth::Layers, Depth::All][random.below(2) as usize]),
                    _ => Op::Reopen,
                };
                if rig.run(&mut volume, op).is_err() {
                    break;
                }
            }
            let what = format!("seed {seed}, life {life}, after {fuse} steps");
            let next = random.below(2) == 0;
            if random.below(4) == 0 {
                rig = rig.on(rig.disk.killed([0, 512, usize::MAX][random.below(3) as usize]), false, next);
                rig.check_all(&what);
            } else {
                let torn = random.below(4097) as usize;
                let lucky = random.below(3);
                let disk = rig.disk.cut(&mut |_| random.below(3) <= lucky, torn);
                rig = rig.on(disk, true, next);
                rig.check_legal(&what);
            }
        }
    }
}
