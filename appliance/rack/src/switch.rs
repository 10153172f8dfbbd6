use crate::Vlan;
use boot::{Attempt, NotAWord};
use core::{fmt, str::FromStr};
use serde::{Deserialize, Serialize};

/// A switch's name, chosen by its administrator: letters, digits, `-`, `_`, `.`, at most 63.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SwitchName(String);

/// A port as its switch names it: `n1`, `Ethernet1/7`, `swp3`. Printable ASCII without spaces, at most 63.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SwitchPort(String);

macro_rules! text {
    ($name:ident, $expected:literal, $may:expr) => {
        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NotAWord;

            fn from_str(text: &str) -> Result<$name, NotAWord> {
                if !text.is_empty() && text.len() <= 63 && text.chars().all($may) {
                    Ok($name(text.to_owned()))
                } else {
                    let found = text.chars().take(80).collect();
                    Err(NotAWord { expected: $expected, found })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = NotAWord;

            fn try_from(text: String) -> Result<$name, NotAWord> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

text!(SwitchName, "a switch's name of letters, digits, hyphens, underscores and dots, at most 63", |c| {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
});
text!(SwitchPort, "a switch port's name of printable characters without spaces, at most 63", |c| {
    c.is_ascii_graphic()
});

/// A switch, as its administrator describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SwitchSpec {
    /// What nodes' `local_link` calls it.
    pub name: SwitchName,
    /// How it is driven.
    #[serde(flatten)]
    pub driver: SwitchDriver,
}

/// How a switch is driven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "driver")]
pub enum SwitchDriver {
    /// By its OVSDB server (RFC 7047).
    Ovsdb {
        /// `HOST:PORT`, port 6640 as a rule; or `unix:PATH`.
        address: String,
    },
}

/// What the switch hand should be doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SwitchPlan {
    /// The switches. Ports that no wish names are looked at, never touched.
    pub switches: Vec<SwitchEntry>,
}

/// One switch of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SwitchEntry {
    /// Which.
    pub name: SwitchName,
    /// How it is driven.
    pub driver: SwitchDriver,
    /// The ports that are ours to set.
    pub ports: Vec<PortWish>,
}

/// Where a port should be: a level, for as long as it stands in the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortWish {
    /// Which.
    pub port: SwitchPort,
    /// Untagged in this VLAN and in no other.
    pub vlan: Vlan,
    /// Repeated in the facts about this port.
    pub attempt: Option<Attempt>,
}

/// What the switch hand knows. Keys: `SWITCH` and `SWITCH/PORT`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SwitchFact {
    /// Whether the switch can be talked to: `None`, or what is wrong and what to do.
    Reach {
        /// Which.
        switch: SwitchName,
        /// What is wrong.
        trouble: Option<String>,
    },
    /// A port that a wish names.
    Port(PortFact),
}

/// A port as it was read back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PortFact {
    /// On which switch.
    pub switch: SwitchName,
    /// Which.
    pub port: SwitchPort,
    /// What the switch says it is, and says to be in force; none: not read yet.
    pub mode: Option<PortMode>,
    /// Whether there is light.
    pub link: LinkState,
    /// How often somebody else changed it while a wish stood; put back each time.
    pub drifts: u32,
    /// The attempt of the wish this was read under.
    pub attempt: Option<Attempt>,
    /// Why the wish cannot be fulfilled, and what to do; none: it is, or is being.
    pub trouble: Option<String>,
}

/// What a port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortMode {
    /// Untagged in one VLAN.
    Access(Vlan),
    /// Carries more than that: tagged, or every VLAN.
    Trunk,
    /// The switch has no such port.
    Absent,
}

impl fmt::Display for PortMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortMode::Access(vlan) => write!(f, "in VLAN {vlan}"),
            PortMode::Trunk => f.write_str("a trunk"),
            PortMode::Absent => f.write_str("not there"),
        }
    }
}

/// Whether a port has a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkState {
    /// Yes.
    Up,
    /// No: cable out, or the other end without power.
    Down,
    /// The switch does not say.
    #[default]
    Unknown,
}
