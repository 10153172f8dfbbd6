mod failing;
mod looks;
mod reasons;
mod routes;
mod rules;
mod stale;

use crate::{Failure, Goal, Journey, Patience, PortSight, Sight, Step, leg, route};
use agent_proto::Outcome;
use boot::Attempt;
use core::time::Duration;
use rack::{BootDevice, LinkState, LocalLink, PortMode, Power, Vlan};
use sansio::Time;

const GOALS: [Goal; 4] = [Goal::Manage, Goal::Deploy, Goal::Delete, Goal::Clean];
const BEGAN: Time = Time::from_secs(1000);

fn begun(goal: Goal) -> Journey {
    Journey::begin("n1".parse().unwrap(), 4, goal, BEGAN)
}

fn at(goal: Goal, step: Step) -> Journey {
    Journey { step, ..begun(goal) }
}

fn failing(goal: Goal, step: Step) -> Journey {
    let failure = Failure {
        step: route(&begun(goal))[0].step,
        at: BEGAN,
        reason: "the cable is out".into(),
        evidence: Vec::new(),
        unsafe_left: Vec::new(),
    };
    Journey { step, failure: Some(failure), ..begun(goal) }
}

/// Every goal at every one of its steps.
fn hopeful() -> Vec<Journey> {
    let steps = |goal| route(&begun(goal)).iter().map(move |leg| at(goal, leg.step));
    GOALS.into_iter().flat_map(steps).collect()
}

/// The same, and those that failed, on their way into quarantine.
fn everywhere() -> Vec<Journey> {
    let put_away = |goal| [Step::Quarantine, Step::Disarm].map(|step| failing(goal, step));
    hopeful().into_iter().chain(GOALS.into_iter().flat_map(put_away)).collect()
}

/// What the agent's job of a step has to show.
fn outcome(step: Step) -> Outcome {
    match step {
        Step::WriteImage => Outcome::Written {
            disk: "sda".into(),
            image_bytes: 9 << 20,
            received_bytes: 9 << 20,
            written_bytes: 9 << 20,
            kept_bytes: 0,
            millis: (900, 300),
        },
        _ => Outcome::Erased { disks: vec!["sda".into()] },
    }
}

fn patience() -> Patience {
    Patience::default()
}

fn within(journey: &Journey) -> Duration {
    (leg(journey).patience)(&patience())
}

fn port(name: &str, wanted: u16, mode: Option<u16>, wish: Option<Attempt>) -> PortSight {
    let vlan = |id| Vlan::try_from(id).unwrap();
    PortSight {
        link: LocalLink { switch: "tor".parse().unwrap(), port: name.parse().unwrap() },
        wanted: vlan(wanted),
        mode: mode.map(|id| PortMode::Access(vlan(id))),
        wish,
        state: LinkState::Up,
        drifts: 0,
        trouble: None,
    }
}

/// Power and ports as the journey's step wishes them, seen under its wish.
fn fulfilled(journey: &Journey) -> Sight {
    let wish = Some(journey.wish());
    Sight {
        power: Some(match leg(journey).wish.power {
            Some((Power::On, BootDevice::Pxe | BootDevice::Disk)) => Power::On,
            _ => Power::Off,
        }),
        power_wish: wish.clone(),
        ports: vec![port("n1", 100, Some(100), wish.clone()), port("n1b", 666, Some(666), wish)],
        ..Sight::default()
    }
}
