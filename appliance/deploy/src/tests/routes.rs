//! The routes as text: whoever changes one sees it here.

use super::{GOALS, failing, kinds};
use crate::{Journey, Patience, Step, route};
use core::fmt::Write as _;
use rack::DeployInterface;

fn table(journey: &Journey) -> String {
    // Each its own number, so that the name of a patience is read back from how long it lasts.
    let patience = Patience { hand: 1, firmware: 2, ramdisk: 3, progress: 4, system: 5, tries: 9 };
    let names = ["hand", "firmware", "ramdisk", "progress", "system"];
    let mut text = String::new();
    for leg in route(journey) {
        let power = match leg.wish.power {
            Some((power, device)) => format!("{power} {device:?}").to_lowercase(),
            None => "as it is".to_owned(),
        };
        let within = names[(leg.patience)(&patience).as_secs() as usize - 1];
        let again = leg.again.map_or("gives up".to_owned(), |step| format!("again {step}"));
        writeln!(
            text,
            "{:<13}{power:<10}{:<13}{:<9}{:<9}{:<15}{within:<9}{again}",
            leg.step.to_string(),
            format!("{:?}", leg.wish.place).to_lowercase(),
            format!("{:?}", leg.wish.offer).to_lowercase(),
            format!("{:?}", leg.wish.work).to_lowercase(),
            leg.state.to_string(),
        )
        .unwrap();
    }
    text
}

#[test]
fn the_routes_are_these() {
    let mut text = String::new();
    for kind in kinds() {
        let by = match kind.interface {
            DeployInterface::Direct => String::new(),
            other => format!(" by {other}"),
        };
        let hand = if kind.off_by_hand { ", off by hand" } else { "" };
        write!(text, "{}{by}{hand}\n{}\n", kind.goal, table(&kind)).unwrap();
    }
    write!(text, "failed\n{}", table(&failing(crate::Goal::Deploy, Step::Quarantine))).unwrap();
    let kept = include_str!("routes.txt");
    assert_eq!(text, kept, "\n{text}");
}

#[test]
fn a_journey_begins_at_the_first_step_of_its_route() {
    for kind in kinds() {
        assert_eq!(kind.step, route(&kind)[0].step);
        assert_eq!(crate::position(&kind).0, 1);
    }
}

#[test]
fn whatever_a_journey_was_for_it_fails_by_the_same_road() {
    for goal in GOALS {
        assert_eq!(table(&failing(goal, Step::Quarantine)), table(&failing(GOALS[0], Step::Quarantine)));
    }
}

#[test]
fn no_two_steps_attempts_or_boots_share_the_name_of_a_wish() {
    let mut names = std::collections::BTreeSet::new();
    for (attempt, boots) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
        for journey in super::hopeful().into_iter().filter(|journey| {
            journey.goal == crate::Goal::Deploy && journey.interface == DeployInterface::Direct
        }) {
            assert!(names.insert(Journey { attempt, boots, ..journey }.wish()));
        }
    }
}
