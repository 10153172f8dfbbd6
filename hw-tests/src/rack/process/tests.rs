use super::Process;
use std::process::Command;

#[test]
fn a_zombie_does_not_run_and_is_found_by_no_number() {
    let mut child = Command::new("true").spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    crate::rack::until(std::time::Duration::from_secs(10), "true to end", || {
        Ok(Process::of(pid).is_none().then_some(()))
    })
    .unwrap();
    child.wait().unwrap();
}

#[test]
fn a_file_names_one_process_and_no_later_one_of_its_number() {
    let own = Process::own().unwrap();
    assert!(own.runs());
    assert!(!Process { started: own.started + 1, ..own }.runs());
    assert_eq!(Process::parse(&format!("{} {}\n", own.pid, own.started)), Some(own));
    for damaged in ["", "12", "12 3", "12 x\n", "x 3\n", "12 3 4\n"] {
        assert_eq!(Process::parse(damaged), None, "{damaged:?}");
    }
}
