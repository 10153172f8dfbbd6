//! The boot loader of the Secure Boot profile: systemd-boot, which counts nothing, and starts one entry once when it
//! is told to (systemd's boot loader interface, `LoaderEntryOneShot`).
//!
//! ```text
//!   ESP: loader/loader.conf   default kiln-a.efi       the slot that proved itself last
//!        EFI/Linux/kiln-a.efi, kiln-b.efi              kernel, initramfs and the root hash of the slot's system, signed
//!
//!   slot B is written ─► [`arm`]: its kernel image to kiln-b.efi, if the firmware would start it; OneShot=kiln-b.efi
//!     systemd-boot: removes OneShot, starts kiln-b.efi ─┬─► good: [`prefer`] writes "default kiln-b.efi"
//!                                                       └─► anything else, and the box starts again: kiln-a.efi
//! ```
//!
//! What GRUB does besides, the initramfs does: it counts a slot's starts until the slot says that it is good ([`count`]),
//! and has the other one started instead of one that was started three times, or that is damaged ([`turn`]). Whichever
//! proves itself is preferred then.
//!
//! A kernel image names no slot, only the root hash: it is the same in either. [`slot::choose`] says which one it starts.
//!
//! Both files of the ESP are written in place, at the size they have: then no power cut leaves the file system
//! itself half changed, in which clusters would be lost, and with some cuts the room for the next update. A kernel
//! image that is half written is one that nothing starts, and `loader.conf` is one sector. Rejected: a new file that
//! is renamed, and boot counting by file names, which has the firmware write to the file system at every start.

use crate::{
    did::Did,
    durable,
    efivars::{self, Access, Name, Variables},
    esp::{self, Esp},
    modules::Modules,
    pe::Program,
    seal::Root,
    slot::{self, Place},
    trial,
    trust::{self, Lists},
    uki,
};
use anyhow::{Context as _, Result, bail, ensure};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use rack::Slot;
use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    path::Path,
};

/// The entry that is started once, and then the default again.
const ONE_SHOT: Name = Name("LoaderEntryOneShot-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f");
/// The entry that was started.
const SELECTED: Name = Name("LoaderEntrySelected-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f");
/// A default that overrules the file's: a key in systemd-boot's menu sets it.
const OVERRULING: Name = Name("LoaderEntryDefault-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f");
/// Below the ESP.
const KERNELS: &str = "EFI/Linux";
/// Written at once: each is on the medium before the next.
const PIECE: usize = 1 << 20;

/// The entry of a slot: its file's name, in lower case, as systemd-boot has it.
pub fn entry(slot: Slot) -> String {
    format!("kiln-{slot}.efi").to_ascii_lowercase()
}

fn slot_of(entry: &str) -> Option<Slot> {
    Slot::ALL.into_iter().find(|slot| self::entry(*slot).eq_ignore_ascii_case(entry))
}

/// What systemd-boot reads: nobody gets to edit a command line, and keys are enrolled where there are none. Of the same
/// length for either slot, and one sector.
pub fn configuration(default: Slot) -> String {
    let default = entry(default);
    format!(
        "default {default}\ntimeout 0\neditor no\nauto-entries no\nauto-firmware no\nsecure-boot-enroll force\n"
    )
}

/// The root hash on the command line of a kernel image that fits either slot; nothing: it names its slot.
///
/// # Errors
/// It is no hash, or there is none.
pub fn asked(cmdline: &str) -> Result<Option<Root>> {
    if slot::word(cmdline, "kiln.slot") != Some("loader") {
        return Ok(None);
    }
    let text =
        slot::word(cmdline, "kiln.verity").context("kiln.verity= is not on the kernel command line")?;
    let root = text.parse().map_err(|()| anyhow::anyhow!("kiln.verity={text} is not a hash of 64 digits"));
    root.map(Some)
}

/// The slot whose entry systemd-boot says it started, for the initramfs.
pub fn selected(modules: Option<&mut Modules>) -> Option<Slot> {
    // Nobody but us asks for it there.
    if let Some(modules) = modules {
        modules.load("efivarfs");
    }
    let value = Variables::open(Access::Read).ok()?.get(SELECTED).ok()??;
    slot_of(&efivars::text(&value)?)
}

/// Nothing is started once any more: what is on a slot is about to change.
///
/// # Errors
/// The firmware's.
pub fn disarm() -> Result<Did> {
    Variables::open(Access::Write)?.remove(ONE_SHOT)
}

/// Has systemd-boot start a slot that was written once, at the next start.
///
/// # Errors
/// The slot has no kernel image, or one that the firmware would not start; the ESP or the firmware's variables
/// cannot be written.
pub fn arm(esp: &Esp, place: &Place, slot: Slot) -> Result<()> {
    let seal = slot::seal_of(place)?;
    let Some(image) = uki::read(&place.device, &seal)? else { bail!("{NO_KERNEL}") };
    let variables = Variables::open(Access::Write)?;
    check(&image, &seal.root, &variables)
        .context("the bundle's kernel image is not one that this box starts")?;
    write(&esp.root().join(KERNELS).join(entry(slot)), &image)?;
    drop(variables);
    start_once(slot)?;
    Ok(())
}

/// Of a bundle that is for GRUB's profile.
pub const NO_KERNEL: &str = "the bundle has no signed kernel image, and this box starts no other: make one with \
                             hw-tests/image --signer DIR --owner DIR, with the keys that the box knows";

/// Whether a kernel image starts the system with this root, and the firmware starts it.
fn check(image: &[u8], root: &Root, variables: &Variables) -> Result<()> {
    let [trusted, revoked] =
        [efivars::TRUSTED, efivars::REVOKED].map(|name| variables.get(name).map(Option::unwrap_or_default));
    let (trusted, revoked) = (trusted?, revoked?);
    // A firmware that trusts nobody yet starts everything.
    if !trusted.is_empty() {
        trust::judge(image, &Lists::parse(&trusted), &Lists::parse(&revoked))?;
    }
    let cmdline = Program::parse(image).and_then(|program| program.section(".cmdline"));
    let cmdline =
        cmdline.and_then(|octets| std::str::from_utf8(octets).ok()).context("it has no command line")?;
    ensure!(
        asked(cmdline)?.as_ref() == Some(root),
        "it is another system's: its root hash is not the slot's"
    );
    Ok(())
}

/// Writes a kernel image in place, and holds what is on the medium then against it.
fn write(file: &Path, image: &[u8]) -> Result<()> {
    let failed = || format!("the kernel image {} cannot be written", file.display());
    let open = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(file)
        .with_context(failed)?;
    if open.metadata().with_context(failed)?.len() != image.len() as u64 {
        open.set_len(image.len() as u64).with_context(failed)?;
    }
    for (number, piece) in image.chunks(PIECE).enumerate() {
        open.write_all_at(piece, (number * PIECE) as u64).with_context(failed)?;
    }
    open.sync_all().with_context(failed)?;
    // So that it is read from the medium, and not from memory.
    let _ = posix_fadvise(&open, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    let mut there = vec![0; PIECE];
    for (number, piece) in image.chunks(PIECE).enumerate() {
        let there = &mut there[..piece.len()];
        open.read_exact_at(there, (number * PIECE) as u64).with_context(failed)?;
        ensure!(there == piece, "{}: it reads back as something else: is the disk at its end?", failed());
    }
    Ok(())
}

/// Makes a slot that proved itself the one that is started from now on.
///
/// # Errors
/// The ESP or the firmware's variables cannot be written.
pub fn prefer(esp: &Esp, slot: Slot) -> Result<Did> {
    let did = write_configuration(&esp.root().join(esp::SYSTEMD_BOOT), slot)?;
    // The file counts only without it.
    let variables = Variables::open(Access::Write)?;
    let overruling = variables.remove(OVERRULING)?;
    Ok(if overruling == Did::Changed { overruling } else { did })
}

fn write_configuration(file: &Path, slot: Slot) -> Result<Did> {
    let failed = || format!("the boot loader's {} cannot be written", file.display());
    let text = configuration(slot);
    let there = fs::read(file).with_context(failed)?;
    if there == text.as_bytes() {
        return Ok(Did::Already);
    }
    if there.len() == text.len() {
        let open = OpenOptions::new().write(true).open(file).with_context(failed)?;
        open.write_all_at(text.as_bytes(), 0).and_then(|()| open.sync_all()).with_context(failed)?;
    } else {
        // Somebody wrote another one.
        durable::keep(file, text.as_bytes(), 0o600).with_context(failed)?;
    }
    Ok(Did::Changed)
}

/// Counts that the initramfs starts a slot, since nobody did before. Returns the slot that is to be started instead,
/// and is, at the next start.
///
/// # Errors
/// The ESP or the firmware's variables cannot be written.
pub fn count(disk: &Path, slot: Slot) -> Result<Option<Slot>> {
    let esp = Esp::on(disk)?;
    if !esp.counts() {
        return Ok(None);
    }
    let mut instead = None;
    esp::change(&esp.grubenv(), |block| instead = trial::count(block, slot))?;
    instead.map(|other| start_once(other).map(|_| other)).transpose()
}

/// What was to be started does not start: the other slot is, once, if it holds a system.
///
/// # Errors
/// The firmware's.
pub fn turn(modules: Option<&mut Modules>) -> Result<Option<Slot>> {
    let Some(slot) = selected(modules) else { return Ok(None) };
    start_once(slot.other())?;
    Ok(Some(slot.other()))
}

fn start_once(slot: Slot) -> Result<Did> {
    Variables::open(Access::Write)?.set(ONE_SHOT, &efivars::octets(&entry(slot)))
}

#[cfg(test)]
mod tests;
