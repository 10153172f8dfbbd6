use super::*;

#[test]
fn hexadecimal_and_base64_say_the_same() {
    for (hex, base, octets) in [
        ("0x666f6f", "0bZm9v", &b"foo"[..]),
        ("0X666F6F62", "0BZm9vYg==", b"foob"),
        ("0x666f6f6261", "0bZm9vYmE=", b"fooba"),
        ("0x666f6f626172", "0bZm9vYmFy", b"foobar"),
        ("0xf0", "0b8A", b"\xf0"),
        ("0xfff", "0bD/8=", b"\x0f\xff"),
    ] {
        assert_eq!(decode(hex).as_deref(), Some(octets), "{hex}");
        assert_eq!(decode(base).as_deref(), Some(octets), "{base}");
        assert_eq!(decode(&encode(octets)).as_deref(), Some(octets));
    }
}

#[test]
fn what_is_no_binary_value_is_none() {
    for text in
        ["", "0", "0x", "0b", "12", "0xzz", "0x+1", "0bZ", "0bZm9v=", "0b====", "0bZm9v!", "0bZg===", "x12"]
    {
        assert_eq!(decode(text), None, "{text}");
    }
}

#[test]
fn a_value_has_1024_octets_at_most() {
    assert_eq!(decode(&encode(&[7; 1024])), Some(vec![7; 1024]));
    assert_eq!(decode(&encode(&[7; 1025])), None);
    assert_eq!(decode(&format!("0b{}", "A".repeat(1366))).map(|octets| octets.len()), Some(1024));
    assert_eq!(decode(&format!("0b{}", "A".repeat(1368))), None);
}

#[test]
fn an_identifier_is_decimal_or_hexadecimal() {
    assert_eq!(
        ["0", "255", "0xff", "0X0a", "0x7"].map(octet),
        [Some(0), Some(255), Some(255), Some(10), Some(7)]
    );
    assert_eq!(["256", "-1", "", "0x", "0x100", "0x+1", "+1", "a"].map(octet), [None; 8]);
}
