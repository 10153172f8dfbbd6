//! Reservations: persistent ones (SPC-5, reservations), and those of RESERVE and RELEASE (SPC-2, 5.5.1).

mod kept;
mod out;
mod report;

pub use kept::RestoreError;
pub(crate) use out::{Outcome, Ports};

use crate::nexus::{InitiatorPort, Nexus};
use crate::opcodes::Access;

/// How many registrations there may be.
pub(crate) const MOST_REGISTRATIONS: usize = 128;

/// A type of persistent reservation (SPC-5, persistent reservation types).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Type {
    WriteExclusive = 1,
    ExclusiveAccess = 3,
    WriteExclusiveRegistrantsOnly = 5,
    ExclusiveAccessRegistrantsOnly = 6,
    WriteExclusiveAllRegistrants = 7,
    ExclusiveAccessAllRegistrants = 8,
}

impl Type {
    pub(crate) const ALL: [Type; 6] = [
        Type::WriteExclusive,
        Type::ExclusiveAccess,
        Type::WriteExclusiveRegistrantsOnly,
        Type::ExclusiveAccessRegistrantsOnly,
        Type::WriteExclusiveAllRegistrants,
        Type::ExclusiveAccessAllRegistrants,
    ];

    pub(crate) fn of(code: u8) -> Option<Type> {
        Type::ALL.into_iter().find(|kind| *kind as u8 == code)
    }

    /// Whether reading is for the chosen only, too.
    pub(crate) fn excludes_reads(self) -> bool {
        use Type::{ExclusiveAccess, ExclusiveAccessAllRegistrants, ExclusiveAccessRegistrantsOnly};
        matches!(self, ExclusiveAccess | ExclusiveAccessRegistrantsOnly | ExclusiveAccessAllRegistrants)
    }

    /// Whether every registered nexus has a part in it.
    pub(crate) fn is_shared(self) -> bool {
        !matches!(self, Type::WriteExclusive | Type::ExclusiveAccess)
    }

    /// Whether every registered nexus holds it.
    pub(crate) fn is_held_by_all(self) -> bool {
        matches!(self, Type::WriteExclusiveAllRegistrants | Type::ExclusiveAccessAllRegistrants)
    }
}

/// A registered initiator port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Registration {
    pub(crate) port: InitiatorPort,
    pub(crate) key: u64,
    /// ALL_TG_PT: made for every target port; there is one.
    pub(crate) all_ports: bool,
}

/// A persistent reservation of the whole logical unit, the only scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) kind: Type,
    /// Who holds it; of the all registrants types, who made it.
    pub(crate) holder: InitiatorPort,
}

/// Everything that is reserved.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reservations {
    pub(crate) registrations: Vec<Registration>,
    pub(crate) held: Option<Held>,
    /// PRGENERATION: counts changes of registrations since power on.
    pub(crate) generation: u32,
    /// APTPL: it outlasts a loss of power.
    pub(crate) persists: bool,
    /// The nexus that RESERVE was received on.
    pub(crate) simple: Option<Nexus>,
}

impl Reservations {
    pub(crate) fn registration(&self, port: &InitiatorPort) -> Option<&Registration> {
        self.registrations.iter().find(|registration| registration.port == *port)
    }

    pub(crate) fn is_registered(&self, port: &InitiatorPort) -> bool {
        self.registration(port).is_some()
    }

    /// Whether nothing at all is reserved, as nearly always.
    pub(crate) fn is_free(&self) -> bool {
        self.held.is_none() && self.simple.is_none()
    }

    /// Whether this port holds the persistent reservation.
    pub(crate) fn holds(&self, port: &InitiatorPort) -> bool {
        match &self.held {
            Some(held) if held.kind.is_held_by_all() => self.is_registered(port),
            Some(held) => held.holder == *port,
            None => false,
        }
    }

    /// Whether a persistent reservation keeps this port from a command.
    pub(crate) fn excludes(&self, port: &InitiatorPort, access: Access) -> bool {
        let Some(held) = &self.held else { return false };
        match access {
            Access::Free | Access::Own => return false,
            Access::Reads if !held.kind.excludes_reads() => return false,
            Access::Reads | Access::Writes => {}
        }
        !(self.holds(port) || held.kind.is_shared() && self.is_registered(port))
    }

    /// RESERVE and RELEASE where there are registrations: compatible reservation handling (SPC-5, CRH) lets those with
    /// a part in the reservation off with GOOD and no effect; `None` is RESERVATION CONFLICT.
    pub(crate) fn compatible(&self, port: &InitiatorPort) -> Option<()> {
        let held = self.held.as_ref()?;
        (self.holds(port) || held.kind.is_shared() && self.is_registered(port)).then_some(())
    }
}
