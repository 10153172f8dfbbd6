//! Any commands with any parameter lists, of three nexuses, one after the other.

use scsi::{
    BlockSize, Geometry, Identity, InitiatorPort, LogicalUnit, Medium, MediumError, MediumFault, Nexus,
    Provisioning, Response, Status, Step, Work,
};
use std::sync::Mutex;

const BLOCKS: u64 = 64;
/// The most octets of Data-In that are no read of the medium.
const MOST_DATA_IN: usize = 1 << 20;

struct Disk(Mutex<Vec<u8>>);

impl Disk {
    fn with<R>(
        &self,
        offset: u64,
        length: usize,
        then: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<R, MediumError> {
        let mut octets = self.0.lock().unwrap();
        // "All offsets and lengths are inside the medium".
        let at = usize::try_from(offset).unwrap();
        // A block that cannot be used, so that faults are met too.
        if (at..at + length).contains(&(50 * 512)) {
            return Err(MediumFault::UnrecoveredRead.into());
        }
        Ok(then(&mut octets[at..at + length]))
    }
}

impl Medium for Disk {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), MediumError> {
        let length = into.len();
        self.with(offset, length, |octets| into.copy_from_slice(octets))
    }

    fn write_at(&self, offset: u64, from: &[u8]) -> Result<(), MediumError> {
        self.with(offset, from.len(), |octets| octets.copy_from_slice(from))
    }

    fn flush(&self) -> Result<(), MediumError> {
        Ok(())
    }

    fn zero(&self, offset: u64, length: u64, _: bool) -> Result<(), MediumError> {
        self.with(offset, usize::try_from(length).unwrap(), |octets| octets.fill(0))
    }

    fn provisioned(&self, offset: u64) -> Result<(Provisioning, u64), MediumError> {
        assert!(offset < BLOCKS * 512);
        let mapped = (offset / 4096).is_multiple_of(2);
        Ok((if mapped { Provisioning::Mapped } else { Provisioning::Deallocated }, 4096 - offset % 4096))
    }
}

fn judge(response: &Response) {
    assert_eq!(response.status == Status::CheckCondition, !response.sense.is_empty(), "{response:?}");
    assert!(response.sense.len() <= 252 && response.data_in.len() <= MOST_DATA_IN);
    if let [kind, ..] = response.sense[..] {
        assert!(matches!(kind & 0x7f, 0x70..=0x73), "{:02x?}", response.sense);
    }
}

/// Commands: which nexus (bits 0 and 1), what else happens (bits 2 and 3) and how long the CDB is (bits 4 to 7, less
/// one); the CDB; the length of the data, an octet; the data.
pub(crate) fn run(mut octets: &[u8]) {
    let identity = Identity {
        product: "disk".to_owned(),
        revision: "1".to_owned(),
        serial: "memory".to_owned(),
        designators: Vec::new(),
        target: "iqn.2026-01.example:disk".to_owned(),
        portal_group: 1,
    };
    let geometry = Geometry::new(BLOCKS, BlockSize::B512).unwrap().thin();
    let mut unit = LogicalUnit::new(identity, geometry);
    let disk = Disk(Mutex::new(vec![0; BLOCKS as usize * 512]));
    let port = |number: u8| InitiatorPort {
        name: format!("iqn.2026-01.example:{number}"),
        isid: [0x80, 0, 0, 0, 0, number],
    };
    let mut nexuses: Vec<Nexus> = (0..3).map(|number| unit.attach(port(number))).collect();
    while let [how, rest @ ..] = octets {
        let (cdb, rest) = rest.split_at((usize::from(how >> 4) + 1).min(rest.len()));
        let [length, rest @ ..] = rest else { return };
        let (data, rest) = rest.split_at(usize::from(*length).min(rest.len()));
        octets = rest;
        let number = (how & 3).min(2);
        let nexus = nexuses[usize::from(number)];
        match how >> 2 & 3 {
            1 => unit.reset(),
            2 => {
                unit.detach(nexus);
                nexuses[usize::from(number)] = unit.attach(port(number));
                continue;
            }
            _ => {}
        }
        let mut step = unit.begin(nexus, cdb, data.len() as u32);
        if let Step::Wants(wants) = step {
            assert!(wants.data_out > 0 && wants.data_out <= 65_535);
            step = unit.finish(nexus, wants, data);
        }
        match step {
            Step::Done(response) => judge(&response),
            Step::Wants(_) => panic!("a list is wanted once"),
            Step::Work(Work::Read(range) | Work::Write(range)) => {
                assert!(range.length > 0 && range.offset.checked_add(range.length).unwrap() <= BLOCKS * 512);
            }
            Step::Work(Work::Compound(work)) => {
                // As a transport hands it in: no more than the command takes.
                let most = usize::try_from(work.data_out()).unwrap();
                judge(&work.perform(&disk, &data[..data.len().min(most)]));
            }
        }
    }
}
