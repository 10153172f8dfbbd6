//! Which statuses mean that a command is to be sent again.

use super::Sense;
use std::time::Duration;

/// The first wait after BUSY, TASK SET FULL or "becoming ready"; it doubles.
const FIRST_PUT_OFF: Duration = Duration::from_millis(50);
const LONGEST_PUT_OFF: Duration = Duration::from_secs(2);
/// How often a command may be put off: with the waits above, for a minute.
const MOST_PUT_OFF: u32 = 36;

pub(super) const GOOD: u8 = 0x00;
const CHECK_CONDITION: u8 = 0x02;
const BUSY: u8 = 0x08;
const TASK_SET_FULL: u8 = 0x28;
const TASK_ABORTED: u8 = 0x40;

/// Whether the command is to be sent again, and after what wait (SAM-5, 5.3; SPC-5, 4.4.8).
pub(super) fn put_off(status: Option<u8>, sense: Option<Sense>, times: u32) -> Option<Option<Duration>> {
    if times >= MOST_PUT_OFF {
        return None;
    }
    let wait = FIRST_PUT_OFF.saturating_mul(1 << times.min(8)).min(LONGEST_PUT_OFF);
    match (status, sense) {
        (Some(BUSY | TASK_SET_FULL), _) => Some(Some(wait)),
        (Some(TASK_ABORTED), _) => Some(Some(wait)),
        // UNIT ATTENTION: it was told, and now the command goes. ABORTED COMMAND.
        (Some(CHECK_CONDITION), Some(Sense { key: 6, deferred: false, .. })) => Some(None),
        (Some(CHECK_CONDITION), Some(Sense { key: 11, deferred: false, .. })) => Some(Some(wait)),
        // NOT READY: becoming ready, or an operation in progress.
        (Some(CHECK_CONDITION), Some(Sense { key: 2, code: (4, 1 | 4 | 7 | 8 | 9), .. })) => Some(Some(wait)),
        _ => None,
    }
}
