//! What goes out: numbered when it goes, data read from the medium by the driver.

use super::{
    Connection, DataIn, Range, TaskId, Transmit,
    connection::Out,
    task::{Outgoing, Source, Stage},
};
use crate::pdu::{self, DIGEST, FromTarget, HEADER, Residual, Response, Sealed, Tag, Windows};
use bytes::Bytes;
use sansio::Time;
use scsi::{MediumError, Status};

/// The longest Data-In, whatever the initiator takes: a driver may have to hold one in memory.
pub const MOST_DATA_IN: u32 = 256 << 10;

/// What a task ends with, where its data could not carry it.
pub(super) fn response(itt: Tag, outgoing: &Outgoing) -> FromTarget {
    FromTarget::Response(Response {
        response: 0,
        status: outgoing.status as u8,
        itt,
        windows: Windows::default(),
        exp_data_sn: outgoing.data_sn,
        residual: outgoing.residual,
    })
}

/// RFC 7143, 11.4.7: sense data come behind their length.
pub(super) fn sense(sense: &[u8]) -> Bytes {
    if sense.is_empty() {
        return Bytes::new();
    }
    let length = u16::try_from(sense.len()).unwrap_or(u16::MAX);
    let mut data = length.to_be_bytes().to_vec();
    data.extend_from_slice(&sense[..usize::from(length)]);
    data.into()
}

impl<V> Connection<V> {
    /// What goes out next. Numbers are given here: what was polled is to be sent, in this order.
    pub fn poll_transmit(&mut self, now: Time) -> Option<Transmit<V>> {
        loop {
            if self.ended {
                let before = self.jobs.len();
                self.go_on(now);
                if self.jobs.len() > before {
                    // The driver may have looked for jobs already, and wait for the socket next.
                    self.alarm.wake();
                }
            }
            match self.out.pop_front()? {
                Out::Pdu(pdu, data) => return Some(self.emit(pdu, &data)),
                Out::Task(id) => {
                    if let Some(transmit) = self.emit_data(id) {
                        return Some(transmit);
                    }
                }
            }
        }
    }

    /// What the next transmit would read from a medium, if it would.
    pub fn peek_read(&self) -> Option<Range<V>> {
        let Out::Task(id) = self.out.front()? else { return None };
        let task = self.task(*id)?;
        let Stage::Sending(outgoing @ Outgoing { source: Source::Medium(transfer), .. }) = &task.stage else {
            return None;
        };
        Some(Range {
            unit: task.seat.as_ref()?.unit.clone(),
            task: *id,
            offset: transfer.offset + u64::from(outgoing.sent),
            length: self.segment(outgoing) as usize,
        })
    }

    /// Lets others go before the task of [`Connection::peek_read`]: its octets are not at hand.
    pub fn set_aside(&mut self, id: TaskId) {
        if let Some(Out::Task(front)) = self.out.front()
            && *front == id
            && let Some(task) = self.tasks.iter_mut().find(|task| task.id == id)
            && let Stage::Sending(outgoing) = std::mem::replace(&mut task.stage, Stage::Performing)
        {
            task.stage = Stage::Aside(outgoing);
            self.out.pop_front();
        }
    }

    /// They are at hand now. A task that was ended meanwhile is passed over.
    pub fn handle_ready(&mut self, id: TaskId) {
        if let Some(task) = self.task_mut(id)
            && let Stage::Aside(_) = &task.stage
            && let Stage::Aside(outgoing) = std::mem::replace(&mut task.stage, Stage::Performing)
        {
            task.stage = Stage::Sending(outgoing);
            self.queue(id);
        }
    }

    /// What to send instead of a Data-In whose octets could not be read; nothing of it may have been sent. Data-In
    /// PDUs of the same task that were polled already are to be handed in here too.
    pub fn failed(&mut self, data_in: &DataIn<V>, error: MediumError) -> Vec<u8> {
        if let Some(task) = self.tasks.iter_mut().find(|task| task.id == data_in.task)
            && let Stage::Sending(outgoing) = &mut task.stage
            && let Source::Medium(transfer) = &outgoing.source
        {
            let failure = transfer.failed(error);
            outgoing.status = failure.status;
            outgoing.sense = failure.sense;
            outgoing.length = outgoing.sent;
            outgoing.residual =
                if task.expected == 0 { Residual::None } else { Residual::Underflow(task.expected) };
            return Vec::new();
        }
        // The task is done, and its status was in this PDU: a response with the same number takes its place.
        let header = data_in.header.first_chunk::<HEADER>();
        let Some(Ok(FromTarget::DataIn(before))) = header.map(FromTarget::parse) else { return Vec::new() };
        if before.status.is_none() {
            return Vec::new();
        }
        let failure = data_in.transfer.failed(error);
        let data = sense(&failure.sense);
        let pdu = FromTarget::Response(Response {
            response: 0,
            status: failure.status as u8,
            itt: before.itt,
            windows: before.windows,
            exp_data_sn: before.data_sn,
            residual: Residual::None,
        });
        self.whole(&pdu, &data)
    }

    fn windows(&self) -> Windows {
        Windows { stat_sn: self.stat_sn, exp_cmd_sn: self.exp_cmd_sn, max_cmd_sn: self.max_cmd_sn }
    }

    /// Gives a PDU its numbers.
    fn number(&mut self, pdu: &mut FromTarget) {
        let windows = self.windows();
        let counts = match pdu {
            FromTarget::NopIn(p) => {
                p.windows = windows;
                // RFC 7143, 11.19.2: a ping of the target's own carries the next StatSN and uses none up.
                p.itt != Tag::NONE
            }
            FromTarget::Response(p) => {
                p.windows = windows;
                true
            }
            FromTarget::TaskResponse(p) => {
                p.windows = windows;
                true
            }
            FromTarget::Login(p) => {
                p.windows = windows;
                true
            }
            FromTarget::Text(p) => {
                p.windows = windows;
                true
            }
            FromTarget::DataIn(p) => {
                p.windows = windows;
                p.status.is_some()
            }
            FromTarget::Logout(p) => {
                p.windows = windows;
                true
            }
            // RFC 7143, 11.8.3: "StatSN ... is not advanced after this PDU is sent".
            FromTarget::R2t(p) => {
                p.windows = windows;
                false
            }
            FromTarget::Async(p) => {
                p.windows = windows;
                true
            }
            FromTarget::Reject(p) => {
                p.windows = windows;
                true
            }
        };
        if counts {
            self.stat_sn = self.stat_sn.plus(1);
        }
    }

    fn header_digest(&self, pdu: &FromTarget) -> bool {
        // RFC 7143, 13.1: digests begin with the full feature phase.
        self.parameters.header_digest && !matches!(pdu, FromTarget::Login(_))
    }

    fn emit(&mut self, mut pdu: FromTarget, data: &Bytes) -> Transmit<V> {
        self.number(&mut pdu);
        if data.is_empty() {
            return Transmit::Header(Sealed::new(pdu.emit(0), self.header_digest(&pdu)));
        }
        Transmit::Octets(self.whole(&pdu, data).into())
    }

    fn whole(&self, pdu: &FromTarget, data: &[u8]) -> Vec<u8> {
        let header = Sealed::new(pdu.emit(data.len()), self.header_digest(pdu));
        let mut octets = Vec::with_capacity(header.len() + data.len() + 3 + DIGEST);
        octets.extend_from_slice(&header);
        octets.extend_from_slice(data);
        octets.resize(octets.len() + pdu::padding(data.len()), 0);
        if self.parameters.data_digest && !data.is_empty() && !matches!(pdu, FromTarget::Login(_)) {
            octets.extend_from_slice(&pdu::data_digest(data));
        }
        octets
    }

    /// How much of a task's data goes into its next PDU.
    fn segment(&self, outgoing: &Outgoing) -> u32 {
        // Whole blocks wherever it is not the end.
        let most = (self.parameters.max_send.min(MOST_DATA_IN) & !511).max(512);
        let burst = self.parameters.max_burst.saturating_sub(outgoing.in_burst);
        (outgoing.length - outgoing.sent).min(most).min(burst.max(1))
    }

    fn emit_data(&mut self, id: TaskId) -> Option<Transmit<V>> {
        let at = self.tasks.iter().position(|task| task.id == id)?;
        let Stage::Sending(outgoing) = &self.tasks[at].stage else { return None };
        let length = self.segment(outgoing);
        let (max_burst, digest) = (self.parameters.max_burst, self.parameters.data_digest);
        let task = &mut self.tasks[at];
        let (itt, unit) = (task.itt, task.seat.as_ref().map(|seat| seat.unit.clone()));
        let Stage::Sending(outgoing) = &mut task.stage else { return None };
        if length == 0 {
            // Reading failed half-way.
            let (pdu, data) = (response(itt, outgoing), sense(&outgoing.sense));
            self.finish(at);
            return Some(self.emit(pdu, &data));
        }
        let from = outgoing.sent;
        outgoing.sent += length;
        outgoing.in_burst += length;
        let whole = outgoing.sent == outgoing.length;
        let ends = whole || outgoing.in_burst >= max_burst;
        if ends {
            outgoing.in_burst = 0;
        }
        // RFC 7143, 11.7.3: a good status may come with the last data.
        let collapsed = whole && outgoing.status == Status::Good;
        let mut pdu = FromTarget::DataIn(pdu::DataIn {
            last: ends,
            status: collapsed.then_some((Status::Good as u8, outgoing.residual)),
            lun: pdu::Lun(0),
            itt,
            ttt: Tag::NONE,
            windows: Windows::default(),
            data_sn: outgoing.data_sn,
            offset: from,
        });
        outgoing.data_sn = outgoing.data_sn.plus(1);
        let octets = match &outgoing.source {
            Source::Memory(octets) => Ok(octets.slice(from as usize..(from + length) as usize)),
            Source::Medium(transfer) => Err(*transfer),
        };
        if collapsed {
            self.finish(at);
        } else if whole {
            let (pdu, data) = (response(itt, outgoing), sense(&outgoing.sense));
            self.finish(at);
            self.out.push_front(Out::Pdu(pdu, data));
        } else {
            self.out.push_front(Out::Task(id));
        }
        match (octets, unit) {
            (Ok(octets), _) => Some(self.emit(pdu, &octets)),
            (Err(transfer), Some(unit)) => {
                self.number(&mut pdu);
                let header = Sealed::new(pdu.emit(length as usize), self.header_digest(&pdu));
                Some(Transmit::DataIn(DataIn {
                    header,
                    unit,
                    task: id,
                    offset: transfer.offset + u64::from(from),
                    length: length as usize,
                    padding: pdu::padding(length as usize),
                    digest,
                    transfer,
                }))
            }
            (Err(_), None) => None,
        }
    }
}
