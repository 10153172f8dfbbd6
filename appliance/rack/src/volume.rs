use crate::ImageName;
use boot::{Iqn, NotAWord, VolumeId};
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Serialize};

/// A volume, as somebody asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeSpec {
    /// Its name.
    pub name: VolumeId,
    /// Its size in octets; none: its source's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// What it begins as; none of the two: zeros.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageName>,
    /// What it begins as: what this volume holds when the copy is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeId>,
}

/// What the iSCSI names of one appliance begin with: the domain of whoever runs it, reversed (RFC 7143,
/// 4.2.7.4). Of at most 100 characters, so that any node's name has room behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IqnPrefix(String);

impl IqnPrefix {
    /// A name below it.
    ///
    /// # Panics
    /// `rest` has other characters than letters, digits, hyphens and dots, or more than 120.
    pub fn name(&self, rest: &str) -> Iqn {
        format!("{}:{rest}", self.0).parse().expect("the prefix was parsed with a name behind it")
    }
}

impl Default for IqnPrefix {
    /// `.internal` is reserved for private use, so no name below it is somebody else's.
    fn default() -> IqnPrefix {
        IqnPrefix("iqn.2026-01.internal.kiln".to_owned())
    }
}

impl FromStr for IqnPrefix {
    type Err = NotAWord;

    fn from_str(text: &str) -> Result<IqnPrefix, NotAWord> {
        let wrong = || NotAWord {
            expected: "what an iSCSI name begins with, such as iqn.2026-01.com.example, of at most 100 characters",
            found: text.chars().take(80).collect(),
        };
        let name: Iqn = format!("{text}:node").parse().map_err(|_| wrong())?;
        let prefix = name.as_str().strip_suffix(":node").ok_or_else(wrong)?;
        if text.len() <= 100 && prefix.starts_with("iqn.") {
            Ok(IqnPrefix(prefix.to_owned()))
        } else {
            Err(wrong())
        }
    }
}

impl TryFrom<String> for IqnPrefix {
    type Error = NotAWord;

    fn try_from(text: String) -> Result<IqnPrefix, NotAWord> {
        text.parse()
    }
}

impl From<IqnPrefix> for String {
    fn from(prefix: IqnPrefix) -> String {
        prefix.0
    }
}

/// How an image comes to a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeployInterface {
    /// The agent fetches it over HTTP and writes it.
    #[default]
    Direct,
    /// The agent exports its disk over iSCSI and the appliance writes it.
    Iscsi,
    /// The node boots a clone of it from the appliance over iSCSI; nothing is written to its disks.
    San,
}

impl fmt::Display for DeployInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            DeployInterface::Direct => "direct",
            DeployInterface::Iscsi => "iscsi",
            DeployInterface::San => "san",
        })
    }
}
