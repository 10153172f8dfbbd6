use crate::{SwitchName, SwitchPort};
use boot::{DiskHint, Mac, NodeName, NotAWord, Secret};
use core::{fmt, str::FromStr};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// A server, as its administrator describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSpec {
    /// Its name, which is its host name too.
    pub name: NodeName,
    /// Its baseboard management controller.
    pub bmc: BmcSpec,
    /// Its interfaces; the first with `pxe_enabled` is the one it boots by.
    pub ports: Vec<PortSpec>,
    /// How it boots.
    #[serde(default)]
    pub firmware: Firmware,
    /// On which disk images go; empty: the only disk, or the smallest of at least the image's size.
    #[serde(default, skip_serializing_if = "DiskHint::is_empty")]
    pub root_disk: DiskHint,
    /// Whether it has no disks: it boots from a volume, and there is nothing to wipe.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub diskless: bool,
}

impl NodeSpec {
    /// The interface it boots by.
    pub fn pxe_port(&self) -> Option<&PortSpec> {
        self.ports.iter().find(|port| port.pxe_enabled)
    }

    /// The interface by which it reaches its volumes where its tenant's network has a storage network: the
    /// next one that it may boot by.
    pub fn storage_port(&self) -> Option<&PortSpec> {
        self.ports.iter().filter(|port| port.pxe_enabled).nth(1)
    }
}

/// How a BMC is reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BmcSpec {
    /// Its address on the OOB network.
    pub address: IpAddr,
    /// UDP port.
    #[serde(default = "ipmi_port")]
    pub port: u16,
    /// User name, at most 16 octets.
    pub user: String,
    /// Password, at most 20 octets.
    pub password: Secret,
}

/// 623 (IPMI 2.0, 13.1.2).
fn ipmi_port() -> u16 {
    623
}

/// One of a node's interfaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortSpec {
    /// Its address.
    pub mac: Mac,
    /// Where its cable goes.
    pub local_link: LocalLink,
    /// Whether the node may boot by it.
    #[serde(default = "yes")]
    pub pxe_enabled: bool,
}

fn yes() -> bool {
    true
}

/// The other end of a cable.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalLink {
    /// The switch.
    pub switch: SwitchName,
    /// Its port.
    pub port: SwitchPort,
}

/// How a node boots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// PC BIOS.
    Bios,
    /// UEFI.
    Uefi,
    /// Whatever it is set to; boot overrides say nothing of it.
    #[default]
    Any,
}

/// An image's name: letters, digits, `-`, `_`, `.`, at most 128.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageName(String);

impl ImageName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ImageName {
    type Err = NotAWord;

    fn from_str(text: &str) -> Result<ImageName, NotAWord> {
        let first = text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
        let rest = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if first && rest && text.len() <= 128 {
            Ok(ImageName(text.to_owned()))
        } else {
            let expected = "an image's name of letters, digits, hyphens, underscores and dots, at most 128";
            Err(NotAWord { expected, found: text.chars().take(80).collect() })
        }
    }
}

impl TryFrom<String> for ImageName {
    type Error = NotAWord;

    fn try_from(text: String) -> Result<ImageName, NotAWord> {
        text.parse()
    }
}

impl From<ImageName> for String {
    fn from(name: ImageName) -> String {
        name.0
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Where a node is in its life. The names are Ironic's, to the letter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProvisionState {
    /// Known, and nothing of it proved.
    #[default]
    #[serde(rename = "enroll")]
    Enroll,
    /// Its BMC is being asked and its ports are being put in quarantine.
    #[serde(rename = "verifying")]
    Verifying,
    /// Its BMC answers and its ports are in quarantine.
    #[serde(rename = "manageable")]
    Manageable,
    /// It can be deployed.
    #[serde(rename = "available")]
    Available,
    /// It is being deployed, and something of ours is at work.
    #[serde(rename = "deploying")]
    Deploying,
    /// It is being deployed, and its ramdisk is awaited.
    #[serde(rename = "wait call-back")]
    WaitCallBack,
    /// It is the tenant's.
    #[serde(rename = "active")]
    Active,
    /// Its deployment failed; it is in quarantine.
    #[serde(rename = "deploy failed")]
    DeployFailed,
    /// It is being taken from its tenant.
    #[serde(rename = "deleting")]
    Deleting,
    /// Taking it from its tenant failed.
    #[serde(rename = "error")]
    Error,
    /// It is being cleaned, and something of ours is at work.
    #[serde(rename = "cleaning")]
    Cleaning,
    /// It is being cleaned, and its ramdisk is awaited.
    #[serde(rename = "clean wait")]
    CleanWait,
    /// Its cleaning failed; it is in quarantine.
    #[serde(rename = "clean failed")]
    CleanFailed,
}

impl fmt::Display for ProvisionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ProvisionState::Enroll => "enroll",
            ProvisionState::Verifying => "verifying",
            ProvisionState::Manageable => "manageable",
            ProvisionState::Available => "available",
            ProvisionState::Deploying => "deploying",
            ProvisionState::WaitCallBack => "wait call-back",
            ProvisionState::Active => "active",
            ProvisionState::DeployFailed => "deploy failed",
            ProvisionState::Deleting => "deleting",
            ProvisionState::Error => "error",
            ProvisionState::Cleaning => "cleaning",
            ProvisionState::CleanWait => "clean wait",
            ProvisionState::CleanFailed => "clean failed",
        })
    }
}
