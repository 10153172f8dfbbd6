//! A process that commits, killed at any moment.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod suite;

use suite::{
    CHILD, Committer, Model, Random, SLED, alone, commit_until_killed, copy_dir, next_options, options,
    run_to,
};

#[test]
fn child_that_commits() {
    commit_until_killed(&SLED);
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed_thirty_times() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random(u64::from(std::process::id()));
    let seed = random.0;
    let mut model = Model::new();
    let mut newest = 0;
    for round in 0..30 {
        let mut child = Committer::start("child_that_commits", dir.path());
        child.wait_for_opening();
        // Every fifth is killed while it opens.
        if round % 5 != 4 {
            child.wait_for(1 + random.below(25));
        }
        for _ in 0..random.below(30_000) {
            std::hint::spin_loop();
        }
        let acknowledged = child.kill().unwrap_or(newest);

        let (store, findings) = (SLED.open)(dir.path(), options()).unwrap();
        assert!(
            !findings.iter().any(|said| said.contains("set aside") || said.contains("lacks")),
            "{findings:?}"
        );
        newest = store.newest_commit().0;
        assert!(newest >= acknowledged, "seed {seed} round {round}: {newest} of {acknowledged}");
        assert!(newest <= acknowledged + 1, "seed {seed} round {round}: {newest} of {acknowledged}");
        model.advance(newest);
        model.expect(&*store);
    }
    assert!(newest > 60, "a snapshot was taken on the way");
}

#[test]
fn child_that_recovers() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    println!("\nopening");
    (SLED.recover)(path.as_ref(), options()).unwrap();
    println!("recovered");
}

#[test]
fn a_recovery_that_is_killed_can_be_done_again() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    run_to(&mut *(SLED.open)(&whole, options()).unwrap().0, 150);
    std::fs::remove_file(whole.join("sled/db")).unwrap();
    let mut model = Model::new();
    model.advance(150);

    let mut random = Random(u64::from(std::process::id()));
    let seed = random.0;
    for round in 0..12 {
        let path = dir.path().join(format!("round{round}"));
        copy_dir(&whole, &path);
        let mut child = Committer::start("child_that_recovers", &path);
        child.wait_for_opening();
        for _ in 0..random.below(8_000_000) {
            std::hint::spin_loop();
        }
        child.kill();
        let (store, lost) = (SLED.recover)(&path, options())
            .unwrap_or_else(|error| panic!("seed {seed} round {round}: {error}"));
        assert_eq!(lost, 0, "seed {seed} round {round}");
        model.expect(&*store);
    }
}

#[test]
fn child_that_migrates() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    println!("\nopening");
    drop((SLED.open)(path.as_ref(), next_options()).unwrap());
    drop((SLED.open)(path.as_ref(), options()).unwrap());
}

/// The child goes forth and back again, and is killed somewhere on the way.
#[test]
fn a_migration_and_its_undoing_that_are_killed_lose_nothing_of_the_older_release() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    run_to(&mut *(SLED.open)(&whole, options()).unwrap().0, 70);
    let mut model = Model::new();
    model.advance(70);

    let mut random = Random(u64::from(std::process::id()));
    let seed = random.0;
    let mut newer = 0;
    for round in 0..30 {
        let path = dir.path().join(format!("round{round}"));
        copy_dir(&whole, &path);
        let mut child = Committer::start("child_that_migrates", &path);
        child.wait_for_opening();
        for _ in 0..random.below(12_000_000) {
            std::hint::spin_loop();
        }
        child.kill();
        newer += u32::from(std::fs::read_to_string(path.join("FORMAT")).unwrap().contains("format 2"));
        let (store, _) = (SLED.open)(&path, options())
            .unwrap_or_else(|error| panic!("seed {seed} round {round}: {error}"));
        model.expect(&*store);
    }
    println!("in {newer} of 30 the store was the newer release's");
}
