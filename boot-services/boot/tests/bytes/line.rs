use boot::{Desk, Down, Generation, MAX_LINE, Row, TftpFact, TftpPlan, Up, VERSION};

const PLAN: &str = "{\"v\":1,\"say\":{\"plan\":{\"generation\":7,\"body\":{\"listen\":[],\"files\":[]}}}}\n";

fn fact() -> TftpFact {
    TftpFact::Listen { address: "10.7.0.1:69".parse().unwrap(), trouble: None }
}

#[test]
fn the_version_is_one_and_the_bound_of_a_line_is_fixed() {
    assert_eq!((VERSION, MAX_LINE), (1, 16 << 20));
}

#[test]
fn a_line_down_is_pinned() {
    let plan = Down::Plan { generation: Generation(7), body: TftpPlan::default() };
    assert_eq!(String::from_utf8(plan.line()).unwrap(), PLAN);
}

#[test]
fn what_a_hand_says_is_pinned() {
    let mut desk: Desk<TftpPlan, TftpFact> = Desk::new("tftp", 3, 10);
    desk.handle_connect();
    assert!(desk.handle_bytes(PLAN.as_bytes()).unwrap());
    desk.tell("listen/10.7.0.1:69", fact());
    let lines = String::from_utf8(desk.poll_transmit().unwrap()).unwrap();
    assert_eq!(
        lines.lines().collect::<Vec<_>>(),
        [
            r#"{"v":1,"say":{"hello":{"hand":"tftp","epoch":3,"holds":7}}}"#,
            r#"{"v":1,"say":{"fact":{"seq":1,"key":"listen/10.7.0.1:69","fact":{"listen":{"address":"10.7.0.1:69","trouble":null}}}}}"#,
            r#"{"v":1,"say":"told"}"#,
            r#"{"v":1,"say":{"holds":7}}"#,
        ]
    );
}

#[test]
fn what_control_reads_is_pinned() {
    let row = Row { seq: 1, key: "listen/10.7.0.1:69".into(), fact: fact() };
    let lines = [
        (
            Up::Hello { hand: "tftp".into(), epoch: 3, holds: None },
            r#"{"v":1,"say":{"hello":{"hand":"tftp","epoch":3,"holds":null}}}"#,
        ),
        (
            Up::Fact(row),
            r#"{"v":1,"say":{"fact":{"seq":1,"key":"listen/10.7.0.1:69","fact":{"listen":{"address":"10.7.0.1:69","trouble":null}}}}}"#,
        ),
        (Up::Told, r#"{"v":1,"say":"told"}"#),
        (Up::Holds(Generation(7)), r#"{"v":1,"say":{"holds":7}}"#),
    ];
    for (up, bytes) in lines {
        assert_eq!(Up::<TftpFact>::parse(bytes.as_bytes()).unwrap(), up);
    }
}

#[test]
fn a_plan_that_is_kept_is_pinned() {
    let mut desk: Desk<TftpPlan, TftpFact> = Desk::new("tftp", 3, 10);
    desk.handle_connect();
    desk.handle_bytes(PLAN.as_bytes()).unwrap();
    let kept = String::from_utf8(desk.keep().unwrap()).unwrap();
    assert_eq!(kept, r#"{"plan":{"generation":7,"body":{"listen":[],"files":[]}}}"#);
}
