//! A journey that failed comes to its end.

use super::looks::looks;
use super::{GOALS, failing, fulfilled, patience, within};
use crate::{Journey, Step, Verdict, consider};
use core::time::Duration;
use sansio::Time;

#[test]
fn a_failing_journey_ends_within_the_patience_of_its_two_legs_whatever_is_seen() {
    let most = Duration::from_secs(2 * patience().hand);
    for (journey, sight, now) in looks(300).filter(|(journey, ..)| journey.failure.is_some()) {
        let mut journey = Journey { step: Step::Quarantine, since: now, heard: now, ..journey };
        let mut then: Time = now;
        let mut looked = 0;
        let ended = loop {
            looked += 1;
            match consider(&journey, &sight, &patience(), then) {
                Verdict::Wait { until, .. } => then = until,
                Verdict::Failed { next: Some(step), .. } => {
                    journey = Journey { step, since: then, heard: then, ..journey };
                }
                Verdict::Failed { next: None, .. } => break then,
                other => panic!("{other:?} of a journey that failed already"),
            }
            assert!(looked < 8, "it goes round and round");
        };
        assert!(ended.since(now) <= most, "{:?}", ended.since(now));
    }
}

#[test]
fn what_cannot_be_made_safe_is_said_and_the_next_leg_is_tried_all_the_same() {
    for goal in GOALS {
        let journey = failing(goal, Step::Quarantine);
        let nothing = crate::Sight { ports: fulfilled(&journey).ports, ..Default::default() };
        let nothing = crate::Sight {
            ports: nothing.ports.into_iter().map(|port| crate::PortSight { mode: None, ..port }).collect(),
            ..nothing
        };
        let late = journey.since + within(&journey);
        let Verdict::Failed { left: Some(left), next } = consider(&journey, &nothing, &patience(), late)
        else {
            panic!("a port that nobody can vouch for is not safe");
        };
        assert!(left.contains("switch tor says port n1 is in VLAN 100 (quarantine)"), "{left}");
        assert_eq!(next, Some(Step::Disarm));
        let journey = failing(goal, Step::Disarm);
        let Verdict::Failed { left: Some(left), next: None } =
            consider(&journey, &nothing, &patience(), late)
        else {
            panic!("a node that nobody saw off is not safe");
        };
        assert!(left.contains("the BMC says the node is off"), "{left}");
    }
}

#[test]
fn a_failing_journey_that_finds_everything_safe_says_so_at_once() {
    for step in [Step::Quarantine, Step::Disarm] {
        let journey = failing(crate::Goal::Deploy, step);
        let verdict = consider(&journey, &fulfilled(&journey), &patience(), journey.since);
        assert!(matches!(verdict, Verdict::Failed { left: None, .. }), "{verdict:?}");
    }
}
