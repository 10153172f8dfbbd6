//! A switch in memory, that refuses, ignores, lies, lags, drifts and hangs up when it is told to.

use crate::{Did, Error, Order, Refusal, Seen, Standing, Switch};
use rack::{LinkState, PortMode, SwitchPort, Vlan};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// What a port does with an order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// Obeys.
    #[default]
    Honest,
    /// Says no.
    Refuses(Refusal),
    /// Says yes, does nothing, and shows that it did nothing.
    Ignores,
    /// Says yes, does nothing, and shows what was ordered.
    Lies,
    /// Says yes, and shows what was ordered as not in force, until it is honest again.
    Lags,
}

/// A handle on the switch; clones are handles on the same one, each with a session of its own.
#[derive(Clone, Debug)]
pub struct Double {
    state: Arc<watch::Sender<State>>,
    news: watch::Receiver<State>,
    /// The number of hang-ups that the session came after.
    session: u64,
}

#[derive(Clone, Debug, Default)]
struct State {
    ports: BTreeMap<SwitchPort, Port>,
    deaf: bool,
    hung_up: u64,
    sets: u64,
}

#[derive(Clone, Debug)]
struct Port {
    forwards: PortMode,
    shows: PortMode,
    link: LinkState,
    manner: Manner,
}

impl Double {
    /// A switch whose ports are honest and have a link.
    pub fn new(ports: impl IntoIterator<Item = (SwitchPort, PortMode)>) -> Double {
        let port = |mode| Port { forwards: mode, shows: mode, link: LinkState::Up, manner: Manner::Honest };
        let ports = ports.into_iter().map(|(name, mode)| (name, port(mode))).collect();
        let (state, news) = watch::channel(State { ports, ..State::default() });
        Double { state: Arc::new(state), news, session: 0 }
    }

    /// What the port truly is, whatever it shows.
    pub fn forwards(&self, port: &SwitchPort) -> PortMode {
        self.state.borrow().ports.get(port).map_or(PortMode::Absent, |port| port.forwards)
    }

    /// The VLAN that the port truly is in, if in one alone.
    pub fn vlan(&self, port: &SwitchPort) -> Option<Vlan> {
        match self.forwards(port) {
            PortMode::Access(vlan) => Some(vlan),
            PortMode::Trunk | PortMode::Absent => None,
        }
    }

    /// Orders that reached the switch, refused ones too.
    pub fn sets(&self) -> u64 {
        self.state.borrow().sets
    }

    /// Changes a port as somebody else would; `Absent` takes it away.
    pub fn drift(&self, port: &SwitchPort, mode: PortMode) {
        self.state.send_modify(|state| match (mode, state.ports.get_mut(port)) {
            (PortMode::Absent, _) => {
                state.ports.remove(port);
            }
            (_, Some(port)) => (port.forwards, port.shows) = (mode, mode),
            (_, None) => {
                let made = Port { forwards: mode, shows: mode, link: LinkState::Up, manner: Manner::Honest };
                state.ports.insert(port.clone(), made);
            }
        });
    }

    /// Tells a port how to take orders. One that lagged and becomes honest catches up.
    pub fn behave(&self, port: &SwitchPort, manner: Manner) {
        self.state.send_modify(|state| {
            if let Some(port) = state.ports.get_mut(port) {
                if port.manner == Manner::Lags && manner == Manner::Honest {
                    port.forwards = port.shows;
                }
                port.manner = manner;
            }
        });
    }

    /// Plugs and unplugs.
    pub fn link(&self, port: &SwitchPort, link: LinkState) {
        self.state.send_modify(|state| {
            if let Some(port) = state.ports.get_mut(port) {
                port.link = link;
            }
        });
    }

    /// Ends every session, and lets new ones begin or not.
    pub fn hang_up(&self, deaf: bool) {
        self.state.send_modify(|state| {
            state.hung_up += 1;
            state.deaf = deaf;
        });
    }

    fn in_session(&self) -> Result<(), Error> {
        if self.state.borrow().hung_up == self.session { Ok(()) } else { Err(Error::Closed) }
    }
}

impl Switch for Double {
    async fn connect(&mut self) -> Result<(), Error> {
        self.session = self.state.borrow().hung_up;
        if self.state.borrow().deaf { Err(Error::Closed) } else { Ok(()) }
    }

    async fn look(&mut self, ports: &[SwitchPort]) -> Result<Vec<Seen>, Error> {
        self.in_session()?;
        let state = self.news.borrow_and_update();
        let seen = |name| match state.ports.get(name) {
            Some(port) => Seen {
                mode: port.shows,
                standing: match port.manner {
                    Manner::Lags if port.shows != port.forwards => Standing::Awaited,
                    _ => Standing::InForce,
                },
                link: port.link,
                trouble: None,
            },
            None => Seen {
                mode: PortMode::Absent,
                standing: Standing::InForce,
                link: LinkState::Unknown,
                trouble: Some("the switch has no such port: correct the local_link".to_owned()),
            },
        };
        Ok(ports.iter().map(seen).collect())
    }

    async fn set(&mut self, orders: &[Order]) -> Result<Vec<Result<Did, Refusal>>, Error> {
        self.in_session()?;
        let mut outcomes = Vec::new();
        self.state.send_modify(|state| outcomes = orders.iter().map(|order| state.set(order)).collect());
        Ok(outcomes)
    }

    async fn changed(&mut self) -> Result<(), Error> {
        self.in_session()?;
        // The sender is this handle's own, so it is there.
        let _ = self.news.changed().await;
        self.in_session()
    }
}

impl State {
    fn set(&mut self, order: &Order) -> Result<Did, Refusal> {
        self.sets += 1;
        let port = self.ports.get_mut(&order.port).ok_or(Refusal::Absent)?;
        let mode = PortMode::Access(order.vlan);
        if port.shows == mode {
            return Ok(Did::Already);
        }
        match &port.manner {
            Manner::Honest => (port.forwards, port.shows) = (mode, mode),
            Manner::Refuses(refusal) => return Err(refusal.clone()),
            Manner::Ignores => {}
            Manner::Lies | Manner::Lags => port.shows = mode,
        }
        Ok(Did::Changed)
    }
}
