use deploy::{Goal, Step};
use sansio::Time;
use serde::{Deserialize, Serialize};
use store::Versioned;

/// One line of the log that operators, the web page and upstream controllers read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in microseconds since 1970.
    pub at: Time,
    /// About what.
    pub subject: Subject,
    /// What happened: `enrolled`, `state`, `step`, `again`, `failed`, `created`, …
    pub kind: String,
    /// For people.
    pub text: String,
    /// For programs, when a step of a journey ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepEnded>,
}

/// A step of a journey ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepEnded {
    /// What the journey was for.
    pub goal: Goal,
    /// The step that ended.
    pub step: Step,
    /// How long it took, in milliseconds.
    pub millis: u64,
    /// The step that began; none: the journey ended.
    pub next: Option<Step>,
    /// The attempt it was part of.
    pub attempt: u32,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// `node`, `network`, `switch`, `image`, `discovered`, `hand`.
    pub kind: String,
    /// Its name.
    pub name: String,
}

impl Versioned for Event {
    const VERSION: u8 = 1;
}

impl Event {
    /// An event.
    pub(crate) fn new(
        at: Time,
        subject: &str,
        name: impl ToString,
        kind: &str,
        text: impl Into<String>,
    ) -> Event {
        let (kind, subject) = (kind.to_owned(), Subject { kind: subject.to_owned(), name: name.to_string() });
        Event { at, subject, kind, text: text.into(), step: None }
    }
}
