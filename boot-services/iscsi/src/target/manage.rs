//! Task management (RFC 7143, 11.5), over all sessions of a unit.

use super::{
    Connection, Unit, Why,
    phase::{Held, Management},
    targets::{Abort, Token},
    task::Seat,
};
use crate::pdu::{Header, RejectReason, Tag, TaskAnswer, TaskFunction, TaskManagement};
use sansio::Time;
use scsi::Nexus;
use std::{sync::Arc, time::Duration};

/// How many functions of one session may wait for others.
const MOST_MANAGEMENTS: usize = 8;
/// How long the others may take.
const PATIENCE: Duration = Duration::from_secs(10);

impl<V> Connection<V> {
    pub(super) fn manage(&mut self, request: &TaskManagement, header: &Header, now: Time) {
        if request.itt == Tag::NONE {
            return self.reject(header, RejectReason::InvalidField);
        }
        if self.managements.len() >= MOST_MANAGEMENTS {
            return self.reject(header, RejectReason::ImmediateCommand);
        }
        let itt = request.itt;
        let lun = scsi::Lun::parse(request.lun.0.to_be_bytes());
        let seat = self.seats.iter().find(|seat| Some(seat.lun) == lun).cloned();
        match request.function {
            TaskFunction::AbortTask => {
                let answer = if seat.is_none() {
                    TaskAnswer::LunDoesNotExist
                } else {
                    return self.abort_one(request, now);
                };
                self.answer_management(itt, answer);
            }
            TaskFunction::AbortTaskSet | TaskFunction::ClearTaskSet | TaskFunction::LogicalUnitReset => {
                let Some(seat) = seat else {
                    return self.answer_management(itt, TaskAnswer::LunDoesNotExist);
                };
                let (token, gone) = Token::new(&self.alarm);
                match request.function {
                    TaskFunction::AbortTaskSet => {
                        self.abort_tasks(Some(&token), |task| task.is_of(&seat.unit))
                    }
                    TaskFunction::ClearTaskSet => {
                        self.clear(&seat.unit, Some(seat.nexus), &token);
                    }
                    _ => {
                        self.clear(&seat.unit, None, &token);
                        seat.unit.logical().reset();
                    }
                }
                drop(token);
                self.await_others(itt, gone, false, now);
            }
            TaskFunction::TargetWarmReset | TaskFunction::TargetColdReset => {
                let cold = request.function == TaskFunction::TargetColdReset;
                let (token, gone) = Token::new(&self.alarm);
                for Seat { unit, .. } in self.seats.clone() {
                    self.clear(&unit, None, &token);
                    unit.logical().reset();
                }
                drop(token);
                if let (true, Some(name)) = (cold, self.target.clone()) {
                    self.targets.cut_others(self.id, &name);
                }
                self.await_others(itt, gone, cold, now);
            }
            // There is no auto contingent allegiance here: NACA is refused.
            TaskFunction::ClearAca => self.answer_management(itt, TaskAnswer::NotSupported),
            // RFC 7143, 11.5.1: reassignment is for error recovery level 2.
            TaskFunction::TaskReassign => self.answer_management(itt, TaskAnswer::ReassignmentNotSupported),
            TaskFunction::Other(_) => self.reject(header, RejectReason::InvalidField),
        }
    }

    /// RFC 7143, 11.5.1, ABORT TASK: a task that is there is ended. If there is none and RefCmdSN is still to come,
    /// "the target MUST consider the CmdSN to be received and return the Function Complete response".
    fn abort_one(&mut self, request: &TaskManagement, now: Time) {
        let (itt, referenced, lun) = (request.itt, request.referenced, request.lun);
        let matches = |task: &super::task::Task<V>| task.itt == referenced && task.lun == lun;
        if self.tasks.iter().any(matches) {
            let (token, gone) = Token::new(&self.alarm);
            self.abort_tasks(Some(&token), matches);
            drop(token);
            return self.await_others(itt, gone, false, now);
        }
        let ahead = request.ref_cmd_sn.past(self.exp_cmd_sn);
        let in_window = ahead >= 0 && request.ref_cmd_sn.past(self.max_cmd_sn) <= 0;
        let is_there = |held: &Held| held.cmd_sn == request.ref_cmd_sn;
        let numbered_itself = !request.immediate && request.ref_cmd_sn == request.cmd_sn;
        if !in_window || numbered_itself {
            return self.answer_management(itt, TaskAnswer::TaskDoesNotExist);
        }
        self.held.retain(|held| !is_there(held));
        self.held.push(Held { cmd_sn: request.ref_cmd_sn, pdu: None });
        self.answer_management(itt, TaskAnswer::Complete);
    }

    /// Ends all tasks of a unit, in all sessions.
    fn clear(&mut self, unit: &Arc<Unit<V>>, cleared_by: Option<Nexus>, token: &Arc<Token>) {
        let (unit, token) = (Arc::clone(unit), Arc::clone(token));
        let abort = Abort { unit, nexuses: None, cleared_by, token };
        self.targets.abort(self.id, &abort);
        let Abort { unit, token, .. } = &abort;
        self.abort_tasks(Some(token), |task| task.is_of(unit));
    }

    /// Answers when the tasks of others, and jobs that were under way, are gone.
    fn await_others(&mut self, itt: Tag, gone: Arc<std::sync::atomic::AtomicBool>, ends: bool, now: Time) {
        self.managements.push(Management { itt, gone, until: now + PATIENCE, ends });
        self.managements_due(now);
    }

    /// Answers what need not wait any more.
    pub(super) fn managements_due(&mut self, now: Time) {
        let mut at = 0;
        while at < self.managements.len() {
            let Management { itt, gone, until, ends } = &self.managements[at];
            let (itt, ends, is_gone) = (*itt, *ends, Self::is_gone(gone));
            if !is_gone && *until > now {
                at += 1;
                continue;
            }
            self.managements.remove(at);
            self.answer_management(itt, if is_gone { TaskAnswer::Complete } else { TaskAnswer::Rejected });
            if ends {
                // RFC 7143, 11.5.1: after TARGET COLD RESET the target "MUST terminate all of its TCP connections to
                // all initiators".
                return self.close(Why::Reset);
            }
        }
    }
}
