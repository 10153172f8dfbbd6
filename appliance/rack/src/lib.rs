//! The nouns of a rack, and the contract with the hands that are not on the boot network.
//!
//! What a person writes is a `…Spec`; everything in one has been parsed and can be acted on. What is so
//! at the moment is control's and stands elsewhere.
//!
//! This crate knows nothing of how anything is reached, stored or decided.

mod host;
mod network;
mod node;
mod power;
mod switch;
mod volume;

pub use boot::{DiskHint, VolumeId};
pub use host::{BoxFact, HostFact, HostPlan, Slot, SlotFact, Stage, UpdatePlan};
pub use network::{NetworkDhcp, NetworkName, NetworkSpec, Purpose, Vlan};
pub use node::{BmcSpec, Firmware, ImageName, LocalLink, NodeSpec, PortSpec, ProvisionState};
pub use power::{BmcPlan, BmcTrouble, BootDevice, BootWish, Power, PowerFact, PowerPlan, PowerWish};
pub use switch::{
    LinkState, PortFact, PortMode, PortWish, SwitchDriver, SwitchEntry, SwitchFact, SwitchName, SwitchPlan,
    SwitchPort, SwitchSpec,
};
pub use volume::{DeployInterface, IqnPrefix, VolumeSpec};
