use super::*;

fn at(millis: u64) -> Time {
    Time::from_millis(millis)
}

#[test]
fn a_service_is_started_at_once_and_again_after_a_rest_that_doubles() {
    let mut watch = Watch::new(at(0));
    let mut now = 0;
    let mut rests = Vec::new();
    for pid in 1..12 {
        assert_eq!(watch.poll_action(at(now)), Some(Action::Start));
        watch.handle_started(pid, at(now));
        assert_eq!(watch.poll_action(at(now)), None);
        assert!(watch.handle_exited(pid, "exit status 1", at(now)));
        let until = watch.poll_timeout().unwrap();
        rests.push(until.since(at(now)).as_millis());
        assert_eq!(watch.poll_action(at(now)), None, "it rests");
        now = until.millis();
    }
    assert_eq!(rests, [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000, 5000]);
}

#[test]
fn one_that_lived_long_is_started_again_soon() {
    let mut watch = Watch::new(at(0));
    for pid in 1..9 {
        watch.handle_started(pid, at(0));
        watch.handle_exited(pid, "killed", at(0));
    }
    watch.handle_started(9, at(10_000));
    watch.handle_exited(9, "killed", at(40_000));
    assert_eq!(watch.poll_timeout(), Some(at(40_050)));
}

#[test]
fn somebody_elses_end_is_not_ours() {
    let mut watch = Watch::new(at(0));
    watch.handle_started(7, at(0));
    assert!(!watch.handle_exited(8, "exit status 0", at(1)));
    assert_eq!(watch.pid(), Some(7));
}

#[test]
fn one_that_fed_its_watchdog_and_stopped_is_killed_once() {
    let mut watch = Watch::new(at(0));
    watch.handle_started(7, at(0));
    watch.handle_ready();
    assert_eq!(watch.poll_timeout(), None, "it never fed one");
    watch.handle_watchdog(at(1_000));
    assert_eq!(watch.poll_action(at(30_999)), None);
    assert_eq!(watch.poll_action(at(31_000)), Some(Action::Kill(7)));
    assert_eq!(watch.poll_action(at(31_001)), None);
}
