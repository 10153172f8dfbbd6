//! What init starts first, and runs last.

use crate::{
    clock,
    console::{say, write},
    data, durable,
    efivars::{self, Access, Variables},
    modules::Modules,
    moments::{Moments, mark},
    network,
    report::{self, Report},
    search, services,
    slot::{self, Named},
    ssh,
    time::{self, Source},
    watchdog,
};
use anyhow::Result;
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::Signal,
    unistd::sync,
};
use std::{fs, path::Path, thread, time::Duration};

/// Where the data partition is mounted.
pub const DATA: &str = "/data";
const RUN: &str = "/run/kiln";
/// What the trouble begins with that a lease ends.
pub const UNADDRESSED: &str = "the uplink has no address";
/// Memory over data that can only be read.
const COVER: &str = "/run/kiln/cover";
/// On the kernel's command line: everything that the box knows is to go.
const RESET: &str = "kiln.reset";
/// Services have five seconds to end by themselves.
const FAREWELL: Duration = Duration::from_secs(6);
/// The configuration in force, for what changes while the box runs.
pub const IN_FORCE: &str = "/run/kiln/configuration.toml";

/// Brings up what the services need. Whatever fails is said, and the rest is done.
pub fn start() {
    let mut report = Report::default();
    mark("init");
    ready(&mut report);
    let release = Release::read();
    let (time, trouble) = time::not_before(release.built);
    report.time = Some(time);
    report.troubles.extend(trouble);
    let mut modules = Modules::read().ok();
    if let Some(modules) = &mut modules {
        // The kernel asks this program for what it lacks: file systems, rules, algorithms.
        let program = std::env::current_exe().unwrap_or_else(|_| "/usr/bin/host".into());
        if let Err(e) = fs::write("/proc/sys/kernel/modprobe", program.display().to_string()) {
            report.troubles.push(format!("the kernel cannot load modules by itself: {e}"));
        }
        modules.cold_plug();
    }
    mark("devices");
    report.watchdog = watchdog::bring_up(modules.as_mut());
    if report.watchdog.is_none() {
        report
            .troubles
            .push("there is no watchdog, not even the kernel's own: a box that hangs stays so".into());
    }
    let cmdline = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let named = Named::running();
    let place = named.as_ref().ok().and_then(|named| slot::find(named.root));
    let twins = named.as_ref().map(|named| slot::twins(named.root)).unwrap_or_default();
    if twins.len() > 1 {
        let twins: Vec<String> = twins.iter().map(|disk| disk.display().to_string()).collect();
        report.troubles.push(format!(
            "the disks {} hold the same image, and the box may start from one and keep its data on another: take one out, or zero its first and last MiB",
            twins.join(" and ")
        ));
    }
    report.version = release.version;
    report.secure_boot = secure_boot();
    report.slot = named.ok().map(|named| named.slot);
    let disk = place.as_ref().map(|place| place.disk.as_path());
    mark("the box");
    let wish = data::Wish {
        reset: cmdline.split_whitespace().any(|word| word == RESET),
        forget: &search::forget_spare,
    };
    let data = data::there(Path::new(DATA)).unwrap_or_else(|| data::bring_up(disk, Path::new(DATA), &wish));
    report.troubles.extend(data.trouble.clone());
    if data.how == data::How::ReadOnly
        && let Err(e) = data::frozen::cover(Path::new(DATA), Path::new(COVER))
    {
        report.troubles.push(format!("the services cannot write, and those that must do not start: {e:#}"));
    }
    if data.device.is_some()
        && data.how != data::How::ReadOnly
        && let Err(e) = data::hold_room(Path::new(DATA))
    {
        report.troubles.push(format!("no room is held back on the data partition: {e:#}"));
    }
    report.data = Some(data);
    mark("data");
    let (found, configuration, troubles) = search::search(Path::new(DATA), disk, modules.as_mut());
    report.configuration = configuration;
    report.troubles.extend(troubles);
    mark("configuration");
    report.troubles.extend(network::shut_ways());
    mark("rules");
    let config = found.and_then(|found| {
        if let Err(e) = durable::keep(Path::new(IN_FORCE), found.text.as_bytes(), 0o600) {
            report.troubles.push(format!("{IN_FORCE} cannot be written: {e}"));
        }
        if let Some(disk) = disk
            && let Err(e) = search::keep_spare(disk, &found.text)
        {
            report
                .troubles
                .push(format!("no copy of the configuration is kept beside the boot loader: {e:#}"));
        }
        found.config.ok()
    });
    match &config {
        Some(config) => {
            let name = config.name.as_ref().map_or("kiln", |name| name.as_str());
            if let Err(e) = fs::write("/proc/sys/kernel/hostname", name) {
                report.troubles.push(format!("the host name is not {name}: {e}"));
            }
            report.troubles.extend(network::apply(config, &mut || {
                if let Some(modules) = &mut modules {
                    modules.cold_plug();
                }
            }));
            if let Err(e) = services::keep_token(config, Path::new(DATA)) {
                report.troubles.push(format!("{e:#}"));
            }
        }
        None => network::light_up(),
    }
    mark("network");
    let there = network::own_addresses().unwrap_or_default();
    let uplink = services::uplink(config.as_ref(), network::lease().map(|lease| lease.address), &there);
    let api = services::api(config.as_ref(), uplink);
    let (shell, troubles) =
        ssh::prepare(config.as_ref().and_then(|config| config.ssh.as_ref()), uplink, Path::new(DATA));
    report.ssh = shell;
    mark("ssh");
    let servers = config.as_ref().map_or(&[][..], |config| &config.uplink.ntp);
    if !servers.is_empty() && uplink.is_some() {
        match time::ask(servers) {
            Ok(()) => report.time = Some(Source::Ntp),
            Err(trouble) => report.troubles.push(trouble),
        }
    }
    mark("time");
    report.troubles.extend(troubles);
    if config.is_some() && api.ip().is_loopback() {
        report.troubles.push(format!(
            "{UNADDRESSED}: the API listens on {api}, for the box alone; see to the uplink's card and cable, and start the box again"
        ));
    }
    if let Err(e) = services::configure(config.as_ref(), api, report.watchdog.as_deref()) {
        report.troubles.push(format!("{e:#}"));
    }
    report.api = Some(api.to_string());
    report.interfaces = network::interfaces().unwrap_or_default();
    mark("the rest");
    report.moments = Moments::read();
    if let Err(e) = report.tell() {
        say(&format!("{}: {e:#}", report::FILE));
    }
    write(&format!("\n{}\n", report.text()));
}

/// Places that the read-only root lacks.
fn ready(report: &mut Report) {
    let flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    for (place, data) in [("/tmp", "mode=1777,size=16m"), ("/var", "mode=0755,size=16m")] {
        if !is_mounted(place)
            && let Err(e) = mount(Some("tmpfs"), place, Some("tmpfs"), flags, Some(data))
        {
            report.troubles.push(format!("{place} is not mounted: {}", e.desc()));
        }
    }
    // tty(5) writes to terminals.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let terminals = "/dev/pts";
    if let Err(e) =
        fs::create_dir_all(terminals).map_err(|_| Errno::ENOENT).and_then(|()| match is_mounted(terminals) {
            true => Ok(()),
            false => {
                mount(Some("devpts"), terminals, Some("devpts"), flags, Some("gid=5,mode=620,ptmxmode=666"))
            }
        })
    {
        report.troubles.push(format!("{terminals} is not mounted, so SSH has no terminals: {}", e.desc()));
    }
    if let Err(e) = fs::create_dir_all(RUN) {
        report.troubles.push(format!("{RUN} is not there: {e}"));
    }
}

fn is_mounted(place: &str) -> bool {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(1) == Some(place))
}

/// What the system says it is.
struct Release {
    version: Option<String>,
    /// When it was made, in seconds since 1970.
    built: Option<i64>,
}

/// Whether Secure Boot is on (UEFI 2.10, 3.3: `SecureBoot`).
fn secure_boot() -> Option<bool> {
    let value = Variables::open(Access::Read).ok()?.get(efivars::SECURE_BOOT).ok()??;
    value.first().map(|on| *on == 1)
}

impl Release {
    fn read() -> Release {
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let value = |key: &str| {
            let line = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
            Some(line.trim_matches('"').to_owned())
        };
        let build = value("BUILD_ID").map_or(String::new(), |build| format!(" ({build})"));
        let version = value("VERSION_ID").map(|version| format!("{version}{build}"));
        Release { version, built: value(time::BUILT).and_then(|built| built.parse().ok()) }
    }
}

/// What [`start`] found, for people.
///
/// # Errors
/// When it was never run.
pub fn status() -> Result<String> {
    Ok(Report::read()?.text())
}

/// Before the machine is switched off. init runs this before it ends anything, and starts nothing meanwhile.
pub fn stop() {
    let until = clock::now() + FAREWELL;
    // Its word for the end of the machine: the watchdog rests too.
    services::end(Signal::SIGPWR);
    while services::supervisors().next().is_some() && clock::now() < until {
        thread::park_timeout(Duration::from_millis(50));
    }
    sync();
    if is_mounted(DATA)
        && let Err(e) = umount2(DATA, MntFlags::empty())
    {
        say(&format!("{DATA} stays mounted: {}", e.desc()));
        // What is still open there loses nothing that was written.
        let none = None::<&str>;
        let _ = mount(none, DATA, none, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none);
    }
    sync();
}
