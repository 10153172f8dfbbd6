use super::codec::{BridgeRow, Column, InterfaceRow, PortRow, RootRow, Rows, TableUpdates};
use crate::{Seen, Standing};
use rack::{LinkState, PortMode, SwitchPort, Vlan};
use std::collections::BTreeMap;

/// The rows that are monitored, as the server last told them.
#[derive(Debug, Default)]
pub(crate) struct Mirror {
    roots: BTreeMap<String, RootRow>,
    bridges: BTreeMap<String, BridgeRow>,
    ports: BTreeMap<String, MirroredPort>,
    interfaces: BTreeMap<String, InterfaceRow>,
    names: BTreeMap<String, String>,
    changes: u64,
}

#[derive(Debug)]
struct MirroredPort {
    row: PortRow,
    /// The number of the update that last changed its VLANs.
    changed: u64,
}

/// Rows of all tables together; past it the mirror would cost more memory than the hand has.
const MOST_ROWS: usize = 65_536;

impl Mirror {
    /// Takes what the server told; whether it may go on: not past so many rows.
    #[must_use]
    pub(crate) fn apply(&mut self, updates: TableUpdates) -> bool {
        self.changes += 1;
        replace(&mut self.roots, updates.roots);
        replace(&mut self.bridges, updates.bridges);
        replace(&mut self.interfaces, updates.interfaces);
        for (uuid, row) in updates.ports.0 {
            if let Some(old) = self.ports.get(&uuid) {
                let name = old.row.name.text().unwrap_or_default();
                if self.names.get(name) == Some(&uuid) {
                    self.names.remove(name);
                }
            }
            let Some(row) = row else {
                self.ports.remove(&uuid);
                continue;
            };
            let changed = match self.ports.get(&uuid) {
                Some(old) if same_vlans(&old.row, &row) => old.changed,
                _ => self.changes,
            };
            self.names.insert(row.name.text().unwrap_or_default().to_owned(), uuid.clone());
            self.ports.insert(uuid, MirroredPort { row, changed });
        }
        self.roots.len() + self.bridges.len() + self.ports.len() + self.interfaces.len() <= MOST_ROWS
    }

    /// What ovs-vswitchd has caught up with; none: the database was never initialised.
    pub(crate) fn current(&self) -> Option<i64> {
        self.roots.values().next()?.cur_cfg.integer()
    }

    /// The number of the update that last changed a port's VLANs; none: it is not there.
    pub(crate) fn changed(&self, port: &SwitchPort) -> Option<u64> {
        Some(self.port(port)?.changed)
    }

    /// The VLANs of a port as the database has them, whether or not they are in force.
    pub(crate) fn mode(&self, port: &SwitchPort) -> PortMode {
        self.port(port).map_or(PortMode::Absent, |port| mode(&port.row))
    }

    /// What is to be said of a port apart from being in force.
    pub(crate) fn seen(&self, name: &SwitchPort) -> Seen {
        let Some(port) = self.port(name) else {
            return Seen {
                mode: PortMode::Absent,
                standing: Standing::InForce,
                link: LinkState::Unknown,
                trouble: Some(self.known()),
            };
        };
        let interfaces = || port.row.interfaces.uuids().filter_map(|uuid| self.interfaces.get(uuid));
        let link = interfaces().map(link).fold(None, |bond, link| match (bond, link) {
            (None, link) => Some(link),
            (Some(LinkState::Up), _) | (_, LinkState::Up) => Some(LinkState::Up),
            (Some(LinkState::Unknown), _) | (_, LinkState::Unknown) => Some(LinkState::Unknown),
            (Some(LinkState::Down), LinkState::Down) => Some(LinkState::Down),
        });
        let trouble = interfaces().find_map(|interface| interface.error.text()).map(|error| {
            format!(
                "Open vSwitch cannot use the device: {}; make the device, or correct the port's name",
                short(error)
            )
        });
        Seen { mode: mode(&port.row), standing: Standing::InForce, link: link.unwrap_or_default(), trouble }
    }

    fn port(&self, name: &SwitchPort) -> Option<&MirroredPort> {
        self.ports.get(self.names.get(name.as_str())?)
    }

    /// What there is instead of a port that is not.
    fn known(&self) -> String {
        if self.bridges.is_empty() {
            return "the switch has no bridge: make one with `ovs-vsctl add-br`, and give it its ports"
                .to_owned();
        }
        let bridges = self.bridges.values().filter_map(|row| row.name.text()).map(short);
        let bridges = bridges.take(4).collect::<Vec<_>>().join(", ");
        let mut ports = self.names.keys().take(8).map(|name| short(name)).collect::<Vec<_>>().join(", ");
        if self.names.len() > 8 {
            ports.push_str(", …");
        }
        format!(
            "the switch has no such port; bridge {bridges} has {ports}: correct the local_link, or `ovs-vsctl add-port`"
        )
    }
}

/// A peer's text in an error: printable, and not a page of it.
pub(crate) fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

fn replace<T>(table: &mut BTreeMap<String, T>, rows: Rows<T>) {
    for (uuid, row) in rows.0 {
        match row {
            Some(row) => table.insert(uuid, row),
            None => table.remove(&uuid),
        };
    }
}

fn same_vlans(a: &PortRow, b: &PortRow) -> bool {
    let vlans = |row: &PortRow| -> [Column; 4] {
        [row.name.clone(), row.tag.clone(), row.trunks.clone(), row.vlan_mode.clone()]
    };
    vlans(a) == vlans(b)
}

/// ovs-vswitchd.conf.db(5), Port, vlan_mode: "When this column is empty, a default mode is selected as
/// follows: If tag contains a value, the port is an access port. … Otherwise, the port is a trunk port."
fn mode(row: &PortRow) -> PortMode {
    let access = match row.vlan_mode.text() {
        Some(mode) => mode == "access",
        None => row.tag.integer().is_some(),
    };
    // VLANs 0 and 4095 are none that a node could be alone in.
    let vlan = row.tag.integer().and_then(|tag| Vlan::try_from(u16::try_from(tag).ok()?).ok());
    match vlan {
        Some(vlan) if access => PortMode::Access(vlan),
        _ => PortMode::Trunk,
    }
}

fn link(row: &InterfaceRow) -> LinkState {
    match (row.admin_state.text(), row.link_state.text()) {
        (Some("down"), _) | (_, Some("down")) => LinkState::Down,
        (_, Some("up")) => LinkState::Up,
        _ => LinkState::Unknown,
    }
}

#[cfg(test)]
mod tests;
