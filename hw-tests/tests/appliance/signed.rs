//! Updates of a box with Secure Boot: its firmware has keys, its boot loader counts nothing.

use super::cut::{NEW, OLD, cut_off, number, some_at_once, starts, view};
use super::lone::{Lone, Start, copy, flash};
use super::secure::{signed_by, taken};
use super::update::{broken, owner, release, signer};
use super::writes::Log;
use super::{WHOLE, directory};
use hw_tests::artifact::Workshop;
use hw_tests::artifact::appliance::{Content, Image, Release, SLOT_OFFSETS, bundle};
use hw_tests::artifact::cpio::Archive;
use rack::{BoxFact, Slot, Stage};
use sansio::sim::Dice;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Cuts when nobody says how many: `KILN_CUTS=50`.
const CUTS: u64 = 2;

/// A bundle of the new system, with another kernel image or none.
fn with_kernel(made: &Image, kernel: Option<&[u8]>, name: &str, folder: &Path) -> PathBuf {
    let (file, out) = (folder.join(format!("{name}.efi")), folder.join(format!("{name}.raucb")));
    if let Some(kernel) = kernel {
        fs::write(&file, kernel).unwrap();
    }
    let content = Content { slot: &made.slot, kernel: kernel.map(|_| file.as_path()) };
    let release = Release { version: NEW.to_owned(), commit: "of-a-test".to_owned() };
    let scratch = folder.join(format!("{name}.scratch"));
    bundle(&Workshop::open().unwrap(), &content, &release, &signer("ours"), &scratch, &out).unwrap();
    fs::remove_dir_all(&scratch).unwrap();
    out
}

fn update(lone: &Lone, bundle: &Path) -> Result<String, String> {
    lone.kiln(&["appliance", "update", &bundle.display().to_string()])
}

fn here(lone: &mut Lone) -> BoxFact {
    lone.wait(WHOLE, "the box to serve", view).box_.unwrap()
}

fn version(here: &BoxFact, slot: Slot) -> Option<&str> {
    here.slots.iter().find(|there| there.slot == slot).unwrap().version.as_deref()
}

/// Bundles that such a box may not start leave it as it is.
fn refused(lone: &mut Lone, made: &Image, folder: &Path) {
    let without = with_kernel(made, None, "without", folder);
    let why = update(lone, &without).unwrap_err();
    assert!(why.contains("the bundle has no signed kernel image") && why.contains("--owner"), "{why}");
    assert_eq!(version(&here(lone), Slot::B), None, "nothing was written");

    let kernel = taken(&made.secure, "EFI/Linux/kiln-a.efi", folder);
    let theirs = signed_by(&owner("stranger"), &kernel, folder);
    let mut altered = kernel;
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    for (name, kernel, words) in [
        ("stranger", theirs, "it was signed by somebody whom this box's firmware does not trust"),
        ("altered", altered, "it was altered after it was signed"),
    ] {
        let why = update(lone, &with_kernel(made, Some(&kernel), name, folder)).unwrap_err();
        println!("{name}: {why}");
        assert!(why.contains(words), "{name}: {why}");
        let here = here(lone);
        assert_eq!(here.slot, Slot::A, "{name}: {here:?}");
        assert!(here.slots.iter().any(|slot| slot.slot == Slot::B && !slot.good && !slot.trial), "{here:?}");
        assert!(!is_armed(&folder.join("vars.fd")), "{name}: it is not to be started");
    }
}

/// systemd-boot's variables of what it starts once, and of what it starts instead of loader.conf's.
const ONCE: &str = "LoaderEntryOneShot\0";
const INSTEAD: &str = "LoaderEntryDefault\0";

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// Where in a firmware's memory the names of such variables are that are in force.
fn found(octets: &[u8], name: &str) -> Vec<usize> {
    let name = utf16(name);
    let names = octets.windows(name.len()).enumerate().filter(|(_, there)| *there == name);
    // EDK2's AUTHENTICATED_VARIABLE_HEADER is 60 octets before the name; in it, behind two, the state: VAR_ADDED.
    names.map(|(at, _)| at).filter(|at| *at >= 58 && octets[at - 58] == 0x3f).collect()
}

/// Whether the firmware's variables say that systemd-boot is to start something once.
fn is_armed(variables: &Path) -> bool {
    !found(&fs::read(variables).unwrap(), ONCE).is_empty()
}

/// When systemd-boot was told to start the new slot, in lines of the log of writes.
#[derive(Clone, Copy, Debug, Default)]
struct Armed {
    /// Not yet.
    before: u64,
    /// By now.
    from: u64,
    /// Not any more.
    to: u64,
}

/// Watches for that, and keeps the variables as they are then in `armed.fd`, until it is told that all is over.
fn watch(folder: &Path, log: &Path, is_over: &AtomicBool) -> Armed {
    let variables = folder.join("vars.fd");
    let mut seen = Armed::default();
    while !is_over.load(Ordering::Relaxed) {
        let length = Log::open(log).len();
        match (is_armed(&variables), seen.from) {
            (false, 0) => seen.before = length,
            (true, 0) => {
                copy(&variables, &folder.join("armed.fd"));
                // Else it was consumed meanwhile, which takes a restart.
                assert!(is_armed(&folder.join("armed.fd")));
                seen.from = length;
            }
            (false, _) if seen.to == 0 => seen.to = length,
            _ => {}
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
    seen
}

#[test]
fn a_box_with_secure_boot_is_updated_by_its_owner_alone_and_comes_back_wherever_that_ends() {
    let folder = directory("image-signed");
    let _ = fs::remove_dir_all(&folder);
    let [old, new] = [OLD, NEW].map(|version| release(version, "ours", &Archive::default()));
    let worse = release("0.7.3", "ours", &broken());
    let disk = flash(&old.secure, &folder);
    let (base, log) = (folder.join("base.img"), folder.join("writes.log"));
    copy(&disk, &base);
    let mut lone = Lone::start(&folder, &disk, Start::SecureLogged(&log));
    let first = here(&mut lone);
    assert!(first.updatable && first.slot == Slot::A, "{first:?}");
    refused(&mut lone, &new, &folder);

    let before = Log::open(&log).len();
    let is_over = AtomicBool::new(false);
    let armed = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&folder, &log, &is_over));
        let said = update(&lone, &new.bundle);
        is_over.store(true, Ordering::Relaxed);
        println!("{}", said.unwrap_or_else(|why| panic!("{why}\n{}", lone.console())));
        watcher.join().unwrap()
    });
    let after = Log::open(&log).len();
    println!("{after} writes and flushes, the update from {before} on, {armed:?}");
    assert!(before < armed.before && armed.before <= armed.from && armed.from <= armed.to, "{armed:?}");
    let second = lone.wait(WHOLE, "the box to serve", view);
    let there = second.box_.unwrap();
    assert_eq!((there.slot, version(&there, Slot::B)), (Slot::B, Some(NEW)), "{there:?}");
    assert!(matches!(second.update.unwrap().stage, Some(Stage::Good { slot: Slot::B, .. })));
    assert!(lone.console().contains("slot B, Secure Boot"), "{}", lone.console());

    // Nothing is asked of the boot loader for the way back: it starts slot B because that is the default now.
    let why = update(&lone, &worse.bundle).unwrap_err();
    assert!(why.contains("0.7.3 in slot A failed its trial"), "{why}");
    let back = here(&mut lone);
    assert_eq!((back.slot, version(&back, Slot::B)), (Slot::B, Some(NEW)), "{back:?}");
    assert!(back.slots.iter().any(|slot| slot.slot == Slot::A && !slot.good && !slot.trial), "{back:?}");
    assert!(!lone.console().contains("WRONG"), "{}", lone.console());
    drop(lone);
    let (log, cuts) = (Log::open(&log), number("KILN_CUTS", CUTS));
    some_at_once(cuts + 1, &|number| match number.checked_sub(1) {
        None => turned(&folder, &base, &log, after),
        Some(number) => cut(&folder, &base, &log, before..after, armed, number),
    });
}

/// The slot that is preferred, by the firmware's variables too, is damaged while the box is off: the other one is
/// started, and preferred from then on.
fn turned(folder: &Path, base: &Path, log: &Log, updated: u64) {
    let here = folder.join("turned");
    let disk = cut_off(folder, &here, |disk| {
        copy(base, disk);
        log.replay(disk, updated, &mut Dice::new(0));
        let slot = fs::File::options().write(true).open(disk).unwrap();
        slot.write_all_at(&[0; 4096], SLOT_OFFSETS[1]).unwrap();
    });
    let mut variables = fs::read(folder.join("armed.fd")).unwrap();
    for at in found(&variables, ONCE) {
        variables[at..at + 2 * INSTEAD.len()].copy_from_slice(&utf16(INSTEAD));
    }
    assert!(!found(&variables, INSTEAD).is_empty(), "slot B is chosen in systemd-boot's menu, too");
    fs::write(here.join("vars.fd"), variables).unwrap();
    let mut lone = Lone::start(&here, &disk, Start::Secure);
    let there = self::here(&mut lone);
    assert_eq!((there.slot, version(&there, Slot::A)), (Slot::A, Some(OLD)), "{there:?}");
    assert!(lone.console().contains("slot A is started next"), "{}", lone.console());
    lone.wait(WHOLE, "the box to say that its slot is good", |lone| {
        lone.console().contains("slot A is good").then_some(())
    });
    drop(lone);
    let preferred = taken(&disk, "loader/loader.conf", &here);
    assert!(preferred.starts_with(b"default kiln-a.efi\n"), "{}", String::from_utf8_lossy(&preferred));
    let variables = fs::read(here.join("vars.fd")).unwrap();
    assert_eq!(found(&variables, INSTEAD), [0; 0], "nothing overrules it");
}

/// The power is cut at a moment of the first update: half of them anywhere, half of them while the boot loader is told.
fn cut(folder: &Path, base: &Path, log: &Log, update: Range<u64>, armed: Armed, number: u64) {
    let seed = self::number("KILN_SEED", u64::from(std::process::id()));
    let mut random = Dice::new(seed.wrapping_mul(1000) + number);
    let near = armed.before.saturating_sub(100).max(update.start)..(armed.to + 10).min(update.end);
    let range = if number.is_multiple_of(2) { update } else { near };
    let cut = range.start + random.below(range.end - range.start);
    let is_told = match cut {
        cut if cut < armed.before || cut >= armed.to => false,
        cut if cut >= armed.from => true,
        _ => random.below(2) == 0,
    };
    let here = folder.join(format!("cut-{number}"));
    let disk = cut_off(folder, &here, |disk| {
        copy(base, disk);
        log.replay(disk, cut, &mut random);
    });
    let variables = if is_told { "armed.fd" } else { "vars.fd" };
    copy(&folder.join(variables), &here.join("vars.fd"));
    let what = format!("cut {number} at {cut}, told: {is_told} (KILN_SEED={seed})");
    let came = starts(&here, &disk, Start::Secure, &what);
    println!("{what}: {came}");
    fs::remove_dir_all(&here).unwrap();
}
