//! The table of all tests of `iscsi-test-cu`, ours beside tgt's and istgt's; kept in
//! `boot-services/iscsi/README.md`.
//!
//! tgt is run each time, beside ours. istgt takes two seconds for each logout and hangs in some tests: what
//! it passed is kept in `istgt.tsv`, and a sample of it is run.

use super::suite::{self, Outcome, Outcomes, Verdict};
use super::{MIB, offer, start};
use crate::wire::on_a_wire;
use hw_tests::targets::Make;
use std::collections::BTreeMap;
use std::path::Path;
use std::{env, fs, thread};

const SIZE: u64 = 1024 * MIB;
/// Stands before the table in the README.
const BEGIN: &str =
    "<!-- conformance: computed; UPDATE_README=1 cargo test -p hw-tests --test peers iscsi::conformance -->";
/// Stands behind it.
const END: &str = "<!-- end of conformance -->";

type Verdicts = BTreeMap<String, Verdict>;

fn verdicts(outcomes: &Outcomes) -> Verdicts {
    outcomes.iter().map(|(test, outcome)| (test.clone(), outcome.verdict)).collect()
}

/// What istgt was seen to pass, kept.
fn kept() -> Verdicts {
    let lines = include_str!("istgt.tsv").lines().filter_map(|line| line.split_once('\t'));
    lines.map(|(test, word)| (test.to_owned(), Verdict::parse(word))).collect()
}

/// What has to be mended, a line each.
fn faults(ours: &Outcomes, others: &[(Make, &Verdicts)]) -> Vec<String> {
    let fault = |(test, Outcome { verdict, note }): (&String, &Outcome)| {
        let passes = others.iter().filter(|(_, theirs)| theirs.get(test) == Some(&Verdict::Pass));
        let who: Vec<&str> = passes.map(|(make, _)| make.name()).collect();
        match verdict {
            Verdict::Pass => None,
            Verdict::Skip if who.is_empty() => None,
            _ => Some(format!("{test}: {verdict}, passed by [{}]: {note}", who.join(", "))),
        }
    };
    ours.iter().filter_map(fault).collect()
}

fn counts(verdicts: &Verdicts) -> String {
    let count = |wanted: Verdict| verdicts.values().filter(|verdict| **verdict == wanted).count();
    let bad = [Verdict::Crash, Verdict::Untried].map(count).iter().sum::<usize>();
    let [pass, skip, fail, hang] = [Verdict::Pass, Verdict::Skip, Verdict::Fail, Verdict::Hang].map(count);
    let crashed = if bad > 0 { format!(", {bad} not ended") } else { String::new() };
    format!("{pass} pass, {skip} skip, {fail} fail, {hang} hang{crashed}")
}

fn table(ours: &Verdicts, tgt: &Verdicts, istgt: &Verdicts) -> String {
    let mut text = format!(
        "\n| | ours | tgt | istgt |\n|---|---|---|---|\n| all {} tests | {} | {} | {} |\n",
        ours.len(),
        counts(ours),
        counts(tgt),
        counts(istgt)
    );
    for (test, verdict) in ours {
        let of = |others: &Verdicts| others.get(test).map_or_else(|| "-".to_owned(), Verdict::to_string);
        text += &format!("| {test} | {verdict} | {} | {} |\n", of(tgt), of(istgt));
    }
    text
}

fn update() -> bool {
    env::var_os("UPDATE_README").is_some()
}

fn compare_with_readme(table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("boot-services/iscsi/README.md");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let markers = || format!("{} needs the lines {BEGIN} and {END}", path.display());
    let (before, rest) = text.split_once(BEGIN).unwrap_or_else(|| panic!("{}", markers()));
    let (there, after) = rest.split_once(END).unwrap_or_else(|| panic!("{}", markers()));
    if update() {
        fs::write(&path, format!("{before}{BEGIN}\n{table}\n{END}{after}")).unwrap();
        return;
    }
    let old: Vec<&str> = there.trim().lines().collect();
    let differ: Vec<String> = table
        .trim()
        .lines()
        .filter(|line| !old.contains(line))
        .map(|line| format!("  now: {line}"))
        .collect();
    assert!(
        there.trim() == table.trim(),
        "the table in {} is not today's; look at what changed, then UPDATE_README=1 and this test again:\n{}",
        path.display(),
        differ.join("\n")
    );
}

#[test]
fn all_that_tgt_or_istgt_pass_of_libiscsi_s_tests_we_pass_and_nothing_fails_or_hangs() {
    on_a_wire("iscsi-conformance", |wire| {
        let tests = suite::tests();
        let ours = offer(wire, "ours", 3260, SIZE);
        let theirs = offer(wire, "tgt", 3270, SIZE);
        let (ours, theirs) = thread::scope(|scope| {
            // Threads are born into the namespace of the one that starts them.
            let theirs = scope.spawn(|| suite::run(&start(&theirs, Make::Tgt), &tests));
            let ours = suite::run(&start(&ours, Make::Ours), &tests);
            (ours, theirs.join().unwrap())
        });
        let (tgt, istgt) = (verdicts(&theirs), kept());
        println!("{}", table(&verdicts(&ours), &tgt, &istgt));
        let faults = faults(&ours, &[(Make::Tgt, &tgt), (Make::Istgt, &istgt)]);
        assert!(faults.is_empty(), "{} tests:\n  {}", faults.len(), faults.join("\n  "));
        compare_with_readme(&table(&verdicts(&ours), &tgt, &istgt));
    });
}

#[test]
fn the_reference_passes_its_share_of_libiscsi_s_tests() {
    on_a_wire("iscsi-conformance-reference", |wire| {
        // A few of each family, and none of the slow.
        let tests: Vec<String> = suite::tests().into_iter().step_by(9).collect();
        let outcomes = suite::run(&start(&offer(wire, "tgt", 3260, SIZE), Make::Tgt), &tests);
        let failed: Vec<_> =
            outcomes.iter().filter(|(_, outcome)| outcome.verdict == Verdict::Hang).collect();
        assert!(failed.is_empty(), "{failed:?}");
        let passed = outcomes.values().filter(|outcome| outcome.verdict == Verdict::Pass).count();
        assert!(passed * 2 > tests.len(), "tgt passes {passed} of {}", tests.len());
    });
}

#[test]
fn what_is_kept_of_istgt_is_what_it_passes() {
    on_a_wire("iscsi-conformance-istgt", |wire| {
        let kept = kept();
        let all = suite::tests();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/iscsi/istgt.tsv");
        let renew = env::var_os("UPDATE_ISTGT").is_some();
        let steady = |test: &&String| kept.get(*test) == Some(&Verdict::Pass);
        let tests = if renew { all } else { all.iter().filter(steady).step_by(6).cloned().collect() };
        let seen = verdicts(&suite::run(&start(&offer(wire, "istgt", 3260, SIZE), Make::Istgt), &tests));
        if renew {
            let lines: String = seen.iter().map(|(test, verdict)| format!("{test}\t{verdict}\n")).collect();
            fs::write(&path, lines).unwrap();
            return;
        }
        let differ: Vec<_> =
            seen.iter().filter(|(test, verdict)| kept.get(*test) != Some(*verdict)).collect();
        assert!(
            differ.is_empty(),
            "istgt does otherwise now: {differ:?}; UPDATE_ISTGT=1 and this test again write {}",
            path.display()
        );
    });
}

#[test]
fn a_test_that_a_peer_passes_and_we_skip_is_a_fault() {
    let of =
        |verdict: Verdict| Outcomes::from([("A.B.c".to_owned(), Outcome { verdict, note: String::new() })]);
    let peer = |verdict: Verdict| verdicts(&of(verdict));
    let count = |ours, theirs| faults(&of(ours), &[(Make::Tgt, &peer(theirs))]).len();
    assert_eq!(count(Verdict::Pass, Verdict::Pass), 0);
    assert_eq!(count(Verdict::Skip, Verdict::Fail), 0);
    assert_eq!(count(Verdict::Skip, Verdict::Pass), 1);
    assert_eq!(count(Verdict::Fail, Verdict::Fail), 1);
    assert_eq!(count(Verdict::Hang, Verdict::Skip), 1);
}
