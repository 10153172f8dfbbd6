//! An operation on its way through one command or several.

use super::{
    Disk, NotTaken, Operation,
    command::Command,
    disk::{Holes, Question},
};
use bytes::Bytes;
use sansio::Time;

/// The longest write of zeros.
const ZEROS: usize = 256 << 10;

/// What a job is for.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    Caller(Operation),
    Probe(Question),
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) purpose: Purpose,
    /// Octets of a range that are behind us.
    progress: u64,
    /// Octets of the range that the last command covers.
    step: u64,
    /// How often it was sent.
    pub(super) sent: u32,
    /// How often the target put it off.
    pub(super) put_off: u32,
    /// It waits until then.
    pub(super) not_before: Option<Time>,
}

impl Job {
    pub(super) fn new(purpose: Purpose) -> Job {
        Job { purpose, progress: 0, step: 0, sent: 0, put_off: 0, not_before: None }
    }

    /// The next command; `None` if there is nothing to send and it is done.
    pub(super) fn command(&mut self, disk: &Disk, zeros: &mut Bytes) -> Option<Command> {
        let block = |offset: u64| offset / u64::from(disk.block_size.max(1));
        let blocks = |octets: u64| u32::try_from(block(octets)).unwrap_or(u32::MAX);
        let command = match &self.purpose {
            Purpose::Probe(question) => question.command(),
            Purpose::Caller(Operation::Read { offset, length }) => {
                Command::read(block(*offset), blocks((*length).into()), *length)
            }
            Purpose::Caller(Operation::Write { offset, data }) => {
                Command::write(block(*offset), blocks(data.len() as u64), data.clone())
            }
            Purpose::Caller(Operation::Zero { offset, length }) => {
                let from = offset + self.progress;
                let longest = match disk.holes {
                    Holes::Write => ZEROS as u64,
                    _ => u64::from(disk.longest_hole).saturating_mul(disk.block_size.into()),
                };
                self.step = (length - self.progress).min(longest.min(disk.longest(disk.holes)));
                if zeros.is_empty() {
                    *zeros = Bytes::from(vec![0; ZEROS]);
                }
                let pattern = |octets: usize| zeros.slice(..octets.min(ZEROS));
                let one = usize::try_from(disk.block_size).unwrap_or(ZEROS);
                match disk.holes {
                    Holes::Write => {
                        let octets = usize::try_from(self.step).unwrap_or(ZEROS);
                        Command::write(block(from), blocks(self.step), pattern(octets))
                    }
                    way => {
                        Command::write_same(block(from), blocks(self.step), way == Holes::Unmap, pattern(one))
                    }
                }
            }
            Purpose::Caller(Operation::Unmap { .. }) if !disk.unmaps => return None,
            Purpose::Caller(Operation::Unmap { offset, length }) => {
                let longest = u64::from(disk.longest_hole).saturating_mul(disk.block_size.into());
                self.step = (length - self.progress).min(longest);
                Command::unmap(block(offset + self.progress), blocks(self.step))
            }
            Purpose::Caller(Operation::Flush) => Command::synchronize_cache(),
            Purpose::Caller(Operation::Test) => Command::test_unit_ready(),
        };
        self.sent += 1;
        Some(command)
    }

    /// The last command was carried out; whether that was all.
    pub(super) fn advance(&mut self) -> bool {
        match &self.purpose {
            Purpose::Caller(Operation::Zero { length, .. } | Operation::Unmap { length, .. }) => {
                self.progress += self.step;
                (self.sent, self.put_off) = (0, 0);
                self.progress >= *length
            }
            _ => true,
        }
    }

    /// Octets that a read must bring.
    pub(super) fn expected(&self) -> u32 {
        match &self.purpose {
            Purpose::Caller(Operation::Read { length, .. }) => *length,
            _ => 0,
        }
    }

    /// Whether it makes zeros.
    pub(super) fn is_zero(&self) -> bool {
        matches!(self.purpose, Purpose::Caller(Operation::Zero { .. }))
    }
}

impl Disk {
    fn longest(&self, holes: Holes) -> u64 {
        if holes == Holes::Write { self.longest_transfer.into() } else { u64::MAX }
    }

    /// Whether an operation is one for this disk.
    pub(super) fn takes(&self, operation: &Operation) -> Result<(), NotTaken> {
        let (offset, length, longest) = match operation {
            Operation::Read { offset, length } => {
                (*offset, u64::from(*length), u64::from(self.longest_transfer))
            }
            Operation::Write { offset, data } => {
                (*offset, data.len() as u64, u64::from(self.longest_transfer))
            }
            Operation::Zero { offset, length } | Operation::Unmap { offset, length } => {
                (*offset, *length, u64::MAX)
            }
            Operation::Flush | Operation::Test => return Ok(()),
        };
        let size = u64::from(self.block_size.max(1));
        if length == 0 || offset % size != 0 || length % size != 0 {
            return Err(NotTaken::NotAligned);
        }
        if offset.checked_add(length).is_none_or(|end| end > self.size()) {
            return Err(NotTaken::PastTheEnd);
        }
        if length > longest { Err(NotTaken::TooLong) } else { Ok(()) }
    }
}
