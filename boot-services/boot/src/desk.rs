use crate::wire::{Line, RawLine};
use crate::{Down, Generation, MAX_LINE, Row, Up, VERSION};
use core::fmt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};

/// A hand's end of the contract: holds the plan and the table of facts, whatever happens to the line.
///
/// The driver feeds what it reads to [`handle_bytes`](Desk::handle_bytes), sends what
/// [`poll_transmit`](Desk::poll_transmit) gives, and looks at [`plan`](Desk::plan) when
/// `handle_bytes` says that it changed.
#[derive(Debug)]
pub struct Desk<P, F> {
    hand: &'static str,
    epoch: u64,
    plan: Option<(Generation, P)>,
    table: BTreeMap<String, Row<F>>,
    last: u64,
    connected: bool,
    greeted: bool,
    announce: bool,
    inbound: Vec<u8>,
    fresh: BTreeSet<u64>,
    by_seq: BTreeMap<u64, String>,
    most: usize,
}

/// Why the line must be dropped: the other end is not one we understand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A line longer than [`MAX_LINE`].
    TooLong,
    /// It speaks another version of the contract.
    Version(u8),
    /// A line that is not of the contract; where in it, and what was expected.
    Garbled(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::TooLong => write!(f, "control sent a line of more than {MAX_LINE} octets"),
            Refused::Version(v) => {
                write!(
                    f,
                    "control speaks version {v} of the plan contract, this hand {VERSION}: install one release"
                )
            }
            Refused::Garbled(why) => write!(f, "control sent what is no plan: {why}"),
        }
    }
}

impl core::error::Error for Refused {}

impl<P, F> Desk<P, F>
where
    P: DeserializeOwned + Serialize + PartialEq,
    F: Serialize + Clone,
{
    /// A desk without a plan. `epoch` must differ from that of any earlier run; `most` bounds the table:
    /// past it the row that changed longest ago is forgotten.
    pub fn new(hand: &'static str, epoch: u64, most: usize) -> Desk<P, F> {
        Desk {
            hand,
            epoch,
            plan: None,
            table: BTreeMap::new(),
            last: 0,
            connected: false,
            greeted: false,
            announce: false,
            inbound: Vec::new(),
            fresh: BTreeSet::new(),
            by_seq: BTreeMap::new(),
            most: most.max(1),
        }
    }

    /// The plan kept in the run directory by an earlier run, as [`keep`](Desk::keep) wrote it. What does
    /// not read is as good as none: control will send it again.
    pub fn recall(&mut self, kept: &[u8]) {
        if let Ok(Down::Plan { generation, body }) = serde_json::from_slice(kept) {
            self.plan = Some((generation, body));
        }
    }

    /// The plan as it is to be kept in the run directory.
    pub fn keep(&self) -> Option<Vec<u8>>
    where
        P: Clone,
    {
        let (generation, body) = self.plan.as_ref()?;
        serde_json::to_vec(&Down::Plan { generation: *generation, body: body.clone() }).ok()
    }

    /// What to do now; none before the first plan.
    pub fn plan(&self) -> Option<&P> {
        self.plan.as_ref().map(|(_, body)| body)
    }

    /// The number of that plan.
    pub fn holds(&self) -> Option<Generation> {
        self.plan.as_ref().map(|(generation, _)| *generation)
    }

    /// Control came on the line: it is told everything from the start.
    pub fn handle_connect(&mut self) {
        self.connected = true;
        self.greeted = false;
        self.announce = false;
        self.inbound.clear();
    }

    /// Control is gone. The hand goes on as planned.
    pub fn handle_disconnect(&mut self) {
        self.connected = false;
        self.inbound.clear();
    }

    /// Bytes from control. `Ok(true)`: there is a new plan.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<bool, Refused> {
        let mut changed = false;
        for &byte in bytes {
            if byte != b'\n' {
                if self.inbound.len() >= MAX_LINE {
                    return Err(Refused::TooLong);
                }
                self.inbound.push(byte);
                continue;
            }
            let line = core::mem::take(&mut self.inbound);
            if !line.iter().all(u8::is_ascii_whitespace) {
                changed |= self.handle_line(&line)?;
            }
        }
        Ok(changed)
    }

    fn handle_line(&mut self, line: &[u8]) -> Result<bool, Refused> {
        let garbled = |e: serde_json::Error| Refused::Garbled(e.to_string());
        let raw: RawLine<'_> = serde_json::from_slice(line).map_err(garbled)?;
        if raw.v != VERSION {
            return Err(Refused::Version(raw.v));
        }
        let Down::Plan { generation, body } = serde_json::from_str(raw.say.get()).map_err(garbled)?;
        self.announce = true;
        match &self.plan {
            Some((held, _)) if *held > generation => Ok(false),
            Some((_, same)) if *same == body => {
                self.plan = Some((generation, body));
                Ok(false)
            }
            _ => {
                self.plan = Some((generation, body));
                Ok(true)
            }
        }
    }

    /// Something is seen, or seen otherwise than before. What is told already is not told again.
    pub fn tell(&mut self, key: impl Into<String>, fact: F)
    where
        F: PartialEq,
    {
        let key = key.into();
        if let Some(row) = self.table.get(&key) {
            if row.fact == fact {
                return;
            }
            self.fresh.remove(&row.seq);
            self.by_seq.remove(&row.seq);
        }
        self.last += 1;
        self.fresh.insert(self.last);
        self.by_seq.insert(self.last, key.clone());
        self.table.insert(key.clone(), Row { seq: self.last, key, fact });
        if self.table.len() > self.most
            && let Some((seq, key)) = self.by_seq.pop_first()
        {
            self.fresh.remove(&seq);
            self.table.remove(&key);
        }
    }

    /// A fact that no longer says anything worth telling.
    pub fn forget(&mut self, key: &str) {
        if let Some(row) = self.table.remove(key) {
            self.fresh.remove(&row.seq);
            self.by_seq.remove(&row.seq);
        }
    }

    /// What the table says under a key.
    pub fn told(&self, key: &str) -> Option<&F> {
        self.table.get(key).map(|row| &row.fact)
    }

    /// The next lines for control, if it is on the line and there is something it was not told.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        if !self.connected {
            return None;
        }
        let mut out = Vec::new();
        if !self.greeted {
            self.greeted = true;
            let holds = self.holds();
            line(&mut out, &Up::<F>::Hello { hand: self.hand.to_owned(), epoch: self.epoch, holds });
            for key in self.by_seq.values() {
                if let Some(row) = self.table.get(key) {
                    line(&mut out, &Up::Fact(row.clone()));
                }
            }
            self.fresh.clear();
            line(&mut out, &Up::<F>::Told);
        }
        if core::mem::take(&mut self.announce)
            && let Some(holds) = self.holds()
        {
            line(&mut out, &Up::<F>::Holds(holds));
        }
        for seq in core::mem::take(&mut self.fresh) {
            if let Some(row) = self.by_seq.get(&seq).and_then(|key| self.table.get(key)) {
                line(&mut out, &Up::Fact(row.clone()));
            }
        }
        (!out.is_empty()).then_some(out)
    }
}

impl<P: Serialize> Down<P> {
    /// The line that goes to the hand.
    pub fn line(&self) -> Vec<u8> {
        let mut out = Vec::new();
        line(&mut out, self);
        out
    }
}

impl<F: DeserializeOwned> Up<F> {
    /// Reads a hand's line, without its newline.
    pub fn parse(text: &[u8]) -> Result<Up<F>, Refused> {
        let garbled = |e: serde_json::Error| Refused::Garbled(e.to_string());
        let raw: RawLine<'_> = serde_json::from_slice(text).map_err(garbled)?;
        if raw.v != VERSION {
            return Err(Refused::Version(raw.v));
        }
        serde_json::from_str(raw.say.get()).map_err(garbled)
    }
}

fn line<T: Serialize>(out: &mut Vec<u8>, say: &T) {
    serde_json::to_writer(&mut *out, &Line { v: VERSION, say })
        .expect("plans and facts have string keys only");
    out.push(b'\n');
}

#[cfg(test)]
mod tests;
