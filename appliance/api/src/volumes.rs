use crate::Api;
use crate::answer::{Failed, put};
use crate::objects::{body, intend, name, named};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use boot::{NodeName, VolumeId};
use control::{Done, Intent, VolumeView};
use rack::VolumeSpec;
use serde::Deserialize;
use std::sync::Arc;

type Shared = State<Arc<Api>>;

async fn view(api: &Api, volume: VolumeId) -> Result<VolumeView, Failed> {
    let asked = volume.clone();
    let view = api.link.ask(move |control, _| control.volume_view(&asked)).await?;
    view.ok_or_else(|| {
        Failed::not_found(format!("there is no volume {volume}: kiln volume list shows those there are"))
    })
}

async fn begun(api: &Api, volume: VolumeId, intent: Intent) -> Result<Response, Failed> {
    let done = intend(api, intent).await?;
    let status = if done == Done::Changed { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(view(api, volume).await?)).into_response())
}

pub(crate) async fn list(State(api): Shared) -> Result<Response, Failed> {
    Ok(Json(api.link.ask(|control, _| control.volume_views()).await?).into_response())
}

pub(crate) async fn show(State(api): Shared, Path(volume): Path<String>) -> Result<Response, Failed> {
    Ok(Json(view(&api, name(&volume)?).await?).into_response())
}

pub(crate) async fn put_volume(
    State(api): Shared,
    Path(volume): Path<String>,
    bytes: Bytes,
) -> Result<Response, Failed> {
    let spec: VolumeSpec = named(&bytes, &volume)?;
    let volume = spec.name.clone();
    let done = intend(&api, Intent::PutVolume(spec)).await?;
    Ok((put(done), Json(view(&api, volume).await?)).into_response())
}

pub(crate) async fn delete(State(api): Shared, Path(volume): Path<String>) -> Result<StatusCode, Failed> {
    intend(&api, Intent::DeleteVolume(name(&volume)?)).await?;
    Ok(StatusCode::ACCEPTED)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attach {
    node: NodeName,
    #[serde(default)]
    read_only: bool,
}

pub(crate) async fn attach(
    State(api): Shared,
    Path(volume): Path<String>,
    bytes: Bytes,
) -> Result<Response, Failed> {
    let Attach { node, read_only } = body(&bytes)?;
    let volume: VolumeId = name(&volume)?;
    begun(&api, volume.clone(), Intent::Attach { volume, node, read_only }).await
}

pub(crate) async fn detach(State(api): Shared, Path(volume): Path<String>) -> Result<Response, Failed> {
    let volume: VolumeId = name(&volume)?;
    begun(&api, volume.clone(), Intent::Detach(volume)).await
}

pub(crate) async fn flatten(State(api): Shared, Path(volume): Path<String>) -> Result<Response, Failed> {
    let volume: VolumeId = name(&volume)?;
    begun(&api, volume.clone(), Intent::FlattenVolume(volume)).await
}

pub(crate) async fn credentials(State(api): Shared, Path(node): Path<String>) -> Result<Response, Failed> {
    let node: NodeName = name(&node)?;
    let asked = node.clone();
    let view = api.link.ask(move |control, _| control.credentials_view(&asked)).await?;
    let view = view.ok_or_else(|| {
        let text = format!("node {node} has no volumes, or there is none: kiln volume attach gives it one");
        Failed::not_found(text)
    })?;
    Ok(Json(view).into_response())
}
