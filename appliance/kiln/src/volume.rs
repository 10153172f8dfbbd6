use crate::Output;
use crate::client::Client;
use crate::show::{json, octets, table};
use anyhow::{Context as _, Result, bail};
use boot::{NodeName, VolumeId, VolumeState};
use clap::Subcommand;
use control::VolumeView;
use core::time::Duration;
use rack::{ImageName, VolumeSpec};
use serde_json::json as value;
use std::sync::mpsc::channel;

/// How often a volume is looked at while something is awaited of it.
const TURN: Duration = Duration::from_millis(100);
/// How often at most: half a minute in all.
const TURNS: u32 = 300;

#[derive(Subcommand)]
pub(crate) enum Volume {
    /// Makes a volume: of zeros, of an image, or of what another volume holds now. Nothing is copied.
    Create {
        volume: VolumeId,
        /// Its size: 10G, 512M, or octets; without it, its image's or volume's.
        #[arg(long, value_parser = size)]
        size: Option<u64>,
        /// The image it begins as.
        #[arg(long, conflicts_with = "from")]
        image: Option<ImageName>,
        /// The volume it begins as.
        #[arg(long)]
        from: Option<VolumeId>,
    },
    /// All volumes.
    List,
    /// One volume.
    Show { volume: VolumeId },
    /// Gives it to a node, whose system finds it as another disk.
    Attach {
        volume: VolumeId,
        /// The node.
        #[arg(long)]
        to: NodeName,
        /// Refuse writes.
        #[arg(long)]
        read_only: bool,
    },
    /// Takes it from its node, whose system should have let go of it before.
    Detach { volume: VolumeId },
    /// Makes a volume of what another holds now: it can be read, written and attached as any other.
    Snapshot {
        volume: VolumeId,
        /// What to call the new one.
        #[arg(long)]
        name: VolumeId,
    },
    /// Makes it hold all its content itself, so that nothing it was made from is needed.
    Flatten { volume: VolumeId },
    /// Removes it and what it holds.
    Delete { volume: VolumeId },
}

/// `10G`, `512M`, `4K` or octets; powers of 1024.
fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text
        .trim_end_matches(['i', 'B'])
        .split_at_checked(text.trim_end_matches(['i', 'B']).len().saturating_sub(1))
    {
        Some((digits, "K" | "k")) => (digits, 10),
        Some((digits, "M" | "m")) => (digits, 20),
        Some((digits, "G" | "g")) => (digits, 30),
        Some((digits, "T" | "t")) => (digits, 40),
        _ => (text, 0),
    };
    let wrong = || format!("{text:?} is no size: it looks like 10G, 512M or a number of octets");
    let count: u64 = digits.parse().map_err(|_| wrong())?;
    count.checked_mul(1 << shift).filter(|octets| *octets > 0).ok_or_else(wrong)
}

pub(crate) fn run(client: &Client, output: Output, volume: Volume) -> Result<()> {
    match volume {
        Volume::Create { volume, size, image, from } => {
            let spec = VolumeSpec { name: volume.clone(), size, image, volume: from };
            create(client, output, &volume, &spec)
        }
        Volume::Snapshot { volume, name } => {
            let spec = VolumeSpec { name: name.clone(), size: None, image: None, volume: Some(volume) };
            create(client, output, &name, &spec)
        }
        Volume::List => {
            let volumes: Vec<VolumeView> = client.get("/v1/volumes")?;
            if output == Output::Json {
                return json(&volumes);
            }
            let rows = volumes.iter().map(|volume| {
                [
                    volume.name.to_string(),
                    octets(volume.size),
                    held(volume),
                    state(volume),
                    volume.from.clone().unwrap_or_default(),
                    volume.node.as_ref().map(|node| node.to_string()).unwrap_or_default(),
                    volume.lun.map(|lun| lun.to_string()).unwrap_or_default(),
                ]
            });
            table(["VOLUME", "SIZE", "HELD", "STATE", "FROM", "NODE", "LUN"], rows)
        }
        Volume::Show { volume } => show(output, &view(client, &volume)?),
        Volume::Attach { volume, to, read_only } => {
            let body = value!({ "node": to, "read_only": read_only });
            let _: VolumeView = client.post(&format!("/v1/volumes/{volume}/attach"), &body)?;
            let view = wait(client, &volume, "exported", |view| view.exported.is_some())?;
            show(output, &view)
        }
        Volume::Detach { volume } => {
            let _: VolumeView = client.post(&format!("/v1/volumes/{volume}/detach"), &value!({}))?;
            let view = wait(client, &volume, "out of reach of its node", |view| view.exported.is_none())?;
            show(output, &view)
        }
        Volume::Flatten { volume } => {
            let view: VolumeView = client.post(&format!("/v1/volumes/{volume}/flatten"), &value!({}))?;
            show(output, &view)
        }
        Volume::Delete { volume } => client.delete(&format!("/v1/volumes/{volume}")),
    }
}

fn create(client: &Client, output: Output, volume: &VolumeId, spec: &VolumeSpec) -> Result<()> {
    client.put(&format!("/v1/volumes/{volume}"), spec)?;
    let made = |view: &VolumeView| matches!(view.state, Some(VolumeState::Ready { .. }));
    show(output, &wait(client, volume, "there", made)?)
}

fn view(client: &Client, volume: &VolumeId) -> Result<VolumeView> {
    client.get(&format!("/v1/volumes/{volume}"))
}

/// Looks at a volume until it is as it should be.
fn wait(
    client: &Client,
    volume: &VolumeId,
    what: &str,
    done: impl Fn(&VolumeView) -> bool,
) -> Result<VolumeView> {
    // The pace is kept by a channel that nobody writes to.
    let (_keep, silence) = channel::<()>();
    for _ in 0..TURNS {
        let view = view(client, volume)?;
        if done(&view) {
            return Ok(view);
        }
        if let Some(VolumeState::Failed { why }) = &view.state {
            bail!("volume {volume}: {why}");
        }
        silence.recv_timeout(TURN).ok();
    }
    Err(anyhow::anyhow!("kiln status says how the iscsi service is"))
        .with_context(|| format!("volume {volume} is not {what} after {} s", (TURN * TURNS).as_secs()))
}

fn held(volume: &VolumeView) -> String {
    match volume.state {
        Some(VolumeState::Ready { allocated, .. }) => octets(allocated),
        _ => String::new(),
    }
}

fn state(volume: &VolumeView) -> String {
    match &volume.state {
        _ if volume.removing => "being removed".into(),
        None => "not known: the iscsi service has not said".into(),
        Some(VolumeState::Gone) => "not made yet".into(),
        Some(VolumeState::Failed { why }) => why.clone(),
        Some(VolumeState::Ready { .. }) if volume.exported.is_some() => "exported".into(),
        Some(VolumeState::Ready { .. }) => "ready".into(),
    }
}

fn show(output: Output, volume: &VolumeView) -> Result<()> {
    if output == Output::Json {
        return json(volume);
    }
    println!("{}: {}, {}", volume.name, octets(volume.size), state(volume));
    if let Some(from) = &volume.from {
        println!("  made from {from}");
    }
    if let Some(VolumeState::Ready { allocated, flat }) = volume.state {
        let rest = if flat { "needs nothing else" } else { "the rest is what it was made from" };
        println!("  holds {} itself; {rest}", octets(allocated));
    }
    if let (Some(node), Some(lun)) = (&volume.node, volume.lun) {
        let how = match (volume.root, volume.read_only) {
            (true, _) => ", which boots from it",
            (false, true) => ", only to be read",
            (false, false) => "",
        };
        println!("  node {node} has it as logical unit {lun}{how}");
    }
    if let Some(target) = &volume.exported {
        println!("  at target {target}");
    }
    Ok(())
}
