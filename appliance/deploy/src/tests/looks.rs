//! Thousands of sights, each field absent, of another attempt, of this one, or in trouble.

use super::{BEGAN, everywhere, outcome, port};
use crate::{AgentSight, ClientSight, Journey, PortSight, Sight, Step, VolumeSight};
use agent_proto::{
    Exported, Failure, FailureKind, Inventory, JobState, JobStatus, Phase, Progress, Status, VERSION,
};
use boot::{Architecture, Attempt, DhcpMoment, PushState, VolumeState};
use core::time::Duration;
use rack::{BmcTrouble, LinkState, PortMode, Power};
use sansio::Time;

/// xorshift64*: the same numbers for the same seed, everywhere.
pub(super) struct Seeds(u64);

impl Seeds {
    pub(super) fn new(seed: u64) -> Seeds {
        Seeds(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % most
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }
}

/// A journey of any goal at any step, in any of its attempts, with a sight and a moment.
pub(super) fn looks(rounds: u64) -> impl Iterator<Item = (Journey, Sight, Time)> {
    (0..rounds).flat_map(|round| {
        let mut seeds = Seeds::new(round + 1);
        everywhere().into_iter().map(move |journey| {
            let attempt = seeds.pick(&[1, 1, 2, 3, 4]);
            let boots = seeds.pick(&[1, 1, 2, 3, 4]);
            let off_seen = seeds.one_in(2);
            let journey = Journey { attempt, boots, off_seen, ..journey };
            let now = BEGAN + Duration::from_secs(seeds.pick(&[0, 1, 59, 61, 299, 301, 5000]));
            (journey.clone(), sight(&mut seeds, &journey), now)
        })
    })
}

/// Another attempt's names: of an earlier attempt, boot, journey or step, and of another node.
pub(super) fn stale(journey: &Journey) -> Vec<Journey> {
    let other = |change: fn(&mut Journey)| {
        let mut other = journey.clone();
        change(&mut other);
        other
    };
    vec![
        other(|j| j.attempt += 1),
        other(|j| j.boots += 1),
        other(|j| j.number -= 1),
        other(|j| (j.attempt, j.boots) = (j.attempt + 1, j.boots + 1)),
        other(|j| j.node = "n2".parse().unwrap()),
    ]
}

fn named(seeds: &mut Seeds, journey: &Journey, name: fn(&Journey) -> Attempt) -> Option<Attempt> {
    match seeds.below(4) {
        0 => None,
        1 => Some(name(&seeds.pick(&stale(journey)))),
        _ => Some(name(journey)),
    }
}

fn ports(seeds: &mut Seeds, journey: &Journey) -> Vec<PortSight> {
    let many = seeds.below(3);
    let names = ["n1", "n1b"];
    let mut any = |name: &&str| {
        let mode = seeds.pick(&[None, Some(100), Some(100), Some(100), Some(201)]);
        let wish = named(seeds, journey, Journey::wish);
        let mode_is_trunk = seeds.one_in(12);
        let mut port = port(name, 100, mode, wish);
        if mode_is_trunk {
            port.mode = Some(seeds.pick(&[PortMode::Trunk, PortMode::Absent]));
        }
        port.state = seeds.pick(&[LinkState::Up, LinkState::Down, LinkState::Unknown]);
        port.drifts = seeds.pick(&[0, 0, 0, 1, 3, 4]);
        port.trouble = seeds.pick(&[None, None, Some("the switch refuses VLAN 100".to_owned())]);
        port
    };
    names[..many].iter().map(&mut any).collect()
}

fn client(seeds: &mut Seeds, attempt: Option<Attempt>) -> Option<ClientSight> {
    if seeds.one_in(3) {
        return None;
    }
    let moments = [
        DhcpMoment::Ignored,
        DhcpMoment::Offered,
        DhcpMoment::Refused,
        DhcpMoment::Bound,
        DhcpMoment::Released,
        DhcpMoment::Declined,
        DhcpMoment::Seen,
    ];
    let architecture = seeds.pick(&[None, None, Some(Architecture::Bios)]);
    Some(ClientSight {
        attempt,
        moment: seeds.pick(&moments),
        address: seeds.pick(&[None, Some([10, 7, 0, 20].into())]),
        architecture,
        firmware: architecture.is_some(),
    })
}

fn job(seeds: &mut Seeds) -> Option<JobStatus> {
    let kinds = [FailureKind::NoImage, FailureKind::CorruptImage, FailureKind::DiskTooSmall];
    let exported = Exported { disk: "sda".into(), size: 10 << 20, port: 3260, sessions: 0 };
    let state = match seeds.below(7) {
        0 => return None,
        1 => JobState::Running(Progress { phase: Phase::Write, done: 1 << 20, total: 9 << 20 }),
        2 => JobState::Failed(Failure { kind: seeds.pick(&kinds), text: "the disk sda is too small".into() }),
        3 => JobState::Exported(exported),
        _ => JobState::Done(seeds.pick(&[
            outcome(Step::WriteImage),
            outcome(Step::Finish),
            outcome(Step::Erase),
        ])),
    };
    Some(JobStatus { id: "write".into(), state })
}

fn push(seeds: &mut Seeds) -> PushState {
    let total = 9 << 20;
    seeds.pick(&[
        PushState::Connecting { last: None },
        PushState::Connecting { last: Some("no answer from 10.7.0.20:3260".into()) },
        PushState::Writing { done: 1 << 20, total },
        PushState::ReadingBack { done: 1 << 20, total },
        PushState::Done { sent: total, millis: (900, 300) },
        PushState::Failed { why: "the disk is smaller than the image".into() },
    ])
}

fn root(seeds: &mut Seeds) -> Option<VolumeSight> {
    let states = [
        None,
        Some(VolumeState::Gone),
        Some(VolumeState::Ready { allocated: 4096, flat: false }),
        Some(VolumeState::Failed { why: "there is no room for it".into() }),
    ];
    (!seeds.one_in(3)).then(|| VolumeSight {
        id: "n1-17".parse().unwrap(),
        state: seeds.pick(&states),
        exported: seeds.one_in(2),
        trouble: seeds.pick(&[None, None, Some("volume n1-17 cannot be opened".to_owned())]),
    })
}

fn sight(seeds: &mut Seeds, journey: &Journey) -> Sight {
    let trouble = [
        None,
        None,
        None,
        Some(BmcTrouble::Silent("the BMC does not answer".into())),
        Some(BmcTrouble::Credentials("the BMC refuses the password".into())),
        Some(BmcTrouble::Inert("the BMC accepts and nothing happens".into())),
    ];
    let (boot_attempt, system) =
        (named(seeds, journey, Journey::attempt), named(seeds, journey, Journey::system));
    let agent = named(seeds, journey, Journey::attempt).map(|attempt| AgentSight {
        attempt,
        connected: seeds.one_in(2),
        status: (!seeds.one_in(4)).then(|| Status {
            version: VERSION,
            agent: "0.1.0".into(),
            inventory: Inventory::default(),
            job: job(seeds),
        }),
    });
    Sight {
        power: seeds.pick(&[None, Some(Power::On), Some(Power::Off)]),
        power_wish: named(seeds, journey, Journey::wish),
        power_acts: seeds.pick(&[0, 1, 4]),
        bmc: "10.8.0.11".into(),
        bmc_trouble: seeds.pick(&trouble),
        hands_away: seeds.pick(&[vec![], vec![], vec!["power"], vec!["power", "switch"]]),
        ports: ports(seeds, journey),
        boot_client: client(seeds, boot_attempt),
        script: named(seeds, journey, Journey::attempt),
        agent,
        tenant_client: client(seeds, system.clone()),
        san_client: client(seeds, system),
        san_script: named(seeds, journey, Journey::system),
        push: named(seeds, journey, Journey::attempt).map(|attempt| (attempt, push(seeds))),
        root: root(seeds),
        sessions: seeds.pick(&[vec![], vec!["10.22.0.74".to_owned()]]),
        open_to_it: seeds.pick(&[vec![], vec![], vec!["volume n1-17 is still exported".to_owned()]]),
    }
}
