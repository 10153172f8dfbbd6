use super::*;

#[test]
fn all_connections_together_have_a_bound_and_give_their_place_back() {
    let limits = Limits::default();
    let address = |number: usize| IpAddr::from([10, 0, (number >> 8) as u8, number as u8]);
    let mut passes: Vec<_> = (0..ALL).map(|number| limits.enter(address(number)).unwrap()).collect();
    assert!(limits.enter(address(ALL)).is_err());
    passes.pop();
    drop(limits.enter(address(ALL)).unwrap());
    passes.clear();
    let count = limits.0.lock().unwrap();
    assert!(count.all == 0 && count.each.is_empty());
}
