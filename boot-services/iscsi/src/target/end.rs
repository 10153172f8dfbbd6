//! How tasks and connections end.

use super::{
    Closed, Connection, Event, Job, Misbehaviour, Why,
    connection::{Out, State},
    intake::Intake,
    targets::Token,
    task::{Stage, Task},
};
use std::sync::Arc;

impl<V> Connection<V> {
    pub(super) fn misbehaved(&mut self, how: Misbehaviour) {
        self.out.clear();
        self.close(Why::Misbehaved(how));
    }

    /// Ends everything but what is still to be sent.
    pub(super) fn close(&mut self, why: Why) {
        if matches!(self.state, State::Over) {
            return;
        }
        self.abort_tasks(None, |_| true);
        self.out.retain(|out| matches!(out, Out::Pdu(..)));
        self.state = State::Over;
        self.login_by = None;
        self.logout_by = None;
        self.held.clear();
        self.managements.clear();
        self.text = None;
        self.intake = Intake::default();
        if !self.told {
            self.told = true;
            self.events.push_back(Event::Closed(Closed {
                why,
                initiator: self.initiator.clone(),
                target: self.target.clone(),
            }));
        }
        self.retire();
    }

    /// Ends tasks without an answer. Who waits for them holds a token until their jobs are done.
    pub(super) fn abort_tasks(&mut self, token: Option<&Arc<Token>>, hit: impl Fn(&Task<V>) -> bool) {
        let mut at = 0;
        while at < self.tasks.len() {
            if !hit(&self.tasks[at]) {
                at += 1;
                continue;
            }
            let id = self.tasks[at].id;
            self.intake.forget(id);
            let before = self.jobs.len();
            let mut unstored = 0;
            self.jobs.retain(|job| {
                let (task, octets) = match job {
                    Job::Perform { task, .. } | Job::Flush { task, .. } | Job::Keep { task, .. } => {
                        (*task, 0)
                    }
                    Job::Store { task, data, .. } => (*task, data.len()),
                };
                if task == id {
                    unstored += octets;
                }
                task != id
            });
            self.unstored -= unstored;
            let dropped = u32::try_from(before - self.jobs.len()).unwrap_or(u32::MAX);
            let task = &mut self.tasks[at];
            task.jobs = task.jobs.saturating_sub(dropped);
            if task.jobs > 0 {
                task.stage = Stage::Aborted;
                task.tokens.extend(token.cloned());
                at += 1;
            } else {
                self.finish(at);
            }
        }
    }

    /// A task is no more.
    pub(super) fn finish(&mut self, at: usize) {
        let task = self.tasks.swap_remove(at);
        self.budget -= task.budget;
        self.ended = true;
        if task.numbered {
            self.max_cmd_sn = self.max_cmd_sn.plus(1);
        }
    }

    /// Once over, and without a job under way, it lets go of its session.
    pub(super) fn retire(&mut self) {
        if matches!(self.state, State::Over) && !self.left && self.tasks.is_empty() {
            self.left = true;
            for seat in self.seats.drain(..) {
                seat.unit.logical().detach(seat.nexus);
            }
            self.targets.leave(self.id);
        }
    }
}
