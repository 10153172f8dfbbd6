use super::*;

fn ms(millis: u64) -> Time {
    Time::from_millis(millis)
}

#[test]
fn the_first_status_is_said_at_once() {
    assert_eq!(Pace::default().due(0, 0), Time::ZERO);
}

#[test]
fn progress_is_said_at_most_four_times_a_second_and_a_change_of_state_at_once() {
    let mut pace = Pace::default();
    pace.said(ms(1000), 3, 7);
    assert_eq!(pace.due(3, 7), ms(6000), "nothing new: a sign of life every five seconds");
    assert_eq!(pace.due(3, 8), ms(1250));
    assert_eq!(pace.due(4, 8), Time::ZERO);
}

#[test]
fn rests_grow_from_a_fifth_of_a_second_to_five_seconds_and_begin_anew_after_a_success() {
    let mut rests = BackOff::default();
    let millis: Vec<u128> = (0..7).map(|_| rests.next().as_millis()).collect();
    assert_eq!(millis, [200, 400, 800, 1600, 3200, 5000, 5000]);
    rests.reset();
    assert_eq!(rests.next().as_millis(), 200);
}
