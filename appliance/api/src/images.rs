use crate::Api;
use crate::answer::{Failed, put};
use crate::objects::image_name;
use crate::upload;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bootd::library::{Library, LibraryError};
use control::{ImageRecord, Intent};
use image::Terms;
use serde::Deserialize;
use std::sync::Arc;

pub(crate) async fn list(State(api): State<Arc<Api>>) -> Result<Response, Failed> {
    Ok(Json(api.link.ask(|control, _| control.image_views()).await?).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expected {
    /// SHA-256 of the file as it is sent, packed or not.
    sha256: Option<String>,
}

pub(crate) async fn import(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    Query(expected): Query<Expected>,
    body: Body,
) -> Result<Response, Failed> {
    let name = image_name(&name)?;
    let file = expected.sha256.map(|text| format!("sha256:{text}").parse()).transpose();
    let file = file.map_err(|e: boot::NotAWord| Failed::invalid(e.to_string()))?;
    let terms = Terms { max_size: api.most_image, file, ..Terms::default() };
    let (pieces, received) = upload::channel();
    let library = Library::new(&api.images).with_volumes(&api.volumes);
    let work = tokio::task::spawn_blocking(move || library.import(received, &terms, &mut |_| {}));
    let sent = upload::feed(body, pieces).await;
    let done = work.await.map_err(|_| Failed::storage("the import broke off: try again"))?;
    let imported = match (done, sent) {
        (Ok(imported), Ok(())) => imported,
        (_, Err(e)) => return Err(Failed::invalid(format!("the upload was cut off: {e}"))),
        (Err(e), _) => return Err(library_failed(&e)),
    };
    let record = move |now| ImageRecord {
        name,
        digest: imported.id,
        size: imported.size,
        data: imported.data_bytes,
        sha256: imported.sha256.to_string(),
        imported: now,
    };
    let asked = api.link.ask(move |control, now| {
        let record = record(now);
        control.handle_intent(Intent::PutImage(record.clone()), now).map(|done| (done, record))
    });
    let (done, record) = asked.await??;
    Ok((put(done), Json(record)).into_response())
}

fn library_failed(error: &LibraryError) -> Failed {
    // The chain in one line: what cannot be imported, and what the decoder said of it.
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(e) = source {
        text = format!("{text}: {e}");
        source = e.source();
    }
    match error {
        LibraryError::Import(_) => Failed::invalid(text),
        _ => Failed::storage(text),
    }
}

pub(crate) async fn delete(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Failed> {
    let name = image_name(&name)?;
    let asked = api.link.ask(move |control, now| {
        let digest =
            control.image_views().into_iter().find(|image| image.name == name).map(|image| image.digest);
        control.handle_intent(Intent::DeleteImage(name), now)?;
        Ok::<_, control::Refusal>(digest.filter(|digest| !control.names_image(digest)))
    });
    if let Some(digest) = asked.await?? {
        let library = Library::new(&api.images).with_volumes(&api.volumes);
        let removed = tokio::task::spawn_blocking(move || library.remove(&digest)).await;
        if let Ok(Err(e)) = removed {
            log::warn!(image:% = digest, error:% = e; "image forgotten, its octets not removed");
        }
    }
    Ok(StatusCode::NO_CONTENT)
}
