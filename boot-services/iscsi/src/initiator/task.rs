//! A command that the target has not answered yet.

use super::command::{Command, Data};
use crate::{
    keys::Parameters,
    pdu::{self, DataOut, FromInitiator, Lun, R2t, Serial, Tag, TaskAttribute},
};
use bytes::{Bytes, BytesMut};
use sansio::Time;
use std::{collections::VecDeque, time::Duration};

/// The most R2Ts of one command that may wait for us, whatever was agreed on.
const MOST_BURSTS: usize = 64;

/// How many times the patience a slow command is given.
const SLOW: u32 = 5;

/// Data that may be sent now.
#[derive(Clone, Debug)]
struct Burst {
    lun: Lun,
    ttt: Tag,
    offset: u32,
    end: u32,
    data_sn: u32,
}

#[derive(Debug)]
pub(super) struct Task {
    /// What the session's owner calls it.
    pub(super) key: u64,
    pub(super) itt: Tag,
    pub(super) command: Command,
    /// When the target last did something for it.
    pub(super) touched: Time,
    read: BytesMut,
    data_sn: u32,
    r2t_sn: u32,
    unsolicited: Option<Burst>,
    solicited: VecDeque<Burst>,
}

impl Task {
    pub(super) fn new(key: u64, itt: Tag, command: Command, now: Time) -> Task {
        let read = match command.data {
            Data::In(length) => BytesMut::with_capacity(usize::try_from(length).unwrap_or(0)),
            _ => BytesMut::new(),
        };
        Task {
            key,
            itt,
            command,
            touched: now,
            read,
            data_sn: 0,
            r2t_sn: 0,
            unsolicited: None,
            solicited: VecDeque::new(),
        }
    }

    /// When the target must have done something for it.
    pub(super) fn due(&self, patience: Duration) -> Time {
        self.touched + if self.command.is_slow() { patience.saturating_mul(SLOW) } else { patience }
    }

    /// The command's PDU and its immediate data; what follows unsolicited is set up.
    pub(super) fn begin(
        &mut self,
        parameters: &Parameters,
        lun: Lun,
        sequence: (Serial, Serial),
    ) -> (FromInitiator, Bytes) {
        let (cmd_sn, exp_stat_sn) = sequence;
        let length = self.command.length();
        let (mut immediate, mut unsolicited) = (0, 0);
        if matches!(self.command.data, Data::Out(_)) {
            let first = length.min(parameters.first_burst);
            immediate = if parameters.immediate_data { first.min(parameters.max_send) } else { 0 };
            unsolicited = if parameters.initial_r2t { immediate } else { first };
        }
        if unsolicited > immediate {
            let burst = Burst { lun, ttt: Tag::NONE, offset: immediate, end: unsolicited, data_sn: 0 };
            self.unsolicited = Some(burst);
        }
        let command = pdu::Command {
            immediate: false,
            last: self.unsolicited.is_none(),
            reads: matches!(self.command.data, Data::In(_)),
            writes: matches!(self.command.data, Data::Out(_)),
            attribute: TaskAttribute::Simple,
            lun,
            itt: self.itt,
            length,
            cmd_sn,
            exp_stat_sn,
            cdb: self.command.cdb,
        };
        (FromInitiator::Command(command), self.slice(0, immediate))
    }

    /// The next PDU of data that the target did not have to ask for.
    pub(super) fn next_unsolicited(
        &mut self,
        longest: u32,
        exp_stat_sn: Serial,
    ) -> Option<(FromInitiator, Bytes)> {
        let burst = self.unsolicited.as_mut()?;
        let sent = next(burst, self.itt, longest, exp_stat_sn);
        if burst.offset == burst.end {
            self.unsolicited = None;
        }
        Some(self.filled(sent))
    }

    /// The next PDU of data that it asked for.
    pub(super) fn next_solicited(
        &mut self,
        longest: u32,
        exp_stat_sn: Serial,
    ) -> Option<(FromInitiator, Bytes)> {
        let burst = self.solicited.front_mut()?;
        let sent = next(burst, self.itt, longest, exp_stat_sn);
        if burst.offset == burst.end {
            self.solicited.pop_front();
        }
        Some(self.filled(sent))
    }

    fn filled(&self, (pdu, from, to): (DataOut, u32, u32)) -> (FromInitiator, Bytes) {
        (FromInitiator::DataOut(pdu), self.slice(from, to))
    }

    fn slice(&self, from: u32, to: u32) -> Bytes {
        let index = |at: u32| usize::try_from(at).unwrap_or(usize::MAX);
        match &self.command.data {
            Data::Out(data) => data.slice(index(from).min(data.len())..index(to).min(data.len())),
            _ => Bytes::new(),
        }
    }

    /// The target asks for data.
    pub(super) fn handle_r2t(
        &mut self,
        r2t: &R2t,
        parameters: &Parameters,
        now: Time,
    ) -> Result<(), &'static str> {
        let end = r2t.offset.checked_add(r2t.length).filter(|end| *end <= self.command.length());
        let (Data::Out(_), Some(end)) = (&self.command.data, end) else {
            return Err("it asks for data that there are not");
        };
        // RFC 7143, 11.8: the desired length is not 0 and not more than MaxBurstLength; R2TSN counts.
        if r2t.length == 0 || r2t.length > parameters.max_burst || r2t.r2t_sn != Serial(self.r2t_sn) {
            return Err("its R2T is out of bounds or out of order");
        }
        if self.solicited.len() >= MOST_BURSTS.min(parameters.max_outstanding_r2t.into()) {
            return Err("it has more R2Ts open than was agreed on");
        }
        self.r2t_sn = self.r2t_sn.wrapping_add(1);
        self.touched = now;
        self.solicited.push_back(Burst { lun: r2t.lun, ttt: r2t.ttt, offset: r2t.offset, end, data_sn: 0 });
        Ok(())
    }

    /// A Data-In PDU begins; its data come by [`Task::take`].
    pub(super) fn handle_data_in(
        &mut self,
        data_in: &pdu::DataIn,
        length: usize,
        now: Time,
    ) -> Result<(), &'static str> {
        let Data::In(expected) = self.command.data else {
            return Err("it sends data that were not asked for");
        };
        let have = u32::try_from(self.read.len()).unwrap_or(u32::MAX);
        // DataPDUInOrder and DataSequenceInOrder are Yes.
        if data_in.data_sn != Serial(self.data_sn) || data_in.offset != have && length > 0 {
            return Err("its data are out of order");
        }
        if u64::from(have) + length as u64 > u64::from(expected) {
            return Err("it sends more data than were asked for");
        }
        self.data_sn = self.data_sn.wrapping_add(1);
        self.touched = now;
        Ok(())
    }

    pub(super) fn take(&mut self, data: &[u8]) {
        self.read.extend_from_slice(data);
    }

    /// What was read.
    pub(super) fn into_data(self) -> Bytes {
        self.read.freeze()
    }
}

/// The next PDU of a burst, and from where to where its data go.
fn next(burst: &mut Burst, itt: Tag, longest: u32, exp_stat_sn: Serial) -> (DataOut, u32, u32) {
    let from = burst.offset;
    let to = burst.end.min(from.saturating_add(longest));
    let pdu = DataOut {
        last: to == burst.end,
        lun: burst.lun,
        itt,
        ttt: burst.ttt,
        exp_stat_sn,
        data_sn: Serial(burst.data_sn),
        offset: from,
    };
    burst.offset = to;
    burst.data_sn = burst.data_sn.wrapping_add(1);
    (pdu, from, to)
}
