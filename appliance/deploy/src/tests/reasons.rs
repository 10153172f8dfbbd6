//! Whoever gives up says why, and what was seen.

use super::looks::looks;
use super::{at, fulfilled, patience, within};
use crate::{Goal, Journey, Seen, Sight, Step, Verdict, consider};
use boot::VolumeState;
use rack::{BmcTrouble, Power};

/// What a reason may be instead of the missing arrow: something that no patience mends, in its own words.
fn words_of_trouble(sight: &Sight, journey: &Journey) -> Vec<String> {
    let bmc = sight.bmc_trouble.iter().map(ToString::to_string);
    let job = sight.job_failure(journey).into_iter().map(|(text, _)| text.to_owned());
    let drifts = sight
        .ports
        .iter()
        .map(|port| format!("port {} of switch {} was moved out of VLAN", port.link.port, port.link.switch));
    let volume = sight.root.iter().filter_map(|root| match &root.state {
        Some(VolumeState::Failed { why }) => Some(why.clone()),
        _ => None,
    });
    bmc.chain(job).chain(volume).chain(drifts).collect()
}

#[test]
fn every_reason_names_the_missing_arrow_or_the_trouble_and_comes_with_evidence() {
    let mut given_up = 0;
    for (journey, sight, now) in looks(300) {
        let Verdict::GiveUp { reason, evidence } = consider(&journey, &sight, &patience(), now) else {
            continue;
        };
        given_up += 1;
        let missing = evidence.iter().find(|arrow| arrow.seen == Seen::Missing);
        let names = |text: &String| reason.contains(text.as_str());
        let named = missing.is_some_and(|arrow| names(&arrow.what) && names(&arrow.last_seen));
        assert!(named || words_of_trouble(&sight, &journey).iter().any(names), "{reason:?} of {evidence:?}");
        assert!(!evidence.is_empty());
        assert!(evidence.iter().all(|arrow| !arrow.what.is_empty() && !arrow.last_seen.is_empty()));
    }
    assert!(given_up > 100);
}

#[test]
fn one_arrow_is_missing_and_those_after_it_that_are_not_seen_come_later() {
    for (journey, sight, _) in looks(300) {
        let arrows = crate::arrows(&journey, &sight);
        let first = arrows.iter().position(|arrow| arrow.seen != Seen::Yes);
        for (place, arrow) in arrows.iter().enumerate() {
            let unseen = arrow.seen != Seen::Yes;
            assert_eq!(arrow.seen == Seen::Missing, Some(place) == first, "{arrows:?}");
            assert!(!unseen || first.is_some_and(|first| place >= first));
        }
    }
}

#[test]
fn a_refused_password_is_given_up_at_once_and_in_the_words_of_the_power_hand() {
    let text = "it refuses the password of user admin: describe the node anew";
    let journey = at(Goal::Deploy, Step::SecurePort);
    let bmc_trouble = Some(BmcTrouble::Credentials(text.into()));
    let sight = Sight { bmc: "10.8.0.11".into(), bmc_trouble, ..Sight::default() };
    let verdict = consider(&journey, &sight, &patience(), journey.since);
    assert!(
        matches!(&verdict, Verdict::GiveUp { reason, .. } if *reason == format!("BMC 10.8.0.11: {text}")),
        "{verdict:?}"
    );
}

#[test]
fn a_bmc_that_obeys_nobody_is_named_when_patience_is_out() {
    let journey = Journey { attempt: 3, ..at(Goal::Deploy, Step::Pxe) };
    let mut sight = fulfilled(&journey);
    sight.power = Some(Power::Off);
    sight.power_wish = None;
    sight.bmc = "10.8.0.11".into();
    sight.bmc_trouble = Some(BmcTrouble::Inert("it accepts power on and the machine does not obey".into()));
    let late = journey.since + within(&journey);
    let Verdict::GiveUp { reason, .. } = consider(&journey, &sight, &patience(), late) else {
        panic!("it goes on for ever")
    };
    assert_eq!(
        reason,
        "waits until the BMC says the node is on; last seen: BMC 10.8.0.11: it accepts power on and the machine \
         does not obey (waited 900 s, attempt 3 of 3)"
    );
}

#[test]
fn a_cable_that_is_out_is_named_with_its_port_and_vlan() {
    let journey = at(Goal::Deploy, Step::Pxe);
    let mut sight = fulfilled(&journey);
    sight.ports[0].state = rack::LinkState::Down;
    assert_eq!(
        crate::missing(&journey, &sight),
        "waits until a DHCP DISCOVER comes from it on port n1 of switch tor, VLAN 100; last seen: nothing from \
         it in this attempt, and the switch says the port has no link: look at the cable"
    );
}
