//! What holds whatever is seen.

use super::looks::looks;
use super::{fulfilled, patience};
use crate::{Journey, Place, Sight, Step, Verdict, consider, leg, place, route};
use rack::{BootDevice, PortMode, Power};
use std::collections::BTreeSet;

const ROUNDS: u64 = 300;

/// Off, seen so under this wish, and every port read back under this wish where it is wanted.
fn off_and_placed(journey: &Journey, sight: &Sight) -> bool {
    let wish = Some(journey.wish());
    let placed =
        |port: &crate::PortSight| port.mode == Some(PortMode::Access(port.wanted)) && port.wish == wish;
    sight.power == Some(Power::Off)
        && sight.power_wish == wish
        && !sight.ports.is_empty()
        && sight.ports.iter().all(placed)
}

#[test]
fn every_sight_at_every_step_has_an_answer() {
    let mut given = BTreeSet::new();
    for (journey, sight, now) in looks(ROUNDS) {
        let verdict = consider(&journey, &sight, &patience(), now);
        given.insert(format!("{verdict:?}").split([' ', '(']).next().unwrap().to_owned());
    }
    // The generator reaches all there are.
    let all = ["Advance", "Again", "Arrived", "Failed", "GiveUp", "SeenOff", "Wait"];
    assert_eq!(given, all.map(str::to_owned).into());
}

#[test]
fn no_port_step_ends_before_the_node_is_seen_off_and_all_its_ports_are_read_back_under_its_own_wish() {
    let steps = [Step::SecurePort, Step::ReleasePort, Step::Park];
    let mut ended = 0;
    for (journey, sight, now) in looks(ROUNDS * 3).filter(|(j, ..)| steps.contains(&j.step)) {
        let verdict = consider(&journey, &sight, &patience(), now);
        if matches!(verdict, Verdict::Advance(_) | Verdict::Arrived) {
            assert!(off_and_placed(&journey, &sight), "{verdict:?} of {journey:?} by {sight:?}");
            ended += 1;
        }
    }
    assert!(ended > 0, "the generator never lets one end");
}

#[test]
fn a_node_is_not_taken_for_quarantined_while_a_port_was_not_read_back_under_the_wish_for_it() {
    let mut safe = 0;
    for (journey, sight, now) in looks(ROUNDS * 3).filter(|(j, ..)| j.step == Step::Quarantine) {
        if let Verdict::Failed { left: None, .. } = consider(&journey, &sight, &patience(), now) {
            let wish = Some(journey.wish());
            assert!(!sight.ports.is_empty() && sight.ports.iter().all(|p| p.is_placed() && p.wish == wish));
            safe += 1;
        }
    }
    assert!(safe > 0);
}

#[test]
fn a_node_is_disarmed_only_when_it_was_seen_off_under_the_wish_for_it() {
    let mut safe = 0;
    for (journey, sight, now) in looks(ROUNDS).filter(|(j, ..)| j.step == Step::Disarm) {
        if let Verdict::Failed { left: None, .. } = consider(&journey, &sight, &patience(), now) {
            assert!(sight.power == Some(Power::Off) && sight.power_wish == Some(journey.wish()));
            safe += 1;
        }
    }
    assert!(safe > 0);
}

#[test]
fn a_node_is_active_only_when_the_system_of_this_boot_was_seen_and_not_its_firmware() {
    let mut arrived = 0;
    for (journey, sight, now) in looks(ROUNDS * 3).filter(|(j, ..)| j.step == Step::Verify) {
        if consider(&journey, &sight, &patience(), now) == Verdict::Arrived {
            let client = sight.tenant_client.expect("one was seen");
            assert_eq!(client.attempt, Some(journey.system()));
            assert!(client.architecture.is_none() && !client.firmware);
            arrived += 1;
        }
    }
    assert!(arrived > 0);
}

#[test]
fn nothing_is_begun_again_more_often_than_there_are_tries() {
    for (journey, sight, now) in looks(ROUNDS) {
        if let Verdict::Again { step, .. } = consider(&journey, &sight, &patience(), now) {
            let begun = if step == Step::ReleasePort { journey.boots } else { journey.attempt };
            assert!(begun < patience().tries, "{step} again after {begun} tries");
            assert_eq!(leg(&journey).again, Some(step));
        }
    }
}

#[test]
fn a_step_leads_to_the_next_of_its_route_and_the_last_one_to_the_end() {
    for (journey, sight, now) in looks(ROUNDS) {
        let steps: Vec<Step> = route(&journey).iter().map(|leg| leg.step).collect();
        let at = steps.iter().position(|step| *step == journey.step).expect("it is on its route");
        match consider(&journey, &sight, &patience(), now) {
            Verdict::Advance(step) => assert_eq!(steps.get(at + 1), Some(&step)),
            Verdict::Arrived => assert_eq!(at + 1, steps.len()),
            Verdict::Failed { next, .. } => assert_eq!(next, steps.get(at + 1).copied()),
            _ => {}
        }
    }
}

#[test]
fn waiting_has_an_end_that_is_yet_to_come_and_says_for_what() {
    for (journey, sight, now) in looks(ROUNDS) {
        if let Verdict::Wait { until, waits_for } = consider(&journey, &sight, &patience(), now) {
            assert!(until > now);
            assert!(waits_for.starts_with("waits until "), "{waits_for} at {journey:?} by {sight:?}");
        }
    }
}

#[test]
fn what_a_step_that_is_over_wished_for_is_enough_to_leave_it() {
    for journey in super::hopeful() {
        let by_power_and_ports = matches!(
            journey.step,
            Step::Bmc | Step::SecurePort | Step::ReleasePort | Step::Park | Step::Fence | Step::Boot
        );
        let journey = Journey { off_seen: true, ..journey };
        let verdict = consider(&journey, &fulfilled(&journey), &patience(), journey.since);
        let over = matches!(verdict, Verdict::Advance(_) | Verdict::Arrived);
        assert_eq!(over, by_power_and_ports, "{verdict:?} at {}", journey.step);
    }
}

#[test]
fn until_a_node_is_seen_off_a_step_that_switches_it_off_keeps_its_ports_in_quarantine() {
    for journey in super::everywhere() {
        let off = matches!(leg(&journey).wish.power, Some((Power::Off, _)));
        let before = place(&Journey { off_seen: false, ..journey.clone() });
        let after = place(&Journey { off_seen: true, ..journey.clone() });
        assert_eq!(after, leg(&journey).wish.place);
        if off {
            assert_eq!(before, Place::Quarantine, "{} {}", journey.goal, journey.step);
        } else {
            assert_eq!(before, after);
        }
    }
}

#[test]
fn the_first_sight_of_a_node_that_is_off_moves_its_ports_and_a_second_does_not() {
    for (journey, sight, now) in looks(ROUNDS) {
        if consider(&journey, &sight, &patience(), now) == Verdict::SeenOff {
            assert!(sight.power == Some(Power::Off) && sight.power_wish == Some(journey.wish()));
            assert!(!journey.off_seen && place(&journey) != leg(&journey).wish.place);
            let noted = Journey { off_seen: true, ..journey };
            assert_ne!(consider(&noted, &sight, &patience(), now), Verdict::SeenOff);
        }
    }
}

#[test]
fn a_node_is_switched_on_only_for_the_place_that_it_was_secured_in() {
    for journey in super::everywhere() {
        let Some((power, device)) = leg(&journey).wish.power else { continue };
        let wanted = match (power, leg(&journey).wish.place) {
            (Power::Off, _) => BootDevice::None,
            (Power::On, Place::Tenant) if leg(&journey).wish.offer == crate::Offer::San => BootDevice::Pxe,
            (Power::On, Place::Tenant) => BootDevice::Disk,
            (Power::On, Place::Provisioning | Place::Cleaning) => BootDevice::Pxe,
            (Power::On, Place::Quarantine) => panic!("{} switches on in quarantine", journey.step),
        };
        assert_eq!(device, wanted, "{} {}", journey.goal, journey.step);
    }
}

#[test]
fn a_node_is_not_let_go_while_anything_is_open_to_it() {
    let ends = [Step::Park, Step::Fence, Step::Quarantine];
    let held = |journey: &Journey| {
        matches!(journey.goal, crate::Goal::Delete | crate::Goal::Fence) || journey.failure.is_some()
    };
    let mut waited = 0;
    for (journey, sight, now) in looks(ROUNDS).filter(|(j, ..)| ends.contains(&j.step) && held(j)) {
        if !sight.open_to_it.is_empty() {
            let verdict = consider(&journey, &sight, &patience(), now);
            let let_go = matches!(
                verdict,
                Verdict::Arrived | Verdict::Advance(_) | Verdict::Failed { left: None, .. }
            );
            assert!(!let_go, "{verdict:?} of {journey:?} by {sight:?}");
            waited += 1;
        }
    }
    assert!(waited > 100);
}

#[test]
fn a_node_is_switched_on_for_its_volume_only_when_that_was_seen_exported_to_it() {
    let mut gone_on = 0;
    for (journey, sight, now) in looks(ROUNDS * 3).filter(|(j, ..)| j.step == Step::Clone) {
        if let Verdict::Advance(_) = consider(&journey, &sight, &patience(), now) {
            let root = sight.root.as_ref().expect("there is one");
            assert!(root.exported && matches!(root.state, Some(boot::VolumeState::Ready { .. })));
            assert!(off_and_placed(&journey, &sight));
            gone_on += 1;
        }
    }
    assert!(gone_on > 0);
}
