//! A deployment by the appliance, cut where its own time begins and ends.

use crate::material::Material;
use crate::{NODE, PATIENCE, PHASES, Phases, TENANT, clock, wire};
use agent_proto::Outcome;
use anyhow::{Context as _, Result, bail, ensure};
use control::StepEnded;
use deploy::{Goal, Step};
use hw_tests::rack::Description;
use hw_tests::stand::{self, Stand};
use sansio::Time;
use serde::Deserialize;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// One deployment.
#[derive(Debug)]
pub(crate) struct Ours {
    pub(crate) phases: Phases,
    /// What is ours to spend, in order.
    pub(crate) own: Vec<(&'static str, Duration)>,
    /// What is not: firmware, kernels, octets on their way.
    pub(crate) rest: Vec<(&'static str, Duration)>,
    /// Reading the image back.
    pub(crate) read_back: Duration,
    /// From PID 1 to its connection, by the agent's own clock.
    pub(crate) connected: Duration,
    /// From the agent's order to its end, by its own clock.
    pub(crate) job: Duration,
    /// Receiving, checking, writing, flushing.
    pub(crate) write: Duration,
}

#[derive(Deserialize)]
struct Line {
    number: u64,
    at: Time,
    kind: String,
    step: Option<StepEnded>,
}

/// Deploys the node once on a rack of its own.
pub(crate) fn deployed(description: &Description, directory: &Path, material: &Material) -> Result<Ours> {
    let stand = Stand::raise(description, directory, stand::PATIENCE)?;
    stand.describe()?;
    stand.kiln(&["image", "import", "bench", &material.image.display().to_string()])?;
    stand.enroll(NODE)?;
    let rack = stand.rack();
    let wire = rack.capture(TENANT)?;
    let mark = rack.console_mark(NODE)?;
    let status: Value = stand.kiln_json(&["status"])?;
    let after = status["newest_event"].as_u64().context("no newest event")?;

    let asked = clock::now();
    stand.kiln(&["node", "deploy", NODE, "--image", "bench", "--network", TENANT, "--no-wait"])?;
    // Asking the appliance again and again would be counted as its own work: the console is watched.
    let explained = || stand.kiln(&["node", "explain", NODE]).unwrap_or_default();
    let said = rack.wait_console(NODE, mark, "deploy agent up", PATIENCE).with_context(explained)?;
    let seen_up = clock::now();
    let up = seen_up.micros().saturating_sub(agent_clock(&said, "deploy agent up")?.as_micros() as u64);
    let up = Time::from_micros(up);
    rack.wait_console(NODE, mark, "KILN tiny up", PATIENCE).with_context(explained)?;
    let view = stand.wait_state(NODE, "active", PATIENCE)?;
    let leased = wire::acknowledged(&wire)?;
    let said = rack.console_after(NODE, mark)?;

    let text = stand.kiln(&["-o", "json", "node", "timeline", NODE])?;
    let lines: Vec<Line> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let lines = || lines.iter().filter(|line| line.number > after);
    let began = lines().find(|line| line.kind == "journey").context("no journey began")?.at;
    let ends: Vec<(Step, Time)> = lines()
        .filter_map(|line| Some((line.step.as_ref().filter(|step| step.goal == Goal::Deploy)?, line.at)))
        .map(|(step, at)| (step.step, at))
        .collect();
    ensure!(
        ends.iter().map(|(step, _)| *step).eq(PHASES),
        "the deployment did not go straight: {ends:?}; run it again when the machine is less busy"
    );
    let end = |step: Step| ends.iter().find(|(of, _)| *of == step).map_or(began, |(_, at)| *at);
    let mut phases = Phases::default();
    let mut last = began;
    for (step, at) in &ends {
        phases.insert(*step, at.since(last));
        last = *at;
    }
    let phase = |step: Step| phases.get(&step).copied().unwrap_or_default();
    let Some(Outcome::Written { received_bytes, millis: (write, read_back), .. }) = view.written else {
        bail!("nothing was written on {NODE}");
    };
    let (write, read_back) = (Duration::from_millis(write), Duration::from_millis(read_back));
    ensure!(received_bytes == material.octets, "{received_bytes} octets came of {}", material.octets);

    let on = switched_on(rack.directory(), "on, boot pxe")?;
    let script = end(Step::Pxe);
    let own = vec![
        ("deploy asked to journey begun", began.since(asked)),
        ("secure-port", phase(Step::SecurePort)),
        ("pxe: begun to power on", on.since(end(Step::SecurePort))),
        ("agent: PID 1 to hello", end(Step::Agent).since(up)),
        ("write-image: around the octets", phase(Step::WriteImage).saturating_sub(write + read_back)),
        ("release-port", phase(Step::ReleasePort)),
        ("boot", phase(Step::Boot)),
        ("verify: tenant's lease to active", end(Step::Verify).since(leased)),
    ];
    let rest = vec![
        ("firmware: power on to script", script.since(on)),
        ("script to PID 1: kernel, initramfs", up.since(script)),
        ("receiving, checking, writing", write),
        ("the tenant's system to its lease", leased.since(end(Step::Boot))),
    ];
    Ok(Ours {
        own,
        rest,
        read_back,
        connected: agent_clock(&said, "info connected ")?,
        job: agent_clock(&said, "info job done ")?.saturating_sub(agent_clock(&said, "info job begins ")?),
        write,
        phases,
    })
}

/// When the agent said something, counted from its own beginning: `[     0.123] info connected ...`.
fn agent_clock(said: &str, phrase: &str) -> Result<Duration> {
    let line = said.lines().find(|line| line.contains(phrase));
    let stamp = line.and_then(|line| line.split('[').nth(1)?.split(']').next()?.trim().parse::<f64>().ok());
    let stamp = stamp.with_context(|| format!("the agent did not say \"{phrase}\" on its console"))?;
    Ok(Duration::from_secs_f64(stamp))
}

/// When the chassis was switched on, as its log says in milliseconds since 1970.
fn switched_on(rack: &Path, what: &str) -> Result<Time> {
    let log = fs::read_to_string(rack.join("nodes").join(NODE).join("chassis.log"))?;
    let at = log.lines().rev().find_map(|line| line.strip_suffix(what)?.trim().parse().ok());
    at.map(Time::from_millis).with_context(|| format!("the chassis was never \"{what}\""))
}
