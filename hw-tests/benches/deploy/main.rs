//! A deployment beside the same node deployed with stock parts only, in the same run.
//!
//!     cargo bench --profile dev -p hw-tests --bench deploy [-- --runs N --firmware uefi --image-mib 128]
//!
//! Prints three tables: the phases of both as medians and ratios; what of a deployment is ours to spend,
//! which is everything but firmware, kernels and octets on their way; and the writing of the image beside
//! `wget | dd conv=fsync` of the same octets over the same HTTP path. Root, and a machine that does nothing
//! else: seconds differ from machine to machine, ratios less.

mod clock;
mod material;
mod ours;
mod stock;
mod wire;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use clock::median;
use deploy::Step;
use hw_tests::artifact::Workshop;
use hw_tests::rack::{self, Description, Firmware};
use ours::Ours;
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use stock::Stock;

const NODE: &str = "node1";
const TENANT: &str = "tenant-1";
/// Anything of a deployment on an emulated processor.
const PATIENCE: Duration = Duration::from_secs(300);
/// The phases, in order.
const PHASES: [Step; 7] =
    [Step::SecurePort, Step::Pxe, Step::Agent, Step::WriteImage, Step::ReleasePort, Step::Boot, Step::Verify];

/// How long each phase took.
type Phases = HashMap<Step, Duration>;

/// Deploys a node with the appliance and with stock parts, in turns.
#[derive(Parser)]
#[command(name = "deploy")]
struct Arguments {
    /// Deployments of each side.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=20))]
    runs: u8,
    /// What the node starts from.
    #[arg(long, value_enum, default_value_t = Start::Bios)]
    firmware: Start,
    /// MiB of noise in the image, beside the tiny system in it.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(0..=1024))]
    image_mib: u64,
    /// Where the racks' files go; emptied first.
    #[arg(long, default_value = "/tmp/kiln-bench", value_name = "DIR")]
    dir: PathBuf,
    /// Cargo's own; says that this is a bench.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Start {
    Bios,
    Uefi,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("deploy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    ensure!(nix::unistd::Uid::effective().is_root(), "not root: run it with sudo");
    rack::end_on_signal()?;
    let firmware = match arguments.firmware {
        Start::Bios => Firmware::Bios,
        Start::Uefi => Firmware::Uefi,
    };
    let description = Description::of_nodes(1, firmware)?;
    let workshop = Workshop::open()?;
    let material = material::make(&workshop, arguments.image_mib)?;
    println!("deploy: {} with {} octets of data", material.image.display(), material.octets);
    let (mut ours, mut stock) = (Vec::new(), Vec::new());
    for number in 1..=arguments.runs {
        let made = ours::deployed(&description, &arguments.dir, &material)?;
        println!("deploy: run {number}, ours: {:.2} s{}", total(&made.phases), load());
        ours.push(made);
        let made = stock::deployed(&description, &arguments.dir, &material)?;
        println!("deploy: run {number}, stock: {:.2} s{}", total(&made.phases), load());
        stock.push(made);
    }
    println!("\nmedians of {} runs, firmware {firmware:?}, in seconds\n", arguments.runs);
    phases(&ours, &stock);
    spending(&ours, &stock);
    writing(&ours, &stock, material.octets);
    Ok(())
}

/// A program of this build.
fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find the own program")?;
    let found = own.ancestors().skip(1).take(2).map(|place| place.join(name)).find(|file| file.is_file());
    found.with_context(|| format!("{name} is not built: cargo build --workspace builds it"))
}

fn total(phases: &Phases) -> f64 {
    phases.values().sum::<Duration>().as_secs_f64()
}

/// How busy the machine is with this and other things.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().map_or_else(String::new, |load| format!(", load {load}"))
}

fn row(name: &str, ours: Duration, stock: Duration) {
    let (ours, stock) = (ours.as_secs_f64(), stock.as_secs_f64());
    println!("  {name:<36} {ours:>7.2} {stock:>7.2} {:>6.2}", ours / stock);
}

fn phases(ours: &[Ours], stock: &[Stock]) {
    println!("  {:<36} {:>7} {:>7} {:>6}", "phase", "ours", "stock", "ratio");
    let of = |phases: &Phases, step| phases.get(&step).copied().unwrap_or_default();
    for step in PHASES {
        let ours = median(ours.iter().map(|run| of(&run.phases, step)));
        row(&step.to_string(), ours, median(stock.iter().map(|run| of(&run.phases, step))));
    }
    let whole = |phases: &Phases| phases.values().sum::<Duration>();
    let (whole_ours, whole_stock) = (
        median(ours.iter().map(|run| whole(&run.phases))),
        median(stock.iter().map(|run| whole(&run.phases))),
    );
    row("total", whole_ours, whole_stock);
}

fn spending(ours: &[Ours], stock: &[Stock]) {
    let medians = |of: fn(&Ours) -> &Vec<(&'static str, Duration)>| {
        let names = ours.first().map(|run| of(run).iter().map(|(name, _)| *name).collect::<Vec<_>>());
        for (at, name) in names.unwrap_or_default().into_iter().enumerate() {
            let middle = median(ours.iter().filter_map(|run| of(run).get(at)).map(|(_, taken)| *taken));
            println!("  {name:<36} {:>7.3}", middle.as_secs_f64());
        }
    };
    let seconds = |of: fn(&Ours) -> Duration| median(ours.iter().map(of)).as_secs_f64();
    println!("\n  {:<36} {:>7}", "ours to spend", "ours");
    medians(|run| &run.own);
    println!("  {:<36} {:>7.3}  (at most 3)", "sum", seconds(|run| run.own.iter().map(|(_, t)| *t).sum()));
    println!("  {:<36} {:>7.3}", "reading the image back", seconds(|run| run.read_back));
    println!("  {:<36} {:>7.3}", "PID 1 to connected, the agent's clock", seconds(|run| run.connected));
    let hello = median(stock.iter().map(|run| run.hello)).as_secs_f64();
    println!("  {:<36} {hello:>7.3}", "stock: PID 1 to first report");
    println!("\n  {:<36} {:>7}", "not ours to spend", "ours");
    medians(|run| &run.rest);
}

fn writing(ours: &[Ours], stock: &[Stock], octets: u64) {
    let rate = |taken: Duration| octets as f64 / taken.as_secs_f64() / 1e6;
    let bootd = rate(median(stock.iter().flat_map(|run| run.from_bootd.iter().copied())));
    let httpd = rate(median(stock.iter().flat_map(|run| run.from_httpd.iter().copied())));
    println!("\n  writing {octets} octets of data{:>20} {:>7} {:>7}", "MB/s", "x bootd", "x httpd");
    let line = |name: &str, rate: f64| {
        println!("  {name:<44} {rate:>7.1} {:>7.2} {:>7.2}", rate / bootd, rate / httpd)
    };
    line("wget | dd conv=fsync, from bootd", bootd);
    line("wget | dd conv=fsync, from busybox httpd", httpd);
    line("ours: receive, check, write, flush", rate(median(ours.iter().map(|run| run.write))));
    line("ours: order to done, without reading back", {
        rate(median(ours.iter().map(|run| run.job.saturating_sub(run.read_back))))
    });
    line("ours: order to done", rate(median(ours.iter().map(|run| run.job))));
    println!("  (writing is to reach 0.9 x bootd; dd checks nothing and reads nothing back)");
}
