use boot::{Architecture, Attempt, Digest, Generation, Mac, NodeName, VolumeId, VolumeSource};
use deploy::{Deployment, Failure, Goal, Journey};
use rack::{ImageName, NetworkName, NetworkSpec, NodeSpec, ProvisionState, Stage, SwitchSpec};
use sansio::Time;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use store::{Record, Table, Versioned};

use crate::Hand;

macro_rules! record {
    ($name:ty, $table:ident) => {
        impl Versioned for $name {
            const VERSION: u8 = 1;
        }
        impl Record for $name {
            const TABLE: Table = Table::$table;
        }
    };
}

/// A node, and where it is in its life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// As its administrator describes it.
    pub spec: NodeSpec,
    /// Numbers the descriptions, from one.
    pub generation: u64,
    /// Where it is.
    pub state: ProvisionState,
    /// Since when.
    pub since: Time,
    /// What is being done with it.
    pub journey: Option<Journey>,
    /// What comes after that.
    pub then: Option<Goal>,
    /// How many journeys it made.
    pub journeys: u64,
    /// What it is deployed with, or was to be.
    pub deployment: Option<Deployment>,
    /// Why its last journey failed.
    pub failure: Option<Failure>,
    /// Its addresses, where Kiln gives them.
    pub addresses: BTreeMap<NetworkName, Ipv4Addr>,
    /// The address it was seen with on its tenant's network.
    pub tenant_address: Option<Ipv4Addr>,
    /// What its agent said when the last image was written.
    pub written: Option<agent_proto::Outcome>,
    /// Numbers the names and secrets by which it reaches its volumes; another deployment has others.
    #[serde(default)]
    pub access: u64,
    /// The node that it is to take the place of, as soon as that one is fenced.
    #[serde(default)]
    pub reserved_for: Option<NodeName>,
    /// The node that is to take its place.
    #[serde(default)]
    pub replaced_by: Option<NodeName>,
}
record!(NodeRecord, Node);

impl NodeRecord {
    /// Whether its journey failed and it is on its way into quarantine.
    pub(crate) fn is_failing(&self) -> bool {
        self.journey.as_ref().is_some_and(|journey| journey.failure.is_some())
    }

    /// Whether it is being cleaned, or will be when it was taken from its tenant.
    pub(crate) fn is_being_cleaned(&self) -> bool {
        self.journey.as_ref().is_some_and(|journey| matches!(journey.goal, Goal::Delete | Goal::Clean))
    }
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeRecord {
    /// Its name.
    pub id: VolumeId,
    /// Octets.
    pub size: u64,
    /// What it was made from.
    pub source: VolumeSource,
    /// The same, as it was called then; none: it began as zeros.
    pub from: Option<String>,
    /// When somebody asked for it.
    pub created: Time,
    /// Whether it was made: from then on one that is missing is lost.
    pub made: bool,
    /// Whether it is to hold all its content itself.
    pub flat: bool,
    /// Whether it is to be removed.
    pub gone: bool,
    /// Who has it.
    pub holder: Option<Holder>,
}
record!(VolumeRecord, Volume);

/// Who has a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The node.
    pub node: NodeName,
    /// As which logical unit.
    pub lun: u16,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Whether the node boots from it: such a volume ends with the deployment.
    pub root: bool,
    /// Whether a system ran from it: what it holds cannot be had again from its image.
    pub lived: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct NetworkRecord(pub(crate) NetworkSpec);
record!(NetworkRecord, Network);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct SwitchRecord(pub(crate) SwitchSpec);
record!(SwitchRecord, Switch);

/// An image, by the name people use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// Its name.
    pub name: ImageName,
    /// What it is.
    pub digest: Digest,
    /// Octets of the disk it describes.
    pub size: u64,
    /// Octets that are not holes.
    pub data: u64,
    /// SHA-256 of the raw content, as people compare it.
    pub sha256: String,
    /// When it was imported.
    pub imported: Time,
}
record!(ImageRecord, Image);

/// A machine that asked on a boot network and that nobody enrolled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discovered {
    /// The interface it asked by.
    pub mac: Mac,
    /// On which network.
    pub network: String,
    /// When it was first seen.
    pub first_seen: Time,
    /// What its firmware says it is.
    pub architecture: Option<Architecture>,
    /// Its DHCP vendor class.
    pub vendor_class: Option<String>,
    /// Its SMBIOS UUID.
    pub uuid: Option<String>,
}
record!(Discovered, Discovered);

/// The update of the box that was last asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UpdateRecord {
    pub(crate) number: u64,
    /// The bundle's file.
    pub(crate) bundle: String,
    /// Whether the box starts again by itself.
    pub(crate) restart: bool,
    /// When it was asked for.
    pub(crate) asked: Time,
    /// How far it came, as last written down.
    pub(crate) stage: Option<Stage>,
}
record!(UpdateRecord, Setting);

impl UpdateRecord {
    /// Whether nothing more is to be done.
    pub(crate) fn is_over(&self) -> bool {
        self.stage.as_ref().is_some_and(Stage::is_final)
    }
}

/// The numbers of the plans that were last given out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Generations(BTreeMap<Hand, Generation>);
record!(Generations, Generation);

impl Generations {
    pub(crate) fn of(&self, hand: Hand) -> Generation {
        self.0.get(&hand).copied().unwrap_or_default()
    }

    pub(crate) fn bump(&mut self, hand: Hand) {
        let next = self.of(hand).next();
        self.0.insert(hand, next);
    }
}

/// What agents' tokens are derived from.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MasterSecret {
    key: [u8; 32],
}
record!(MasterSecret, Secret);

impl MasterSecret {
    pub(crate) fn new(key: [u8; 32]) -> MasterSecret {
        MasterSecret { key }
    }

    /// The token of one attempt, which opens nothing else.
    pub(crate) fn token(&self, attempt: &Attempt) -> boot::Secret {
        let hash = blake3::keyed_hash(&self.key, format!("agent token {attempt}").as_bytes());
        boot::Secret::new(&hash.to_hex()[..40])
    }

    /// A secret for CHAP: 80 bits in 16 letters and digits, for some initiators take 12 to 16 octets only.
    pub(crate) fn chap(&self, whose: &str) -> boot::Secret {
        let hash = blake3::keyed_hash(&self.key, format!("chap {whose}").as_bytes());
        let letter = |octet: &u8| char::from(b"abcdefghijkmnpqrstuvwxyz23456789"[usize::from(octet & 31)]);
        boot::Secret::new(hash.as_bytes()[..16].iter().map(letter).collect::<String>())
    }
}

impl core::fmt::Debug for MasterSecret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests;
