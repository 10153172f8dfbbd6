use boot::{Attempt, NodeName, Secret};
use core::fmt;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// What the power hand should be doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PowerPlan {
    /// One entry per BMC.
    pub bmcs: Vec<BmcPlan>,
}

/// A BMC, and what is wished of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BmcPlan {
    /// The node it belongs to; names the facts.
    pub node: NodeName,
    /// Numbers the descriptions of this BMC; repeated in its facts, so that what was found with a wrong
    /// password says nothing of the right one.
    pub revision: u64,
    /// UDP port 623 as a rule.
    pub address: SocketAddr,
    /// User name, at most 16 octets (IPMI 2.0, 22.28).
    pub user: String,
    /// Password, at most 20 octets.
    pub password: Secret,
    /// What should be so; none: only look, now and then.
    pub wish: Option<PowerWish>,
}

/// A level, not an edge: what should be so, for as long as it stands in the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowerWish {
    /// On or off.
    pub power: Power,
    /// What the node must boot when it is switched on for this wish. A node that is on already is left
    /// as it is: whoever wants a fresh boot wishes it off first. With `power` off: the override is
    /// cleared (disarmed) where there is one.
    pub boot: Option<BootWish>,
    /// Repeated in the fact that says that the wish is fulfilled.
    pub attempt: Attempt,
}

/// What to boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootWish {
    /// From where.
    pub device: BootDevice,
    /// Whether to tell the BMC that the boot is a UEFI one (IPMI 2.0, table 28-14, parameter 5).
    pub uefi: bool,
    /// Whether it is to boot so from now on, not only once (parameter 5, data 1, bit 6).
    #[serde(default)]
    pub persistent: bool,
}

/// Whether a node is powered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Power {
    /// It is.
    On,
    /// It is not.
    Off,
}

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Power::On => "on",
            Power::Off => "off",
        })
    }
}

/// From where a node boots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BootDevice {
    /// No override: as the firmware is set up.
    None,
    /// The network.
    Pxe,
    /// The first disk.
    Disk,
}

/// What the power hand knows of one BMC. Key: the node's name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PowerFact {
    /// Whose.
    pub node: NodeName,
    /// The description of the BMC by which this was found.
    pub revision: u64,
    /// The power as last seen; none: never seen since the hand started.
    pub power: Option<Power>,
    /// The boot override as last read back; none: not read, or the BMC does not tell.
    pub boot: Option<BootDevice>,
    /// The attempt of the wish that was last seen fulfilled.
    pub fulfilled: Option<Attempt>,
    /// How often the wish that stands now was acted upon (power commands sent), to tell a BMC that
    /// accepts and does nothing.
    pub acted: u32,
    /// What is wrong now; none: the BMC answers.
    pub trouble: Option<BmcTrouble>,
}

/// What is wrong with a BMC, by culprit. The text is for people and says what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "text")]
pub enum BmcTrouble {
    /// It refuses the user or the password.
    Credentials(String),
    /// It does not answer.
    Silent(String),
    /// It refuses a command, or answers what it must not.
    Refuses(String),
    /// It accepts, and nothing happens.
    Inert(String),
}

impl fmt::Display for BmcTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BmcTrouble::Credentials(t)
            | BmcTrouble::Silent(t)
            | BmcTrouble::Refuses(t)
            | BmcTrouble::Inert(t) => f.write_str(t),
        }
    }
}
