//! PID 1 of the initramfs: from the kernel to `/sbin/init` of the slot.

use crate::{
    clock,
    console::{Waiting, say},
    gpt::Partition,
    loader,
    modules::{Modules, Uevents},
    moments::mark,
    seal::Root,
    slot::{self, Named, Place, Sealed},
    trial,
    verity::Verity,
};
use anyhow::{Context as _, Result, bail};
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::reboot::{RebootMode, reboot},
    unistd::{chdir, chroot, dup2_stderr, dup2_stdin, dup2_stdout, execv},
};
use rack::Slot;
use std::{
    convert::Infallible,
    ffi::CString,
    fs::{self, File, OpenOptions},
    io::Read as _,
    os::unix::fs::MetadataExt as _,
    panic,
    path::Path,
    thread,
    time::Duration,
};

/// What is wrong stands on the console for so long, then the boot loader may try the other slot.
const REBOOT: Duration = Duration::from_secs(10);
/// A disk behind a RAID controller or on USB may take so long to appear.
const DISK: Duration = Duration::from_secs(60);
/// A disk whose slots hold other systems is seldom followed by one that holds the right one.
const OTHERS: Duration = Duration::from_secs(5);
/// Where the slot is mounted before it becomes the root.
const ROOT: &str = "/slot";
const INIT: &str = "/sbin/init";

/// Brings the slot's system up; whatever fails, the machine boots again.
pub fn run() -> ! {
    let failed = mounts();
    open_console();
    mark("kernel");
    panic::set_hook(Box::new(|info| give_up(&info.to_string())));
    for (place, error) in failed {
        say(&format!("{place} is not mounted: {}", error.desc()));
    }
    match boot() {
        Ok(never) => match never {},
        Err(e) => {
            let cmdline = fs::read_to_string("/proc/cmdline").unwrap_or_default();
            // GRUB counts what it starts, and comes to the other slot by itself.
            if loader::asked(&cmdline).is_ok_and(|asked| asked.is_some()) {
                match loader::turn(Modules::read().ok().as_mut()) {
                    Ok(Some(slot)) => {
                        say(&format!("slot {slot} is started next, once, if it holds a system"))
                    }
                    Ok(None) => {}
                    Err(e) => say(&format!("{e:#}")),
                }
            }
            give_up(&format!("{e:#}"))
        }
    }
}

fn boot() -> Result<Infallible> {
    let cmdline = fs::read_to_string("/proc/cmdline").context("no /proc/cmdline")?;
    let asked = loader::asked(&cmdline)?;
    // Listened to before the first look, so that nothing comes in between.
    let uevents = Uevents::open().context("no news of devices")?;
    let mut modules = match Modules::read() {
        Ok(modules) => Some(modules),
        Err(e) => {
            say(&format!("{e:#}: drivers must be built in"));
            None
        }
    };
    if let Some(modules) = &mut modules {
        let list = fs::read_to_string("/etc/modules").unwrap_or_default();
        for name in list.lines().filter_map(|line| line.split('#').next()).map(str::trim) {
            if !name.is_empty() {
                modules.load(name);
            }
        }
        modules.cold_plug();
    }
    mark("drivers");
    let named = match &asked {
        Some(root) => choose(root, &uevents, &mut modules)?,
        None => Named::read(&cmdline)?,
    };
    let place = find(&named, &uevents, modules.as_mut())?;
    if asked.is_some() {
        match Slot::named(&named.slot).map_or(Ok(None), |slot| loader::count(&place.disk, slot)) {
            Ok(None) => {}
            Ok(Some(other)) => bail!(
                "slot {} was started {} times and never said that it is good: slot {other} is started",
                named.slot,
                trial::TRIES
            ),
            // A disk that takes no writes: it is started all the same.
            Err(e) => say(&format!("{e:#}")),
        }
    }
    let seal = slot::seal(&place, &named)?;
    let verity = Verity::open(&seal, &place.number)?;
    if let Err(e) = enter(&verity) {
        // So that the kernel has nothing open of a disk that it is to leave.
        let _ = umount2(ROOT, MntFlags::MNT_DETACH);
        let _ = verity.close();
        return Err(e.context(format!("slot {} on {} is damaged", named.slot, place.device.display())));
    }
    verity.restart_on_damage(&seal, &place.number)?;
    mark("slot");
    say(&format!("slot {}, version {}, on {}", named.slot, seal.version, place.device.display()));
    switch()
}

/// Waits for the slot's partition, whose driver or disk may take its time.
fn find(named: &Named, uevents: &Uevents, mut modules: Option<&mut Modules>) -> Result<Place> {
    let what = format!("the partition {} of slot {}", named.root, named.slot);
    let mut waiting = Waiting::new(&what, DISK);
    // Once: a disk that takes no writes would be mended for ever.
    let mut mended = false;
    loop {
        if let Some(place) = slot::find(named.root).filter(|place| place.device.exists()) {
            return Ok(place);
        }
        if mend(&mut mended, |there| there.guid == named.root) {
            continue;
        }
        let Some(left) = waiting.left() else {
            bail!("{what} is on none of the disks ({}): is the disk's driver among the modules?", seen());
        };
        uevents.wait(left.min(Duration::from_secs(1)), modules.as_deref_mut());
    }
}

/// Waits for the slot that has the system whose root hash this is, and says so to the system in it.
fn choose(root: &Root, uevents: &Uevents, modules: &mut Option<Modules>) -> Result<Named> {
    let said = loader::selected(modules.as_mut());
    let what = "the system that this kernel image was signed for";
    let mut waiting = Waiting::new(what, DISK);
    let mut mended = false;
    let mut since = None;
    loop {
        match slot::sealed(root, said) {
            Sealed::Here(named) => {
                named.leave()?;
                return Ok(named);
            }
            Sealed::Others(others) if *since.get_or_insert_with(clock::now) + OTHERS <= clock::now() => {
                bail!("{what} is in no slot: {}", others.join("; "));
            }
            Sealed::Others(_) | Sealed::Nowhere => {}
        }
        let is_slot = |there: &Partition| Slot::ALL.iter().any(|slot| slot::name_of(*slot) == there.name);
        if mend(&mut mended, is_slot) {
            continue;
        }
        let Some(left) = waiting.left() else {
            bail!("no disk has two slots ({}): is the disk's driver among the modules?", seen());
        };
        uevents.wait(left.min(Duration::from_secs(1)), modules.as_mut());
    }
}

/// Mends a partition table once; says whether it did.
fn mend(mended: &mut bool, is_it: impl Fn(&Partition) -> bool) -> bool {
    match slot::mend(is_it).filter(|_| !std::mem::replace(mended, true)) {
        Some(Ok(disk)) => {
            let disk = disk.display();
            say(&format!("{disk}: a partition table that was half written is mended from its copy"));
            true
        }
        Some(Err(e)) => {
            say(&format!("{e:#}"));
            false
        }
        None => false,
    }
}

/// The disks, for a person.
fn seen() -> String {
    let disks: Vec<String> = slot::disks().iter().map(|disk| disk.device().display().to_string()).collect();
    if disks.is_empty() { "no disk is there".into() } else { disks.join(", ") }
}

/// Mounts the slot, and reads what is needed first.
fn enter(verity: &Verity) -> Result<()> {
    fs::create_dir_all(ROOT)?;
    let device = verity.device.as_path();
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NODEV;
    mount(Some(device), ROOT, Some("squashfs"), flags, None::<&str>)
        .context("its squashfs cannot be mounted")?;
    let init = Path::new(ROOT).join(INIT.trim_start_matches('/'));
    let mut program = Vec::new();
    // A link to busybox in the slot, which leads nowhere here.
    let target = fs::read_link(&init).unwrap_or_else(|_| INIT.into());
    let program_path = match target.is_absolute() {
        true => Path::new(ROOT).join(target.strip_prefix("/").unwrap_or(&target)),
        false => init.with_file_name(target),
    };
    File::open(&program_path)
        .and_then(|mut file| file.read_to_end(&mut program))
        .with_context(|| format!("{INIT} cannot be read"))?;
    Ok(())
}

/// Leaves the initramfs for the slot.
fn switch() -> Result<Infallible> {
    let none = None::<&str>;
    let inside = |place: &str| format!("{ROOT}{place}");
    let modules = Path::new("/lib/modules");
    if modules.exists() {
        // The modules stay where they are, in memory, and are seen in the new root.
        let there = inside("/lib/modules");
        mount(Some(modules), there.as_str(), none, MsFlags::MS_BIND, none)
            .context("the slot has no place for /lib/modules")?;
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        let more = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(none, there.as_str(), none, flags | more, none).context("/lib/modules stays writable")?;
    }
    for place in ["/dev", "/proc", "/sys", "/run"] {
        mount(Some(place), inside(place).as_str(), none, MsFlags::MS_MOVE, none)
            .with_context(|| format!("the slot has no place for {place}"))?;
    }
    let device = fs::metadata("/").context("no root")?.dev();
    empty(Path::new("/"), device);
    chdir(ROOT).and_then(|()| mount(Some("."), "/", none, MsFlags::MS_MOVE, none)).context("no new root")?;
    chroot(".").and_then(|()| chdir("/")).context("no new root")?;
    let init = CString::new(INIT).context("a name with a zero octet")?;
    execv(&init, &[&init]).with_context(|| format!("{INIT} does not start"))
}

/// Gives back the memory of what was needed until now. Only files of the initramfs itself are on its device.
fn empty(directory: &Path, device: u64) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if meta.dev() != device || path == Path::new("/lib/modules") {
            continue;
        }
        if meta.is_dir() {
            empty(&path, device);
            // What is not empty has a mount in it.
            let _ = fs::remove_dir(&path);
        } else {
            let _ = fs::remove_file(&path);
        }
    }
}

/// What failed to be mounted, and why.
fn mounts() -> Vec<(&'static str, Errno)> {
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let table = [
        ("proc", "/proc", plain | MsFlags::MS_NODEV, None),
        ("sysfs", "/sys", plain | MsFlags::MS_NODEV, None),
        ("devtmpfs", "/dev", plain, Some("mode=0755")),
        ("tmpfs", "/run", plain | MsFlags::MS_NODEV, Some("mode=0755,size=32m")),
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
        // Without a console there is nobody to tell.
        let _ = dup2_stdin(&console).and(dup2_stdout(&console)).and(dup2_stderr(&console));
    }
}

/// Says why and boots again; the kernel would panic if PID 1 ended.
fn give_up(why: &str) -> ! {
    say(&format!("cannot start: {why}"));
    say(&format!("restarts in {} s", REBOOT.as_secs()));
    let until = clock::now() + REBOOT;
    while clock::now() < until {
        thread::park_timeout(until.since(clock::now()));
    }
    let Err(e) = reboot(RebootMode::RB_AUTOBOOT);
    // Only without the right to: then this is PID 1 of no machine.
    say(&format!("no restart: {e}"));
    std::process::exit(1)
}
