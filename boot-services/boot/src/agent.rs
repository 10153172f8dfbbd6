use crate::Json;
use serde::{Deserialize, Serialize};

/// What an agent sends on its connection, one JSON object a line.
///
/// The connection is `POST /agent/ATTEMPT` with `Authorization: Bearer TOKEN` and `Upgrade: kiln-agent`;
/// after `101 Switching Protocols` both sides send lines. An agent says its whole status on every new
/// connection and whenever it changed, and at least every five seconds; silent for 20, it is dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AgentLine {
    /// The whole of what it is and does now; `agent-proto` says what is inside.
    Status(Json),
    /// Lines for its log.
    Log(Vec<String>),
}

/// What the hand sends to an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HandLine {
    /// What to do, as control wrote it; sent on every connection and whenever it changes.
    Order(Json),
}
