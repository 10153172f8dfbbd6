use super::*;

fn nic(last: u8, carrier: bool) -> Nic {
    let mac = Mac([0x52, 0x54, 0, 0, 0, last]);
    Nic { name: format!("eth{last}"), mac, driver: "e1000".into(), carrier, address: None }
}

#[test]
fn the_interface_that_booted_is_asked_first_and_the_others_when_it_has_no_answer() {
    let bootif = Some(nic(1, true).mac);
    assert!(may_ask(&nic(1, true), bootif, Duration::ZERO, 0));
    assert!(!may_ask(&nic(2, true), bootif, Duration::ZERO, 0));
    assert!(may_ask(&nic(2, true), bootif, PATIENCE, 0));
    assert!(!may_ask(&nic(2, true), bootif, PATIENCE, 1));
}

#[test]
fn without_a_word_of_the_firmware_all_are_asked_at_once() {
    assert!(
        may_ask(&nic(1, true), None, Duration::ZERO, 0) && may_ask(&nic(2, true), None, Duration::ZERO, 1)
    );
}

#[test]
fn an_interface_without_carrier_is_not_asked() {
    assert!(!may_ask(&nic(1, false), None, PATIENCE, 0));
}

#[test]
fn an_interface_that_does_not_say_whether_it_is_operational_is_waited_for_a_little() {
    assert!(can_send("up", Duration::ZERO));
    assert!(!can_send("unknown", Duration::ZERO) && can_send("unknown", UNKNOWN));
    assert!(!can_send("down", UNKNOWN) && !can_send("dormant", UNKNOWN));
}
