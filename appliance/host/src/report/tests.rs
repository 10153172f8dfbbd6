use super::*;

#[test]
fn what_is_told_can_be_read_back_and_a_trouble_that_is_over_is_taken_out() {
    let mut report = Report {
        ssh: Some(Shell { at: "192.0.2.1:22".parse().unwrap(), fingerprint: "SHA256:abc".to_owned() }),
        time: Some(Source::Build),
        watchdog: Some("/dev/watchdog0".into()),
        troubles: vec!["SSH cannot listen".to_owned(), "the clock".to_owned()],
        ..Report::default()
    };
    let text = serde_json::to_string(&report).unwrap();
    let read: Report = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), text);
    report.set_troubles("SSH", None);
    assert_eq!(report.troubles, ["the clock"]);
    report.set_troubles("SSH", Some("SSH is off".to_owned()));
    report.set_troubles("SSH", Some("SSH is off again".to_owned()));
    assert_eq!(report.troubles, ["the clock", "SSH is off again"]);
    assert!(report.text().contains("  SSH       root@192.0.2.1, port 22, SHA256:abc\n"));
}
