//! Bits that flip and files that go, behind the store's back.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod suite;

use std::fs;
use std::path::{Path, PathBuf};
use suite::{Model, Random, SLED, copy_dir, files, options, run_to};

const COMMITS: u64 = 200;

/// A store after [`COMMITS`] commits, as an unclean stop leaves it, and the same closed.
struct Specimens {
    dir: tempfile::TempDir,
    model: Model,
}

impl Specimens {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let live = dir.path().join("closed");
        let (mut store, _) = (SLED.open)(&live, options()).unwrap();
        run_to(&mut *store, COMMITS);
        // Nothing is written between commits, and all that was is in the files.
        copy_dir(&live, &dir.path().join("unclean"));
        drop(store);
        let mut model = Model::new();
        model.advance(COMMITS);
        Specimens { dir, model }
    }

    /// Copies one, does the damage, and opens or recovers it: all must be there. What it took, in words.
    fn survive(&self, which: &str, damage: impl FnOnce(&Path)) -> String {
        let copy = self.dir.path().join("copy");
        let _ = fs::remove_dir_all(&copy);
        copy_dir(&self.dir.path().join(which), &copy);
        damage(&copy);
        let said = match (SLED.open)(&copy, options()) {
            Ok((store, findings)) => {
                self.model.expect(&*store);
                format!("opened; {}", findings.join("; "))
            }
            Err(error) => {
                assert!(error.is_damage(), "{error}");
                let (store, lost) = (SLED.recover)(&copy, options()).unwrap();
                assert_eq!(lost, 0, "{error}");
                self.model.expect(&*store);
                error.to_string()
            }
        };
        let (mut store, findings) = (SLED.open)(&copy, options()).unwrap();
        assert!(findings.is_empty(), "put in order, but still {findings:?}");
        self.model.expect(&*store);
        run_to(&mut *store, COMMITS + 70);
        said
    }

    fn files(&self, which: &str) -> Vec<PathBuf> {
        let dir = self.dir.path().join(which);
        files(&dir).iter().map(|path| path.strip_prefix(&dir).unwrap().to_owned()).collect()
    }
}

fn flip(path: &Path, random: &mut Random) -> (u64, u8) {
    let mut bytes = fs::read(path).unwrap();
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let (at, bit) = (used[random.below(used.len() as u64) as usize], random.below(8) as u8);
    bytes[at] ^= 1 << bit;
    fs::write(path, bytes).unwrap();
    (at as u64, bit)
}

#[test]
fn a_flipped_bit_loses_nothing_and_is_said() {
    let specimens = Specimens::new();
    let mut random = Random(1 + u64::from(std::process::id()));
    println!("seed {}", random.0);
    for round in 0..40 {
        let which = if round % 3 == 0 { "closed" } else { "unclean" };
        let names = specimens.files(which);
        // Half of them in the database itself.
        let name = match round % 2 {
            0 => PathBuf::from("sled/db"),
            _ => names[random.below(names.len() as u64) as usize].clone(),
        };
        let mut place = (0, 0);
        let said = specimens.survive(which, |copy| place = flip(&copy.join(&name), &mut random));
        println!("{which} {} byte {} bit {}: {said}", name.display(), place.0, place.1);
        if name.starts_with("journal") || name.starts_with("snapshots") || name.starts_with("FORMAT") {
            assert_ne!(said, "opened; ", "every byte of {} is checked", name.display());
        }
    }
}

#[test]
fn a_file_that_is_gone_loses_nothing() {
    let specimens = Specimens::new();
    for which in ["closed", "unclean"] {
        for name in specimens.files(which) {
            let said = specimens.survive(which, |copy| fs::remove_file(copy.join(&name)).unwrap());
            println!("{which} {} gone: {said}", name.display());
        }
        for name in ["sled", "journal", "snapshots"] {
            let said = specimens.survive(which, |copy| fs::remove_dir_all(copy.join(name)).unwrap());
            println!("{which} {name} gone: {said}");
            assert_ne!(said, "opened; ");
        }
    }
}

#[test]
fn a_file_cut_short_loses_nothing() {
    let specimens = Specimens::new();
    let mut random = Random(7);
    for name in specimens.files("unclean") {
        let said = specimens.survive("unclean", |copy| {
            let path = copy.join(&name);
            let length = fs::metadata(&path).unwrap().len();
            fs::File::options().write(true).open(&path).unwrap().set_len(random.below(length)).unwrap();
        });
        println!("{} cut: {said}", name.display());
    }
}
