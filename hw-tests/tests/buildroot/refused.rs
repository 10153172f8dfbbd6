//! The tree with a fault: a rule that lets one pass proves nothing.

use crate::tree::{HERE, Tree};
use crate::{defconfig, kernel, layout, package, script, tree};

type Rule = fn(&Tree) -> Vec<String>;

const X86_64: &str = "configs/kiln_x86_64_defconfig";
const PROGRAMS: &str = "package/kiln-programs/kiln-programs.mk";
const CONFIG: &str = "package/kiln-programs/Config.in";

/// The tree in which `old` is `new` in one file of ours, once.
fn with(file: &str, old: &str, new: &str) -> Tree {
    let mut tree = Tree::read();
    let text = &mut tree.files.get_mut(&format!("{HERE}/{file}")).unwrap().text;
    assert!(text.contains(old), "{file} has no {old:?} to break");
    *text = text.replacen(old, new, 1);
    tree
}

fn without(path: &str) -> Tree {
    let mut tree = Tree::read();
    tree.files.remove(path).unwrap();
    tree
}

/// Some fault has all of these words.
fn refused(rule: Rule, tree: &Tree, words: &[&str]) {
    let faults = rule(tree);
    let one = faults.iter().any(|fault| words.iter().all(|word| fault.contains(word)));
    assert!(one, "no fault has {words:?}: {faults:?}");
}

#[test]
fn a_file_that_is_not_there_is_refused() {
    let rule = tree::references_exist;
    refused(
        rule,
        &without("buildroot-config/board/kiln/linux-aarch64.fragment"),
        &["linux-aarch64.fragment"],
    );
    refused(
        rule,
        &without("buildroot-config/board/kiln/genimage-x86_64.cfg"),
        &["post-image.sh", "genimage-x86_64"],
    );
    refused(rule, &without("buildroot-config/package/kiln-ipxe/Config.in"), &["Config.in", "kiln-ipxe"]);
    refused(rule, &without("buildroot-config/external.mk"), &["external.mk is missing"]);
    refused(rule, &without("buildroot-config/configs/kiln_aarch64_defconfig"), &["two kiln_*_defconfig"]);
    refused(rule, &without("rootfs/boot/grub.cfg"), &["rootfs/boot/grub.cfg"]);
    refused(rule, &with("external.desc", "KILN", "OVEN"), &["name: KILN"]);
    refused(rule, &with(X86_64, "/../rootfs", "/../root"), &["names root,"]);
}

#[test]
fn a_script_that_goes_on_after_an_error_is_refused() {
    let rule = script::scripts_are_sound;
    let post = "board/kiln/post-image.sh";
    refused(rule, &with(post, "set -euo pipefail", "set -u"), &["post-image.sh", "set -euo pipefail"]);
    refused(rule, &with(post, "#!/usr/bin/env bash", "#!/bin/sh"), &["#!/usr/bin/env bash"]);
    refused(rule, &with(X86_64, "post-image.sh", "post-fs.sh"), &["x86_64", "post-image.sh"]);
    let mut tree = Tree::read();
    tree.files.get_mut("buildroot-config/check").unwrap().executable = false;
    refused(rule, &tree, &["buildroot-config/check", "executable"]);
}

#[test]
fn the_checks_that_need_a_buildroot_say_so_without_one() {
    let check = concat!(env!("CARGO_MANIFEST_DIR"), "/../buildroot-config/check");
    for (folder, words) in
        [(None, "BUILDROOT_DIR is not set"), (Some("/nowhere"), "/nowhere is no Buildroot")]
    {
        let mut command = std::process::Command::new(check);
        command.env_remove("BUILDROOT_DIR").envs(folder.map(|folder| ("BUILDROOT_DIR", folder)));
        let output = command.output().unwrap();
        assert!(!output.status.success());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(words), "it says: {said}");
    }
}

#[test]
fn a_package_of_two_names_is_refused() {
    let rule = package::names_agree;
    refused(
        rule,
        &with(CONFIG, "config BR2_PACKAGE_KILN_PROGRAMS", "config BR2_PACKAGE_KILN"),
        &["lacks the line"],
    );
    refused(rule, &with(CONFIG, "\"kiln-programs\"", "\"kiln\""), &["lacks the line bool"]);
    refused(rule, &with(PROGRAMS, "# kiln-programs", "# kiln"), &["begins without its name"]);
    refused(rule, &with(PROGRAMS, "$(eval $(cargo-package))", ""), &["makes no package"]);
    refused(rule, &with("Config.in", "kiln-tools", "kiln-ipxe"), &["should read"]);
    refused(
        rule,
        &without("buildroot-config/package/kiln-tools/kiln-tools.mk"),
        &["kiln-tools.mk is missing"],
    );
}

#[test]
fn a_variable_of_another_package_is_refused() {
    let rule = package::variables_carry_the_name;
    refused(rule, &with(PROGRAMS, "KILN_PROGRAMS_LICENSE =", "KILN_LICENSE ="), &["KILN_LICENSE"]);
    refused(rule, &with(PROGRAMS, "define KILN_PROGRAMS_FIND", "define FIND"), &["FIND"]);
    refused(rule, &with(PROGRAMS, "\nendef\n", "\n"), &["endef"]);
    refused(rule, &with(PROGRAMS, "\t$(addprefix", "        $(addprefix"), &["blanks"]);
    refused(rule, &with(PROGRAMS, "VERSION = ", "VERSION = 9."), &["another version"]);
}

#[test]
fn a_hash_that_is_wrong_or_missing_is_refused() {
    let rule = package::hashes_are_true;
    refused(rule, &with("package/kiln-ipxe/kiln-ipxe.mk", " copyright", " licence"), &["no hash", "licence"]);
    refused(rule, &with("package/kiln-ipxe/kiln-ipxe.hash", "sha256  f", "sha256  "), &["not of the form"]);
    let mut tree = Tree::read();
    tree.files.get_mut("LICENSE").unwrap().text.push('!');
    refused(rule, &tree, &["another hash of LICENSE"]);
}

#[test]
fn an_option_out_of_form_is_refused() {
    let rule = package::options_are_well_formed;
    let swapped = "\tselect BR2_PACKAGE_HOST_RUSTC\n\tdepends on BR2_TOOLCHAIN_USES_GLIBC\n";
    let right = "\tdepends on BR2_TOOLCHAIN_USES_GLIBC\n\tselect BR2_PACKAGE_HOST_RUSTC\n";
    refused(rule, &with(CONFIG, right, swapped), &["depends on", "comes after select"]);
    refused(rule, &with(CONFIG, "\tbool", "    bool"), &["tab"]);
    refused(
        rule,
        &with(CONFIG, "\t  want have", "\t  want, as everybody knows by now who read this, have"),
        &["72"],
    );
    refused(rule, &with(CONFIG, "https://", "ask "), &["no address"]);
    refused(rule, &with(CONFIG, "\tbool \"kiln-programs\"", "\tbool \"kiln-programs\" "), &["blanks"]);
}

#[test]
fn a_wish_that_is_no_package_and_a_package_without_a_wish_are_refused() {
    let rule = package::wishes_are_packages;
    refused(rule, &with(X86_64, "KILN_TOOLS", "KILN_TOYS"), &["BR2_PACKAGE_KILN_TOYS", "does not define"]);
    refused(rule, &with(X86_64, "KILN_TOOLS", "KILN_TOYS"), &["does not wish for BR2_PACKAGE_KILN_TOOLS"]);
}

#[test]
fn a_wish_that_gets_lost_is_refused() {
    let rule = defconfig::no_wish_is_lost;
    refused(rule, &with(X86_64, "BR2_REPRODUCIBLE=y", "BR2_REPRODUCIBLE=y\nBR2_REPRODUCIBLE=y"), &["twice"]);
    let unset = "BR2_REPRODUCIBLE=y\n# BR2_REPRODUCIBLE is not set";
    refused(rule, &with(X86_64, "BR2_REPRODUCIBLE=y", unset), &["BR2_REPRODUCIBLE", "twice"]);
    refused(rule, &with(X86_64, "BR2_REPRODUCIBLE=y", "BR2_REPRODUCIBLE"), &["lost: BR2_REPRODUCIBLE"]);
    refused(rule, &with(X86_64, "BR2_REPRODUCIBLE=y", "# BR2_REPRODUCIBLE=y"), &["lost"]);
}

#[test]
fn an_option_in_another_section_is_refused() {
    let rule = defconfig::sections_are_in_order;
    let moved = with(X86_64, "BR2_TARGET_GRUB2=y", "BR2_TARGET_GRUB2=y\nBR2_LINUX_KERNEL_XZ=y");
    refused(rule, &moved, &["BR2_LINUX_KERNEL_XZ belongs before BR2_TARGET_GRUB2"]);
    refused(rule, &with(X86_64, "BR2_REPRODUCIBLE", "BR2_CCACHE"), &["BR2_CCACHE", "no section"]);
    refused(rule, &with(X86_64, "KILN_IPXE", "KILN_TOYS"), &["order of Config.in"]);
}

#[test]
fn a_wish_for_one_architecture_only_is_refused() {
    let rule = defconfig::architectures_agree;
    refused(rule, &with(X86_64, "BR2_PACKAGE_NFTABLES=y\n", ""), &["aarch64 has BR2_PACKAGE_NFTABLES"]);
    refused(rule, &with(X86_64, "ARGS=\"x86_64\"", "ARGS=\"aarch64\""), &["told that it is x86_64"]);
    refused(rule, &with(X86_64, "BR2_x86_64=y", "BR2_aarch64=y"), &["does not begin with it"]);
}

#[test]
fn an_option_of_the_kernel_that_is_set_twice_or_lost_is_refused() {
    let shared = "board/kiln/linux.fragment";
    let rule = kernel::fragments_set_once;
    refused(rule, &with(shared, "CONFIG_MD=y", "CONFIG_MD=y\nCONFIG_MD=y"), &["CONFIG_MD", "second time"]);
    refused(rule, &with(shared, "CONFIG_MD=y", "CONFIG_VMD=y"), &["linux-x86_64", "CONFIG_VMD"]);
    refused(rule, &with(shared, "CONFIG_MD=y", "#CONFIG_MD=y"), &["neither"]);
    refused(rule, &with("board/kiln/busybox.fragment", "CONFIG_INIT=y", "INIT=y"), &["busybox", "neither"]);
    let rule = kernel::modules_have_options;
    refused(rule, &with(shared, "CONFIG_IGB=y", "CONFIG_IGB=m"), &["CONFIG_IGB=y", "module igb"]);
    let mut tree = Tree::read();
    tree.files.get_mut("rootfs/modules.list").unwrap().text.push_str("zram always\n");
    refused(rule, &tree, &["zram has no option"]);
    refused(rule, &without("rootfs/ramdisk/modules.list"), &["no list names igb"]);
}

#[test]
fn another_layout_of_the_disk_is_refused() {
    let rule = layout::partitions_agree;
    let file = "board/kiln/genimage-x86_64.cfg";
    refused(rule, &with(file, "partition system-a", "partition root-a"), &["has the partitions", "root-a"]);
    refused(rule, &with(file, "size = 128M", "size = 127M"), &["system-a lacks size = 128M"]);
    refused(rule, &with(file, "offset = 66M", "offset = 67M"), &["system-a lacks offset = 66M"]);
    refused(rule, &with(file, "c12a7328", "c12a7329"), &["esp lacks partition-type-uuid"]);
    refused(rule, &with(file, "8000-000000000003", "8000-000000000004"), &["system-a lacks partition-uuid"]);
    refused(rule, &with(file, "KILN-ESP", "ESP"), &["KILN-ESP"]);
    let bios =
        with("board/kiln/genimage-aarch64.cfg", "partition esp", "partition bios {\n\t}\n\n\tpartition esp");
    refused(rule, &bios, &["genimage-aarch64", "bios"]);
}

#[test]
fn another_boot_loader_or_slot_image_is_refused() {
    let post = "board/kiln/post-image.sh";
    let rule = layout::boot_loaders_agree;
    refused(rule, &with(post, " squash4 ", " "), &["squash4"]);
    refused(rule, &with(post, "B_OK=0", "B_OK=1"), &["grubenv"]);
    refused(rule, &with(post, "(,gpt2)", "(hd0,gpt2)"), &["core.img"]);
    let mut tree = Tree::read();
    let grub = &mut tree.files.get_mut("rootfs/boot/grub.cfg").unwrap().text;
    *grub = grub.replace("set number=4\n", "set number=5\n");
    refused(rule, &tree, &["number=4", "0 times"]);
    let rule = layout::slots_agree;
    refused(rule, &with(post, "kiln-seal 1", "kiln-seal 2"), &["kiln-seal 1"]);
    refused(rule, &with(post, "(blocks + 1) * 4096", "blocks * 4096"), &["--hash-offset"]);
    refused(rule, &with(post, "-comp gzip", "-comp xz"), &["-comp gzip"]);
}
