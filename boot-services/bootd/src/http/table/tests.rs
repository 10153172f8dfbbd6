use super::*;

#[test]
fn percent_encoding_is_undone_once_and_only_where_it_is_one() {
    for (path, expected) in [
        ("/a", None),
        ("/a%2fb", Some("/a/b")),
        ("/%41%4a", Some("/AJ")),
        ("/%252f", Some("/%2f")),
        ("/%", Some("/%")),
        ("/%4", Some("/%4")),
        ("/%zz", Some("/%zz")),
        ("/%+1", Some("/%+1")),
        ("/%ff", None),
    ] {
        assert_eq!(decoded(path).as_deref(), expected, "{path}");
    }
}

#[test]
fn an_empty_token_is_nobody_s() {
    let session = Session {
        attempt: "n1".parse().unwrap(),
        token: boot::Secret::new(""),
        order: None,
        images: vec![Digest([1; 32])],
        config_drive: None,
    };
    let table = Table::of(&HttpPlan { sessions: vec![session], ..HttpPlan::default() });
    assert_eq!(table.may_read("", &Digest([1; 32])), None);
    assert!(table.session(&"n1".parse().unwrap(), "").is_none());
}
