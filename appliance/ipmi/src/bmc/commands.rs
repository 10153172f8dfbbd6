//! The commands that the BMC carries out.

use super::Bmc;
use crate::Bug;
use crate::codec::LanMessage;
use crate::console::Privilege;
use sansio::Time;

// Completion codes (table 5-2).
const OK: u8 = 0x00;
const NODE_BUSY: u8 = 0xc0;
const INVALID_COMMAND: u8 = 0xc1;
const LENGTH_INVALID: u8 = 0xc7;
const INVALID_FIELD: u8 = 0xcc;
const NO_PRIVILEGE: u8 = 0xd4;

const APP: u8 = 0x06;
const CHASSIS: u8 = 0x00;
const STORAGE: u8 = 0x0a;
const USER: u8 = 2;

/// A Get Device ID response: IPMI 2.0, a chassis device, of no manufacturer.
const DEVICE_ID: [u8; 15] = [0x20, 0x01, 0x01, 0x00, 0x02, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// A Get SEL Info response: version 1.5, nothing in it.
const EMPTY_SEL: [u8; 14] = [0x51, 0, 0, 0xff, 0x0f, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Cipher suite records (section 22.15.1): standard, suite, and the three tagged algorithms.
const SUITE_3: [u8; 5] = [0xc0, 3, 0x01, 0x41, 0x81];
const SUITE_17: [u8; 5] = [0xc0, 17, 0x03, 0x44, 0x81];

/// The response to a request: completion code and data.
pub(super) fn answer_to(request: &LanMessage, data: Vec<u8>) -> LanMessage {
    LanMessage {
        to: request.from,
        netfn: request.netfn | 1,
        from: request.to,
        sequence: request.sequence,
        command: request.command,
        data,
    }
}

pub(super) fn is_close(request: &LanMessage) -> bool {
    (request.netfn, request.command) == (APP, 0x3c)
}

fn ok(data: &[u8]) -> Vec<u8> {
    let mut out = vec![OK];
    out.extend_from_slice(data);
    out
}

impl Bmc {
    /// What may be asked without a session.
    pub(super) fn carry_out_outside(&self, request: &LanMessage) -> Vec<u8> {
        match (request.netfn, request.command) {
            // Get System GUID, Get Channel Authentication Capabilities, Get Channel Cipher Suites
            (APP, 0x37) => ok(&self.config.guid),
            (APP, 0x38) => match *request.data.as_slice() {
                // Channel 1, v2.0 data, no v1.5 authentication; user-level authentication, named users only;
                // v2.0 sessions only.
                [_, _] => ok(&[0x01, 0x80, 0x04, 0x02, 0, 0, 0, 0]),
                _ => vec![LENGTH_INVALID],
            },
            (APP, 0x54) => match *request.data.as_slice() {
                [_, _, index] => {
                    let mut records = SUITE_3.to_vec();
                    if !self.has(Bug::RefusesSuite17) && !self.has(Bug::AlwaysSuite3) {
                        records.extend_from_slice(&SUITE_17);
                    }
                    let from = usize::from(index & 0x3f) * 16;
                    let page = records.get(from..).unwrap_or_default();
                    let mut data = vec![0x01];
                    data.extend_from_slice(&page[..page.len().min(16)]);
                    ok(&data)
                }
                _ => vec![LENGTH_INVALID],
            },
            // Everything else wants a session.
            _ => vec![NO_PRIVILEGE],
        }
    }

    /// Completion code and data, and the privilege level from now on.
    pub(super) fn carry_out(
        &mut self,
        now: Time,
        request: &LanMessage,
        level: u8,
        limit: u8,
        at: usize,
    ) -> (Vec<u8>, u8) {
        self.commands = self.commands.wrapping_add(1);
        let is_busy = self
            .bugs
            .iter()
            .any(|bug| matches!(bug, Bug::BusyEvery(every) if self.commands.is_multiple_of((*every).max(1))));
        if is_busy {
            return (vec![NODE_BUSY], level);
        }
        if (request.netfn, request.command) == (APP, 0x3b) {
            return set_privilege(&request.data, level, limit);
        }
        let needs = match (request.netfn, request.command) {
            // Chassis Control, Set System Boot Options, Get System Boot Options
            (CHASSIS, 0x02 | 0x08 | 0x09) => Privilege::Operator.byte(),
            _ => USER,
        };
        if level < needs {
            return (vec![NO_PRIVILEGE], level);
        }
        let data = match (request.netfn, request.command) {
            (APP, 0x01) => ok(&DEVICE_ID),
            (APP, 0x08) => ok(&self.config.guid),
            (APP, 0x3c) => match request.data.get(..4) {
                Some(id) if id == self.sessions[at].exchange.bmc_session => ok(&[]),
                // Invalid session id.
                Some(_) => vec![0x87],
                None => vec![LENGTH_INVALID],
            },
            (APP, _) => match self.carry_out_outside(request) {
                data if data == [NO_PRIVILEGE] => vec![INVALID_COMMAND],
                data => data,
            },
            (STORAGE, 0x40) => ok(&EMPTY_SEL),
            (CHASSIS, 0x00) => ok(&[0x00, 0x20, 0x20, 0x20, 0x20]),
            (CHASSIS, 0x01) => ok(&self.chassis.status()),
            (CHASSIS, 0x02) => vec![self.chassis.control(now, &request.data, &self.bugs)],
            (CHASSIS, 0x04) => ok(&[]),
            (CHASSIS, 0x08) => vec![self.chassis.set_option(now, &request.data, &self.bugs)],
            (CHASSIS, 0x09) if self.has(Bug::BootFlagsUnread) => vec![INVALID_COMMAND],
            (CHASSIS, 0x09) => match self.chassis.option(&request.data) {
                Some(data) => ok(&data),
                // Parameter not supported.
                None => vec![0x80],
            },
            _ => vec![INVALID_COMMAND],
        };
        (data, level)
    }
}

/// Section 22.18.
fn set_privilege(data: &[u8], level: u8, limit: u8) -> (Vec<u8>, u8) {
    match data {
        [0] => (ok(&[level]), level),
        [wanted @ 2..=4] if *wanted <= limit => (ok(&[*wanted]), *wanted),
        // Exceeds the channel's or the user's privilege limit.
        [3 | 4] => (vec![0x81], level),
        [_] => (vec![INVALID_FIELD], level),
        _ => (vec![LENGTH_INVALID], level),
    }
}
