use crate::appliance::HostFacts;
use crate::{Control, Discovered, Hand, NodeRecord};
use agent_proto::Status;
use boot::{
    Attempt, DhcpFact, Generation, HttpFact, Iqn, IscsiFact, IscsiSession, Mac, NodeName, PushState, Row,
    SessionState, TftpFact, Up, VolumeId, VolumeState,
};
use deploy::{AgentSight, ClientSight, Journey, Place, PortSight, Sight, VolumeSight, leg};
use rack::{
    DeployInterface, HostFact, NetworkSpec, PortFact, PowerFact, Purpose, SwitchFact, SwitchName, SwitchPort,
};
use sansio::Time;
use std::collections::{BTreeMap, BTreeSet};
use store::Store;

/// Most scripts, agents and clients that are remembered; past it those go that no node's journey needs.
const HAPPENED: usize = 4096;

/// What comes from a hand's connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// A line of the DHCP hand.
    Dhcp(Up<DhcpFact>),
    /// A line of the TFTP hand.
    Tftp(Up<TftpFact>),
    /// A line of the HTTP hand.
    Http(Up<HttpFact>),
    /// A line of the iSCSI hand.
    Iscsi(Up<IscsiFact>),
    /// A line of the power hand.
    Power(Up<PowerFact>),
    /// A line of the switch hand.
    Switch(Up<SwitchFact>),
    /// A line of the host hand.
    Host(Up<HostFact>),
    /// The hand is off the line.
    Away(Hand),
}

/// The hands' tables, as control holds them. Never stored: they are told again.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    hands: BTreeMap<Hand, HandLine>,
    power: BTreeMap<NodeName, PowerFact>,
    ports: BTreeMap<(SwitchName, SwitchPort), PortFact>,
    /// How often a port had been moved when its wish was first read back. The hand counts for as long as it
    /// runs, and what somebody did to an earlier wish is nothing against this one.
    drifted: BTreeMap<(SwitchName, SwitchPort), u32>,
    switches: BTreeMap<SwitchName, String>,
    clients: BTreeMap<(String, Mac), ClientSight>,
    /// Machines that nobody enrolled and that are not written down yet.
    pub(crate) strangers: BTreeMap<Mac, Discovered>,
    scripts: BTreeMap<Attempt, u32>,
    agents: BTreeMap<Attempt, (bool, Option<Status>)>,
    volumes: BTreeMap<VolumeId, (VolumeState, Option<(Iqn, u16)>)>,
    targets: BTreeMap<Iqn, (Vec<IscsiSession>, Option<String>)>,
    pushes: BTreeMap<Attempt, PushState>,
    troubles: BTreeMap<(Hand, String), String>,
    host: HostFacts,
}

/// One hand's connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct HandLine {
    pub(crate) epoch: Option<u64>,
    pub(crate) connected: bool,
    pub(crate) told: bool,
    pub(crate) holds: Option<Generation>,
}

impl Facts {
    pub(crate) fn hand(&self, hand: Hand) -> HandLine {
        self.hands.get(&hand).cloned().unwrap_or_default()
    }

    pub(crate) fn host(&self) -> &HostFacts {
        &self.host
    }

    pub(crate) fn port(&self, link: &rack::LocalLink) -> Option<&PortFact> {
        self.ports.get(&(link.switch.clone(), link.port.clone()))
    }

    /// What is known of a node's BMC as it is described now.
    pub(crate) fn power(&self, node: &NodeRecord) -> Option<&PowerFact> {
        self.power.get(&node.spec.name).filter(|fact| fact.revision == node.generation)
    }

    pub(crate) fn switch_trouble(&self, switch: &SwitchName) -> Option<&str> {
        self.switches.get(switch).map(String::as_str)
    }

    pub(crate) fn troubles(&self, hand: Hand) -> impl Iterator<Item = &str> {
        self.troubles.iter().filter(move |((of, _), _)| *of == hand).map(|(_, text)| text.as_str())
    }

    pub(crate) fn agent(&self, attempt: &Attempt) -> Option<&(bool, Option<Status>)> {
        self.agents.get(attempt)
    }

    /// How a volume stands, and as what it is exported.
    pub(crate) fn volume(&self, volume: &VolumeId) -> Option<&(VolumeState, Option<(Iqn, u16)>)> {
        self.volumes.get(volume)
    }

    pub(crate) fn forget_volume(&mut self, volume: &VolumeId) {
        self.volumes.remove(volume);
    }

    /// Who is logged in to a target, and what is wrong with it.
    pub(crate) fn target(&self, target: &Iqn) -> Option<&(Vec<IscsiSession>, Option<String>)> {
        self.targets.get(target)
    }

    fn forget(&mut self, hand: Hand) {
        match hand {
            Hand::Dhcp => self.clients.clear(),
            Hand::Tftp => {}
            Hand::Http => {
                self.scripts.clear();
                self.agents.clear();
            }
            Hand::Iscsi => {
                self.volumes.clear();
                self.targets.clear();
                self.pushes.clear();
            }
            Hand::Power => self.power.clear(),
            Hand::Switch => {
                self.ports.clear();
                self.drifted.clear();
                self.switches.clear();
            }
            Hand::Host => self.host = HostFacts::default(),
        }
        self.troubles.retain(|(of, _), _| *of != hand);
    }

    fn note_port(&mut self, port: PortFact) {
        let key = (port.switch.clone(), port.port.clone());
        let before = self.ports.get(&key);
        if before.is_none_or(|before| before.attempt != port.attempt) {
            let drifted = before.map_or(port.drifts, |before| before.drifts);
            self.drifted.insert(key.clone(), drifted);
        }
        self.ports.insert(key, port);
    }

    /// How often somebody else moved a port under this wish.
    fn drifts(&self, port: &PortFact, wish: &Attempt) -> u32 {
        let before = self.drifted.get(&(port.switch.clone(), port.port.clone())).copied().unwrap_or(0);
        if port.attempt.as_ref() == Some(wish) { port.drifts.saturating_sub(before) } else { 0 }
    }

    fn trouble(&mut self, hand: Hand, key: String, trouble: Option<String>) {
        match trouble {
            Some(text) => self.troubles.insert((hand, key), text),
            None => self.troubles.remove(&(hand, key)),
        };
    }

    /// The part every hand has in common; gives the fact, if the line is one.
    fn line<F>(&mut self, hand: Hand, up: Up<F>) -> Option<Row<F>> {
        let line = self.hands.entry(hand).or_default();
        match up {
            Up::Hello { epoch, holds, .. } => {
                let anew = line.epoch != Some(epoch);
                *line = HandLine { epoch: Some(epoch), connected: true, told: false, holds };
                if anew {
                    self.forget(hand);
                }
                None
            }
            Up::Told => {
                line.told = true;
                None
            }
            Up::Holds(generation) => {
                line.holds = Some(generation);
                None
            }
            Up::Fact(row) => Some(row),
        }
    }
}

impl<S: Store> Control<S> {
    /// Takes up what a hand says.
    pub(crate) fn note(&mut self, heard: Heard, now: Time) {
        match heard {
            Heard::Away(hand) => {
                self.facts.hands.entry(hand).or_default().connected = false;
            }
            Heard::Dhcp(up) => {
                if let Some(row) = self.facts.line(Hand::Dhcp, up) {
                    self.note_dhcp(row.fact, now);
                }
            }
            Heard::Tftp(up) => {
                if let Some(Row { key, fact: TftpFact::Listen { trouble, .. }, .. }) =
                    self.facts.line(Hand::Tftp, up)
                {
                    self.facts.trouble(Hand::Tftp, key, trouble);
                }
            }
            Heard::Http(up) => {
                if let Some(row) = self.facts.line(Hand::Http, up) {
                    self.note_http(row);
                }
            }
            Heard::Iscsi(up) => {
                if let Some(row) = self.facts.line(Hand::Iscsi, up) {
                    self.note_iscsi(row);
                }
            }
            Heard::Power(up) => {
                if let Some(row) = self.facts.line(Hand::Power, up) {
                    self.facts.power.insert(row.fact.node.clone(), row.fact);
                }
            }
            Heard::Switch(up) => match self.facts.line(Hand::Switch, up).map(|row| row.fact) {
                Some(SwitchFact::Reach { switch, trouble: Some(trouble) }) => {
                    self.facts.switches.insert(switch, trouble);
                }
                Some(SwitchFact::Reach { switch, trouble: None }) => {
                    self.facts.switches.remove(&switch);
                }
                Some(SwitchFact::Port(port)) => {
                    self.facts.note_port(port);
                }
                None => {}
            },
            Heard::Host(up) => {
                if let Some(row) = self.facts.line(Hand::Host, up) {
                    self.facts.host.note(row.fact);
                }
            }
        }
    }

    fn note_iscsi(&mut self, row: Row<IscsiFact>) {
        let facts = &mut self.facts;
        match row.fact {
            IscsiFact::Volume { id, state, exported } => {
                facts.volumes.insert(id, (state, exported));
            }
            IscsiFact::Target { name, sessions, trouble } => {
                facts.targets.insert(name, (sessions, trouble));
            }
            IscsiFact::Push { attempt, state } => {
                facts.pushes.insert(attempt, state);
            }
            IscsiFact::Refused { .. } => {}
            IscsiFact::Listen { trouble, .. } => facts.trouble(Hand::Iscsi, row.key, trouble),
        }
        // What is not of the plan any more is never told anew, so it goes here.
        let plan = &self.last.iscsi;
        if facts.targets.len() > HAPPENED {
            facts.targets.retain(|name, _| plan.targets.iter().any(|target| target.name == *name));
        }
        if facts.pushes.len() > HAPPENED {
            facts.pushes.retain(|attempt, _| plan.pushes.iter().any(|push| push.attempt == *attempt));
        }
        if facts.volumes.len() > 2 * HAPPENED {
            let volumes = &self.volumes;
            facts.volumes.retain(|id, _| volumes.contains_key(id));
        }
    }

    fn note_dhcp(&mut self, fact: DhcpFact, now: Time) {
        let (network, mac, client, vendor_class, uuid) = match fact {
            DhcpFact::Network { network, trouble } => {
                return self.facts.trouble(Hand::Dhcp, network, trouble);
            }
            DhcpFact::Client {
                network,
                mac,
                attempt,
                moment,
                address,
                architecture,
                vendor_class,
                ipxe,
                uuid,
            } => {
                let firmware = ipxe || architecture.is_some();
                let client = ClientSight { attempt, moment, address, architecture, firmware };
                (network, mac, client, vendor_class, uuid)
            }
        };
        self.meet(Discovered {
            mac,
            network: network.clone(),
            first_seen: now,
            architecture: client.architecture,
            vendor_class,
            uuid,
        });
        self.facts.clients.insert((network, mac), client);
        if self.facts.clients.len() > HAPPENED {
            let ours: BTreeSet<Mac> =
                self.nodes.values().flat_map(|node| &node.spec.ports).map(|port| port.mac).collect();
            self.facts.clients.retain(|(_, mac), _| ours.contains(mac));
        }
    }

    fn note_http(&mut self, row: Row<HttpFact>) {
        match row.fact {
            HttpFact::Script { attempt, times, .. } => {
                self.facts.scripts.insert(attempt, times);
            }
            HttpFact::Agent { attempt, state, status } => {
                let status = status.and_then(|status| match status.read::<Status>() {
                    Ok(status) => Some(status),
                    Err(e) => {
                        log::warn!(attempt:% = attempt, error:% = e; "agent's status does not read");
                        None
                    }
                });
                self.facts.agents.insert(attempt, (state == SessionState::Connected, status));
            }
            HttpFact::Listen { trouble, .. } => self.facts.trouble(Hand::Http, row.key, trouble),
            HttpFact::Asset { .. } | HttpFact::Lost { .. } => {}
        }
        if self.facts.scripts.len().max(self.facts.agents.len()) > HAPPENED {
            let journeys = self.nodes.values().filter_map(|node| node.journey.as_ref());
            let ours: BTreeSet<Attempt> = journeys.flat_map(|j| [j.attempt(), j.system()]).collect();
            self.facts.scripts.retain(|attempt, _| ours.contains(attempt));
            self.facts.agents.retain(|attempt, _| ours.contains(attempt));
        }
    }

    /// Where each of a node's ports should be.
    pub(crate) fn network_of(&self, name: &NodeName, place: Place) -> Option<&NetworkSpec> {
        let by = |purpose| self.networks.values().find(move |network| network.purpose == purpose);
        match place {
            Place::Provisioning => by(Purpose::Provisioning),
            Place::Cleaning => by(Purpose::Cleaning).or_else(|| by(Purpose::Provisioning)),
            Place::Quarantine => by(Purpose::Quarantine),
            Place::Tenant => {
                let deployment = self.nodes.get(name)?.deployment.as_ref()?;
                self.networks.get(&deployment.network)
            }
        }
    }

    /// The network one of a node's ports belongs in, when the node is where `place` says.
    pub(crate) fn port_network(&self, node: &NodeRecord, mac: Mac, place: Place) -> Option<&NetworkSpec> {
        let name = &node.spec.name;
        if node.spec.pxe_port().map(|port| port.mac) == Some(mac) {
            return self.network_of(name, place);
        }
        if place == Place::Tenant
            && let Some(deployment) = &node.deployment
            && let Some((network, port)) = self.storage_of(&deployment.network, &node.spec)
            && port.mac == mac
        {
            return Some(network);
        }
        self.network_of(name, Place::Quarantine)
    }

    /// What is seen of a node now.
    pub(crate) fn sight(&self, name: &NodeName, journey: &Journey) -> Sight {
        let Some(node) = self.nodes.get(name) else { return Sight::default() };
        let now_in = deploy::place(journey);
        let away = |hand: Hand| (!self.facts.hand(hand).connected).then_some(hand.name());
        let power = self.facts.power(node);
        let pxe = node.spec.pxe_port().map(|port| port.mac);
        let ports = node.spec.ports.iter().filter_map(|port| {
            let wanted = self.port_network(node, port.mac, now_in)?.vlan;
            let link = port.local_link.clone();
            let fact = self.facts.ports.get(&(link.switch.clone(), link.port.clone()));
            let switch = self.facts.switches.get(&link.switch).cloned();
            Some(PortSight {
                link,
                wanted,
                mode: fact.and_then(|fact| fact.mode),
                wish: fact.and_then(|fact| fact.attempt.clone()),
                state: fact.map(|fact| fact.link).unwrap_or_default(),
                drifts: fact.map_or(0, |fact| self.facts.drifts(fact, &journey.wish())),
                trouble: switch.or_else(|| fact.and_then(|fact| fact.trouble.clone())),
            })
        });
        let client = |place| {
            let network = self.network_of(name, place)?;
            self.facts.clients.get(&(network.name.to_string(), pxe?)).cloned()
        };
        let san = node.deployment.as_ref().filter(|_| node.boots_from_volume()).and_then(|deployment| {
            let (network, port) = self.storage_of(&deployment.network, &node.spec)?;
            self.facts.clients.get(&(network.name.to_string(), port.mac)).cloned()
        });
        let target = self.access(node).target;
        let (sessions, trouble) = self.facts.target(&target).cloned().unwrap_or_default();
        let root = node.deployment.as_ref().and_then(|deployment| deployment.root.clone()).map(|id| {
            let seen = self.facts.volume(&id);
            VolumeSight {
                state: seen.map(|(state, _)| state.clone()),
                exported: seen
                    .and_then(|(_, exported)| exported.as_ref())
                    .is_some_and(|(to, _)| *to == target),
                id,
                trouble,
            }
        });
        let attempt = journey.attempt();
        let agent = self.facts.agents.get(&attempt).map(|(connected, status)| AgentSight {
            attempt: attempt.clone(),
            connected: *connected && self.facts.hand(Hand::Http).connected,
            status: status.clone(),
        });
        let boot_place = match leg(journey).wish.place {
            Place::Cleaning => Place::Cleaning,
            _ => Place::Provisioning,
        };
        let mut ports: Vec<PortSight> = ports.collect();
        // The boot port first: it is the one that sentences are about.
        let first = node.spec.ports.iter().position(|port| Some(port.mac) == pxe).unwrap_or(0);
        if first < ports.len() {
            ports.swap(0, first);
        }
        let push = self.facts.pushes.get(&attempt).map(|state| (attempt.clone(), state.clone()));
        Sight {
            power: power.and_then(|fact| fact.power),
            power_wish: power.and_then(|fact| fact.fulfilled.clone()),
            power_acts: power.map_or(0, |fact| fact.acted),
            bmc: node.spec.bmc.address.to_string(),
            bmc_trouble: power.and_then(|fact| fact.trouble.clone()),
            hands_away: [Hand::Power, Hand::Switch, Hand::Dhcp, Hand::Http, Hand::Iscsi]
                .into_iter()
                .filter(|hand| *hand != Hand::Iscsi || journey.interface != DeployInterface::Direct)
                .filter_map(away)
                .collect(),
            ports,
            boot_client: client(boot_place),
            script: self.facts.scripts.contains_key(&attempt).then(|| attempt.clone()),
            agent,
            tenant_client: client(Place::Tenant),
            san_client: san,
            san_script: Some(journey.system()).filter(|system| self.facts.scripts.contains_key(system)),
            push,
            root,
            sessions: sessions.iter().map(|session| session.peer.ip().to_string()).collect(),
            open_to_it: self.open_to(name),
        }
    }
}
