//! The two defconfigs.

use std::collections::BTreeSet;

use crate::tree::Tree;

/// Buildroot's menus in the order in which `savedefconfig` writes them, by what their options begin with. The
/// first that fits counts.
const SECTIONS: [(usize, &[&str]); 16] = [
    (7, &["BR2_PACKAGE_KILN_"]),
    (0, &["BR2_x86_64", "BR2_aarch64"]),
    (1, &["BR2_TOOLCHAIN_"]),
    (2, &["BR2_DOWNLOAD_", "BR2_REPRODUCIBLE", "BR2_GLOBAL_PATCH_DIR"]),
    (3, &["BR2_TARGET_GENERIC_", "BR2_TARGET_ENABLE_ROOT_LOGIN"]),
    (3, &["BR2_ROOTFS_OVERLAY", "BR2_ROOTFS_POST_"]),
    (4, &["BR2_LINUX_KERNEL"]),
    (5, &["BR2_PACKAGE_BUSYBOX_"]),
    (5, &["BR2_PACKAGE_E2FSPROGS"]),
    (5, &["BR2_PACKAGE_LIBCAP", "BR2_PACKAGE_LIBSECCOMP"]),
    (5, &["BR2_PACKAGE_CHRONY"]),
    (5, &["BR2_PACKAGE_DROPBEAR"]),
    (5, &["BR2_PACKAGE_NFTABLES"]),
    (5, &["BR2_PACKAGE_RAUC"]),
    (6, &["BR2_TARGET_ROOTFS_"]),
    (6, &["BR2_TARGET_GRUB2"]),
];

/// The option of a line, and what it is set to; nothing when it is unset.
pub(crate) fn option(line: &str) -> Option<(&str, Option<&str>)> {
    if let Some(name) = line.strip_prefix("# ").and_then(|rest| rest.strip_suffix(" is not set")) {
        return Some((name, None));
    }
    let (name, value) = line.split_once('=')?;
    let sound = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && (value == "y" || (value.len() > 2 && value.starts_with('"') && value.ends_with('"')));
    sound.then_some((name, Some(value)))
}

/// Every line is an option, set or unset once: of two the last would win without a word.
pub(crate) fn no_wish_is_lost(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for (architecture, text) in tree.defconfigs() {
        let mut seen = BTreeSet::new();
        for line in text.lines() {
            match option(line) {
                None => faults.push(format!("{architecture}: no option, so a wish that is lost: {line}")),
                Some((name, _)) if !seen.insert(name) => {
                    faults.push(format!("{architecture}: {name} stands there twice"));
                }
                Some(_) => {}
            }
        }
    }
    faults
}

/// Sections in the order of Buildroot's menus.
pub(crate) fn sections_are_in_order(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for (architecture, text) in tree.defconfigs() {
        let mut last = (0, 0, "");
        for (name, _) in text.lines().filter_map(option) {
            let fits = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
            let Some((at, (section, _))) =
                SECTIONS.iter().enumerate().find(|(_, (_, prefixes))| fits(prefixes))
            else {
                faults.push(format!("{architecture}: {name} is in no section that the lint knows"));
                continue;
            };
            // Ours is the last section, whatever its place in the list.
            if (*section, at) < (last.0, last.1) {
                faults.push(format!("{architecture}: {name} belongs before {}", last.2));
            }
            last = (*section, at, name);
        }
        let ours: Vec<&str> = text.lines().filter(|line| line.starts_with("BR2_PACKAGE_KILN_")).collect();
        if !ours.is_sorted() {
            faults.push(format!("{architecture}: our packages are not in the order of Config.in"));
        }
    }
    faults
}

/// What is not for the architecture is the same in both; and each is of the architecture that it is named after.
pub(crate) fn architectures_agree(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    let mut common: Vec<(&str, Vec<String>)> = Vec::new();
    for (architecture, text) in tree.defconfigs() {
        if text.lines().next() != Some(&format!("BR2_{architecture}=y")) {
            faults.push(format!("the defconfig for {architecture} does not begin with it"));
        }
        if !text.lines().any(|line| line == format!("BR2_ROOTFS_POST_SCRIPT_ARGS=\"{architecture}\"")) {
            faults.push(format!("the scripts are not told that it is {architecture}"));
        }
        let own =
            ["BR2_TARGET_GRUB2_I386_PC", "BR2_TARGET_GRUB2_X86_64_EFI", "BR2_LINUX_KERNEL_NEEDS_HOST_LIBELF"];
        let lines = text.lines().filter(|line| !own.iter().any(|name| line.starts_with(name)));
        common.push((architecture, lines.map(|line| line.replace(architecture, "ARCH")).collect()));
    }
    if let [(one, these), (other, those)] = &common[..] {
        for (has, lines, lacks, others) in [(one, these, other, those), (other, those, one, these)] {
            let lost = lines.iter().filter(|line| !others.contains(line));
            faults.extend(lost.map(|line| format!("{has} has {line}, which {lacks} lacks")));
        }
    }
    faults
}
