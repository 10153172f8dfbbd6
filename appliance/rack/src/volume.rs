use crate::ImageName;
use boot::VolumeId;
use core::fmt;
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
