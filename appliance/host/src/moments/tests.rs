use super::*;

#[test]
fn each_part_takes_from_the_one_before_it_to_its_own_end() {
    let moments = Moments::parse("231 kernel\nx\n355 drivers\n18446744073709551615 overflow\n356 slot\n");
    assert_eq!(moments.to_string(), "kernel 2.31, drivers 1.24, slot 0.01 s");
    assert!(Moments::parse("").is_empty());
}
