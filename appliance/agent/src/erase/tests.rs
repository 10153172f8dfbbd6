use super::*;
use crate::device::tests::Memory;
use std::sync::Mutex;

const SIZE: usize = 64 << 20;

/// A disk full of data, with an MBR of one partition from 16 to 48 MiB.
fn disk() -> Memory {
    let mut octets = vec![7; SIZE];
    octets[446..510].fill(0);
    octets[450] = 0x83;
    octets[454..458].copy_from_slice(&(16u32 << 11).to_le_bytes());
    octets[458..462].copy_from_slice(&(32u32 << 11).to_le_bytes());
    octets[510..512].copy_from_slice(&[0x55, 0xaa]);
    Memory::new(octets, 512)
}

#[test]
fn the_ends_of_the_disk_and_of_its_partitions_are_wiped_and_nothing_else() {
    let disk = disk();
    let told = Mutex::new(Vec::new());
    erase(&[&disk], &|progress| told.lock().unwrap().push(progress), &|| false).unwrap();
    let octets = disk.octets();
    for (mib, chunk) in octets.chunks(1 << 20).enumerate() {
        let wiped = matches!(mib, 0..4 | 16..20 | 44..48 | 60..64);
        assert_eq!(is_zero(chunk), wiped, "MiB {mib}");
    }
    let told = told.into_inner().unwrap();
    assert_eq!((told[0].done, told[told.len() - 1].done), (0, told[0].total));
    assert!(told.is_sorted_by_key(|progress| progress.done));
}

#[test]
fn wiping_twice_is_wiping_once() {
    let disk = disk();
    erase(&[&disk], &|_| (), &|| false).unwrap();
    erase(&[&disk], &|_| (), &|| false).unwrap();
    assert!(is_zero(&disk.octets()[..4 << 20]));
}

#[test]
fn a_disk_smaller_than_its_ends_is_wiped_whole() {
    let disk = Memory::new(vec![7; 5 << 20], 512);
    erase(&[&disk], &|_| (), &|| false).unwrap();
    assert!(is_zero(&disk.octets()));
}

#[test]
fn a_disk_that_does_not_forget_is_a_fault() {
    let mut disk = disk();
    disk.bad_read = Some(17 << 20);
    let Err(Halt::Failed(failure)) = erase(&[&disk], &|_| (), &|| false) else { panic!("no failure") };
    assert_eq!(failure.kind, FailureKind::DiskFault);
}

#[test]
fn it_stops_when_it_is_told_to() {
    assert!(matches!(erase(&[&disk()], &|_| (), &|| true), Err(Halt::Stopped)));
}
