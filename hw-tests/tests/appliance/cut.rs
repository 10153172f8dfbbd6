//! The power is cut at any moment of an update: the box starts and serves, from one slot or the other.

use super::lone::{Lone, Start, copy, flash};
use super::update::release;
use super::writes::Log;
use super::{WHOLE, directory};
use control::ApplianceView;
use hw_tests::artifact::cpio::Archive;
use rack::Stage;
use sansio::sim::Dice;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) const OLD: &str = "0.7.1";
pub(super) const NEW: &str = "0.7.2";
/// Cuts when nobody says how many: `KILN_CUTS=50`.
const CUTS: u64 = 6;
/// Machines at once.
const AT_ONCE: usize = 2;

pub(super) fn view(lone: &Lone) -> Option<ApplianceView> {
    lone.json::<ApplianceView>(&["appliance", "show"]).ok().filter(|view| view.box_.is_some())
}

/// A whole update, every write of it in a log; returns how many there were before it began.
fn update(folder: &Path, disk: &Path, log: &Path, bundle: &Path) -> u64 {
    let mut lone = Lone::start(folder, disk, Start::Logged(log));
    lone.wait(WHOLE, "the box to serve", view);
    let before = Log::open(log).len();
    let said = lone.kiln(&["appliance", "update", &bundle.display().to_string()]).unwrap();
    println!("{said}");
    before
}

/// What the box is after a cut: it starts, serves, and knows what became of the update.
pub(super) fn starts(folder: &Path, disk: &Path, from: Start, what: &str) -> String {
    let mut lone = Lone::start(folder, disk, from);
    let view = lone.wait(WHOLE, &format!("the box to serve after {what}"), view);
    let here = view.box_.unwrap();
    assert_eq!(here.troubles, Vec::<String>::new(), "{what}");
    let running = here.slots.iter().find(|slot| slot.slot == here.slot).unwrap();
    let version = running.version.clone().unwrap();
    assert!([OLD, NEW].contains(&version.as_str()), "{what}: {here:?}");
    let update = view.update.and_then(|update| update.stage);
    if matches!(&update, Some(Stage::Good { .. })) {
        assert_eq!(version, NEW, "{what}");
    }
    format!("{version}, {}", update.map_or_else(|| "nothing of it".to_owned(), |stage| stage.to_string()))
}

#[test]
fn a_box_whose_power_is_cut_in_the_middle_of_an_update_starts_and_serves() {
    let folder = directory("image-cut");
    // What an earlier run left.
    let _ = std::fs::remove_dir_all(&folder);
    let [old, new] = [OLD, NEW].map(|version| release(version, "ours", &Archive::default()));
    let disk = flash(&old.disk, &folder);
    {
        // Its first start makes the data partition, which is not what is cut here.
        let mut lone = Lone::start(&folder, &disk, Start::Bios);
        lone.wait(WHOLE, "the box to say that its slot is good", |lone| {
            lone.console().contains("slot A is good").then_some(())
        });
    }
    let base = folder.join("base.img");
    copy(&disk, &base);
    let log = folder.join("writes.log");
    let before = update(&folder, &disk, &log, &new.bundle);
    let log = Log::open(&log);
    let (cuts, seed) = (number("KILN_CUTS", CUTS), number("KILN_SEED", u64::from(std::process::id())));
    println!("{} writes and flushes, the update from {before} on; {cuts} cuts, KILN_SEED={seed}", log.len());
    let each = |number: u64| {
        // One in each of as many parts of the way, anywhere in it.
        let mut random = Dice::new(seed.wrapping_mul(1000) + number);
        let part = ((log.len() - before) / cuts).max(1);
        let cut = before + number * part + random.below(part);
        let here = folder.join(format!("cut-{number}"));
        let disk = cut_off(&folder, &here, |disk| {
            copy(&base, disk);
            log.replay(disk, cut, &mut random);
        });
        let came = starts(&here, &disk, Start::Bios, &format!("cut {number} at {cut} (KILN_SEED={seed})"));
        println!("cut {number} at {cut}: {came}");
        std::fs::remove_dir_all(&here).unwrap();
    };
    some_at_once(cuts, &each);
}

/// A number that somebody may say in the environment.
pub(super) fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |said| said.parse().unwrap())
}

/// The folder of a box whose power was cut, with the stick of another, and its disk as `leave` makes it.
pub(super) fn cut_off(folder: &Path, here: &Path, leave: impl FnOnce(&Path)) -> PathBuf {
    std::fs::create_dir_all(here).unwrap();
    for name in ["stick.img", "token"] {
        copy(&folder.join(name), &here.join(name));
    }
    let disk = here.join("disk.img");
    leave(&disk);
    disk
}

/// Does so many pieces of work, as many of them at once as there are to be machines.
pub(super) fn some_at_once(count: u64, each: &(dyn Fn(u64) + Sync)) {
    let next = AtomicU64::new(0);
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            each(number);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
}
