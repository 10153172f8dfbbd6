//! A backup on its way back: unpacked beside what is there, checked, and only then named so that the next start of the
//! services takes it.

use super::archive::{self, Refused, Sink};
use super::{Places, Unpacked};
use crate::answer::Failed;
use age::x25519;
use bootd::library::Library;
use bootd::volumes::Volumes;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use store::{CommitNumber, EventNumber, Options, Sled};

/// The largest store; it is in memory for a moment.
const STORE: u64 = 512 << 20;

/// A backup that is unpacked; it goes when this is dropped, unless it was armed.
pub(super) struct Incoming(PathBuf);

impl Incoming {
    /// Names it so that the next start of the services takes it, which must follow.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn arm(self) -> Result<(), Failed> {
        let place = self.0.parent().unwrap_or(Path::new("."));
        let ready = place.join("ready");
        let disk =
            |e: io::Error| Failed::storage(format!("the backup cannot be put in {}: {e}", ready.display()));
        match fs::remove_dir_all(&ready) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(disk(e)),
            _ => {}
        }
        fs::rename(&self.0, &ready).and_then(|()| File::open(place)?.sync_all()).map_err(disk)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.0)
            && e.kind() != io::ErrorKind::NotFound
        {
            log::warn!(path:% = self.0.display(), error:% = e; "remains of a restore not removed");
        }
    }
}

impl Sink for Incoming {
    fn create(&mut self, path: &str, size: u64) -> io::Result<File> {
        let path = self.0.join(path);
        if let Some(above) = path.parent() {
            fs::create_dir_all(above)?;
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(path)?;
        file.set_len(size)?;
        Ok(file)
    }
}

/// Unpacks a backup beside what is there.
///
/// # Errors
/// Whatever is wrong with it, or with the disk; nothing is left of it then.
pub(super) fn unpack(
    from: impl Read,
    key: &x25519::Identity,
    places: &Places,
    with_configuration: bool,
    past: (CommitNumber, EventNumber),
) -> Result<(Incoming, Unpacked), Failed> {
    let place = &places.restore;
    let disk = |e: io::Error| match e.kind() {
        io::ErrorKind::StorageFull => Failed::storage(
            "the disk is too full to unpack the backup beside what is there, and nothing is changed: remove images or volumes",
        ),
        _ => Failed::storage(format!("the backup cannot be unpacked in {}: {e}", place.display())),
    };
    let mut incoming = Incoming(place.join("incoming"));
    match fs::remove_dir_all(&incoming.0) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(disk(e)),
        _ => {}
    }
    for part in ["drives", "images/extents", "images/images", "images/incoming", "volumes"] {
        fs::create_dir_all(incoming.0.join(part)).map_err(disk)?;
    }

    let refused = |e: age::DecryptError| match e {
        age::DecryptError::NoMatchingKeys => Failed::conflict(
            "the backup is encrypted to another key than this appliance's of now: it was started anew, try again",
        ),
        age::DecryptError::Io(e) => Failed::invalid(Refused::Read(e).to_string()),
        e => Failed::invalid(format!("this is no backup in age's format: {e}")),
    };
    let opened = age::Decryptor::new(from).map_err(refused)?;
    let opened = opened.decrypt([key as &dyn age::Identity].into_iter()).map_err(refused)?;
    let manifest =
        archive::read(BufReader::with_capacity(256 << 10, opened), &mut incoming).map_err(|e| match e {
            Refused::Write(e) => disk(e),
            e => Failed::invalid(e.to_string()),
        })?;

    let path = |part: &str| incoming.0.join(part);
    plant(&path("store"), past, disk)?;
    if !path("token").is_file() {
        return Err(Failed::invalid("this is no backup that can be restored: it has no token"));
    }
    let damaged = scrub(&path("images"), &path("volumes"))?;
    let mut configuration = path("kiln.toml").is_file();
    if configuration && !with_configuration {
        fs::remove_file(path("kiln.toml")).map_err(disk)?;
        configuration = false;
    }
    // What the box's configuration says of the token is put over the kept one at every start.
    let token = configuration || !names_token(&places.configuration);
    if !token {
        fs::remove_file(path("token")).map_err(disk)?;
    }
    if !manifest.images {
        fs::rename(path("images"), path("more-images")).map_err(disk)?;
    }
    let on_disk = |path: &Path| File::open(path).and_then(|file| Ok(nix::unistd::syncfs(file)?));
    on_disk(&incoming.0).map_err(disk)?;
    let archive::Manifest { release, made, images } = manifest;
    Ok((incoming, Unpacked { release, made, images, configuration, token, damaged }))
}

/// Whether a box's configuration says what the API's token is.
fn names_token(configuration: &Path) -> bool {
    let text = fs::read_to_string(configuration).unwrap_or_default();
    let table = text.parse::<toml::Table>().unwrap_or_default();
    table.get("api").and_then(|api| api.get("token")).is_some()
}

/// Makes a store of the exported one, in its place.
fn plant(
    path: &Path,
    past: (CommitNumber, EventNumber),
    disk: impl Fn(io::Error) -> Failed,
) -> Result<(), Failed> {
    let missing = || Failed::invalid("this is no backup that can be restored: it has no store");
    let meta = fs::symlink_metadata(path).ok().filter(|meta| meta.is_file()).ok_or_else(missing)?;
    if meta.len() > STORE {
        return Err(Failed::invalid("this is no backup that can be restored: its store is too large"));
    }
    let exported = fs::read(path).map_err(&disk)?;
    fs::remove_file(path).map_err(&disk)?;
    let planted = Sled::plant(path, &exported, past, Options::default());
    let planted = planted.map_err(|e| match e {
        store::StoreError::NoSpace { .. } => disk(io::ErrorKind::StorageFull.into()),
        store::StoreError::NewerFormat { .. } => Failed::invalid(format!(
            "the backup is of a newer release than this: update the appliance first ({e})"
        )),
        e => Failed::invalid(format!("this is no backup that can be restored: {e}")),
    })?;
    // The copy it was made of is no way back to anything.
    planted.kept().forget().map_err(|e| Failed::storage(e.to_string()))?;
    Ok(())
}

/// What was damaged when the backup was made.
fn scrub(images: &Path, volumes: &Path) -> Result<Vec<String>, Failed> {
    let library = Library::new(images).with_volumes(volumes);
    let failed =
        |e: &dyn std::fmt::Display| Failed::invalid(format!("this is no backup that can be restored: {e}"));
    let hurt = library.scrub(&mut |_| {}).map_err(|e| failed(&e))?;
    let mut damaged: Vec<_> = hurt.iter().map(|hurt| format!("image {}", hurt.image)).collect();
    let hurt = Volumes::new(volumes, library).scrub(&mut |_| {}).map_err(|e| failed(&e))?;
    damaged.extend(hurt.into_iter().map(|hurt| hurt.what));
    Ok(damaged)
}
