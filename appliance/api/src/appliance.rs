use crate::Api;
use crate::answer::Failed;
use crate::objects::intend;
use crate::upload::{self, Upload};
use axum::Json;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bootd::library::Modest;
use control::{ApplianceView, Intent};
use serde::Deserialize;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The largest bundle: more fits in no slot.
const MOST: u64 = 160 << 20;
/// Tells uploads at the same time apart.
static UPLOADS: AtomicU64 = AtomicU64::new(0);

type Shared = State<Arc<Api>>;

async fn view(api: &Api) -> Result<ApplianceView, Failed> {
    Ok(api.link.ask(|control, _| control.appliance_view()).await?)
}

pub(crate) async fn show(State(api): Shared) -> Result<Response, Failed> {
    Ok(Json(view(&api).await?).into_response())
}

pub(crate) async fn reset(State(api): Shared) -> Result<Response, Failed> {
    intend(&api, Intent::Reset).await?;
    Ok((StatusCode::ACCEPTED, Json(view(&api).await?)).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct How {
    /// Whether the box starts again by itself when the slot is written.
    #[serde(default = "yes")]
    restart: bool,
}

fn yes() -> bool {
    true
}

pub(crate) async fn update(
    State(api): Shared,
    Query(How { restart }): Query<How>,
    body: Body,
) -> Result<Response, Failed> {
    // Before anything is sent, and again with the file there.
    let (may, kept) = api.link.ask(|c, _| (c.may_update(), c.bundle().map(ToOwned::to_owned))).await?;
    may?;
    let name = format!("{}-{}.raucb", std::process::id(), UPLOADS.fetch_add(1, Ordering::Relaxed));
    let file = api.bundles.join(name);
    let bundles = api.bundles.clone();
    let swept = tokio::task::spawn_blocking(move || sweep(&bundles, kept.as_deref()));
    if let Ok(Err(e)) = swept.await {
        log::warn!(error:% = e; "old bundles not removed");
    }
    let kept = keep(body, &file).await;
    let begun = match kept {
        Ok(()) => {
            let bundle = file.display().to_string();
            intend(&api, Intent::Update { bundle, restart }).await
        }
        Err(e) => Err(e),
    };
    if let Err(e) = begun {
        // What stays is removed before the next one comes.
        drop(std::fs::remove_file(&file));
        return Err(e);
    }
    Ok((StatusCode::ACCEPTED, Json(view(&api).await?)).into_response())
}

/// Removes bundles that nobody needs: of updates that are over, and of uploads that were broken off.
fn sweep(bundles: &Path, kept: Option<&str>) -> io::Result<()> {
    let own = format!("{}-", std::process::id());
    for entry in std::fs::read_dir(bundles)? {
        let path: PathBuf = entry?.path();
        let is_kept = kept.is_some_and(|kept| Path::new(kept) == path);
        // One of this process may be coming in at the moment.
        let may_come = path.extension().is_some_and(|end| end == "part")
            && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&own));
        if !is_kept && !may_come {
            std::fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Takes an upload into a file that is there whole or not at all.
async fn keep(body: Body, file: &Path) -> Result<(), Failed> {
    let (pieces, upload) = upload::channel();
    let to = file.to_owned();
    let work = tokio::task::spawn_blocking(move || write(upload, &to));
    let sent = upload::feed(body, pieces).await;
    let written = work.await.unwrap_or_else(|_| Err(io::Error::other("the writing broke off")));
    match (sent, written) {
        (Err(e), _) => Err(Failed::invalid(format!("the upload was cut off: {e}"))),
        (Ok(()), Err(e)) if e.kind() == io::ErrorKind::FileTooLarge => Err(Failed::invalid(e.to_string())),
        (Ok(()), Err(e)) => Err(Failed::storage(format!(
            "the bundle cannot be kept: {e}: make room on the appliance (kiln image delete)"
        ))),
        (Ok(()), Ok(())) => Ok(()),
    }
}

fn write(upload: Upload, file: &Path) -> io::Result<()> {
    let part = file.with_extension("part");
    let mut options = std::fs::OpenOptions::new();
    let open = options.write(true).create(true).truncate(true).mode(0o640).open(&part)?;
    let mut kept = Modest { file: open, place: file.parent().unwrap_or(Path::new(".")) };
    let done = io::copy(&mut upload.take(MOST + 1), &mut kept).and_then(|size| {
        if size > MOST {
            let text = format!("no bundle is larger than {} MiB: is this the right file?", MOST >> 20);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        kept.file.sync_all()?;
        std::fs::rename(&part, file)?;
        std::fs::File::open(file.parent().unwrap_or(Path::new(".")))?.sync_all()
    });
    if done.is_err() {
        // What stays is removed before the next one comes.
        drop(std::fs::remove_file(&part));
    }
    done
}
