use std::collections::BTreeSet;

use super::{MODULES, listed};

#[test]
fn comments_and_blank_lines_are_no_modules() {
    let names: Vec<&str> = listed("# Network\n\nvirtio_net\nice   # safe mode\n").collect();
    assert_eq!(names, ["virtio_net", "ice"]);
}

#[test]
fn the_list_names_each_module_once_and_the_ones_every_virtual_rack_needs() {
    let names: Vec<String> = listed(MODULES).map(crate::artifact::kernel::name).collect();
    let once: BTreeSet<&String> = names.iter().collect();
    assert_eq!(names.len(), once.len());
    for needed in ["virtio_net", "virtio_blk", "e1000", "vfat", "isofs"] {
        assert!(names.iter().any(|name| name == needed), "{needed}");
    }
}
