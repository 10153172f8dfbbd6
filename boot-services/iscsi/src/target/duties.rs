//! What a unit asks for before a command is answered: reservations kept, others' tasks ended.

use super::{
    Connection, Job, TaskId,
    targets::{Abort, Token},
    task::{Stage, Task},
};
use sansio::Time;
use scsi::{Duty, Response};

impl<V> Connection<V> {
    /// Does what is to be done before a response, one by one.
    pub(super) fn duties(&mut self, at: usize, now: Time) {
        let task = &mut self.tasks[at];
        let (id, Some(seat)) = (task.id, task.seat.clone()) else { return };
        let Stage::Duties(duties) = &mut task.stage else { return };
        if duties.gone.as_ref().is_some_and(|gone| !Self::is_gone(gone)) || task.jobs > 0 {
            return;
        }
        duties.gone = None;
        match duties.left.pop_front() {
            Some(Duty::Persist(octets)) => {
                task.jobs += 1;
                self.jobs.push_back(Job::Keep { task: id, unit: seat.unit, octets });
            }
            Some(Duty::Abort(nexuses)) => {
                let (token, gone) = Token::new(&self.alarm);
                duties.gone = Some(gone);
                let mine = nexuses.contains(&seat.nexus);
                let (unit, token) = (seat.unit.clone(), token);
                let abort = Abort { unit, nexuses: Some(nexuses), cleared_by: None, token };
                self.targets.abort(self.id, &abort);
                let token = abort.token;
                self.abort_tasks(Some(&token), |task| mine && task.id != id && task.is_of(&seat.unit));
                drop(token);
                if let Some(at) = self.tasks.iter().position(|task| task.id == id) {
                    self.duties(at, now);
                }
            }
            None => {
                let response = if duties.failed {
                    seat.unit.logical().unkept()
                } else {
                    std::mem::replace(&mut duties.response, Response::good())
                };
                let needed = task.needed;
                self.respond(at, response, needed, now);
            }
        }
    }

    /// Looks whether what commands wait for has come about.
    pub(super) fn duties_due(&mut self, now: Time) {
        let waits = |task: &&Task<V>| matches!(&task.stage, Stage::Duties(duties) if duties.gone.is_some());
        let waiting: Vec<TaskId> = self.tasks.iter().filter(waits).map(|task| task.id).collect();
        for id in waiting {
            if let Some(at) = self.tasks.iter().position(|task| task.id == id) {
                self.duties(at, now);
            }
        }
    }
}
