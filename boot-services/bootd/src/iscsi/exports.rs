//! Targets: what a plan exports, as the engine takes it.

use super::{connections::Connections, disk::Disk, holdings::Holdings};
use boot::{Backing, Iqn, IscsiChap, IscsiLun, IscsiTarget, VolumeId};
use iscsi::{
    chap::{Chap, Credentials, Secret, Unfit},
    target::{Access, Auth, Network, Targets, Unit, Who},
};
use scsi::{BlockSize, Designator, Geometry, Identity, LogicalUnit, Lun};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

/// The number of the only target portal group.
const PORTAL_GROUP: u16 = 1;
/// The most logical units of all targets: each keeps files open.
const MOST_UNITS: usize = 1024;

/// What is exported now.
pub(super) struct Exports {
    targets: Targets<Disk>,
    exported: BTreeMap<Iqn, Exported>,
}

struct Exported {
    plan: IscsiTarget,
    units: BTreeMap<u16, (IscsiLun, Arc<Unit<Disk>>)>,
}

impl Exports {
    pub(super) fn new(targets: Targets<Disk>) -> Exports {
        Exports { targets, exported: BTreeMap::new() }
    }

    /// Ends what these targets do not have; when this returns, no write of it can land any more.
    pub(super) fn take_away(&mut self, planned: &[IscsiTarget], connections: &Connections) {
        let mut ended = Vec::new();
        let mut kept = BTreeMap::new();
        for (name, mut exported) in std::mem::take(&mut self.exported) {
            let Some(plan) =
                planned.iter().find(|plan| plan.name == name && is_same_way(plan, &exported.plan))
            else {
                log::info!(target: "iscsi", target:% = name; "target taken away");
                ended.extend(self.targets.remove(name.as_str()));
                continue;
            };
            let before = exported.units.len();
            exported.units.retain(|_, (lun, _)| plan.luns.contains(lun));
            if exported.units.len() < before {
                log::info!(target: "iscsi", target:% = name; "logical units taken away");
                match access(plan, &exported.units) {
                    Ok(access) => ended.extend(self.targets.set(access)),
                    Err(_) => ended.extend(self.targets.remove(name.as_str())),
                }
            }
            kept.insert(name, exported);
        }
        connections.join(&ended);
        self.exported = kept;
    }

    /// The volumes behind logical units.
    pub(super) fn volumes(&self) -> BTreeMap<VolumeId, (Iqn, u16)> {
        let mut volumes = BTreeMap::new();
        for (name, exported) in &self.exported {
            for (number, (lun, _)) in &exported.units {
                if let Backing::Volume(id) = &lun.backing {
                    volumes.insert(id.clone(), (name.clone(), *number));
                }
            }
        }
        volumes
    }

    /// Exports what a target of the plan has and is not exported yet, and says what keeps the rest from it.
    /// `ready` are the volumes that stand.
    pub(super) fn give(
        &mut self,
        plan: &IscsiTarget,
        ready: &BTreeSet<VolumeId>,
        holdings: Option<&mut Holdings>,
    ) -> Option<String> {
        let mut taken = self.volumes();
        let count: usize = self.exported.values().map(|exported| exported.units.len()).sum();
        let mut troubles = Vec::new();
        let fresh = !self.exported.contains_key(&plan.name);
        let exported = self
            .exported
            .entry(plan.name.clone())
            .or_insert_with(|| Exported { plan: plan.clone(), units: BTreeMap::new() });
        let mut changed = fresh || exported.plan != *plan;
        exported.plan = plan.clone();
        let mut opener = Opener {
            target: &plan.name,
            taken: &mut taken,
            ready,
            holdings,
            room: MOST_UNITS.saturating_sub(count),
        };
        for lun in &plan.luns {
            if exported.units.get(&lun.lun).is_some_and(|(there, _)| there == lun) {
                continue;
            }
            match opener.open(lun) {
                Ok(unit) => {
                    exported.units.insert(lun.lun, (lun.clone(), unit));
                    changed = true;
                }
                Err(why) => troubles.push(format!("LUN {}: {why}", lun.lun)),
            }
        }
        if changed {
            match access(plan, &exported.units) {
                // Only what was taken away before ends sessions.
                Ok(access) => drop(self.targets.set(access)),
                Err(why) => troubles.push(why),
            }
        }
        if troubles.is_empty() { None } else { Some(troubles.join("; ")) }
    }
}

/// Whether who is logged in to one may stay when it becomes the other.
fn is_same_way(one: &IscsiTarget, other: &IscsiTarget) -> bool {
    let way = |target: &IscsiTarget| {
        (target.initiator.clone(), target.portals.clone(), target.from.clone(), target.chap.clone())
    };
    way(one) == way(other)
}

/// What opening a logical unit needs to know.
struct Opener<'a> {
    target: &'a Iqn,
    taken: &'a mut BTreeMap<VolumeId, (Iqn, u16)>,
    ready: &'a BTreeSet<VolumeId>,
    holdings: Option<&'a mut Holdings>,
    room: usize,
}

impl Opener<'_> {
    fn open(&mut self, lun: &IscsiLun) -> Result<Arc<Unit<Disk>>, String> {
        self.room =
            self.room.checked_sub(1).ok_or("there are too many logical units already: take some away")?;
        let (disk, serial) = match &lun.backing {
            Backing::Volume(id) => {
                if let Some((target, number)) = self.taken.get(id) {
                    return Err(format!(
                        "volume {id} is behind LUN {number} of {target}, and may be behind one only"
                    ));
                }
                if !self.ready.contains(id) {
                    return Err(format!("volume {id} is not there (yet): see its own state"));
                }
                let Some(holdings) = &mut self.holdings else {
                    return Err("the plan names no directory of volumes".to_owned());
                };
                let volume = holdings.open(id).map_err(|error| error.to_string())?;
                self.taken.insert(id.clone(), (self.target.clone(), lun.lun));
                (Disk::volume(volume, holdings.is_over_image(id), &holdings.directory(id)), id.to_string())
            }
            Backing::File(path) => {
                let file = Disk::file(Path::new(path));
                let file = file.map_err(|error| format!("cannot open {path}: {error}"))?;
                (file, format!("{}-{}", self.target, lun.lun))
            }
        };
        unit(disk, &serial, self.target, lun.read_only)
    }
}

fn unit(disk: Disk, serial: &str, target: &Iqn, read_only: bool) -> Result<Arc<Unit<Disk>>, String> {
    let digest = image::digest(serial.as_bytes()).0;
    let (name, _) = digest.split_first_chunk::<8>().expect("a digest has 32 octets");
    let identity = Identity {
        product: "VOLUME".to_owned(),
        revision: env!("CARGO_PKG_VERSION").replace('.', ""),
        serial: serial.to_owned(),
        designators: vec![Designator::local(u64::from_be_bytes(*name))],
        target: target.to_string(),
        portal_group: PORTAL_GROUP,
    };
    let geometry =
        Geometry::new(disk.size() / image::SECTOR, BlockSize::B512).map_err(|error| error.to_string())?;
    let geometry = if disk.is_read_only() { geometry } else { geometry.thin() };
    let geometry = if disk.is_read_only() || read_only { geometry.read_only() } else { geometry };
    let kept = disk.kept().map_err(|error| {
        format!("its persistent reservations cannot be read ({error}): see to the file, or remove it to forget them")
    })?;
    let logical = match kept {
        None => LogicalUnit::new(identity, geometry),
        Some(octets) => LogicalUnit::restore(identity, geometry, &octets).map_err(|error| {
            format!("its persistent reservations are damaged ({error}): remove the file to forget them")
        })?,
    };
    Ok(Unit::new(logical, disk))
}

fn access(
    plan: &IscsiTarget,
    units: &BTreeMap<u16, (IscsiLun, Arc<Unit<Disk>>)>,
) -> Result<Access<Disk>, String> {
    let mut luns = Vec::new();
    for (number, (_, unit)) in units {
        let lun = Lun::new(*number)
            .ok_or_else(|| format!("LUN {number} is more than 16383: choose a lower one"))?;
        luns.push((lun, Arc::clone(unit)));
    }
    Ok(Access {
        name: plan.name.to_string(),
        initiators: Who::Named(vec![plan.initiator.to_string()]),
        networks: plan
            .from
            .iter()
            .map(|from| Network { address: from.address.into(), prefix: from.length })
            .collect(),
        portals: plan.portals.clone(),
        auth: Auth::Chap(chap(&plan.chap).map_err(|unfit| unfit.to_string())?),
        luns,
    })
}

fn chap(plan: &IscsiChap) -> Result<Chap, Unfit> {
    let secret = |secret: &boot::Secret| Secret::new(secret.expose().as_bytes());
    let initiator = Credentials { user: plan.user.clone(), secret: secret(&plan.secret)? };
    let target = match &plan.target_secret {
        Some(text) => Some(Credentials { user: plan.target_user.clone(), secret: secret(text)? }),
        None => None,
    };
    Chap::new(initiator, target)
}
