use super::*;

#[tokio::test]
async fn an_agent_is_told_its_order_and_what_it_says_is_told() {
    let mut stage = Stage::new().await;
    let mut agent = stage.agent("right").await;
    let head = agent.head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 101 ") && header(&head, "upgrade") == Some("kiln-agent"), "{head}");
    assert_eq!(agent.line().await.unwrap(), r#"{"order":"first"}"#);
    assert_eq!(stage.agent_fact().await, (SessionState::Connected, None));
    agent
        .send("{\"status\":{\"job\": 1}}\n\n{\"log\":[\"one\",\"two\\u001b[2J\"]}\n{\"log\":[\"three\"]}\n")
        .await;
    assert_eq!(stage.agent_fact().await, (SessionState::Connected, Some(r#"{"job": 1}"#.to_owned())));
    stage.plan.sessions[0].order = Some(Json::of(&"second").unwrap());
    stage.tell_plan();
    assert_eq!(agent.line().await.unwrap(), r#"{"order":"second"}"#);
    // A plan that says the same of it is no news for it.
    stage.tell_plan();
    agent.send("{\"status\":2}\n").await;
    assert_eq!(stage.agent_fact().await.1.as_deref(), Some("2"));
    drop(agent);
    assert_eq!(stage.agent_fact().await, (SessionState::Lost, Some("2".to_owned())));
    let log = fs::read_to_string(stage.directory.path().join("logs/n1-1-1.log")).unwrap();
    assert_eq!(log, "one\ntwo\u{fffd}[2J\nthree\n");
}

#[tokio::test]
async fn a_newer_connection_of_an_attempt_takes_over() {
    let stage = Stage::new().await;
    let mut first = stage.agent("right").await;
    first.head().await.unwrap();
    first.send("{\"status\":1}\n").await;
    while stage.agent_fact().await.1.is_none() {}
    let mut second = stage.agent("right").await;
    second.head().await.unwrap();
    assert_eq!(stage.agent_fact().await, (SessionState::Connected, Some("1".to_owned())));
    assert_eq!(first.line().await.as_deref(), Some(r#"{"order":"first"}"#));
    assert_eq!(first.line().await, None);
    second.send("{\"status\":2}\n").await;
    // That the first one is gone is not told in between.
    assert_eq!(stage.agent_fact().await, (SessionState::Connected, Some("2".to_owned())));
}

#[tokio::test]
async fn an_agent_that_is_not_expected_does_not_come_in() {
    let mut stage = Stage::new().await;
    for token in ["", "wrong", "righ", "rightt"] {
        let head = stage.agent(token).await.head().await.unwrap();
        assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    }
    let no_upgrade = stage
        .ask("POST /agent/n1-1-1 HTTP/1.1\r\nAuthorization: Bearer right\r\nContent-Length: 0\r\n\r\n")
        .await;
    assert_eq!((no_upgrade.status, header(&no_upgrade.head, "upgrade")), (426, Some("kiln-agent")));
    let mut agent = stage.agent("right").await;
    agent.head().await.unwrap();
    agent.line().await.unwrap();
    stage.plan.sessions[0].token = Secret::new("another");
    stage.tell_plan();
    assert_eq!(agent.line().await, None);
    while stage.agent_fact().await.0 != SessionState::Lost {}
}

#[tokio::test]
async fn an_agent_that_does_not_keep_to_the_contract_is_dropped() {
    let stage = Stage::new().await;
    for line in [
        "nonsense\n".to_owned(),
        "{\"status\":1\n".to_owned(),
        "{\"order\":1}\n".to_owned(),
        "\u{1f525}\n".to_owned(),
        "[".repeat(100_000) + "\n",
        "x".repeat(session::LINE + 2),
    ] {
        let mut agent = stage.agent("right").await;
        agent.head().await.unwrap();
        agent.line().await.unwrap();
        agent.send(&line).await;
        assert_eq!(agent.line().await, None);
        while stage.agent_fact().await.0 != SessionState::Lost {}
    }
    // The longest line that is allowed.
    let mut agent = stage.agent("right").await;
    let frame = "{\"status\":\"\"}".len();
    agent.send(&format!("{{\"status\":\"{}\"}}\n", "x".repeat(session::LINE - frame))).await;
    while stage.agent_fact().await.1.is_none_or(|status| status.len() < session::LINE - frame) {}
}
