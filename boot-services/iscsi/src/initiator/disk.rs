//! What is on the other side: asked after each login, before anything else.

use super::{Sense, command::Command, sense::number};

/// A disk that a target exports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Of the standard INQUIRY data, in octets.
    pub block_size: u32,
    /// How many blocks.
    pub blocks: u64,
    /// T10 vendor identification, product and revision as they came, trimmed.
    pub name: String,
    /// Unit serial number, if it has one.
    pub serial: String,
    /// The longest READ or WRITE, in octets; a multiple of the block size.
    pub longest_transfer: u32,
    /// What a hole is made with.
    pub(super) holes: Holes,
    /// The most blocks of one WRITE SAME or UNMAP.
    pub(super) longest_hole: u32,
    /// UNMAP is there.
    pub(super) unmaps: bool,
    designators: Vec<u8>,
}

impl Disk {
    /// Octets.
    pub fn size(&self) -> u64 {
        self.blocks.saturating_mul(self.block_size.into())
    }

    /// Whether making a hole costs the target less than writing zeros.
    pub fn makes_holes(&self) -> bool {
        self.holes == Holes::Unmap
    }

    /// Whether `other`, seen after a reconnection, is this disk.
    pub(super) fn is(&self, other: &Disk) -> bool {
        let id = |disk: &Disk| (disk.block_size, disk.blocks, disk.serial.clone(), disk.designators.clone());
        id(self) == id(other)
    }
}

/// How blocks become zeros, the best that the target has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Holes {
    /// WRITE SAME(16) with UNMAP.
    Unmap,
    /// WRITE SAME(16).
    #[default]
    Same,
    /// WRITE(16).
    Write,
}

/// The longest transfer that we make, in octets, whatever the target would take.
const MOST_TRANSFER: u32 = 4 << 20;
/// The most of one WRITE SAME or UNMAP where the target names no limit: it has to answer within the patience.
const MOST_HOLE: u64 = 256 << 20;

/// The questions, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Ready,
    Standard,
    Pages,
    Serial,
    Designators,
    Limits,
    Provisioning,
    Capacity16,
    Capacity10,
}

/// The asking.
#[derive(Clone, Debug, Default)]
pub(super) struct Probe {
    disk: Disk,
    pages: Vec<u8>,
    limits: Limits,
    unmap_by_same: bool,
}

/// Of VPD page B0, in blocks; 0: not said.
#[derive(Clone, Copy, Debug, Default)]
struct Limits {
    transfer: u64,
    unmap: u64,
    same: u64,
}

/// What is to be asked next, or what is known when all was.
pub(super) enum Next {
    Ask(Question),
    Known(Box<Disk>),
    /// It is no disk we can use.
    Unfit(String),
}

impl Question {
    pub(super) fn command(self) -> Command {
        match self {
            Question::Ready => Command::test_unit_ready(),
            Question::Standard => Command::inquiry(None),
            Question::Pages => Command::inquiry(Some(0)),
            Question::Serial => Command::inquiry(Some(0x80)),
            Question::Designators => Command::inquiry(Some(0x83)),
            Question::Limits => Command::inquiry(Some(0xb0)),
            Question::Provisioning => Command::inquiry(Some(0xb2)),
            Question::Capacity16 => Command::read_capacity_16(),
            Question::Capacity10 => Command::read_capacity_10(),
        }
    }

    /// The VPD page it asks for.
    fn page(self) -> Option<u8> {
        match self {
            Question::Serial => Some(0x80),
            Question::Designators => Some(0x83),
            Question::Limits => Some(0xb0),
            Question::Provisioning => Some(0xb2),
            _ => None,
        }
    }
}

impl Probe {
    /// Takes an answer: data, or why there are none.
    pub(super) fn handle(&mut self, question: Question, answer: Result<&[u8], Option<Sense>>) -> Next {
        let refused = |sense: Option<Sense>| match sense {
            Some(sense) => Next::Unfit(format!("the disk answers {sense}")),
            None => Next::Unfit("the disk refuses without sense data".to_owned()),
        };
        match (question, answer) {
            (Question::Ready, Ok(_)) => Next::Ask(Question::Standard),
            (Question::Standard, Ok(data)) => self.standard(data),
            (Question::Capacity16, Ok(data)) if data.len() >= 12 => {
                self.capacity(number(&data[..8]), number(&data[8..12]))
            }
            (Question::Capacity10, Ok(data)) if data.len() >= 8 => {
                self.capacity(number(&data[..4]), number(&data[4..8]))
            }
            (Question::Capacity16, Err(_)) => Next::Ask(Question::Capacity10),
            (Question::Capacity16 | Question::Capacity10, Ok(_)) => {
                Next::Unfit("the disk's capacity is cut short".to_owned())
            }
            (Question::Ready | Question::Standard | Question::Capacity10, Err(sense)) => refused(sense),
            (question, answer) => {
                if let Ok([_, page, high, low, body @ ..]) = answer {
                    let length = usize::from(u16::from_be_bytes([*high, *low])).min(body.len());
                    self.page(*page, &body[..length]);
                }
                self.after(question)
            }
        }
    }

    fn standard(&mut self, data: &[u8]) -> Next {
        match data.first() {
            Some(0) => {}
            Some(0x7f | 0x3f) => return Next::Unfit("there is no such LUN at the target".to_owned()),
            Some(kind) => return Next::Unfit(format!("the LUN is no disk but of type {:#04x}", kind & 0x1f)),
            None => return Next::Unfit("the INQUIRY data are empty".to_owned()),
        }
        let text = data.get(8..36).unwrap_or_default();
        self.disk.name = printable(text);
        Next::Ask(Question::Pages)
    }

    fn page(&mut self, page: u8, body: &[u8]) {
        let field = |at: usize, length: usize| body.get(at..at + length).map_or(0, number);
        match page {
            0x00 => self.pages = body.to_vec(),
            0x80 => self.disk.serial = printable(body),
            0x83 => self.disk.designators = body.to_vec(),
            // SBC-4, 6.6.4; offsets are less by the four octets of the page's head.
            0xb0 => self.limits = Limits { transfer: field(4, 4), unmap: field(16, 4), same: field(32, 8) },
            // SBC-4, 6.6.6: LBPU, LBPWS.
            0xb2 => {
                let bits = field(1, 1);
                self.disk.unmaps = bits & 0x80 != 0;
                self.unmap_by_same = bits & 0x40 != 0;
            }
            _ => {}
        }
    }

    /// The next question of those about pages that the disk has.
    fn after(&self, question: Question) -> Next {
        let order = [Question::Serial, Question::Designators, Question::Limits, Question::Provisioning];
        let past = order.iter().position(|one| *one == question).map_or(0, |at| at + 1);
        let has = |one: &&Question| one.page().is_some_and(|page| self.pages.contains(&page));
        Next::Ask(order[past..].iter().find(has).copied().unwrap_or(Question::Capacity16))
    }

    fn capacity(&mut self, last: u64, block_size: u64) -> Next {
        // SBC-4, 5.19: this value means that READ CAPACITY(16) has to be used, and it was refused.
        let blocks = last.saturating_add(1);
        let Ok(size) = u32::try_from(block_size) else {
            return Next::Unfit("its blocks are too long".to_owned());
        };
        if !(512..=65_536).contains(&size) || !size.is_power_of_two() {
            return Next::Unfit(format!("it has blocks of {size} octets"));
        }
        let or = |limit: u64, other: u64| if limit == 0 { other } else { limit };
        let size_64 = u64::from(size);
        let transfer = or(self.limits.transfer, u64::MAX).min(u64::from(MOST_TRANSFER) / size_64);
        let same = or(self.limits.same, u64::MAX);
        let unmap = if self.disk.unmaps { or(self.limits.unmap, u64::MAX) } else { u64::MAX };
        let hole = same.min(unmap).min(MOST_HOLE / size_64);
        self.disk.block_size = size;
        self.disk.blocks = blocks;
        self.disk.longest_transfer = u32::try_from(transfer * size_64).unwrap_or(MOST_TRANSFER);
        self.disk.longest_hole = u32::try_from(hole).unwrap_or(u32::MAX).max(1);
        self.disk.holes = if self.unmap_by_same { Holes::Unmap } else { Holes::Same };
        Next::Known(Box::new(self.disk.clone()))
    }
}

fn printable(octets: &[u8]) -> String {
    let text: String = octets.iter().take(252).map(|octet| char::from(*octet)).collect();
    let clean: String =
        text.chars().map(|letter| if letter.is_ascii_graphic() { letter } else { ' ' }).collect();
    clean.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
