use super::*;
use agent_proto::{Job, Task};
use boot::DiskHint;

#[test]
fn lines_are_put_together_however_they_come() {
    let mut lines = Lines::default();
    assert_eq!(lines.push(b"on").unwrap(), [b""; 0]);
    assert_eq!(lines.push(b"e\ntwo\n\nth").unwrap(), [b"one".to_vec(), b"two".to_vec()]);
    assert_eq!(lines.push(b"ree\n").unwrap(), [b"three".to_vec()]);
}

#[test]
fn a_line_without_an_end_is_given_up() {
    let mut lines = Lines::default();
    lines.push(&[b'a'; LINE]).unwrap();
    assert_eq!(lines.push(b"a"), Err(TooLong));
    assert_eq!(Lines::default().push(&[&[b'a'; LINE + 1][..], b"\n"].concat()), Err(TooLong));
}

#[test]
fn an_order_is_read_as_it_is_written() {
    let job = Job { id: "erase".into(), task: Task::EraseMetadata { disk: DiskHint::default() } };
    let order = Order { version: VERSION, job: Some(job) };
    let line = serde_json::to_vec(&HandLine::Order(Json::of(&order).unwrap())).unwrap();
    assert_eq!(read(&line), Ok(Some(order)));
}

#[test]
fn a_task_of_another_version_is_refused_by_the_name_of_its_job() {
    let line = br#"{"order":{"version":9,"job":{"id":"fly","task":{"fly-away":{}}}}}"#;
    let (id, text) = read(line).unwrap_err();
    assert_eq!(id, "fly");
    assert!(text.contains("fly-away"), "{text}");
}

#[test]
fn what_is_no_order_is_passed_over() {
    for line in ["", "{}", "null", r#"{"order":null}"#, r#"{"order":{}}"#, "\u{ff}", r#"{"order":{"job":7}}"#]
    {
        assert_eq!(read(line.as_bytes()), Ok(None), "{line}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(read(deep.as_bytes()), Ok(None));
}
