use crate::Api;
use crate::answer::Failed;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use control::Event;
use core::convert::Infallible;
use core::time::Duration;
use http_body_util::channel::{Channel, Sender};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use store::EventNumber;
use tokio::time::timeout;

/// Events asked of control at once.
const PAGE: usize = 500;
/// Lines that wait for a slow reader.
const AHEAD: usize = 16;
/// How long a reader who follows is left without a line.
const QUIET: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// Only events with larger numbers.
    #[serde(default)]
    after: u64,
    /// Only events about this node.
    node: Option<String>,
    /// Whether to go on as events happen.
    #[serde(default)]
    follow: bool,
}

/// A line of the log.
#[derive(Serialize)]
struct Line<'a> {
    number: u64,
    #[serde(flatten)]
    event: &'a Event,
}

/// Said before the events when some that were asked for are kept no longer.
#[derive(Serialize)]
struct Gap {
    missed: bool,
    oldest: u64,
}

pub(crate) async fn events(
    State(api): State<Arc<Api>>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Failed> {
    let (out, body) = Channel::<Bytes, Infallible>::new(AHEAD);
    tokio::spawn(tell(api, wanted, out));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::new(body)).into_response())
}

async fn tell(api: Arc<Api>, wanted: Wanted, mut out: Sender<Bytes, Infallible>) {
    let mut newest = api.link.newest_event();
    let mut after = wanted.after;
    loop {
        newest.borrow_and_update();
        let asked = api.link.ask(move |control, _| control.events(EventNumber(after), PAGE)).await;
        let (page, span) = match asked {
            Ok(Ok(found)) => found,
            Ok(Err(e)) => return log::error!(error:% = e; "events cannot be read"),
            Err(_) => return,
        };
        let mut text = Vec::new();
        if after + 1 < span.oldest.0 && after != 0 {
            write(&mut text, &Gap { missed: true, oldest: span.oldest.0 });
        }
        let full = page.len() == PAGE;
        for (number, event) in &page {
            after = number.0;
            let about = wanted.node.as_ref();
            if about.is_none_or(|node| event.subject.kind == "node" && event.subject.name == *node) {
                write(&mut text, &Line { number: number.0, event });
            }
        }
        if !text.is_empty() && out.send_data(Bytes::from(text)).await.is_err() {
            return;
        }
        if full {
            continue;
        }
        if !wanted.follow {
            return;
        }
        match timeout(QUIET, newest.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            // An empty line shows whether anybody still reads.
            Err(_) => {
                if out.send_data(Bytes::from_static(b"\n")).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn write(text: &mut Vec<u8>, line: &impl Serialize) {
    serde_json::to_writer(&mut *text, line).expect("events have string keys only");
    text.push(b'\n');
}
