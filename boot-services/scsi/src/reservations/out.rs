//! PERSISTENT RESERVE OUT (SPC-5).

use super::{Held, MOST_REGISTRATIONS, Registration, Reservations, Type};
use crate::cdb::Cdb;
use crate::nexus::{Attention, InitiatorPort};
use crate::sense::Sense;
use crate::transport::{self, Named};
use crate::unit::Refusal;

const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const RELEASE: u8 = 2;
const CLEAR: u8 = 3;
const PREEMPT: u8 = 4;
const PREEMPT_AND_ABORT: u8 = 5;
const REGISTER_AND_IGNORE: u8 = 6;
const REGISTER_AND_MOVE: u8 = 7;

/// What a service action does besides.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Who is to be told what.
    pub(crate) tell: Vec<(InitiatorPort, Attention)>,
    /// Whose tasks are to be aborted.
    pub(crate) abort: Vec<InitiatorPort>,
}

/// The ports that are attached now.
pub(crate) trait Ports {
    /// Those of the initiator with this name.
    fn of_device(&self, name: &str) -> Vec<InitiatorPort>;
}

/// The parameter list of all service actions but REGISTER AND MOVE.
struct List<'a> {
    key: u64,
    action_key: u64,
    for_others: bool,
    all_ports: bool,
    persist: bool,
    rest: &'a [u8],
}

impl<'a> List<'a> {
    fn parse(list: &'a [u8]) -> Option<List<'a>> {
        let (head, rest) = list.split_first_chunk::<24>()?;
        let key = |at: usize| head[at..at + 8].iter().fold(0, |key, octet| key << 8 | u64::from(*octet));
        Some(List {
            key: key(0),
            action_key: key(8),
            for_others: head[20] & 0x08 != 0,
            all_ports: head[20] & 0x04 != 0,
            persist: head[20] & 0x01 != 0,
            rest,
        })
    }
}

impl Reservations {
    /// Whether this port may not even send its parameter list: only REGISTER and REGISTER AND IGNORE EXISTING KEY are
    /// for who is not registered.
    pub(crate) fn shuts_out(&self, cdb: &Cdb, me: &InitiatorPort) -> bool {
        !matches!(cdb.action(), REGISTER | REGISTER_AND_IGNORE) && !self.is_registered(me)
    }

    /// PERSISTENT RESERVE OUT, received from `me`. Either all of it is done, or nothing.
    pub(crate) fn change(
        &mut self,
        cdb: &Cdb,
        list: &[u8],
        me: &InitiatorPort,
        ports: &dyn Ports,
    ) -> Result<Outcome, Refusal> {
        if self.shuts_out(cdb, me) {
            return Err(Refusal::Conflict);
        }
        let action = cdb.action();
        if action == REGISTER_AND_MOVE {
            return self.register_and_move(list, me);
        }
        let parsed = List::parse(list).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
        // Without SPEC_I_PT the parameter list has 24 octets.
        if !parsed.for_others && !parsed.rest.is_empty() {
            return Err(Sense::PARAMETER_LIST_LENGTH.into());
        }
        if parsed.for_others && action != REGISTER {
            return Err(Sense::in_list(20).into());
        }
        if action == REGISTER || action == REGISTER_AND_IGNORE {
            return self.register(action == REGISTER_AND_IGNORE, &parsed, me, ports);
        }
        // The RESERVATION KEY field has to be the registered key.
        if self.registration(me).is_none_or(|registration| registration.key != parsed.key) {
            return Err(Refusal::Conflict);
        }
        match action {
            RESERVE => self.reserve(kind(cdb)?, me),
            RELEASE => self.release(kind(cdb)?, me),
            CLEAR => Ok(self.clear(me)),
            PREEMPT | PREEMPT_AND_ABORT => self.preempt(cdb, parsed.action_key, me),
            _ => Err(Sense::in_cdb_bit(1, 4).into()),
        }
    }

    /// REGISTER and REGISTER AND IGNORE EXISTING KEY (SPC-5, registering).
    fn register(
        &mut self,
        ignore: bool,
        list: &List<'_>,
        me: &InitiatorPort,
        ports: &dyn Ports,
    ) -> Result<Outcome, Refusal> {
        let known = self.registration(me).map(|registration| registration.key);
        if !ignore && list.key != known.unwrap_or(0) {
            return Err(Refusal::Conflict);
        }
        if list.for_others && known.is_some() {
            return Err(Sense::INVALID_FIELD_IN_CDB.into());
        }
        let mut outcome = Outcome::default();
        if list.action_key == 0 {
            if known.is_none() {
                // To unregister who is not registered is GOOD, and nothing is done.
                return Ok(outcome);
            }
            self.unregister(me, &mut outcome);
        } else {
            let mut all = vec![me.clone()];
            if list.for_others {
                all.extend(others(list.rest, ports)?);
            }
            self.admit(all, list)?;
        }
        self.generation = self.generation.wrapping_add(1);
        self.persists = list.persist;
        Ok(outcome)
    }

    /// Registers all of them, or none.
    fn admit(&mut self, ports: Vec<InitiatorPort>, list: &List<'_>) -> Result<(), Sense> {
        let mut registrations = self.registrations.clone();
        for (number, port) in ports.into_iter().enumerate() {
            let new = Registration { port, key: list.action_key, all_ports: list.all_ports };
            match registrations.iter_mut().find(|one| one.port == new.port) {
                // The first is the one that asks; of the others none may have a key of its own already.
                Some(known) if number == 0 || known.key == new.key => *known = new,
                Some(_) => return Err(Sense::in_list(28)),
                None => registrations.push(new),
            }
        }
        if registrations.len() > MOST_REGISTRATIONS {
            return Err(Sense::INSUFFICIENT_REGISTRATION);
        }
        self.registrations = registrations;
        Ok(())
    }

    /// SPC-5, unregistering: who unregisters gives up what it holds.
    fn unregister(&mut self, me: &InitiatorPort, outcome: &mut Outcome) {
        self.registrations.retain(|registration| registration.port != *me);
        let Some(held) = &self.held else { return };
        if held.kind.is_held_by_all() {
            // It is released with the last registration.
            if self.registrations.is_empty() {
                self.held = None;
            }
        } else if held.holder == *me {
            if held.kind.is_shared() {
                self.tell_others(Attention::ReservationsReleased, me, outcome);
            }
            self.held = None;
        }
    }

    fn tell_others(&self, attention: Attention, me: &InitiatorPort, outcome: &mut Outcome) {
        let others = self.registrations.iter().filter(|registration| registration.port != *me);
        outcome.tell.extend(others.map(|registration| (registration.port.clone(), attention)));
    }

    /// RESERVE (SPC-5, reserving).
    fn reserve(&mut self, kind: Type, me: &InitiatorPort) -> Result<Outcome, Refusal> {
        match &self.held {
            None => self.held = Some(Held { kind, holder: me.clone() }),
            // The holder may ask again for what it has.
            Some(held) if held.kind == kind && self.holds(me) => {}
            Some(_) => return Err(Refusal::Conflict),
        }
        Ok(Outcome::default())
    }

    /// RELEASE (SPC-5, releasing).
    fn release(&mut self, kind: Type, me: &InitiatorPort) -> Result<Outcome, Refusal> {
        let mut outcome = Outcome::default();
        let Some(held) = &self.held else { return Ok(outcome) };
        // From who does not hold it: GOOD, and nothing is done.
        if !self.holds(me) {
            return Ok(outcome);
        }
        if held.kind != kind {
            return Err(Sense::INVALID_RELEASE.into());
        }
        if held.kind.is_shared() {
            self.tell_others(Attention::ReservationsReleased, me, &mut outcome);
        }
        self.held = None;
        Ok(outcome)
    }

    /// CLEAR (SPC-5, clearing).
    fn clear(&mut self, me: &InitiatorPort) -> Outcome {
        let mut outcome = Outcome::default();
        self.tell_others(Attention::ReservationsPreempted, me, &mut outcome);
        self.held = None;
        self.registrations.clear();
        self.generation = self.generation.wrapping_add(1);
        outcome
    }

    /// PREEMPT and PREEMPT AND ABORT (SPC-5, preempting).
    fn preempt(&mut self, cdb: &Cdb, key: u64, me: &InitiatorPort) -> Result<Outcome, Refusal> {
        let holder_key =
            self.held.as_ref().and_then(|held| self.registration(&held.holder)).map(|holder| holder.key);
        let takes_over = match &self.held {
            Some(held) if held.kind.is_held_by_all() => key == 0,
            Some(_) => holder_key == Some(key),
            None => false,
        };
        let mut outcome = Outcome::default();
        let removed: Vec<InitiatorPort>;
        if takes_over {
            let kind = kind(cdb)?;
            let everybody = self.held.as_ref().is_some_and(|held| held.kind.is_held_by_all());
            removed = self.remove(|one| (everybody || one.key == key) && one.port != *me);
            // Where the type changes, the registered ones that stay are told, except who asks.
            if self.held.as_ref().is_some_and(|held| held.kind != kind) {
                self.tell_others(Attention::ReservationsReleased, me, &mut outcome);
            }
            self.held = Some(Held { kind, holder: me.clone() });
        } else {
            // Zero means something with an all registrants reservation only.
            if key == 0 {
                return Err(Sense::in_list(8).into());
            }
            removed = self.remove(|one| one.key == key);
            // A key that nobody has.
            if removed.is_empty() {
                return Err(Refusal::Conflict);
            }
            if self.registrations.is_empty() {
                self.held = None;
            }
        }
        let others = removed.iter().filter(|port| *port != me);
        outcome.tell.extend(others.map(|port| (port.clone(), Attention::RegistrationsPreempted)));
        if cdb.action() == PREEMPT_AND_ABORT {
            outcome.abort = removed;
        }
        self.generation = self.generation.wrapping_add(1);
        Ok(outcome)
    }

    fn remove(&mut self, gone: impl Fn(&Registration) -> bool) -> Vec<InitiatorPort> {
        self.registrations.extract_if(.., |one| gone(one)).map(|one| one.port).collect()
    }

    /// REGISTER AND MOVE (SPC-5, registering and moving).
    fn register_and_move(&mut self, list: &[u8], me: &InitiatorPort) -> Result<Outcome, Refusal> {
        let Some((head, rest)) = list.split_first_chunk::<24>() else {
            return Err(Sense::PARAMETER_LIST_LENGTH.into());
        };
        let List { key, action_key, .. } = List::parse(list).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
        let (unregister, persist) = (head[17] & 0x02 != 0, head[17] & 0x01 != 0);
        // From who does not hold it, and of an all registrants type: RESERVATION CONFLICT.
        let kind = match &self.held {
            Some(held) if held.holder == *me && !held.kind.is_held_by_all() => held.kind,
            _ => return Err(Refusal::Conflict),
        };
        if self.registration(me).is_none_or(|registration| registration.key != key) {
            return Err(Refusal::Conflict);
        }
        if action_key == 0 {
            return Err(Sense::in_list(8).into());
        }
        // There is one target port, with relative identifier 1.
        if head[18..20] != [0, 1] {
            return Err(Sense::in_list(18).into());
        }
        let length = u32::from_be_bytes([head[20], head[21], head[22], head[23]]) as usize;
        if length != rest.len() {
            return Err(Sense::PARAMETER_LIST_LENGTH.into());
        }
        let (Named::Port(port), []) = transport::parse(rest)? else { return Err(Sense::in_list(24).into()) };
        // Not to itself.
        if port == *me {
            return Err(Sense::in_list(24).into());
        }
        let place = self.registrations.iter().position(|one| one.port == port);
        if place.is_none() && self.registrations.len() >= MOST_REGISTRATIONS {
            return Err(Sense::INSUFFICIENT_REGISTRATION.into());
        }
        match place {
            Some(place) => self.registrations[place].key = action_key,
            None => {
                let registration = Registration { port: port.clone(), key: action_key, all_ports: false };
                self.registrations.push(registration);
            }
        }
        if unregister {
            self.registrations.retain(|one| one.port != *me);
        }
        self.held = Some(Held { kind, holder: port });
        self.persists = persist;
        self.generation = self.generation.wrapping_add(1);
        Ok(Outcome::default())
    }
}

/// The SCOPE and TYPE fields: the only scope is the logical unit.
fn kind(cdb: &Cdb) -> Result<Type, Sense> {
    if cdb.octet(2) >> 4 != 0 {
        return Err(Sense::in_cdb_bit(2, 7));
    }
    Type::of(cdb.octet(2) & 0x0f).ok_or(Sense::in_cdb_bit(2, 3))
}

/// The ports of a TransportID list.
fn others(list: &[u8], ports: &dyn Ports) -> Result<Vec<InitiatorPort>, Sense> {
    let (length, mut rest) = list.split_first_chunk::<4>().ok_or(Sense::PARAMETER_LIST_LENGTH)?;
    if u32::from_be_bytes(*length) as usize != rest.len() {
        return Err(Sense::PARAMETER_LIST_LENGTH);
    }
    let mut all = Vec::new();
    while !rest.is_empty() {
        let (named, after) = transport::parse(rest)?;
        rest = after;
        match named {
            Named::Port(port) => all.push(port),
            // Ports that are not attached have no ISID that we know.
            Named::Device(name) => match ports.of_device(&name) {
                attached if attached.is_empty() => return Err(Sense::in_list(28)),
                attached => all.extend(attached),
            },
        }
        if all.len() > MOST_REGISTRATIONS {
            return Err(Sense::INSUFFICIENT_REGISTRATION);
        }
    }
    Ok(all)
}
