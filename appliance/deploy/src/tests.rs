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
use rack::{BootDevice, DeployInterface, LinkState, LocalLink, PortMode, Power, Vlan};
use sansio::Time;

const GOALS: [Goal; 5] = [Goal::Manage, Goal::Deploy, Goal::Delete, Goal::Clean, Goal::Fence];
const BEGAN: Time = Time::from_secs(1000);

fn begun(goal: Goal) -> Journey {
    Journey::begin("n1".parse().unwrap(), 4, goal, BEGAN)
}

/// A journey of each kind there is, at its beginning.
fn kinds() -> Vec<Journey> {
    let others = [
        begun(Goal::Deploy).by(DeployInterface::Iscsi),
        begun(Goal::Deploy).by(DeployInterface::San),
        Journey { off_by_hand: true, ..begun(Goal::Fence) },
    ];
    GOALS.into_iter().map(begun).chain(others).collect()
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

/// Every kind at every one of its steps.
fn hopeful() -> Vec<Journey> {
    let steps =
        |kind: Journey| route(&kind).iter().map(move |leg| Journey { step: leg.step, ..kind.clone() });
    kinds().into_iter().flat_map(steps).collect()
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
        Step::Finish => Outcome::Finished { disk: "sda".into() },
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
