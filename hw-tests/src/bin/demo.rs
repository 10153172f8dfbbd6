//! The main job, shown: a powered-off blank server is handed to a tenant running the tenant's image.

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use deploy::{Goal, Patience, Step};
use hw_tests::artifact::{Flavour, Workshop, appliance, san, system, tiny};
use hw_tests::rack::{self, Description, Firmware, Purpose, reach};
use hw_tests::stand::{PATIENCE, Stand};
use serde_json::{Value, json};
use std::io::BufRead as _;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Raises a virtual rack of real parts on this machine, deploys its nodes, and shows each step as it happens.
#[derive(Parser)]
#[command(name = "hw-tests/demo")]
struct Arguments {
    /// What the nodes start from.
    #[arg(long, value_enum, default_value_t = Start::Bios)]
    firmware: Start,
    /// How many nodes, each for a tenant in turn, all at the same time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=8))]
    nodes: u8,
    /// What they are deployed with.
    #[arg(long, value_enum, default_value_t = Image::Tiny)]
    image: Image,
    /// How the image comes to them.
    #[arg(long, value_enum, default_value_t = Interface::Direct)]
    interface: Interface,
    /// What the appliance is.
    #[arg(long, value_enum, default_value_t = Kind::Programs)]
    appliance: Kind,
    /// Write what happened to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Leave the rack up until Ctrl-C, and say how to reach everything.
    #[arg(long)]
    keep: bool,
    /// Where the rack's files go; emptied first.
    #[arg(long, default_value = "/tmp/kiln-demo", value_name = "DIR")]
    dir: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Start {
    Bios,
    Uefi,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Its programs, in a network namespace of their own.
    Programs,
    /// Its image, flashed and booted on a machine of its own: an 802.1Q trunk, and the operator on its uplink.
    Image,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Image {
    /// busybox; boots in seconds.
    Tiny,
    /// Debian 12 with systemd and cloud-init; its first boot takes minutes on an emulated processor.
    Debian,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Interface {
    /// The agent fetches it and writes it on the disk.
    Direct,
    /// The agent exports the disk and the appliance writes it.
    Iscsi,
    /// They boot clones of it from the appliance.
    San,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
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
    let mut description = Description::of_nodes(arguments.nodes, firmware)?;
    let (image, image_name) = image(arguments)?;
    if arguments.image == Image::Debian {
        for hardware in description.nodes.iter_mut().filter_map(|node| node.hardware.as_mut()) {
            hardware.memory_mib = 1024;
        }
    }
    let patience = Patience { system: 1800, ..PATIENCE };
    let place = arguments.dir.display();
    let stand = match arguments.appliance {
        Kind::Programs => {
            println!("demo: raises the rack and starts the appliance in {place}");
            Stand::raise(&description, &arguments.dir, patience)?
        }
        Kind::Image => {
            println!("demo: makes the appliance's image");
            let image = appliance::built(&Workshop::open()?)?;
            println!(
                "demo: raises the rack in {place} and boots the appliance's image, {}",
                image.disk.display()
            );
            let stand = Stand::raise_image(&description, &arguments.dir, patience, &image.disk, firmware)?;
            let console = stand.rack().appliance_console();
            let mut said: Vec<&str> =
                console.lines().filter(|line| line.to_lowercase().starts_with("kiln: ")).collect();
            // GRUB speaks on two terminals, which may be one.
            said.dedup();
            said.iter().for_each(|line| println!("  {line}"));
            stand
        }
    };
    stand.describe()?;
    println!("demo: imports the image {}", image.display());
    let imported: Value = stand.kiln_json(&["image", "import", image_name, &image.display().to_string()])?;
    let tenants: Vec<String> =
        description.networks_for(Purpose::Tenant).map(|network| network.name.to_string()).collect();
    let nodes: Vec<(String, String)> = description
        .nodes
        .iter()
        .zip(tenants.iter().cycle())
        .map(|(node, tenant)| (node.name.to_string(), tenant.clone()))
        .collect();
    for (node, _) in &nodes {
        stand.enroll(node)?;
        println!("demo: {node} is enrolled: its BMC answers, it is off, its port is in quarantine");
    }
    let user_data = stand.home().join("user-data");
    std::fs::write(
        &user_data,
        "#cloud-config\nruncmd: [[sh, -c, 'echo KILN cloud-init ran > /dev/ttyS0']]\n",
    )?;
    let interface = match arguments.interface {
        Interface::Direct => "direct",
        Interface::Iscsi => "iscsi",
        Interface::San => "san",
    };
    for (node, tenant) in &nodes {
        println!(
            "demo: kiln node deploy {node} --image {image_name} --network {tenant} --interface {interface}"
        );
    }
    let log = follow(&stand)?;
    let start: Value = stand.kiln_json(&["status"])?;
    for (node, tenant) in &nodes {
        let data = user_data.display().to_string();
        let mut words = vec!["node", "deploy", node, "--image", image_name, "--network", tenant, "--no-wait"];
        words.extend(["--interface", interface]);
        if arguments.image == Image::Debian {
            words.extend(["--user-data", &data]);
        }
        stand.kiln(&words)?;
    }
    let mut report = json!({ "result": "active", "firmware": name(arguments.firmware) });
    let mut reports = Vec::new();
    for (node, tenant) in &nodes {
        let outcome = finish(&stand, node, tenant, &log);
        let phases = phases(&stand, node, start["newest_event"].as_u64().unwrap_or(0))?;
        reports.push(one(&stand, node, &phases, &imported)?);
        print(node, &phases);
        if let Err(error) = outcome {
            report["result"] = json!("failed");
            println!("{}", stand.kiln(&["node", "explain", node]).unwrap_or_default());
            println!("demo: {node} failed: {error:#}");
            match arguments.appliance {
                Kind::Programs => println!("demo: the appliance's log is {}/log", stand.home().display()),
                Kind::Image => {
                    println!("demo: its console is {}/console.log", stand.rack().appliance_home().display());
                }
            }
            println!("demo: its console is {}/nodes/{node}/console.log", stand.rack().directory().display());
        }
    }
    if let (Some(first), Some(into)) = (reports.first().and_then(Value::as_object), report.as_object_mut()) {
        into.extend(first.clone());
    }
    report["nodes"] = Value::Array(reports);
    if let Some(path) = &arguments.report {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
        println!("demo: the report is {}", path.display());
    }
    if arguments.keep {
        keep(&stand, &nodes)?;
    }
    ensure!(report["result"] == "active", "the deployment failed; kiln node explain above says where");
    Ok(())
}

fn name(firmware: Start) -> &'static str {
    match firmware {
        Start::Bios => "bios",
        Start::Uefi => "uefi",
    }
}

fn image(arguments: &Arguments) -> Result<(PathBuf, &'static str)> {
    let workshop = Workshop::open()?;
    Ok(match arguments.image {
        Image::Tiny if arguments.interface == Interface::San => {
            (san::image(&workshop, Flavour::Cloud)?.path, "tiny-san")
        }
        Image::Tiny => (tiny::image(&workshop, Flavour::Cloud)?.path, "tiny"),
        Image::Debian => {
            println!("demo: makes the Debian image (some minutes the first time)");
            (system::image(&workshop, Flavour::Cloud)?.path, "debian")
        }
    })
}

/// Prints what happens, as `kiln watch` shows it.
fn follow(stand: &Stand) -> Result<Receiver<()>> {
    let mut command = stand.command(&["watch"]);
    let mut child =
        stand.namespace().spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()))?;
    let lines = std::io::BufReader::new(child.stdout.take().context("no output")?).lines();
    let (alive, ended) = channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            println!("  {line}");
        }
        child.wait().ok();
        drop(alive);
    });
    Ok(ended)
}

/// Waits for the node, and looks at it from the tenant's side.
fn finish(stand: &Stand, node: &str, tenant: &str, _log: &Receiver<()>) -> Result<()> {
    let view = stand.wait_state(node, "active", Duration::from_secs(3600))?;
    let address = view.address.context("it has no address")?;
    let (namespace, _) = stand.rack().tenant(tenant)?;
    // The system has its address before its service listens.
    let greeting =
        rack::until(Duration::from_secs(600), &format!("{node} to greet on {address}:80"), || {
            Ok(reach(namespace, SocketAddrV4::new(address, 80)).ok().filter(|said| said.contains(node)))
        })?;
    let said = greeting.lines().last().unwrap_or_default();
    println!("demo: {node} answers on {tenant} at {address}: {said}");
    Ok(())
}

/// The steps of the deployment and their seconds, in order, attempts after one another.
fn phases(stand: &Stand, node: &str, after: u64) -> Result<Vec<(Step, f64)>> {
    let text = stand.kiln(&["-o", "json", "node", "timeline", node])?;
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(lines
        .filter(|line| line["number"].as_u64().unwrap_or(0) > after)
        .filter_map(|line| serde_json::from_value::<control::StepEnded>(line["step"].clone()).ok())
        .filter(|ended| ended.goal == Goal::Deploy)
        .map(|ended| (ended.step, ended.millis as f64 / 1000.0))
        .collect())
}

fn one(stand: &Stand, node: &str, phases: &[(Step, f64)], imported: &Value) -> Result<Value> {
    let view = stand.node(node)?;
    let written = match &view.written {
        Some(agent_proto::Outcome::Written { written_bytes, .. }) => *written_bytes,
        _ => 0,
    };
    let phase = |(step, seconds): &(Step, f64)| json!({ "name": step, "seconds": seconds });
    Ok(json!({
        "node": node,
        "phases": phases.iter().map(phase).collect::<Vec<_>>(),
        "total_seconds": phases.iter().map(|(_, seconds)| seconds).sum::<f64>(),
        "image_bytes": imported["size"],
        "written_bytes": written,
        "tenant_address": view.address,
    }))
}

fn print(node: &str, phases: &[(Step, f64)]) {
    println!("\n  {node:14} seconds");
    for (step, seconds) in phases {
        println!("  {:14} {seconds:7.2}", step.to_string());
    }
    println!("  {:14} {:7.2}\n", "total", phases.iter().map(|(_, seconds)| seconds).sum::<f64>());
}

fn keep(stand: &Stand, nodes: &[(String, String)]) -> Result<()> {
    println!(
        "The rack stays up; Ctrl-C removes it. Its files are in {}.\n",
        stand.rack().directory().display()
    );
    for line in stand.reached() {
        println!("{line}");
    }
    for (node, tenant) in nodes {
        println!("{node}'s console: {}/nodes/{node}/console.log", stand.rack().directory().display());
        let (namespace, _) = stand.rack().tenant(tenant)?;
        println!("{tenant}'s other machine: ip netns exec {namespace} bash");
    }
    loop {
        std::thread::park();
    }
}
