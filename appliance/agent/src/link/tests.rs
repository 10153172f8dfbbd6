use super::*;

#[test]
fn an_address_is_asked_for_as_the_kernel_wants_it() {
    let address = "10.7.0.9/24".parse().unwrap();
    let body = addressed(3, address);
    let expected = [
        2, 24, 0, 0, 3, 0, 0, 0, 8, 0, 2, 0, 10, 7, 0, 9, 8, 0, 1, 0, 10, 7, 0, 9, 8, 0, 4, 0, 10, 7, 0, 255,
    ];
    assert_eq!(body, expected);
    let message = message(RTM_NEWADDR, NLM_F_REQUEST | NLM_F_ACK, 7, &body);
    assert_eq!(message[..16], [48, 0, 0, 0, 20, 0, 5, 0, 7, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn attributes_are_filled_up_to_four_octets() {
    let mut body = Vec::new();
    attribute(&mut body, 1, b"abcde");
    assert_eq!(body, [9, 0, 1, 0, b'a', b'b', b'c', b'd', b'e', 0, 0, 0]);
}

#[test]
fn an_answer_is_ours_by_its_sequence_and_whole() {
    let answered = message(NLMSG_ERROR, 0, 5, &(-17i32).to_ne_bytes());
    assert_eq!(answer(&answered, 5), Some(-17));
    assert_eq!(answer(&answered, 6), None);
    for cut in 0..answered.len() {
        assert_eq!(answer(&answered[..cut], 5), None);
    }
    assert_eq!(answer(&message(RTM_NEWLINK, 0, 5, &[0; 4]), 5), None);
}
