//! The configuration: where it is looked for, and which counts.

use crate::{
    config::{Config, Fault},
    console::{Waiting, say},
    durable::keep,
    esp::Esp,
    modules::{Modules, Uevents},
    report::Configuration,
};
use nix::{
    fcntl::OFlag,
    mount::{MntFlags, MsFlags, mount, umount2},
};
use std::{
    fs::{self, OpenOptions},
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// Its name on any medium.
const NAME: &str = "kiln.toml";
/// The one that was last in force.
const LAST: &str = "kiln.last.toml";
/// More is no configuration.
const LONGEST: u64 = 1 << 20;
/// The label of a medium that brings one.
const LABEL: &str = "KILN-CONFIG";
/// A box without a configuration waits so long for a stick to be found.
const STICK: Duration = Duration::from_secs(10);
const MEDIUM: &str = "/mnt";

/// A file, as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Where it was.
    pub file: PathBuf,
    /// What is in it.
    pub text: String,
    /// What it says.
    pub config: Result<Config, Vec<Fault>>,
}

impl Found {
    fn read(file: PathBuf) -> Option<Found> {
        // A stick may bring anything by that name: a link, a pipe, a file without an end.
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
        let open = OpenOptions::new().read(true).custom_flags(flags).open(&file).ok()?;
        let mut text = Vec::new();
        if !open.metadata().ok()?.is_file()
            || open.take(LONGEST + 1).read_to_end(&mut text).ok()? as u64 > LONGEST
        {
            say(&format!(
                "{} is no file of at most {} KiB: it is passed over",
                file.display(),
                LONGEST >> 10
            ));
            return None;
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        let config = Config::parse(&text);
        Some(Found { file, text, config })
    }

    fn serial(&self) -> Option<u64> {
        self.config.as_ref().ok().map(|config| config.serial)
    }
}

/// Which configuration counts.
#[derive(Debug, Default, PartialEq)]
pub struct Choice {
    /// This one.
    pub found: Option<Found>,
    /// Whether it comes from a medium and is to be kept.
    pub is_new: bool,
    /// This one was refused.
    pub refused: Option<Found>,
}

/// Chooses between the one that is kept, the one that was last in force, and a medium's: a medium's counts
/// when it is good, and newer by its serial number or the kept one is not good.
pub fn choose(kept: Option<Found>, last: Option<Found>, medium: Option<Found>) -> Choice {
    let bad = |found: &Option<Found>| found.as_ref().is_some_and(|found| found.config.is_err());
    let refused = [&medium, &kept].into_iter().find(|found| bad(found)).cloned().flatten();
    let good = |found: Option<Found>| found.filter(|found| found.config.is_ok());
    let (kept, last, medium) = (good(kept), good(last), good(medium));
    let here = kept.or(last);
    match (here, medium) {
        (Some(here), Some(medium)) if medium.serial() > here.serial() => {
            Choice { found: Some(medium), is_new: true, refused }
        }
        (Some(here), _) => Choice { found: Some(here), is_new: false, refused },
        (None, Some(medium)) => Choice { found: Some(medium), is_new: true, refused },
        (None, None) => Choice { found: None, is_new: false, refused },
    }
}

/// Below the ESP: a copy of the configuration without its secrets, for a box whose data partition is lost.
const SPARE: &str = "kiln/kiln.toml";

/// The copy in the ESP.
fn spare(disk: &Path) -> Option<Found> {
    Found::read(Esp::on(disk).ok()?.root().join(SPARE))
}

/// Keeps a copy of what is in force in the ESP, which outlives the data partition.
///
/// # Errors
/// The ESP cannot be written.
pub fn keep_spare(disk: &Path, text: &str) -> anyhow::Result<()> {
    let Some(text) = without_secrets(text) else { return Ok(()) };
    let esp = Esp::on(disk)?;
    let path = esp.root().join(SPARE);
    if fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(());
    }
    fs::create_dir_all(esp.root().join("kiln"))?;
    Ok(keep(&path, text.as_bytes(), 0o600)?)
}

/// Removes that copy.
///
/// # Errors
/// The ESP cannot be written.
pub fn forget_spare(disk: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(Esp::on(disk)?.root().join("kiln")) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e.into()),
        _ => Ok(()),
    }
}

/// A configuration without what opens anything: anybody who has the disk can read the ESP.
fn without_secrets(text: &str) -> Option<String> {
    let mut table: toml::Table = text.parse().ok()?;
    if let Some(api) = table.get_mut("api").and_then(toml::Value::as_table_mut) {
        api.remove("token");
    }
    toml::to_string(&table).ok()
}

/// Looks for a configuration and keeps a new one in `data`. Returns it, and what is wrong. `disk`: the box's own.
pub fn search(
    data: &Path,
    disk: Option<&Path>,
    modules: Option<&mut Modules>,
) -> (Option<Found>, Configuration, Vec<String>) {
    let kept = Found::read(data.join(NAME));
    let last = Found::read(data.join(LAST));
    let is_lost = kept.is_none() && last.is_none();
    let is_good = |found: &Option<Found>| found.as_ref().is_some_and(|found| found.config.is_ok());
    let is_urgent = !is_good(&kept) && !is_good(&last);
    let medium = medium(is_urgent, modules);
    let Choice { found, is_new, refused } = choose(kept, last, medium);
    let mut troubles = Vec::new();
    let is_none = found.is_none();
    // A medium knows the token, so it comes first.
    let spare = || disk.filter(|_| is_lost).and_then(spare).filter(|spare| spare.config.is_ok());
    let found = found.or_else(spare);
    if is_none && found.is_some() {
        let text = "the data partition has no configuration; the copy beside the boot loader is in force, without its token";
        say(text);
        troubles.push(text.to_owned());
    }
    let mut keep = |name: &str, text: &str| {
        if let Err(e) = keep(&data.join(name), text.as_bytes(), 0o600) {
            troubles.push(format!("{} cannot be kept: {e}", data.join(name).display()));
        }
    };
    let mut configuration = Configuration::default();
    if let Some(found) = &found {
        if is_new {
            say(&format!("takes the configuration {}", found.file.display()));
            keep(NAME, &found.text);
        }
        if fs::read_to_string(data.join(LAST)).ok().as_ref() != Some(&found.text) {
            keep(LAST, &found.text);
        }
        configuration.file = Some(if is_new { data.join(NAME) } else { found.file.clone() });
        configuration.serial = found.serial();
    }
    if let Some(Found { file, config: Err(faults), .. }) = refused {
        let each = faults.iter().map(|fault| format!("{}: {fault}", file.display()));
        troubles.extend(each);
        configuration.refused = Some((file, faults));
    }
    (found, configuration, troubles)
}

/// What is on a medium with the label.
fn medium(is_urgent: bool, mut modules: Option<&mut Modules>) -> Option<Found> {
    let uevents = Uevents::open().ok();
    // What came since the devices were looked at told nobody.
    if let Some(modules) = modules.as_deref_mut().filter(|_| is_urgent) {
        modules.cold_plug();
    }
    let mut waiting = Waiting::new("a medium with a configuration", STICK);
    loop {
        if let Some(found) = on_medium() {
            return Some(found);
        }
        let (true, Some(uevents)) = (is_urgent, &uevents) else { return None };
        uevents.wait(waiting.left()?.min(Duration::from_secs(1)), modules.as_deref_mut());
    }
}

/// What is on a medium with the label now.
pub fn on_medium() -> Option<Found> {
    labelled().and_then(|device| read(&device))
}

/// Keeps a configuration where the next start looks first.
///
/// # Errors
/// The file system's.
pub fn take(data: &Path, found: &Found) -> std::io::Result<()> {
    say(&format!("takes the configuration {}", found.file.display()));
    keep(&data.join(NAME), found.text.as_bytes(), 0o600)
}

/// The device of the file system with the label.
fn labelled() -> Option<PathBuf> {
    let output = Command::new("findfs").arg(format!("LABEL={LABEL}")).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    Some(text.trim().into())
}

fn read(device: &Path) -> Option<Found> {
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    // What a medium's ext4 wants done about its own faults, a panic perhaps, is not asked; nor is it written to.
    let kinds = [("vfat", None), ("iso9660", None), ("ext4", Some("noload,errors=continue"))];
    let mounted =
        kinds.iter().any(|(kind, options)| mount(Some(device), MEDIUM, Some(*kind), flags, *options).is_ok());
    if !mounted {
        say(&format!("{} has the label {LABEL} and cannot be mounted", device.display()));
        return None;
    }
    let found = Found::read(Path::new(MEDIUM).join(NAME));
    if found.is_none() {
        say(&format!("{} has the label {LABEL} and no {NAME}", device.display()));
    }
    let _ = umount2(MEDIUM, MntFlags::MNT_DETACH);
    found.map(|found| Found { file: device.join(NAME), ..found })
}

#[cfg(test)]
mod tests;
