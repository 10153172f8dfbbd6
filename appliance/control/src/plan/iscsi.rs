use crate::{Control, NodeRecord, VolumeRecord};
use boot::{Backing, Device, IscsiLun, IscsiPlan, IscsiTarget, Push, VolumePlan, VolumeWish};
use deploy::{Work, leg};
use rack::NetworkSpec;
use std::net::SocketAddr;
use store::Store;

/// The logical unit of the config drive of a node that boots from a volume.
const CONFIG_DRIVE: u16 = 1;

impl<S: Store> Control<S> {
    pub(super) fn iscsi(&self, served: &[(&NetworkSpec, Device)]) -> IscsiPlan {
        let targets: Vec<IscsiTarget> = self.nodes.values().filter_map(|node| self.target(node)).collect();
        // It listens only where there is something to log in to.
        let listen = served.iter().filter_map(|(network, device)| {
            let portal = self.portal(network);
            let used = targets.iter().any(|target| target.portals.contains(&portal));
            used.then(|| (portal, Some(device.clone())))
        });
        IscsiPlan {
            listen: listen.collect(),
            images: Some(self.site.images.clone()),
            directory: Some(self.site.volumes.clone()),
            volumes: self.volumes.values().map(volume).collect(),
            pushes: self.nodes.values().filter_map(|node| self.push(node)).collect(),
            targets,
        }
    }

    pub(crate) fn portal(&self, network: &NetworkSpec) -> SocketAddr {
        SocketAddr::new(network.subnet.address.into(), self.site.iscsi_port)
    }

    /// What a node may see, if anything.
    fn target(&self, node: &NodeRecord) -> Option<IscsiTarget> {
        if !node.reaches_volumes() {
            return None;
        }
        let mut luns: Vec<IscsiLun> = self
            .held_by(&node.spec.name)
            .filter(|(volume, _)| volume.made && !volume.gone)
            .map(|(volume, holder)| IscsiLun {
                lun: holder.lun,
                backing: Backing::Volume(volume.id.clone()),
                read_only: holder.read_only,
            })
            .collect();
        if luns.is_empty() {
            return None;
        }
        let deployment = node.deployment.as_ref()?;
        if let Some((digest, _)) = deployment.config_drive.filter(|_| node.boots_from_volume()) {
            let file = format!("{}/{digest}", self.site.drives);
            luns.push(IscsiLun { lun: CONFIG_DRIVE, backing: Backing::File(file), read_only: true });
        }
        luns.sort_by_key(|lun| lun.lun);
        let (network, _) = self.storage_of(&deployment.network, &node.spec)?;
        let access = self.access(node);
        Some(IscsiTarget {
            name: access.target,
            initiator: access.initiator,
            portals: vec![self.portal(network)],
            from: vec![network.subnet],
            chap: access.chap,
            luns,
        })
    }

    /// The disk of a node that is to be written, if its agent exports one.
    fn push(&self, node: &NodeRecord) -> Option<Push> {
        let journey = node.journey.as_ref()?;
        let wish = leg(journey).wish;
        if wish.work != Work::Push {
            return None;
        }
        let network = self.network_of(&node.spec.name, wish.place)?;
        let address = *node.addresses.get(&network.name)?;
        let access = self.push_access(journey);
        Some(Push {
            attempt: journey.attempt(),
            portal: SocketAddr::new(address.into(), self.site.iscsi_port),
            device: self.device(network).cloned(),
            target: access.target,
            initiator: access.initiator,
            chap: access.chap,
            lun: 0,
            image: node.deployment.as_ref()?.digest,
        })
    }
}

fn volume(volume: &VolumeRecord) -> VolumePlan {
    let wish = if volume.gone {
        VolumeWish::Gone
    } else {
        VolumeWish::Kept {
            source: (!volume.made).then(|| volume.source.clone()),
            size: volume.size,
            flat: volume.flat,
        }
    };
    VolumePlan { id: volume.id.clone(), wish }
}
