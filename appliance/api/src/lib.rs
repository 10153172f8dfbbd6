//! The native REST API: intents in, views and the numbered event log out.
//!
//! | request | does |
//! |---|---|
//! | `GET /v1/status` | the appliance and its hands |
//! | `GET /v1/nodes`, `GET /v1/nodes/N` | nodes with their steps and arrows |
//! | `PUT /v1/nodes/N`, `DELETE /v1/nodes/N` | describe, forget |
//! | `POST /v1/nodes/N/manage` | check the BMC, put the ports in quarantine |
//! | `POST /v1/nodes/N/provide` `{"clean": true}` | make available |
//! | `POST /v1/nodes/N/deploy` `{"image", "network", "user_data", "interface"}` | deploy |
//! | `POST /v1/nodes/N/undeploy` | take from its tenant, clean |
//! | `POST /v1/nodes/N/replace` `{"with", "off_by_hand"}` | fence, and let another node take its place |
//! | `GET /v1/nodes/N/credentials` | what its system needs to log in to its volumes: secrets |
//! | `GET /v1/volumes`, `GET`, `PUT`, `DELETE /v1/volumes/V` | volumes |
//! | `POST /v1/volumes/V/attach` `{"node", "read_only"}`, `…/detach`, `…/flatten` | who has them, what they hold |
//! | `GET /v1/networks`, `PUT`, `DELETE /v1/networks/N` | networks |
//! | `GET /v1/switches`, `PUT`, `DELETE /v1/switches/N` | switches |
//! | `GET /v1/images`, `PUT /v1/images/N?sha256=…` (the file as body), `DELETE` | images |
//! | `POST /v1/scrub` | read all that has a checksum; what is damaged, and whom it hurts |
//! | `POST /v1/appliance/backup` `{"recipient", "images"}` | all there is, encrypted to an age public key, as a stream |
//! | `GET /v1/appliance/restore` | the key that a backup is to be encrypted to, and whether something would be replaced |
//! | `PUT /v1/appliance/restore?replace=…&configuration=…` (the backup as body) | put it in place; all services start anew |
//! | `GET /v1/discovered` | machines nobody enrolled |
//! | `GET /v1/events?after=N&follow=true` | the log, one JSON object a line; `follow` goes on |
//!
//! Every request but `GET /v1/health` carries `Authorization: Bearer TOKEN`. Every error is
//! `{"error": {"kind", "text"}}`, and the text says what to do. A `PUT` that changes nothing answers 200,
//! one that changes something 201; a `POST` answers 202, since what it begins takes its time.
//!
//! This crate knows nothing of how anything is done, and keeps no state of its own.

mod answer;
mod appliance;
mod backup;
mod events;
mod images;
mod link;
mod objects;
mod scrub;
mod upload;
mod volumes;

pub use backup::{Places, sweep};
pub use link::{Ask, Gone, Link};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use boot::Secret;
use std::path::PathBuf;
use std::sync::Arc;

/// The largest JSON body: user data of 1 MiB, escaped at its worst.
const MOST_JSON: usize = 8 << 20;

/// What the API needs to answer.
#[derive(Clone)]
pub struct Api {
    /// The way to control.
    pub link: Link,
    /// What callers must show.
    pub token: Secret,
    /// The directory of the image store.
    pub images: PathBuf,
    /// The directory of volumes.
    pub volumes: PathBuf,
    /// The directory of config drives.
    pub drives: PathBuf,
    /// The directory of bundles that were sent and are not installed yet.
    pub bundles: PathBuf,
    /// The largest disk that an image may describe, in octets.
    pub most_image: u64,
    /// What backup and restore need.
    pub backup: Places,
}

/// All routes.
pub fn router(api: Api) -> Router {
    let api = Arc::new(api);
    let v1 = Router::new()
        .route("/v1/status", get(objects::status))
        .route("/v1/nodes", get(objects::nodes))
        .route("/v1/nodes/{name}", get(objects::node).put(objects::put_node).delete(objects::delete_node))
        .route("/v1/nodes/{name}/manage", post(objects::manage))
        .route("/v1/nodes/{name}/provide", post(objects::provide))
        .route("/v1/nodes/{name}/deploy", post(objects::deploy))
        .route("/v1/nodes/{name}/undeploy", post(objects::undeploy))
        .route("/v1/nodes/{name}/replace", post(objects::replace))
        .route("/v1/nodes/{name}/credentials", get(volumes::credentials))
        .route("/v1/volumes", get(volumes::list))
        .route("/v1/volumes/{name}", get(volumes::show).put(volumes::put_volume).delete(volumes::delete))
        .route("/v1/volumes/{name}/attach", post(volumes::attach))
        .route("/v1/volumes/{name}/detach", post(volumes::detach))
        .route("/v1/volumes/{name}/flatten", post(volumes::flatten))
        .route("/v1/networks", get(objects::networks))
        .route("/v1/networks/{name}", put(objects::put_network).delete(objects::delete_network))
        .route("/v1/switches", get(objects::switches))
        .route("/v1/switches/{name}", put(objects::put_switch).delete(objects::delete_switch))
        .route("/v1/images", get(images::list))
        .route("/v1/appliance", get(appliance::show))
        .route("/v1/appliance/reset", post(appliance::reset))
        .route("/v1/scrub", post(scrub::scrub))
        .route("/v1/discovered", get(objects::discovered))
        .route("/v1/events", get(events::events))
        .route("/v1/appliance/backup", post(backup::backup))
        .layer(DefaultBodyLimit::max(MOST_JSON));
    let uploads = Router::new()
        .route("/v1/images/{name}", put(images::import).delete(images::delete))
        .route("/v1/appliance/update", put(appliance::update))
        .route("/v1/appliance/restore", get(backup::door).put(backup::restore))
        .layer(DefaultBodyLimit::disable());
    v1.merge(uploads)
        .layer(middleware::from_fn_with_state(api.clone(), authorize))
        .route("/v1/health", get(|| async { "ok\n" }))
        .fallback(answer::no_such_path)
        .method_not_allowed_fallback(answer::no_such_method)
        .with_state(api)
}

async fn authorize(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let shown = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    match shown.and_then(|value| value.strip_prefix("Bearer ")) {
        Some(token) if api.token.matches(token.trim()) => next.run(request).await,
        Some(_) => answer::unauthorized("the token shown is not this appliance's").into_response(),
        None => answer::unauthorized("no token was shown").into_response(),
    }
}
