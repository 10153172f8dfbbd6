//! `applianced`: the processes of the appliance that are not on the boot network.
//!
//! | subcommand | is |
//! |---|---|
//! | `supervisor` | what init starts: it starts all others, these and `bootd`'s |
//! | `control` | the one that decides: store, rules, API |
//! | `power` | the hand that talks to BMCs |
//! | `switch` | the hand that talks to switches |
//! | `host` | the hand that updates the box, on the appliance's image |

mod config;
mod control_service;
mod hand;
mod hands;
mod host_hand;
mod inherited;
mod restore;
mod table;

use anyhow::{Context as _, Result};
use bootd::clock::Clock;
use clap::{Parser, Subcommand};
use config::{Appliance, Config};
use std::path::PathBuf;
use std::process::ExitCode;

/// The processes of the appliance that are not on the boot network.
#[derive(Parser)]
#[command(name = "applianced", version)]
struct Command {
    /// The appliance's configuration.
    #[arg(long, value_name = "FILE", default_value = "/etc/kiln/kiln.toml", global = true)]
    config: PathBuf,
    #[command(subcommand)]
    process: Process,
}

#[derive(Clone, Copy, Subcommand)]
enum Process {
    /// Starts the services, restarts them, says what it waits for.
    Supervisor,
    /// Decides; keeps the store; serves the API. Started by the supervisor.
    Control,
    /// Talks to BMCs. Started by the supervisor.
    Power,
    /// Talks to switches. Started by the supervisor.
    Switch,
    /// Updates the box. Started by the supervisor, on the appliance's image.
    Host,
    /// Reads the configuration, says what is wrong with it, and ends.
    CheckConfig,
}

fn start() -> Result<()> {
    let command = Command::parse();
    let config = Config::read(&command.config)?;
    match command.process {
        Process::Supervisor => {
            let clock = Clock::start();
            loop {
                let table = table::prepare(&config, &command.config)?;
                let Appliance { run, good, watchdog, .. } = &config.appliance;
                let ended = supervisor::run(table, run, good, watchdog.as_deref(), move || clock.now());
                if ended.context("the supervisor ended")? == supervisor::Ended::Told {
                    return Ok(());
                }
            }
        }
        Process::Control => control_service::run(&config),
        Process::Power => hand::power(&config),
        Process::Switch => hand::switch(&config),
        Process::Host => host_hand::run(&config),
        Process::CheckConfig => {
            println!("{} is in order", command.config.display());
            Ok(())
        }
    }
}

fn main() -> ExitCode {
    bootd::logging::start();
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
