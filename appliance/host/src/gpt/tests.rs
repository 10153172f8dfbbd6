use super::*;
use std::io::Cursor;

const MIB: u64 = 1 << 20;

/// A disk of `size` octets that an image of `image` octets was written to, its octets behind it `noise`.
fn flashed(image: u64, size: u64, noise: u8) -> Vec<u8> {
    let mut disk = vec![0; image as usize];
    let mut at = Cursor::new(&mut disk[..]);
    GPT::write_protective_mbr_into(&mut at, SECTOR).unwrap();
    let mut gpt = GPT::new_from(&mut at, SECTOR, [7; 16]).unwrap();
    let mut start = ALIGN;
    for (number, (name, mib)) in (1..).zip([("bios", 1), ("esp", 2), ("system-a", 4), ("system-b", 4)]) {
        let length = mib * MIB / SECTOR;
        gpt[number] = GPTPartitionEntry {
            partition_type_guid: [9; 16],
            unique_partition_guid: [number as u8; 16],
            starting_lba: start,
            ending_lba: start + length - 1,
            attribute_bits: 0,
            partition_name: name.into(),
        };
        start += length;
    }
    gpt.write_into(&mut at).unwrap();
    disk.resize(size as usize, noise);
    disk
}

fn crc(octets: &[u8]) -> u32 {
    !octets.iter().fold(!0u32, |crc, octet| {
        (0..8).fold(crc ^ u32::from(*octet), |crc, _| crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

/// A header after a change, its checksum made right.
fn whole(header: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut header = header.to_vec();
    change(&mut header);
    header[16..20].fill(0);
    let sum = crc(&header);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    header
}

fn data(table: &Table) -> Partition {
    Partition { number: 5, guid: Uuid::from_u128(0x1234), name: "data".into(), range: table.rest() }
}

fn settle(disk: &mut [u8]) {
    let steps = settled(disk);
    apply(disk, &steps);
}

fn read(disk: &[u8]) -> Result<Table, Odd> {
    Table::read(&mut Cursor::new(disk))
}

fn settled(disk: &[u8]) -> Vec<Step> {
    let mut table = read(disk).unwrap();
    let data = data(&table);
    if table.partitions().len() < 5 {
        table.add(&data).unwrap();
    }
    table.steps().unwrap()
}

/// The writes cut into sectors, for a sector is what a disk writes whole.
fn sectors(steps: &[Step]) -> Vec<Step> {
    let mut cut = Vec::new();
    for step in steps {
        match step {
            Step::Flush => cut.push(Step::Flush),
            Step::Write(at, octets) => cut.extend(
                octets.chunks(512).enumerate().map(|(n, s)| Step::Write(at + n as u64 * SECTOR, s.to_vec())),
            ),
        }
    }
    cut
}

fn apply(disk: &mut [u8], steps: &[Step]) {
    for step in steps {
        if let Step::Write(at, octets) = step {
            disk[*at as usize..*at as usize + octets.len()].copy_from_slice(octets);
        }
    }
}

#[test]
fn the_rest_of_the_disk_becomes_a_partition_and_the_copy_goes_to_its_end() {
    let mut disk = flashed(13 * MIB, 40 * MIB + 5 * SECTOR, 0xee);
    let old = read(&disk).unwrap();
    assert!(old.is_primary() && !old.is_settled());
    assert_eq!(old.rest(), 13 * MIB..39 * MIB);
    settle(&mut disk);
    let table = read(&disk).unwrap();
    assert!(table.is_settled());
    let names: Vec<_> = table.partitions().into_iter().map(|p| (p.number, p.name)).collect();
    let expected = [(1, "bios"), (2, "esp"), (3, "system-a"), (4, "system-b"), (5, "data")];
    assert_eq!(names, expected.map(|(number, name)| (number, name.to_owned())));
    assert_eq!(table.partitions()[4].range, 13 * MIB..39 * MIB);
    // The copy alone says the same.
    let first = disk[512..512 + 92].to_vec();
    disk[SECTOR as usize] ^= 1;
    let copy = read(&disk).unwrap();
    assert!(!copy.is_primary());
    assert_eq!(copy.partitions(), table.partitions());
    // What stands in the first one meanwhile is nobody's to follow: checksums in order, and 2^32 - 1 entries.
    let endless = whole(&first, |header| header[80..84].fill(0xff));
    disk[512..512 + 92].copy_from_slice(&endless);
    assert_eq!(read(&disk).unwrap().partitions(), table.partitions());
    disk[512..512 + 92].copy_from_slice(&first);
    let covered = u32::from_le_bytes(disk[458..462].try_into().unwrap());
    assert_eq!(u64::from(covered), disk.len() as u64 / SECTOR - 1);
}

#[test]
fn a_power_cut_at_any_sector_leaves_a_table_with_the_slots_and_the_next_boot_finishes_it() {
    let before = flashed(13 * MIB, 24 * MIB, 0);
    let steps = sectors(&settled(&before));
    let mut whole = before.clone();
    apply(&mut whole, &steps);
    let (mut by_the_copy, mut anew) = (0, 0);
    // Without a flush between, writes reach the medium in any order: forwards and backwards are tried.
    let mut done = 0;
    for group in steps.split_inclusive(|step| *step == Step::Flush) {
        for cut in 0..=group.len() {
            for backwards in [false, true] {
                let mut disk = before.clone();
                apply(&mut disk, &steps[..done]);
                let part = if backwards { &group[group.len() - cut..] } else { &group[..cut] };
                apply(&mut disk, part);
                let table = read(&disk).unwrap_or_else(|e| panic!("after {done} and {cut}: {e}"));
                let slots = table.partitions();
                assert_eq!(slots[..4], read(&before).unwrap().partitions()[..]);
                by_the_copy += u32::from(!table.is_primary());
                anew += u32::from(slots.len() == 4);
                let rest = settled(&disk);
                apply(&mut disk, &rest);
                assert!(disk == whole, "after {done} and {cut} it is finished otherwise");
            }
        }
        done += group.len();
    }
    assert!(by_the_copy > 0 && anew > 30, "{by_the_copy} {anew}");
}

#[test]
fn what_is_done_twice_is_done_once() {
    let mut disk = flashed(13 * MIB, 24 * MIB, 0);
    settle(&mut disk);
    let once = disk.clone();
    settle(&mut disk);
    assert!(disk == once);
    let mut table = read(&disk).unwrap();
    let again = data(&table);
    assert_eq!(table.add(&again).unwrap_err().to_string(), "entry 5 of the GPT is a partition \"data\"");
}

#[test]
fn a_disk_no_larger_than_the_image_has_no_rest() {
    let disk = flashed(13 * MIB, 13 * MIB, 0);
    assert!(read(&disk).unwrap().rest().is_empty());
}

#[test]
fn no_octets_make_it_panic() {
    let disk = flashed(13 * MIB, 14 * MIB, 0);
    for at in (512..512 + 92).chain(1024..1024 + 128 * 5) {
        for bit in [1, 0x80] {
            let mut noise = disk.clone();
            noise[at] ^= bit;
            // Its checksums made right again, so that it is looked at.
            let entries = crc(&noise[1024..1024 + 128 * 128]);
            let header = whole(&noise[512..512 + 92], |header| {
                header[88..92].copy_from_slice(&entries.to_le_bytes());
            });
            noise[512..512 + 92].copy_from_slice(&header);
            if let Ok(table) = read(&noise) {
                let _ = (table.partitions(), table.rest());
                let _ = table.steps();
            }
        }
    }
    for size in [0, 1, 511, 512, 1024, 4096, 1 << 20] {
        assert!(read(&vec![0xff; size]).is_err());
    }
}
