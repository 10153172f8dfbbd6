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

#[test]
fn what_the_kernel_has_is_not_loaded_again() {
    let there = "b 16384 1 a, Live 0x0000000000000000\nc 49152 0 - Loading 0x0000000000000000\nshort\n";
    let mut wanted = wanted().beside(there);
    let file = |module: &str| File { module: module.into(), path: format!("kernel/{module}.ko") };
    assert_eq!(wanted.load("a"), [file("a")]);
    // Who loads it may fail yet.
    assert_eq!(wanted.load("c"), [file("c")]);
}
