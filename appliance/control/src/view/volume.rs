use crate::{Control, NodeRecord, VolumeRecord};
use boot::{NodeName, Secret, VolumeId, VolumeState};
use sansio::Time;
use serde::{Deserialize, Serialize};
use store::Store;

/// A volume, as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeView {
    /// Its name.
    pub name: VolumeId,
    /// Octets.
    pub size: u64,
    /// What it was made from.
    pub from: Option<String>,
    /// When somebody asked for it.
    pub created: Time,
    /// How it stands; none: the iscsi service has not said yet.
    pub state: Option<VolumeState>,
    /// Whether it is being removed.
    pub removing: bool,
    /// Who has it.
    pub node: Option<NodeName>,
    /// As which logical unit.
    pub lun: Option<u16>,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Whether the node boots from it.
    pub root: bool,
    /// As what it can be logged in to now: the target, if there is one.
    pub exported: Option<String>,
}

/// The volumes of a node, as they are shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StorageView {
    /// Where it logs in.
    pub portal: String,
    /// To what.
    pub target: String,
    /// As whom.
    pub initiator: String,
    /// From where it is logged in now.
    pub sessions: Vec<String>,
    /// What keeps the target from being exported.
    pub trouble: Option<String>,
    /// What it finds there.
    pub luns: Vec<LunView>,
}

/// A logical unit, as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LunView {
    /// Its number.
    pub lun: u16,
    /// The volume.
    pub volume: VolumeId,
    /// Octets.
    pub size: u64,
    /// Whether the node boots from it.
    pub root: bool,
}

/// What a node's system needs to log in to its volumes. It is shown on request alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CredentialsView {
    /// Where, to what, and as whom.
    pub storage: StorageView,
    /// What the node calls itself (CHAP).
    pub user: String,
    /// Its secret.
    pub secret: Secret,
    /// What the target calls itself (mutual CHAP).
    pub target_user: String,
    /// The target's secret.
    pub target_secret: Option<Secret>,
}

impl<S: Store> Control<S> {
    /// All volumes, by name.
    pub fn volume_views(&self) -> Vec<VolumeView> {
        self.volumes.values().map(|volume| self.volume_of(volume)).collect()
    }

    /// The volumes that hold something: those that were asked for and not made yet are made anew anywhere.
    pub fn made_volumes(&self) -> Vec<VolumeId> {
        let made = self.volumes.values().filter(|volume| volume.made && !volume.gone);
        made.map(|volume| volume.id.clone()).collect()
    }

    /// One volume.
    pub fn volume_view(&self, volume: &VolumeId) -> Option<VolumeView> {
        self.volumes.get(volume).map(|volume| self.volume_of(volume))
    }

    fn volume_of(&self, volume: &VolumeRecord) -> VolumeView {
        let seen = self.facts.volume(&volume.id);
        let holder = volume.holder.as_ref();
        VolumeView {
            name: volume.id.clone(),
            size: volume.size,
            from: volume.from.clone(),
            created: volume.created,
            state: seen.map(|(state, _)| state.clone()),
            removing: volume.gone,
            node: holder.map(|holder| holder.node.clone()),
            lun: holder.map(|holder| holder.lun),
            read_only: holder.is_some_and(|holder| holder.read_only),
            root: holder.is_some_and(|holder| holder.root),
            exported: seen.and_then(|(_, exported)| exported.as_ref()).map(|(target, _)| target.to_string()),
        }
    }

    pub(super) fn storage_view(&self, node: &NodeRecord) -> Option<StorageView> {
        let luns: Vec<LunView> = self
            .held_by(&node.spec.name)
            .map(|(volume, holder)| LunView {
                lun: holder.lun,
                volume: volume.id.clone(),
                size: volume.size,
                root: holder.root,
            })
            .collect();
        if luns.is_empty() {
            return None;
        }
        let deployment = node.deployment.as_ref()?;
        let (network, _) = self.storage_of(&deployment.network, &node.spec)?;
        let access = self.access(node);
        let (sessions, trouble) = self.facts.target(&access.target).cloned().unwrap_or_default();
        let sessions = if node.reaches_volumes() { sessions } else { Vec::new() };
        Some(StorageView {
            portal: self.portal(network).to_string(),
            target: access.target.to_string(),
            initiator: access.initiator.to_string(),
            sessions: sessions.iter().map(|session| session.peer.to_string()).collect(),
            trouble,
            luns,
        })
    }

    /// What a node's system needs to log in to its volumes; none: it has none, or there is no such node.
    pub fn credentials_view(&self, node: &NodeName) -> Option<CredentialsView> {
        let node = self.nodes.get(node)?;
        let chap = self.access(node).chap;
        Some(CredentialsView {
            storage: self.storage_view(node)?,
            user: chap.user,
            secret: chap.secret,
            target_user: chap.target_user,
            target_secret: chap.target_secret,
        })
    }
}
