use crate::pinned;
use boot::{AgentLine, HandLine, Json};

#[test]
fn the_lines_of_an_agents_connection_are_pinned() {
    pinned(&AgentLine::Status(Json::of(&[1]).unwrap()), r#"{"status":[1]}"#);
    pinned(&AgentLine::Log(vec!["a line".into()]), r#"{"log":["a line"]}"#);
    pinned(&HandLine::Order(Json::of(&[1]).unwrap()), r#"{"order":[1]}"#);
}
