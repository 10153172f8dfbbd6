use super::{MODULES, listed, renamed};

#[test]
fn a_line_names_a_module_and_whether_it_is_always_loaded() {
    assert_eq!(listed("# all\next4 always # data\n\nuas\n").unwrap(), [("ext4", true), ("uas", false)]);
    assert!(listed("ext4 sometimes\n").unwrap_err().to_string().contains("ext4 sometimes"));
}

#[test]
fn the_list_names_no_module_twice() {
    let mut names: Vec<&str> = listed(MODULES).unwrap().into_iter().map(|(name, _)| name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn the_index_names_unpacked_modules_as_they_are() {
    let dep = "kernel/a.ko.xz: kernel/b.ko.xz kernel/c.ko.xz\nkernel/b.ko.xz:\nkernel/c.ko.xz:\n";
    let plain = ["kernel/b.ko.xz".to_owned()].into();
    assert_eq!(
        renamed(dep, &plain),
        "kernel/a.ko.xz: kernel/b.ko kernel/c.ko.xz\nkernel/b.ko:\nkernel/c.ko.xz:\n"
    );
}
