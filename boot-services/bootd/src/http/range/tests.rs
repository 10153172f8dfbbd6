use super::*;

#[test]
fn a_single_range_of_octets_is_served_and_all_else_is_the_whole() {
    for (field, expected) in [
        ("bytes=0-0", Asked::Part(0..1)),
        ("bytes=0-9", Asked::Part(0..10)),
        ("bytes=5-", Asked::Part(5..100)),
        ("bytes=90-1000", Asked::Part(90..100)),
        ("Bytes=1-2", Asked::Part(1..3)),
        ("bytes=-10", Asked::Part(90..100)),
        ("bytes=-1000", Asked::Part(0..100)),
        ("bytes=99-99999999999999999999999999", Asked::Part(99..100)),
        ("bytes=100-", Asked::Beyond),
        ("bytes=100-100", Asked::Beyond),
        ("bytes=99999999999999999999999999-", Asked::Beyond),
        ("bytes=-0", Asked::Beyond),
        ("bytes=9-5", Asked::Whole),
        ("bytes=0-1,5-6", Asked::Whole),
        ("lines=0-1", Asked::Whole),
        ("bytes", Asked::Whole),
        ("bytes=", Asked::Whole),
        ("bytes=-", Asked::Whole),
        ("bytes=a-b", Asked::Whole),
        ("bytes=+1-2", Asked::Whole),
        ("bytes=1--2", Asked::Whole),
    ] {
        assert_eq!(asked(Some(field), 100), expected, "{field}");
    }
    assert_eq!(asked(None, 100), Asked::Whole);
    assert_eq!(asked(Some("bytes=0-"), 0), Asked::Beyond);
    assert_eq!(asked(Some("bytes=-5"), 0), Asked::Beyond);
}
