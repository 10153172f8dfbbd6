//! The fragments of the kernel and of busybox, and the lists of modules.

use std::collections::BTreeSet;

use hw_tests::artifact::ramdisk::listed;

use crate::defconfig::option;
use crate::modules::OPTIONS;
use crate::tree::Tree;

/// Both architectures have the first, each its own of the others.
const SHARED: &str = "board/kiln/linux.fragment";

fn own(architecture: &str) -> String {
    format!("board/kiln/linux-{architecture}.fragment")
}

/// Options of a fragment; a line that is none of its comments is a fault.
fn options<'a>(text: &'a str, file: &str, faults: &mut Vec<String>) -> Vec<(&'a str, Option<&'a str>)> {
    let mut options = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        match option(line).filter(|(name, _)| name.starts_with("CONFIG_")) {
            Some(option) => options.push(option),
            None if line.starts_with("# ") && !line.contains("CONFIG_") => {}
            None => faults.push(format!("{file}: neither an option nor a comment: {line}")),
        }
    }
    options
}

/// What a build reads together sets nothing twice.
pub(crate) fn fragments_set_once(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    let mut together = vec![vec!["board/kiln/busybox.fragment".to_owned()]];
    for (architecture, _) in tree.defconfigs() {
        together.push(vec![SHARED.to_owned(), own(architecture)]);
    }
    for files in together {
        let mut seen = BTreeSet::new();
        for file in files {
            let options = options(tree.text(&file), &file, &mut faults);
            if options.is_empty() {
                faults.push(format!("{file} sets nothing"));
            }
            let twice = options.iter().filter(|(name, _)| !seen.insert(*name));
            faults.extend(twice.map(|(name, _)| format!("{file}: {name} is set a second time")));
        }
    }
    faults.dedup();
    faults
}

/// Each module of the two lists has an option in the table, and the kernel has it built in.
pub(crate) fn modules_have_options(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    let mut named = BTreeSet::new();
    for file in ["rootfs/modules.list", "rootfs/ramdisk/modules.list"] {
        let text = tree.files.get(file).map_or("", |file| &file.text);
        named.extend(listed(text).filter_map(|line| line.split_whitespace().next()));
    }
    for module in &named {
        if !OPTIONS.iter().any(|(known, ..)| known == module) {
            faults.push(format!("{module} has no option in the lint's table"));
        }
    }
    for (module, name, x86_64_only) in OPTIONS {
        if !named.contains(module) {
            faults.push(format!("no list names {module}, which the lint's table has"));
        }
        let file = if x86_64_only { own("x86_64") } else { SHARED.to_owned() };
        let wish = format!("CONFIG_{name}=y");
        if !tree.text(&file).lines().any(|line| line == wish) {
            faults.push(format!("{file} lacks {wish}, for the module {module}"));
        }
    }
    faults
}
