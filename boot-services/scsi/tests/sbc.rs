//! SBC-4's sentences (and SBC-2's, of the commands it has no more), each above the test that holds us to it.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod rig;

use rig::{BLOCK, Rig, geometry, ten, twelve};
use scsi::{BlockSize, Geometry, Medium, MediumFault, Step, Work};

const OUT_OF_RANGE: (u8, u8, u8) = (5, 0x21, 0);
const IN_CDB: (u8, u8, u8) = (5, 0x24, 0);
const IN_LIST: (u8, u8, u8) = (5, 0x26, 0);
const MISCOMPARE: (u8, u8, u8) = (0xe, 0x1d, 0);

const BLOCKS: u64 = 300;

fn sixteen(opcode: u8, flags: u8, lba: u64, blocks: u32) -> Vec<u8> {
    rig::sixteen(opcode, flags, lba, blocks)
}

fn compare_and_write(lba: u64, blocks: u8) -> Vec<u8> {
    let mut cdb = sixteen(0x89, 0, lba, 0);
    cdb[13] = blocks;
    cdb
}

/// Each command with an LBA and a number of blocks, in all its lengths, and how much it sends per block.
fn ranged(lba: u64, blocks: u32) -> Vec<(Vec<u8>, usize)> {
    let (short, few) = (lba as u32, blocks as u16);
    let data = blocks as usize * BLOCK;
    let mut all = vec![
        (ten(0x28, 0, short, few).to_vec(), 0),
        (ten(0x2a, 0, short, few).to_vec(), data),
        (ten(0x2e, 2, short, few).to_vec(), data),
        (ten(0x2f, 2, short, few).to_vec(), data),
        (ten(0x34, 0, short, few).to_vec(), 0),
        (ten(0x35, 0, short, few).to_vec(), 0),
        (twelve(0xa8, 0, short, blocks), 0),
        (twelve(0xaa, 0, short, blocks), data),
        (twelve(0xae, 2, short, blocks), data),
        (twelve(0xaf, 2, short, blocks), data),
        (sixteen(0x88, 0, lba, blocks), 0),
        (sixteen(0x8a, 0, lba, blocks), data),
        (sixteen(0x8b, 0, lba, blocks), data),
        (sixteen(0x8e, 2, lba, blocks), data),
        (sixteen(0x8f, 2, lba, blocks), data),
        (sixteen(0x90, 0, lba, blocks), 0),
        (sixteen(0x91, 0, lba, blocks), 0),
        (compare_and_write(lba, blocks as u8), data * 2),
    ];
    if blocks > 0 {
        all.push((ten(0x41, 0, short, few).to_vec(), BLOCK));
        all.push((sixteen(0x93, 0, lba, blocks), BLOCK));
    }
    all
}

// SBC-4: where the LBA plus the transfer length exceeds the capacity of the medium, the command ends with
// LOGICAL BLOCK ADDRESS OUT OF RANGE.
#[test]
fn the_last_block_is_inside_and_the_next_is_out_of_range() {
    let mut rig = Rig::thin(BLOCKS);
    for (cdb, length) in ranged(BLOCKS - 1, 1).into_iter().chain(ranged(BLOCKS - 200, 200)) {
        rig.good(&cdb, &vec![0; length]);
    }
    let beyond = [(BLOCKS - 1, 2), (BLOCKS, 1), (BLOCKS + 1, 0), (0x8000_0000, 1), (0xffff_ffff, 1)];
    for (cdb, length) in beyond.into_iter().flat_map(|(lba, blocks)| ranged(lba, blocks)) {
        rig.refused(&cdb, &vec![0; length], OUT_OF_RANGE);
    }
    for opcode in [0x88, 0x8a, 0x8b, 0x8e, 0x8f, 0x90, 0x91] {
        rig.refused(&sixteen(opcode, 0, u64::MAX, 1), &[0; BLOCK], OUT_OF_RANGE);
        rig.refused(&sixteen(opcode, 0, u64::MAX, u32::MAX), &[0; BLOCK], OUT_OF_RANGE);
    }
}

// SBC-4, READ (10): a TRANSFER LENGTH of zero reads no logical blocks, and is no error.
#[test]
fn zero_blocks_are_no_error_up_to_the_capacity() {
    let mut rig = Rig::thin(BLOCKS);
    for (cdb, _) in ranged(0, 0).into_iter().chain(ranged(BLOCKS, 0)) {
        assert!(rig.good(&cdb, &[]).is_empty());
    }
}

// SBC-2, READ (6): a TRANSFER LENGTH of zero reads 256 logical blocks.
#[test]
fn read_and_write_6_of_zero_blocks_are_256() {
    let mut rig = Rig::thin(BLOCKS);
    rig.good(&[0x0a, 0, 0, 4, 0, 0], &vec![7; 256 * BLOCK]);
    assert_eq!(rig.good(&[0x08, 0, 0, 4, 0, 0], &[]), vec![7; 256 * BLOCK]);
    rig.refused(&[0x08, 0, 0, 45, 0, 0], &[], OUT_OF_RANGE);
    rig.refused(&[0x08, 0x1f, 0xff, 0xff, 1, 0], &[], OUT_OF_RANGE);
}

// SBC-4, Block Limits VPD page: more blocks than MAXIMUM TRANSFER LENGTH are INVALID FIELD IN CDB.
#[test]
fn more_blocks_than_the_maximum_transfer_length_are_refused() {
    for (size, most) in [(BlockSize::B512, 16384), (BlockSize::B4096, 2048)] {
        let mut rig = Rig::new(Geometry::new(1 << 16, size).unwrap());
        let limits = rig.good(&[0x12, 1, 0xb0, 0, 255, 0], &[]);
        assert_eq!(limits[8..12], u32::to_be_bytes(most));
        let begun = rig.unit.begin(rig.nexus[0], &sixteen(0x88, 0, 1, most), 0);
        let Step::Work(Work::Read(read)) = begun else { panic!("{begun:?}") };
        assert_eq!((read.offset, read.length), (size.octets().into(), scsi::MOST_TRANSFER.into()));
        for opcode in [0x88, 0x8a, 0x8b, 0x8e, 0x8f] {
            rig.refused(&sixteen(opcode, 0, 0, most + 1), &[], IN_CDB);
        }
    }
}

// SBC-4, READ (10): without protection information the RDPROTECT field, and its likes, have to be zero.
#[test]
fn protection_information_is_refused() {
    let mut rig = Rig::thin(BLOCKS);
    for protect in 1..8 {
        for (mut cdb, length) in ranged(0, 1) {
            if ![0x34, 0x35, 0x90, 0x91].contains(&cdb[0]) {
                cdb[1] |= protect << 5;
                rig.refused(&cdb, &vec![0; length], IN_CDB);
            }
        }
    }
}

// SBC-4, mode parameter header: DPOFUA says that the DPO and FUA bits are supported.
#[test]
fn dpo_and_fua_are_taken_and_fua_reaches_the_medium() {
    let mut rig = Rig::thin(BLOCKS);
    assert_eq!(rig.good(&[0x1a, 0, 0x3f, 0, 255, 0], &[])[2] & 0x10, 0x10);
    for (mut cdb, length) in ranged(0, 1) {
        if [0x28, 0x2a, 0xa8, 0xaa, 0x88, 0x8a, 0x8b, 0x89].contains(&cdb[0]) {
            cdb[1] |= 0x18;
            let before = *rig.medium.flushes.lock().unwrap();
            let equal = vec![0; length];
            rig.good(&cdb, &equal);
            let flushed = *rig.medium.flushes.lock().unwrap() > before;
            assert_eq!(flushed, length > 0, "{cdb:02x?}");
        }
    }
}

// SBC-4, Caching mode page: with WCE zero, GOOD comes only after all of the data is on the medium.
#[test]
fn without_the_write_cache_every_write_is_flushed() {
    let mut rig = Rig::thin(BLOCKS);
    let mut page = rig.good(&[0x1a, 8, 0x08, 0, 255, 0], &[])[4..].to_vec();
    assert_eq!(page[2], 0x04);
    page[2] = 0;
    rig.good(&[0x15, 0x10, 0, 0, 24, 0], &[&[0; 4][..], &page].concat());
    let writes = [
        (ten(0x2a, 0, 0, 1).to_vec(), vec![1; BLOCK]),
        (ten(0x41, 0, 0, 1).to_vec(), vec![1; BLOCK]),
        (sixteen(0x8b, 0, 0, 1), vec![1; BLOCK]),
        (compare_and_write(0, 1), vec![1; 2 * BLOCK]),
    ];
    for (number, (cdb, data)) in writes.into_iter().enumerate() {
        rig.good(&cdb, &data);
        assert_eq!(*rig.medium.flushes.lock().unwrap(), number + 1);
    }
}

// SBC-4, COMPARE AND WRITE: where the data differ, the sense key is MISCOMPARE, VALID is one, and the INFORMATION field
// is the offset of the first octet that differs.
#[test]
fn compare_and_write_writes_all_or_nothing_and_says_where_it_differs() {
    let mut rig = Rig::thin(BLOCKS);
    rig.good(&compare_and_write(4, 2), &[[0; 2 * BLOCK], [9; 2 * BLOCK]].concat());
    assert_eq!(rig.good(&ten(0x28, 0, 4, 2), &[]), [9; 2 * BLOCK]);
    let mut other = [[9; 2 * BLOCK], [1; 2 * BLOCK]].concat();
    other[700] = 8;
    let response = rig.command(&compare_and_write(4, 2), &other);
    assert_eq!(rig::read_sense(&response.sense), MISCOMPARE);
    assert_eq!(response.sense[0], 0xf0);
    assert_eq!(response.sense[3..7], 700u32.to_be_bytes());
    assert_eq!(rig.good(&ten(0x28, 0, 4, 2), &[]), [9; 2 * BLOCK]);
    // What is to be compared and what is to be written come together, or not at all.
    for length in [0, BLOCK, 3 * BLOCK, 5 * BLOCK] {
        rig.refused(&compare_and_write(4, 2), &vec![9; length], IN_CDB);
    }
}

// SBC-4, VERIFY (10), the BYTCHK field: what is compared with what, and MISCOMPARE DURING VERIFY OPERATION.
#[test]
fn verify_compares_what_bytchk_says() {
    let mut rig = Rig::thin(BLOCKS);
    rig.good(&ten(0x2a, 0, 10, 3), &[5; 3 * BLOCK]);
    rig.good(&ten(0x2f, 0, 10, 3), &[]);
    rig.good(&ten(0x2f, 2, 10, 3), &[5; 3 * BLOCK]);
    // 11b: each block is compared with the one that is sent.
    rig.good(&ten(0x2f, 6, 10, 3), &[5; BLOCK]);
    rig.refused(&ten(0x2f, 6, 10, 4), &[5; BLOCK], MISCOMPARE);
    let mut other = [5; 3 * BLOCK];
    other[1535] = 6;
    rig.refused(&ten(0x2f, 2, 10, 3), &other, MISCOMPARE);
    // 10b: reserved.
    rig.refused(&ten(0x2f, 4, 10, 3), &[], IN_CDB);
    for bytchk in [4, 6] {
        rig.refused(&ten(0x2e, bytchk, 10, 3), &[5; 3 * BLOCK], IN_CDB);
    }
}

// SBC-4, WRITE AND VERIFY (10): the blocks are written, then verified.
#[test]
fn write_and_verify_is_on_the_medium() {
    let mut rig = Rig::thin(BLOCKS);
    for bytchk in [0, 2] {
        rig.good(&ten(0x2e, bytchk, 1, 2), &[bytchk + 1; 2 * BLOCK]);
        assert_eq!(rig.medium.octets()[BLOCK..3 * BLOCK], [bytchk + 1; 2 * BLOCK]);
    }
    assert_eq!(*rig.medium.flushes.lock().unwrap(), 2);
    // An initiator that has less to send writes what it has; the rest is a residual count.
    rig.good(&ten(0x2e, 2, 1, 2), &[4; BLOCK]);
    assert_eq!(rig.medium.octets()[BLOCK..3 * BLOCK], [[4; BLOCK], [3; BLOCK]].concat());
}

// SBC-4, ORWRITE (16): the medium becomes what it was OR what is sent.
#[test]
fn orwrite_sets_bits() {
    let mut rig = Rig::thin(BLOCKS);
    rig.good(&ten(0x2a, 0, 0, 2), &[0b0101; 2 * BLOCK]);
    rig.good(&sixteen(0x8b, 0, 1, 1), &[0b0011; BLOCK]);
    assert_eq!(rig.good(&ten(0x28, 0, 0, 2), &[]), [[0b0101; BLOCK], [0b0111; BLOCK]].concat());
}

// SBC-4, WRITE SAME (10): one logical block is sent, and written to each of them.
#[test]
fn write_same_repeats_one_block() {
    let mut rig = Rig::thin(BLOCKS);
    let block: Vec<u8> = (0..BLOCK).map(|octet| octet as u8).collect();
    rig.good(&ten(0x41, 0, 3, 200), &block);
    assert_eq!(rig.good(&ten(0x28, 0, 3, 200), &[]), block.repeat(200));
    // NDOB: as if one block of zeros had been sent.
    rig.good(&sixteen(0x93, 1, 4, 1), &[]);
    assert_eq!(rig.good(&ten(0x28, 0, 4, 1), &[]), [0; BLOCK]);
    // WSNZ zero: zero blocks are all to the end of the medium.
    rig.good(&ten(0x41, 0, BLOCKS as u32 - 3, 0), &block);
    assert_eq!(rig.good(&ten(0x28, 0, BLOCKS as u32 - 3, 3), &[]), block.repeat(3));
    rig.good(&sixteen(0x93, 1, BLOCKS - 2, 0), &[]);
    assert_eq!(rig.good(&ten(0x28, 0, BLOCKS as u32 - 2, 2), &[]), [0; 2 * BLOCK]);
    rig.refused(&sixteen(0x93, 1, BLOCKS + 1, 0), &[], OUT_OF_RANGE);
    // MAXIMUM WRITE SAME LENGTH.
    let mut large = Rig::new(geometry(1 << 17));
    large.refused(&sixteen(0x93, 1, 0, 0), &[], IN_CDB);
    large.refused(&sixteen(0x93, 1, 0, (1 << 15) + 1), &[], IN_CDB);
    // One block is sent: no more, no less.
    for length in [0, BLOCK / 2, 2 * BLOCK] {
        rig.refused(&ten(0x41, 0, 3, 1), &vec![0; length], IN_CDB);
    }
    // ANCHOR without UNMAP; and with it where nothing can be anchored (ANC_SUP zero).
    for flags in [0x10, 0x18] {
        rig.refused(&ten(0x41, flags, 3, 1), &block, IN_CDB);
        rig.refused(&sixteen(0x93, flags, 3, 1), &block, IN_CDB);
    }
}

/// GET LBA STATUS: the first LBA, the number of blocks and the status of each descriptor.
fn status(rig: &mut Rig, lba: u64, allocation: u32) -> Vec<(u64, u32, u8)> {
    let data = rig.good(&sixteen(0x9e, 0x12, lba, allocation), &[]);
    let field = |octets: &[u8]| octets.iter().fold(0, |all, octet| all << 8 | u64::from(*octet));
    data[8..].chunks(16).map(|one| (field(&one[..8]), field(&one[8..12]) as u32, one[12])).collect()
}

// SBC-4, WRITE SAME (10): blocks are unmapped where they then read as what was sent, else they are written.
#[test]
fn write_same_with_unmap_unmaps_zeros_and_writes_anything_else() {
    let mut rig = Rig::thin(BLOCKS);
    rig.good(&ten(0x2a, 0, 0, 8), &[1; 8 * BLOCK]);
    rig.good(&sixteen(0x93, 8, 2, 2), &[0; BLOCK]);
    rig.good(&sixteen(0x93, 9, 4, 1), &[]);
    rig.good(&sixteen(0x93, 8, 6, 1), &[3; BLOCK]);
    assert_eq!(status(&mut rig, 0, 255)[..3], [(0, 2, 0), (2, 3, 1), (5, 3, 0)]);
    assert_eq!(rig.good(&ten(0x28, 0, 6, 1), &[]), [3; BLOCK]);
    // Without thin provisioning the bit means nothing, and is refused (LBPWS zero); so it is in ten octets
    // (LBPWS10 zero).
    rig.refused(&ten(0x41, 8, 2, 2), &[0; BLOCK], IN_CDB);
    let mut full = Rig::new(geometry(BLOCKS));
    full.refused(&ten(0x41, 8, 2, 2), &[0; BLOCK], IN_CDB);
    full.refused(&sixteen(0x93, 8, 2, 2), &[0; BLOCK], IN_CDB);
}

fn unmap_list(ranges: &[(u64, u32)]) -> Vec<u8> {
    let described = (ranges.len() * 16) as u16;
    let mut list = (described + 6).to_be_bytes().to_vec();
    list.extend(described.to_be_bytes());
    list.extend([0; 4]);
    for (lba, blocks) in ranges {
        list.extend(lba.to_be_bytes());
        list.extend(blocks.to_be_bytes());
        list.extend([0; 4]);
    }
    list
}

fn unmap(list: &[u8]) -> [u8; 10] {
    ten(0x42, 0, 0, list.len() as u16)
}

// SBC-4, UNMAP.
#[test]
fn unmap_frees_what_it_names_and_it_reads_as_zeros() {
    let mut rig = Rig::thin(BLOCKS);
    rig.good(&ten(0x2a, 0, 0, 32), &[1; 32 * BLOCK]);
    let list = unmap_list(&[(4, 4), (16, 1), (16, 2), (0, 0), (BLOCKS, 0)]);
    rig.good(&unmap(&list), &list);
    assert_eq!(
        status(&mut rig, 0, 1024),
        [(0, 4, 0), (4, 4, 1), (8, 8, 0), (16, 2, 1), (18, 14, 0), (32, 268, 1)]
    );
    assert_eq!(rig.good(&ten(0x28, 0, 3, 6), &[])[BLOCK..5 * BLOCK], [0; 4 * BLOCK]);
}

#[test]
fn unmap_holds_lists_against_their_limits() {
    let mut rig = Rig::thin(BLOCKS);
    // A parameter list length of zero is no error; one that is shorter than the header is.
    rig.good(&ten(0x42, 0, 0, 0), &[]);
    rig.refused(&ten(0x42, 0, 0, 7), &[0; 7], (5, 0x1a, 0));
    // No descriptors are no error.
    let none = unmap_list(&[]);
    rig.good(&unmap(&none), &none);
    // An incomplete last descriptor is ignored.
    let mut cut = unmap_list(&[(0, 1), (BLOCKS, 1)]);
    cut.truncate(8 + 31);
    rig.good(&unmap(&cut), &cut);
    let beyond = unmap_list(&[(0, 1), (BLOCKS, 1)]);
    rig.refused(&unmap(&beyond), &beyond, OUT_OF_RANGE);
    let wrapped = unmap_list(&[(u64::MAX, 2)]);
    rig.refused(&unmap(&wrapped), &wrapped, OUT_OF_RANGE);
    let many = unmap_list(&[(0, 1); 257]);
    rig.refused(&unmap(&many), &many, IN_LIST);
    let most = unmap_list(&[(0, 1); 256]);
    rig.good(&unmap(&most), &most);
    let mut large = Rig::thin(1 << 21);
    let long = unmap_list(&[(0, 1 << 20), (0, 1)]);
    large.refused(&unmap(&long), &long, IN_LIST);
    // ANCHOR without ANC_SUP.
    rig.refused(&ten(0x42, 1, 0, 8), &none, IN_CDB);
    // A fully provisioned logical unit has no UNMAP.
    Rig::new(geometry(BLOCKS)).refused(&unmap(&most), &most, (5, 0x20, 0));
}

// SBC-4, GET LBA STATUS: a starting LBA that exceeds the capacity is LOGICAL BLOCK ADDRESS OUT OF RANGE.
#[test]
fn get_lba_status_begins_inside_and_is_cut_to_its_allocation() {
    let mut rig = Rig::thin(BLOCKS);
    rig.good(&ten(0x2a, 0, 8, 1), &[1; BLOCK]);
    for lba in [BLOCKS, BLOCKS + 1, 1 << 63, u64::MAX] {
        rig.refused(&sixteen(0x9e, 0x12, lba, 24), &[], OUT_OF_RANGE);
    }
    assert_eq!(status(&mut rig, 8, 24), [(8, 1, 0)]);
    assert_eq!(status(&mut rig, BLOCKS - 1, 24), [(BLOCKS - 1, 1, 1)]);
    for allocation in [0, 1, 7, 23] {
        let data = rig.good(&sixteen(0x9e, 0x12, 8, allocation), &[]);
        assert_eq!(data.len(), allocation as usize);
    }
    assert_eq!(rig.good(&sixteen(0x9e, 0x12, 0, 8), &[])[..4], 20u32.to_be_bytes());
}

// A medium may keep less than a block of its own: a block of which any octet is kept is mapped.
#[test]
fn a_block_is_mapped_where_a_part_of_it_is() {
    let mut rig = Rig::new(Geometry::new(8, BlockSize::B4096).unwrap().thin());
    rig.medium = rig::Memory::new(64);
    rig.medium.write_at(2 * 4096 + 512, &[1; 1024]).unwrap();
    rig.medium.write_at(5 * 4096 - 512, &[1; 512]).unwrap();
    assert_eq!(status(&mut rig, 0, 255), [(0, 2, 1), (2, 1, 0), (3, 1, 1), (4, 1, 0), (5, 3, 1)]);
}

// SBC-4, READ CAPACITY (10) and (16).
#[test]
fn read_capacity_says_the_last_block_and_what_the_medium_is() {
    let mut rig = Rig::new(geometry(BLOCKS).thin().physical_exponent(3));
    assert_eq!(rig.good(&ten(0x25, 0, 0, 0), &[]), [0, 0, 1, 43, 0, 0, 2, 0]);
    let long = rig.good(&sixteen(0x9e, 0x10, 0, 64), &[]);
    assert_eq!(long.len(), 32);
    assert_eq!(long[..16], [0, 0, 0, 0, 0, 0, 1, 43, 0, 0, 2, 0, 0, 3, 0xc0, 0]);
    for allocation in 0..32 {
        assert_eq!(rig.good(&sixteen(0x9e, 0x10, 0, allocation), &[]), long[..allocation as usize]);
    }
    rig.refused(&ten(0x25, 0, 1, 0), &[], IN_CDB);
    // A last LBA that does not fit is FFFFFFFFh.
    let mut unit = scsi::LogicalUnit::new(rig::identity(), Geometry::new(1 << 32, BlockSize::B4096).unwrap());
    let nexus = unit.attach(rig::port(0));
    let attention = unit.begin(nexus, &[0; 6], 0);
    assert!(matches!(attention, Step::Done(_)));
    let Step::Done(short) = unit.begin(nexus, &ten(0x25, 0, 0, 0), 0) else { panic!("no medium is needed") };
    assert_eq!(short.data_in, [0xff, 0xff, 0xff, 0xff, 0, 0, 0x10, 0]);
}

// SBC-4, write protection: DATA PROTECT, and which kind of WRITE PROTECTED.
#[test]
fn a_medium_that_is_not_written_refuses_every_write_and_reads() {
    let mut fixed = Rig::new(geometry(BLOCKS).thin().read_only());
    let mut switched = Rig::thin(BLOCKS);
    let mut page = switched.good(&[0x1a, 8, 0x0a, 0, 255, 0], &[])[4..].to_vec();
    page[4] |= 0x08;
    switched.good(&[0x15, 0x10, 0, 0, 16, 0], &[&[0; 4][..], &page].concat());
    let list = unmap_list(&[(0, 1)]);
    for (rig, qualifier) in [(&mut fixed, 0), (&mut switched, 2)] {
        assert_eq!(rig.good(&[0x1a, 0, 0x3f, 0, 255, 0], &[])[2], 0x90);
        for (cdb, length) in ranged(0, 1) {
            let reads = [0x28, 0x2f, 0x34, 0x35, 0xa8, 0xaf, 0x88, 0x8f, 0x90, 0x91].contains(&cdb[0]);
            if reads {
                rig.good(&cdb, &vec![0; length]);
            } else {
                rig.refused(&cdb, &vec![0; length], (7, 0x27, qualifier));
            }
        }
        rig.refused(&unmap(&list), &list, (7, 0x27, qualifier));
        rig.refused(&[0x0a, 0, 0, 0, 1, 0], &[0; BLOCK], (7, 0x27, qualifier));
    }
}

// SBC-4, START STOP UNIT and PREVENT ALLOW MEDIUM REMOVAL.
#[test]
fn nothing_spins_and_nothing_is_ejected() {
    let mut rig = Rig::thin(BLOCKS);
    for octet in [0x00, 0x01, 0x10, 0x20, 0x30, 0x70, 0xa0, 0xb0, 0x04] {
        rig.good(&[0x1b, 1, 0, 0, octet, 0], &[]);
        rig.good(&[0; 6], &[]);
    }
    for octet in [0x02, 0x03, 0x40, 0xc0, 0xf0] {
        rig.refused(&[0x1b, 0, 0, 0, octet, 0], &[], IN_CDB);
    }
    rig.good(&[0x1e, 0, 0, 0, 1, 0], &[]);
    rig.good(&[0x1e, 0, 0, 0, 0, 0], &[]);
    rig.refused(&[0x1e, 0, 0, 0, 2, 0], &[], IN_CDB);
}

// SBC-4, SANITIZE; SPC-5: an operation code that is not supported is INVALID COMMAND OPERATION CODE.
#[test]
fn what_is_not_there_is_an_unknown_operation_code() {
    let mut rig = Rig::thin(BLOCKS);
    for action in [0, 1, 2, 3, 0x1f] {
        rig.refused(&ten(0x48, action, 0, 0), &[], (5, 0x20, 0));
    }
    // FORMAT UNIT, READ DEFECT DATA, EXTENDED COPY, RECEIVE COPY RESULTS, WRITE ATOMIC.
    for opcode in [0x04, 0x37, 0xb7, 0x83, 0x84, 0x9c] {
        rig.refused(&sixteen(opcode, 0, 0, 0), &[], (5, 0x20, 0));
    }
}

// SBC-4, medium errors: what the medium cannot do, with the first LBA in error in the INFORMATION field.
#[test]
fn a_fault_of_the_medium_is_told_with_its_block() {
    let faults = [
        (MediumFault::UnrecoveredRead, (3, 0x11, 0)),
        (MediumFault::WriteFault, (3, 0x0c, 0)),
        (MediumFault::NoSpace, (7, 0x27, 7)),
        (MediumFault::NotReady, (2, 0x04, 1)),
    ];
    for (fault, sense) in faults {
        let mut rig = Rig::thin(BLOCKS);
        rig.medium.break_with(fault, Some(17 * 512 + 5));
        let list = unmap_list(&[(0, 1)]);
        let synchronized = [(ten(0x35, 0, 0, 0).to_vec(), vec![]), (unmap(&list).to_vec(), list)];
        let all = ranged(0, 1).into_iter().map(|(cdb, length)| (cdb, vec![0; length]));
        for (cdb, data) in all.chain(synchronized) {
            if [0x34, 0x90].contains(&cdb[0]) {
                continue;
            }
            let response = rig.command(&cdb, &data);
            assert_eq!(rig::read_sense(&response.sense), sense, "{cdb:02x?}");
            assert_eq!((response.sense[0], &response.sense[3..7]), (0xf0, &17u32.to_be_bytes()[..]));
        }
        rig.medium.break_with(fault, None);
        assert_eq!(rig.command(&ten(0x28, 0, 0, 1), &[]).sense[0], 0x70);
    }
}
