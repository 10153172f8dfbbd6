//! PERSISTENT RESERVE IN (SPC-5, PERSISTENT RESERVE IN).

use super::Reservations;
use crate::cdb::Cdb;
use crate::response::Response;
use crate::sense::Sense;
use crate::transport;

impl Reservations {
    /// PERSISTENT RESERVE IN.
    pub(crate) fn report(&self, cdb: &Cdb) -> Result<Response, Sense> {
        let data = match cdb.action() {
            0 => self.keys(),
            1 => self.reservation(),
            2 => self.capabilities(),
            3 => self.full_status(),
            _ => return Err(Sense::in_cdb_bit(1, 4)),
        };
        Ok(Response::data(data, cdb.be16(7).into()))
    }

    fn listed(&self, list: Vec<u8>) -> Vec<u8> {
        let mut out = self.generation.to_be_bytes().to_vec();
        out.extend_from_slice(&u32::try_from(list.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend(list);
        out
    }

    /// READ KEYS.
    fn keys(&self) -> Vec<u8> {
        self.listed(
            self.registrations.iter().flat_map(|registration| registration.key.to_be_bytes()).collect(),
        )
    }

    /// READ RESERVATION.
    fn reservation(&self) -> Vec<u8> {
        let Some(held) = &self.held else { return self.listed(Vec::new()) };
        // The key is zero for the all registrants types.
        let key = match self.registration(&held.holder) {
            Some(registration) if !held.kind.is_held_by_all() => registration.key,
            _ => 0,
        };
        let mut out = key.to_be_bytes().to_vec();
        out.extend_from_slice(&[0, 0, 0, 0, 0, held.kind as u8, 0, 0]);
        self.listed(out)
    }

    /// REPORT CAPABILITIES: CRH, SIP_C, ATP_C and PTPL_C; TMV and all six types.
    fn capabilities(&self) -> Vec<u8> {
        vec![0, 8, 0x1d, 0x80 | u8::from(self.persists), 0xea, 0x01, 0, 0]
    }

    /// READ FULL STATUS.
    fn full_status(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for registration in &self.registrations {
            let holds = self.holds(&registration.port);
            let kind = self.held.as_ref().filter(|_| holds).map_or(0, |held| held.kind as u8);
            let flags = u8::from(registration.all_ports) << 1 | u8::from(holds);
            // Of a registration for all target ports the port is not defined: zero.
            let target_port = u8::from(!registration.all_ports);
            let name = transport::encode(&registration.port);
            out.extend_from_slice(&registration.key.to_be_bytes());
            out.extend_from_slice(&[0, 0, 0, 0, flags, kind, 0, 0, 0, 0, 0, target_port]);
            out.extend_from_slice(&u32::try_from(name.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend(name);
        }
        self.listed(out)
    }
}
