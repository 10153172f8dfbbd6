//! Octets in, PDUs out: header, digests, padding, and where a data segment goes.

use super::{
    Connection, Job, Misbehaviour, TaskId,
    connection::State,
    task::{Sink, Stage},
};
use crate::pdu::{self, DIGEST, FromInitiator, HEADER, Header, Lengths, RejectReason, Tag};
use sansio::Time;

/// The most of a data segment before a login is done (RFC 7143, 13.13: the default of
/// MaxRecvDataSegmentLength).
const LOGIN_SEGMENT: usize = 8192;

/// The PDU that is coming.
pub(super) enum Intake {
    /// Its header, with everything before the data segment.
    Head(Vec<u8>),
    /// A data segment that is kept whole.
    Gather { header: Header, additional: Vec<u8>, data: Vec<u8>, need: usize },
    /// A data segment that goes where it belongs as it comes.
    Stream(Stream),
}

pub(super) struct Stream {
    task: Option<TaskId>,
    /// Where on the medium; else into the task's buffer.
    offset: Option<u64>,
    left: usize,
    /// What nobody wants: padding, and data beyond what is taken.
    skip: usize,
    end: Option<SegmentEnd>,
}

/// What the end of a data segment means for its task.
#[derive(Clone, Copy)]
pub(super) struct SegmentEnd {
    pub(super) task: TaskId,
    /// The F bit: the sequence ends.
    pub(super) last: bool,
    /// Of the R2T; none if unsolicited.
    pub(super) ttt: Tag,
}

/// Where a data segment goes.
pub(super) struct Route {
    pub(super) to: To,
    /// So many of its octets, the first; the others go nowhere.
    pub(super) take: usize,
    pub(super) end: Option<SegmentEnd>,
}

pub(super) enum To {
    Nowhere,
    Medium(TaskId, u64),
    Buffer(TaskId),
}

impl Route {
    pub(super) const NOWHERE: Route = Route { to: To::Nowhere, take: 0, end: None };
}

impl Default for Intake {
    fn default() -> Intake {
        Intake::Head(Vec::new())
    }
}

impl Intake {
    /// Where octets belong on a medium: task, offset, how many.
    pub(super) fn place(&self) -> Option<(TaskId, u64, usize)> {
        match self {
            Intake::Stream(Stream { task: Some(task), offset: Some(offset), left, .. }) if *left > 0 => {
                Some((*task, *offset, *left))
            }
            _ => None,
        }
    }

    pub(super) fn placed(&mut self, count: usize) {
        if let Intake::Stream(stream) = self {
            stream.left -= count.min(stream.left);
            stream.offset = stream.offset.map(|offset| offset + count as u64);
        }
    }

    /// A streamed segment is through.
    pub(super) fn is_done(&self) -> bool {
        matches!(self, Intake::Stream(Stream { left: 0, skip: 0, .. }))
    }

    /// How many octets must come before anything can be done.
    pub(super) fn missing(&self) -> usize {
        match self {
            Intake::Head(octets) => {
                let need = octets.first_chunk().map_or(HEADER, |header| head_length(header, false));
                need.saturating_sub(octets.len()).max(1)
            }
            Intake::Gather { data, need, .. } => need - data.len(),
            Intake::Stream(stream) => (stream.left + stream.skip).max(1),
        }
    }

    /// A task is no more: what still comes for it goes nowhere.
    pub(super) fn forget(&mut self, id: TaskId) {
        if let Intake::Stream(stream) = self {
            if stream.task == Some(id) {
                stream.skip += std::mem::take(&mut stream.left);
                stream.task = None;
            }
            stream.end = stream.end.filter(|end| end.task != id);
        }
    }
}

fn head_length(header: &Header, digest: bool) -> usize {
    HEADER + Lengths::of(header).additional + if digest { DIGEST } else { 0 }
}

impl<V> Connection<V> {
    /// Uses at least one octet of those that are there.
    pub(super) fn take(&mut self, octets: &[u8], now: Time) -> usize {
        match &mut self.intake {
            Intake::Head(_) => self.take_head(octets, now),
            Intake::Gather { data, need, .. } => {
                let count = octets.len().min(*need - data.len());
                data.extend_from_slice(&octets[..count]);
                if data.len() == *need {
                    self.gathered(now);
                }
                count
            }
            Intake::Stream(stream) => {
                let count = octets.len().min(stream.left);
                if count > 0 {
                    stream.left -= count;
                    if let Some(id) = stream.task {
                        self.fill(id, &octets[..count]);
                    }
                }
                let mut used = count;
                if let Intake::Stream(stream) = &mut self.intake {
                    let skipped = (octets.len() - used).min(stream.skip);
                    stream.skip -= skipped;
                    used += skipped;
                }
                if self.intake.is_done() {
                    self.end_segment(now);
                }
                used
            }
        }
    }

    fn fill(&mut self, id: TaskId, octets: &[u8]) {
        if let Some(task) = self.task_mut(id)
            && let Stage::Receiving(incoming) = &mut task.stage
            && let Sink::Compound(_, data) | Sink::List(_, data) | Sink::Waiting(_, data) = &mut incoming.sink
        {
            data.extend_from_slice(octets);
        }
    }

    fn take_head(&mut self, octets: &[u8], now: Time) -> usize {
        let digest = matches!(self.state, State::Full) && self.parameters.header_digest;
        let Intake::Head(buffer) = &mut self.intake else { return 0 };
        // Most headers come whole, and with nothing but data behind them.
        if buffer.is_empty()
            && let Some(header) = octets.first_chunk::<HEADER>()
            && head_length(header, digest) == HEADER
        {
            let header = *header;
            self.header(header, &[], now);
            return HEADER;
        }
        let need = match buffer.first_chunk::<HEADER>() {
            Some(header) => head_length(header, digest),
            None => HEADER,
        };
        let count = octets.len().min(need - buffer.len());
        buffer.extend_from_slice(&octets[..count]);
        let Some(header) = buffer.first_chunk::<HEADER>() else { return count };
        let whole = head_length(header, digest);
        if buffer.len() < whole {
            return count;
        }
        let (header, mut head) = (*header, std::mem::take(buffer));
        if digest {
            let sum = head.split_off(whole - DIGEST);
            if pdu::digest(&head) != *sum {
                // RFC 7143, 7.9: a header that cannot be trusted leaves no way to find the next one; at this
                // error recovery level the session ends.
                self.misbehaved(Misbehaviour::HeaderDigest);
                return count;
            }
        }
        self.header(header, &head[HEADER..], now);
        count
    }

    /// A header is whole.
    fn header(&mut self, header: Header, additional: &[u8], now: Time) {
        self.intake = Intake::default();
        let length = Lengths::of(&header).data;
        let full = matches!(self.state, State::Full);
        let most = if full { self.parameters.max_recv as usize } else { LOGIN_SEGMENT };
        if length > most {
            return self.misbehaved(Misbehaviour::TooLong(length, most));
        }
        let digest = full && self.parameters.data_digest;
        let tail = pdu::padding(length) + if digest && length > 0 { DIGEST } else { 0 };
        if length == 0 {
            self.dispatch(&header, additional, Vec::new(), now);
            return self.replay(now);
        }
        if full && !digest && self.may_stream(&header) {
            let route = self.route(&header, additional, length, now).unwrap_or(Route::NOWHERE);
            if matches!(self.state, State::Over) {
                return;
            }
            let (task, offset) = match route.to {
                To::Nowhere => (None, None),
                To::Medium(task, offset) => (Some(task), Some(offset)),
                To::Buffer(task) => (Some(task), None),
            };
            let left = if task.is_some() { route.take.min(length) } else { 0 };
            let skip = length - left + tail;
            self.intake = Intake::Stream(Stream { task, offset, left, skip, end: route.end });
            return;
        }
        self.intake =
            Intake::Gather { header, additional: additional.to_vec(), data: Vec::new(), need: length + tail };
    }

    /// A data segment that was kept is whole.
    fn gathered(&mut self, now: Time) {
        let Intake::Gather { header, additional, mut data, .. } = std::mem::take(&mut self.intake) else {
            return;
        };
        let length = Lengths::of(&header).data;
        if matches!(self.state, State::Full) && self.parameters.data_digest {
            let sum = data.split_off(data.len() - DIGEST);
            if pdu::digest(&data) != *sum {
                return self.bad_data(&header, now);
            }
        }
        data.truncate(length);
        self.dispatch(&header, &additional, data, now);
        self.replay(now);
    }

    /// RFC 7143, 7.8: "When a target receives any iSCSI PDU with a payload digest error, it MUST answer with a
    /// Reject PDU with a reason code of Data-Digest-Error and discard the PDU." Of a data PDU the task ends, once
    /// all that was asked for has come, with "Protocol Service CRC error".
    fn bad_data(&mut self, header: &Header, now: Time) {
        self.reject(header, RejectReason::DataDigest);
        if let Ok(FromInitiator::DataOut(data)) = FromInitiator::parse(header) {
            self.spoil(&data, now);
        }
    }

    /// Whether a data segment may go where it belongs before it is whole.
    fn may_stream(&self, header: &Header) -> bool {
        match FromInitiator::parse(header) {
            Ok(FromInitiator::DataOut(_)) => true,
            Ok(FromInitiator::Command(command)) => {
                command.immediate
                    || command.cmd_sn == self.exp_cmd_sn && command.cmd_sn.past(self.max_cmd_sn) <= 0
            }
            _ => false,
        }
    }

    /// Where the data segment of a Data-Out or a command goes; none: it is refused.
    fn route(&mut self, header: &Header, additional: &[u8], length: usize, now: Time) -> Option<Route> {
        match FromInitiator::parse(header) {
            Ok(FromInitiator::DataOut(data)) => Some(self.data_out(&data, length)),
            Ok(FromInitiator::Command(command)) => {
                if !command.immediate {
                    self.exp_cmd_sn = self.exp_cmd_sn.plus(1);
                }
                self.command(&command, header, additional, length, now)
            }
            _ => None,
        }
    }

    /// Data that were kept go where they belong.
    pub(super) fn feed(&mut self, route: Route, mut data: Vec<u8>, now: Time) {
        data.truncate(route.take);
        match route.to {
            To::Nowhere => {}
            To::Buffer(id) => self.fill(id, &data),
            To::Medium(id, offset) if !data.is_empty() => {
                self.unstored += data.len();
                if let Some(task) = self.task_mut(id)
                    && let Some(seat) = &task.seat
                {
                    let unit = seat.unit.clone();
                    task.jobs += 1;
                    self.jobs.push_back(Job::Store { task: id, unit, offset, data });
                }
            }
            To::Medium(..) => {}
        }
        if let Some(end) = route.end {
            self.segment_ended(end, now);
        }
    }

    /// A streamed segment is through, padding included.
    pub(super) fn end_segment(&mut self, now: Time) {
        let Intake::Stream(stream) = std::mem::take(&mut self.intake) else { return };
        if let Some(end) = stream.end {
            self.segment_ended(end, now);
        }
        self.replay(now);
    }
}
