//! A logical unit: takes CDBs, says what they want.

mod reserve;

use std::sync::{Arc, Mutex};

use crate::block::{self, Blocks};
use crate::cdb::Cdb;
use crate::identity::{Geometry, GeometryError, Identity};
use crate::inquiry;
use crate::lun::{self, Lun};
use crate::mode::Mode;
use crate::nexus::{Attention, InitiatorPort, Nexus, Nexuses};
use crate::opcodes::{self, Command, Kind};
use crate::reservations::{Reservations, RestoreError};
use crate::response::{Response, Status};
use crate::sense::{Sense, SenseFormat};
use crate::supported;
use crate::work::{Compound, Context, Extent, Operation, Transfer, Work};

/// What a command needs next.
#[derive(Clone, Debug)]
pub enum Step {
    /// Nothing: this is its response.
    Done(Response),
    /// Its parameter list: gather that many octets, then [`LogicalUnit::finish`].
    Wants(Wants),
    /// The medium.
    Work(Work),
}

/// A command that waits for its parameter list.
#[derive(Clone, Copy, Debug)]
pub struct Wants {
    /// How many octets; at most 65535. Where the initiator has less to send, hand in what it has.
    pub data_out: u32,
    command: &'static Command,
    cdb: Cdb,
}

/// Why a command goes no further.
pub(crate) enum Refusal {
    Sense(Sense),
    Conflict,
}

impl From<Sense> for Refusal {
    fn from(sense: Sense) -> Refusal {
        Refusal::Sense(sense)
    }
}

/// A block device that answers CDBs.
#[derive(Debug)]
pub struct LogicalUnit {
    identity: Identity,
    geometry: Geometry,
    mode: Mode,
    nexuses: Nexuses,
    inventory: Vec<Lun>,
    reservations: Reservations,
    /// What the transport was last told to keep of them; `None` where that is not known.
    kept: Option<Vec<u8>>,
    atomic: Arc<Mutex<()>>,
}

impl LogicalUnit {
    /// A logical unit after power on; its target has LUN 0 and no other until
    /// [`set_inventory`](Self::set_inventory).
    pub fn new(identity: Identity, geometry: Geometry) -> LogicalUnit {
        LogicalUnit {
            identity,
            geometry,
            mode: Mode::default(),
            nexuses: Nexuses::default(),
            inventory: Lun::new(0).into_iter().collect(),
            reservations: Reservations::default(),
            kept: Some(Vec::new()),
            atomic: Arc::default(),
        }
    }

    /// A logical unit after power on, with the reservations that outlast it: `kept` is what the last
    /// [`Duty::Persist`](crate::Duty::Persist) said, or nothing.
    pub fn restore(identity: Identity, geometry: Geometry, kept: &[u8]) -> Result<LogicalUnit, RestoreError> {
        let reservations = Reservations::restore(kept)?;
        Ok(LogicalUnit { reservations, kept: Some(kept.to_vec()), ..LogicalUnit::new(identity, geometry) })
    }

    /// How large it is.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// A session begins. A nexus of the same initiator port that is still attached is lost.
    pub fn attach(&mut self, mut port: InitiatorPort) -> Nexus {
        // RFC 7143, 4.2.7.2: names are compared in their normalised form, which is lower case.
        port.name.make_ascii_lowercase();
        if let Some(before) = self.nexuses.of(&port) {
            self.detach(before);
        }
        self.nexuses.attach(port)
    }

    /// I_T nexus loss: the session is gone. What it reserved by RESERVE is released; its persistent
    /// reservations and registrations stay.
    pub fn detach(&mut self, nexus: Nexus) {
        self.nexuses.detach(nexus);
        if self.reservations.simple == Some(nexus) {
            self.reservations.simple = None;
        }
    }

    /// LOGICAL UNIT RESET (SAM-5, logical unit reset). Its tasks are the transport's to abort.
    pub fn reset(&mut self) {
        self.mode = Mode::default();
        self.reservations.simple = None;
        self.nexuses.tell(Attention::UnitReset, None);
    }

    /// CLEAR TASK SET by `by`: the other nexuses whose tasks were aborted are told.
    pub fn tasks_cleared(&mut self, by: Nexus, of: &[Nexus]) {
        for nexus in of.iter().filter(|nexus| **nexus != by) {
            if let Some(attached) = self.nexuses.get_mut(*nexus) {
                attached.attentions.add(Attention::TasksCleared);
            }
        }
    }

    /// The medium has another size now; it never gets smaller under a command.
    pub fn resize(&mut self, blocks: u64) -> Result<(), GeometryError> {
        let resized = self.geometry.resized(blocks)?;
        if resized != self.geometry {
            self.geometry = resized;
            self.nexuses.tell(Attention::CapacityChanged, None);
        }
        Ok(())
    }

    /// The logical units that the target has, this one among them.
    pub fn set_inventory(&mut self, inventory: &[Lun]) {
        if self.inventory != inventory {
            self.inventory = inventory.to_vec();
            self.nexuses.tell(Attention::LunsChanged, None);
        }
    }

    /// Begins a command. `data_out` is how many octets the initiator says it has to send (in iSCSI the
    /// Expected Data Transfer Length of a write, else zero).
    pub fn begin(&mut self, nexus: Nexus, cdb: &[u8], data_out: u32) -> Step {
        match self.step(nexus, cdb, data_out.into()) {
            Ok(step) => step,
            Err(refusal) => Step::Done(self.refused(refusal)),
        }
    }

    /// Goes on with a command whose parameter list has come.
    pub fn finish(&mut self, nexus: Nexus, wants: Wants, list: &[u8]) -> Step {
        match self.finished(nexus, wants, list) {
            Ok(step) => step,
            Err(refusal) => Step::Done(self.refused(refusal)),
        }
    }

    /// The response where a [`Duty`](crate::Duty) could not be done. What was decided stays decided, and is in
    /// the next one.
    pub fn unkept(&mut self) -> Response {
        self.kept = None;
        Response::check(&Sense::INTERNAL_TARGET_FAILURE, self.mode.format())
    }

    fn refused(&self, refusal: Refusal) -> Response {
        match refusal {
            Refusal::Sense(sense) => Response::check(&sense, self.mode.format()),
            Refusal::Conflict => Response::status(Status::ReservationConflict),
        }
    }

    fn step(&mut self, nexus: Nexus, octets: &[u8], data_out: u64) -> Result<Step, Refusal> {
        let cdb = Cdb::new(octets).ok_or(Sense::INVALID_FIELD_IN_CDB)?;
        let thin = self.geometry.thin;
        let found = opcodes::find(&cdb, thin);
        self.admit(nexus, &cdb, found.as_ref().ok())?;
        let command = found?;
        if command.kind.writes() {
            self.writable()?;
        }
        opcodes::check(command, &cdb, octets.len(), thin)?;
        self.run(nexus, command, &cdb, data_out)
    }

    /// Unit attentions and reservations, in their order (SAM-5, status precedence).
    fn admit(&mut self, nexus: Nexus, cdb: &Cdb, command: Option<&&Command>) -> Result<(), Refusal> {
        let attached = self.nexuses.get_mut(nexus).ok_or(Sense::NEXUS_LOST)?;
        let kind = command.map(|command| command.kind);
        // SAM-5, unit attention conditions: INQUIRY, REPORT LUNS and REQUEST SENSE do not report it.
        let silent = matches!(kind, Some(Kind::Inquiry | Kind::ReportLuns | Kind::RequestSense));
        let tell = !silent && !attached.attentions.is_empty();
        if tell && let Some(attention) = attached.attentions.take_reset() {
            return Err(attention.sense().into());
        }
        if let Some(command) = command
            && !self.reservations.is_free()
            && self.conflicts(nexus, cdb, command)
        {
            return Err(Refusal::Conflict);
        }
        if tell && let Some(attention) = self.nexuses.get_mut(nexus).and_then(|one| one.attentions.take()) {
            return Err(attention.sense().into());
        }
        Ok(())
    }

    fn run(
        &mut self,
        nexus: Nexus,
        command: &'static Command,
        cdb: &Cdb,
        data_out: u64,
    ) -> Result<Step, Refusal> {
        let geometry = &self.geometry;
        let response = match command.kind {
            Kind::Read => return Ok(self.transfer(cdb, Work::Read)?),
            Kind::Write => return Ok(self.transfer(cdb, Work::Write)?),
            Kind::WriteVerify | Kind::CompareAndWrite | Kind::OrWrite | Kind::WriteSame => {
                let sync = !self.mode.write_cache;
                let operation = block::operation(command.kind, cdb, geometry, data_out, sync)?;
                return Ok(self.compound(operation));
            }
            Kind::Verify | Kind::Prefetch | Kind::SynchronizeCache => {
                let operation = block::operation(command.kind, cdb, geometry, data_out, false)?;
                return Ok(self.compound(operation));
            }
            Kind::Unmap => return Ok(self.wants(command, cdb, cdb.be16(7).into())),
            Kind::GetLbaStatus => return Ok(self.compound(Some(block::status(cdb, geometry)?))),
            Kind::ModeSelect6 | Kind::ModeSelect10 => {
                let length = Mode::select_length(cdb)?;
                return Ok(self.wants(command, cdb, length));
            }
            Kind::TestUnitReady => Response::good(),
            Kind::StartStopUnit => start_stop(cdb)?,
            Kind::PreventAllow => prevent_allow(cdb)?,
            Kind::RequestSense => self.request_sense(nexus, cdb),
            Kind::Inquiry => inquiry::inquiry(cdb, &self.identity, geometry)?,
            Kind::ModeSense6 | Kind::ModeSense10 => self.mode.sense(cdb, geometry)?,
            Kind::ReadCapacity10 | Kind::ReadCapacity16 => block::capacity(command.kind, cdb, geometry)?,
            Kind::ReportLuns => {
                let response = lun::report(cdb, &self.inventory)?;
                // SPC-5, REPORT LUNS: the unit attention REPORTED LUNS DATA HAS CHANGED is cleared by it.
                if let Some(attached) = self.nexuses.get_mut(nexus) {
                    attached.attentions.drop(Attention::LunsChanged);
                }
                response
            }
            Kind::ReportOpcodes => supported::opcodes(cdb, geometry.thin)?,
            Kind::ReportManagement => supported::management(cdb),
            Kind::Reserve | Kind::Release => self.reserve(nexus, command.kind)?,
            Kind::ReservationIn => self.reservations.report(cdb)?,
            Kind::ReservationOut => {
                let me = &self.nexuses.get(nexus).ok_or(Sense::NEXUS_LOST)?.port;
                if self.reservations.shuts_out(cdb, me) {
                    return Err(Refusal::Conflict);
                }
                // Every service action has a parameter list.
                return match cdb.be32(5) {
                    24..=0xffff => Ok(self.wants(command, cdb, cdb.be32(5))),
                    _ => Err(Sense::PARAMETER_LIST_LENGTH.into()),
                };
            }
        };
        Ok(Step::Done(response))
    }

    fn finished(&mut self, nexus: Nexus, wants: Wants, list: &[u8]) -> Result<Step, Refusal> {
        self.nexuses.get(nexus).ok_or(Sense::NEXUS_LOST)?;
        let list = &list[..list.len().min(wants.data_out as usize)];
        match wants.command.kind {
            Kind::Unmap => {
                let operation = block::unmap(list, &self.geometry, !self.mode.write_cache)?;
                Ok(self.compound(operation))
            }
            Kind::ModeSelect6 | Kind::ModeSelect10 => {
                let mode = self.mode.select(&wants.cdb, list, &self.geometry)?;
                if mode != self.mode {
                    self.mode = mode;
                    // SPC-5, MODE SELECT (6): all other I_T nexuses: MODE PARAMETERS CHANGED.
                    self.nexuses.tell(Attention::ModeChanged, Some(nexus));
                }
                Ok(Step::Done(Response::good()))
            }
            Kind::ReservationOut => Ok(Step::Done(self.reserve_out(nexus, &wants, list)?)),
            _ => Err(Sense::INVALID_OPERATION_CODE.into()),
        }
    }

    fn writable(&self) -> Result<(), Sense> {
        if self.geometry.read_only {
            return Err(Sense::WRITE_PROTECTED);
        }
        if self.mode.software_protect {
            return Err(Sense::SOFTWARE_WRITE_PROTECTED);
        }
        Ok(())
    }

    fn context(&self) -> Context {
        Context { block_size: self.geometry.block_size(), format: self.mode.format() }
    }

    fn transfer(&self, cdb: &Cdb, work: fn(Transfer) -> Work) -> Result<Step, Sense> {
        let Extent { offset, length } = Blocks::of(cdb).transfer(&self.geometry)?;
        if length == 0 {
            return Ok(Step::Done(Response::good()));
        }
        // READ (6) and WRITE (6) have a part of the LBA where the others have FUA.
        let asked = cdb.octet(0) >> 5 != 0 && cdb.bit(1, 0x08);
        let fua = asked || !self.mode.write_cache;
        Ok(Step::Work(work(Transfer { offset, length, fua, context: self.context() })))
    }

    fn compound(&self, operation: Option<Operation>) -> Step {
        match operation {
            Some(operation) => Step::Work(Work::Compound(Compound {
                operation,
                context: self.context(),
                atomic: Arc::clone(&self.atomic),
            })),
            None => Step::Done(Response::good()),
        }
    }

    /// A parameter list length of zero is no error, and nothing is done (SPC-5, PARAMETER LIST LENGTH).
    fn wants(&self, command: &'static Command, cdb: &Cdb, data_out: u32) -> Step {
        if data_out == 0 {
            return Step::Done(Response::good());
        }
        Step::Wants(Wants { data_out, command, cdb: *cdb })
    }

    /// REQUEST SENSE: a pending unit attention is its parameter data, and told by it.
    fn request_sense(&mut self, nexus: Nexus, cdb: &Cdb) -> Response {
        let format = if cdb.bit(1, 0x01) { SenseFormat::Descriptor } else { SenseFormat::Fixed };
        let attention = self.nexuses.get_mut(nexus).and_then(|attached| attached.attentions.take());
        let sense = attention.map_or(Sense::NONE, Attention::sense);
        Response::data(sense.encode(format), cdb.octet(4).into())
    }
}

/// START STOP UNIT: nothing spins, so that every power condition is the one there is; a medium that cannot be
/// removed is not ejected.
fn start_stop(cdb: &Cdb) -> Result<Response, Sense> {
    match cdb.octet(4) >> 4 {
        0x0 if cdb.bit(4, 0x02) => Err(Sense::in_cdb_bit(4, 1)),
        0x0..=0x3 | 0x7 | 0xa | 0xb => Ok(Response::good()),
        _ => Err(Sense::in_cdb_bit(4, 7)),
    }
}

/// PREVENT ALLOW MEDIUM REMOVAL: nothing can be removed.
fn prevent_allow(cdb: &Cdb) -> Result<Response, Sense> {
    // 10b and 11b are obsolete.
    if cdb.octet(4) > 1 { Err(Sense::in_cdb_bit(4, 1)) } else { Ok(Response::good()) }
}
