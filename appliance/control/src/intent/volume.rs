use super::{Done, Refusal, RefusalKind, not_found, refuse};
use crate::{Control, Event, Holder, VolumeRecord};
use boot::{NodeName, VolumeId, VolumeSource};
use rack::{ProvisionState, VolumeSpec};
use sansio::Time;
use std::collections::BTreeSet;
use store::{Batch, Store};

/// The first logical unit that volumes get on a node that boots from one: before it stand its root and its
/// config drive.
const AFTER_ROOT: u16 = 2;
/// Most logical units of one node.
const MOST_LUNS: u16 = 255;
/// Most volumes of an appliance.
const MOST: usize = 4096;
/// The largest volume, in octets: 64 TiB.
const LARGEST: u64 = 64 << 40;

impl<S: Store> Control<S> {
    pub(super) fn put_volume(&mut self, spec: VolumeSpec, now: Time) -> Result<Done, Refusal> {
        let VolumeSpec { name: id, size, image, volume } = spec;
        let (source, from, least) = match (&image, &volume) {
            (Some(_), Some(_)) => {
                return refuse(
                    RefusalKind::Invalid,
                    format!("volume {id} is made from an image or from a volume, not from both"),
                );
            }
            (Some(image), None) => {
                let Some(image) = self.images.get(image) else {
                    return not_found("image", image, "kiln image list");
                };
                (VolumeSource::Image(image.digest), Some(format!("image {}", image.name)), image.size)
            }
            (None, Some(other)) => {
                let other = self.volume(other)?;
                if !other.made || other.gone {
                    let how = if other.gone { "being removed" } else { "not made yet" };
                    return refuse(RefusalKind::Conflict, format!("volume {} is {how}", other.id));
                }
                (VolumeSource::Volume(other.id.clone()), Some(format!("volume {}", other.id)), other.size)
            }
            (None, None) => (VolumeSource::Blank, None, 0),
        };
        let size = match size {
            Some(size) => size.div_ceil(512).saturating_mul(512),
            None => least,
        };
        if size == 0 || size > LARGEST {
            let text = format!(
                "volume {id} would have {size} octets: from 512 to {LARGEST} are possible; --size says how many"
            );
            return refuse(RefusalKind::Invalid, text);
        }
        if size < least {
            let text = format!(
                "volume {id} would have {size} octets, and what it is made from has {least}: give it at least that"
            );
            return refuse(RefusalKind::Invalid, text);
        }
        if let Some(known) = self.volumes.get(&id) {
            if known.gone {
                return refuse(
                    RefusalKind::Conflict,
                    format!("volume {id} is being removed: wait, or choose another name"),
                );
            }
            if known.size == size && known.source == source {
                return Ok(Done::Already);
            }
            let text = format!("volume {id} exists, made otherwise: delete it first, or choose another name");
            return refuse(RefusalKind::Conflict, text);
        }
        if self.volumes.len() >= MOST {
            return refuse(RefusalKind::Conflict, format!("there are {MOST} volumes, the most: delete some"));
        }
        let record = VolumeRecord {
            id: id.clone(),
            size,
            source,
            from: from.clone(),
            created: now,
            made: false,
            flat: false,
            gone: false,
            holder: None,
        };
        let text = format!("{size} octets, from {}", from.unwrap_or_else(|| "nothing".into()));
        self.keep_volume(record, Event::new(now, "volume", &id, "created", text))
    }

    fn keep_volume(&mut self, record: VolumeRecord, event: Event) -> Result<Done, Refusal> {
        self.keep(Batch::new().put_as(record.id.as_str(), &record).event_as(&event))?;
        self.volumes.insert(record.id.clone(), record);
        Ok(Done::Changed)
    }

    fn volume(&self, id: &VolumeId) -> Result<&VolumeRecord, Refusal> {
        self.volumes.get(id).map_or_else(|| not_found("volume", id, "kiln volume list"), Ok)
    }

    pub(super) fn delete_volume(&mut self, id: &VolumeId, now: Time) -> Result<Done, Refusal> {
        let record = self.volume(id)?.clone();
        if record.gone {
            return Ok(Done::Already);
        }
        if let Some(holder) = &record.holder {
            let node = &holder.node;
            let text = if holder.root {
                format!("node {node} boots from volume {id}: kiln node undeploy {node} removes both")
            } else {
                format!("node {node} has volume {id}: kiln volume detach {id} first")
            };
            return refuse(RefusalKind::Conflict, text);
        }
        let copied = |other: &&VolumeRecord| {
            !other.made && !other.gone && other.source == VolumeSource::Volume(id.clone())
        };
        if let Some(copy) = self.volumes.values().find(copied) {
            let text = format!("volume {} is being made from volume {id}: wait until it is there", copy.id);
            return refuse(RefusalKind::Conflict, text);
        }
        let event = Event::new(now, "volume", id, "deleted", "to be removed");
        self.keep_volume(VolumeRecord { gone: true, ..record }, event)
    }

    pub(super) fn flatten_volume(&mut self, id: &VolumeId, now: Time) -> Result<Done, Refusal> {
        let record = self.volume(id)?.clone();
        if record.flat {
            return Ok(Done::Already);
        }
        let event = Event::new(now, "volume", id, "flattened", "to hold all its content itself");
        self.keep_volume(VolumeRecord { flat: true, ..record }, event)
    }

    pub(super) fn attach(
        &mut self,
        id: &VolumeId,
        node: &NodeName,
        read_only: bool,
        now: Time,
    ) -> Result<Done, Refusal> {
        let record = self.volume(id)?.clone();
        let to = self.node(node)?.clone();
        match &record.holder {
            Some(holder) if holder.node == *node && holder.read_only == read_only => {
                return Ok(Done::Already);
            }
            Some(holder) => {
                let text = format!("node {} has volume {id}: kiln volume detach {id} first", holder.node);
                return refuse(RefusalKind::Conflict, text);
            }
            None if record.gone => {
                return refuse(RefusalKind::Conflict, format!("volume {id} is being removed"));
            }
            None => {}
        }
        if to.state != ProvisionState::Active || to.journey.is_some() {
            let text = format!("node {node} is {}: volumes are attached to active nodes", to.state);
            return refuse(RefusalKind::Conflict, text);
        }
        self.check_storage(&to)?;
        let Some(lun) = self.free_lun(node, to.boots_from_volume()) else {
            let text = format!("node {node} has {MOST_LUNS} logical units, the most: detach one");
            return refuse(RefusalKind::Conflict, text);
        };
        let holder = Holder { node: node.clone(), lun, read_only, root: false, lived: false };
        let mut events =
            vec![Event::new(now, "volume", id, "attached", format!("to node {node} as logical unit {lun}"))];
        events.push(Event::new(now, "node", node, "attached", format!("volume {id} as logical unit {lun}")));
        let record = VolumeRecord { holder: Some(holder), ..record };
        let mut batch = events.iter().fold(Batch::new(), Batch::event_as).put_as(id.as_str(), &record);
        // A node that has no volumes yet gets names and secrets of its own for them.
        let mut to = to;
        if to.access == 0 {
            to.access = self.newest_event().0 + 1;
            batch = batch.put_as(node.as_str(), &to);
        }
        self.keep(batch)?;
        self.volumes.insert(id.clone(), record);
        self.nodes.insert(node.clone(), to);
        Ok(Done::Changed)
    }

    fn free_lun(&self, node: &NodeName, from_volume: bool) -> Option<u16> {
        let taken: BTreeSet<u16> = self.held_by(node).map(|(_, holder)| holder.lun).collect();
        let first = if from_volume { AFTER_ROOT } else { 0 };
        (first..MOST_LUNS).find(|lun| !taken.contains(lun))
    }

    /// Whether a node can reach volumes at all.
    fn check_storage(&self, node: &crate::NodeRecord) -> Result<(), Refusal> {
        let name = &node.spec.name;
        let Some(deployment) = &node.deployment else {
            return refuse(RefusalKind::Conflict, format!("node {name} is on no network: deploy it first"));
        };
        self.storage_network(&deployment.network, &node.spec).map(drop)
    }

    pub(super) fn detach(&mut self, id: &VolumeId, now: Time) -> Result<Done, Refusal> {
        let record = self.volume(id)?.clone();
        let Some(holder) = &record.holder else { return Ok(Done::Already) };
        let node = holder.node.clone();
        if holder.root {
            let text = format!("node {node} boots from volume {id}: kiln node undeploy {node} first");
            return refuse(RefusalKind::Conflict, text);
        }
        if self.nodes.get(&node).is_some_and(|node| node.replaced_by.is_some()) {
            let text = format!("node {node} is being replaced: its volumes go to the other node");
            return refuse(RefusalKind::Conflict, text);
        }
        let event = Event::new(now, "volume", id, "detached", format!("from node {node}"));
        self.keep_volume(VolumeRecord { holder: None, ..record }, event)
    }
}
