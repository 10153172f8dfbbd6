use super::*;

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

#[test]
fn it_is_fed_four_times_within_its_time_for_as_long_as_it_is_asked() {
    let mut dog = Dog::new(true, at(0));
    assert_eq!(dog.poll(at(0)), Some(Care::Open));
    dog.handle_opened(TIMEOUT, at(0));
    let mut fed = Vec::new();
    for second in 0..=120 {
        if dog.poll(at(second)).is_some() {
            fed.push(second);
        }
    }
    assert_eq!(fed, [15, 30, 45, 60, 75, 90, 105, 120]);
    assert_eq!(dog.poll_timeout(), Some(at(135)));
}

#[test]
fn nobody_who_looks_away_for_long_feeds_it_for_the_time_gone_by() {
    let mut dog = Dog::new(true, at(0));
    dog.handle_opened(TIMEOUT, at(0));
    assert_eq!(dog.poll(at(50)), Some(Care::Feed));
    assert_eq!(dog.poll(at(50)), None, "once is enough");
    assert_eq!(dog.poll_timeout(), Some(at(65)));
}

#[test]
fn a_driver_may_take_a_shorter_time_than_is_wished() {
    let mut dog = Dog::new(true, at(0));
    dog.handle_opened(Duration::from_secs(8), at(0));
    assert_eq!(dog.poll_timeout(), Some(at(2)));
    dog.handle_opened(Duration::ZERO, at(0));
    assert_eq!(dog.poll_timeout(), Some(Time::ZERO + OFTEN), "it is no reason to do nothing else");
}

#[test]
fn one_that_is_lost_is_tried_again_after_a_rest_and_where_there_is_none_nothing_is_done() {
    let mut dog = Dog::new(true, at(0));
    dog.handle_lost(at(0));
    assert_eq!(dog.poll(at(4)), None);
    assert_eq!(dog.poll(at(5)), Some(Care::Open));
    dog.handle_opened(TIMEOUT, at(5));
    dog.handle_lost(at(20));
    assert_eq!(dog.poll(at(25)), Some(Care::Open));
    let mut none = Dog::new(false, at(0));
    assert_eq!((none.poll(at(99)), none.poll_timeout()), (None, None));
}
