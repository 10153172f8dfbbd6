use super::{MODULES, listed};

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
