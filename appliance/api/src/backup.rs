//! Backup and restore of the whole appliance.
//!
//! The appliance encrypts before anything leaves it, to a public key that the request names, and is given a backup
//! encrypted to a key that it made for that alone. So it never sees a passphrase or a secret key of its operator,
//! and the plain HTTP between them carries neither. The format is age's (age-encryption.org/v1).
//!
//! Rejected: *a `PUT` of the stream to a URL that the operator names*. The appliance would need that place's
//! credentials, and TLS; an upstream controller pulls instead.

mod archive;
mod pack;
mod unpack;

use crate::Api;
use crate::answer::Failed;
use crate::upload;
use age::x25519;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use boot::VolumeId;
use control::{Control, Intent};
use core::time::Duration;
use http_body_util::BodyExt as _;
use http_body_util::channel::Channel;
use rack::VolumeSpec;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use store::{CommitNumber, EventNumber, Store};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

/// Pieces that wait to be sent.
const AHEAD: usize = 16;
/// How long the iscsi service has to take its snapshots.
const SNAPSHOTS: Duration = Duration::from_secs(60);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(100);

/// What backup and restore need to know.
#[derive(Clone)]
pub struct Places {
    /// The API's token.
    pub token: PathBuf,
    /// The box's configuration; it need not be there.
    pub configuration: PathBuf,
    /// Where what is to be restored waits, for whoever starts the services.
    pub restore: PathBuf,
    /// Has all services prepared and started anew.
    pub anew: fn(),
    shared: Arc<Shared>,
}

struct Shared {
    /// What a backup that is to be restored is encrypted to; it ends with this process.
    key: x25519::Identity,
    is_packing: AtomicBool,
    is_unpacking: AtomicBool,
}

impl Places {
    /// These places, and a new key.
    pub fn new(token: PathBuf, configuration: PathBuf, restore: PathBuf, anew: fn()) -> Places {
        let (is_packing, is_unpacking) = (AtomicBool::new(false), AtomicBool::new(false));
        let shared = Arc::new(Shared { key: x25519::Identity::generate(), is_packing, is_unpacking });
        Places { token, configuration, restore, anew, shared }
    }
}

/// Whether a volume is a snapshot of a backup's. At the start of a process none is of use any more.
fn is_of_backup(volume: &VolumeId) -> bool {
    let rest = volume.as_str().strip_prefix(SNAPSHOT);
    rest.is_some_and(|rest| rest.len() > 16 && rest.as_bytes()[16] == b'-')
}

const SNAPSHOT: &str = "kiln-backup-";

/// Held by the one who does it; given back when dropped.
struct Turn(Arc<Shared>, fn(&Shared) -> &AtomicBool);

impl Turn {
    fn take(shared: &Arc<Shared>, which: fn(&Shared) -> &AtomicBool, what: &str) -> Result<Turn, Failed> {
        if which(shared).swap(true, Ordering::AcqRel) {
            return Err(Failed::conflict(format!("a {what} is under way: wait until it is done")));
        }
        Ok(Turn(shared.clone(), which))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.1(&self.0).store(false, Ordering::Release);
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// An age public key: who can read it.
    recipient: String,
    /// Whether the images are in it.
    #[serde(default = "yes")]
    images: bool,
}

fn yes() -> bool {
    true
}

pub(crate) async fn backup(State(api): State<Arc<Api>>, body: Bytes) -> Result<Response, Failed> {
    let wanted: Wanted = serde_json::from_slice(&body)
        .map_err(|e| Failed::invalid(format!("not what a backup is asked for with: {e}")))?;
    let recipient: x25519::Recipient = wanted
        .recipient
        .parse()
        .map_err(|why| Failed::invalid(format!("{:?} is no age recipient: {why}", wanted.recipient)))?;
    let shared = &api.backup.shared;
    let turn = Turn::take(shared, |shared| &shared.is_packing, "backup")?;
    let (snapshots, store, made) = Snapshots::take(&api).await?;
    let snapshots = snapshots.made().await?;
    let manifest =
        archive::Manifest { release: env!("CARGO_PKG_VERSION").to_owned(), made, images: wanted.images };
    let (pieces, mut packed) = mpsc::channel::<Bytes>(AHEAD);
    let from = pack::From { api: api.clone(), store, volumes: snapshots.pairs.clone() };
    let work = tokio::task::spawn_blocking(move || {
        let to = Pieces { to: pieces, piece: Vec::with_capacity(PIECE) };
        let recipients = [&recipient as &dyn age::Recipient];
        let to = age::Encryptor::with_recipients(recipients.into_iter())
            .map_err(io::Error::other)?
            .wrap_output(to)?;
        from.pack(to, &manifest)?.finish()?.flush()
    });
    let (mut out, body) = Channel::<Bytes, io::Error>::new(AHEAD);
    tokio::spawn(async move {
        // Both end with the stream, whoever ends it.
        let (_turn, _snapshots) = (turn, snapshots);
        while let Some(piece) = packed.recv().await {
            if out.send_data(piece).await.is_err() {
                // Nobody reads any more.
                break;
            }
        }
        drop(packed);
        match work.await.map_err(io::Error::other).flatten() {
            Ok(()) => log::info!("backup made"),
            Err(e) => {
                log::error!(error:% = e; "backup broke off");
                // The body has no end then, and who reads it knows that it is not whole.
                out.abort(e);
            }
        }
    });
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], Body::new(body)).into_response())
}

/// The size of what is sent at once.
const PIECE: usize = 256 << 10;

/// Hands what is written to a task, in larger pieces.
struct Pieces {
    to: mpsc::Sender<Bytes>,
    piece: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(octets);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = core::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody reads the backup any more");
        self.to.blocking_send(piece.into()).map_err(gone)
    }
}

/// Snapshots of all volumes; dropped, they are removed.
struct Snapshots {
    api: Arc<Api>,
    /// Each volume with its snapshot.
    pairs: Vec<(VolumeId, VolumeId)>,
}

impl Snapshots {
    /// Also everything that control knows, and when: from before the snapshots, so that it names no volume as made that
    /// has none.
    async fn take(api: &Arc<Api>) -> Result<(Snapshots, Vec<u8>, u64), Failed> {
        let asked = api.link.ask(|control, now| {
            let store = control.export(&|table, key| {
                table == store::Table::Volume && key.parse().is_ok_and(|id| is_of_backup(&id))
            });
            let store = match store {
                Ok(store) => store,
                Err(e) => {
                    return (Vec::new(), Err(Failed::storage(format!("the store cannot be read: {e}"))));
                }
            };
            let mut word = [0; 8];
            word.copy_from_slice(&blake3::hash(&now.micros().to_le_bytes()).as_bytes()[..8]);
            let word = format!("{:016x}", u64::from_le_bytes(word));
            let made = control.made_volumes().into_iter().filter(|volume| !is_of_backup(volume));
            let mut pairs = Vec::new();
            for (index, volume) in made.enumerate() {
                let name: VolumeId = format!("{SNAPSHOT}{word}-{index}").parse().expect("these are letters");
                let spec =
                    VolumeSpec { name: name.clone(), size: None, image: None, volume: Some(volume.clone()) };
                pairs.push((volume, name));
                if let Err(refusal) = control.handle_intent(Intent::PutVolume(spec), now) {
                    return (pairs, Err(refusal.into()));
                }
            }
            (pairs, Ok((store, now.micros())))
        });
        let (pairs, done) = asked.await?;
        let snapshots = Snapshots { api: api.clone(), pairs };
        let (store, made) = done?;
        Ok((snapshots, store, made))
    }

    /// Waits until they are there.
    async fn made(self) -> Result<Snapshots, Failed> {
        let deadline = Instant::now() + SNAPSHOTS;
        let mut newest = self.api.link.newest_event();
        loop {
            let names: Vec<_> = self.pairs.iter().map(|(_, snapshot)| snapshot.clone()).collect();
            let views = self.api.link.ask(move |control, _| {
                names
                    .iter()
                    .map(|name| control.volume_view(name).and_then(|view| view.state))
                    .collect::<Vec<_>>()
            });
            let mut waits = None;
            for ((volume, _), state) in self.pairs.iter().zip(views.await?) {
                match state {
                    Some(boot::VolumeState::Ready { .. }) => {}
                    Some(boot::VolumeState::Failed { why }) => {
                        return Err(Failed::conflict(format!(
                            "volume {volume} cannot be copied as it is now: {why}; if it stands on too many layers, \
                             kiln volume flatten {volume} mends it"
                        )));
                    }
                    _ => waits = Some(volume),
                }
            }
            let Some(volume) = waits else { return Ok(self) };
            if Instant::now() >= deadline {
                return Err(Failed::conflict(format!(
                    "the iscsi service takes no snapshot of volume {volume}: kiln status says how it is"
                )));
            }
            timeout(LOOK, newest.changed()).await.ok();
        }
    }
}

impl Drop for Snapshots {
    fn drop(&mut self) {
        let (api, pairs) = (self.api.clone(), core::mem::take(&mut self.pairs));
        tokio::spawn(async move {
            let asked = api.link.ask(move |control, now| {
                for (_, snapshot) in pairs {
                    forget(control, &snapshot, now);
                }
            });
            if let Err(e) = asked.await {
                log::warn!(error:% = e; "snapshots of a backup stay until the next start");
            }
        });
    }
}

fn forget(control: &mut Control<Box<dyn Store>>, snapshot: &VolumeId, now: sansio::Time) {
    if let Err(refusal) = control.handle_intent(Intent::DeleteVolume(snapshot.clone()), now) {
        log::debug!(volume:% = snapshot, why = refusal.text.as_str(); "snapshot of a backup not removed");
    }
}

/// Removes the snapshots of backups that broke off with an earlier process.
pub fn sweep(control: &mut Control<Box<dyn Store>>, now: sansio::Time) {
    for volume in control.volume_views().iter().filter(|volume| is_of_backup(&volume.name)) {
        forget(control, &volume.name, now);
    }
}

/// What whoever restores must know first.
#[derive(Serialize)]
pub(crate) struct Door {
    /// The key to encrypt the backup to.
    recipient: String,
    /// Whether nothing would be replaced.
    empty: bool,
}

pub(crate) async fn door(State(api): State<Arc<Api>>) -> Result<Json<Door>, Failed> {
    let empty = api.link.ask(|control, _| control.is_empty()).await?;
    Ok(Json(Door { recipient: api.backup.shared.key.to_public().to_string(), empty }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Terms {
    /// Whether what the appliance knows may be replaced.
    #[serde(default)]
    replace: bool,
    /// Whether the box's own configuration is replaced too.
    #[serde(default)]
    configuration: bool,
}

/// What is put in place when the services start anew, which is now.
#[derive(Serialize)]
struct Unpacked {
    release: String,
    made: u64,
    images: bool,
    /// Whether the box's configuration was in it and is replaced.
    configuration: bool,
    /// Whether the API's token is the backup's; else the box's own configuration says what it is.
    token: bool,
    /// What was damaged already when the backup was made.
    damaged: Vec<String>,
}

pub(crate) async fn restore(
    State(api): State<Arc<Api>>,
    Query(terms): Query<Terms>,
    mut upload: Body,
) -> Result<Response, Failed> {
    let refused = match admit(&api, &terms).await {
        Ok((turn, past)) => return take(api, terms, upload, turn, past).await,
        Err(refused) => refused,
    };
    // Read away, or the client would never come to read our answer.
    while let Some(Ok(_)) = upload.frame().await {}
    Err(refused)
}

/// Whether a backup is taken now: the turn, and the numbers to go on from.
async fn admit(api: &Api, terms: &Terms) -> Result<(Turn, (CommitNumber, EventNumber)), Failed> {
    let turn = Turn::take(&api.backup.shared, |shared| &shared.is_unpacking, "restore")?;
    let asked = api.link.ask(|control, _| (control.is_empty(), control.newest()));
    let (is_empty, past) = asked.await?;
    if !is_empty && !terms.replace {
        return Err(Failed::conflict(
            "the appliance knows nodes, networks, switches, images or volumes: --replace says that they are to go",
        ));
    }
    Ok((turn, past))
}

async fn take(
    api: Arc<Api>,
    terms: Terms,
    body: Body,
    turn: Turn,
    past: (CommitNumber, EventNumber),
) -> Result<Response, Failed> {
    let (answer, answered) = oneshot::channel();
    // A task of its own: a client that closes takes the answering with it, and what is armed and not followed by a start
    // would be put in place by any later one, over what was done since.
    tokio::spawn(async move {
        let unpacked = match receive(&api, terms, body, turn, past).await {
            Ok(unpacked) => unpacked,
            Err(e) => {
                // One who is gone is told nothing.
                drop(answer.send(Err(e)));
                return;
            }
        };
        log::warn!("backup unpacked, all services start anew with it");
        let text = serde_json::to_vec(&unpacked).expect("these are strings and numbers");
        let (mut out, body) = Channel::<Bytes, io::Error>::new(1);
        if answer.send(Ok(Body::new(body))).is_ok() {
            out.send_data(text.into()).await.ok();
        }
        drop(out);
        (api.backup.anew)();
    });
    let body = answered.await.map_err(|_| Failed::storage("unpacking broke off: try again"))??;
    Ok((StatusCode::ACCEPTED, [(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// Receives and unpacks a backup, and arms it when all of it came.
async fn receive(
    api: &Api,
    terms: Terms,
    body: Body,
    turn: Turn,
    past: (CommitNumber, EventNumber),
) -> Result<Unpacked, Failed> {
    let (pieces, received) = upload::channel();
    let (key, places) = (api.backup.shared.key.clone(), api.backup.clone());
    let work = tokio::task::spawn_blocking(move || {
        unpack::unpack(received, &key, &places, terms.configuration, past)
    });
    let sent = upload::feed(body, pieces).await;
    let broke_off = |_| Failed::storage("unpacking broke off: try again");
    let (incoming, unpacked) = match (work.await.map_err(broke_off)?, sent) {
        (Ok(done), Ok(())) => done,
        (Ok(_), Err(e)) => return Err(Failed::invalid(format!("the upload was cut off: {e}"))),
        (Err(e), _) => return Err(e),
    };
    tokio::task::spawn_blocking(move || incoming.arm()).await.map_err(broke_off)??;
    // Nothing of another restore may begin before.
    drop(turn);
    Ok(unpacked)
}
