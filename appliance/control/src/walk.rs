use crate::{Control, Event, NodeRecord, RETRY, StepEnded};
use agent_proto::{JobState, Outcome, Progress};
use boot::{NodeName, PushState};
use deploy::{Goal, Journey, Sight, Step, Verdict, consider, leg, position};
use rack::ProvisionState;
use sansio::Time;
use store::{Batch, Store};

/// Steps one node may take in one look: a route has eight legs, so more is a loop.
const MOST_STEPS: usize = 16;

impl<S: Store> Control<S> {
    /// Looks at every journey and goes on where it can.
    pub(crate) fn walk(&mut self, now: Time) {
        let settled = self.settle(now).and(self.settle_update(now));
        let mut deadline = None::<Time>;
        let mut sooner = |time: Time| deadline = Some(deadline.map_or(time, |d| d.min(time)));
        let travelling: Vec<NodeName> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.journey.is_some())
            .map(|(name, _)| name.clone())
            .collect();
        for name in travelling {
            for _ in 0..MOST_STEPS {
                let Some(node) = self.nodes.get(&name).cloned() else { break };
                let Some(mut journey) = node.journey.clone() else { break };
                let sight = self.sight(&name, &journey);
                let progress = sight.job_progress(&journey);
                if self.heard(&name, progress) {
                    journey.heard = now;
                    if let Some(node) = self.nodes.get_mut(&name) {
                        node.journey = Some(journey.clone());
                    }
                }
                let verdict = consider(&journey, &sight, &self.site.patience, now);
                if let Verdict::Wait { until, .. } = verdict {
                    sooner(until);
                    break;
                }
                let written =
                    match sight.agent(&journey).and_then(|agent| agent.status.as_ref()?.job.as_ref()) {
                        Some(job) => match &job.state {
                            JobState::Done(outcome) => Some(outcome.clone()),
                            _ => None,
                        },
                        None => None,
                    };
                let tenant = sight.tenant_client.as_ref().filter(|_| sight.seen_by_tenant(&journey));
                let tenant = tenant.and_then(|client| client.address);
                let push = sight.push(&journey).cloned();
                let before = NodeRecord { journey: Some(journey), ..node };
                let (mut node, events) = travel(before.clone(), verdict, now);
                match (node.journey.as_ref().map(|j| j.step), &written) {
                    (Some(Step::Finish), _) => {
                        node.written = push.and_then(|push| pushed(&node, &before, &sight, push))
                    }
                    (Some(Step::ReleasePort), Some(Outcome::Written { .. })) => node.written = written,
                    _ if node.state == ProvisionState::Active => node.tenant_address = tenant,
                    _ => {}
                }
                let (volumes, other, more) = self.passed_on(&before, &mut node, now);
                let batch = events.iter().chain(&more).fold(Batch::new(), |batch, event| {
                    log::info!(node:% = name, kind = event.kind.as_str(); "{}", event.text);
                    batch.event_as(event)
                });
                let batch = volumes.iter().fold(batch, |batch, v| batch.put_as(v.id.as_str(), v));
                let batch = other.iter().fold(batch, |batch, o| batch.put_as(o.spec.name.as_str(), o));
                if self.commit(batch.put_as(name.as_str(), &node)).is_err() {
                    sooner(now + RETRY);
                    break;
                }
                self.nodes.insert(name.clone(), node);
                self.nodes.extend(other.map(|other| (other.spec.name.clone(), other)));
                self.volumes.extend(volumes.into_iter().map(|volume| (volume.id.clone(), volume)));
                if self.replan().is_err() {
                    sooner(now + RETRY);
                }
            }
        }
        if settled.is_err() | self.discover(now).is_err() | self.replan().is_err() {
            sooner(now + RETRY);
        }
        self.deadline = deadline;
    }

    /// Whether the agent came further than when it was looked at last.
    fn heard(&mut self, name: &NodeName, progress: Option<Progress>) -> bool {
        let last = self.progress.get(name).copied();
        match progress {
            Some(progress) if last != Some(progress) => {
                self.progress.insert(name.clone(), progress);
                true
            }
            Some(_) => false,
            None => {
                self.progress.remove(name);
                false
            }
        }
    }
}

/// Does as `consider` said, and says what happened. Pure: the caller commits.
fn travel(mut node: NodeRecord, verdict: Verdict, now: Time) -> (NodeRecord, Vec<Event>) {
    let name = node.spec.name.clone();
    let Some(mut journey) = node.journey.take() else { return (node, Vec::new()) };
    let mut events = Vec::new();
    let mut say = |kind: &str, text: String| events.push(Event::new(now, "node", &name, kind, text));
    let millis = u64::try_from(now.since(journey.since).as_millis()).unwrap_or(u64::MAX);
    let from = journey.step;
    let ended = |next| StepEnded { goal: journey.goal, step: from, millis, next, attempt: journey.attempt };
    let ended = match &verdict {
        Verdict::Advance(step) => Some(ended(Some(*step))),
        Verdict::Arrived => Some(ended(None)),
        _ => None,
    };
    match verdict {
        Verdict::Wait { .. } => node.journey = Some(journey),
        Verdict::SeenOff => {
            journey.heard = now;
            journey.off_seen = true;
            node.journey = Some(journey);
        }
        Verdict::Advance(step) => {
            journey.enter(step, now);
            let (at, of) = position(&journey);
            say("step", format!("{from} done after {millis} ms; {at}/{of} {step} begins"));
            enter(&mut node, journey, now, &mut say);
        }
        Verdict::Again { step, why } => {
            if step == Step::ReleasePort {
                journey.boots += 1;
            } else {
                journey.attempt += 1;
            }
            journey.enter(step, now);
            say("again", format!("{from} begins again at {step}, attempt {}: {why}", journey.attempt));
            enter(&mut node, journey, now, &mut say);
        }
        Verdict::GiveUp { reason, evidence } => {
            say("failed", format!("{} failed at {from}: {reason}", journey.goal));
            let failure = deploy::Failure { step: from, at: now, reason, evidence, unsafe_left: Vec::new() };
            journey.failure = Some(failure);
            journey.enter(Step::Quarantine, now);
            node.failure = journey.failure.clone();
            node.then = None;
            node.journey = Some(journey);
        }
        Verdict::Failed { left, next } => {
            if let (Some(left), Some(failure)) = (left, &mut journey.failure) {
                say("unsafe", format!("{from} could not be done: {left}"));
                failure.unsafe_left.push(format!("{from}: {left}"));
            }
            node.failure = journey.failure.clone();
            match next {
                Some(step) => {
                    journey.enter(step, now);
                    node.journey = Some(journey);
                }
                None => {
                    let state = match journey.goal {
                        Goal::Manage => ProvisionState::Enroll,
                        Goal::Deploy => ProvisionState::DeployFailed,
                        Goal::Delete => ProvisionState::Error,
                        Goal::Clean => ProvisionState::CleanFailed,
                        Goal::Fence => ProvisionState::Error,
                    };
                    state_to(&mut node, state, now, &mut say);
                }
            }
        }
        Verdict::Arrived => {
            say("step", format!("{from} done after {millis} ms"));
            let state = match journey.goal {
                Goal::Manage | Goal::Fence => ProvisionState::Manageable,
                Goal::Deploy => ProvisionState::Active,
                Goal::Delete | Goal::Clean => ProvisionState::Available,
            };
            node.failure = None;
            match node.then.take() {
                Some(goal) => begin(&mut node, goal, now, &mut say),
                None => state_to(&mut node, state, now, &mut say),
            }
            if matches!(journey.goal, Goal::Delete | Goal::Clean) {
                node.deployment = None;
                node.tenant_address = None;
                node.written = None;
            }
        }
    }
    if let Some(event) = events.iter_mut().find(|event| event.kind == "step") {
        event.step = ended;
    }
    (node, events)
}

/// What is to be shown of a disk that the appliance has written.
fn pushed(node: &NodeRecord, before: &NodeRecord, sight: &Sight, push: PushState) -> Option<Outcome> {
    let PushState::Done { sent, millis } = push else { return node.written.clone() };
    let deployment = node.deployment.as_ref()?;
    let disk = before.journey.as_ref().and_then(|journey| sight.exported(journey));
    Some(Outcome::Written {
        disk: disk.map(|exported| exported.disk.clone()).unwrap_or_default(),
        image_bytes: deployment.size,
        received_bytes: sent,
        written_bytes: sent,
        kept_bytes: 0,
        millis,
    })
}

/// Begins a journey: the node's next.
pub(crate) fn begin(node: &mut NodeRecord, goal: Goal, now: Time, say: &mut impl FnMut(&str, String)) {
    node.journeys += 1;
    let interface = node.deployment.as_ref().map(|deployment| deployment.interface);
    let journey = Journey::begin(node.spec.name.clone(), node.journeys, goal, now)
        .by(interface.filter(|_| goal == Goal::Deploy).unwrap_or_default());
    let (at, of) = position(&journey);
    say("journey", format!("{goal} begins: {at}/{of} {}", journey.step));
    enter(node, journey, now, say);
}

fn enter(node: &mut NodeRecord, journey: Journey, now: Time, say: &mut impl FnMut(&str, String)) {
    let state = leg(&journey).state;
    node.journey = Some(journey);
    state_to(node, state, now, say);
}

fn state_to(node: &mut NodeRecord, state: ProvisionState, now: Time, say: &mut impl FnMut(&str, String)) {
    if node.state != state {
        say("state", format!("{} -> {state}", node.state));
        node.state = state;
        node.since = now;
    }
}
