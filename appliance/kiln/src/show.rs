use crate::Output;
use crate::client::Client;
use anyhow::{Context as _, Result, bail};
use control::{CredentialsView, DiscoveredView, Event, StatusView};
use core::time::Duration;
use sansio::Time;
use serde::{Deserialize, Serialize};
use std::io::{self, Write as _};

/// Prints a value as JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value).context("cannot print")?;
    Ok(writeln!(out)?)
}

/// Prints rows below their headings, in columns as wide as what is in them.
pub(crate) fn table<const N: usize>(
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> Result<()> {
    let rows: Vec<[String; N]> = rows.into_iter().collect();
    let width: [usize; N] = core::array::from_fn(|at| {
        rows.iter().map(|row| row[at].chars().count()).chain([head[at].len()]).max().unwrap_or(0)
    });
    let mut out = io::stdout().lock();
    let mut line = |cells: [&str; N]| -> io::Result<()> {
        let mut text = String::new();
        for (cell, width) in cells.iter().zip(width) {
            text.push_str(&format!("{cell:width$}  "));
        }
        writeln!(out, "{}", text.trim_end())
    };
    line(head)?;
    for row in &rows {
        line(core::array::from_fn(|at| row[at].as_str()))?;
    }
    Ok(())
}

/// A length of time as people say it: `850 ms`, `32 s`, `5 min 10 s`, `3 h 20 min`, `2 d 4 h`.
pub(crate) fn span(time: Duration) -> String {
    let secs = time.as_secs();
    match secs {
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{secs} s"),
        60..3600 => format!("{} min {} s", secs / 60, secs % 60),
        3600..86400 => format!("{} h {} min", secs / 3600, secs % 3600 / 60),
        _ => format!("{} d {} h", secs / 86400, secs % 86400 / 3600),
    }
}

/// Octets as people say them.
pub(crate) fn octets(count: u64) -> String {
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{:.1} KiB", count as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", count as f64 / 1_048_576.0),
        _ => format!("{:.2} GiB", count as f64 / 1_073_741_824.0),
    }
}

fn moment(at: Time) -> String {
    let micros = i64::try_from(at.micros()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_microsecond(micros)
        .map_or_else(|_| at.to_string(), |stamp| stamp.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

/// A line of the event log.
#[derive(Deserialize, Serialize)]
struct Line {
    number: u64,
    #[serde(flatten)]
    event: Event,
}

fn say(output: Output, text: &str, node: bool) -> Result<()> {
    let mut out = io::stdout().lock();
    if text.trim().is_empty() {
        return Ok(());
    }
    if output == Output::Json {
        return Ok(writeln!(out, "{text}")?);
    }
    let Ok(Line { number, event }) = serde_json::from_str::<Line>(text) else {
        return Ok(writeln!(out, "(events before this were kept no longer)")?);
    };
    let at = moment(event.at);
    let subject =
        if node { String::new() } else { format!("{} {}  ", event.subject.kind, event.subject.name) };
    Ok(writeln!(out, "{number:>6}  {at}  {subject}{:8}  {}", event.kind, event.text)?)
}

/// Events as they happen, until interrupted.
pub(crate) fn watch(client: &Client, output: Output, node: Option<&str>, after: Option<u64>) -> Result<()> {
    let after = match after {
        Some(after) => after,
        None => client.get::<StatusView>("/v1/status")?.newest_event,
    };
    let only = node.map(|node| format!("&node={node}")).unwrap_or_default();
    for line in client.lines(&format!("/v1/events?after={after}&follow=true{only}"))? {
        say(output, &line.context("the appliance ended the log: it may be restarting")?, node.is_some())?;
    }
    Ok(())
}

/// A node's events so far.
pub(crate) fn timeline(client: &Client, output: Output, node: &str) -> Result<()> {
    for line in client.lines(&format!("/v1/events?node={node}"))? {
        say(output, &line.context("the appliance's answer was cut off")?, true)?;
    }
    Ok(())
}

/// What a node's system needs to log in to its volumes.
pub(crate) fn credentials(view: &CredentialsView) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "portal            {}", view.storage.portal)?;
    writeln!(out, "target            {}", view.storage.target)?;
    writeln!(out, "initiator         {}", view.storage.initiator)?;
    writeln!(out, "user              {}", view.user)?;
    writeln!(out, "secret            {}", view.secret.expose())?;
    if let Some(secret) = &view.target_secret {
        writeln!(out, "target's user     {}", view.target_user)?;
        writeln!(out, "target's secret   {}", secret.expose())?;
    }
    for lun in &view.storage.luns {
        writeln!(out, "logical unit {:<4} volume {}, {}", lun.lun, lun.volume, octets(lun.size))?;
    }
    Ok(())
}

/// Damage that was found.
#[derive(Deserialize, Serialize)]
struct Damage {
    images: Vec<String>,
    volumes: Vec<String>,
    what: String,
    lost: bool,
}

/// Has everything read that has a checksum; damage by which octets are lost is an error.
pub(crate) fn scrub(client: &Client, output: Output) -> Result<()> {
    let found: Vec<Damage> = client.post("/v1/scrub", &serde_json::json!({}))?;
    if output == Output::Json {
        json(&found)?;
    } else {
        let rows = found.iter().map(|damage| {
            let lost = if damage.lost { "lost" } else { "a second copy serves" };
            [damage.images.join(" "), damage.volumes.join(" "), lost.to_owned(), damage.what.clone()]
        });
        table(["IMAGES", "VOLUMES", "OCTETS", "WHAT"], rows)?;
    }
    match found.iter().filter(|damage| damage.lost).count() {
        0 => Ok(()),
        lost => bail!("{lost} are damaged; what each line says mends it"),
    }
}

/// The appliance and its hands.
pub(crate) fn status(client: &Client, output: Output) -> Result<()> {
    let status: StatusView = client.get("/v1/status")?;
    if output == Output::Json {
        return json(&status);
    }
    let mut out = io::stdout().lock();
    writeln!(out, "Kiln {}, {} nodes, newest event {}", status.version, status.nodes, status.newest_event)?;
    if let Some(trouble) = &status.store_trouble {
        writeln!(out, "STORE: {trouble}")?;
    }
    drop(out);
    let rows = status.hands.iter().map(|hand| {
        let plan = match hand.holds {
            Some(holds) if holds == hand.newest => format!("{holds}"),
            Some(holds) => format!("{holds}, {} is on its way", hand.newest),
            None => "none".into(),
        };
        let troubles = hand.troubles.join("; ");
        let state = if hand.connected { "on the line" } else { "away" };
        [hand.hand.to_string(), state.into(), plan, troubles]
    });
    table(["SERVICE", "STATE", "PLAN", "TROUBLE"], rows)
}

/// Machines that nobody enrolled.
pub(crate) fn discovered(client: &Client, output: Output) -> Result<()> {
    let found: Vec<DiscoveredView> = client.get("/v1/discovered")?;
    if output == Output::Json {
        return json(&found);
    }
    let rows = found.iter().map(|found| {
        let firmware = found.architecture.map(|a| format!("{a:?}").to_lowercase()).unwrap_or_default();
        let uuid = found.uuid.clone().unwrap_or_default();
        [found.mac.to_string(), found.network.clone(), firmware, uuid, moment(found.first_seen)]
    });
    table(["MAC", "NETWORK", "FIRMWARE", "UUID", "FIRST SEEN"], rows)
}
