//! Puts what was restored in its place, before any service runs.
//!
//! Control has laid it into `restore/ready`, whole and checked; that name is the switch. From then on every start
//! moves on what is not in its place yet, and the directory goes when all of it is. So a power cut at any moment
//! leaves the old state, or one that the next start makes the new one before anybody reads it.
//!
//! Control is not trusted: what is not a plain file or directory of its own making stops everything.

use crate::config::Config;
use anyhow::{Context as _, Result, bail};
use nix::unistd::{Gid, Uid};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, lchown};
use std::path::Path;

/// What is replaced, one by one; who stands in for one that a backup lacks is its earlier self.
const PARTS: [&str; 6] = ["store", "volumes", "drives", "images", "token", "kiln.toml"];

/// `volumes`: whom the volumes belong to.
pub(crate) fn place(config: &Config, volumes: Option<(u32, u32)>) -> Result<()> {
    let (data, restore) = (&config.appliance.data, config.restore());
    let (ready, replaced) = (restore.join("ready"), restore.join("replaced"));
    if !is_plain_directory(&restore)? {
        return remove(&replaced);
    }
    // Of one that was broken off: nobody unpacks now.
    remove(&restore.join("incoming"))?;
    if !is_plain_directory(&ready)? {
        return remove(&replaced);
    }
    log::warn!("puts the restored state in place");
    is_plain_directory(&replaced)?;
    fs::create_dir_all(&replaced).with_context(|| format!("cannot make {}", replaced.display()))?;
    for part in PARTS {
        let from = ready.join(part);
        match part {
            // Root takes it for its own.
            "kiln.toml" if from.is_file() => settle_configuration(&from, &data.join(part))?,
            _ => {}
        }
        match part {
            "volumes" => check(&from, volumes)?,
            "kiln.toml" => check(&from, volumes.map(|_| (0, 0)))?,
            _ => check(&from, None)?,
        }
    }
    let added = ready.join("more-images");
    check(&added, None)?;
    add_images(&added, &config.images())?;
    for part in PARTS {
        let (from, to) = (ready.join(part), data.join(part));
        if fs::symlink_metadata(&from).is_err() {
            continue;
        }
        if fs::symlink_metadata(&to).is_ok() {
            let old = replaced.join(part);
            remove(&old)?;
            rename(&to, &old)?;
        }
        rename(&from, &to)?;
        sync(data)?;
    }
    // What the services were told before is of another state, and numbered higher.
    for entry in fs::read_dir(&config.appliance.run).into_iter().flatten().flatten() {
        for file in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
            if file.path().extension().is_some_and(|extension| extension == "plan") {
                remove(&file.path())?;
            }
        }
    }
    remove(&ready)?;
    sync(&restore)?;
    log::warn!("the restored state is in place");
    remove(&replaced)
}

/// Of the configuration of a backup all is taken but who may log in: whoever may restore is not thereby root. One that
/// is not in order is not taken.
fn settle_configuration(new: &Path, own: &Path) -> Result<()> {
    let read = |path: &Path| fs::read_to_string(path).ok()?.parse::<toml::Table>().ok();
    check(new, None)?;
    let settled = read(new).map(|mut table| {
        let shell = read(own).and_then(|mut own| own.remove("ssh"));
        table.remove("ssh");
        table.extend(shell.map(|shell| ("ssh".to_owned(), shell)));
        table
    });
    let text = settled.map(|table| toml::to_string(&table).context("a configuration that cannot be written"));
    match text.transpose()? {
        Some(text) if host::config::Config::parse(&text).is_ok() => {
            remove(new)?;
            let mut options = File::options();
            let file = options.write(true).create_new(true).mode(0o600).open(new);
            file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
                .with_context(|| format!("cannot write {}", new.display()))
        }
        _ => {
            log::warn!("the backup's configuration of the box is not in order and is not taken");
            remove(new)
        }
    }
}

/// Whether it is there; an error when it is something else.
fn is_plain_directory(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(true),
        Ok(_) => bail!("{} is no directory: remove it", path.display()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e).with_context(|| format!("cannot look at {}", path.display())),
    }
}

/// Sees to it that there are only files and directories with one name each, and to whom they belong.
fn check(path: &Path, owner: Option<(u32, u32)>) -> Result<()> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).with_context(|| format!("cannot look at {}", path.display())),
    };
    let is_fit = meta.is_dir() || meta.is_file() && meta.nlink() == 1;
    if !is_fit || meta.permissions().mode() & 0o7000 != 0 {
        bail!("{} is no plain file or directory: remove {0}, and restore again", path.display());
    }
    if let Some((user, group)) = owner {
        lchown(path, Some(Uid::from_raw(user).as_raw()), Some(Gid::from_raw(group).as_raw()))
            .with_context(|| format!("cannot set the owner of {}", path.display()))?;
    }
    if meta.is_dir() {
        for entry in fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))? {
            check(&entry.with_context(|| format!("cannot list {}", path.display()))?.path(), owner)?;
        }
    }
    Ok(())
}

/// What volumes stand on, of a backup without images: it comes to the images that are there. Each is named by what
/// is in it.
fn add_images(from: &Path, images: &Path) -> Result<()> {
    for shelf in fs::read_dir(from.join("extents")).into_iter().flatten().flatten() {
        let to = images.join("extents").join(shelf.file_name());
        fs::create_dir_all(&to).with_context(|| format!("cannot make {}", to.display()))?;
        let owner = fs::metadata(shelf.path())?;
        for path in [images.join("extents"), to.clone()] {
            lchown(&path, Some(owner.uid()), Some(owner.gid()))?;
        }
        for extent in fs::read_dir(shelf.path())?.flatten() {
            rename(&extent.path(), &to.join(extent.file_name()))?;
        }
        sync(&to)?;
    }
    Ok(())
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("cannot move {} to {}", from.display(), to.display()))
}

fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    removed.with_context(|| format!("cannot remove {}", path.display()))
}

fn sync(path: &Path) -> Result<()> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.with_context(|| format!("cannot sync {}", path.display()))
}

#[cfg(test)]
mod tests;
