use crate::Api;
use crate::answer::{Failed, put};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, body::Bytes};
use boot::{Digest, NodeName};
use control::{Done, Intent, NodeView};
use rack::{DeployInterface, ImageName, NetworkName, NetworkSpec, NodeSpec, SwitchName, SwitchSpec};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

type Shared = State<Arc<Api>>;

/// A name in a path, read as what it must be.
pub(crate) fn name<T: core::str::FromStr<Err = boot::NotAWord>>(text: &str) -> Result<T, Failed> {
    text.parse().map_err(|e: boot::NotAWord| Failed::invalid(e.to_string()))
}

/// A JSON body, with an error that says where it is wrong. An empty one is `{}`.
pub(crate) fn body<T: DeserializeOwned>(bytes: &Bytes) -> Result<T, Failed> {
    let text = if bytes.iter().all(u8::is_ascii_whitespace) { b"{}".as_slice() } else { bytes };
    serde_json::from_slice(text)
        .map_err(|e| Failed::invalid(format!("the body is not what is expected here: {e}")))
}

/// A body that names the object must name the one of the path; one that does not takes the path's.
pub(crate) fn named<T: DeserializeOwned>(bytes: &Bytes, path: &str) -> Result<T, Failed> {
    let mut value: serde_json::Value = body(bytes)?;
    let Some(object) = value.as_object_mut() else {
        return Err(Failed::invalid("the body is not a JSON object"));
    };
    let said = object.entry("name").or_insert_with(|| path.into());
    if said != path {
        return Err(Failed::invalid(format!("the body is about {said}, the path about {path:?}")));
    }
    serde_json::from_value(value)
        .map_err(|e| Failed::invalid(format!("the body is not what is expected here: {e}")))
}

pub(crate) async fn intend(api: &Api, intent: Intent) -> Result<Done, Failed> {
    Ok(api.link.ask(move |control, now| control.handle_intent(intent, now)).await??)
}

async fn begun(api: &Api, node: NodeName, intent: Intent) -> Result<Response, Failed> {
    let done = intend(api, intent).await?;
    let status = if done == Done::Changed { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(view(api, node).await?)).into_response())
}

async fn view(api: &Api, node: NodeName) -> Result<NodeView, Failed> {
    let asked = node.clone();
    let view = api.link.ask(move |control, now| control.node_view(&asked, now)).await?;
    view.ok_or_else(|| {
        Failed::not_found(format!("there is no node {node}: kiln node list shows those there are"))
    })
}

pub(crate) async fn status(State(api): Shared) -> Result<Response, Failed> {
    Ok(Json(api.link.ask(|control, _| control.status_view()).await?).into_response())
}

pub(crate) async fn nodes(State(api): Shared) -> Result<Response, Failed> {
    Ok(Json(api.link.ask(|control, now| control.node_views(now)).await?).into_response())
}

pub(crate) async fn node(State(api): Shared, Path(node): Path<String>) -> Result<Response, Failed> {
    Ok(Json(view(&api, name(&node)?).await?).into_response())
}

pub(crate) async fn put_node(
    State(api): Shared,
    Path(node): Path<String>,
    bytes: Bytes,
) -> Result<Response, Failed> {
    let spec: NodeSpec = named(&bytes, &node)?;
    let node = spec.name.clone();
    let done = intend(&api, Intent::PutNode(spec)).await?;
    Ok((put(done), Json(view(&api, node).await?)).into_response())
}

pub(crate) async fn delete_node(State(api): Shared, Path(node): Path<String>) -> Result<StatusCode, Failed> {
    intend(&api, Intent::DeleteNode(name(&node)?)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn manage(State(api): Shared, Path(node): Path<String>) -> Result<Response, Failed> {
    let node: NodeName = name(&node)?;
    begun(&api, node.clone(), Intent::Manage(node)).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Provide {
    #[serde(default = "yes")]
    clean: bool,
}

fn yes() -> bool {
    true
}

pub(crate) async fn provide(
    State(api): Shared,
    Path(node): Path<String>,
    bytes: Bytes,
) -> Result<Response, Failed> {
    let Provide { clean } = body(&bytes)?;
    let node: NodeName = name(&node)?;
    begun(&api, node.clone(), Intent::Provide { node, clean }).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deploy {
    image: ImageName,
    network: NetworkName,
    #[serde(default)]
    user_data: Option<String>,
    #[serde(default)]
    interface: DeployInterface,
}

pub(crate) async fn deploy(
    State(api): Shared,
    Path(node): Path<String>,
    bytes: Bytes,
) -> Result<Response, Failed> {
    let Deploy { image, network, user_data, interface } = body(&bytes)?;
    let node: NodeName = name(&node)?;
    let config_drive = match user_data {
        Some(text) => Some(write_drive(&api, &node, text).await?),
        None => None,
    };
    begun(&api, node.clone(), Intent::Deploy { node, image, network, config_drive, interface }).await
}

/// The config drive is on disk before anything names it.
async fn write_drive(api: &Api, node: &NodeName, user_data: String) -> Result<(Digest, u64), Failed> {
    let (node, drives) = (node.to_string(), api.drives.clone());
    let written = tokio::task::spawn_blocking(move || {
        // Stable for the same node and data, as cloud-init's instance id should be.
        let seed = blake3::hash(format!("{node}\n{user_data}").as_bytes());
        let id = uuid_like(seed.as_bytes());
        let drive = control::config_drive(&id, &node, user_data.as_bytes())
            .map_err(|e| Failed::invalid(e.to_string()))?;
        let digest = Digest(*blake3::hash(&drive).as_bytes());
        let full = |e: std::io::Error| {
            Failed::storage(format!("the config drive cannot be kept in {}: {e}", drives.display()))
        };
        keep(&drives, &digest.to_string(), &drive).map_err(full)?;
        Ok((digest, drive.len() as u64))
    });
    written.await.unwrap_or_else(|_| Err(Failed::storage("the config drive could not be made")))
}

/// A file that is there whole or not at all, for our group to read.
fn keep(directory: &std::path::Path, name: &str, content: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let (path, aside) = (directory.join(name), directory.join(format!("{name}.new")));
    if path.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(directory)?;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o640).open(&aside)?;
    file.write_all(content).and_then(|()| file.sync_all())?;
    std::fs::rename(&aside, &path)?;
    std::fs::File::open(directory)?.sync_all()
}

fn uuid_like(bytes: &[u8; 32]) -> String {
    let hex: String = bytes[..16].iter().map(|b| format!("{b:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32])
}

pub(crate) async fn undeploy(State(api): Shared, Path(node): Path<String>) -> Result<Response, Failed> {
    let node: NodeName = name(&node)?;
    begun(&api, node.clone(), Intent::Undeploy(node)).await
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replace {
    with: NodeName,
    #[serde(default)]
    off_by_hand: bool,
}

pub(crate) async fn replace(
    State(api): Shared,
    Path(node): Path<String>,
    bytes: Bytes,
) -> Result<Response, Failed> {
    let Replace { with: spare, off_by_hand } = body(&bytes)?;
    let node: NodeName = name(&node)?;
    begun(&api, node.clone(), Intent::Replace { node, spare, off_by_hand }).await
}

pub(crate) async fn networks(State(api): Shared) -> Result<Response, Failed> {
    Ok(Json(api.link.ask(|control, _| control.network_views()).await?).into_response())
}

pub(crate) async fn put_network(
    State(api): Shared,
    Path(network): Path<String>,
    bytes: Bytes,
) -> Result<StatusCode, Failed> {
    let spec: NetworkSpec = named(&bytes, &network)?;
    Ok(put(intend(&api, Intent::PutNetwork(spec)).await?))
}

pub(crate) async fn delete_network(
    State(api): Shared,
    Path(network): Path<String>,
) -> Result<StatusCode, Failed> {
    intend(&api, Intent::DeleteNetwork(name(&network)?)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn switches(State(api): Shared) -> Result<Response, Failed> {
    Ok(Json(api.link.ask(|control, _| control.switch_views()).await?).into_response())
}

pub(crate) async fn put_switch(
    State(api): Shared,
    Path(switch): Path<String>,
    bytes: Bytes,
) -> Result<StatusCode, Failed> {
    let spec: SwitchSpec = named(&bytes, &switch)?;
    Ok(put(intend(&api, Intent::PutSwitch(spec)).await?))
}

pub(crate) async fn delete_switch(
    State(api): Shared,
    Path(switch): Path<String>,
) -> Result<StatusCode, Failed> {
    intend(&api, Intent::DeleteSwitch(name::<SwitchName>(&switch)?)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(crate) async fn discovered(State(api): Shared) -> Result<Response, Failed> {
    Ok(Json(api.link.ask(|control, _| control.discovered_views()).await?).into_response())
}

pub(crate) fn image_name(text: &str) -> Result<ImageName, Failed> {
    name(text)
}
