use super::*;

fn wanted() -> Wanted {
    let dep = "kernel/a.ko: kernel/b.ko\nkernel/b.ko:\nkernel/c.ko: kernel/b.ko\n";
    let alias = "alias pci:v1* a\nalias pci:v1* c\n";
    Wanted::new(Index::parse(dep, alias, "", ""))
}

#[test]
fn a_device_is_served_once_and_no_file_is_named_twice() {
    let mut wanted = wanted();
    let file = |module: &str| File { module: module.into(), path: format!("kernel/{module}.ko") };
    assert_eq!(wanted.serve("pci:v1d2"), [file("b"), file("a"), file("c")]);
    assert!(wanted.was_served("pci:v1d2") && !wanted.was_served("pci:v1d3"));
    assert_eq!(wanted.serve("pci:v1d2"), []);
    assert_eq!(wanted.serve("pci:v1d3"), []);
    assert_eq!(wanted.load("a"), []);
}
