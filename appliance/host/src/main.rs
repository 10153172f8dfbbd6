//! `host`: brings the box up. It is `/init` of the initramfs; in the slot it is started by init.

use host::{changes, clock, config::Config, did::Did, editenv, good, init, menu, modules, ssh, start};
use std::{env, fs, process::ExitCode};

const USAGE: &str = "usage: host start | stop | ssh | devices | good | trial | menu | status | check FILE";

fn main() -> ExitCode {
    clock::now();
    let mut args = env::args();
    let name = args.next().unwrap_or_default();
    if name.ends_with("/modprobe") {
        return ExitCode::from(modules::modprobe(args));
    }
    if name == "grub-editenv" || name.ends_with("/grub-editenv") {
        return said(editenv::edit(args));
    }
    if name.ends_with("/init") {
        init::run();
    }
    match (args.next().as_deref(), args.next()) {
        (Some("init"), None) => init::run(),
        (Some("start"), None) => start::start(),
        (Some("stop"), None) => start::stop(),
        (Some("ssh"), None) => return said(ssh::serve().map(|never| match never {})),
        (Some("devices"), None) => return said(changes::follow().map(|never| match never {})),
        (Some("good"), None) => return said(told_good()),
        (Some("menu"), None) => return said(menu::run()),
        (Some("trial"), None) => return said(good::watch()),
        (Some("status"), None) => return said(start::status().map(|text| print!("{text}"))),
        (Some("check"), Some(file)) => return check(&file),
        // The kernel's own request for a module: -q -- NAME.
        (Some("-q"), _) => return ExitCode::from(modules::modprobe(args)),
        // udhcpc's words for its script.
        (Some(event @ ("deconfig" | "bound" | "renew" | "nak" | "leasefail")), None) => {
            return said(changes::leased(event));
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn said(done: anyhow::Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("host: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn told_good() -> anyhow::Result<()> {
    let (slot, did) = good::good()?;
    let word = if did == Did::Changed { "is good" } else { "was good already" };
    host::console::say(&format!("slot {slot} {word}"));
    Ok(())
}

/// Says what is wrong with a configuration.
fn check(file: &str) -> ExitCode {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(e) => {
            eprintln!("host: {file}: {e}");
            return ExitCode::FAILURE;
        }
    };
    match Config::parse(&text) {
        Ok(_) => {
            println!("{file} is in order");
            ExitCode::SUCCESS
        }
        Err(faults) => {
            faults.iter().for_each(|fault| eprintln!("{file}: {fault}"));
            ExitCode::FAILURE
        }
    }
}
