use super::*;

const SECTOR: u64 = 512;

/// An image of so many octets with a GPT of one partition from 1 MiB to 5 MiB, which is full of data.
pub(crate) fn gpt_image(size: usize) -> Vec<u8> {
    let mut octets = vec![0; size];
    for (at, octet) in octets[1 << 20..5 << 20].iter_mut().enumerate() {
        *octet = (at % 251) as u8 + 1;
    }
    let mut disk = Cursor::new(octets);
    let mut gpt = GPT::new_from(&mut disk, SECTOR, [9; 16]).unwrap();
    gpt[1] = GPTPartitionEntry {
        partition_type_guid: LINUX,
        unique_partition_guid: [1; 16],
        starting_lba: 2048,
        ending_lba: 5 * 2048 - 1,
        attribute_bits: 0,
        partition_name: "root".into(),
    };
    gpt.write_into(&mut disk).unwrap();
    GPT::write_protective_mbr_into(&mut disk, SECTOR).unwrap();
    disk.into_inner()
}

fn edges(octets: &[u8]) -> Edges {
    let edge = EDGE as usize;
    Edges {
        head: octets[..edge].to_vec(),
        tail: octets[octets.len() - edge..].to_vec(),
        size: octets.len() as u64,
        sector: SECTOR,
    }
}

/// The image on a disk of 20 MiB.
fn on_a_disk(mut image: Vec<u8>) -> Edges {
    image.resize(20 << 20, 0);
    edges(&image)
}

fn gpt(edges: &Edges) -> GPT {
    let Ok(Table::Gpt(gpt)) = edges.table() else { panic!("no GPT") };
    *gpt
}

fn bad(result: Result<Settled, Failure>) -> String {
    let failure = result.unwrap_err();
    assert_eq!(failure.kind, FailureKind::BadOrder);
    failure.text
}

/// Recomputes the primary header's checksums after a change, as a hostile image's author would.
fn forge(edges: &mut Edges, change: impl Fn(&mut GPTHeader)) {
    let mut at = Cursor::new(&edges.head);
    at.set_position(SECTOR);
    let mut header = GPTHeader::read_from(&mut at).unwrap();
    change(&mut header);
    header.update_crc32_checksum();
    let mut octets = Vec::new();
    octets.extend(header.signature);
    octets.extend(header.revision);
    octets.extend(header.header_size.to_le_bytes());
    octets.extend(header.crc32_checksum.to_le_bytes());
    octets.extend(header.reserved);
    for lba in [header.primary_lba, header.backup_lba, header.first_usable_lba, header.last_usable_lba] {
        octets.extend(lba.to_le_bytes());
    }
    octets.extend(header.disk_guid);
    octets.extend(header.partition_entry_lba.to_le_bytes());
    octets.extend(header.number_of_partition_entries.to_le_bytes());
    octets.extend(header.size_of_partition_entry.to_le_bytes());
    octets.extend(header.partition_entry_array_crc32.to_le_bytes());
    edges.head[512..512 + octets.len()].copy_from_slice(&octets);
}

#[test]
fn the_gpts_copy_moves_to_the_disks_end() {
    let mut edges = on_a_disk(gpt_image(6 << 20));
    let settled = edges.settle(6 << 20, None).unwrap();
    assert_eq!(settled, Settled { stale: Some((6 << 20) - 512..6 << 20), ..Settled::default() });
    let gpt = gpt(&edges);
    assert_eq!((gpt.header.backup_lba, gpt.header.last_usable_lba), ((20 << 11) - 1, (20 << 11) - 34));
    let mut tail = Cursor::new(&edges.tail[EDGE as usize - 512..]);
    let copy = GPTHeader::read_from(&mut tail).unwrap();
    assert_eq!((copy.primary_lba, copy.backup_lba), ((20 << 11) - 1, 1));
    assert_eq!(edges.head[MBR_ENTRIES + 12..MBR_ENTRIES + 16], ((20u32 << 11) - 1).to_le_bytes());
}

#[test]
fn settled_twice_is_settled_once() {
    let mut edges = on_a_disk(gpt_image(6 << 20));
    edges.settle(6 << 20, None).unwrap();
    let once = edges.clone();
    assert_eq!(edges.settle(6 << 20, None).unwrap(), Settled::default());
    assert!(edges == once);
}

#[test]
fn a_config_drive_gets_the_last_place_under_its_name() {
    let mut edges = on_a_disk(gpt_image(6 << 20));
    let settled = edges.settle(6 << 20, Some((70_000, Digest([3; 32])))).unwrap();
    let place = settled.config_drive.unwrap();
    assert_eq!((place.start, place.end), (18 << 20, 19 << 20));
    let gpt = gpt(&edges);
    assert_eq!(gpt[2].partition_name.as_str(), "config-2");
    assert_eq!((gpt[2].starting_lba, gpt[2].ending_lba), (18 << 11, (19 << 11) - 1));
    assert_eq!(gpt[1].ending_lba, 5 * 2048 - 1);
}

#[test]
fn the_same_drive_gets_the_same_guid_and_another_another() {
    let guid = |digest| {
        let mut edges = on_a_disk(gpt_image(6 << 20));
        edges.settle(6 << 20, Some((1000, Digest([digest; 32])))).unwrap();
        gpt(&edges)[2].unique_partition_guid
    };
    assert_eq!(guid(3), guid(3));
    assert_ne!(guid(3), guid(4));
}

#[test]
fn a_partition_up_to_the_end_leaves_no_place() {
    let mut edges = edges(&gpt_image(6 << 20));
    let text = bad(edges.settle(6 << 20, Some((3 << 20, Digest([3; 32])))));
    assert!(text.contains("reaches to the disk's end"), "{text}");
}

#[test]
fn a_table_of_another_sector_size_is_refused() {
    let mut edges = on_a_disk(gpt_image(6 << 20));
    edges.sector = 4096;
    let text = bad(edges.settle(6 << 20, None));
    assert!(text.contains("sectors of 512 octets and the disk's have 4096"), "{text}");
}

#[test]
fn a_hostile_gpt_is_left_as_it_is_or_refused_and_nothing_panics() {
    let changes: [fn(&mut GPTHeader); 7] = [
        |header| header.number_of_partition_entries = u32::MAX,
        |header| header.number_of_partition_entries = 0,
        |header| header.size_of_partition_entry = 1,
        |header| header.partition_entry_lba = u64::MAX,
        |header| header.primary_lba = u64::MAX,
        |header| header.partition_entry_array_crc32 ^= 1,
        |header| header.crc32_checksum = 0,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut edges = on_a_disk(gpt_image(6 << 20));
        forge(&mut edges, change);
        let before = edges.clone();
        match edges.settle(6 << 20, None) {
            Ok(Settled { odd: Some(_), .. }) => assert!(edges == before, "change {number}"),
            Ok(settled) => assert_eq!(number, 6, "{settled:?}"),
            Err(e) => panic!("{e:?}"),
        }
        forge(&mut edges, |_| ());
        let _ = edges.settle(6 << 20, Some((1000, Digest([3; 32]))));
    }
}

#[test]
fn partitions_outside_the_disk_are_odd() {
    for (first, last) in [(0, 10), (2048, u64::MAX), (u64::MAX, u64::MAX), (4096, 2048)] {
        let mut edges = on_a_disk(gpt_image(6 << 20));
        edges.head[1024 + 32..1024 + 40].copy_from_slice(&first.to_le_bytes());
        edges.head[1024 + 40..1024 + 48].copy_from_slice(&last.to_le_bytes());
        let partitions: Vec<GPTPartitionEntry> = (0..128)
            .map(|number| {
                let mut at = Cursor::new(&edges.head);
                at.set_position(1024 + number * 128);
                GPTPartitionEntry::read_from(&mut at).unwrap()
            })
            .collect();
        forge(&mut edges, |header| header.update_partition_entry_array_crc32(&partitions));
        let settled = edges.settle(6 << 20, None).unwrap();
        assert!(settled.odd.unwrap().contains("outside the disk"), "{first} {last}");
        assert_eq!(edges.partitions(), []);
    }
}

/// An MBR with so many partitions of one MiB each, from 1 MiB on.
fn mbr_image(partitions: usize) -> Vec<u8> {
    let mut octets = vec![0; 6 << 20];
    for number in 0..partitions {
        let entry = &mut octets[MBR_ENTRIES + number * 16..][..16];
        entry[4] = MBR_LINUX;
        entry[8..12].copy_from_slice(&((number as u32 + 1) << 11).to_le_bytes());
        entry[12..16].copy_from_slice(&(1u32 << 11).to_le_bytes());
    }
    octets[510..512].copy_from_slice(&[0x55, 0xaa]);
    octets
}

#[test]
fn an_mbr_gets_an_entry_for_the_config_drive() {
    let mut edges = on_a_disk(mbr_image(3));
    let settled = edges.settle(6 << 20, Some((70_000, Digest([3; 32])))).unwrap();
    assert_eq!(settled.config_drive, Some(18 << 20..19 << 20));
    assert_eq!(edges.partitions()[3], 18 << 20..19 << 20);
}

#[test]
fn a_full_mbr_has_no_place_and_without_a_drive_it_is_left_alone() {
    let mut edges = on_a_disk(mbr_image(4));
    let before = edges.clone();
    assert_eq!(edges.settle(6 << 20, None).unwrap(), Settled::default());
    assert!(edges == before);
    let text = bad(edges.settle(6 << 20, Some((1000, Digest([3; 32])))));
    assert!(text.contains("all four entries"), "{text}");
}

#[test]
fn a_boot_sector_of_a_file_system_is_no_mbr() {
    let mut octets = vec![0; 6 << 20];
    octets[..512].fill(0x41);
    octets[510..512].copy_from_slice(&[0x55, 0xaa]);
    let text = bad(on_a_disk(octets).settle(6 << 20, Some((1000, Digest([3; 32])))));
    assert!(text.contains("no partition table"), "{text}");
}

#[test]
fn any_octets_may_stand_at_a_disks_ends() {
    let mut number = 1u32;
    for round in 0..200 {
        let mut edges = on_a_disk(gpt_image(6 << 20));
        for _ in 0..20 {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = (number >> 8) as usize % 4096;
            edges.head[at] = number as u8;
        }
        if round % 2 == 0 {
            forge_whole(&mut edges);
        }
        let _ = edges.settle(6 << 20, Some((1000, Digest([3; 32]))));
        edges.partitions();
    }
}

/// Makes the header's checksum right again, if it can still be read as one.
fn forge_whole(edges: &mut Edges) {
    edges.head[528..532].fill(0);
    let mut octets = edges.head[512..604].to_vec();
    octets[..16].copy_from_slice(&[0x45, 0x46, 0x49, 0x20, 0x50, 0x41, 0x52, 0x54, 0, 0, 1, 0, 92, 0, 0, 0]);
    let crc = octets.iter().fold(!0u32, |crc, octet| {
        (0..8).fold(crc ^ u32::from(*octet), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    });
    octets[16..20].copy_from_slice(&(!crc).to_le_bytes());
    edges.head[512..604].copy_from_slice(&octets);
}
