use super::*;

fn disk(name: &str, size: u64) -> Disk {
    Disk {
        name: name.into(),
        size,
        model: "M".into(),
        serial: format!("S-{name}"),
        wwn: format!("naa.5000{name}"),
        removable: false,
    }
}

fn serial(serial: &str) -> DiskHint {
    DiskHint { serial: Some(serial.into()), ..DiskHint::default() }
}

fn kind(result: Result<&Disk, Failure>) -> FailureKind {
    result.unwrap_err().kind
}

#[test]
fn without_a_hint_the_only_disk_that_is_not_removable_is_taken() {
    let stick = Disk { removable: true, ..disk("sdb", 50) };
    let disks = [stick, disk("sda", 100)];
    assert_eq!(choose(&disks, &DiskHint::default(), 60).unwrap().name, "sda");
}

#[test]
fn without_a_hint_the_smallest_that_is_big_enough_is_taken() {
    let disks = [disk("sda", 500), disk("sdb", 100), disk("sdc", 50)];
    assert_eq!(choose(&disks, &DiskHint::default(), 60).unwrap().name, "sdb");
}

#[test]
fn two_of_the_same_size_are_not_chosen_between() {
    let disks = [disk("sda", 100), disk("sdb", 100), disk("sdc", 50)];
    let failure = choose(&disks, &DiskHint::default(), 60).unwrap_err();
    assert_eq!(failure.kind, FailureKind::AmbiguousDisk);
    assert!(failure.text.contains("S-sda") && failure.text.contains("S-sdb"), "{}", failure.text);
    assert_eq!(choose(&disks, &DiskHint::default(), 40).unwrap().name, "sdc");
}

#[test]
fn all_of_the_hint_must_match() {
    let disks = [disk("sda", 100), disk("sdb", 100)];
    assert_eq!(choose(&disks, &serial(" S-sdb"), 60).unwrap().name, "sdb");
    let both = DiskHint { name: Some("/dev/sda".into()), ..serial("S-sdb") };
    assert_eq!(kind(choose(&disks, &both, 60)), FailureKind::NoDisk);
    let name = DiskHint { name: Some("sda".into()), ..DiskHint::default() };
    assert_eq!(choose(&disks, &name, 60).unwrap().name, "sda");
}

#[test]
fn a_wwn_is_the_same_however_it_is_written() {
    let disks = [disk("sda", 100), disk("sdb", 100)];
    for wwn in ["5000sdb", "0x5000SDB", "naa.5000sdb", "wwn-0x5000sdb"] {
        let hint = DiskHint { wwn: Some(wwn.into()), ..DiskHint::default() };
        assert_eq!(choose(&disks, &hint, 60).unwrap().name, "sdb", "{wwn}");
    }
}

#[test]
fn an_empty_serial_number_matches_no_disk() {
    let nameless = Disk { serial: String::new(), ..disk("sda", 100) };
    assert_eq!(kind(choose(&[nameless], &serial(""), 60)), FailureKind::NoDisk);
}

#[test]
fn a_hint_that_fits_two_is_refused() {
    let twin = Disk { serial: "S-sda".into(), ..disk("sdb", 200) };
    assert_eq!(kind(choose(&[disk("sda", 100), twin], &serial("S-sda"), 60)), FailureKind::AmbiguousDisk);
}

#[test]
fn a_disk_that_is_too_small_is_named_with_both_sizes() {
    for hint in [DiskHint::default(), serial("S-sda")] {
        let disks = [disk("sda", 100)];
        let failure = choose(&disks, &hint, 160).unwrap_err();
        assert_eq!(failure.kind, FailureKind::DiskTooSmall);
        assert!(failure.text.contains(" 100 octets") && failure.text.contains(" 160;"), "{}", failure.text);
    }
}

#[test]
fn no_disk_says_what_there_is() {
    let failure = choose(&[disk("sda", 100)], &serial("other"), 60).unwrap_err();
    assert!(failure.text.contains("other") && failure.text.contains("sda"), "{}", failure.text);
    assert_eq!(kind(choose(&[], &DiskHint::default(), 60)), FailureKind::NoDisk);
}
