//! What a node should do next, given what is seen. Pure and total: no clock, no store, no network.
//!
//! A [`Journey`] is one piece of long work on one node: to verify, deploy, undeploy or clean it. Its
//! route is a table of legs ([`route`]). Each leg says what is wished for while it lasts (power, port,
//! boot offer, agent's job), what shows that it is over, how long to be patient, and where to go back to
//! when patience is out. Wishes are levels that the hands make true and keep true; nothing here acts.
//!
//! ```text
//!   deploy:  secure-port ─► pxe ─► agent ─► write-image ─► release-port ─► boot ─► verify ─► active
//!                 ▲          │       │          │               ▲           │        │
//!                 └──────────┴───────┴──────────┘               └───────────┴────────┘
//!                        (out of patience: again)
//!   by push:  … agent ─► export ─► write-image ─► finish ─► release-port …
//!   from SAN: clone ─► release-port ─► boot ─► verify ─► active
//!   fence:   fence ─► its volumes and networks go to another node
//!   delete:  park ─► cleaning's route
//!   clean:   secure-port ─► pxe ─► agent ─► erase ─► park ─► available
//!   manage:  bmc ─► park ─► manageable
//!   any:     gives up ─► quarantine ─► disarm ─► … failed, with step, reason and evidence
//! ```
//!
//! Nothing runs where it was not started: a step that switches a node off keeps its ports in quarantine
//! until it was seen off ([`place`]), and only then moves them into the network that the step is for.
//!
//! What *happened* counts only if it carries this attempt ([`Journey::attempt`]); what *is* is looked at
//! afresh each time.

mod consider;
mod explain;
mod journey;
mod route;
mod sight;

pub use consider::{Verdict, consider};
pub use explain::{Arrow, Seen, arrows, missing};
pub use journey::{Deployment, Failure, Goal, Journey};
pub use route::{Leg, Offer, Patience, Place, Step, Wish, Work, leg, place, position, route};
pub use sight::{AgentSight, ClientSight, PortSight, Sight, VolumeSight};

#[cfg(test)]
mod tests;
