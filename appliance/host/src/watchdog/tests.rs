use super::*;

#[test]
fn the_machines_own_comes_before_the_kernels_stand_in_and_then_the_lower_number() {
    let list = tempfile::tempdir().unwrap();
    assert_eq!(device(list.path()), None);
    let add = |name: &str, identity: &str| {
        fs::create_dir(list.path().join(name)).unwrap();
        fs::write(list.path().join(name).join("identity"), format!("{identity}\n")).unwrap();
    };
    add("watchdog0", "Software Watchdog");
    assert_eq!(device(list.path()), Some("/dev/watchdog0".into()));
    add("watchdog10", "i6300ESB timer");
    assert_eq!(device(list.path()), Some("/dev/watchdog10".into()));
    add("watchdog9", "iTCO_wdt");
    add("other", "");
    assert_eq!(device(list.path()), Some("/dev/watchdog9".into()));
}
