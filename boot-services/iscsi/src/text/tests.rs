use super::*;
use sansio::sim::Dice;

#[test]
fn what_is_emitted_is_parsed_again() {
    let pairs = vec![
        Pair::new("InitiatorName", "iqn.2026-01.a:b"),
        Pair::new("X-a.b+c@d_e-1", "a=b"),
        Pair::new("E", ""),
    ];
    assert_eq!(emit(&pairs), b"InitiatorName=iqn.2026-01.a:b\0X-a.b+c@d_e-1=a=b\0E=\0");
    assert_eq!(parse(&emit(&pairs)), Ok(pairs));
}

#[test]
fn padding_that_was_counted_and_a_missing_last_nul_are_borne() {
    assert_eq!(parse(b"A=1\0\0\0"), Ok(vec![Pair::new("A", 1)]));
    assert_eq!(parse(b"A=1"), Ok(vec![Pair::new("A", 1)]));
    assert_eq!(parse(b""), Ok(vec![]));
}

#[test]
fn what_is_no_text_is_refused_by_name() {
    assert_eq!(parse(b"A=1\0nothing\0"), Err(Malformed::NoValue("nothing".to_owned())));
    assert_eq!(parse(b"=1\0"), Err(Malformed::BadKey(String::new())));
    assert_eq!(parse(b"a b=1\0"), Err(Malformed::BadKey("a b".to_owned())));
    assert_eq!(parse(b"A=\xff\0"), Err(Malformed::BadValue("A".to_owned())));
    assert!(matches!(parse(&[&[b'k'; 64][..], b"=1\0"].concat()), Err(Malformed::BadKey(_))));
    assert!(parse(&[&[b'k'; 63][..], b"=1\0"].concat()).is_ok());
}

#[test]
fn text_is_bounded() {
    assert_eq!(parse(&[0; MOST_TEXT + 1]), Err(Malformed::TooLong));
    assert_eq!(parse(&b"A=\0".repeat(MOST_PAIRS + 1)), Err(Malformed::TooMany));
    assert!(parse(&[&b"A="[..], &[b'v'; MOST_VALUE]].concat()).is_ok());
    assert_eq!(
        parse(&[&b"A="[..], &[b'v'; MOST_VALUE + 1]].concat()),
        Err(Malformed::BadValue("A".to_owned()))
    );
    let mut gather = Gather::default();
    let refused = (0..20).find_map(|_| gather.push(&[b'A'; 8192], true).err());
    assert_eq!(refused, Some(Malformed::TooLong));
    assert!(!gather.is_open());
}

#[test]
fn a_text_cut_at_any_octet_is_put_together() {
    let whole = b"HeaderDigest=CRC32C,None\0MaxBurstLength=262144\0";
    for at in 0..whole.len() {
        let mut gather = Gather::default();
        assert_eq!(gather.push(&whole[..at], true), Ok(None));
        assert_eq!(gather.push(&whole[at..], false), Ok(Some(parse(whole).unwrap())));
        assert!(!gather.is_open());
    }
}

#[test]
fn what_cannot_be_sent_is_left_out() {
    assert_eq!(emit(&[Pair::new("A", "x\0B=2"), Pair::new("a b", 1), Pair::new("C", 3)]), b"C=3\0");
}

#[test]
fn any_octets_are_parsed_or_refused_and_what_is_parsed_is_emitted_the_same() {
    let mut dice = Dice::new(1);
    for _ in 0..20_000 {
        let octets: Vec<u8> =
            (0..dice.below(60)).map(|_| b"AbC=\0\0,~0x9.\xff\x01"[dice.below(14) as usize]).collect();
        if let Ok(pairs) = parse(&octets) {
            assert_eq!(parse(&emit(&pairs)), Ok(pairs));
        }
    }
}
