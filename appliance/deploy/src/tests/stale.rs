//! What happened in another attempt, boot, journey or node moves nothing.

use super::looks::stale;
use super::{fulfilled, hopeful, outcome, patience};
use crate::{AgentSight, ClientSight, Goal, Journey, Sight, Step, Verdict, VolumeSight, consider};
use agent_proto::{Exported, Failure, FailureKind, Inventory, JobState, JobStatus, Status, VERSION};
use boot::{DhcpMoment, PushState, VolumeState};

fn status(state: JobState) -> Status {
    let job = Some(JobStatus { id: "write".into(), state });
    Status { version: VERSION, agent: "0.1.0".into(), inventory: Inventory::default(), job }
}

/// All that can happen, happened to `journey`; what is, is as `now` wishes it.
fn everything(journey: &Journey, now: &Journey) -> Sight {
    let client = |attempt| {
        Some(ClientSight {
            attempt: Some(attempt),
            moment: DhcpMoment::Bound,
            address: Some([10, 7, 0, 20].into()),
            architecture: None,
            firmware: false,
        })
    };
    let exported = Exported { disk: "sda".into(), size: 10 << 20, port: 3260, sessions: 0 };
    let state = match now.step {
        Step::Export => JobState::Exported(exported),
        step => JobState::Done(outcome(step)),
    };
    Sight {
        boot_client: client(journey.attempt()),
        script: Some(journey.attempt()),
        agent: Some(AgentSight { attempt: journey.attempt(), connected: true, status: Some(status(state)) }),
        tenant_client: client(journey.system()),
        san_client: client(journey.system()),
        san_script: Some(journey.system()),
        push: (now.step == Step::WriteImage)
            .then(|| (journey.attempt(), PushState::Done { sent: 9 << 20, millis: (900, 300) })),
        root: Some(VolumeSight {
            id: "n1-17".parse().unwrap(),
            state: Some(VolumeState::Ready { allocated: 4096, flat: false }),
            exported: true,
            trouble: None,
        }),
        ..fulfilled(now)
    }
}

fn moves(verdict: &Verdict) -> bool {
    !matches!(verdict, Verdict::Wait { .. })
}

#[test]
fn what_happened_in_this_attempt_advances_every_step() {
    for journey in hopeful() {
        let journey = Journey { off_seen: true, ..journey };
        let verdict = consider(&journey, &everything(&journey, &journey), &patience(), journey.since);
        assert!(moves(&verdict), "{verdict:?} at {}", journey.step);
    }
}

#[test]
fn what_happened_in_another_attempt_advances_no_step() {
    let happens =
        [Step::Pxe, Step::Agent, Step::Export, Step::WriteImage, Step::Finish, Step::Erase, Step::Verify];
    for journey in hopeful().into_iter().filter(|journey| happens.contains(&journey.step)) {
        for other in stale(&journey) {
            // The ramdisk that boots does not know how often the disk will be booted from.
            if other.attempt() == journey.attempt() && journey.step != Step::Verify {
                continue;
            }
            let verdict = consider(&journey, &everything(&other, &journey), &patience(), journey.since);
            assert!(!moves(&verdict), "{verdict:?} at {} by {other:?}", journey.step);
        }
    }
}

#[test]
fn what_was_seen_fulfilled_for_another_wish_advances_no_step() {
    let looked_at = [Step::SecurePort, Step::ReleasePort, Step::Park, Step::Boot];
    for journey in hopeful().into_iter().filter(|journey| looked_at.contains(&journey.step)) {
        let journey = Journey { off_seen: true, ..journey };
        let earlier = hopeful().into_iter().filter(|j| j.goal == journey.goal && j.step != journey.step);
        for other in stale(&journey).into_iter().chain(earlier) {
            let then = fulfilled(&other);
            let now = fulfilled(&journey);
            let power = Sight { power_wish: then.power_wish, ..now.clone() };
            let verdict = consider(&journey, &power, &patience(), journey.since);
            assert!(!moves(&verdict), "{verdict:?} at {} by {other:?}", journey.step);
            if journey.step != Step::Boot {
                let ports = Sight { ports: then.ports, ..now };
                let verdict = consider(&journey, &ports, &patience(), journey.since);
                assert!(!moves(&verdict), "{verdict:?} at {} by {other:?}", journey.step);
            }
        }
    }
}

#[test]
fn a_job_that_another_step_asked_for_ends_no_step() {
    for (goal, step, other) in
        [(Goal::Deploy, Step::WriteImage, Step::Erase), (Goal::Clean, Step::Erase, Step::WriteImage)]
    {
        let journey = super::at(goal, step);
        let mut sight = everything(&journey, &journey);
        sight.agent.as_mut().unwrap().status = Some(status(JobState::Done(outcome(other))));
        assert!(!moves(&consider(&journey, &sight, &patience(), journey.since)));
    }
}

#[test]
fn a_job_that_failed_in_another_attempt_fails_nothing() {
    let failed = JobState::Failed(Failure { kind: FailureKind::DiskTooSmall, text: "too small".into() });
    for journey in hopeful() {
        for other in stale(&journey).into_iter().filter(|other| other.attempt() != journey.attempt()) {
            let agent = AgentSight {
                attempt: other.attempt(),
                connected: true,
                status: Some(status(failed.clone())),
            };
            let verdict = consider(
                &journey,
                &Sight { agent: Some(agent), ..Sight::default() },
                &patience(),
                journey.since,
            );
            assert!(!moves(&verdict), "{verdict:?} at {}", journey.step);
        }
    }
}
