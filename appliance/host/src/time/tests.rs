use super::*;

#[test]
fn a_clock_before_the_build_is_set_to_it_and_no_other() {
    assert_eq!(forward(0, 1_767_225_600), Some(1_767_225_600));
    assert_eq!(forward(1_767_225_599, 1_767_225_600), Some(1));
    assert_eq!(forward(1_767_225_600, 1_767_225_600), None);
    assert_eq!(forward(i64::MAX, 1_767_225_600), None);
}

#[test]
fn a_clock_that_is_right_is_left_alone() {
    // The machine's own clock: it was after 1970 when this was written.
    let (source, trouble) = not_before(Some(1));
    assert_ne!(source, Source::Build);
    assert_eq!(trouble, None);
    assert_eq!(not_before(None).1, None);
}
