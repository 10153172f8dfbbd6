//! What changes while the box runs: drivers for what is plugged in, interfaces that come late or come back, the uplink's
//! lease, and a medium that brings a box its first configuration.
//!
//! The services read their configuration once, and their sockets are bound to interfaces: where either is another, they
//! begin again, which nobody's deployment minds.

use crate::{
    clock,
    config::Config,
    console::{say, write},
    did::Did,
    good,
    modules::{Heard, Modules, Uevents},
    network::{self, Lease, Made},
    report::{self, Report},
    search::{self, Found},
    services, ssh,
    start::{DATA, IN_FORCE, UNADDRESSED},
    watchdog,
};
use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use std::{convert::Infallible, fs, net::Ipv4Addr, path::Path, thread, time::Duration};

/// Whether the lease's client still runs is looked at so often.
const LOOK: Duration = Duration::from_secs(10);
/// Announcements come in swarms: when none has come for so long, it is over.
const QUIET: Duration = Duration::from_millis(300);
/// An address stays for so long at least.
const REST: Duration = Duration::from_secs(60);
/// A swarm that does not end is looked into all the same.
const SWARM: usize = 200;

/// Follows the kernel's announcements for as long as the box runs.
///
/// # Errors
/// The kernel's: init starts it again.
pub fn follow() -> Result<Infallible> {
    let uevents = Uevents::open().context("no news of devices")?;
    let mut modules = Modules::read().ok();
    // What came since `host start` looked told nobody.
    if let Some(modules) = &mut modules {
        modules.cold_plug();
    }
    let mut heard = Heard::TooMuch;
    loop {
        let told = |done: Result<()>| done.unwrap_or_else(|e| say(&format!("{e:#}")));
        let (mut is_net, mut is_disk) = (false, false);
        for _ in 0..SWARM {
            is_net |= matches!(heard, Heard::Interface | Heard::TooMuch);
            is_disk |= matches!(heard, Heard::Disk | Heard::TooMuch);
            if !is_net && !is_disk {
                break;
            }
            heard = uevents.wait(QUIET, modules.as_mut());
            if heard == Heard::Nothing {
                break;
            }
        }
        if is_net {
            told(interfaces());
        }
        if is_disk {
            told(medium());
        }
        if let Some(config) = in_force() {
            network::keep_asking(&config, false);
        }
        heard = uevents.wait(LOOK, modules.as_mut());
    }
}

/// The configuration that the box came up with.
fn in_force() -> Option<Config> {
    Config::parse(&fs::read_to_string(IN_FORCE).ok()?).ok()
}

/// Makes the interfaces as they should be; when one had to be touched, the services begin again.
fn interfaces() -> Result<()> {
    let Some(config) = in_force() else {
        network::light_up();
        return Ok(());
    };
    let Made { did, troubles } = network::interfaces_of(&config, Duration::ZERO, &mut || {})?;
    if did == Did::Already {
        let missing = || troubles.iter().filter(|trouble| trouble.starts_with(network::MISSING));
        let before = Report::read()?.troubles;
        missing().filter(|trouble| !before.contains(trouble)).for_each(|trouble| say(trouble));
        return report::amend(network::MISSING, missing().cloned());
    }
    network::keep_asking(&config, uplink(&config).is_none());
    renew(&config, "the network is another", did, |report| {
        report.troubles.retain(|there| !there.starts_with(network::MISSING) && !troubles.contains(there));
        report.troubles.extend(troubles);
    })
}

/// The uplink's address, if the box has it.
fn uplink(config: &Config) -> Option<Ipv4Addr> {
    let there = network::own_addresses().unwrap_or_default();
    services::uplink(Some(config), network::lease().map(|lease| lease.address), &there)
}

/// udhcpc has news of the uplink's lease: when the API's address is another, the services begin again.
///
/// # Errors
/// The kernel's, or the file system's.
pub fn leased(event: &str) -> Result<()> {
    let (config, told) = (in_force(), Lease::told(|name| std::env::var(name).ok()));
    if let (Some(config), Some(lease)) = (&config, &told)
        && let Err(why) = config.admit(lease.address)
    {
        let trouble = format!("{} {why}", network::REFUSED);
        say(&trouble);
        // Before `host start` is through there is no report, and it reads this.
        let kept = fs::write(network::REFUSAL, &trouble);
        let _ = report::amend(network::REFUSED, [trouble]);
        network::leased("deconfig", None)?;
        return kept.with_context(|| format!("{} cannot be written", network::REFUSAL));
    }
    if let Some(told) = &told {
        rest_from(told);
    }
    network::leased(event, told)?;
    let (Some(config), Some(lease)) = (config, network::lease()) else { return Ok(()) };
    // Also when the address is the one of before, and nothing begins again. Before `host start` is through there is no
    // report.
    let _ = fs::remove_file(network::REFUSAL);
    for over in [network::NO_LEASE, network::REFUSED] {
        let _ = report::amend(over, []);
    }
    renew(&config, &format!("the uplink's address is {}", lease.address), Did::Already, |_| {})
}

/// A server that gives another address again and again may not end the services each time: the next one waits, with
/// udhcpc, which runs us.
fn rest_from(told: &Lease) {
    let Ok(meta) = fs::metadata(network::LEASE) else { return };
    if network::lease().is_some_and(|there| there.address == told.address) {
        return;
    }
    let age = meta.modified().ok().and_then(|changed| changed.elapsed().ok()).unwrap_or(REST);
    let until = clock::now() + REST.saturating_sub(age);
    while clock::now() < until {
        thread::park_timeout(until.since(clock::now()));
    }
}

/// Where the services' configuration is to be another, or the network is another, they begin again, and the console's
/// page is told anew.
fn renew(config: &Config, why: &str, network: Did, amend: impl FnOnce(&mut Report)) -> Result<()> {
    let uplink = uplink(config);
    let api = services::api(Some(config), uplink);
    let watchdog = watchdog::device(Path::new(watchdog::LIST));
    let new = services::text(Some(config), api, watchdog.as_deref())?;
    // Before `host start` is through there is none, and nothing to begin again.
    let Ok(old) = fs::read_to_string(services::FILE) else { return Ok(()) };
    if old == new && network == Did::Already {
        return Ok(());
    }
    services::configure(Some(config), api, watchdog.as_deref())?;
    say(&format!("{why}: the services begin again"));
    services::end(Signal::SIGTERM);
    let (shell, troubles) = ssh::prepare(config.ssh.as_ref(), uplink, Path::new(DATA));
    troubles.iter().for_each(|trouble| say(trouble));
    if shell.is_some() {
        ssh::again();
    }
    let mut report = Report::read()?;
    report.ssh = shell;
    report.api = Some(api.to_string());
    report.interfaces = network::interfaces().unwrap_or_default();
    if uplink.is_some() {
        report.troubles.retain(|there| !there.starts_with(UNADDRESSED));
    }
    amend(&mut report);
    report.tell()?;
    write(&format!("\n{}\n", report.text()));
    Ok(())
}

/// A medium was put in: a box without a configuration takes the one on it and starts again; another says what it would
/// do at its next start.
fn medium() -> Result<()> {
    let report = Report::read()?;
    let Some(found) = search::on_medium() else { return Ok(()) };
    let place = found.file.display();
    let config = match &found.config {
        Ok(config) => config,
        Err(faults) => {
            faults.iter().for_each(|fault| say(&format!("{place}: {fault}")));
            return Ok(());
        }
    };
    if report.configuration.file.is_some() {
        if report.configuration.serial.is_some_and(|serial| config.serial > serial) {
            say(&format!(
                "{place} is newer than the configuration in force: restart the box to take it (Ctrl-Alt-Del)"
            ));
        }
        return Ok(());
    }
    if !report.data.is_some_and(|data| data.keeps()) {
        say(&format!(
            "there is no data partition to keep {place} on: restart the box with the medium in it (Ctrl-Alt-Del)"
        ));
        return Ok(());
    }
    take(&found)
}

fn take(found: &Found) -> Result<()> {
    search::take(Path::new(DATA), found).context("the configuration cannot be kept")?;
    say("the box starts again with it");
    match good::restart()? {}
}
