//! The end of a boot on trial: the running slot has proved itself, and the boot loader is told; or it has not.
//!
//! GRUB counts a start before it makes it (`TRY`), and passes over a slot on trial that was started once. So a
//! system that never comes to say that it is good is left at the next start: by power, by watchdog, or by
//! [`watch`], which init starts beside the supervisor. systemd-boot counts nothing: its start of a slot on trial is the
//! only one ([`loader`]), until the slot is the one that it prefers.

use crate::{
    clock,
    console::say,
    did::Did,
    esp::{self, Esp, Loader},
    loader, slot, trial, update,
};
use anyhow::{Context as _, Result};
use nix::{
    sys::{
        reboot::{RebootMode, reboot},
        signal::{Signal, kill},
    },
    unistd::{Pid, sync},
};
use rack::Slot;
use std::{convert::Infallible, fs, thread, time::Duration};

/// A new system that has not proved itself by then is left: its services may wait for a clock, a lease, a disk.
/// `kiln.trial=SECONDS` on the kernel's command line says otherwise.
const PATIENCE: Duration = Duration::from_secs(300);
/// How often is looked.
const LOOK: Duration = Duration::from_secs(2);
/// How long init has to end everything.
const FAREWELL: Duration = Duration::from_secs(60);

/// Tells the boot loader that the running slot is good.
///
/// # Errors
/// This is no system that a slot booted, or the ESP cannot be read or written.
pub fn good() -> Result<(Slot, Did)> {
    let (slot, place) = slot::running()?;
    let esp = Esp::on(&place.disk)?;
    if !esp.counts() {
        return Ok((slot, Did::Already));
    }
    let was_on_trial = trial::on_trial(&esp::variables(&esp.grubenv())?) == Some(slot);
    if esp.loader() == Loader::Once {
        // The other one, where that is preferred, was on trial or did not come so far. Before the variables: a power cut in between makes the trial begin again, and not the older slot start.
        loader::prefer(&esp, slot)?;
    }
    let did = esp::change(&esp.grubenv(), |block| trial::pass(block, slot))?;
    if was_on_trial {
        update::passed(slot);
    }
    Ok((slot, did))
}

/// Where the running slot is on trial: waits until it is good, and goes back to the other slot when it is not in
/// time.
///
/// # Errors
/// As [`good`].
pub fn watch() -> Result<()> {
    let (slot, place) = slot::running()?;
    let is_on_trial = || -> Result<bool> {
        let esp = Esp::on(&place.disk)?;
        Ok(trial::on_trial(&esp::variables(&esp.grubenv())?) == Some(slot))
    };
    if !is_on_trial()? {
        return Ok(());
    }
    let patience = patience(&fs::read_to_string("/proc/cmdline").context("no /proc/cmdline")?);
    let seconds = patience.as_secs();
    say(&format!(
        "slot {slot} is on trial: in {seconds} s its services have been ready for a minute, or the box goes back"
    ));
    let until = clock::now() + patience;
    while clock::now() < until {
        if update::has_passed(slot) {
            return Ok(());
        }
        thread::park_timeout(LOOK);
    }
    if !is_on_trial()? {
        return Ok(());
    }
    let why = format!("its services were not all ready for a minute within {seconds} s");
    esp::change(&Esp::on(&place.disk)?.grubenv(), |block| trial::fail(block, slot))?;
    update::failed(slot, &why);
    say(&format!("slot {slot} failed its trial: {why}; the box goes back to slot {}", slot.other()));
    match restart()? {}
}

/// How long a trial takes at most.
fn patience(cmdline: &str) -> Duration {
    let said = cmdline.split_ascii_whitespace().filter_map(|word| word.strip_prefix("kiln.trial="));
    said.filter_map(|seconds| seconds.parse().ok()).next_back().map_or(PATIENCE, Duration::from_secs)
}

/// Starts the box again, by init, which ends the services first.
///
/// # Errors
/// When that is not for us to do.
pub fn restart() -> Result<Infallible> {
    // busybox's init starts the machine again on this signal.
    kill(Pid::from_raw(1), Signal::SIGTERM).context("init cannot be told to start the box again")?;
    let until = clock::now() + FAREWELL;
    while clock::now() < until {
        thread::park_timeout(LOOK);
    }
    say("init did not start the box again: it is done without it");
    sync();
    reboot(RebootMode::RB_AUTOBOOT).context("the box cannot be started again")
}

#[cfg(test)]
mod tests;
