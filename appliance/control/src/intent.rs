mod image;
mod network;
mod node;
mod volume;

use crate::{Control, Event, ImageRecord, NodeRecord};
use boot::{Digest, NodeName, VolumeId};
use core::fmt;
use rack::{
    DeployInterface, ImageName, NetworkName, NetworkSpec, NodeSpec, SwitchName, SwitchSpec, VolumeSpec,
};
use sansio::Time;
use store::{Batch, Store};

/// What somebody wants.
#[derive(Clone, Debug)]
pub enum Intent {
    /// A node is described, for the first time or anew.
    PutNode(NodeSpec),
    /// A node is forgotten.
    DeleteNode(NodeName),
    /// Its BMC is checked and its ports go to quarantine.
    Manage(NodeName),
    /// It becomes available, cleaned before or not.
    Provide {
        /// Which.
        node: NodeName,
        /// Whether its disks are wiped first.
        clean: bool,
    },
    /// It is deployed.
    Deploy {
        /// Which.
        node: NodeName,
        /// With which image.
        image: ImageName,
        /// For the tenant on which network.
        network: NetworkName,
        /// The config drive that was made of the user data.
        config_drive: Option<(Digest, u64)>,
        /// How the image comes to it.
        interface: DeployInterface,
    },
    /// It is taken from its tenant and cleaned; a deployment under way is abandoned.
    Undeploy(NodeName),
    /// It is fenced, and another node takes its place: its volumes, its networks and its addresses.
    Replace {
        /// Which.
        node: NodeName,
        /// By which.
        spare: NodeName,
        /// Whether somebody answers for it that the node is off, whatever its BMC says.
        off_by_hand: bool,
    },
    /// A volume is to be there.
    PutVolume(VolumeSpec),
    /// A volume is to be no more.
    DeleteVolume(VolumeId),
    /// A volume is to hold all its content itself.
    FlattenVolume(VolumeId),
    /// A node gets a volume.
    Attach {
        /// Which.
        volume: VolumeId,
        /// To which.
        node: NodeName,
        /// Whether writes are refused.
        read_only: bool,
    },
    /// A volume is taken from its node.
    Detach(VolumeId),
    /// A network is described.
    PutNetwork(NetworkSpec),
    /// A network is forgotten.
    DeleteNetwork(NetworkName),
    /// A switch is described.
    PutSwitch(SwitchSpec),
    /// A switch is forgotten.
    DeleteSwitch(SwitchName),
    /// An image was imported.
    PutImage(ImageRecord),
    /// The box is updated.
    Update {
        /// The bundle's file.
        bundle: String,
        /// Whether the box starts again by itself.
        restart: bool,
    },
    /// The box is to be as it was flashed: all that it keeps is wiped.
    Reset,
    /// An image is forgotten; its octets may be removed when nobody else names them.
    DeleteImage(ImageName),
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It was so already.
    Already,
    /// It is so now, or has begun to be.
    Changed,
}

/// Why it is not done. The text says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Of what sort.
    pub kind: RefusalKind,
    /// For people.
    pub text: String,
}

/// Of what sort a refusal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// What is named does not exist.
    NotFound,
    /// It cannot be done now, as things stand.
    Conflict,
    /// It can never be done as it is asked.
    Invalid,
    /// The appliance cannot write it down.
    Storage,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

pub(crate) fn refuse<T>(kind: RefusalKind, text: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { kind, text: text.into() })
}

fn not_found<T>(what: &str, name: impl fmt::Display, list: &str) -> Result<T, Refusal> {
    refuse(RefusalKind::NotFound, format!("there is no {what} {name}: {list} shows those there are"))
}

impl<S: Store> Control<S> {
    /// Takes up an intent: refuses it, or writes it down and sees to it.
    pub fn handle_intent(&mut self, intent: Intent, now: Time) -> Result<Done, Refusal> {
        let done = match intent {
            Intent::PutNode(spec) => self.put_node(spec, now),
            Intent::DeleteNode(name) => self.delete_node(&name, now),
            Intent::Manage(name) => self.manage(&name, now),
            Intent::Provide { node, clean } => self.provide(&node, clean, now),
            Intent::Deploy { node, image, network, config_drive, interface } => {
                let wanted = node::Wanted { image, network, config_drive, interface };
                self.deploy(&node, wanted, now)
            }
            Intent::Undeploy(name) => self.undeploy(&name, now),
            Intent::Replace { node, spare, off_by_hand } => self.replace(&node, &spare, off_by_hand, now),
            Intent::PutVolume(spec) => self.put_volume(spec, now),
            Intent::DeleteVolume(volume) => self.delete_volume(&volume, now),
            Intent::FlattenVolume(volume) => self.flatten_volume(&volume, now),
            Intent::Attach { volume, node, read_only } => self.attach(&volume, &node, read_only, now),
            Intent::Detach(volume) => self.detach(&volume, now),
            Intent::PutNetwork(spec) => self.put_network(spec, now),
            Intent::DeleteNetwork(name) => self.delete_network(&name, now),
            Intent::PutSwitch(spec) => self.put_switch(spec, now),
            Intent::DeleteSwitch(name) => self.delete_switch(&name, now),
            Intent::PutImage(image) => self.put_image(image, now),
            Intent::DeleteImage(name) => self.delete_image(&name, now),
            Intent::Update { bundle, restart } => self.put_update(bundle, restart, now),
            Intent::Reset => self.reset_appliance(),
        }?;
        self.walk(now);
        Ok(done)
    }

    pub(crate) fn keep(&mut self, batch: Batch) -> Result<(), Refusal> {
        let refused = |e: store::StoreError| Refusal {
            kind: RefusalKind::Storage,
            text: format!("the appliance cannot write this down, so it is not done: {e}"),
        };
        self.commit(batch).map_err(refused)
    }

    fn keep_node(&mut self, node: NodeRecord, events: Vec<Event>) -> Result<Done, Refusal> {
        let name = node.spec.name.clone();
        let batch = events.iter().fold(Batch::new(), Batch::event_as);
        self.keep(batch.put_as(name.as_str(), &node))?;
        self.nodes.insert(name, node);
        Ok(Done::Changed)
    }

    fn node(&self, name: &NodeName) -> Result<&NodeRecord, Refusal> {
        self.nodes.get(name).map_or_else(|| not_found("node", name, "kiln node list"), Ok)
    }
}
