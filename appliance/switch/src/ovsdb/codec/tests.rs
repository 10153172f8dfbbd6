use super::*;

fn messages(chunks: &[&[u8]]) -> Result<Vec<String>, Misframed> {
    let mut framer = Framer::default();
    let mut found = Vec::new();
    for chunk in chunks {
        framer.handle_bytes(chunk);
        while let Some(message) = framer.poll_message()? {
            found.push(String::from_utf8_lossy(message).into_owned());
        }
    }
    Ok(found)
}

#[test]
fn messages_are_found_however_the_stream_is_cut() {
    let stream = br#"{"a":"}]\"{"} {"b":[{"c":"\\"}]}
        {"d":{}}{}"#;
    let whole = [r#"{"a":"}]\"{"}"#, r#"{"b":[{"c":"\\"}]}"#, r#"{"d":{}}"#, "{}"];
    assert_eq!(messages(&[stream]).unwrap(), whole);
    for size in 1..stream.len() {
        let chunks: Vec<&[u8]> = stream.chunks(size).collect();
        assert_eq!(messages(&chunks).unwrap(), whole, "in chunks of {size}");
    }
}

#[test]
fn a_message_begins_with_an_object() {
    for stream in ["[]", "1", "\"a\"", "}", "null", "{}x", "\u{feff}{}", "HTTP/1.1 400"] {
        assert_eq!(messages(&[stream.as_bytes()]), Err(Misframed::NotAnObject), "{stream}");
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |deep: usize| format!("{{\"a\":{}{}}}", "[".repeat(deep - 1), "]".repeat(deep - 1));
    assert!(messages(&[nested(DEEPEST).as_bytes()]).is_ok());
    assert_eq!(messages(&[nested(DEEPEST + 1).as_bytes()]), Err(Misframed::TooDeep));
    assert_eq!(messages(&[&vec![b'{'; 1 << 20]]), Err(Misframed::TooDeep));
}

#[test]
fn length_is_bounded_whether_or_not_the_message_ends() {
    let message = |long: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(long - 8)).into_bytes();
    assert_eq!(messages(&[&message(LONGEST)]).unwrap().len(), 1);
    assert_eq!(messages(&[&message(LONGEST + 1)]), Err(Misframed::TooLong));
    let endless: Vec<&[u8]> =
        [b"{\"a\":\"".as_slice()].into_iter().chain([[b'x'; 4096].as_slice(); 1025]).collect();
    assert_eq!(messages(&endless), Err(Misframed::TooLong));
}

#[test]
fn many_messages_in_one_read_cost_no_more_than_their_bytes() {
    assert_eq!(messages(&[&b"{}".repeat(1 << 20)]).unwrap().len(), 1 << 20);
}

#[test]
fn the_three_kinds_of_message_are_told_apart() {
    let request = parse(br#"{"id":"echo","method":"echo","params":[]}"#).unwrap();
    assert!(matches!(request, Message::Request { id, .. } if id.get() == "\"echo\""));
    let notification = parse(br#"{"id":null,"method":"update","params":[]}"#).unwrap();
    assert!(matches!(notification, Message::Notification { .. }));
    let reply = parse(br#"{"id":7,"result":[],"error":null}"#).unwrap();
    assert!(matches!(reply, Message::Reply { id: 7, outcome: Ok(_) }));
    let failure = parse(br#"{"id":7,"result":null,"error":"unknown database"}"#).unwrap();
    assert!(matches!(failure, Message::Reply { id: 7, outcome: Err(_) }));
    for wrong in
        [r#"{}"#, r#"{"id":7}"#, r#"{"id":"x","result":1}"#, r#"{"id":-1,"result":1}"#, r#"{"method":1}"#]
    {
        assert!(parse(wrong.as_bytes()).is_err(), "{wrong}");
    }
}

fn column(json: &str) -> Result<Column, serde_json::Error> {
    serde_json::from_str(json)
}

#[test]
fn a_column_is_an_atom_or_a_set() {
    use Atom::{Integer, Text, Uuid};
    assert_eq!(column("7").unwrap().0, [Integer(7)]);
    assert_eq!(column("-7").unwrap().0, [Integer(-7)]);
    assert_eq!(column("1.5").unwrap().0, [Integer(1)]);
    assert_eq!(column("true").unwrap().0, [Integer(1)]);
    assert_eq!(column("18446744073709551615").unwrap().0, [Integer(i64::MAX)]);
    assert_eq!(column(r#""access""#).unwrap().0, [Text("access".into())]);
    assert_eq!(column(r#"["uuid","a"]"#).unwrap().0, [Uuid("a".into())]);
    assert_eq!(column(r#"["set",[]]"#).unwrap().0, []);
    assert_eq!(column(r#"["set",[1,2]]"#).unwrap().0, [Integer(1), Integer(2)]);
    assert_eq!(
        column(r#"["set",[["uuid","a"],["uuid","b"]]]"#).unwrap().0,
        [Uuid("a".into()), Uuid("b".into())]
    );
    for wrong in
        ["null", "{}", "[]", r#"["map",[]]"#, r#"["set",1]"#, r#"["set",[["set",[]]]]"#, r#"["uuid",1]"#]
    {
        assert!(column(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn what_a_peer_can_make_us_keep_is_bounded() {
    let many = |of: &str, count| vec![of; count].join(",");
    assert!(column(&format!(r#"["set",[{}]]"#, many("1", MOST))).is_ok());
    assert!(column(&format!(r#"["set",[{}]]"#, many("1", MOST + 1))).is_err());
    let rows: Vec<String> = (0..=MOST).map(|row| format!(r#""{row}":{{}}"#)).collect();
    let table = |rows: &[String]| serde_json::from_str::<Rows<PortRow>>(&format!("{{{}}}", rows.join(",")));
    assert!(table(&rows[..MOST]).is_ok());
    assert!(table(&rows).is_err());
}
