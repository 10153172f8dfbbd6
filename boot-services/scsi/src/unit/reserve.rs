//! A logical unit's reservations, and the nexuses that they touch.

use super::{LogicalUnit, Refusal, Wants};
use crate::cdb::Cdb;
use crate::nexus::{InitiatorPort, Nexus, Nexuses};
use crate::opcodes::{Access, Command, Kind};
use crate::reservations::{Outcome, Ports};
use crate::response::{Duty, Response};
use crate::sense::Sense;

impl Ports for Nexuses {
    fn of_device(&self, name: &str) -> Vec<InitiatorPort> {
        self.all()
            .filter(|(_, attached)| attached.port.name == name)
            .map(|(_, one)| one.port.clone())
            .collect()
    }
}

impl LogicalUnit {
    /// Whether a reservation keeps the nexus from the command.
    pub(super) fn conflicts(&self, nexus: Nexus, cdb: &Cdb, command: &Command) -> bool {
        let kind = command.kind;
        if let Some(holder) = self.reservations.simple {
            return match kind {
                // SPC-2, 5.5.1: "If a logical unit has executed a RESERVE command and is still reserved by any
                // initiator, all PERSISTENT RESERVE IN and all PERSISTENT RESERVE OUT commands shall conflict
                // regardless of initiator or service action".
                Kind::ReservationIn | Kind::ReservationOut => true,
                // SPC-2, table 10.
                Kind::Inquiry | Kind::ReportLuns | Kind::RequestSense | Kind::Release => false,
                Kind::PreventAllow if cdb.octet(4) & 0x03 == 0 => false,
                _ => holder != nexus,
            };
        }
        let access = match kind {
            // SBC-4: allowed with START one and POWER CONDITION zero; SPC-5: with PREVENT zero.
            Kind::StartStopUnit if cdb.octet(4) & 0xf1 == 0x01 => Access::Free,
            Kind::PreventAllow if cdb.octet(4) & 0x03 == 0 => Access::Free,
            _ => command.access,
        };
        let port = self.nexuses.get(nexus).map(|attached| &attached.port);
        port.is_none_or(|port| self.reservations.excludes(port, access))
    }

    /// RESERVE and RELEASE; of another nexus' reservation, RELEASE does nothing.
    pub(super) fn reserve(&mut self, nexus: Nexus, kind: Kind) -> Result<Response, Refusal> {
        let me = &self.nexuses.get(nexus).ok_or(Sense::NEXUS_LOST)?.port;
        if !self.reservations.registrations.is_empty() {
            self.reservations.compatible(me).ok_or(Refusal::Conflict)?;
        } else if kind == Kind::Reserve {
            self.reservations.simple = Some(nexus);
        } else if self.reservations.simple == Some(nexus) {
            self.reservations.simple = None;
        }
        Ok(Response::good())
    }

    /// PERSISTENT RESERVE OUT, with its parameter list.
    pub(super) fn reserve_out(
        &mut self,
        nexus: Nexus,
        wants: &Wants,
        list: &[u8],
    ) -> Result<Response, Refusal> {
        if self.reservations.simple.is_some() {
            return Err(Refusal::Conflict);
        }
        if list.len() != wants.data_out as usize {
            return Err(Sense::PARAMETER_LIST_LENGTH.into());
        }
        let me = self.nexuses.get(nexus).ok_or(Sense::NEXUS_LOST)?.port.clone();
        let Outcome { tell, abort } = self.reservations.change(&wants.cdb, list, &me, &self.nexuses)?;
        for (port, attention) in tell {
            if let Some(attached) = self.nexuses.of(&port).and_then(|nexus| self.nexuses.get_mut(nexus)) {
                attached.attentions.add(attention);
            }
        }
        let mut response = Response::good();
        let keep = self.reservations.keep();
        if self.kept.as_ref() != Some(&keep) {
            self.kept = Some(keep.clone());
            response.first.push(Duty::Persist(keep));
        }
        let aborted: Vec<Nexus> = abort.iter().filter_map(|port| self.nexuses.of(port)).collect();
        if !aborted.is_empty() {
            response.first.push(Duty::Abort(aborted));
        }
        Ok(response)
    }
}
