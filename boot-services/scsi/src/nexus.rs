//! I_T nexuses: who is attached, and what they have not been told yet.

use crate::sense::{Sense, SenseKey};

/// An initiator port: the iSCSI name and the ISID (RFC 7143, 3.4.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitiatorPort {
    /// The initiator's iSCSI name, at most 223 octets.
    pub name: String,
    /// The initiator's part of the session identifier.
    pub isid: [u8; 6],
}

/// An attached initiator port; another one each time that it is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nexus {
    slot: u32,
    age: u32,
}

/// What an I_T nexus is to be told (SPC-5, unit attention conditions), each at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Attention {
    PowerOn,
    UnitReset,
    ReservationsPreempted,
    ReservationsReleased,
    RegistrationsPreempted,
    CapacityChanged,
    ModeChanged,
    LunsChanged,
    TasksCleared,
}

impl Attention {
    const ALL: [Attention; 9] = [
        Attention::PowerOn,
        Attention::UnitReset,
        Attention::ReservationsPreempted,
        Attention::ReservationsReleased,
        Attention::RegistrationsPreempted,
        Attention::CapacityChanged,
        Attention::ModeChanged,
        Attention::LunsChanged,
        Attention::TasksCleared,
    ];

    fn bit(self) -> u16 {
        1 << self as u8
    }

    pub(crate) fn sense(self) -> Sense {
        let (code, qualifier) = match self {
            Attention::PowerOn => (0x29, 0x00),
            Attention::UnitReset => (0x29, 0x03),
            Attention::ReservationsPreempted => (0x2a, 0x03),
            Attention::ReservationsReleased => (0x2a, 0x04),
            Attention::RegistrationsPreempted => (0x2a, 0x05),
            Attention::CapacityChanged => (0x2a, 0x09),
            Attention::ModeChanged => (0x2a, 0x01),
            Attention::LunsChanged => (0x3f, 0x0e),
            Attention::TasksCleared => (0x2f, 0x00),
        };
        Sense::new(SenseKey::UnitAttention, code, qualifier)
    }
}

/// The unit attentions that wait, most urgent first.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Attentions(u16);

impl Attentions {
    pub(crate) fn add(&mut self, attention: Attention) {
        self.0 |= attention.bit();
    }

    pub(crate) fn take(&mut self) -> Option<Attention> {
        let attention = *Attention::ALL.get(self.0.trailing_zeros() as usize)?;
        self.0 &= !attention.bit();
        Some(attention)
    }

    /// SAM-5, status precedence: these come before RESERVATION CONFLICT, the others after it.
    pub(crate) fn take_reset(&mut self) -> Option<Attention> {
        let resets = Attention::PowerOn.bit() | Attention::UnitReset.bit();
        if self.0 & resets == 0 { None } else { self.take() }
    }

    pub(crate) fn drop(&mut self, attention: Attention) {
        self.0 &= !attention.bit();
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Attached {
    pub(crate) port: InitiatorPort,
    pub(crate) attentions: Attentions,
    age: u32,
}

/// The attached ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Nexuses {
    slots: Vec<Option<Attached>>,
    age: u32,
}

impl Nexuses {
    pub(crate) fn attach(&mut self, port: InitiatorPort) -> Nexus {
        self.age = self.age.wrapping_add(1);
        let mut attentions = Attentions::default();
        attentions.add(Attention::PowerOn);
        let attached = Attached { port, attentions, age: self.age };
        let slot = match self.slots.iter().position(Option::is_none) {
            Some(slot) => {
                self.slots[slot] = Some(attached);
                slot
            }
            None => {
                self.slots.push(Some(attached));
                self.slots.len() - 1
            }
        };
        Nexus { slot: u32::try_from(slot).unwrap_or(u32::MAX), age: self.age }
    }

    pub(crate) fn detach(&mut self, nexus: Nexus) -> Option<Attached> {
        self.get(nexus)?;
        self.slots[nexus.slot as usize].take()
    }

    pub(crate) fn get(&self, nexus: Nexus) -> Option<&Attached> {
        self.slots.get(nexus.slot as usize)?.as_ref().filter(|attached| attached.age == nexus.age)
    }

    pub(crate) fn get_mut(&mut self, nexus: Nexus) -> Option<&mut Attached> {
        self.slots.get_mut(nexus.slot as usize)?.as_mut().filter(|attached| attached.age == nexus.age)
    }

    pub(crate) fn of(&self, port: &InitiatorPort) -> Option<Nexus> {
        self.all().find(|(_, attached)| attached.port == *port).map(|(nexus, _)| nexus)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (Nexus, &Attached)> {
        self.slots.iter().enumerate().filter_map(|(slot, attached)| {
            let attached = attached.as_ref()?;
            Some((Nexus { slot: u32::try_from(slot).ok()?, age: attached.age }, attached))
        })
    }

    /// Tells all but one.
    pub(crate) fn tell(&mut self, attention: Attention, except: Option<Nexus>) {
        for (slot, attached) in self.slots.iter_mut().enumerate() {
            let Some(attached) = attached else { continue };
            if except.is_some_and(|one| one.slot as usize == slot && one.age == attached.age) {
                continue;
            }
            attached.attentions.add(attention);
        }
    }
}
