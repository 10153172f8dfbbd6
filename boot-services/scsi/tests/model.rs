//! A logical unit against a plain vector: whatever is written, read, compared, zeroed, the two stay the same.

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod rig;

use rig::{BLOCK, Chance, Rig, sixteen, ten};
use scsi::Status;

const BLOCKS: u64 = 96;

/// A range of blocks, near the end more often than chance would have it.
fn range(chance: &mut Chance, most: u64) -> (u64, u64) {
    let number = 1 + chance.below(most);
    let first = if chance.below(4) == 0 { BLOCKS - number } else { chance.below(BLOCKS - number + 1) };
    (first, number)
}

/// One block of data: zeros as often as not.
fn block(chance: &mut Chance) -> Vec<u8> {
    if chance.below(2) == 0 { vec![0; BLOCK] } else { chance.octets(BLOCK) }
}

#[test]
fn the_medium_and_a_vector_stay_the_same() {
    for seed in 0..40 {
        let mut chance = Chance(seed);
        let mut rig = Rig::thin(BLOCKS);
        let mut model = vec![0; BLOCKS as usize * BLOCK];
        for step in 0..500 {
            let (first, number) = range(&mut chance, 16);
            let (short, few) = (first as u32, number as u16);
            let start = first as usize * BLOCK;
            let span = start..start + number as usize * BLOCK;
            match chance.below(9) {
                0 => {
                    let data = chance.octets(span.len());
                    rig.good(&sixteen(0x8a, 0, first, number as u32), &data);
                    model[span].copy_from_slice(&data);
                }
                1 => assert_eq!(rig.good(&ten(0x28, 0, short, few), &[]), model[span], "{seed}, {step}"),
                2 => {
                    let one = block(&mut chance);
                    let unmap = if chance.below(2) == 0 { 0 } else { 8 };
                    rig.good(&sixteen(0x93, unmap, first, number as u32), &one);
                    model[span].copy_from_slice(&one.repeat(number as usize));
                }
                3 => {
                    let mut list = vec![0, 22, 0, 16, 0, 0, 0, 0];
                    list.extend(first.to_be_bytes());
                    list.extend((number as u32).to_be_bytes());
                    list.extend([0; 4]);
                    rig.good(&ten(0x42, 0, 0, 24), &list);
                    model[span].fill(0);
                }
                4 => {
                    let mut old = model[span.clone()].to_vec();
                    let new = chance.octets(span.len());
                    let wrong = chance.below(2) == 0;
                    if wrong {
                        let at = chance.below(old.len() as u64) as usize;
                        old[at] ^= 0x40;
                    }
                    let mut cdb = sixteen(0x89, 0, first, 0);
                    cdb[13] = number as u8;
                    let response = rig.command(&cdb, &[&old[..], &new].concat());
                    if wrong {
                        assert_eq!(rig::read_sense(&response.sense), (0xe, 0x1d, 0));
                    } else {
                        assert_eq!(response.status, Status::Good);
                        model[span].copy_from_slice(&new);
                    }
                }
                5 => {
                    let data = chance.octets(span.len());
                    rig.good(&sixteen(0x8b, 0, first, number as u32), &data);
                    model[span].iter_mut().zip(&data).for_each(|(old, new)| *old |= new);
                }
                6 => {
                    let data = chance.octets(span.len());
                    rig.good(&ten(0x2e, 2, short, few), &data);
                    model[span].copy_from_slice(&data);
                }
                7 => drop(rig.good(&ten(0x2f, 2, short, few), &model[span])),
                _ => {
                    // Past the end by one block: refused, and nothing is written.
                    let beyond = (BLOCKS - number + 1) as u32;
                    let data = chance.octets(span.len());
                    rig.refused(&ten(0x2a, 0, beyond, few), &data, (5, 0x21, 0));
                }
            }
        }
        assert_eq!(rig.medium.octets(), model, "seed {seed}");
    }
}
