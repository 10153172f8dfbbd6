#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use crate::{Control, Done, Hand, Heard, Intent, Site};
use boot::{Generation, Row, Up};
use rack::{BoxFact, HostFact, Slot, SlotFact, Stage};
use sansio::Time;
use store::Memory;

const NOW: Time = Time::from_secs(1_800_000_000);

fn open(store: &Memory) -> Control<Memory> {
    let site = Site { image: true, ..Site::default() };
    Control::open(store.clone(), site, [7; 32], NOW).unwrap()
}

fn tell(control: &mut Control<Memory>, seq: u64, fact: HostFact) {
    let key = if matches!(fact, HostFact::Box(_)) { "box" } else { "update" }.to_owned();
    control.handle_hand(Heard::Host(Up::Fact(Row { seq, key, fact })), NOW);
}

fn here(updatable: bool, trial: bool) -> HostFact {
    let slot = |slot, trial| SlotFact { slot, version: Some("1".to_owned()), good: true, trial };
    let slots = vec![slot(Slot::A, trial), slot(Slot::B, false)];
    HostFact::Box(BoxFact { slot: Slot::A, slots, updatable, keeps: true, troubles: Vec::new() })
}

/// With a hand on the line that has told what the box is.
fn connect(control: &mut Control<Memory>) {
    let hello = Up::Hello { hand: "host".to_owned(), epoch: 1, holds: None::<Generation> };
    control.handle_hand(Heard::Host(hello), NOW);
    tell(control, 1, here(true, false));
}

fn update(control: &mut Control<Memory>) -> Result<Done, String> {
    let intent = Intent::Update { bundle: "/data/bundles/1".to_owned(), restart: true };
    control.handle_intent(intent, NOW).map_err(|refusal| refusal.text)
}

fn kinds(control: &Control<Memory>) -> Vec<String> {
    let (events, _) = control.events(store::EventNumber(0), 100).unwrap();
    events.into_iter().filter(|(_, e)| e.subject.kind == "appliance").map(|(_, e)| e.kind).collect()
}

#[test]
fn a_store_of_another_box_begins_no_update_that_the_hand_takes_for_one_it_made() {
    let store = Memory::default();
    let mut control = open(&store);
    connect(&mut control);
    let stage = Stage::Good { slot: Slot::A, version: "1".to_owned() };
    tell(&mut control, 2, HostFact::Update { number: 7, stage });
    assert_eq!(update(&mut control), Ok(Done::Changed));
    assert_eq!(control.plans().host.update.as_ref().unwrap().number, 8);
    assert_eq!(control.appliance_view().update.unwrap().stage, None);
}

#[test]
fn a_box_whose_data_are_in_memory_is_not_said_to_be_wiped() {
    let store = Memory::default();
    let mut control = open(&store);
    connect(&mut control);
    let HostFact::Box(fact) = here(true, false) else { panic!("it is what the box is") };
    tell(&mut control, 2, HostFact::Box(BoxFact { keeps: false, ..fact }));
    let refused = control.handle_intent(Intent::Reset, NOW).unwrap_err().text;
    assert!(refused.contains("kiln.reset"), "{refused}");
    assert!(!control.plans().host.reset);
}

#[test]
fn an_update_stands_in_the_plan_until_its_end_over_restarts() {
    let store = Memory::default();
    let mut control = open(&store);
    connect(&mut control);
    assert_eq!(update(&mut control), Ok(Done::Changed));
    let plan = control.plans().host.update.clone().unwrap();
    assert_eq!((plan.number, plan.restart), (1, true));
    assert!(update(&mut control).unwrap_err().contains("update 1 is under way"));
    for percent in [0, 20, 90] {
        let stage = Stage::Writing { percent, doing: "writes".to_owned() };
        tell(&mut control, 2, HostFact::Update { number: 1, stage });
    }
    let view = control.appliance_view().update.unwrap();
    assert!(matches!(view.stage, Some(Stage::Writing { percent: 90, .. })), "{view:?}");

    let mut control = open(&store);
    assert_eq!(control.plans().host.update, Some(plan), "it is asked for again");
    connect(&mut control);
    let of = |number, stage| HostFact::Update { number, stage };
    let (slot, version) = (Slot::B, "2".to_owned());
    tell(&mut control, 2, of(7, Stage::Failed { why: "of another box".to_owned() }));
    assert!(control.plans().host.update.is_some(), "what is told of another number says nothing");
    tell(&mut control, 3, of(1, Stage::Trial { slot, version: version.clone() }));
    tell(&mut control, 4, of(1, Stage::Good { slot, version }));
    assert_eq!(control.plans().host.update, None);
    assert_eq!(kinds(&control), ["update", "writing", "trial", "good"]);
    assert_eq!(update(&mut control), Ok(Done::Changed));
    assert_eq!(control.plans().host.update.as_ref().unwrap().number, 2);
}

#[test]
fn no_update_is_begun_that_cannot_be_made() {
    let mut control = open(&Memory::default());
    assert!(update(&mut control).unwrap_err().contains("the host service is away"));
    connect(&mut control);
    tell(&mut control, 2, here(false, false));
    assert!(update(&mut control).unwrap_err().contains("--signer"));
    tell(&mut control, 3, here(true, true));
    assert!(update(&mut control).unwrap_err().contains("on trial itself"));
    control.handle_hand(Heard::Away(Hand::Host), NOW);
    tell(&mut control, 4, here(true, false));
    assert!(update(&mut control).unwrap_err().contains("away"));
    assert_eq!(control.plans().host.update, None);
    assert_eq!(kinds(&control), [""; 0]);
}

#[test]
fn a_reset_is_wished_once_and_not_written_down() {
    let store = Memory::default();
    let mut control = open(&store);
    control.handle_intent(Intent::Reset, NOW).unwrap();
    assert!(control.plans().host.reset);
    assert!(!open(&store).plans().host.reset);
}
