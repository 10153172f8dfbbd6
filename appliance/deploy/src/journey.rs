use crate::{Arrow, Step, route};
use boot::{Attempt, Digest, NodeName, VolumeId};
use core::fmt;
use rack::{DeployInterface, ImageName, NetworkName};
use sansio::Time;
use serde::{Deserialize, Serialize};

/// What a journey is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Goal {
    /// To become manageable.
    Manage,
    /// To become active.
    Deploy,
    /// To be taken from its tenant; cleaning follows.
    Delete,
    /// To become available.
    Clean,
    /// To be shut out of its networks and volumes, which another node takes over.
    Fence,
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Goal::Manage => "manage",
            Goal::Deploy => "deploy",
            Goal::Delete => "delete",
            Goal::Clean => "clean",
            Goal::Fence => "fence",
        })
    }
}

/// What a node is deployed with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// The image, as it was called then.
    pub image: ImageName,
    /// What it was then.
    pub digest: Digest,
    /// Octets of the disk it describes.
    pub size: u64,
    /// The tenant's network.
    pub network: NetworkName,
    /// The config drive made from the user data, by its digest and size; none: none is written.
    pub config_drive: Option<(Digest, u64)>,
    /// How the image comes to the node.
    #[serde(default)]
    pub interface: DeployInterface,
    /// The volume it boots from; none: it boots from its own disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<VolumeId>,
}

/// One piece of long work on one node; journalled at every step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Journey {
    /// Whose.
    pub node: NodeName,
    /// Numbers the node's journeys, from one.
    pub number: u64,
    /// What for.
    pub goal: Goal,
    /// Where it is.
    pub step: Step,
    /// How often it was begun, from one: every fact of something that happened carries it.
    pub attempt: u32,
    /// How often the part after the image was written was begun, from one.
    pub boots: u32,
    /// When it began.
    pub began: Time,
    /// When this step began.
    pub since: Time,
    /// When something last went forward within this step.
    pub heard: Time,
    /// Whether the node was seen off in this step: until then a step that switches it off keeps its ports
    /// in quarantine, so that what runs on it meets nobody.
    #[serde(default)]
    pub off_seen: bool,
    /// How the image comes to the node.
    #[serde(default)]
    pub interface: DeployInterface,
    /// Whether somebody answers for it that the node is off, because its BMC does not.
    #[serde(default)]
    pub off_by_hand: bool,
    /// Why it failed; it is on its way into quarantine then.
    pub failure: Option<Failure>,
}

/// Why a journey failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// At which step.
    pub step: Step,
    /// When.
    pub at: Time,
    /// For people: what is wrong, and what to do.
    pub reason: String,
    /// What was seen and what was not, then.
    pub evidence: Vec<Arrow>,
    /// What could not be made safe: a port not in quarantine, a BMC that does not obey.
    pub unsafe_left: Vec<String>,
}

impl Journey {
    /// One that begins now.
    pub fn begin(node: NodeName, number: u64, goal: Goal, now: Time) -> Journey {
        let mut journey = Journey {
            node,
            number,
            goal,
            step: Step::Park,
            attempt: 1,
            boots: 1,
            began: now,
            since: now,
            heard: now,
            off_seen: false,
            interface: DeployInterface::Direct,
            off_by_hand: false,
            failure: None,
        };
        journey.step = route(&journey)[0].step;
        journey
    }

    /// The same, with the image to come to the node in a way of its own.
    #[must_use]
    pub fn by(mut self, interface: DeployInterface) -> Journey {
        self.interface = interface;
        self.step = route(&self)[0].step;
        self
    }

    /// The same, with somebody's word for it that the node is off.
    #[must_use]
    pub fn off_by_hand(mut self) -> Journey {
        self.off_by_hand = true;
        self
    }

    /// Whether the node's volumes are exported to it meanwhile.
    pub fn exports(&self) -> bool {
        self.goal == Goal::Deploy && self.interface == DeployInterface::San && self.failure.is_none()
    }

    /// Goes to a step, which begins now.
    pub fn enter(&mut self, step: Step, now: Time) {
        self.step = step;
        (self.since, self.heard) = (now, now);
        self.off_seen = false;
    }

    /// The name under which the ramdisk of this attempt boots and reports.
    pub fn attempt(&self) -> Attempt {
        format!("{}-{}-{}", self.node, self.number, self.attempt)
            .parse()
            .expect("a node's name and numbers fit")
    }

    /// The name under which power and ports are wished for in this step of this attempt.
    pub fn wish(&self) -> Attempt {
        let text = format!("{}-{}-{}-{}.{}", self.node, self.number, self.attempt, self.boots, self.step);
        text.parse().expect("a node's name, numbers and a step fit")
    }

    /// The name under which the tenant's system of this attempt is awaited.
    pub fn system(&self) -> Attempt {
        let text = format!("{}-{}-{}-{}", self.node, self.number, self.attempt, self.boots);
        text.parse().expect("a node's name and numbers fit")
    }
}
