#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use super::*;

/// A box with both slots good, that runs A.
fn block() -> Block {
    let mut block = Block::default();
    for (name, value) in [("ORDER", "A B"), ("A_OK", "1"), ("B_OK", "1"), ("A_TRY", "0"), ("B_TRY", "0")] {
        block.set(name, value);
    }
    block
}

/// What RAUC does with them, in its order; after each the power may be cut.
const WRITES: [fn(&mut Block); 3] = [
    |block| begin(block, Slot::B),
    |block| block.set("B_OK", "0"),
    |block| [("ORDER", "B A"), ("B_OK", "1"), ("B_TRY", "0")].iter().for_each(|(n, v)| block.set(n, v)),
];

/// What GRUB starts: rootfs/boot/grub.cfg's `choose`, which a test of the image runs in GRUB itself.
fn started(block: &mut Block) -> Slot {
    let allowed = |block: &Block, slot: Slot| {
        let tries = block.get(&format!("{slot}_TRY")).unwrap_or("0").to_owned();
        let most = if on_trial(block) == Some(slot) { ["0"].as_slice() } else { &["0", "1", "2"] };
        is_good(block, slot) && most.contains(&tries.as_str())
    };
    let order = [first(block), Some(Slot::A), Some(Slot::B)];
    let slot = order.into_iter().flatten().find(|slot| allowed(block, *slot)).unwrap();
    let tries: u32 = block.get(&format!("{slot}_TRY")).unwrap().parse().unwrap();
    block.set(&format!("{slot}_TRY"), &(tries + 1).to_string());
    slot
}

#[test]
fn a_new_slot_that_proves_itself_is_started_from_then_on() {
    let mut block = block();
    WRITES.iter().for_each(|write| write(&mut block));
    assert_eq!(started(&mut block), Slot::B);
    assert_eq!(standing(&block, Slot::B), Standing::OnTrial);
    pass(&mut block, Slot::B);
    assert_eq!(standing(&block, Slot::B), Standing::Settled);
    for _ in 0..3 {
        assert_eq!(started(&mut block), Slot::B, "it may be restarted before it is good again");
    }
}

#[test]
fn a_new_slot_that_does_not_is_started_once_and_the_old_one_says_so() {
    let mut block = block();
    WRITES.iter().for_each(|write| write(&mut block));
    assert_eq!(started(&mut block), Slot::B);
    assert_eq!(started(&mut block), Slot::A);
    assert_eq!(started(&mut block), Slot::A, "the old one is not on trial, whatever happens to it");
    assert_eq!(standing(&block, Slot::A), Standing::CameBack);
    fail(&mut block, Slot::B);
    assert_eq!(standing(&block, Slot::A), Standing::Settled);
    pass(&mut block, Slot::A);
    assert_eq!(started(&mut block), Slot::A);
    assert!(!is_good(&block, Slot::B));
}

#[test]
fn a_power_cut_between_any_two_writes_starts_a_slot_that_is_whole() {
    for done in 0..WRITES.len() {
        let mut block = block();
        WRITES.iter().take(done).for_each(|write| write(&mut block));
        assert_eq!(started(&mut block), Slot::A, "after {done} writes");
        assert_eq!(standing(&block, Slot::A), Standing::Settled, "after {done} writes: nothing was tried");
        // It is begun again, and comes about.
        WRITES.iter().for_each(|write| write(&mut block));
        assert_eq!(started(&mut block), Slot::B);
        assert_eq!(standing(&block, Slot::B), Standing::OnTrial);
    }
}

#[test]
fn a_slot_that_fails_by_its_own_word_is_left() {
    let mut block = block();
    WRITES.iter().for_each(|write| write(&mut block));
    assert_eq!(started(&mut block), Slot::B);
    fail(&mut block, Slot::B);
    assert_eq!(started(&mut block), Slot::A);
    assert_eq!(standing(&block, Slot::A), Standing::Settled);
}

#[test]
fn an_update_after_an_update_goes_the_other_way() {
    let mut block = block();
    WRITES.iter().for_each(|write| write(&mut block));
    assert_eq!(started(&mut block), Slot::B);
    pass(&mut block, Slot::B);
    begin(&mut block, Slot::A);
    assert_eq!(standing(&block, Slot::B), Standing::Settled);
    block.set("A_OK", "0");
    assert_eq!(started(&mut block), Slot::B);
    assert_eq!(standing(&block, Slot::B), Standing::Settled);
}
