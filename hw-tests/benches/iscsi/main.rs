//! Our iSCSI target beside tgt and istgt, in the same run, under the load of libiscsi.
//!
//!     cargo bench --profile dev -p hw-tests --bench iscsi [-- --rows read-256k,rand --seconds 0.8 --rounds 3]
//!
//! Each target has a disk of its own, filled once, in memory (tmpfs) and then on a disk. For each row the
//! targets are loaded in turn, and each round begins with another of them, so that what else the machine
//! does falls on all alike. The client has processor 0, the server processor 1. A ratio is the median of the
//! rounds' ratios. tgt is measured as it is shipped (segments of 8 KiB) and with our segments and bursts.
//!
//! What is asked of a row: against the fastest peer, 1.5 times its throughput or half of its CPU for what is
//! moved; and against every peer, never less throughput and never more CPU. Root; 10 minutes.

mod fio;
mod meter;
mod report;
mod sessions;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use fio::{Fio, Load};
use hw_tests::artifact::Workshop;
use hw_tests::artifact::command::{text, tool};
use hw_tests::rack;
use hw_tests::targets::{Make, Offer, Target, alone};
use report::{Figure, Rounds};
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const CLIENT: usize = 0;
const SERVER: usize = 1;

/// Measures our target beside tgt and istgt.
#[derive(Parser)]
#[command(name = "iscsi")]
struct Arguments {
    /// Only rows whose names hold one of these words, such as read-256k-qd1 or rand.
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// How long a target is loaded, each time.
    #[arg(long, default_value_t = 0.8)]
    seconds: f64,
    /// How often each target is loaded for each row.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=50))]
    rounds: u8,
    /// Where the disks are.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Medium::Tmpfs, Medium::Disk])]
    media: Vec<Medium>,
    /// The targets.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Side::Ours, Side::Tgt, Side::TgtTuned, Side::Istgt])]
    targets: Vec<Side>,
    /// MiB of each disk.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(64..=8192))]
    mib: u64,
    /// Sessions at once, beside one; 0 leaves this part out.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=256))]
    sessions: u32,
    /// Ask the kernel for the processors before others.
    #[arg(long)]
    first: bool,
    /// Write all figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the disks on a disk go; emptied first.
    #[arg(long, default_value = "/var/tmp/kiln-bench-iscsi", value_name = "DIR")]
    dir: PathBuf,
    /// Cargo's own; says that this is a bench.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Medium {
    Tmpfs,
    Disk,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Side {
    Ours,
    Tgt,
    TgtTuned,
    Istgt,
}

impl Side {
    fn make(self) -> Make {
        match self {
            Side::Ours => Make::Ours,
            Side::Tgt => Make::Tgt,
            Side::TgtTuned => Make::TgtTuned,
            Side::Istgt => Make::Istgt,
        }
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("iscsi: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    ensure!(nix::unistd::Uid::effective().is_root(), "not root: run it with sudo");
    ensure!((0.1..=60.0).contains(&arguments.seconds), "--seconds is from 0.1 to 60");
    rack::end_on_signal()?;
    let _first = arguments.first.then(meter::First::begin);
    let fio = Fio::open(&Workshop::open()?)?;
    let mut tables = Vec::new();
    for medium in &arguments.media {
        let directory = match medium {
            Medium::Tmpfs => Path::new("/dev/shm").join(format!("kiln-bench-iscsi-{}", std::process::id())),
            Medium::Disk => arguments.dir.clone(),
        };
        let _removed = Removed(directory.clone());
        tables.extend(alone(|| on(&fio, arguments, *medium, &directory))?);
    }
    if let Some(file) = &arguments.json {
        fs::write(file, serde_json::to_string_pretty(&tables)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// A directory that goes when this is dropped.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // What stays is removed by the next run.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A row's name and its load.
fn rows(only: &[String]) -> Vec<(String, Load)> {
    let mut rows = Vec::new();
    for (pattern, blocks, depths) in [
        ("read", &[256 * KIB, MIB][..], &[1, 8, 32][..]),
        ("write", &[256 * KIB, MIB], &[1, 8, 32]),
        ("randread", &[4 * KIB], &[1, 32]),
        ("randwrite", &[4 * KIB], &[1, 32]),
    ] {
        for block in blocks {
            for depth in depths {
                let size =
                    if *block < MIB { format!("{}k", block / KIB) } else { format!("{}m", block / MIB) };
                let load = Load { pattern, block: *block, depth: *depth, sessions: 1 };
                rows.push((format!("{pattern}-{size}-qd{depth}"), load));
            }
        }
    }
    rows.retain(|(name, _)| only.is_empty() || only.iter().any(|word| name.contains(word.as_str())));
    rows
}

fn on(fio: &Fio, arguments: &Arguments, medium: Medium, directory: &Path) -> Result<Vec<report::Table>> {
    let mut targets = Vec::new();
    for (port, side) in (3260..).step_by(10).zip(&arguments.targets) {
        let make = side.make();
        let listen = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        let mut offer =
            Offer::new(&directory.join(make.name().replace(' ', "-")), listen, arguments.mib * MIB);
        offer.processor = Some(SERVER);
        let target = offer.start(make)?;
        fio.fill(&target, CLIENT)?;
        targets.push(target);
    }
    if medium == Medium::Disk {
        // What the filling left to write would be written in the first rows.
        text(&mut tool("sync"))?;
    }
    let place = if medium == Medium::Tmpfs { "in memory" } else { "on a disk" };
    let mut table = report::Table::begin(place, &targets, arguments.rounds, arguments.seconds);
    for (name, load) in rows(&arguments.rows) {
        let rounds = measured(fio, &targets, load, arguments)?;
        table.row(&name, load, rounds);
    }
    table.end();
    let mut tables = vec![table];
    if arguments.sessions > 0 && medium == Medium::Disk {
        tables.push(sessions::table(fio, &targets, arguments)?);
    }
    Ok(tables)
}

/// All rounds of one row.
fn measured(fio: &Fio, targets: &[Target], load: Load, arguments: &Arguments) -> Result<Rounds> {
    let mut rounds = Rounds::new();
    for round in 0..usize::from(arguments.rounds) {
        for turn in 0..targets.len() {
            let target = &targets[(round + turn) % targets.len()];
            rounds.entry(target.make()).or_default().push(figure(fio, target, load, arguments.seconds)?);
        }
    }
    Ok(rounds)
}

fn figure(fio: &Fio, target: &Target, load: Load, seconds: f64) -> Result<Figure> {
    let before = meter::seconds_of_cpu(target.pid())?;
    let moved = fio.load(target, load, CLIENT, seconds)?;
    let cpu = meter::seconds_of_cpu(target.pid())? - before;
    Ok(Figure::new(&moved, cpu))
}
