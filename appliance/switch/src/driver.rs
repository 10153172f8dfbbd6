use crate::{Error, Refusal};
use rack::{LinkState, PortMode, SwitchPort, Vlan};

/// What an effect that may be repeated found to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// It was so.
    Already,
    /// It is so now.
    Changed,
}

/// A port, and the VLAN it should be in: untagged, and in no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Which.
    pub port: SwitchPort,
    /// Where.
    pub vlan: Vlan,
}

/// A port as its switch shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What it is configured to be.
    pub mode: PortMode,
    /// Whether that is also how frames are forwarded.
    pub standing: Standing,
    /// Whether there is light.
    pub link: LinkState,
    /// What is wrong with it, and what to do.
    pub trouble: Option<String>,
}

/// How far what is configured is from what is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Frames are forwarded by it.
    InForce,
    /// Accepted, and to be in force in a moment.
    Awaited,
    /// Accepted, and nothing comes of it; [`Seen::trouble`] says why.
    Stuck,
}

/// A switch of any make. Each method gives up by itself, after seconds; after an `Err` the switch must be
/// connected again.
pub trait Switch: Send {
    /// Begins a session, and ends the one before.
    fn connect(&mut self) -> impl Future<Output = Result<(), Error>> + Send;

    /// Looks at these ports and no others; one answer each, in their order.
    fn look(&mut self, ports: &[SwitchPort]) -> impl Future<Output = Result<Vec<Seen>, Error>> + Send;

    /// Puts ports into VLANs; one answer each, in their order. `Ok` is the switch's word, and a look
    /// tells whether it kept it.
    fn set(
        &mut self,
        orders: &[Order],
    ) -> impl Future<Output = Result<Vec<Result<Did, Refusal>>, Error>> + Send;

    /// Keeps the session alive, and returns when another look is due. Dropping the future loses nothing.
    fn changed(&mut self) -> impl Future<Output = Result<(), Error>> + Send;
}
