use super::*;

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

#[test]
fn a_minute_of_all_services_is_enough_and_a_break_begins_it_anew() {
    let mut trial = Trial::new();
    assert!(!trial.poll(false, at(0)));
    assert_eq!(trial.poll_timeout(), None, "there is nothing to wait for but services");
    assert!(!trial.poll(true, at(10)));
    assert_eq!(trial.poll_timeout(), Some(at(70)));
    assert!(!trial.poll(false, at(69)), "one ended");
    assert!(!trial.poll(true, at(71)));
    assert!(!trial.poll(true, at(130)));
    assert!(trial.poll(true, at(131)));
}

#[test]
fn it_is_told_once_and_again_only_when_telling_failed() {
    let mut trial = Trial::new();
    trial.poll(true, at(0));
    assert!(trial.poll(true, at(60)));
    trial.handle_started(None, at(60));
    assert!(!trial.poll(true, at(119)));
    assert!(trial.poll(true, at(120)));
    trial.handle_started(Some(7), at(120));
    assert!(!trial.poll(true, at(500)), "it is being told");
    assert!(!trial.handle_exited(8, true, at(500)), "another process");
    assert!(trial.handle_exited(7, false, at(500)));
    assert!(trial.poll(true, at(560)));
    trial.handle_started(Some(9), at(560));
    assert!(trial.handle_exited(9, true, at(561)));
    assert!(!trial.poll(true, at(9999)));
}
