use crate::Output;
use crate::client::Client;
use crate::node::view;
use crate::show::{json, octets, span};
use agent_proto::{Outcome, Phase};
use anyhow::{Result, bail};
use boot::NodeName;
use control::NodeView;
use core::time::Duration;
use deploy::{Arrow, Seen, Step};
use indicatif::{ProgressBar, ProgressStyle};
use rack::{DeployInterface, LinkState, ProvisionState};
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

/// How often a bar is drawn anew while nothing happens.
const TURN: Duration = Duration::from_millis(300);
/// How long an appliance may be away while a journey is followed: it may be restarting.
const AWAY: u32 = 100;

/// Shows how a journey goes until it ends; a failed one is an error.
pub(crate) fn follow(client: &Client, output: Output, node: &NodeName) -> Result<()> {
    let news = news(client, node);
    let bar = if output == Output::Table && io::stderr().is_terminal() {
        ProgressBar::new(1)
    } else {
        ProgressBar::hidden()
    };
    let plain = output == Output::Table && !io::stderr().is_terminal();
    let mut last = String::new();
    let mut away = 0;
    let view = loop {
        let view = match view(client, node) {
            Ok(view) => view,
            Err(e) if away >= AWAY => return Err(e),
            Err(e) => {
                away += 1;
                bar.set_message(format!("{e:#}"));
                news.recv_timeout(TURN).ok();
                continue;
            }
        };
        away = 0;
        if view.step.is_none() {
            break view;
        }
        draw(&bar, &view);
        if plain {
            let line = line(&view);
            if line != last {
                writeln!(io::stderr(), "{line}").ok();
                last = line;
            }
        }
        if let Err(RecvTimeoutError::Disconnected) = news.recv_timeout(TURN) {
            // The log broke off; the pace is kept by a channel that nobody writes to.
            let (_keep, silence) = channel::<()>();
            silence.recv_timeout(TURN).ok();
        }
    };
    bar.finish_and_clear();
    if output == Output::Json {
        json(&view)?;
    } else {
        explain(&view)?;
    }
    match view.failure {
        Some(failure) => bail!("{node} is {}: {}", view.provision_state, failure.reason),
        None => Ok(()),
    }
}

/// A nudge whenever something happens to the node.
fn news(client: &Client, node: &NodeName) -> Receiver<()> {
    let (nudge, news) = channel();
    let lines = client.lines(&format!("/v1/events?node={node}&follow=true"));
    // The thread ends with the process, or when the log or the reader does.
    std::thread::spawn(move || {
        for line in lines.into_iter().flatten() {
            if line.is_err() || nudge.send(()).is_err() {
                return;
            }
        }
    });
    news
}

fn draw(bar: &ProgressBar, view: &NodeView) {
    let Some(step) = &view.step else { return };
    let (at, of) = step.position;
    let begun = span(view.now.since(step.since));
    let head = format!("{} {at}/{of} {}", view.name, step.step);
    let progress = view.agent.as_ref().and_then(|agent| agent.progress.as_ref()).filter(|p| p.total > 0);
    match progress {
        Some(progress) => {
            let style = "{prefix} [{bar:20}] {bytes}/{total_bytes} {bytes_per_sec} {msg}";
            bar.set_style(
                ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar.set_length(progress.total);
            bar.set_position(progress.done);
            bar.set_message(phase(progress.phase));
        }
        None => {
            let style = "{prefix} [{bar:20}] {wide_msg}";
            bar.set_style(
                ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar.set_length(of as u64);
            bar.set_position(at as u64 - 1);
            bar.set_message(format!("{begun}: {}", step.waits_for));
        }
    }
    bar.set_prefix(head);
    bar.tick();
}

fn link(link: LinkState) -> &'static str {
    match link {
        LinkState::Up => "up",
        LinkState::Down => "down",
        LinkState::Unknown => "unknown",
    }
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Prepare => "preparing",
        Phase::Write => "writing",
        Phase::Verify => "reading back",
        Phase::Finish => "finishing",
        Phase::Erase => "wiping",
    }
}

fn line(view: &NodeView) -> String {
    let Some(step) = &view.step else { return format!("{}: {}", view.name, view.provision_state) };
    let (at, of) = step.position;
    format!("{}: {at}/{of} {}, attempt {} of {}", view.name, step.step, step.attempt.0, step.attempt.1)
}

/// What a node is doing, waits for, or failed at.
pub(crate) fn explain(view: &NodeView) -> Result<()> {
    let mut out = io::stdout().lock();
    let since = span(view.now.since(view.since));
    let power = view.power.map_or_else(|| "power unknown".to_owned(), |power| format!("power {power}"));
    writeln!(out, "{}: {} for {since}, {power}", view.name, view.provision_state)?;
    if let (Some(image), Some(network)) = (&view.image, &view.network) {
        let address = view.address.map_or_else(String::new, |address| format!(", address {address}"));
        let from = match view.interface {
            Some(DeployInterface::San) => ", booted from a volume",
            _ => "",
        };
        writeln!(out, "  image {image} on network {network}{address}{from}")?;
    }
    if let Some(spare) = &view.replaced_by {
        writeln!(out, "  node {spare} is to take its place")?;
    }
    if let Some(failed) = &view.reserved_for {
        writeln!(out, "  it is to take the place of node {failed}")?;
    }
    if let Some(storage) = &view.storage {
        for lun in &storage.luns {
            let root = if lun.root { ", which it boots from" } else { "" };
            writeln!(out, "  logical unit {}: volume {}, {}{root}", lun.lun, lun.volume, octets(lun.size))?;
        }
        let sessions = match storage.sessions.as_slice() {
            [] => "nobody is logged in".to_owned(),
            peers => format!("logged in from {}", peers.join(" and ")),
        };
        writeln!(out, "  at {} of {}: {sessions}", storage.target, storage.portal)?;
        if let Some(trouble) = &storage.trouble {
            writeln!(out, "  {trouble}")?;
        }
    }
    if let Some(Outcome::Written { disk, image_bytes, received_bytes, written_bytes, kept_bytes, millis }) =
        &view.written
    {
        writeln!(
            out,
            "  {disk}: {} of image, {} received, {} written, {} kept; {} ms written, {} ms read back",
            octets(*image_bytes),
            octets(*received_bytes),
            octets(*written_bytes),
            octets(*kept_bytes),
            millis.0,
            millis.1
        )?;
    }
    for port in &view.ports {
        let mode = port.mode.map_or_else(|| "not read".to_owned(), |mode| mode.to_string());
        writeln!(
            out,
            "  {} on {} port {}: {mode}, link {}",
            port.mac,
            port.switch,
            port.switch_port,
            link(port.link)
        )?;
    }
    if let Some(step) = &view.step {
        let (at, of) = step.position;
        writeln!(out)?;
        writeln!(
            out,
            "  {}, step {at} of {of}: {}, for {}, attempt {} of {}",
            step.goal,
            step.step,
            span(view.now.since(step.since)),
            step.attempt.0,
            step.attempt.1
        )?;
        writeln!(out, "  {}", step.waits_for)?;
        if let Some(until) = step.until {
            writeln!(out, "  patience for another {}", span(until.since(view.now)))?;
        }
        arrows(&mut out, &step.arrows)?;
    }
    if let Some(failure) = &view.failure {
        writeln!(out)?;
        let ago = span(view.now.since(failure.at));
        writeln!(out, "  FAILED at {} {ago} ago: {}", failure.step, failure.reason)?;
        arrows(&mut out, &failure.evidence)?;
        let safe = failure.unsafe_left.is_empty();
        let settled = view.step.is_none();
        if safe && settled {
            writeln!(out, "  It is in quarantine, switched off, its boot override cleared.")?;
        }
        for left in &failure.unsafe_left {
            writeln!(out, "  NOT SAFE: {left}")?;
        }
        if settled {
            let next = match view.provision_state {
                ProvisionState::Error if failure.step == Step::Fence => format!(
                    "kiln node replace {0} --with … again; with --off-by-hand if you have pulled its plugs",
                    view.name
                ),
                ProvisionState::Enroll => format!("kiln node manage {}", view.name),
                ProvisionState::DeployFailed => {
                    format!("kiln node deploy {0} … again, or kiln node undeploy {0}", view.name)
                }
                ProvisionState::CleanFailed => {
                    format!("kiln node manage {0}, then kiln node provide {0}", view.name)
                }
                _ => format!("kiln node undeploy {}", view.name),
            };
            writeln!(out, "  When that is mended: {next}")?;
        }
    }
    Ok(())
}

fn arrows(out: &mut impl io::Write, arrows: &[Arrow]) -> Result<()> {
    for arrow in arrows {
        writeln!(out, "    {:8}{}", arrow.seen, arrow.what)?;
        // What was seen need not be said twice.
        if arrow.seen == Seen::Missing {
            writeln!(out, "            last seen: {}", arrow.last_seen)?;
        }
    }
    Ok(())
}
