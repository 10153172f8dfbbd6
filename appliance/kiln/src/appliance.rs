use crate::client::Client;
use crate::show::json;
use crate::{Output, backup};
use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use control::{ApplianceView, UpdateView};
use core::time::Duration;
use indicatif::{ProgressBar, ProgressStyle};
use rack::Stage;
use std::fs::File;
use std::path::PathBuf;
use std::thread;

/// How often an update is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How often in a row an appliance that starts again may not answer: minutes, each takes up to five seconds.
const MOST_AWAY: u32 = 240;

#[derive(Subcommand)]
pub(crate) enum Appliance {
    /// What runs, what is in the slots, how the last update went, and what is wrong with the box.
    Show,
    /// Writes a bundle to the slot that does not run, starts the box from it, and waits until it proved itself.
    Update {
        /// kiln-VERSION.raucb.
        bundle: PathBuf,
        /// Leave it to somebody to start the box again.
        #[arg(long)]
        no_restart: bool,
        /// Do not wait for what becomes of it.
        #[arg(long)]
        no_wait: bool,
    },
    /// Makes a backup of all there is: what is known, the token, images, volumes, the box's configuration.
    Backup(backup::Backup),
    /// Puts a backup in the place of what there is.
    Restore(backup::Restore),
    /// Wipes all that the box keeps, configuration and token too, and starts it as it was flashed.
    Reset {
        /// It cannot be undone.
        #[arg(long)]
        yes: bool,
    },
}

pub(crate) fn run(client: &Client, output: Output, appliance: Appliance) -> Result<()> {
    match appliance {
        Appliance::Show => show(output, &client.get("/v1/appliance")?),
        Appliance::Update { bundle, no_restart, no_wait } => {
            let opened = File::open(&bundle).with_context(|| format!("cannot read {}", bundle.display()))?;
            let length =
                opened.metadata().with_context(|| format!("cannot read {}", bundle.display()))?.len();
            let bar = if output == Output::Table { ProgressBar::new(length) } else { ProgressBar::hidden() };
            let style = "sends [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}";
            bar.set_style(
                ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            let path = format!("/v1/appliance/update?restart={}", !no_restart);
            let view: ApplianceView = client.upload(&path, bar.wrap_read(opened))?;
            bar.finish_and_clear();
            let number =
                view.update.as_ref().context("the appliance took the bundle and knows no update")?.number;
            if no_wait {
                return show(output, &view);
            }
            let view = wait(client, output, number, !no_restart)?;
            if output == Output::Json { json(&view) } else { Ok(()) }
        }
        Appliance::Backup(wanted) => backup::backup(client, output, &wanted),
        Appliance::Restore(wanted) => backup::restore(client, output, &wanted),
        Appliance::Reset { yes: false } => {
            bail!(
                "all that the appliance keeps is wiped, and cannot be had again: say --yes, after kiln appliance backup"
            )
        }
        Appliance::Reset { yes: true } => {
            let _: ApplianceView = client.post("/v1/appliance/reset", &serde_json::json!({}))?;
            println!("the box starts again, and is as it was flashed");
            Ok(())
        }
    }
}

/// Waits until nothing more comes of an update; says each stage once.
fn wait(client: &Client, output: Output, number: u64, restarts: bool) -> Result<ApplianceView> {
    let mut said = String::new();
    let mut away = 0;
    loop {
        match client.get::<ApplianceView>("/v1/appliance") {
            Ok(view) => {
                away = 0;
                let Some(UpdateView { stage, .. }) = view.update.clone().filter(|it| it.number == number)
                else {
                    bail!("the appliance knows nothing of update {number} any more: kiln appliance show")
                };
                if let Some(stage) = &stage {
                    let text = stage.to_string();
                    if text != said && output == Output::Table {
                        println!("update {number}: {text}");
                    }
                    said = text;
                }
                match stage {
                    Some(Stage::Failed { why }) => bail!("the update failed: {why}"),
                    Some(Stage::Good { .. }) => return Ok(view),
                    Some(Stage::Installed { .. }) if !restarts => return Ok(view),
                    _ => {}
                }
            }
            // It starts again.
            Err(_) if away < MOST_AWAY => away += 1,
            Err(e) => return Err(e.context("the appliance started again and does not answer")),
        }
        thread::park_timeout(LOOK);
    }
}

fn show(output: Output, view: &ApplianceView) -> Result<()> {
    if output == Output::Json {
        return json(view);
    }
    println!("Kiln {}", view.version);
    if let Some(box_) = &view.box_ {
        for slot in &box_.slots {
            let version = slot.version.as_deref().unwrap_or("empty");
            let mut words = vec![if slot.slot == box_.slot { "runs" } else { "" }];
            words.push(if slot.good { "" } else { "not to be started" });
            words.push(if slot.trial { "on trial" } else { "" });
            let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
            println!("  slot {}  {version}  {}", slot.slot, words.join(", "));
        }
        if !box_.updatable {
            println!("  takes no updates: built without a certificate");
        }
        for trouble in &box_.troubles {
            println!("  WRONG   {trouble}");
        }
    }
    if let Some(UpdateView { number, stage, .. }) = &view.update {
        let stage = stage.as_ref().map_or_else(|| "waits for the box".to_owned(), ToString::to_string);
        println!("  update {number}: {stage}");
    }
    Ok(())
}
