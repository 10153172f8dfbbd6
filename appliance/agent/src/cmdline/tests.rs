use super::*;

const LINE: &str = "console=ttyS0 kiln.url=http://10.7.0.1 kiln.attempt=n1-4-2 kiln.token=s3cret BOOTIF=01-52-54-00-12-34-56\n";

#[test]
fn the_kernel_command_line_says_who_we_work_for() {
    let appliance = Appliance::from_kernel(LINE).unwrap();
    assert_eq!(appliance.address, "10.7.0.1:80".parse().unwrap());
    assert_eq!(appliance.attempt.as_str(), "n1-4-2");
    assert_eq!(appliance.token.expose(), "s3cret");
    assert_eq!(bootif(LINE), Some(Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56])));
}

#[test]
fn the_token_is_not_printed() {
    assert!(!format!("{:?}", Appliance::from_kernel(LINE).unwrap()).contains("s3cret"));
}

#[test]
fn what_is_missing_is_named() {
    for key in ["kiln.url", "kiln.attempt", "kiln.token"] {
        let error = Appliance::from_kernel(&LINE.replace(key, "x")).unwrap_err();
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn the_last_word_counts() {
    assert_eq!(word("a=1 b=2 a=3", "a"), Some("3"));
    assert_eq!(word("ab=1", "a"), None);
}

#[test]
fn urls_have_an_address_and_may_have_a_port_and_a_path() {
    let base = |url: &str| base(url).map(|(address, path)| (address.to_string(), path));
    assert_eq!(base("http://10.7.0.1"), Ok(("10.7.0.1:80".into(), String::new())));
    assert_eq!(base("http://10.7.0.1:8080/"), Ok(("10.7.0.1:8080".into(), String::new())));
    assert_eq!(base("http://[fd00::1]/kiln/"), Ok(("[fd00::1]:80".into(), "/kiln".into())));
    assert_eq!(base("http://[fd00::1]:81"), Ok(("[fd00::1]:81".into(), String::new())));
    for wrong in ["", "https://10.7.0.1", "http://appliance", "http://10.7.0.1/a b", "10.7.0.1"] {
        assert!(base(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_token_that_would_break_a_header_is_refused() {
    for token in ["", "a b", "a\r\nX: y", &"a".repeat(300)] {
        assert!(Appliance::new("http://10.7.0.1", "n1", token).is_err());
    }
}

#[test]
fn a_bootif_of_another_hardware_type_is_none() {
    assert_eq!(bootif("BOOTIF=20-52-54-00-12-34-56"), None);
    assert_eq!(bootif("BOOTIF="), None);
}
