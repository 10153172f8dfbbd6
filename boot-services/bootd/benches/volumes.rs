//! Volumes: a clone of a 10 GiB image with 1 GiB of data, beside a raw file.
//!
//!     cargo bench --profile dev -p bootd --bench volumes
//!
//! How long until a clone's first sector is served, what ten clones take of the disk, and 4 KiB at random
//! places, written and read, through a volume and with the same calls on a raw file: microseconds a call, and
//! the ratio. All in the temporary directory; what is read is in the page cache.

use boot::{VolumeId, VolumeSource};
use bootd::library::Library;
use bootd::volumes::{OpenVolume, Volumes};
use image::{EXTENT, Terms};
use sansio::sim::Dice;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

const SIZE: u64 = 10 << 30;

/// Every tenth extent has data.
const STRIDE: u64 = 10;

const CALLS: u64 = 22_000;

/// Of volume and raw file, one after the other.
const TURNS: u64 = 11;

#[allow(clippy::disallowed_methods, reason = "a bench measures time")]
fn seconds<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let began = Instant::now();
    let done = work();
    (began.elapsed().as_secs_f64(), done)
}

/// Where a block of a data extent is.
fn block_of_data(dice: &mut Dice) -> u64 {
    let extent = dice.below(SIZE / EXTENT as u64 / STRIDE) * STRIDE;
    extent * EXTENT as u64 + dice.below(256) * 4096
}

/// The content of the image, a part at a time.
struct Content(u64);

impl Read for Content {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let rest = EXTENT as u64 - self.0 % EXTENT as u64;
        let count = (into.len() as u64).min(rest).min(SIZE - self.0) as usize;
        let part = &mut into[..count];
        if (self.0 / EXTENT as u64).is_multiple_of(STRIDE) {
            let mut random = Dice::new(self.0);
            part.chunks_mut(8)
                .for_each(|chunk| chunk.copy_from_slice(&random.roll().to_le_bytes()[..chunk.len()]));
        } else {
            part.fill(0);
        }
        self.0 += count as u64;
        Ok(count)
    }
}

fn used(path: &Path) -> u64 {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let one = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => meta.blocks() * 512 + used(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(one).sum()
}

fn id(number: usize) -> VolumeId {
    format!("clone-{number}").parse().expect("a name of letters, digits and hyphens")
}

fn row(name: &str, ours: f64, theirs: f64, calls: u64) {
    let each = |seconds: f64| seconds * 1e6 / calls as f64;
    println!("{name:<42} {:>9.2} {:>9.2} {:>7.2}", each(ours), each(theirs), ours / theirs);
}

/// Calls with random places, the same for both; in turns, and the median of the turns.
fn both(
    name: &str,
    (calls, aside): (u64, u64),
    volume: impl Fn(u64, &mut [u8]),
    raw: impl Fn(u64, &mut [u8]),
) {
    let (mut random, mut block) = (Dice::new(7), vec![3; 4096]);
    let mut turns = [Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        let places: Vec<u64> = (0..calls / TURNS).map(|_| block_of_data(&mut random) + aside).collect();
        for (work, turns) in [&volume as &dyn Fn(u64, &mut [u8]), &raw].iter().zip(&mut turns) {
            turns.push(seconds(|| places.iter().for_each(|at| work(*at, &mut block))).0);
        }
    }
    let [ours, theirs] = turns.map(|mut turns| {
        turns.sort_by(f64::total_cmp);
        turns[turns.len() / 2]
    });
    row(name, ours, theirs, calls / TURNS);
}

fn main() {
    let directory = std::env::temp_dir().join(format!("kiln-volumes-bench-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("the temporary directory takes directories");
    let root = directory.join("volumes");
    let library = Library::new(directory.join("images")).with_volumes(&root);
    let (took, imported) = seconds(|| library.import(Content(0), &Terms::default(), &mut |_| {}));
    let imported = imported.expect("there is room for it");
    println!("imported {} MiB of data in {SIZE} octets in {took:.1} s", imported.data_bytes >> 20);

    let source = VolumeSource::Image(imported.id);
    let mut times = Vec::new();
    for number in 0..10 {
        let serve = || {
            // As a process that was just started.
            let volumes = Volumes::new(&root, library.clone());
            volumes.create(&id(number), &source, SIZE).expect("there is room for it");
            let volume = volumes.open(&id(number)).expect("nobody else has it open");
            volume.read_at(0, &mut [0; 512]).expect("the image is whole");
        };
        times.push(seconds(serve).0 * 1e3);
    }
    let first = times[0];
    times.sort_by(f64::total_cmp);
    println!(
        "clone to first sector: {first:.1} ms the first of the image, {:.1} ms in the middle, {:.1} ms at most",
        times[5], times[9]
    );
    println!("ten clones: {} KiB of disk", used(&root) >> 10);

    let volumes = Volumes::new(&root, library.clone());
    let volume: Arc<OpenVolume> = volumes.open(&id(0)).expect("nobody else has it open");
    let path = directory.join("raw");
    let raw = File::options().read(true).write(true).create(true).truncate(true).open(&path);
    let raw = raw.expect("the temporary directory takes files");
    let copy = || -> io::Result<()> {
        raw.set_len(SIZE)?;
        let mut extent = vec![0; EXTENT];
        for at in (0..SIZE).step_by(STRIDE as usize * EXTENT) {
            Content(at).read_exact(&mut extent)?;
            raw.write_all_at(&extent, at)?;
        }
        Ok(())
    };
    copy().expect("there is room for it");

    let mut extent = vec![0; EXTENT];
    let pass = |volume: &OpenVolume, extent: &mut [u8]| {
        for at in (0..SIZE).step_by(STRIDE as usize * EXTENT) {
            volume.read_at(at, extent).expect("the image is whole");
        }
    };
    let cold = seconds(|| pass(&volume, &mut extent)).0;
    let known = seconds(|| pass(&volume, &mut extent)).0;
    let mib = (SIZE / EXTENT as u64 / STRIDE) as f64;
    println!(
        "reading the image through it: {:.2} ms an extent when its digest is compared, {:.2} ms after that",
        cold * 1e3 / mib,
        known * 1e3 / mib
    );

    println!("\n{:<42} {:>9} {:>9} {:>7}", "4 KiB at random", "volume us", "raw us", "ratio");
    let read = |at: u64, block: &mut [u8]| volume.read_at(at, block).expect("it is there");
    let raw_read = |at: u64, block: &mut [u8]| raw.read_exact_at(block, at).expect("it is there");
    let write = |at: u64, block: &mut [u8]| volume.write_at(at, block).expect("there is room");
    let raw_write = |at: u64, block: &mut [u8]| raw.write_all_at(block, at).expect("there is room");
    both("read of the image", (CALLS, 0), read, raw_read);
    both("write, most of them a block's first", (CALLS, 0), write, raw_write);
    both("write again", (CALLS, 0), write, raw_write);
    both("read of what was written", (CALLS, 0), read, raw_read);
    let ours = seconds(|| volume.flush().expect("the disk keeps it")).0;
    let theirs = seconds(|| raw.sync_data().expect("the disk keeps it")).0;
    row("flush of that", ours, theirs, 1);
    let flush = |at: u64, block: &mut [u8]| {
        volume.write_at(at, block).and_then(|()| volume.flush()).expect("the disk keeps it");
    };
    let raw_flush = |at: u64, block: &mut [u8]| {
        raw.write_all_at(block, at).and_then(|()| raw.sync_data()).expect("the disk keeps it");
    };
    // Where neither had anything; then in the same places.
    for name in ["first write and flush, each", "write again and flush, each"] {
        both(name, (20 * TURNS, EXTENT as u64), flush, raw_flush);
    }
    drop(volume);
    if let Err(error) = fs::remove_dir_all(&directory) {
        println!("{} stays: {error}", directory.display());
    }
}
