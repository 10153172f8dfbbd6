//! Task attributes: what ORDERED tasks wait for, and what waits for them (SAM-5, 8.2).

use super::{
    Connection, TaskId,
    command::route,
    connection::BUDGET,
    intake::Route,
    task::{Incoming, Seat, Sink, Stage},
};
use crate::pdu::{Command, TaskAttribute};
use sansio::Time;
use scsi::{Response, Status};

impl<V> Connection<V> {
    /// Whether a command that comes now has to wait: it is ORDERED and others are under way, or it comes after one
    /// that is. HEAD OF QUEUE never waits.
    pub(super) fn must_wait(&self, seat: Option<&Seat<V>>, attribute: TaskAttribute) -> bool {
        let Some(seat) = seat else { return false };
        attribute != TaskAttribute::HeadOfQueue
            && self.tasks.iter().any(|task| {
                task.is_of(&seat.unit)
                    && !matches!(task.stage, Stage::Aborted)
                    && (task.ordered || attribute == TaskAttribute::Ordered)
            })
    }

    /// A command that waits: of its data only what comes unasked is kept.
    pub(super) fn waiting(&mut self, command: &Command) -> (Incoming, usize) {
        let most = self.parameters.first_burst.min(command.length);
        let total = if command.writes { most } else { 0 };
        let mut incoming = Incoming::new(Sink::Waiting(command.cdb, Vec::new()), total, total);
        let room = BUDGET - self.budget;
        if total as usize > room {
            incoming.fail(Response::status(Status::TaskSetFull));
            return (incoming, 0);
        }
        self.budget += total as usize;
        (incoming, total as usize)
    }

    /// A task ended: those that need not wait any more go on.
    pub(super) fn go_on(&mut self, now: Time) {
        while std::mem::take(&mut self.ended) {
            let mut waiting: Vec<TaskId> = Vec::new();
            for task in &self.tasks {
                if matches!(task.stage, Stage::Waiting(..)) && !self.is_held_up(task.id) {
                    waiting.push(task.id);
                }
            }
            waiting.sort();
            for id in waiting {
                self.take_up(id, now);
            }
        }
    }

    fn is_held_up(&self, id: TaskId) -> bool {
        let Some(own) = self.task(id) else { return false };
        let Some(seat) = &own.seat else { return false };
        let before = |task: &&super::task::Task<V>| task.id < id && task.is_of(&seat.unit);
        self.tasks
            .iter()
            .filter(before)
            .any(|task| !matches!(task.stage, Stage::Aborted) && (own.ordered || task.ordered))
    }

    fn take_up(&mut self, id: TaskId, now: Time) {
        let Some(at) = self.tasks.iter().position(|task| task.id == id) else { return };
        let task = &mut self.tasks[at];
        let Stage::Waiting(cdb, data) = std::mem::replace(&mut task.stage, Stage::Performing) else { return };
        let Some(seat) = task.seat.clone() else { return };
        self.budget -= std::mem::take(&mut task.budget);
        let data_out = if task.writes { task.expected } else { 0 };
        let step = seat.unit.logical().begin(seat.nexus, &cdb, data_out);
        self.step(at, step, now);
        let Some(task) = self.task_mut(id) else { return };
        let Stage::Receiving(incoming) = &mut task.stage else { return };
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        (incoming.next, incoming.asked) = (length, length);
        if incoming.failed.is_none() {
            let route = route(id, incoming, 0, length);
            self.feed(Route { end: None, ..route }, data, now);
        }
        if let Some(at) = self.tasks.iter().position(|task| task.id == id) {
            self.progress(at, now);
        }
    }
}
