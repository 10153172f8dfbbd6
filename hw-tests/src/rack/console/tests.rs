use super::readable;

#[test]
fn colours_nuls_and_carriage_returns_are_dropped() {
    assert_eq!(readable(b"\x1b[1;37miPXE\x1b[0m\0 up\r\n"), "iPXE up\n");
}

#[test]
fn a_cursor_that_moves_begins_a_line_once() {
    assert_eq!(readable(b"one\x1b[02;01Htwo\x1b[1;1H\x1b[2;2Hthree"), "one\ntwo\nthree");
}

#[test]
fn a_sequence_cut_short_and_bytes_of_no_text_do_no_harm() {
    assert_eq!(readable(b"a\x1b[12"), "a");
    assert_eq!(readable(b"\x08\xff"), "\u{fffd}");
}
