use core::fmt;
use serde::{Deserialize, Serialize};

/// What the host hand should be doing with the box that the appliance runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPlan {
    /// The update that was last asked for; none: nobody ever asked for one.
    pub update: Option<UpdatePlan>,
    /// Whether the box is to be as it was flashed: everything it keeps is wiped, at its next start, which is
    /// now.
    #[serde(default)]
    pub reset: bool,
}

/// An update, to be made once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdatePlan {
    /// Numbers the updates: the same one is not made twice.
    pub number: u64,
    /// The bundle's file on the box.
    pub bundle: String,
    /// Whether the box starts again by itself when the other slot is written; else somebody starts it.
    pub restart: bool,
}

/// One of the two system slots: the running one is on the other side of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Slot {
    /// The first: what the box was flashed with.
    A,
    /// The second.
    B,
}

impl Slot {
    /// Both.
    pub const ALL: [Slot; 2] = [Slot::A, Slot::B];

    /// The one that the boot loader calls so.
    pub fn named(name: &str) -> Option<Slot> {
        Slot::ALL.into_iter().find(|slot| slot.to_string() == name)
    }

    /// The one that an update is written to while this one runs.
    pub fn other(self) -> Slot {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Slot::A => "A",
            Slot::B => "B",
        })
    }
}

/// What the host hand tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostFact {
    /// What runs, and what is in the slots. Key: `box`.
    Box(BoxFact),
    /// How the update of the plan stands. Key: `update`.
    Update {
        /// Which.
        number: u64,
        /// How far it is.
        stage: Stage,
    },
}

/// What the box is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoxFact {
    /// The slot whose system runs.
    pub slot: Slot,
    /// Both slots.
    pub slots: Vec<SlotFact>,
    /// Whether this image takes updates: it was built with the certificate that they are signed by.
    pub updatable: bool,
    /// Whether what it keeps is on its data partition, and not in memory instead of it or over it.
    #[serde(default)]
    pub keeps: bool,
    /// What was wrong when the box started, each with what to do.
    pub troubles: Vec<String>,
}

/// What is in a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotFact {
    /// Which.
    pub slot: Slot,
    /// The version of the system in it; none: there is none that is whole.
    pub version: Option<String>,
    /// Whether the boot loader may start it.
    pub good: bool,
    /// Whether it is on trial: it has yet to prove itself.
    pub trial: bool,
}

/// How far an update is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "stage")]
pub enum Stage {
    /// The bundle is being checked and written.
    Writing {
        /// How much is done, of a hundred.
        percent: u8,
        /// What is being done.
        doing: String,
    },
    /// It is in a slot that the box starts from next.
    Installed {
        /// Which.
        slot: Slot,
        /// Its version.
        version: String,
    },
    /// It runs, and has yet to prove itself.
    Trial {
        /// Which.
        slot: Slot,
        /// Its version.
        version: String,
    },
    /// It runs and has proved itself.
    Good {
        /// Which.
        slot: Slot,
        /// Its version.
        version: String,
    },
    /// It did not come about: the box runs what it ran before.
    Failed {
        /// Why, and what to do.
        why: String,
    },
}

impl Stage {
    /// Whether nothing more comes of it.
    pub fn is_final(&self) -> bool {
        matches!(self, Stage::Good { .. } | Stage::Failed { .. })
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stage::Writing { percent, doing } => write!(f, "writing, {percent} %: {doing}"),
            Stage::Installed { slot, version } => {
                write!(f, "{version} is in slot {slot}, which the box starts from next")
            }
            Stage::Trial { slot, version } => write!(f, "{version} runs on trial in slot {slot}"),
            Stage::Good { slot, version } => write!(f, "{version} in slot {slot} is good"),
            Stage::Failed { why } => write!(f, "failed: {why}"),
        }
    }
}
