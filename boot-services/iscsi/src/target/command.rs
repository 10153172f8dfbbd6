//! SCSI commands, and the data that come for them.

use super::{
    Connection, Done, Job, Misbehaviour, TaskId,
    connection::{BUDGET, MOST_IMMEDIATE, Out},
    intake::{Route, SegmentEnd, To},
    task::{Burst, Duties, Incoming, Outgoing, Sink, Source, Stage, Task},
};
use crate::{
    keys::SessionType,
    pdu::{
        Additional, Command, DataOut, FromTarget, Header, R2t, RejectReason, Serial, Tag, TaskAttribute,
        Windows, parse_additional,
    },
};
use sansio::Time;
use scsi::{Response, Sense, SenseFormat, SenseKey, Status, Step, Work};

/// RFC 7143, 11.4.7.2, the conditions that iSCSI itself reports.
const UNEXPECTED_DATA: Sense = Sense::new(SenseKey::AbortedCommand, 0x0c, 0x0c);
const INCORRECT_AMOUNT: Sense = Sense::new(SenseKey::AbortedCommand, 0x0c, 0x0d);
const PROTOCOL_SERVICE_CRC: Sense = Sense::new(SenseKey::AbortedCommand, 0x47, 0x05);
/// INVALID FIELD IN COMMAND INFORMATION UNIT: a part of a block cannot be written.
const PART_OF_A_BLOCK: Sense = Sense::new(SenseKey::IllegalRequest, 0x0e, 0x03);

fn check(sense: &Sense) -> Response {
    Response::check(sense, SenseFormat::Fixed)
}

fn octets(length: u64) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

impl<V> Connection<V> {
    /// Begins a command whose turn it is; gives where its immediate data go. None: it was rejected.
    pub(super) fn command(
        &mut self,
        command: &Command,
        header: &Header,
        additional: &[u8],
        length: usize,
        now: Time,
    ) -> Option<Route> {
        if let Some(reason) = self.objection(command, length) {
            if !command.immediate {
                self.max_cmd_sn = self.max_cmd_sn.plus(1);
            }
            self.reject(header, reason);
            return None;
        }
        let more = match parse_additional(additional) {
            Ok(more) => more,
            Err(malformed) => {
                self.misbehaved(Misbehaviour::Header(malformed));
                return None;
            }
        };
        self.rejects = 0;
        self.last_task += 1;
        let id = TaskId(self.last_task);
        let lun = scsi::Lun::parse(command.lun.0.to_be_bytes());
        let seat = self.seats.iter().find(|seat| Some(seat.lun) == lun).cloned();
        let waits = self.must_wait(seat.as_ref(), command.attribute);
        let task = Task {
            id,
            itt: command.itt,
            lun: command.lun,
            seat,
            ordered: command.attribute == TaskAttribute::Ordered,
            numbered: !command.immediate,
            expected: if command.reads || command.writes { command.length } else { 0 },
            reads: command.reads,
            writes: command.writes,
            needed: 0,
            budget: 0,
            stage: Stage::Performing,
            jobs: 0,
            tokens: Vec::new(),
        };
        if waits && more.is_empty() {
            let (incoming, budget) = self.waiting(command);
            self.tasks.push(Task { stage: Stage::Receiving(incoming), budget, ..task });
            return Some(self.immediate_data(id, command, length, now));
        }
        let extended = more.iter().any(|more| matches!(more, Additional::ExtendedCdb(_)));
        let step = match &task.seat {
            // Bidirectional commands and CDBs of more than sixteen octets are none of a block device's.
            _ if extended => Step::Done(check(&Sense::INVALID_OPERATION_CODE)),
            _ if command.reads && command.writes => Step::Done(check(&Sense::INVALID_FIELD_IN_CDB)),
            Some(seat) => {
                let data_out = if command.writes { command.length } else { 0 };
                seat.unit.logical().begin(seat.nexus, &command.cdb, data_out)
            }
            None => {
                let inventory: Vec<scsi::Lun> = self.seats.iter().map(|seat| seat.lun).collect();
                Step::Done(scsi::absent(&command.cdb, &inventory))
            }
        };
        self.tasks.push(task);
        self.step(self.tasks.len() - 1, step, now);
        Some(self.immediate_data(id, command, length, now))
    }

    /// Why a command is not even begun.
    fn objection(&self, command: &Command, length: usize) -> Option<RejectReason> {
        if self.parameters.session == SessionType::Discovery {
            return Some(RejectReason::NotSupported);
        }
        // RFC 7143, 11.2.1.8: tags in use "MUST be unique".
        if self.tasks.iter().any(|task| task.itt == command.itt && !matches!(task.stage, Stage::Aborted)) {
            return Some(RejectReason::TaskInProgress);
        }
        let immediate = self.tasks.iter().filter(|task| !task.numbered).count();
        if command.immediate && immediate >= MOST_IMMEDIATE {
            return Some(RejectReason::ImmediateCommand);
        }
        if command.itt == Tag::NONE || length > 0 && !command.writes {
            return Some(RejectReason::InvalidField);
        }
        None
    }

    /// What a command, or its parameter list, led to.
    pub(super) fn step(&mut self, at: usize, step: Step, now: Time) {
        let task = &mut self.tasks[at];
        let (needed, sink) = match step {
            Step::Done(response) => return self.respond(at, response, 0, now),
            Step::Work(Work::Read(transfer)) => {
                let needed = octets(transfer.length);
                let length = if task.reads { needed.min(task.expected) } else { 0 };
                let residual = if task.writes { task.residual(0) } else { task.residual(needed) };
                let outgoing = Outgoing {
                    source: Source::Medium(transfer),
                    length,
                    sent: 0,
                    data_sn: Serial(0),
                    in_burst: 0,
                    status: Status::Good,
                    sense: Vec::new(),
                    residual,
                };
                return self.send(at, outgoing);
            }
            Step::Work(Work::Write(transfer)) => (octets(transfer.length), Sink::Medium(transfer)),
            Step::Work(Work::Compound(compound)) if compound.data_out() == 0 => {
                return self.perform(at, compound, Vec::new());
            }
            Step::Work(Work::Compound(compound)) => {
                (octets(compound.data_out()), Sink::Compound(compound, Vec::new()))
            }
            Step::Wants(wants) => (wants.data_out, Sink::List(wants, Vec::new())),
        };
        let total = if task.writes { needed.min(task.expected) } else { 0 };
        let mut incoming = Incoming::new(sink, needed, total);
        if let Sink::Medium(_) = &incoming.sink {
            if !total.is_multiple_of(512) {
                incoming.fail(check(&PART_OF_A_BLOCK));
            }
        } else if total as usize > BUDGET {
            incoming.fail(check(&Sense::INVALID_FIELD_IN_CDB));
        } else if total as usize > BUDGET - self.budget {
            incoming.fail(Response::status(Status::TaskSetFull));
        } else {
            task.budget = total as usize;
            self.budget += task.budget;
        }
        task.stage = Stage::Receiving(incoming);
    }

    /// Where data that come with the command go.
    fn immediate_data(&mut self, id: TaskId, command: &Command, length: usize, now: Time) -> Route {
        let (immediate_data, initial_r2t) = (self.parameters.immediate_data, self.parameters.initial_r2t);
        let first_burst = self.parameters.first_burst;
        let end = Some(SegmentEnd { task: id, last: command.last, ttt: Tag::NONE });
        let Some(task) = self.task_mut(id) else { return Route::NOWHERE };
        let expected = task.expected;
        let Stage::Receiving(incoming) = &mut task.stage else { return Route::NOWHERE };
        let total = incoming.total;
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        if length > 0 && (!immediate_data || length > first_burst.min(expected)) {
            incoming.fail(check(&UNEXPECTED_DATA));
        }
        if !command.last && command.writes {
            if initial_r2t {
                incoming.fail(check(&UNEXPECTED_DATA));
            }
            incoming.unsolicited = Some(Serial(0));
        }
        if incoming.failed.is_some() {
            return Route { end, ..Route::NOWHERE };
        }
        let from = incoming.next;
        incoming.next = length;
        let route = route(id, incoming, from, length);
        // What comes after these data is asked for while they are still on their way.
        if length > 0 && incoming.unsolicited.is_none() && matches!(incoming.sink, Sink::Medium(_)) {
            incoming.asked = length;
            if let Some(at) = self.tasks.iter().position(|task| task.id == id).filter(|_| length < total) {
                self.progress(at, now);
            }
        }
        Route { end, ..route }
    }

    /// Where the data of a Data-Out go. Those for no task are what was under way when it ended.
    pub(super) fn data_out(&mut self, data: &DataOut, length: usize) -> Route {
        let first_burst = self.parameters.first_burst;
        let Some(task) = self.tasks.iter_mut().find(|task| task.itt == data.itt) else {
            return Route::NOWHERE;
        };
        let (id, limit) = (task.id, first_burst.min(task.expected));
        let Stage::Receiving(incoming) = &mut task.stage else { return Route::NOWHERE };
        let end = Some(SegmentEnd { task: id, last: data.last, ttt: data.ttt });
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let (awaited, most) = if data.ttt == Tag::NONE {
            (incoming.unsolicited.as_mut(), limit)
        } else {
            match incoming.bursts.front_mut() {
                // RFC 7143, 13.20: with DataSequenceInOrder, R2Ts are answered in their order.
                Some(burst) if burst.ttt == data.ttt => (Some(&mut burst.data_sn), burst.end),
                _ => (None, 0),
            }
        };
        let trouble = match awaited {
            None if data.ttt == Tag::NONE => Some(UNEXPECTED_DATA),
            None => Some(PROTOCOL_SERVICE_CRC),
            // RFC 7143, 7.8: a DataSN out of order means that a PDU was lost; without error recovery the task
            // ends as it would after a wrong digest.
            Some(awaited) if *awaited != data.data_sn || data.offset != incoming.next => {
                Some(PROTOCOL_SERVICE_CRC)
            }
            Some(_) if length > most.saturating_sub(data.offset) => Some(INCORRECT_AMOUNT),
            Some(awaited) => {
                *awaited = awaited.plus(1);
                None
            }
        };
        if let Some(sense) = trouble {
            incoming.fail(check(&sense));
        }
        if incoming.failed.is_some() {
            return Route { end, ..Route::NOWHERE };
        }
        let from = incoming.next;
        incoming.next += length;
        let route = route(id, incoming, from, length);
        Route { end, ..route }
    }

    /// A Data-Out whose data cannot be trusted.
    pub(super) fn spoil(&mut self, data: &DataOut, now: Time) {
        let Some(task) = self.tasks.iter_mut().find(|task| task.itt == data.itt) else { return };
        let id = task.id;
        if let Stage::Receiving(incoming) = &mut task.stage {
            incoming.fail(check(&PROTOCOL_SERVICE_CRC));
            self.segment_ended(SegmentEnd { task: id, last: data.last, ttt: data.ttt }, now);
        }
    }

    /// A data segment has gone where it belonged.
    pub(super) fn segment_ended(&mut self, end: SegmentEnd, now: Time) {
        let first_burst = self.parameters.first_burst;
        let Some(at) = self.tasks.iter().position(|task| task.id == end.task) else { return };
        let task = &mut self.tasks[at];
        let Stage::Receiving(incoming) = &mut task.stage else { return };
        if end.last && end.ttt == Tag::NONE {
            // RFC 7143, 11.4.7.2: "The target reports the "Incorrect amount of data" condition if, during data
            // output, the total data length to output is greater than FirstBurstLength and the initiator sent
            // unsolicited non-immediate data but the total amount of unsolicited data is different than
            // FirstBurstLength."
            let sent_any = incoming.unsolicited.take().is_some();
            if sent_any && incoming.next != first_burst.min(task.expected) {
                incoming.fail(check(&INCORRECT_AMOUNT));
            }
            incoming.asked = incoming.asked.max(incoming.next);
        } else if end.last {
            let closed = incoming.bursts.iter().position(|burst| burst.ttt == end.ttt);
            if let Some(burst) = closed.and_then(|at| incoming.bursts.remove(at)) {
                // "The target reports the same error when the amount of data sent as a reply to an R2T does not
                // match the amount requested."
                if burst.end != incoming.next {
                    incoming.fail(check(&INCORRECT_AMOUNT));
                }
            }
        }
        self.progress(at, now);
    }

    /// Asks for more data, or goes on when all have come.
    pub(super) fn progress(&mut self, at: usize, now: Time) {
        let (max_burst, most_open) =
            (self.parameters.max_burst, usize::from(self.parameters.max_outstanding_r2t));
        let mut wanted = Vec::new();
        let mut last_ttt = self.last_ttt;
        let task = &mut self.tasks[at];
        let Stage::Receiving(incoming) = &mut task.stage else { return };
        if incoming.unsolicited.is_none() && incoming.failed.is_none() && !incoming.is_waiting() {
            while incoming.asked < incoming.total && incoming.bursts.len() < most_open {
                let length = max_burst.min(incoming.total - incoming.asked);
                last_ttt = if last_ttt >= u32::MAX - 1 { 1 } else { last_ttt + 1 };
                let burst = Burst { ttt: Tag(last_ttt), end: incoming.asked + length, data_sn: Serial(0) };
                wanted.push(R2t {
                    lun: task.lun,
                    itt: task.itt,
                    ttt: burst.ttt,
                    windows: Windows::default(),
                    r2t_sn: incoming.r2t_sn,
                    offset: incoming.asked,
                    length,
                });
                incoming.bursts.push_back(burst);
                incoming.r2t_sn = incoming.r2t_sn.plus(1);
                incoming.asked += length;
            }
        }
        let complete = incoming.is_complete() && task.jobs == 0;
        self.last_ttt = last_ttt;
        for r2t in wanted {
            self.say(FromTarget::R2t(r2t));
        }
        if complete {
            self.received(at, now);
        }
    }

    /// All data of a command are here.
    fn received(&mut self, at: usize, now: Time) {
        let task = &mut self.tasks[at];
        let Stage::Receiving(incoming) = std::mem::replace(&mut task.stage, Stage::Performing) else {
            return;
        };
        if let Some(response) = incoming.failed {
            return self.respond(at, response, incoming.needed, now);
        }
        match incoming.sink {
            Sink::Medium(transfer) if transfer.fua && incoming.total > 0 => {
                let (id, unit) = (task.id, task.seat.as_ref().map(|seat| seat.unit.clone()));
                let Some(unit) = unit else { return };
                task.jobs += 1;
                task.stage = Stage::Flushing(transfer);
                self.jobs.push_back(Job::Flush { task: id, unit });
            }
            Sink::Medium(_) => self.respond(at, Response::good(), incoming.needed, now),
            Sink::Waiting(cdb, data) => {
                task.stage = Stage::Waiting(cdb, data);
                self.ended = true;
                self.go_on(now);
            }
            Sink::Compound(compound, data) => {
                task.needed = incoming.needed;
                self.perform(at, compound, data);
            }
            Sink::List(wants, list) => {
                task.needed = incoming.needed;
                let Some(seat) = &task.seat else { return };
                let step = seat.unit.logical().finish(seat.nexus, wants, &list);
                self.finish_list(at, step, now);
            }
        }
    }

    /// What a parameter list led to; data have come already.
    fn finish_list(&mut self, at: usize, step: Step, now: Time) {
        match step {
            Step::Done(response) => {
                let needed = self.tasks[at].needed;
                self.respond(at, response, needed, now);
            }
            Step::Work(Work::Compound(compound)) => self.perform(at, compound, Vec::new()),
            other => self.step(at, other, now),
        }
    }

    fn perform(&mut self, at: usize, compound: scsi::Compound, data: Vec<u8>) {
        let task = &mut self.tasks[at];
        let Some(seat) = &task.seat else { return };
        let unit = seat.unit.clone();
        task.jobs += 1;
        task.stage = Stage::Performing;
        self.jobs.push_back(Job::Perform { task: task.id, unit, work: compound, data });
    }

    pub(super) fn job_done(&mut self, id: TaskId, done: Done, now: Time) {
        let Some(at) = self.tasks.iter().position(|task| task.id == id) else { return };
        let task = &mut self.tasks[at];
        if task.jobs == 0 {
            return;
        }
        task.jobs -= 1;
        match (&mut task.stage, done) {
            (Stage::Aborted, _) if task.jobs == 0 => self.finish(at),
            (Stage::Receiving(incoming), Done::Medium(result)) => {
                if let Err(error) = result {
                    incoming.fail_medium(error);
                }
                self.progress(at, now);
            }
            (Stage::Performing, Done::Response(response)) => {
                let needed = task.needed;
                self.respond(at, response, needed, now);
            }
            (Stage::Flushing(transfer), Done::Medium(result)) => {
                let response = result.map_or_else(|error| transfer.failed(error), |()| Response::good());
                let needed = octets(transfer.length);
                self.respond(at, response, needed, now);
            }
            (Stage::Duties(duties), Done::Medium(result)) => {
                if result.is_err() {
                    duties.failed = true;
                }
                self.duties(at, now);
            }
            _ => {}
        }
    }

    /// A command has its response. `needed` is what it would have taken of data-out.
    pub(super) fn respond(&mut self, at: usize, mut response: Response, needed: u32, now: Time) {
        let task = &mut self.tasks[at];
        if !response.first.is_empty() {
            let left = std::mem::take(&mut response.first).into();
            task.needed = needed;
            task.stage = Stage::Duties(Duties { response, left, gone: None, failed: false });
            return self.duties(at, now);
        }
        let has = octets(response.data_in.len() as u64);
        let residual = if task.writes { task.residual(needed) } else { task.residual(has) };
        let length = if task.reads { has.min(task.expected) } else { 0 };
        self.send(
            at,
            Outgoing {
                source: Source::Memory(response.data_in.into()),
                length,
                sent: 0,
                data_sn: Serial(0),
                in_burst: 0,
                status: response.status,
                sense: response.sense,
                residual,
            },
        );
    }

    /// Sends what there is of data and the status.
    fn send(&mut self, at: usize, outgoing: Outgoing) {
        let task = &mut self.tasks[at];
        if outgoing.length > 0 {
            let id = task.id;
            task.stage = Stage::Sending(outgoing);
            return self.queue(id);
        }
        let response = super::answer::response(task.itt, &outgoing);
        self.out.push_back(Out::Pdu(response, super::answer::sense(&outgoing.sense)));
        self.finish(at);
    }
}

/// The part of a segment that the command needs, and where it goes.
pub(super) fn route(id: TaskId, incoming: &Incoming, from: u32, length: u32) -> Route {
    let take = incoming.total.saturating_sub(from).min(length) as usize;
    let to = match &incoming.sink {
        Sink::Medium(transfer) => To::Medium(id, transfer.offset + u64::from(from)),
        Sink::Compound(..) | Sink::List(..) | Sink::Waiting(..) => To::Buffer(id),
    };
    Route { to, take, end: None }
}
