use super::*;
use crate::place::light;
use crate::{Batch, Finding, Store, Table};

/// A next format, as a release that is yet to come might have it: every setting has another key, and every event a
/// word more.
const NEXT: Format = Format { number: 2, steps: &[Step { from: 1, change: to_two }] };
const THIRD: Format =
    Format { number: 3, steps: &[Step { from: 1, change: to_two }, Step { from: 2, change: |_| Ok(()) }] };

fn to_two(records: &mut Records) -> Result<(), String> {
    let all = std::mem::take(records);
    records.extend(all.into_iter().map(|(mut raw, mut value)| {
        match raw.first() {
            Some(&table) if table == Table::Setting as u8 => raw.splice(1..1, *b"new-").for_each(drop),
            Some(0) => value.extend_from_slice(b" two"),
            _ => {}
        }
        (raw, value)
    }));
    Ok(())
}

fn options(format: Format) -> Options {
    Options { snapshot_every: 10, format, ..Options::default() }
}

fn open(dir: &Path, format: Format) -> Result<Sled, StoreError> {
    Sled::open(dir, options(format))
}

fn batch(number: u64) -> Batch {
    Batch::new()
        .put(Table::Setting, "number", format!("\x01{number}"))
        .put(Table::Node, format!("n{}", number % 7), format!("\x01{number}"))
        .event(format!("\x01e{number}"))
}

fn run_to(sled: &mut Sled, number: u64) {
    while sled.newest_commit().0 < number {
        sled.commit(batch(sled.newest_commit().0 + 1)).unwrap();
    }
}

fn old(commits: u64) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    run_to(&mut open(dir.path(), Format::CURRENT).unwrap(), commits);
    dir
}

fn setting(sled: &Sled, key: &str) -> Option<String> {
    let value = sled.get(Table::Setting, key).unwrap();
    value.map(|value| String::from_utf8(value).unwrap())
}

/// The store is that of the older release after so many commits.
fn expect_old(sled: &Sled, number: u64) {
    assert_eq!(setting(sled, "number"), Some(format!("\x01{number}")));
    assert_eq!(setting(sled, "new-number"), None);
    let events = sled.events(EventNumber(0), usize::MAX).unwrap();
    let expected = (1..=number).map(|at| (EventNumber(at), format!("\x01e{at}").into_bytes()));
    assert!(events.into_iter().eq(expected));
}

/// The store is that of the newer release, migrated after so many commits.
fn expect_new(sled: &Sled, number: u64) {
    assert_eq!(setting(sled, "new-number"), Some(format!("\x01{number}")));
    assert_eq!(setting(sled, "number"), None);
    let events = sled.events(EventNumber(number - 1), 1).unwrap();
    assert_eq!(events, [(EventNumber(number), format!("\x01e{number} two").into_bytes())]);
    assert_eq!(sled.newest_commit(), CommitNumber(number));
}

fn taken_up(sled: &Sled) -> TakenUp {
    let taken = sled.findings().iter().find_map(|finding| match finding {
        Finding::TakenUp(taken) => Some(taken.clone()),
        _ => None,
    });
    taken.unwrap_or_else(|| panic!("{:?}", sled.findings()))
}

#[test]
fn a_migrated_store_is_found_again_by_the_older_release_as_it_was_before() {
    let dir = old(25);
    let mut new = open(dir.path(), NEXT).unwrap();
    expect_new(&new, 25);
    for number in 26..=29 {
        new.commit(Batch::new().put(Table::Setting, "new-number", format!("\x01{number}")).event("\x01e"))
            .unwrap();
    }
    drop(new);
    // Nothing is migrated twice.
    assert_eq!(setting(&open(dir.path(), NEXT).unwrap(), "new-number").unwrap(), "\x0129");

    let mut sled = open(dir.path(), Format::CURRENT).unwrap();
    expect_old(&sled, 25);
    let taken = taken_up(&sled);
    assert_eq!((taken.newer, taken.restored, taken.newest), (2, CommitNumber(25), CommitNumber(29)));
    assert!(taken.to_string().contains("the 4 commits after it up to 29 are undone"), "{taken}");
    // What somebody may have seen is not given again.
    let commit = sled.commit(Batch::new().event("\x01after")).unwrap();
    assert_eq!((commit.number, commit.event(0)), (CommitNumber(30), Some(EventNumber(30))));
    drop(sled);
    let sled = open(dir.path(), Format::CURRENT).unwrap();
    assert_eq!(sled.findings(), []);

    // What the newer release left is a whole store still.
    let aside = dir.path().join("aside/format-2-1");
    assert_eq!(taken.aside, aside);
    assert_eq!(setting(&open(&aside, NEXT).unwrap(), "new-number").unwrap(), "\x0129");
}

#[test]
fn going_forth_and_back_again_and_again_loses_nothing_of_the_older_release() {
    let dir = old(12);
    for round in 1..=3 {
        drop(open(dir.path(), NEXT).unwrap());
        let mut sled = open(dir.path(), Format::CURRENT).unwrap();
        expect_old(&sled, 11 + round);
        run_to(&mut sled, 12 + round);
    }
    assert_eq!(list(&dir.path().join("aside")).unwrap(), ["format-2-1", "format-2-2", "format-2-3"]);
    expect_new(&open(dir.path(), NEXT).unwrap(), 15);
}

#[test]
fn the_copy_goes_when_the_newer_release_is_proved_good_and_then_there_is_no_way_back() {
    let dir = old(12);
    let kept = open(dir.path(), NEXT).unwrap().kept();
    assert!(kept.is_there());
    assert_eq!(kept.forget().unwrap(), [1]);
    assert!(!kept.is_there());
    assert_eq!(kept.forget().unwrap(), [0; 0]);
    let error = open(dir.path(), Format::CURRENT).err().unwrap();
    assert!(matches!(error, StoreError::NewerFormat { format: 2, known: 1, .. }), "{error}");
    assert!(error.to_string().contains("no copy from before was kept"), "{error}");
    expect_new(&open(dir.path(), NEXT).unwrap(), 12);
}

#[test]
fn a_copy_of_any_older_format_is_taken_up_and_migrated_as_far_as_needed() {
    let dir = old(12);
    drop(open(dir.path(), THIRD).unwrap());
    // The copy is of format 1, and this release has format 2.
    expect_new(&open(dir.path(), NEXT).unwrap(), 12);
    assert_eq!(Line::read(dir.path()).unwrap(), Line::Settled(2));
    expect_old(&open(dir.path(), Format::CURRENT).unwrap(), 12);
}

#[test]
fn a_step_that_refuses_leaves_the_store_as_it_is_and_a_missing_one_is_said() {
    let dir = old(12);
    let stubborn =
        Format { number: 2, steps: &[Step { from: 1, change: |_| Err("a node is odd".to_owned()) }] };
    let error = open(dir.path(), stubborn).err().unwrap();
    assert!(error.to_string().contains("from format 1 (a node is odd) and stays as it is"), "{error}");
    let error = open(dir.path(), Format { number: 4, steps: NEXT.steps }).err().unwrap();
    assert!(matches!(error, StoreError::OlderFormat { format: 1, known: 4, .. }), "{error}");
    expect_old(&open(dir.path(), Format::CURRENT).unwrap(), 12);
    assert!(!dir.path().join("kept").exists());
}

#[test]
fn a_damaged_copy_is_not_taken_up_and_the_newer_store_not_touched() {
    let dir = old(12);
    drop(open(dir.path(), NEXT).unwrap());
    let copy = kept_path(dir.path(), 1);
    let mut bytes = fs::read(&copy).unwrap();
    bytes[100] ^= 4;
    fs::write(&copy, bytes).unwrap();
    let error = open(dir.path(), Format::CURRENT).err().unwrap();
    assert!(matches!(error, StoreError::NewerFormat { .. }), "{error}");
    expect_new(&open(dir.path(), NEXT).unwrap(), 12);
}

#[test]
fn a_damaged_store_is_recovered_in_its_own_format_and_then_migrated() {
    let dir = old(25);
    fs::remove_file(dir.path().join("sled/db")).unwrap();
    assert!(open(dir.path(), NEXT).err().unwrap().is_damage());
    assert!(!dir.path().join("kept").exists());
    let (sled, recovery) = Sled::recover(dir.path(), options(NEXT)).unwrap();
    assert_eq!(recovery.unwrap().lost(), 0);
    expect_new(&sled, 25);
}

#[test]
fn a_store_whose_format_is_gone_is_recovered_with_that_of_its_snapshots() {
    let dir = old(25);
    fs::remove_file(dir.path().join("FORMAT")).unwrap();
    let (sled, _) = Sled::recover(dir.path(), options(NEXT)).unwrap();
    expect_new(&sled, 25);
}

/// Runs `act` with an end after every number of steps; then what is left must be in order for `then`.
fn ended_everywhere(prepared: impl Fn() -> tempfile::TempDir, act: Format, then: impl Fn(&Path, u32)) {
    let mut steps = 0;
    loop {
        let dir = prepared();
        light(Some(steps));
        let done = open(dir.path(), act);
        light(None);
        let is_done = done.is_ok();
        drop(done);
        then(dir.path(), steps);
        if is_done {
            break;
        }
        steps += 1;
    }
    assert!(steps > 20, "only {steps} steps");
}

#[test]
fn a_migration_that_ends_at_any_step_is_undone_by_the_older_release_and_done_by_the_newer() {
    ended_everywhere(|| old(12), NEXT, |dir, _| expect_old(&open(dir, Format::CURRENT).unwrap(), 12));
    ended_everywhere(|| old(12), NEXT, |dir, _| expect_new(&open(dir, NEXT).unwrap(), 12));
}

#[test]
fn going_back_that_ends_at_any_step_can_be_gone_on_with_by_both() {
    let migrated = || {
        let dir = old(12);
        drop(open(dir.path(), NEXT).unwrap());
        dir
    };
    ended_everywhere(migrated, Format::CURRENT, |dir, _| {
        expect_old(&open(dir, Format::CURRENT).unwrap(), 12);
        // The newer release's store is there once, whole.
        assert_eq!(list(&dir.join("aside")).unwrap(), ["format-2-1"]);
        expect_new(&open(&dir.join("aside/format-2-1"), NEXT).unwrap(), 12);
    });
    ended_everywhere(migrated, Format::CURRENT, |dir, _| expect_new(&open(dir, NEXT).unwrap(), 12));
}

#[test]
fn an_exported_store_is_planted_elsewhere_and_numbered_on() {
    let dir = old(12);
    let exported = {
        let sled = open(dir.path(), Format::CURRENT).unwrap();
        sled.export(&|table, key| table == Table::Node && key == "n3").unwrap()
    };
    let elsewhere = tempfile::tempdir().unwrap();
    let past = (CommitNumber(40), EventNumber(50));
    let plant = |name: &str, octets: &[u8], format| {
        Sled::plant(elsewhere.path().join(name), octets, past, options(format))
    };
    let mut sled = plant("same", &exported, Format::CURRENT).unwrap();
    expect_old(&sled, 12);
    assert_eq!(sled.get(Table::Node, "n3").unwrap(), None);
    assert!(sled.get(Table::Node, "n4").unwrap().is_some());
    let commit = sled.commit(Batch::new().event("\x01after")).unwrap();
    assert_eq!((commit.number, commit.event(0)), (CommitNumber(41), Some(EventNumber(51))));
    assert_eq!(setting(&plant("newer", &exported, NEXT).unwrap(), "new-number").unwrap(), "\x0112");

    let of_newer = plant("newer-still", &exported, NEXT).unwrap().export(&|_, _| false).unwrap();
    let error = plant("older", &of_newer, Format::CURRENT).err().unwrap();
    assert!(matches!(error, StoreError::NewerFormat { format: 2, known: 1, .. }), "{error}");
    let mut flipped = exported.clone();
    flipped[200] ^= 1;
    assert!(plant("flipped", &flipped, Format::CURRENT).err().unwrap().is_damage());
    assert!(!elsewhere.path().join("flipped").exists());
}
