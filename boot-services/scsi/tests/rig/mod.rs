//! A logical unit on a medium in memory, and initiators that send it commands.

#![allow(dead_code, reason = "no one test uses all of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

use std::sync::Mutex;

use scsi::{
    BlockSize, Designator, Duty, Geometry, Identity, InitiatorPort, LogicalUnit, Medium, MediumError,
    MediumFault, Nexus, Provisioning, Response, Status, Step, Work,
};

pub(crate) const BLOCK: usize = 512;

/// Octets, and which blocks of them are mapped.
pub(crate) struct Memory {
    octets: Mutex<(Vec<u8>, Vec<bool>)>,
    /// What every access fails with.
    pub(crate) broken: Mutex<Option<MediumError>>,
    pub(crate) flushes: Mutex<usize>,
}

impl Memory {
    pub(crate) fn new(blocks: usize) -> Memory {
        Memory {
            octets: Mutex::new((vec![0; blocks * BLOCK], vec![false; blocks])),
            broken: Mutex::new(None),
            flushes: Mutex::new(0),
        }
    }

    pub(crate) fn octets(&self) -> Vec<u8> {
        self.octets.lock().unwrap().0.clone()
    }

    pub(crate) fn break_with(&self, fault: MediumFault, offset: Option<u64>) {
        *self.broken.lock().unwrap() = Some(MediumError { fault, offset });
    }

    fn whole(&self) -> Result<(), MediumError> {
        self.broken.lock().unwrap().map_or(Ok(()), Err)
    }
}

impl Medium for Memory {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), MediumError> {
        self.whole()?;
        let offset = offset as usize;
        into.copy_from_slice(&self.octets.lock().unwrap().0[offset..offset + into.len()]);
        Ok(())
    }

    fn write_at(&self, offset: u64, from: &[u8]) -> Result<(), MediumError> {
        self.whole()?;
        let offset = offset as usize;
        let (octets, mapped) = &mut *self.octets.lock().unwrap();
        octets[offset..offset + from.len()].copy_from_slice(from);
        mapped[offset / BLOCK..(offset + from.len()).div_ceil(BLOCK)].fill(true);
        Ok(())
    }

    fn flush(&self) -> Result<(), MediumError> {
        *self.flushes.lock().unwrap() += 1;
        self.whole()
    }

    fn zero(&self, offset: u64, length: u64, unmap: bool) -> Result<(), MediumError> {
        self.whole()?;
        let (start, end) = (offset as usize, (offset + length) as usize);
        let (octets, mapped) = &mut *self.octets.lock().unwrap();
        octets[start..end].fill(0);
        mapped[start / BLOCK..end / BLOCK].fill(!unmap);
        Ok(())
    }

    fn provisioned(&self, offset: u64) -> Result<(Provisioning, u64), MediumError> {
        self.whole()?;
        let mapped = &self.octets.lock().unwrap().1[offset as usize / BLOCK..];
        let same = mapped.iter().take_while(|one| **one == mapped[0]).count();
        let what = if mapped[0] { Provisioning::Mapped } else { Provisioning::Deallocated };
        Ok((what, (same * BLOCK) as u64))
    }
}

pub(crate) fn identity() -> Identity {
    Identity {
        product: "volume".into(),
        revision: "1.0".into(),
        serial: "0123456789".into(),
        designators: vec![Designator::local(0x0123_4567_89ab_cdef)],
        target: "iqn.2026-01.example:disk".into(),
        portal_group: 1,
    }
}

pub(crate) fn port(number: u8) -> InitiatorPort {
    InitiatorPort { name: format!("iqn.2026-01.example:host{number}"), isid: [0x80, 0, 0, 0, 0, number] }
}

pub(crate) fn geometry(blocks: u64) -> Geometry {
    Geometry::new(blocks, BlockSize::B512).unwrap()
}

/// The logical unit, its medium, and the initiators 0, 1 and 2, which have been told of power on.
pub(crate) struct Rig {
    pub(crate) unit: LogicalUnit,
    pub(crate) medium: Memory,
    pub(crate) nexus: [Nexus; 3],
}

impl Rig {
    pub(crate) fn new(geometry: Geometry) -> Rig {
        Rig::of(LogicalUnit::new(identity(), geometry))
    }

    pub(crate) fn thin(blocks: u64) -> Rig {
        Rig::new(geometry(blocks).thin())
    }

    pub(crate) fn of(mut unit: LogicalUnit) -> Rig {
        let medium = Memory::new(unit.geometry().blocks() as usize);
        let nexus = [0, 1, 2].map(|number| unit.attach(port(number)));
        let mut rig = Rig { unit, medium, nexus };
        for nexus in nexus {
            rig.expect_attention(nexus, 0x29, 0x00);
        }
        rig
    }

    /// Sends a command and does all that it asks for, as a transport would.
    pub(crate) fn send(&mut self, nexus: Nexus, cdb: &[u8], data: &[u8]) -> Response {
        let step = self.unit.begin(nexus, cdb, data.len() as u32);
        self.follow(nexus, step, data)
    }

    pub(crate) fn follow(&mut self, nexus: Nexus, step: Step, data: &[u8]) -> Response {
        match step {
            Step::Done(response) => response,
            Step::Wants(wants) => {
                let list = &data[..data.len().min(wants.data_out as usize)];
                let step = self.unit.finish(nexus, wants, list);
                self.follow(nexus, step, list)
            }
            Step::Work(Work::Read(read)) => {
                let mut octets = vec![0; read.length as usize];
                match self.medium.read_at(read.offset, &mut octets) {
                    Ok(()) => Response { data_in: octets, ..Response::good() },
                    Err(error) => read.failed(error),
                }
            }
            Step::Work(Work::Write(write)) => {
                let data = &data[..data.len().min(write.length as usize)];
                let written = self.medium.write_at(write.offset, data);
                let flushed = if write.fua { self.medium.flush() } else { Ok(()) };
                written.and(flushed).map_or_else(|error| write.failed(error), |()| Response::good())
            }
            Step::Work(Work::Compound(compound)) => {
                let data = &data[..data.len().min(compound.data_out() as usize)];
                let response = compound.perform(&self.medium, data);
                assert!(response.data_in.len() as u64 <= compound.data_in());
                response
            }
        }
    }

    /// Of initiator 0.
    pub(crate) fn command(&mut self, cdb: &[u8], data: &[u8]) -> Response {
        self.send(self.nexus[0], cdb, data)
    }

    /// Of initiator 0, and GOOD; its data.
    pub(crate) fn good(&mut self, cdb: &[u8], data: &[u8]) -> Vec<u8> {
        let response = self.command(cdb, data);
        assert_eq!(response.status, Status::Good, "{cdb:02x?}: {:02x?}", response.sense);
        response.data_in
    }

    /// Of initiator 0, and CHECK CONDITION with this key, code and qualifier.
    pub(crate) fn refused(&mut self, cdb: &[u8], data: &[u8], sense: (u8, u8, u8)) {
        let response = self.command(cdb, data);
        assert_eq!(response.status, Status::CheckCondition, "{cdb:02x?}");
        assert_eq!(read_sense(&response.sense), sense, "{cdb:02x?}");
        assert!(response.data_in.is_empty());
    }

    pub(crate) fn expect_attention(&mut self, nexus: Nexus, code: u8, qualifier: u8) {
        let response = self.send(nexus, &[0; 6], &[]);
        assert_eq!(
            response.status,
            Status::CheckCondition,
            "attention {code:02x}/{qualifier:02x} is not there"
        );
        assert_eq!(read_sense(&response.sense), (6, code, qualifier));
    }

    pub(crate) fn expect_ready(&mut self, nexus: Nexus) {
        let response = self.send(nexus, &[0; 6], &[]);
        assert_eq!(response.status, Status::Good, "{:02x?}", response.sense);
    }

    /// PERSISTENT RESERVE OUT.
    pub(crate) fn reserve_out(
        &mut self,
        nexus: Nexus,
        action: u8,
        kind: u8,
        keys: (u64, u64),
        flags: u8,
    ) -> Response {
        let (cdb, list) = reserve_out(action, kind, keys, flags);
        self.send(nexus, &cdb, &list)
    }

    /// REGISTER AND IGNORE EXISTING KEY.
    pub(crate) fn register(&mut self, nexus: Nexus, key: u64) {
        assert_eq!(self.reserve_out(nexus, 6, 0, (0, key), 0).status, Status::Good);
    }

    /// PERSISTENT RESERVE IN, of an initiator that has no part in anything.
    fn reserve_in(&mut self, action: u8) -> Vec<u8> {
        let nexus = self.unit.attach(port(9));
        self.expect_attention(nexus, 0x29, 0x00);
        let data = self.send(nexus, &[0x5e, action, 0, 0, 0, 0, 0, 8, 0, 0], &[]).data_in;
        self.unit.detach(nexus);
        data
    }

    /// READ RESERVATION: the key and the type.
    pub(crate) fn reservation(&mut self) -> Option<(u64, u8)> {
        let data = self.reserve_in(1);
        (data.len() > 8).then(|| (u64::from_be_bytes(data[8..16].try_into().unwrap()), data[21]))
    }

    /// READ KEYS: PRGENERATION and the keys.
    pub(crate) fn keys(&mut self) -> (u32, Vec<u64>) {
        let data = self.reserve_in(0);
        let keys = data[8..].chunks(8).map(|key| u64::from_be_bytes(key.try_into().unwrap())).collect();
        (u32::from_be_bytes(data[..4].try_into().unwrap()), keys)
    }
}

pub(crate) fn reserve_out(action: u8, kind: u8, keys: (u64, u64), flags: u8) -> ([u8; 10], Vec<u8>) {
    let mut list = keys.0.to_be_bytes().to_vec();
    list.extend(keys.1.to_be_bytes());
    list.extend([0, 0, 0, 0, flags, 0, 0, 0]);
    ([0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0], list)
}

/// The octets of the last duty to keep something.
pub(crate) fn kept(response: &Response) -> Option<&[u8]> {
    response.first.iter().find_map(|duty| match duty {
        Duty::Persist(octets) => Some(&octets[..]),
        Duty::Abort(_) => None,
    })
}

/// Key, code and qualifier.
pub(crate) fn read_sense(sense: &[u8]) -> (u8, u8, u8) {
    match sense[0] & 0x7f {
        0x70 => (sense[2], sense[12], sense[13]),
        _ => (sense[1], sense[2], sense[3]),
    }
}

/// A CDB of ten octets with an LBA and a length.
pub(crate) fn ten(opcode: u8, flags: u8, lba: u32, blocks: u16) -> [u8; 10] {
    let [a, b, c, d] = lba.to_be_bytes();
    let [high, low] = blocks.to_be_bytes();
    [opcode, flags, a, b, c, d, 0, high, low, 0]
}

/// A CDB of twelve octets.
pub(crate) fn twelve(opcode: u8, flags: u8, lba: u32, blocks: u32) -> Vec<u8> {
    let mut cdb = vec![opcode, flags];
    cdb.extend(lba.to_be_bytes());
    cdb.extend(blocks.to_be_bytes());
    cdb.extend([0, 0]);
    cdb
}

/// A CDB of sixteen octets.
pub(crate) fn sixteen(opcode: u8, flags: u8, lba: u64, blocks: u32) -> Vec<u8> {
    let mut cdb = vec![opcode, flags];
    cdb.extend(lba.to_be_bytes());
    cdb.extend(blocks.to_be_bytes());
    cdb.extend([0, 0]);
    cdb
}

/// Numbers that look like chance, the same for the same seed.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ value >> 31
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub(crate) fn octets(&mut self, number: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(number + 8);
        while out.len() < number {
            out.extend(self.next().to_le_bytes());
        }
        out.truncate(number);
        out
    }
}
