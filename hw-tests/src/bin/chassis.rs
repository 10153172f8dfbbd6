//! What of a virtual rack runs by itself.
//!
//! `chassis control NODEDIR get|set ...` is `ipmi_sim`'s chassis control: it starts, stops and resets a
//! virtual node. `chassis settle NODEDIR` is the rest of a start, in the background. `chassis guard
//! DIRECTORY` waits until its standard input closes, which is when whoever raised the rack is gone, and
//! removes what he left.

use anyhow::{Context as _, Result, bail};
use hw_tests::rack::{Chassis, Power, guard};
use std::{env, fs, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match obey(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chassis: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn obey(words: &[&str]) -> Result<()> {
    leave_the_caller();
    match words {
        ["control", directory, "get", parameters @ ..] => {
            get(&Chassis::open(Path::new(directory))?, parameters)
        }
        ["control", directory, "set", settings @ ..] => set(&Chassis::open(Path::new(directory))?, settings),
        ["settle", directory] => Chassis::open(Path::new(directory))?.settle(),
        ["guard", directory] => guard(Path::new(directory)),
        _ => bail!("usage: chassis control NODEDIR get|set ... | settle NODEDIR | guard DIRECTORY"),
    }
}

/// A session of its own, so that Ctrl-C at the caller's terminal does not end a node; and none of the
/// caller's sockets, which QEMU would keep open.
fn leave_the_caller() {
    // Fails only for the leader of a process group, which has left already.
    let _ = nix::unistd::setsid();
    let inherited: Vec<i32> = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > 2)
        .collect();
    for descriptor in inherited {
        // One of them was the directory's own, closed already.
        let _ = nix::unistd::close(descriptor);
    }
}

fn get(chassis: &Chassis, parameters: &[&str]) -> Result<()> {
    for parameter in parameters {
        match *parameter {
            "power" => println!("power:{}", u8::from(chassis.power()? == Power::On)),
            "boot" => println!("boot:{}", chassis.boot_device()?),
            other => bail!("a chassis does not know its {other}"),
        }
    }
    Ok(())
}

fn set(chassis: &Chassis, settings: &[&str]) -> Result<()> {
    let mut rest = settings;
    while let [what, after @ ..] = rest {
        let (value, after) = after.split_first().with_context(|| format!("{what} takes a value"))?;
        chassis.set(what, value)?;
        // `identify` takes two: for how long, and whether for ever.
        rest = if *what == "identify" { after.get(1..).unwrap_or_default() } else { after };
    }
    Ok(())
}
