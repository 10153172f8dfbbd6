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
    |block| begin(block, Slot::B, Loader::Counting),
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
fn an_update_that_waits_for_the_box_to_be_started_did_not_come_back() {
    let mut block = block();
    WRITES.iter().for_each(|write| write(&mut block));
    assert_eq!(standing(&block, Slot::A), Standing::Settled, "whoever looks, before anybody started it");
    assert_eq!(started(&mut block), Slot::B);
    assert_eq!(standing(&block, Slot::A), Standing::CameBack);
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
    begin(&mut block, Slot::A, Loader::Counting);
    assert_eq!(standing(&block, Slot::B), Standing::Settled);
    block.set("A_OK", "0");
    assert_eq!(started(&mut block), Slot::B);
    assert_eq!(standing(&block, Slot::B), Standing::Settled);
}

/// The same with systemd-boot: `told` is what the firmware's variable says, `preferred` the default.
struct Once {
    block: Block,
    told: Option<Slot>,
    preferred: Slot,
}

impl Once {
    /// What an update does, in its order.
    const WRITES: [fn(&mut Once); 5] = [
        |once| begin(&mut once.block, Slot::B, Loader::Once),
        |once| once.block.set("B_OK", "0"),
        |once| WRITES[2](&mut once.block),
        |once| once.told = Some(Slot::B),
        |once| armed(&mut once.block, Slot::B),
    ];

    fn new() -> Once {
        Once { block: block(), told: None, preferred: Slot::A }
    }

    fn started(&mut self) -> Slot {
        self.told.take().unwrap_or(self.preferred)
    }
}

#[test]
fn where_the_loader_is_told_to_a_power_cut_between_any_two_writes_starts_a_slot_that_is_whole() {
    for done in 0..=Once::WRITES.len() {
        let mut once = Once::new();
        Once::WRITES.iter().take(done).for_each(|write| write(&mut once));
        let whole = if done >= 4 { Slot::B } else { Slot::A };
        assert_eq!(once.started(), whole, "after {done} writes");
        let found = if done >= 4 { Standing::OnTrial } else { Standing::Settled };
        assert_eq!(standing(&once.block, whole), found, "after {done} writes");
    }
}

#[test]
fn where_the_loader_is_told_to_a_slot_that_was_not_started_did_not_fail() {
    let mut once = Once::new();
    // All of RAUC's is done, and the power is cut before the boot loader is told.
    Once::WRITES.iter().take(3).for_each(|write| write(&mut once));
    assert_eq!(once.started(), Slot::A);
    assert_eq!(standing(&once.block, Slot::A), Standing::Settled);
    Once::WRITES.iter().for_each(|write| write(&mut once));
    assert_eq!(once.started(), Slot::B);
    assert_eq!(once.started(), Slot::A, "it is started once");
    assert_eq!(standing(&once.block, Slot::A), Standing::CameBack);
    fail(&mut once.block, Slot::B);
    assert_eq!(standing(&once.block, Slot::A), Standing::Settled);
    // Another one is begun: what was armed before is no word of it.
    begin(&mut once.block, Slot::B, Loader::Once);
    once.block.set("B_OK", "1");
    assert_eq!(standing(&once.block, Slot::A), Standing::Settled);
}

#[test]
fn where_the_loader_is_told_to_a_slot_that_passes_is_preferred() {
    let mut once = Once::new();
    Once::WRITES.iter().for_each(|write| write(&mut once));
    assert_eq!(once.started(), Slot::B);
    once.preferred = Slot::B;
    // The power is cut before the variables say so.
    assert_eq!(once.started(), Slot::B);
    assert_eq!(standing(&once.block, Slot::B), Standing::OnTrial);
    pass(&mut once.block, Slot::B);
    assert_eq!(standing(&once.block, Slot::B), Standing::Settled);
    assert_eq!(once.block.get("ARMED"), Some(""));
}

#[test]
fn a_boot_loader_that_counts_has_no_word_more() {
    let mut block = block();
    WRITES.iter().for_each(|write| write(&mut block));
    fail(&mut block, Slot::B);
    begin(&mut block, Slot::B, Loader::Counting);
    pass(&mut block, Slot::B);
    assert_eq!(block.get("ARMED"), None);
}

#[test]
fn where_the_loader_does_not_count_a_slot_is_tried_three_times_and_then_the_other() {
    let mut block = block();
    for _ in 0..3 {
        assert_eq!(count(&mut block, Slot::A), None);
    }
    assert_eq!(count(&mut block, Slot::A), Some(Slot::B));
    assert_eq!(count(&mut block, Slot::B), None);
    pass(&mut block, Slot::B);
    assert_eq!(count(&mut block, Slot::A), Some(Slot::B), "it has not proved itself since");
    for _ in 0..3 {
        assert_eq!(count(&mut block, Slot::B), None);
    }
    assert_eq!(count(&mut block, Slot::B), None, "none is left: both are tried again");
    assert_eq!(count(&mut block, Slot::A), None);
    pass(&mut block, Slot::A);
    assert_eq!(block.get("A_TRY"), Some("0"));
}

#[test]
fn where_the_loader_does_not_count_a_slot_that_is_bad_is_not_started_instead() {
    let mut block = block();
    fail(&mut block, Slot::B);
    for _ in 0..10 {
        assert_eq!(count(&mut block, Slot::A), None);
    }
    block.set("A_TRY", "x");
    assert_eq!(count(&mut block, Slot::A), None);
    assert_eq!(block.get("A_TRY"), Some("1"));
}
