use crate::{Arrow, Journey, Patience, Sight, Step, VolumeSight, arrows, leg, missing, place, route};
use boot::VolumeState;
use rack::BmcTrouble;
use sansio::Time;

/// How often a port may be moved behind our back within one step before we stop arguing.
const DRIFTS: u32 = 3;

/// What to do about a journey.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The step is over; this one is next.
    Advance(Step),
    /// The node is off, seen for the first time in this step: its ports may go to where the step wants
    /// them ([`place`]).
    SeenOff,
    /// Nothing to do before `until`, unless something else is seen.
    Wait {
        /// When patience is out.
        until: Time,
        /// What is missing, for people.
        waits_for: String,
    },
    /// Patience is out: begin again at this step, as a new attempt.
    Again {
        /// Where.
        step: Step,
        /// What was missing.
        why: String,
    },
    /// The journey failed; into quarantine with it.
    GiveUp {
        /// What is wrong and what to do.
        reason: String,
        /// What was seen then.
        evidence: Vec<Arrow>,
    },
    /// In quarantine, or past what could be done; `left` says what is not safe.
    Failed {
        /// What could not be made so.
        left: Option<String>,
        /// The step after this one, if there is one.
        next: Option<Step>,
    },
    /// The journey is at its end.
    Arrived,
}

/// Looks at a journey, and says what to do. Total: there is an answer for every sight at every step.
pub fn consider(journey: &Journey, sight: &Sight, patience: &Patience, now: Time) -> Verdict {
    let leg = leg(journey);
    let next = next_step(journey);
    let in_place = place(journey) == leg.wish.place;
    if !in_place && sight.is_off(journey) {
        return Verdict::SeenOff;
    }
    if in_place && (leg.reached)(journey, sight) {
        return match (next, journey.failure.is_some()) {
            (Some(step), false) => Verdict::Advance(step),
            (None, false) => Verdict::Arrived,
            (next, true) => Verdict::Failed { left: None, next },
        };
    }
    let until = journey.since.max(journey.heard) + (leg.patience)(patience);
    let waits_for = missing(journey, sight);
    if journey.failure.is_some() {
        return if now < until {
            Verdict::Wait { until, waits_for }
        } else {
            Verdict::Failed { left: Some(waits_for), next }
        };
    }
    if let Some(reason) = hopeless(journey, sight) {
        return Verdict::GiveUp { reason, evidence: arrows(journey, sight) };
    }
    if now < until {
        return Verdict::Wait { until, waits_for };
    }
    let begun = if leg.again == Some(Step::ReleasePort) { journey.boots } else { journey.attempt };
    match leg.again {
        Some(step) if begun < patience.tries => Verdict::Again { step, why: waits_for },
        _ => {
            let seconds = now.since(journey.since).as_secs();
            let reason =
                format!("{waits_for} (waited {seconds} s, attempt {begun} of {})", patience.tries.max(1));
            Verdict::GiveUp { reason, evidence: arrows(journey, sight) }
        }
    }
}

fn next_step(journey: &Journey) -> Option<Step> {
    let route = route(journey);
    let at = route.iter().position(|leg| leg.step == journey.step)?;
    route.get(at + 1).map(|leg| leg.step)
}

/// What no patience mends.
fn hopeless(journey: &Journey, sight: &Sight) -> Option<String> {
    if let Some(BmcTrouble::Credentials(text)) = &sight.bmc_trouble {
        return Some(format!("BMC {}: {text}", sight.bmc));
    }
    if let Some(port) = sight.ports.iter().find(|port| port.drifts > DRIFTS) {
        return Some(format!(
            "port {} of switch {} was moved out of VLAN {} by somebody else {} times: find out who else configures this switch",
            port.link.port, port.link.switch, port.wanted, port.drifts
        ));
    }
    if journey.step == Step::Clone
        && let Some(VolumeSight { id, state: Some(VolumeState::Failed { why }), .. }) = &sight.root
    {
        return Some(format!("volume {id}: {why}"));
    }
    match sight.job_failure(journey)? {
        (_, true) if journey.attempt < 2 => None,
        (text, _) => Some(text.to_owned()),
    }
}
