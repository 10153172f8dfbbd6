//! A lint of `buildroot-config` that needs no Buildroot: files, names, what refers to what, and that the image's
//! layout is the one that `hw_tests::artifact::appliance` makes. What needs a Buildroot is in
//! `buildroot-config/check`.
//!
//! A rule is a function from a [`tree::Tree`] to its faults, so that a tree with a fault shows that the fault is
//! seen (`refused.rs`).

#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod defconfig;
mod kernel;
mod layout;
mod modules;
mod package;
mod refused;
mod script;
mod tree;

use tree::Tree;

/// Fails with every fault in a line of its own.
fn hold(rule: fn(&Tree) -> Vec<String>) {
    let faults = rule(&Tree::read());
    assert!(faults.is_empty(), "{} faults:\n  {}", faults.len(), faults.join("\n  "));
}

#[test]
fn every_file_that_the_tree_refers_to_is_there() {
    hold(tree::references_exist);
}

#[test]
fn the_scripts_stop_at_an_error_and_shellcheck_has_nothing_to_say() {
    hold(script::scripts_are_sound);
}

#[test]
fn the_files_of_a_package_agree_on_its_name() {
    hold(package::names_agree);
}

#[test]
fn a_packages_variables_carry_its_name() {
    hold(package::variables_carry_the_name);
}

#[test]
fn what_a_package_is_checked_by_is_true() {
    hold(package::hashes_are_true);
}

#[test]
fn an_option_is_written_as_buildroot_wants_it() {
    hold(package::options_are_well_formed);
}

#[test]
fn every_package_is_wished_for_and_every_wish_is_a_package() {
    hold(package::wishes_are_packages);
}

#[test]
fn no_wish_of_a_defconfig_is_lost() {
    hold(defconfig::no_wish_is_lost);
}

#[test]
fn a_defconfig_is_in_the_order_that_savedefconfig_writes() {
    hold(defconfig::sections_are_in_order);
}

#[test]
fn the_defconfigs_differ_in_their_architecture_only() {
    hold(defconfig::architectures_agree);
}

#[test]
fn a_fragment_sets_every_option_once() {
    hold(kernel::fragments_set_once);
}

#[test]
fn every_module_of_the_lists_is_in_the_kernel() {
    hold(kernel::modules_have_options);
}

#[test]
fn the_disk_is_the_one_of_the_other_builder() {
    hold(layout::partitions_agree);
}

#[test]
fn the_boot_loader_is_the_one_of_the_other_builder() {
    hold(layout::boot_loaders_agree);
}

#[test]
fn the_slot_image_is_the_one_of_the_other_builder() {
    hold(layout::slots_agree);
}
