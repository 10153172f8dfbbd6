use crate::Api;
use crate::answer::Failed;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use boot::Digest;
use bootd::library::{Hurt, Library};
use bootd::volumes::Volumes;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Damage that was found.
#[derive(Serialize)]
struct Damage {
    /// The names of the images that it hurts; an image that nobody names any more by its digest.
    images: Vec<String>,
    /// The volumes that it hurts.
    volumes: Vec<String>,
    /// What is wrong, and what to do.
    what: String,
    /// Whether octets cannot be read; otherwise a second copy serves.
    lost: bool,
}

/// Reads all that has a checksum. It takes as long as reading every image takes.
pub(crate) async fn scrub(State(api): State<Arc<Api>>) -> Result<Response, Failed> {
    let named = api.link.ask(|control, _| control.image_views()).await?;
    let mut names: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
    for image in named {
        names.entry(image.digest).or_default().push(image.name.to_string());
    }
    let library = Library::new(&api.images).with_volumes(&api.volumes);
    let volumes = Volumes::new(&api.volumes, library.clone());
    let work = tokio::task::spawn_blocking(move || {
        let images = library.scrub(&mut |_| {}).map_err(|e| Failed::storage(e.to_string()))?;
        let volumes = volumes.scrub(&mut |_| {}).map_err(|e| Failed::storage(e.to_string()))?;
        Ok::<_, Failed>((images, volumes))
    });
    let (images, volumes) =
        work.await.unwrap_or_else(|_| Err(Failed::storage("the reading broke off: try again")))?;
    let of = |digest: &Digest| names.get(digest).cloned().unwrap_or_else(|| vec![digest.to_string()]);
    let mut found: Vec<Damage> = images.iter().map(|hurt| image(hurt, of(&hurt.image))).collect();
    found.extend(volumes.into_iter().map(|hurt| Damage {
        images: Vec::new(),
        volumes: hurt.volumes.iter().map(ToString::to_string).collect(),
        what: hurt.what,
        lost: hurt.lost,
    }));
    Ok(Json(found).into_response())
}

fn image(hurt: &Hurt, images: Vec<String>) -> Damage {
    let what = match (&hurt.manifest, hurt.extents.first()) {
        (Some(why), _) => format!("its manifest is damaged: {why}; import it again"),
        (None, Some(first)) => format!(
            "{} of its extents are bad, the first at {}: {}; import it again to heal it",
            hurt.extents.len(),
            first.offset,
            first.why
        ),
        (None, None) => "nothing".to_owned(),
    };
    Damage { images, volumes: Vec::new(), what, lost: true }
}
