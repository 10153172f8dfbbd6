use super::*;

#[test]
fn a_number_counts_once_in_whatever_order_it_comes() {
    let mut window = Window::new(16);
    assert!(window.take(1));
    assert!(!window.take(1));
    assert!(window.take(5));
    assert!(window.take(3));
    assert!(!window.take(3));
    assert!(!window.take(5));
    assert!(window.take(4));
}

#[test]
fn what_is_too_old_too_far_ahead_or_zero_is_refused() {
    let mut window = Window::new(16);
    assert!(!window.take(0));
    assert!(!window.take(17));
    assert!(window.take(16));
    assert!(window.take(32));
    assert!(window.take(48));
    assert!(!window.take(16), "32 and more behind");
    assert!(window.take(17));
    assert!(!window.take(0));
}

#[test]
fn the_numbers_wrap() {
    let mut window = Window::new(i32::MAX as u32);
    window.highest = u32::MAX - 1;
    window.seen = 1;
    assert!(window.take(u32::MAX));
    assert!(!window.take(0));
    assert!(window.take(1));
    assert!(!window.take(u32::MAX));
}
