//! One login's operational keys, at either end.

use super::{Declared, Digest, Key, Kind, Merge, Offer, Parameters, SessionType};
use crate::text::{Pair, value};
use std::{collections::BTreeSet, fmt};

/// Where a request or response belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Any stage of the login.
    Login,
    /// A Text request of the full feature phase.
    FullFeature,
}

/// Why a login, or a connection in its full feature phase, ends here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A key came again that may come once.
    Again(&'static str),
    /// A value that is none of the key's, of a kind without which nothing can go on.
    BadValue(&'static str, String),
    /// An answer that was not among what we proposed.
    NotProposed(&'static str, String),
    /// It insists on a digest, or on none, and so do we.
    NoDigest(&'static str),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Again(key) => write!(f, "{key} came again, and it may come only once"),
            Refused::BadValue(key, value) => write!(f, "{key}={value:?} is no value of this key"),
            Refused::NotProposed(key, value) => write!(f, "{key}={value:?} answers what was not proposed"),
            Refused::NoDigest(key) => write!(f, "no value of {key} suits both ends"),
        }
    }
}

impl std::error::Error for Refused {}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Initiator,
    Target,
}

/// One end of one login.
#[derive(Clone, Debug)]
pub struct Negotiation {
    side: Side,
    offer: Offer,
    parameters: Parameters,
    declared: Declared,
    /// We proposed, and no answer came yet.
    proposed: BTreeSet<Key>,
    settled: BTreeSet<Key>,
    told_max_recv: bool,
}

impl Negotiation {
    /// The initiator's end.
    pub fn initiator(offer: Offer) -> Negotiation {
        Negotiation::new(Side::Initiator, offer)
    }

    /// The target's end.
    pub fn target(offer: Offer) -> Negotiation {
        Negotiation::new(Side::Target, offer)
    }

    fn new(side: Side, offer: Offer) -> Negotiation {
        let offer = Offer { max_recv: offer.max_recv.clamp(512, (1 << 24) - 1), ..offer };
        Negotiation {
            side,
            offer,
            parameters: Parameters::default(),
            declared: Declared::default(),
            proposed: BTreeSet::new(),
            settled: BTreeSet::new(),
            told_max_recv: false,
        }
    }

    /// A discovery session: for an initiator, before [`Negotiation::propose`].
    #[must_use]
    pub fn discovery(mut self) -> Negotiation {
        self.parameters.session = SessionType::Discovery;
        self
    }

    /// What was agreed on so far; valid when both ends have left the operational stage.
    ///
    /// A key that the other end left unanswered has its default, or what follows from our own value alone.
    pub fn parameters(&self) -> Parameters {
        let mut parameters = self.parameters.clone();
        for key in &self.proposed {
            match key {
                Key::MaxBurstLength => parameters.max_burst = parameters.max_burst.min(self.number(*key)),
                Key::FirstBurstLength => {
                    parameters.first_burst = parameters.first_burst.min(self.number(*key))
                }
                Key::ImmediateData => parameters.immediate_data &= self.offer.immediate_data,
                _ => {}
            }
        }
        // RFC 7143, 13.14: FirstBurstLength MUST NOT exceed MaxBurstLength.
        parameters.first_burst = parameters.first_burst.min(parameters.max_burst);
        parameters.max_recv = if self.told_max_recv { self.offer.max_recv } else { parameters.max_recv };
        parameters
    }

    /// What this end insists on and did not get, at the end of the login.
    ///
    /// # Errors
    /// The login fails, as by [`Negotiation::handle`].
    pub fn conclude(&self) -> Result<Parameters, Refused> {
        let parameters = self.parameters();
        for (key, wish, agreed) in [
            (Key::HeaderDigest, self.offer.header_digest, parameters.header_digest),
            (Key::DataDigest, self.offer.data_digest, parameters.data_digest),
        ] {
            if wish == Digest::Always && !agreed {
                return Err(Refused::NoDigest(key.name()));
            }
        }
        Ok(parameters)
    }

    /// What the other end said of itself.
    pub fn declared(&self) -> &Declared {
        &self.declared
    }

    /// All that this end wishes, to be sent first in the operational stage: the initiator's part.
    pub fn propose(&mut self) -> Vec<Pair> {
        let keys = Key::ALL.iter().copied().filter(|key| {
            key.is_initiators()
                && !key.is_for_security()
                && !matches!(key.kind(), Kind::Text | Kind::Obsolete(_))
                && !matches!(key, Key::SessionType | Key::TaskReporting | Key::ProtocolLevel)
                && (self.parameters.session == SessionType::Normal || !key.is_for_normal_sessions_only())
                && !self.settled.contains(key)
        });
        let mut pairs = Vec::new();
        for key in keys.collect::<Vec<Key>>() {
            match key {
                Key::MaxRecvDataSegmentLength => pairs.extend(self.declare()),
                _ => {
                    self.proposed.insert(key);
                    pairs.push(Pair::new(key.name(), self.wish(key)));
                }
            }
        }
        pairs
    }

    /// What this end says of itself, once: in the operational stage of a login.
    pub fn declare(&mut self) -> Option<Pair> {
        if self.told_max_recv {
            return None;
        }
        self.told_max_recv = true;
        Some(Pair::new(Key::MaxRecvDataSegmentLength.name(), self.offer.max_recv))
    }

    /// Takes the pairs of one whole request or response and gives what is to be sent back, in their order.
    ///
    /// Keys of the security stage in a login, and SendTargets in the full feature phase, are passed over: they are
    /// others' business. A key that is not known is answered with NotUnderstood, one that has no meaning here with
    /// Irrelevant, one that cannot be granted with Reject.
    ///
    /// # Errors
    /// The login fails: status 0x0200, "initiator error"; an initiator drops the connection.
    pub fn handle(&mut self, pairs: &[Pair], stage: Stage) -> Result<Vec<Pair>, Refused> {
        // Its place in a request is free, and it says what the others mean.
        if let (Side::Target, Stage::Login, Some(session)) = (self.side, stage, value(pairs, "SessionType")) {
            self.parameters.session = match session {
                "Discovery" => SessionType::Discovery,
                "Normal" => SessionType::Normal,
                other => return Err(Refused::BadValue("SessionType", other.chars().take(40).collect())),
            };
        }
        let mut answers = Vec::new();
        for pair in pairs {
            answers.extend(self.handle_pair(pair, stage)?);
        }
        Ok(answers)
    }

    fn handle_pair(&mut self, pair: &Pair, stage: Stage) -> Result<Option<Pair>, Refused> {
        let answer = |value: &str| Ok(Some(Pair::new(&pair.key, value)));
        let Some(key) = Key::of(&pair.key) else {
            // RFC 7143, 6.2: what is not understood is answered so, except where that is an answer itself.
            return if is_constant(&pair.value) { Ok(None) } else { answer("NotUnderstood") };
        };
        if stage == Stage::Login && key.is_for_security()
            || key == Key::SendTargets && stage == Stage::FullFeature
        {
            return Ok(None);
        }
        if self.proposed.contains(&key) {
            return self.take_answer(key, &pair.value).map(|()| None);
        }
        if is_constant(&pair.value) && key != Key::HeaderDigest && key != Key::DataDigest {
            return Ok(None);
        }
        if !self.settled.insert(key) && !key.may_come_again() {
            return Err(Refused::Again(key.name()));
        }
        let theirs = match self.side {
            Side::Target => key.is_initiators(),
            Side::Initiator => key.is_targets(),
        };
        if !theirs || stage == Stage::FullFeature && !key.is_for_full_feature() || key.is_for_security() {
            return answer("Reject");
        }
        if key.is_for_normal_sessions_only() && self.parameters.session == SessionType::Discovery {
            return answer("Irrelevant");
        }
        self.take_proposal(key, &pair.value)
    }

    /// What the other end proposes or says; gives the answer.
    fn take_proposal(&mut self, key: Key, value: &str) -> Result<Option<Pair>, Refused> {
        let answer = |value: String| Ok(Some(Pair::new(key.name(), value)));
        match key.kind() {
            Kind::Number { least, most, merge, .. } => {
                let Some(theirs) = number(value).filter(|number| (least..=most).contains(number)) else {
                    return answer("Reject".to_owned());
                };
                let mut agreed = merged(merge, theirs, self.number(key));
                if key == Key::FirstBurstLength && self.settled.contains(&Key::MaxBurstLength) {
                    agreed = agreed.min(self.parameters.max_burst);
                }
                self.set_number(key, agreed);
                answer(agreed.to_string())
            }
            Kind::Switch { or, .. } => {
                let Some(theirs) = switch(value) else { return answer("Reject".to_owned()) };
                let agreed = if or { theirs | self.switch(key) } else { theirs & self.switch(key) };
                self.set_switch(key, agreed);
                answer(yes_or_no(agreed).to_owned())
            }
            Kind::List if key == Key::SessionType => {
                self.declared.session = Some(self.parameters.session);
                Ok(None)
            }
            // RFC 7143, 6.2.1: the first of the list that is known is taken.
            Kind::List => {
                let ours = self.list(key);
                match value.split(',').take(32).find(|item| ours.contains(item)) {
                    Some(item) => {
                        self.set_digest(key, item);
                        answer(item.to_owned())
                    }
                    None if key == Key::TaskReporting => answer("Reject".to_owned()),
                    None => Err(Refused::NoDigest(key.name())),
                }
            }
            Kind::Declared { .. } | Kind::Text => self.take_declared(key, value).map(|()| None),
            Kind::Obsolete(refusal) => answer(refusal.to_owned()),
        }
    }

    /// The answer to what we proposed.
    fn take_answer(&mut self, key: Key, value: &str) -> Result<(), Refused> {
        self.proposed.remove(&key);
        self.settled.insert(key);
        // RFC 7143, 6.2: after Reject, Irrelevant or NotUnderstood the value is what it was.
        if matches!(value, "Reject" | "Irrelevant" | "NotUnderstood") {
            let insisted =
                self.list(key).first().is_some_and(|first| *first != "None") && self.list(key).len() == 1;
            return if insisted && key != Key::TaskReporting {
                Err(Refused::NoDigest(key.name()))
            } else {
                Ok(())
            };
        }
        let bad = || Refused::BadValue(key.name(), value.chars().take(40).collect());
        match key.kind() {
            Kind::Number { least, most, merge, .. } => {
                let theirs =
                    number(value).filter(|number| (least..=most).contains(number)).ok_or_else(bad)?;
                // Some answer with their own value and not with the result; both ends can work that out.
                self.set_number(key, merged(merge, theirs, self.number(key)));
            }
            Kind::Switch { or, .. } => {
                let theirs = switch(value).ok_or_else(bad)?;
                self.set_switch(key, if or { theirs | self.switch(key) } else { theirs & self.switch(key) });
            }
            Kind::List if self.list(key).contains(&value) => self.set_digest(key, value),
            // RFC 7143, 6.2.1: a value that was not proposed is a protocol error.
            Kind::List => return Err(Refused::NotProposed(key.name(), value.chars().take(40).collect())),
            Kind::Declared { .. } | Kind::Text | Kind::Obsolete(_) => {}
        }
        Ok(())
    }

    fn take_declared(&mut self, key: Key, value: &str) -> Result<(), Refused> {
        let bad = || Refused::BadValue(key.name(), value.chars().take(40).collect());
        let text = || if value.len() <= 255 { Ok(Some(value.to_owned())) } else { Err(bad()) };
        match key {
            Key::MaxRecvDataSegmentLength => {
                let Kind::Declared { least, most, .. } = key.kind() else { return Ok(()) };
                let length = number(value).filter(|length| (least..=most).contains(length));
                self.parameters.max_send = length.ok_or_else(bad)?;
            }
            Key::TargetPortalGroupTag => {
                let tag = number(value).and_then(|tag| u16::try_from(tag).ok());
                self.declared.portal_group = Some(tag.ok_or_else(bad)?);
            }
            Key::InitiatorName if Key::is_name(value) => self.declared.initiator_name = text()?,
            Key::TargetName if Key::is_name(value) => self.declared.target_name = text()?,
            Key::InitiatorName | Key::TargetName => return Err(bad()),
            Key::InitiatorAlias => self.declared.initiator_alias = text()?,
            Key::TargetAlias => self.declared.target_alias = text()?,
            Key::TargetAddress => self.declared.target_address = text()?,
            _ => {}
        }
        Ok(())
    }

    fn wish(&self, key: Key) -> String {
        match key.kind() {
            Kind::Number { .. } => self.number(key).to_string(),
            Kind::Switch { .. } => yes_or_no(self.switch(key)).to_owned(),
            _ => self.list(key).join(","),
        }
    }

    /// Our own value of a number.
    fn number(&self, key: Key) -> u32 {
        let offer = &self.offer;
        let wish = match key {
            Key::MaxBurstLength => offer.max_burst,
            Key::FirstBurstLength => offer.first_burst.min(offer.max_burst),
            Key::DefaultTime2Wait => u32::from(offer.time2wait),
            Key::DefaultTime2Retain => u32::from(offer.time2retain),
            Key::MaxOutstandingR2T => u32::from(offer.max_outstanding_r2t),
            Key::MaxConnections | Key::ProtocolLevel => 1,
            _ => 0,
        };
        match key.kind() {
            Kind::Number { least, most, .. } => wish.clamp(least, most),
            _ => wish,
        }
    }

    fn set_number(&mut self, key: Key, agreed: u32) {
        let short = u16::try_from(agreed).unwrap_or(u16::MAX);
        match key {
            Key::MaxBurstLength => self.parameters.max_burst = agreed,
            Key::FirstBurstLength => self.parameters.first_burst = agreed,
            Key::DefaultTime2Wait => self.parameters.time2wait = short,
            Key::DefaultTime2Retain => self.parameters.time2retain = short,
            Key::MaxOutstandingR2T => self.parameters.max_outstanding_r2t = short,
            _ => {}
        }
    }

    /// Our own value of a switch. Data out of order has no use here.
    fn switch(&self, key: Key) -> bool {
        match key {
            Key::InitialR2T => self.offer.initial_r2t,
            Key::ImmediateData => self.offer.immediate_data,
            _ => true,
        }
    }

    fn set_switch(&mut self, key: Key, agreed: bool) {
        match key {
            Key::InitialR2T => self.parameters.initial_r2t = agreed,
            Key::ImmediateData => self.parameters.immediate_data = agreed,
            _ => {}
        }
    }

    fn list(&self, key: Key) -> &'static [&'static str] {
        match key {
            Key::HeaderDigest => self.offer.header_digest.values(),
            Key::DataDigest => self.offer.data_digest.values(),
            Key::TaskReporting => &["RFC3720"],
            _ => &[],
        }
    }

    fn set_digest(&mut self, key: Key, item: &str) {
        match key {
            Key::HeaderDigest => self.parameters.header_digest = item == "CRC32C",
            Key::DataDigest => self.parameters.data_digest = item == "CRC32C",
            _ => {}
        }
    }
}

fn merged(merge: Merge, one: u32, other: u32) -> u32 {
    match merge {
        Merge::Least => one.min(other),
        Merge::Most => one.max(other),
    }
}

fn is_constant(value: &str) -> bool {
    matches!(value, "Reject" | "Irrelevant" | "NotUnderstood")
}

/// A numerical value: decimal, or hexadecimal after `0x` (RFC 7143, 6.1).
fn number(value: &str) -> Option<u32> {
    match value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
            u32::from_str_radix(digits, 16).ok()
        }
        None if value.bytes().all(|digit| digit.is_ascii_digit()) => value.parse().ok(),
        _ => None,
    }
}

fn switch(value: &str) -> Option<bool> {
    match value {
        "Yes" => Some(true),
        "No" => Some(false),
        _ => None,
    }
}

fn yes_or_no(value: bool) -> &'static str {
    if value { "Yes" } else { "No" }
}
