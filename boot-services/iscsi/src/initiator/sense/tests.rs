use super::*;

#[test]
fn fixed_and_descriptor_format_say_the_same() {
    let mut fixed = [0; 18];
    (fixed[0], fixed[2], fixed[6], fixed[7], fixed[12], fixed[13]) = (0xf0, 0x23, 7, 10, 0x11, 0x02);
    let mut descriptor = [0; 20];
    descriptor[..4].copy_from_slice(&[0x72, 3, 0x11, 0x02]);
    descriptor[7..12].copy_from_slice(&[12, 0, 10, 0x80, 0]);
    descriptor[19] = 7;
    let expected = Sense { key: 3, code: (0x11, 2), deferred: false, information: Some(7) };
    assert_eq!(Sense::parse(&fixed), Some(expected));
    assert_eq!(Sense::parse(&descriptor), Some(expected));
    assert_eq!(expected.to_string(), "MEDIUM ERROR 11/02 at 7");
}

#[test]
fn what_is_cut_short_is_read_as_far_as_it_goes_or_not_at_all() {
    assert_eq!(Sense::parse(&[]), None);
    assert_eq!(Sense::parse(&[0x70, 0]), None);
    assert_eq!(Sense::parse(&[0x55; 18]), None);
    assert_eq!(Sense::parse(&[0x70, 0, 6]).map(|sense| sense.key), Some(6));
    assert_eq!(Sense::parse(&[0x73, 5, 0x20, 0, 0, 0, 0, 9, 0, 200]).map(|sense| sense.deferred), Some(true));
}
