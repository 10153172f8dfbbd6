use crate::Gone;
use axum::Json;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use control::{Done, Refusal, RefusalKind};
use serde_json::json;

/// An error of this surface; here alone status codes are chosen.
#[derive(Debug)]
pub(crate) struct Failed {
    status: StatusCode,
    kind: &'static str,
    text: String,
}

impl Failed {
    pub(crate) fn invalid(text: impl Into<String>) -> Failed {
        Failed { status: StatusCode::BAD_REQUEST, kind: "invalid", text: text.into() }
    }

    pub(crate) fn not_found(text: impl Into<String>) -> Failed {
        Failed { status: StatusCode::NOT_FOUND, kind: "not-found", text: text.into() }
    }

    pub(crate) fn conflict(text: impl Into<String>) -> Failed {
        Failed { status: StatusCode::CONFLICT, kind: "conflict", text: text.into() }
    }

    pub(crate) fn storage(text: impl Into<String>) -> Failed {
        Failed { status: StatusCode::INSUFFICIENT_STORAGE, kind: "storage", text: text.into() }
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let body = Json(json!({ "error": { "kind": self.kind, "text": self.text } }));
        (self.status, body).into_response()
    }
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Failed {
        match refusal.kind {
            RefusalKind::NotFound => Failed::not_found(refusal.text),
            RefusalKind::Conflict => Failed::conflict(refusal.text),
            RefusalKind::Invalid => Failed::invalid(refusal.text),
            RefusalKind::Storage => Failed::storage(refusal.text),
        }
    }
}

impl From<Gone> for Failed {
    fn from(gone: Gone) -> Failed {
        Failed { status: StatusCode::SERVICE_UNAVAILABLE, kind: "away", text: gone.to_string() }
    }
}

pub(crate) fn unauthorized(why: &str) -> impl IntoResponse + use<> {
    let text = format!("{why}: show the one in the appliance's token file (kiln --token-file)");
    let failed = Failed { status: StatusCode::UNAUTHORIZED, kind: "unauthorized", text };
    ([(header::WWW_AUTHENTICATE, "Bearer")], failed)
}

pub(crate) async fn no_such_path(uri: Uri) -> Failed {
    Failed::not_found(format!("there is nothing at {}: the paths begin with /v1/", uri.path()))
}

pub(crate) async fn no_such_method(method: Method, uri: Uri) -> Failed {
    let text = format!("{} does not take {method}", uri.path());
    Failed { status: StatusCode::METHOD_NOT_ALLOWED, kind: "invalid", text }
}

/// 200 for what was so already, 201 for what changed.
pub(crate) fn put(done: Done) -> StatusCode {
    match done {
        Done::Already => StatusCode::OK,
        Done::Changed => StatusCode::CREATED,
    }
}
