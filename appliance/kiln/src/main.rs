//! `kiln`: the operator's command line. It knows the API and nothing else.

mod appliance;
mod backup;
mod client;
mod image;
mod journey;
mod network;
mod node;
mod show;
mod switch;
mod volume;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use client::Client;
use std::path::PathBuf;
use std::process::ExitCode;

/// Turns bare servers into running ones and back.
#[derive(Parser)]
#[command(name = "kiln", version)]
struct Command {
    /// The appliance's API.
    #[arg(long, env = "KILN_URL", default_value = "http://127.0.0.1:8080", global = true)]
    url: String,
    /// The file that holds the API's token.
    #[arg(long, env = "KILN_TOKEN_FILE", default_value = "/var/lib/kiln/token", global = true)]
    token_file: PathBuf,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Output::Table, global = true)]
    output: Output,
    #[command(subcommand)]
    what: What,
}

/// How to print.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

#[derive(Subcommand)]
enum What {
    /// The box that the appliance runs on.
    #[command(subcommand)]
    Appliance(appliance::Appliance),
    /// Servers.
    #[command(subcommand)]
    Node(node::Node),
    /// Disk images.
    #[command(subcommand)]
    Image(image::Image),
    /// Disks that the appliance exports over iSCSI.
    #[command(subcommand)]
    Volume(volume::Volume),
    /// VLANs with a subnet and a purpose.
    #[command(subcommand)]
    Network(network::Network),
    /// Switches.
    #[command(subcommand)]
    Switch(switch::Switch),
    /// Machines that asked to boot and that nobody enrolled.
    #[command(subcommand)]
    Discovered(Discovered),
    /// The appliance and its services.
    Status,
    /// Reads all images, and what volumes stand on, and says what is damaged and whom it hurts.
    Scrub,
    /// All events as they happen.
    Watch {
        /// Begin after this event; without it, with what happens from now on.
        #[arg(long)]
        after: Option<u64>,
    },
}

#[derive(Subcommand)]
enum Discovered {
    /// All of them.
    List,
}

fn run(command: Command) -> Result<()> {
    let client = Client::new(&command.url, &command.token_file)?;
    let output = command.output;
    match command.what {
        What::Appliance(appliance) => appliance::run(&client, output, appliance),
        What::Node(node) => node::run(&client, output, node),
        What::Image(image) => image::run(&client, output, image),
        What::Volume(volume) => volume::run(&client, output, volume),
        What::Network(network) => network::run(&client, output, network),
        What::Switch(switch) => switch::run(&client, output, switch),
        What::Discovered(Discovered::List) => show::discovered(&client, output),
        What::Status => show::status(&client, output),
        What::Scrub => show::scrub(&client, output),
        What::Watch { after } => show::watch(&client, output, None, after),
    }
}

fn main() -> ExitCode {
    match run(Command::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if client::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kiln: {error:#}");
            ExitCode::FAILURE
        }
    }
}
