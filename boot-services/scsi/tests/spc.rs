//! SPC-5's and SAM-5's sentences, each above the test that holds us to it.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod rig;

use rig::{BLOCK, Rig, ten};
use scsi::{InitiatorPort, Lun, SenseFormat, Status};

const IN_CDB: (u8, u8, u8) = (5, 0x24, 0);
const IN_LIST: (u8, u8, u8) = (5, 0x26, 0);
const LIST_LENGTH: (u8, u8, u8) = (5, 0x1a, 0);

const BLOCKS: u64 = 300;

fn rig() -> Rig {
    Rig::thin(BLOCKS)
}

fn inquiry(page: Option<u8>, allocation: u16) -> [u8; 6] {
    let [high, low] = allocation.to_be_bytes();
    [0x12, page.is_some().into(), page.unwrap_or(0), high, low, 0]
}

// SPC-5, standard INQUIRY data.
#[test]
fn standard_inquiry_says_who_it_is() {
    let data = rig().good(&inquiry(None, 512), &[]);
    assert_eq!(data.len(), 96);
    assert_eq!(data[..8], [0x00, 0x00, 0x06, 0x12, 91, 0, 0, 0x02]);
    assert_eq!(&data[8..36], b"KILN    volume          1.0 ");
    // SAM-5, SPC-4, SPC-5, SBC-3, SBC-4, iSCSI.
    assert_eq!(data[58..70], [0x00, 0xa0, 0x04, 0x60, 0x05, 0xc0, 0x04, 0xc0, 0x06, 0x00, 0x09, 0x60]);
}

// SPC-5, ALLOCATION LENGTH: data is cut to the allocation length, and this condition shall not be considered an error.
#[test]
fn data_is_cut_to_the_allocation_length_and_says_its_whole_length() {
    let mut rig = rig();
    let whole = rig.good(&inquiry(None, 512), &[]);
    for allocation in 0..96 {
        assert_eq!(rig.good(&inquiry(None, allocation), &[]), whole[..usize::from(allocation)]);
    }
    let names = rig.good(&inquiry(Some(0x83), 0xffff), &[]);
    assert_eq!(rig.good(&inquiry(Some(0x83), 4), &[]), names[..4]);
    assert_eq!(usize::from(u16::from_be_bytes([names[2], names[3]])), names.len() - 4);
}

// SPC-5, Supported VPD Pages: in ascending order beginning with page code 00h.
#[test]
fn every_listed_page_is_there_and_no_other() {
    let mut rig = rig();
    let listed = rig.good(&inquiry(Some(0), 255), &[])[4..].to_vec();
    assert_eq!(listed, [0x00, 0x80, 0x83, 0x86, 0xb0, 0xb1, 0xb2]);
    for page in 0..=255 {
        if listed.contains(&page) {
            let data = rig.good(&inquiry(Some(page), 0xffff), &[]);
            assert_eq!((data[0], data[1]), (0, page));
            assert_eq!(usize::from(u16::from_be_bytes([data[2], data[3]])), data.len() - 4);
        } else {
            rig.refused(&inquiry(Some(page), 255), &[], IN_CDB);
        }
    }
    // 6.7.1: a page code without EVPD.
    rig.refused(&[0x12, 0, 0x80, 0, 255, 0], &[], IN_CDB);
    // CMDDT is obsolete.
    rig.refused(&[0x12, 2, 0, 0, 255, 0], &[], IN_CDB);
}

// SPC-5, Device Identification VPD page: at least one designator of the logical unit with an NAA, EUI-64 or SCSI name.
#[test]
fn device_identification_names_unit_port_and_device() {
    let data = rig().good(&inquiry(Some(0x83), 0xffff), &[]);
    let mut rest = &data[4..];
    let mut found = Vec::new();
    while let [codes, kind, _, length, after @ ..] = rest {
        let (name, after) = after.split_at(usize::from(*length));
        found.push((*codes, *kind, name.to_vec()));
        rest = after;
    }
    let string = |text: &str| {
        let mut out = text.as_bytes().to_vec();
        out.push(0);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    };
    assert_eq!(
        found,
        [
            (0x01, 0x03, vec![0x31, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef]),
            (0x02, 0x01, b"KILN    0123456789".to_vec()),
            (0x51, 0x94, vec![0, 0, 0, 1]),
            (0x53, 0x98, string("iqn.2026-01.example:disk,t,0x0001")),
            (0x53, 0xa8, string("iqn.2026-01.example:disk")),
        ]
    );
}

// SBC-4, Block Limits, Block Device Characteristics and Logical Block Provisioning VPD pages.
#[test]
fn the_block_pages_say_the_limits() {
    let mut rig = rig();
    let limits = rig.good(&inquiry(Some(0xb0), 255), &[]);
    assert_eq!(limits.len(), 64);
    assert_eq!(limits[4..8], [0, 255, 0, 8]);
    assert_eq!(limits[20..28], [0, 0x10, 0, 0, 0, 0, 1, 0]);
    assert_eq!(limits[36..44], [0, 0, 0, 0, 0, 0, 0x80, 0]);
    assert_eq!(rig.good(&inquiry(Some(0xb1), 255), &[])[4..6], [0, 1]);
    assert_eq!(rig.good(&inquiry(Some(0xb2), 255), &[]), [0, 0xb2, 0, 4, 0, 0xc4, 2, 0]);
    let mut full = Rig::new(rig::geometry(BLOCKS));
    assert_eq!(full.good(&inquiry(Some(0xb0), 255), &[])[20..36], [0; 16]);
    assert_eq!(full.good(&inquiry(Some(0xb2), 255), &[]), [0, 0xb2, 0, 4, 0, 0, 0, 0]);
    assert_eq!(full.good(&rig::sixteen(0x9e, 0x10, 0, 32), &[])[14], 0);
}

// SPC-5, MODE SENSE (6) and (10).
#[test]
fn mode_sense_has_three_pages_in_two_lengths() {
    let mut rig = rig();
    let short = rig.good(&[0x1a, 0, 0x3f, 0, 255, 0], &[]);
    assert_eq!(short[..12], [55, 0, 0x10, 8, 0, 0, 1, 44, 0, 0, 2, 0]);
    let pages = [(0x08, 20), (0x0a, 12), (0x1c, 12)];
    let mut rest = &short[12..];
    for (code, length) in pages {
        assert_eq!((rest[0], usize::from(rest[1])), (code, length - 2));
        assert_eq!(rig.good(&[0x1a, 8, code, 0, 255, 0], &[])[4..], rest[..length]);
        rest = &rest[length..];
    }
    assert!(rest.is_empty());
    // DBD, and LLBAA of the long one.
    assert_eq!(rig.good(&[0x1a, 8, 0x3f, 0, 255, 0], &[])[3], 0);
    let long = rig.good(&[0x5a, 0, 0x3f, 0xff, 0, 0, 0, 1, 0, 0], &[]);
    assert_eq!((&long[..8], &long[16..]), (&[0, 58, 0, 0x10, 0, 0, 0, 8][..], &short[12..]));
    let llbaa = rig.good(&[0x5a, 0x10, 0x3f, 0, 0, 0, 0, 1, 0, 0], &[]);
    assert_eq!(llbaa[..24], [0, 66, 0, 0x10, 1, 0, 0, 16, 0, 0, 0, 0, 0, 0, 1, 44, 0, 0, 0, 0, 0, 0, 2, 0]);
    // Changeable: WCE, D_SENSE and SWP.
    assert_eq!(rig.good(&[0x1a, 8, 0x48, 0, 255, 0], &[])[4..8], [8, 18, 4, 0]);
    assert_eq!(rig.good(&[0x1a, 8, 0x4a, 0, 255, 0], &[])[4..10], [10, 10, 4, 0, 8, 0]);
    // Saved: none. Unknown pages and subpages: none.
    rig.refused(&[0x1a, 8, 0xff, 0, 255, 0], &[], (5, 0x39, 0));
    rig.refused(&[0x1a, 8, 0x01, 0, 255, 0], &[], IN_CDB);
    rig.refused(&[0x1a, 8, 0x0a, 1, 255, 0], &[], IN_CDB);
}

fn select(list: &[u8]) -> [u8; 6] {
    [0x15, 0x10, 0, 0, list.len() as u8, 0]
}

// SPC-5, MODE SELECT: every other I_T nexus is told MODE PARAMETERS CHANGED.
#[test]
fn mode_select_sets_for_all_and_tells_the_others() {
    let mut rig = rig();
    let mut list = vec![0, 0, 0, 0, 10, 10, 4, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0];
    rig.good(&select(&list), &list);
    rig.expect_attention(rig.nexus[1], 0x2a, 0x01);
    rig.expect_attention(rig.nexus[2], 0x2a, 0x01);
    rig.expect_ready(rig.nexus[0]);
    // D_SENSE: sense data has descriptors now; of READ there is no INFORMATION, of this none at all.
    let response = rig.command(&ten(0x28, 0, u32::MAX, 1), &[]);
    assert_eq!(response.sense, [0x72, 5, 0x21, 0, 0, 0, 0, 0]);
    let response = rig.command(&ten(0x28, 1, 0, 1), &[]);
    assert_eq!(response.sense, [0x72, 5, 0x24, 0, 0, 0, 0, 8, 2, 6, 0, 0, 0xc8, 0, 1, 0]);
    // The same once more changes nothing, and tells nobody.
    rig.good(&select(&list), &list);
    rig.expect_ready(rig.nexus[1]);
    // MODE SELECT (10), back.
    list[6] = 0;
    let long = [&[0; 8][..], &list[4..]].concat();
    rig.good(&[0x55, 0x10, 0, 0, 0, 0, 0, 0, long.len() as u8, 0], &long);
    assert_eq!(rig.command(&ten(0x28, 0, u32::MAX, 1), &[]).sense[0], 0x70);
}

#[test]
fn mode_select_is_all_or_nothing() {
    let mut rig = rig();
    let caching = [8, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let control = [10, 10, 0, 0x10, 0, 0, 0, 0, 0xff, 0xff, 0, 0];
    let listed = |parts: &[&[u8]]| [&[0; 4][..], &parts.concat()].concat();
    // A second page that cannot be: the first is not set either.
    let mut wrong = control;
    wrong[3] = 0;
    let list = listed(&[&caching, &wrong]);
    rig.refused(&select(&list), &list, IN_LIST);
    assert_eq!(rig.good(&[0x1a, 8, 8, 0, 255, 0], &[])[6], 4);
    let unknown = listed(&[&[1, 0]]);
    rig.refused(&select(&unknown), &unknown, IN_LIST);
    let mut length = listed(&[&control]);
    length[5] = 11;
    rig.refused(&select(&length), &length, IN_LIST);
    // Cut anywhere: PARAMETER LIST LENGTH ERROR, except after a whole page.
    let list = listed(&[&caching, &control]);
    for end in 1..list.len() {
        let cut = &list[..end];
        match end {
            4 | 24 => drop(rig.good(&select(cut), cut)),
            _ => rig.refused(&select(cut), cut, LIST_LENGTH),
        }
    }
    // Block descriptors: as it is, or as it was asked to stay.
    for number in [[0; 4], [0xff; 4], [0, 0, 1, 44]] {
        let list = [&[0, 0, 0, 8][..], &number, &[0, 0, 2, 0]].concat();
        rig.good(&select(&list), &list);
    }
    let format = [0, 0, 0, 8, 0, 0, 1, 44, 0, 0, 0x10, 0];
    rig.refused(&select(&format), &format, IN_LIST);
    // PF zero, SP one; no list at all is no error.
    rig.refused(&[0x15, 0, 0, 0, 4, 0], &[0; 4], IN_CDB);
    rig.refused(&[0x15, 0x11, 0, 0, 4, 0], &[0; 4], IN_CDB);
    rig.good(&[0x15, 0x10, 0, 0, 0, 0], &[]);
}

// SPC-5, REQUEST SENSE: a pending unit attention is the parameter data, and is cleared by it.
#[test]
fn request_sense_tells_an_attention_once() {
    let mut rig = rig();
    rig.unit.resize(BLOCKS + 1).unwrap();
    let data = rig.good(&[3, 0, 0, 0, 255, 0], &[]);
    assert_eq!(rig::read_sense(&data), (6, 0x2a, 0x09));
    assert_eq!(rig::read_sense(&rig.good(&[3, 0, 0, 0, 255, 0], &[])), (0, 0, 0));
    assert_eq!(rig.good(&[3, 1, 0, 0, 255, 0], &[]), [0x72, 0, 0, 0, 0, 0, 0, 0]);
    rig.expect_ready(rig.nexus[0]);
    rig.expect_attention(rig.nexus[1], 0x2a, 0x09);
}

// SAM-5, unit attention conditions: INQUIRY, REPORT LUNS and REQUEST SENSE are processed in spite of a unit attention.
#[test]
fn inquiry_and_report_luns_leave_an_attention_where_it_is() {
    let mut rig = rig();
    rig.unit.reset();
    rig.good(&inquiry(None, 96), &[]);
    rig.good(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0], &[]);
    rig.expect_attention(rig.nexus[0], 0x29, 0x03);
    rig.expect_ready(rig.nexus[0]);
    // An operation code that there is not comes after it.
    rig.unit.reset();
    rig.refused(&[0xff, 0, 0, 0, 0, 0], &[], (6, 0x29, 0x03));
    rig.refused(&[0xff, 0, 0, 0, 0, 0], &[], (5, 0x20, 0));
}

// SAM-5, logical unit reset and I_T nexus loss.
#[test]
fn a_new_nexus_is_told_of_power_on_and_an_old_one_is_gone() {
    let mut rig = rig();
    let old = rig.nexus[0];
    let new = rig.unit.attach(rig::port(0));
    let response = rig.send(old, &[0; 6], &[]);
    assert_eq!(rig::read_sense(&response.sense), (0xb, 0x29, 0x07));
    rig.expect_attention(new, 0x29, 0x00);
    rig.expect_ready(new);
    rig.unit.detach(new);
    rig.unit.detach(old);
    assert_eq!(rig.send(new, &[0; 6], &[]).status, Status::CheckCondition);
    rig.expect_ready(rig.nexus[1]);
}

#[test]
fn who_lost_tasks_to_another_is_told() {
    let mut rig = rig();
    let [first, second, third] = rig.nexus;
    rig.unit.tasks_cleared(first, &[first, second]);
    rig.expect_attention(second, 0x2f, 0x00);
    rig.expect_ready(first);
    rig.expect_ready(third);
}

// SPC-5, REPORT LUNS, and the unit attention REPORTED LUNS DATA HAS CHANGED.
#[test]
fn report_luns_lists_the_target_and_clears_its_attention() {
    let mut rig = rig();
    let luns: Vec<Lun> = [0, 1, 256].into_iter().filter_map(Lun::new).collect();
    rig.unit.set_inventory(&luns);
    let report = |select, allocation| [0xa0, 0, select, 0, 0, 0, 0, 0, 0, allocation, 0, 0];
    let data = rig.good(&report(0, 255), &[]);
    assert_eq!(data[..8], [0, 0, 0, 24, 0, 0, 0, 0]);
    let listed: Vec<Option<Lun>> =
        data[8..].chunks(8).map(|field| Lun::parse(field.try_into().unwrap())).collect();
    assert_eq!(listed, luns.iter().copied().map(Some).collect::<Vec<_>>());
    rig.expect_ready(rig.nexus[0]);
    rig.expect_attention(rig.nexus[1], 0x3f, 0x0e);
    assert_eq!(rig.good(&report(1, 255), &[]), [0; 8]);
    assert_eq!(rig.good(&report(2, 255), &[]), data);
    rig.refused(&report(3, 255), &[], IN_CDB);
    rig.unit.set_inventory(&luns);
    rig.expect_ready(rig.nexus[0]);
}

// SAM-5, logical unit numbers, and SPC-5, INQUIRY, REPORT LUNS and REQUEST SENSE of LUNs without a logical unit.
#[test]
fn where_there_is_no_logical_unit_it_says_so() {
    let luns = [Lun::new(0).unwrap()];
    let data = scsi::absent(&inquiry(None, 255), &luns).data_in;
    assert_eq!((data.len(), data[0]), (36, 0x7f));
    let sense = scsi::absent(&[3, 0, 0, 0, 18, 0], &luns);
    assert_eq!((sense.status, rig::read_sense(&sense.data_in)), (Status::Good, (5, 0x25, 0)));
    let list = scsi::absent(&[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0], &luns);
    assert_eq!(list.data_in, [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for cdb in [&[0; 6][..], &ten(0x28, 0, 0, 1), &[0x12, 1, 0x83, 0, 255, 0], &[]] {
        let response = scsi::absent(cdb, &luns);
        assert_eq!(rig::read_sense(&response.sense), (5, 0x25, 0));
    }
    // Well known (C101h: REPORT LUNS), extended, hierarchical ones.
    for field in [[0xc1, 1], [0xe2, 0], [0x80, 0], [0x01, 0]] {
        assert_eq!(Lun::parse([field[0], field[1], 0, 0, 0, 0, 0, 0]), None);
    }
    assert_eq!(Lun::parse([0, 1, 0, 1, 0, 0, 0, 0]), None);
    assert_eq!(Lun::parse([0x40, 1, 0, 0, 0, 0, 0, 0]), Lun::new(1));
    assert_eq!(Lun::new(0x4000), None);
}

fn opcodes(options: u8, opcode: u8, action: u16, allocation: u32) -> Vec<u8> {
    let mut cdb = vec![0xa3, 0x0c, options, opcode];
    cdb.extend(action.to_be_bytes());
    cdb.extend(allocation.to_be_bytes());
    cdb.extend([0, 0]);
    cdb
}

// SPC-5, REPORT SUPPORTED OPERATION CODES.
#[test]
fn every_reported_operation_code_can_be_asked_for_in_the_right_way_only() {
    for thin in [true, false] {
        let geometry = rig::geometry(BLOCKS);
        let mut rig = Rig::new(if thin { geometry.thin() } else { geometry });
        let all = rig.good(&opcodes(0, 0, 0, 0xffff), &[]);
        assert_eq!(u32::from_be_bytes(all[..4].try_into().unwrap()) as usize, all.len() - 4);
        let timed = rig.good(&opcodes(0x80, 0, 0, 0xffff), &[]);
        for (plain, timed) in all[4..].chunks(8).zip(timed[4..].chunks(20)) {
            assert_eq!((plain[5] & !1, timed[5] & !1, timed[9]), (0, 2, 0x0a));
            let (opcode, action, has_action) = (plain[0], plain[3].into(), plain[5] & 1 == 1);
            let (right, wrong) = if has_action { (2, 1) } else { (1, 2) };
            rig.refused(&opcodes(wrong, opcode, action, 255), &[], IN_CDB);
            let one = rig.good(&opcodes(right, opcode, action, 255), &[]);
            assert_eq!((one[1], one[3], one[4]), (3, plain[7], opcode));
            assert_eq!(one.len(), 4 + usize::from(plain[7]));
            assert_eq!(rig.good(&opcodes(3, opcode, action, 255), &[]), one);
            assert_eq!(rig.good(&opcodes(0x80 | right, opcode, action, 255), &[]).len(), one.len() + 12);
            // Its length is that of its group (4.2.5.1).
            let group = [6, 10, 10, 0, 16, 12][usize::from(opcode >> 5)];
            assert_eq!(plain[7], group, "{opcode:02x}");
        }
        assert_eq!(rig.good(&opcodes(1, 0x42, 0, 255), &[])[1], if thin { 3 } else { 1 });
        assert_eq!(rig.good(&opcodes(1, 0x41, 0, 255), &[])[5], 0);
        assert_eq!(rig.good(&opcodes(1, 0x93, 0, 255), &[])[5], if thin { 9 } else { 1 });
        // Not supported.
        assert_eq!(rig.good(&opcodes(1, 0x48, 0, 255), &[]), [0, 1, 0, 0]);
        assert_eq!(rig.good(&opcodes(2, 0x9e, 0x1f, 255), &[]), [0, 1, 0, 0]);
        assert_eq!(rig.good(&opcodes(3, 0x28, 5, 255), &[]), [0, 1, 0, 0]);
        rig.refused(&opcodes(4, 0, 0, 255), &[], IN_CDB);
    }
    assert_eq!(rig().good(&[0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0], &[]), [0xd8, 0, 0, 0]);
    assert_eq!(rig().good(&[0xa3, 0x0d, 0x80, 0, 0, 0, 0, 0, 0, 255, 0, 0], &[]).len(), 16);
}

// SPC-5, reserved fields and service actions; SAM-5, CONTROL byte: NACA set to one is INVALID FIELD IN CDB.
#[test]
fn a_bit_outside_of_a_commands_fields_is_pointed_at() {
    let mut rig = rig();
    let all = rig.good(&opcodes(0, 0, 0, 0xffff), &[]);
    for descriptor in all[4..].chunks(8) {
        let (opcode, action, has_action) = (descriptor[0], descriptor[3], descriptor[5] & 1);
        let usage = rig.good(&opcodes(1 + has_action, opcode, action.into(), 255), &[])[4..].to_vec();
        for (at, used) in usage.iter().enumerate().skip(1) {
            for bit in 0..8 {
                let last = at == usage.len() - 1;
                let in_action = at == 1 && has_action == 1 && bit < 5;
                if used >> bit & 1 == 1 || in_action || (last && ![2, 3, 4, 5].contains(&bit)) {
                    continue;
                }
                let mut cdb = vec![0; usage.len()];
                (cdb[0], cdb[1]) = (opcode, action);
                cdb[at] |= 1 << bit;
                let response = rig.command(&cdb, &[]);
                // PERSISTENT RESERVE OUT is refused earlier: who is not registered.
                if opcode == 0x5f && response.status == Status::ReservationConflict {
                    continue;
                }
                assert_eq!(rig::read_sense(&response.sense), IN_CDB, "{cdb:02x?}");
                assert_eq!(response.sense[15..18], [0xc8 | bit, 0, at as u8], "{cdb:02x?}");
            }
        }
        // A CDB that ends too early.
        if opcode != 0x5f || action == 6 {
            let mut short = vec![0; usage.len() - 1];
            (short[0], short[1]) = (opcode, action);
            rig.refused(&short, &[], IN_CDB);
        }
    }
    for cdb in [&[][..], &[0; 17]] {
        rig.refused(cdb, &[], IN_CDB);
    }
    for (opcode, action) in [(0x9e, 0x11), (0xa3, 0x0f), (0x5e, 4)] {
        rig.refused(&rig::sixteen(opcode, action, 0, 0), &[], IN_CDB);
    }
}

#[test]
fn names_are_compared_without_their_case() {
    let mut rig = rig();
    let upper = InitiatorPort { name: rig::port(1).name.to_uppercase(), isid: rig::port(1).isid };
    let again = rig.unit.attach(upper);
    assert_eq!(rig.send(rig.nexus[1], &[0; 6], &[]).sense[2], 0xb);
    rig.expect_attention(again, 0x29, 0);
}

#[test]
fn what_could_not_be_kept_is_an_internal_failure() {
    let mut rig = rig();
    assert_eq!(rig::read_sense(&rig.unit.unkept().sense), (4, 0x44, 0));
    let sense = scsi::Sense::MISCOMPARE.about(1 << 40);
    assert_eq!(sense.encode(SenseFormat::Fixed)[0], 0x70);
    assert_eq!(sense.encode(SenseFormat::Descriptor)[8..12], [0, 0x0a, 0x80, 0]);
    assert_eq!(rig.good(&ten(0x28, 0, 0, 1), &[]).len(), BLOCK);
}
