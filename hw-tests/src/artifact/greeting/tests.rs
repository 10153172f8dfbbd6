use super::Greeting;

#[test]
fn a_greeting_is_found_in_a_response_and_alone() {
    let alone: Greeting = "kiln-tiny node-1 52:54:00:00:00:01 10.21.0.9\n".parse().unwrap();
    let whole: Greeting =
        "HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nkiln-tiny node-1 52:54:00:00:00:01 10.21.0.9\n"
            .parse()
            .unwrap();
    assert_eq!(alone, whole);
    assert_eq!(alone.image, "tiny");
    assert_eq!(alone.host, "node-1");
    assert_eq!(alone.address.to_string(), "10.21.0.9");
}

#[test]
fn what_lacks_a_part_is_refused_by_its_name() {
    for (said, culprit) in [("", "kiln-"), ("kiln-tiny", "host"), ("kiln-tiny a b c", "MAC")] {
        let error = said.parse::<Greeting>().unwrap_err().to_string();
        assert!(error.contains(culprit), "{error}");
    }
}
