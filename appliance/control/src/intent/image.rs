use super::{Done, Refusal, RefusalKind, not_found, refuse};
use crate::{Control, Event, ImageRecord, NodeRecord, VolumeRecord};
use boot::VolumeSource;
use rack::ImageName;
use sansio::Time;
use store::{Batch, Store};

impl<S: Store> Control<S> {
    pub(super) fn put_image(&mut self, image: ImageRecord, now: Time) -> Result<Done, Refusal> {
        let name = image.name.clone();
        if let Some(known) = self.images.get(&name) {
            if known.digest == image.digest {
                return Ok(Done::Already);
            }
            return refuse(
                RefusalKind::Conflict,
                format!("image {name} exists with other content: delete it first, or choose another name"),
            );
        }
        let event =
            Event::new(now, "image", &name, "imported", format!("{} octets, {}", image.size, image.digest));
        self.keep(Batch::new().put_as(name.as_str(), &image).event_as(&event))?;
        self.images.insert(name, image);
        Ok(Done::Changed)
    }

    pub(super) fn delete_image(&mut self, name: &ImageName, now: Time) -> Result<Done, Refusal> {
        if !self.images.contains_key(name) {
            return not_found("image", name, "kiln image list");
        }
        let uses = |node: &&NodeRecord| {
            node.journey.is_some() && node.deployment.as_ref().is_some_and(|d| d.image == *name)
        };
        if let Some(node) = self.nodes.values().find(uses) {
            let text =
                format!("node {} is being deployed with image {name}: wait until it is done", node.spec.name);
            return refuse(RefusalKind::Conflict, text);
        }
        let digest = self.images.get(name).map(|image| image.digest);
        let made = |volume: &&VolumeRecord| {
            !volume.made && !volume.gone && digest.map(VolumeSource::Image).as_ref() == Some(&volume.source)
        };
        if let Some(volume) = self.volumes.values().find(made) {
            let text =
                format!("volume {} is being made from image {name}: wait until it is there", volume.id);
            return refuse(RefusalKind::Conflict, text);
        }
        let event = Event::new(now, "image", name, "deleted", "forgotten");
        self.keep(Batch::new().delete_as::<ImageRecord>(name.as_str()).event_as(&event))?;
        self.images.remove(name);
        Ok(Done::Changed)
    }
}
