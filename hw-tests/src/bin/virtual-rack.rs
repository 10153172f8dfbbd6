//! Raises a virtual rack and keeps it up until Ctrl-C.

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use hw_tests::rack::{self, Description, Firmware, Purpose, VirtualRack};
use std::{env, path::PathBuf, process::ExitCode, thread};

/// Raises a rack of real parts on this machine: Open vSwitch, a BMC per node, QEMU machines.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Raises it, says how to reach everything, and removes it at Ctrl-C.
    Up {
        /// How many nodes.
        #[arg(long, default_value_t = 2)]
        nodes: u8,
        /// What they start from.
        #[arg(long, value_enum, default_value_t = Start::Bios)]
        firmware: Start,
        /// A rack.toml instead of these two.
        #[arg(long, conflicts_with_all = ["nodes", "firmware"])]
        rack: Option<PathBuf>,
        /// Where its files go; emptied first.
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Start {
    Bios,
    Uefi,
}

fn main() -> ExitCode {
    let Arguments { command: Command::Up { nodes, firmware, rack, dir } } = Arguments::parse();
    let firmware = match firmware {
        Start::Bios => Firmware::Bios,
        Start::Uefi => Firmware::Uefi,
    };
    let description = match rack {
        Some(path) => Description::read(&path),
        None => Description::of_nodes(nodes, firmware),
    };
    let directory = dir.unwrap_or_else(|| env::temp_dir().join("virtual-rack"));
    match description.and_then(|description| up(&description, directory)) {
        Err(error) => {
            eprintln!("virtual-rack: {error:#}");
            ExitCode::FAILURE
        }
        Ok(()) => ExitCode::SUCCESS,
    }
}

fn up(description: &Description, directory: PathBuf) -> Result<()> {
    rack::end_on_signal()?;
    let rack = VirtualRack::raise(description, &directory)?;
    print(&rack)?;
    loop {
        thread::park();
    }
}

fn print(rack: &VirtualRack) -> Result<()> {
    let Some(switch) = rack.description().switches.first() else { bail!("the rack has no switch") };
    let enter = format!("ip netns exec {}", rack.kiln());
    println!("The rack is up; Ctrl-C removes it. Its files are in {}.\n", rack.directory().display());
    println!("the appliance's place:  {enter} bash");
    println!("the switch, from there: {enter} ovs-vsctl --db=tcp:{} show\n", switch.address);
    for node in &rack.description().nodes {
        let bmc = &node.bmc;
        println!("{}, port {}, {}", node.name, node.port.switch_port, node.port.mac);
        println!(
            "  {enter} ipmitool -I lanplus -C 3 -H {} -U {} -P {} chassis power status",
            bmc.address,
            bmc.user,
            bmc.password.expose()
        );
        println!("  tail -F {}/nodes/{}/console.log", rack.directory().display(), node.name);
    }
    println!();
    for network in rack.description().networks_for(Purpose::Tenant) {
        let (namespace, address) =
            rack.tenant(network.name.as_str()).context("a tenant's network without a machine")?;
        println!("another machine on {}: ip netns exec {namespace} bash ({address})", network.name);
    }
    Ok(())
}
