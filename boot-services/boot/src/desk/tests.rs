use super::*;
use serde::Deserialize;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Plan {
    say: String,
}

fn plan(generation: u64, say: &str) -> Vec<u8> {
    Down::Plan { generation: Generation(generation), body: Plan { say: say.into() } }.line()
}

fn lines(bytes: Option<Vec<u8>>) -> Vec<Up<String>> {
    let bytes = bytes.unwrap_or_default();
    bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| Up::parse(l).unwrap()).collect()
}

fn desk() -> Desk<Plan, String> {
    Desk::new("dhcp", 7, 3)
}

#[test]
fn an_older_plan_is_refused_and_the_held_one_announced() {
    let mut desk = desk();
    desk.handle_connect();
    assert!(desk.handle_bytes(&plan(5, "five")).unwrap());
    assert!(!desk.handle_bytes(&plan(4, "four")).unwrap());
    assert_eq!(desk.plan().unwrap().say, "five");
    assert_eq!(lines(desk.poll_transmit()).last(), Some(&Up::Holds(Generation(5))));
}

#[test]
fn a_plan_may_come_in_any_pieces() {
    let mut desk = desk();
    desk.handle_connect();
    let bytes = plan(1, "one");
    let changes = bytes.iter().filter(|b| desk.handle_bytes(&[**b]).unwrap()).count();
    assert_eq!(changes, 1);
}

#[test]
fn a_new_connection_is_told_the_whole_table_and_then_only_changes() {
    let mut desk = desk();
    desk.tell("a", "1".to_owned());
    desk.tell("b", "2".to_owned());
    desk.tell("a", "3".to_owned());
    assert_eq!(desk.poll_transmit(), None, "nobody is on the line");
    desk.handle_connect();
    let told = lines(desk.poll_transmit());
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(matches!(&told[1], Up::Fact(row) if row.key == "b"));
    assert!(matches!(&told[2], Up::Fact(row) if row.key == "a" && row.fact == "3" && row.seq == 3));
    assert_eq!(told[3], Up::Told);
    desk.tell("b", "2".to_owned());
    assert_eq!(desk.poll_transmit(), None, "nothing new");
    desk.tell("b", "4".to_owned());
    assert_eq!(lines(desk.poll_transmit()).len(), 1);
    desk.handle_disconnect();
    desk.handle_connect();
    assert_eq!(lines(desk.poll_transmit()).len(), 4);
}

#[test]
fn the_table_is_bounded_and_forgets_the_oldest() {
    let mut desk = desk();
    for key in ["a", "b", "c", "d"] {
        desk.tell(key, key.to_owned());
    }
    assert_eq!(desk.told("a"), None);
    assert_eq!(desk.told("d").map(String::as_str), Some("d"));
}

#[test]
fn a_kept_plan_is_served_after_a_restart() {
    let mut desk = desk();
    desk.handle_connect();
    desk.handle_bytes(&plan(9, "nine")).unwrap();
    let kept = desk.keep().unwrap();
    let mut again = self::desk();
    again.recall(&kept);
    assert_eq!(again.holds(), Some(Generation(9)));
    again.recall(b"torn{");
    assert_eq!(again.holds(), Some(Generation(9)));
}

#[test]
fn strangers_are_told_what_is_wrong() {
    let mut desk = desk();
    assert_eq!(desk.handle_bytes(b"{\"v\":2,\"say\":{}}\n"), Err(Refused::Version(2)));
    assert!(matches!(desk.handle_bytes(b"{\"v\":1,\"say\":{\"plan\":7}}\n"), Err(Refused::Garbled(_))));
    assert!(matches!(desk.handle_bytes(b"GET / HTTP/1.1\n"), Err(Refused::Garbled(_))));
}
