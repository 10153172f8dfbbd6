//! REPORT SUPPORTED OPERATION CODES and REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS (SPC-5).

use crate::cdb::Cdb;
use crate::opcodes::{self, COMMANDS, Command};
use crate::response::Response;
use crate::sense::Sense;

/// No timeouts are indicated: a commands timeouts descriptor of zeros (SPC-5, command timeouts descriptor).
const TIMEOUTS: [u8; 12] = [0, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// REPORT SUPPORTED OPERATION CODES.
pub(crate) fn opcodes(cdb: &Cdb, thin: bool) -> Result<Response, Sense> {
    let timeouts = cdb.bit(2, 0x80);
    let (opcode, wanted) = (cdb.octet(3), cdb.be16(4));
    let known = || opcodes::of(opcode, thin);
    let exact = |command: &&Command| u16::from(command.action()) == wanted;
    let has_actions = known().any(|command| command.has_action);
    let data = match cdb.octet(2) & 0x07 {
        0 => all(timeouts, thin),
        // SPC-5: an operation code that has service actions is asked for with one, and the others without.
        1 if has_actions => return Err(Sense::in_cdb_bit(2, 2)),
        1 => one(known().next(), timeouts, thin),
        // An operation code that there is not has no service actions that we know of: it is reported as not there.
        2 if known().next().is_some() && !has_actions => return Err(Sense::in_cdb_bit(2, 2)),
        2 => one(known().find(exact), timeouts, thin),
        3 if has_actions => one(known().find(exact), timeouts, thin),
        3 => one(known().next().filter(|_| wanted == 0), timeouts, thin),
        _ => return Err(Sense::in_cdb_bit(2, 2)),
    };
    Ok(Response::data(data, usize::try_from(cdb.be32(6)).unwrap_or(usize::MAX)))
}

fn all(timeouts: bool, thin: bool) -> Vec<u8> {
    let mut out = vec![0; 4];
    for command in COMMANDS.iter().filter(|command| command.is_there(thin)) {
        let flags = u8::from(timeouts) << 1 | u8::from(command.has_action);
        let length = command.usage.len() as u8;
        out.extend_from_slice(&[command.opcode(), 0, 0, command.action(), 0, flags, 0, length]);
        if timeouts {
            out.extend_from_slice(&TIMEOUTS);
        }
    }
    let length = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}

fn one(command: Option<&Command>, timeouts: bool, thin: bool) -> Vec<u8> {
    // SUPPORT 001b: not supported; 011b: as the standard says.
    let Some(command) = command else { return vec![0, 0x01, 0, 0] };
    let usage = command.usage(thin);
    let mut out = vec![0, u8::from(timeouts) << 7 | 0x03, 0, usage.len() as u8];
    out.extend(usage);
    if timeouts {
        out.extend_from_slice(&TIMEOUTS);
    }
    out
}

/// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS: ABORT TASK, ABORT TASK SET, CLEAR TASK SET, LOGICAL UNIT RESET.
pub(crate) fn management(cdb: &Cdb) -> Response {
    let mut data = vec![0xd8, 0, 0, 0];
    if cdb.bit(2, 0x80) {
        data[3] = 0x0c;
        data.resize(16, 0);
    }
    Response::data(data, usize::try_from(cdb.be32(6)).unwrap_or(usize::MAX))
}
