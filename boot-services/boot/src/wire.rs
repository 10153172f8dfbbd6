use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The version of the contract that this crate speaks.
pub const VERSION: u8 = 1;

/// The longest line either side takes, in octets; a longer one ends the connection. A plan for a rack
/// of 100 nodes is some 200 kB.
pub const MAX_LINE: usize = 16 << 20;

/// The number of a plan. Later plans have larger numbers; a hand refuses a smaller one than it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The one after this.
    pub fn next(self) -> Generation {
        Generation(self.0.saturating_add(1))
    }
}

/// What control says to a hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Down<P> {
    /// The whole of what the hand should be doing from now on.
    Plan {
        /// Its number.
        generation: Generation,
        /// What it says.
        body: P,
    },
}

/// What a hand says to control.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Up<F> {
    /// The first line of every connection.
    Hello {
        /// Which hand this is: `dhcp`, `tftp`, `http`, `power`, `switch`.
        hand: String,
        /// Different in every run of the process; sequence numbers of two epochs do not compare.
        epoch: u64,
        /// The plan it serves from, if it has one.
        holds: Option<Generation>,
    },
    /// A row of the hand's table of facts.
    Fact(Row<F>),
    /// The table has been told once in full; what follows are changes.
    Told,
    /// The hand took up a plan, and serves from it now.
    Holds(Generation),
}

/// One fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row<F> {
    /// Numbered by the hand within its epoch, from 1, as its table changed.
    pub seq: u64,
    /// Which row of the table this is.
    pub key: String,
    /// What it says now.
    pub fact: F,
}

/// A line as it travels: the version first, so that a stranger can be told what is wrong.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Line<T> {
    pub(crate) v: u8,
    pub(crate) say: T,
}

/// A line whose body is looked at only after its version.
#[derive(Debug, Deserialize)]
pub(crate) struct RawLine<'a> {
    pub(crate) v: u8,
    #[serde(borrow)]
    pub(crate) say: &'a RawValue,
}
