//! `iscsi-test-cu`, the test suite of libiscsi, a process for each test: one that hangs costs one test.

use hw_tests::artifact::command::{text, tool};
use hw_tests::targets::{INITIATOR, Target};
use std::collections::BTreeMap;
use std::fmt;
use std::process::Stdio;

/// Longer than the slowest that ends takes on a busy machine.
const LIMIT_SECONDS: u32 = 30;
/// So many tests that hang, and the rest is not tried.
const MOST_HANGS: usize = 20;
/// What a failed reservation leaves behind answers RESERVATION CONFLICT to everything after it.
const LAST: [&str; 4] = ["Prin", "Prout", "Reserve6", "Sanitize"];
/// Its second test looks at a variable that only its first one sets: alone it passes on no target.
const TOGETHER: &str = "iSCSI.iSCSITMF.";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    /// The target does not have what is tested.
    Skip,
    Fail,
    Hang,
    /// The suite itself died, or did not know the test.
    Crash,
    /// Not tried, because too many before it hung.
    Untried,
}

const WORDS: [(Verdict, &str); 6] = [
    (Verdict::Pass, "pass"),
    (Verdict::Skip, "skip"),
    (Verdict::Fail, "FAIL"),
    (Verdict::Hang, "HANG"),
    (Verdict::Crash, "CRASH"),
    (Verdict::Untried, "untried"),
];

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(WORDS.iter().find(|(verdict, _)| verdict == self).unwrap().1)
    }
}

impl Verdict {
    pub(super) fn parse(word: &str) -> Verdict {
        WORDS.iter().find(|(_, known)| *known == word).unwrap_or_else(|| panic!("no verdict: {word}")).0
    }
}

/// A verdict, and what the suite said to it.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    pub(super) note: String,
}

/// By test.
pub(super) type Outcomes = BTreeMap<String, Outcome>;

/// All tests, `FAMILY.SUITE.TEST`: the families SCSI and iSCSI, of which the others are made.
pub(super) fn tests() -> Vec<String> {
    let listed = text(tool("sh").args(["-c", "iscsi-test-cu -l 2>/dev/null; true"])).unwrap();
    let families = |line: &&str| line.starts_with("SCSI.") || line.starts_with("iSCSI.");
    let tests = listed.lines().map(str::trim).filter(families).filter(|line| line.matches('.').count() == 2);
    let tests: Vec<String> = tests.map(str::to_owned).collect();
    assert!(tests.len() > 200, "iscsi-test-cu lists {} tests: run hw-tests/setup", tests.len());
    tests
}

/// Runs these tests against a target. Destroys what is on its disk.
pub(super) fn run(target: &Target, tests: &[String]) -> Outcomes {
    let mut ordered: Vec<&String> = tests.iter().collect();
    let last =
        |test: &str| test.split('.').nth(1).is_some_and(|suite| LAST.iter().any(|l| suite.starts_with(l)));
    ordered.sort_by_key(|test| last(test));
    let mut outcomes = Outcomes::new();
    for test in ordered {
        let hangs = outcomes.values().filter(|outcome| outcome.verdict == Verdict::Hang).count();
        let outcome = if hangs < MOST_HANGS {
            one(&target.url(), test)
        } else {
            Outcome { verdict: Verdict::Untried, note: format!("{hangs} tests before it hung") }
        };
        outcomes.insert(test.clone(), outcome);
    }
    outcomes
}

fn one(url: &str, test: &str) -> Outcome {
    let mut suite = tool("timeout");
    suite.args(["-k", "1", &LIMIT_SECONDS.to_string(), "iscsi-test-cu", "-d", "-S", "-V"]);
    // Both of its initiators go by the one name that may log in; it gives each an ISID of its own.
    let asked = if test.starts_with(TOGETHER) { TOGETHER.trim_end_matches('.') } else { test };
    suite.args(["-i", INITIATOR, "-I", INITIATOR, "-t", asked, url]);
    let output = suite.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    judged(test, &said, output.status.code() == Some(124))
}

/// Reads what the suite said of one test.
fn judged(test: &str, said: &str, hung: bool) -> Outcome {
    let name = test.rsplit('.').next().unwrap();
    let begins = format!("Test: {name} ...");
    let mut own: Vec<&str> =
        said.lines().skip_while(|line| !line.trim_start().starts_with(&begins)).collect();
    let next = own.iter().skip(1).position(|line| line.trim_start().starts_with("Test: "));
    own.truncate(next.map_or(own.len(), |next| next + 1));
    // The verdict stands alone at the beginning of a line, or behind the name if nothing was said between.
    let verdict = own.iter().find_map(|line| {
        let line = line.trim_start().strip_prefix(&begins).unwrap_or(line);
        let is = |word| line.starts_with(word);
        if is("passed") { Some(Verdict::Pass) } else { is("FAILED").then_some(Verdict::Fail) }
    });
    let tagged = |tag: &str| own.iter().find_map(|line| Some(line.split_once(tag)?.1.trim().to_owned()));
    let skipped = tagged("[SKIPPED]");
    let asserted = own
        .iter()
        .map(|line| line.trim())
        .find(|line| line.contains("CU_ASSERT") || line.contains("CU_FAIL"));
    let reasons = || {
        let said: Vec<String> =
            [tagged("[FAILED]"), asserted.map(str::to_owned)].into_iter().flatten().collect();
        said.join(" | ")
    };
    match verdict {
        _ if hung => {
            Outcome { verdict: Verdict::Hang, note: format!("no end in {LIMIT_SECONDS} s {}", reasons()) }
        }
        Some(Verdict::Pass) => match skipped {
            Some(note) => Outcome { verdict: Verdict::Skip, note },
            None => Outcome { verdict: Verdict::Pass, note: String::new() },
        },
        Some(verdict) => Outcome { verdict, note: reasons() },
        None => {
            let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
            Outcome { verdict: Verdict::Crash, note: last.to_owned() }
        }
    }
}

#[test]
fn a_verdict_is_read_from_what_the_suite_says() {
    let verdict = |said: &str| {
        let outcome = judged("SCSI.Read10.Simple", said, false);
        (outcome.verdict, outcome.note)
    };
    let noted = |verdict, note: &str| (verdict, note.to_owned());
    assert_eq!(verdict("Suite: Read10\n  Test: Simple ...passed\n"), noted(Verdict::Pass, ""));
    let skipped = "  Test: Simple ...    [SKIPPED] No READ10.\n    [SKIPPED] No READ10.\npassed\n";
    assert_eq!(verdict(skipped), noted(Verdict::Skip, "No READ10."));
    let failed = "  Test: Simple ...    [FAILED] READ10 failed\nFAILED\n    1. test_read10.c:38  - CU_ASSERT_EQUAL(_r,0)\n";
    let note = "READ10 failed | 1. test_read10.c:38  - CU_ASSERT_EQUAL(_r,0)";
    assert_eq!(verdict(failed), noted(Verdict::Fail, note));
    assert_eq!(
        verdict("  Test: Simple ...\nSegmentation fault\n"),
        noted(Verdict::Crash, "Segmentation fault")
    );
    assert_eq!(judged("SCSI.Read10.Simple", "  Test: Simple ...", true).verdict, Verdict::Hang);
    let two = "  Test: First ...    [SKIPPED] No.\npassed\n  Test: Second ...FAILED\n  1. CU_ASSERT(2)\n";
    assert_eq!(judged("iSCSI.T.First", two, false).verdict, Verdict::Skip);
    assert_eq!(judged("iSCSI.T.Second", two, false).note, "1. CU_ASSERT(2)");
}
