use super::*;
use crate::device::tests::Memory;
use scsi::Medium as _;
use std::sync::atomic::Ordering;

const MIB: u64 = 1 << 20;

#[test]
fn octets_that_are_no_whole_blocks_leave_their_neighbours_alone() {
    for block in [512, 4096] {
        let disk = Memory::new(vec![0x55; 3 << 20], block);
        let medium = Medium::new(&disk);
        let mut plain = vec![0x55; 3 << 20];
        for (offset, length) in [(1, 1), (511, 2), (4095, 4098), (MIB - 7, 20), (100, 2 << 20), (8192, 4096)]
        {
            let octets: Vec<u8> = (0..length).map(|at| (at + offset) as u8).collect();
            medium.write_at(offset, &octets).unwrap();
            plain[offset as usize..][..octets.len()].copy_from_slice(&octets);
            let mut back = vec![0; octets.len()];
            medium.read_at(offset, &mut back).unwrap();
            assert!(back == octets, "{offset}+{length}");
        }
        assert!(disk.octets() == plain);
    }
}

#[test]
fn only_what_is_not_zero_is_zeroed() {
    let mut octets = vec![0; 8 << 20];
    octets[3 << 20] = 1;
    octets[(5 << 20) - 1] = 1;
    octets[7 << 20] = 1;
    let disk = Memory::new(octets, 512);
    let medium = Medium::new(&disk);
    medium.zero(512, 6 * MIB, true).unwrap();
    assert_eq!(disk.written.load(Ordering::Relaxed), 2 * MIB);
    let there = disk.octets();
    assert!(is_zero(&there[..7 << 20]));
    assert_eq!(there[7 << 20], 1, "behind the range");
}

#[test]
fn zeros_count_as_not_provisioned() {
    let mut octets = vec![0; 3 << 20];
    octets[(2 << 20) + 9] = 1;
    let disk = Memory::new(octets, 512);
    let medium = Medium::new(&disk);
    assert_eq!(medium.provisioned(512), Ok((Provisioning::Deallocated, MIB)));
    assert_eq!(medium.provisioned(2 * MIB), Ok((Provisioning::Mapped, MIB)));
    assert_eq!(medium.provisioned(3 * MIB - 512), Ok((Provisioning::Deallocated, 512)));
}

#[test]
fn a_fault_says_where() {
    let mut disk = Memory::new(vec![1; 3 << 20], 512);
    disk.bad_write = Some(2 * MIB + 5);
    let medium = Medium::new(&disk);
    let error = medium.write_at(MIB, &vec![0; 2 << 20]).unwrap_err();
    assert_eq!(error, MediumError { fault: MediumFault::WriteFault, offset: Some(2 * MIB) });
}
