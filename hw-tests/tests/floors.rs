//! The house's judge: what `design.md` and the house rules say of the whole, held against the whole.
//!
//! A judgement is a function from a [`house::House`] to its faults, so that a made-up house with a fault
//! shows that the fault is seen (`floors/refused.rs`).

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

#[path = "floors/drawing.rs"]
mod drawing;
#[path = "floors/house.rs"]
mod house;
#[path = "floors/judge.rs"]
mod judge;
#[path = "floors/refused.rs"]
mod refused;

use house::House;

/// Fails with every fault in a line of its own.
fn hold(judgement: fn(&House) -> Vec<String>) {
    let faults = judgement(&House::read());
    assert!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
}

#[test]
fn imports_go_to_a_lower_floor() {
    hold(judge::imports_go_down);
}

#[test]
fn boot_services_never_know_the_appliance() {
    hold(judge::boot_services_stand_alone);
}

#[test]
fn below_floor_3_an_outside_crate_has_a_reason() {
    hold(judge::pure_floors_import_pure_crates);
}

#[test]
fn below_floor_3_there_is_no_file_no_clock_no_thread_and_no_log() {
    hold(judge::pure_floors_touch_nothing);
}

#[test]
fn a_directory_is_named_as_its_crate_and_has_a_floor() {
    hold(judge::crates_are_where_their_names_say);
}

#[test]
fn a_name_says_what_is_inside() {
    hold(judge::names_are_nouns);
}

#[test]
fn the_top_level_is_as_designed() {
    hold(judge::the_top_is_as_designed);
}

#[test]
fn only_the_store_knows_sled() {
    hold(judge::only_the_store_knows_sled);
}

#[test]
fn the_lock_names_no_registry_but_crates_io() {
    hold(judge::the_lock_knows_one_registry);
}

#[test]
fn no_source_is_longer_than_800_lines() {
    hold(judge::sources_are_short);
}

#[test]
fn nothing_unwraps_outside_tests() {
    hold(judge::nothing_unwraps_outside_tests);
}

#[test]
fn who_reads_a_clock_or_sleeps_says_why() {
    hold(judge::clocks_are_read_with_a_reason);
}

#[test]
fn an_exception_from_a_lint_or_a_test_has_a_reason() {
    hold(judge::every_allow_has_a_reason);
}

#[test]
fn unsafe_code_says_why_it_is_safe_and_why_it_is_there() {
    hold(judge::unsafe_code_is_justified);
}

#[test]
fn nothing_is_left_to_do_without_an_issue() {
    hold(judge::nothing_is_left_to_do);
}

#[test]
fn no_file_names_a_place_on_somebodys_machine() {
    hold(judge::no_file_names_somebodys_machine);
}

#[test]
fn every_promise_of_the_readme_names_a_test_that_exists() {
    hold(judge::every_promise_names_its_test);
}

#[test]
fn the_picture_in_the_readme_is_the_computed_one() {
    let house = House::read();
    let drawing = drawing::drawing(&house);
    let readme = house.file("README.md").expect("README.md is at the top");
    if std::env::var_os("UPDATE_README").is_some() {
        let redrawn = drawing::redrawn(&readme.text, &drawing);
        let text = redrawn
            .unwrap_or_else(|| panic!("README.md needs the lines {} and {}", drawing::BEGIN, drawing::END));
        std::fs::write(house::top().join("README.md"), text).unwrap();
        return;
    }
    assert_eq!(
        drawing::between(&readme.text),
        Some(drawing.as_str()),
        "draw it anew: UPDATE_README=1 cargo test -p hw-tests --test floors"
    );
}
