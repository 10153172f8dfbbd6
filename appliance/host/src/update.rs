//! Updates: a bundle into the slot that does not run, by RAUC, and what became of it, over restarts.
//!
//! The plan numbers the updates. [`Record`] says of the last number how far it came; it is on the data
//! partition, and what the boot loader's variables say counts more ([`settle`]). So the process may be ended and
//! the power cut anywhere: an update is begun again from its first octet, or it is in the slot.

mod rauc;

use crate::{
    console::say,
    data, durable,
    efivars::Variables,
    esp::{self, Esp, Loader},
    loader,
    report::Report,
    slot::{self, Disk, Place},
    trial::{self, Standing},
    uki,
};
use anyhow::{Context as _, Result, bail};
use rack::{BoxFact, Slot, SlotFact, Stage, UpdatePlan};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// On the data partition: what is ours of it.
const HOME: &str = "/data/host";
/// The keys whose holders may sign bundles; not in an image that takes no updates.
const KEYRING: &str = "/etc/rauc/keyring.pem";
/// There from an installation to the box's next start.
const INSTALLED: &str = "/run/kiln/installed";
/// etc/rauc/system.conf finds the slots by these links.
const LINKS: &str = "/dev/kiln";

/// How far the last update came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Which.
    pub number: u64,
    /// How far.
    pub stage: Stage,
}

impl Record {
    /// The record, if there is one.
    pub fn read() -> Option<Record> {
        Record::read_from(&file())
    }

    fn read_from(file: &Path) -> Option<Record> {
        serde_json::from_slice(&fs::read(file).ok()?).ok()
    }

    /// Keeps it.
    ///
    /// # Errors
    /// The file system's.
    pub fn keep(&self) -> Result<()> {
        let text = serde_json::to_vec(self)?;
        fs::create_dir_all(HOME)
            .and_then(|()| durable::keep(&file(), &text, 0o600))
            .with_context(|| format!("{} cannot be written", file().display()))
    }
}

fn file() -> PathBuf {
    Path::new(HOME).join("update.json")
}

/// What stands in the record when the slot's trial ended, where that is the record's.
fn ended(record: Option<Record>, slot: Slot, good: bool, why: &str) -> Option<Record> {
    let Record { number, stage } = record?;
    let (version, of) = match stage {
        Stage::Installed { slot, version } | Stage::Trial { slot, version } => (version, slot),
        // Its power was cut between the boot loader's being told and the record.
        Stage::Writing { .. } => (version_in(slot).unwrap_or_default(), slot),
        Stage::Good { .. } | Stage::Failed { .. } => return None,
    };
    if of != slot {
        return None;
    }
    let stage = match good {
        true => Stage::Good { slot, version },
        false => Stage::Failed { why: format!("version {version} in slot {slot} failed its trial: {why}") },
    };
    Some(Record { number, stage })
}

fn end(slot: Slot, good: bool, why: &str) {
    // Without a record the boot loader knows all the same.
    if let Some(record) = ended(Record::read(), slot, good, why)
        && let Err(e) = record.keep()
    {
        say(&format!("{e:#}"));
    }
}

/// The running slot's trial is over: it is good.
pub fn passed(slot: Slot) {
    end(slot, true, "");
}

/// The running slot's trial is over: it is left.
pub fn failed(slot: Slot, why: &str) {
    end(slot, false, why);
}

/// Whether the record says that a slot passed its trial.
pub fn has_passed(slot: Slot) -> bool {
    matches!(Record::read(), Some(Record { stage: Stage::Good { slot: good, .. }, .. }) if good == slot)
}

/// After a start: makes of the boot loader's variables and the record one truth, and returns the record.
///
/// # Errors
/// This is no system that a slot booted, or the ESP or the record cannot be written.
pub fn settle() -> Result<Option<Record>> {
    let (running, place) = slot::running()?;
    let esp = Esp::on(&place.disk)?;
    let block = esp::variables(&esp.grubenv())?;
    let record = Record::read();
    let standing = match trial::standing(&block, running) {
        // Since then the box was not started: who begins again is only who asks.
        Standing::CameBack if Path::new(INSTALLED).exists() => Standing::Settled,
        standing => standing,
    };
    match standing {
        Standing::Settled => match record {
            Some(Record { number, stage: Stage::Installed { slot, version } })
                if slot != running && !Path::new(INSTALLED).exists() =>
            {
                let why = format!(
                    "the box was started since and its boot loader did not start version {version} in slot {slot}: send the bundle again"
                );
                let record = Record { number, stage: Stage::Failed { why } };
                record.keep()?;
                Ok(Some(record))
            }
            record => Ok(record),
        },
        Standing::OnTrial => {
            let Some(Record { number, stage }) = record else { return Ok(None) };
            if stage.is_final() {
                return Ok(Some(Record { number, stage }));
            }
            let version = version_in(running).unwrap_or_default();
            let record = Record { number, stage: Stage::Trial { slot: running, version } };
            record.keep()?;
            Ok(Some(record))
        }
        Standing::CameBack => {
            let slot = running.other();
            let why = "it was started and did not come to say that it is good, so the box came back to what ran before; its last words are on the console";
            say(&format!("slot {slot} failed its trial: {why}"));
            let failed = ended(record.clone(), slot, false, why);
            if let Some(failed) = &failed {
                failed.keep()?;
            }
            // After the record: whoever finds the variables so finds the record too.
            esp::change(&esp.grubenv(), |block| trial::fail(block, slot))?;
            Ok(failed.or(record))
        }
    }
}

/// Writes a bundle to the slot that does not run, which is started from next, on trial. `progress` hears what is
/// being done, and how much of a hundred is done.
///
/// # Errors
/// The bundle is not what it should be, or cannot be written: the text says what to do. The slot that runs is
/// as it was.
pub fn install(plan: &UpdatePlan, progress: &mut dyn FnMut(u8, &str)) -> Result<Stage> {
    let (running, place) = slot::running()?;
    if !Path::new(KEYRING).exists() {
        bail!(
            "this image takes no updates: it was built without a certificate to hold them against (hw-tests/image --signer)"
        );
    }
    if !Path::new(&plan.bundle).exists() {
        bail!("the bundle {} is gone: send it again", plan.bundle);
    }
    let slot = running.other();
    links(&place)?;
    let esp = Esp::on(&place.disk)?;
    if trial::on_trial(&esp::variables(&esp.grubenv())?) == Some(running) {
        bail!("slot {running} is on trial itself: wait until it is good, in a few minutes");
    }
    let bundle = Path::new(&plan.bundle);
    if esp.loader() == Loader::Once {
        if rauc::description(bundle).is_some_and(|said| !said.contains(uki::MARK)) {
            bail!("{}", loader::NO_KERNEL);
        }
        // An update that was not started yet, and is not to be started half written.
        loader::disarm()?;
    }
    esp::change(&esp.grubenv(), |block| trial::begin(block, slot, esp.loader()))?;
    rauc::install(running, bundle, progress)?;
    // What RAUC said is done is looked at.
    if trial::first(&esp::variables(&esp.grubenv())?) != Some(slot) {
        bail!("RAUC ended well and the boot loader was not told: send the bundle again");
    }
    let version = version_in(slot).with_context(|| format!("slot {slot} was written and holds no system"))?;
    // First: what is armed was not started before this is gone.
    fs::write(INSTALLED, "").with_context(|| format!("{INSTALLED} cannot be written"))?;
    if esp.loader() == Loader::Once {
        progress(100, "Telling the boot loader.");
        let there = partition(&place, slot).with_context(|| format!("slot {slot} is gone"))?;
        if let Err(e) = loader::arm(&esp, &there, slot) {
            esp::change(&esp.grubenv(), |block| trial::fail(block, slot))?;
            return Err(e);
        }
        esp::change(&esp.grubenv(), |block| trial::armed(block, slot))?;
    }
    Ok(Stage::Installed { slot, version })
}

/// The partition of a slot, on the disk that the running one is on.
fn partition(place: &Place, slot: Slot) -> Option<Place> {
    Disk::of(&place.disk)?.named(&slot::name_of(slot))
}

/// Names for the slots' partitions that do not change with the disk.
fn links(place: &Place) -> Result<()> {
    fs::create_dir_all(LINKS).with_context(|| format!("{LINKS} cannot be made"))?;
    for slot in Slot::ALL {
        let partition = partition(place, slot);
        let device =
            partition.with_context(|| format!("{} has no slot {slot}", place.disk.display()))?.device;
        let link = Path::new(LINKS).join(slot::name_of(slot));
        if fs::read_link(&link).is_ok_and(|there| there == device) {
            continue;
        }
        // One that leads elsewhere, or none.
        let _ = fs::remove_file(&link);
        symlink(&device, &link).with_context(|| format!("{} cannot be made", link.display()))?;
    }
    Ok(())
}

/// The version of the system in a slot, by its seal.
fn version_in(slot: Slot) -> Option<String> {
    let (_, running) = slot::running().ok()?;
    let place = partition(&running, slot)?;
    Some(slot::seal_of(&place).ok()?.version)
}

/// What the box is.
///
/// # Errors
/// This is no system that a slot booted, or the ESP cannot be read.
pub fn look() -> Result<BoxFact> {
    let (running, place) = slot::running()?;
    let esp = Esp::on(&place.disk)?;
    let block = esp::variables(&esp.grubenv())?;
    let slots = Slot::ALL.into_iter().map(|slot| SlotFact {
        slot,
        version: version_in(slot),
        good: trial::is_good(&block, slot),
        trial: trial::on_trial(&block) == Some(slot),
    });
    Ok(BoxFact {
        slot: running,
        slots: slots.collect(),
        // A certificate to hold bundles against, and a boot loader that knows of two slots, or can be told of them.
        updatable: Path::new(KEYRING).exists()
            && esp.counts()
            && (esp.loader() == Loader::Counting || Variables::are_there()),
        keeps: data::is_in_use(),
        troubles: Report::read().map(|report| report.troubles).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests;
