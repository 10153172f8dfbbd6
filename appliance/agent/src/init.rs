//! The duties of PID 1.

use crate::{
    board::Board,
    cmdline::{self, Appliance},
    console, inventory, jobs,
    modules::{Modules, Uevents},
    network, session,
};
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sys::{
        reboot::{RebootMode, reboot},
        signal::{SigSet, Signal},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{dup2_stderr, dup2_stdin, dup2_stdout},
};
use std::{
    fs::{self, OpenOptions},
    io::{Write, stderr},
    panic,
    sync::Arc,
    thread,
    time::Duration,
};

/// After a panic the reason stands on the console for so long.
const REBOOT: Duration = Duration::from_secs(10);

/// Brings the machine up and works for ever.
pub(crate) fn run() -> ! {
    let mounted = mounts();
    open_console();
    panic::set_hook(Box::new(die));
    let board = Arc::new(Board::new());
    console::install(Arc::clone(&board));
    let agent = env!("CARGO_PKG_VERSION");
    log::info!(agent; "deploy agent up");
    for (place, error) in mounted {
        log::warn!(place, error = error.desc(); "not mounted");
    }
    let children = SigSet::from(Signal::SIGCHLD);
    if let Err(e) = children.thread_block() {
        log::warn!(error = e.desc(); "children will not be reaped");
    }
    let cmdline = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let appliance = Appliance::from_kernel(&cmdline).unwrap_or_else(|e| panic!("{e}"));
    let bootif = cmdline::bootif(&cmdline);

    // Listened to before the first look, so that nothing comes in between.
    let uevents = Uevents::open();
    let there = Arc::clone(&board);
    thread::spawn(move || network::run(&there, bootif));
    let there = Arc::clone(&board);
    thread::spawn(move || {
        let mut modules = match Modules::read() {
            Ok(modules) => Some(modules),
            Err(e) => {
                log::warn!(error:% = e; "no modules in this ramdisk; drivers must be built in");
                None
            }
        };
        if let Some(modules) = &mut modules {
            modules.cold_plug();
        }
        there.set_inventory(inventory::look());
        there.set_settled();
        match uevents {
            Ok(uevents) => uevents.follow(modules, &there),
            Err(e) => log::warn!(error = e.desc(); "no news of devices"),
        }
    });
    let (there, home) = (Arc::clone(&board), appliance.clone());
    thread::spawn(move || jobs::work(&there, &home, &jobs::Disks::Machine));
    thread::spawn(move || session::keep(&board, &appliance));
    reap(&children)
}

/// What failed to be mounted, and why.
fn mounts() -> Vec<(&'static str, Errno)> {
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let table = [
        ("proc", "/proc", plain | MsFlags::MS_NODEV, None),
        ("sysfs", "/sys", plain | MsFlags::MS_NODEV, None),
        ("devtmpfs", "/dev", plain, Some("mode=0755")),
        ("tmpfs", "/run", plain | MsFlags::MS_NODEV, Some("mode=0755,size=16m")),
        ("tmpfs", "/tmp", plain | MsFlags::MS_NODEV, Some("mode=1777,size=16m")),
    ];
    let mut failed = Vec::new();
    for (kind, place, flags, data) in table {
        // It is there, or the mount says what is wrong.
        let _ = fs::create_dir(place);
        match mount(Some(kind), place, Some(kind), flags, data) {
            // The kernel mounted it already (CONFIG_DEVTMPFS_MOUNT).
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(e) => failed.push((place, e)),
        }
    }
    failed
}

/// What the kernel gave us may be a console from before /dev was mounted, or none.
fn open_console() {
    if let Ok(console) = OpenOptions::new().read(true).write(true).open("/dev/console") {
        // Without a console the log still goes over the network.
        let _ = dup2_stdin(&console).and(dup2_stdout(&console)).and(dup2_stderr(&console));
    }
}

/// Says why and boots again; the kernel would panic if PID 1 ended.
fn die(info: &panic::PanicHookInfo<'_>) {
    let seconds = REBOOT.as_secs();
    let text = format!("\nkiln-agent: cannot go on: {info}\nkiln-agent: reboot in {seconds} s\n");
    // The log's lock may be what we hold: past it.
    let _ = stderr().write_all(text.as_bytes());
    let until = crate::clock::now() + REBOOT;
    while crate::clock::now() < until {
        thread::park_timeout(until.since(crate::clock::now()));
    }
    let Err(e) = reboot(RebootMode::RB_AUTOBOOT);
    // Only without the right to: then we are not PID 1 of a machine.
    let _ = writeln!(stderr(), "kiln-agent: no reboot: {e}");
}

/// Reaps what is left to PID 1, for ever.
fn reap(children: &SigSet) -> ! {
    loop {
        // Whatever woke us, there may be children to reap.
        let _ = children.wait();
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            if status == WaitStatus::StillAlive {
                break;
            }
        }
    }
}
