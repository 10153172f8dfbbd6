//! The box that all this runs on: what is in its slots, and its update.

use crate::intent::{Done, Refusal, RefusalKind, refuse};
use crate::record::UpdateRecord;
use crate::{Control, Event, Hand};
use rack::{BoxFact, HostFact, HostPlan, Stage, UpdatePlan};
use sansio::Time;
use serde::{Deserialize, Serialize};
use store::{Batch, Store, StoreError};

/// Where the record is in its table.
pub(crate) const KEY: &str = "update";

/// The box, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplianceView {
    /// The version of the programs that answer.
    pub version: String,
    /// What runs and what is in the slots; none: this is no image, or its hand has not told yet.
    #[serde(rename = "box")]
    pub box_: Option<BoxFact>,
    /// The update that was last asked for.
    pub update: Option<UpdateView>,
}

/// An update, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateView {
    /// Numbers the updates.
    pub number: u64,
    /// When it was asked for, in microseconds since 1970.
    pub asked: Time,
    /// How far it is; none: the box has said nothing of it yet.
    pub stage: Option<Stage>,
}

/// What the host hand told.
#[derive(Debug, Default)]
pub(crate) struct HostFacts {
    pub(crate) box_: Option<BoxFact>,
    pub(crate) update: Option<(u64, Stage)>,
}

impl HostFacts {
    pub(crate) fn note(&mut self, fact: HostFact) {
        match fact {
            HostFact::Box(box_) => self.box_ = Some(box_),
            HostFact::Update { number, stage } => self.update = Some((number, stage)),
        }
    }
}

/// Whether two stages are the same but for how much of a hundred is done.
fn is_same(one: &Stage, other: &Stage) -> bool {
    core::mem::discriminant(one) == core::mem::discriminant(other)
}

impl<S> Control<S> {
    pub(crate) fn host(&self) -> HostPlan {
        let update = self.update.as_ref().filter(|update| !update.is_over());
        HostPlan {
            update: update.map(|update| UpdatePlan {
                number: update.number,
                bundle: update.bundle.clone(),
                restart: update.restart,
            }),
            reset: self.reset,
        }
    }

    /// The bundle that is being seen to: its file is needed.
    pub fn bundle(&self) -> Option<&str> {
        self.update.as_ref().filter(|update| !update.is_over()).map(|update| update.bundle.as_str())
    }
}

impl<S: Store> Control<S> {
    /// The box, as it is shown.
    pub fn appliance_view(&self) -> ApplianceView {
        let host = self.facts.host();
        let told = |update: &UpdateRecord| {
            let now = host.update.as_ref().filter(|(number, _)| *number == update.number);
            let now = now.map(|(_, stage)| stage.clone());
            UpdateView {
                number: update.number,
                asked: update.asked,
                stage: update.stage.clone().filter(Stage::is_final).or(now).or_else(|| update.stage.clone()),
            }
        };
        ApplianceView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            box_: host.box_.clone(),
            update: self.update.as_ref().map(told),
        }
    }

    /// Why no update can be made now.
    ///
    /// # Errors
    /// With what to do.
    pub fn may_update(&self) -> Result<(), Refusal> {
        if !self.site.image {
            let text =
                "this appliance is no image with two slots: update its programs as they were installed";
            return refuse(RefusalKind::Conflict, text);
        }
        if let Some(update) = self.update.as_ref().filter(|update| !update.is_over()) {
            let text = format!(
                "update {} is under way: kiln appliance show says how far it is; wait until it is done",
                update.number
            );
            return refuse(RefusalKind::Conflict, text);
        }
        let host = self.facts.host();
        let Some(box_) = host.box_.as_ref().filter(|_| self.facts.hand(Hand::Host).connected) else {
            let text = "the host service is away: kiln status shows why; try again when it is back";
            return refuse(RefusalKind::Conflict, text);
        };
        if !box_.updatable {
            let text = "this image takes no updates: it was built without a certificate to hold them against. Flash one that was built with --signer";
            return refuse(RefusalKind::Conflict, text);
        }
        if box_.slots.iter().any(|slot| slot.slot == box_.slot && slot.trial) {
            let text = "the system that runs is on trial itself: wait until it is good, in a few minutes";
            return refuse(RefusalKind::Conflict, text);
        }
        Ok(())
    }

    pub(crate) fn put_update(&mut self, bundle: String, restart: bool, now: Time) -> Result<Done, Refusal> {
        self.may_update()?;
        // The hand's record is of the box, the store may be of another, restored: no number is used twice.
        let told = self.facts.host().update.as_ref().map_or(0, |(number, _)| *number);
        let number = self.update.as_ref().map_or(0, |update| update.number).max(told) + 1;
        let update = UpdateRecord { number, bundle, restart, asked: now, stage: None };
        let event = Event::new(now, "appliance", number, "update", "an update is begun");
        self.keep(Batch::new().put_as(KEY, &update).event_as(&event))?;
        self.update = Some(update);
        Ok(Done::Changed)
    }

    pub(crate) fn reset_appliance(&mut self) -> Result<Done, Refusal> {
        if !self.site.image {
            let text = "this appliance is no image: stop it and remove its data directory";
            return refuse(RefusalKind::Conflict, text);
        }
        if self.facts.host().box_.as_ref().is_some_and(|box_| !box_.keeps) {
            let text = "memory stands in for the data partition, or over it, and the partition itself would not be wiped: start the box with the word kiln.reset on the kernel's command line (GRUB's menu has an entry for it)";
            return refuse(RefusalKind::Conflict, text);
        }
        // Not written down: it would be wiped with the rest, and a restart in between has done nothing.
        self.reset = true;
        Ok(Done::Changed)
    }

    /// Writes down how far the update is.
    pub(crate) fn settle_update(&mut self, now: Time) -> Result<(), StoreError> {
        let Some(update) = self.update.as_ref().filter(|update| !update.is_over()) else { return Ok(()) };
        let Some((number, stage)) = &self.facts.host().update else { return Ok(()) };
        if *number != update.number || update.stage.as_ref().is_some_and(|known| is_same(known, stage)) {
            return Ok(());
        }
        let kind = match stage {
            Stage::Writing { .. } => "writing",
            Stage::Installed { .. } => "installed",
            Stage::Trial { .. } => "trial",
            Stage::Good { .. } => "good",
            Stage::Failed { .. } => "failed",
        };
        let event = Event::new(now, "appliance", number, kind, stage.to_string());
        log::info!(update = number, kind; "{}", event.text);
        let update = UpdateRecord { stage: Some(stage.clone()), ..update.clone() };
        self.commit(Batch::new().put_as(KEY, &update).event_as(&event))?;
        self.update = Some(update);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
