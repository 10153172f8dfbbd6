//! Backups, as their operator has them: no passphrase and no secret key goes to the appliance.
//!
//! A backup for a recipient's key is kept as it comes. For a passphrase it comes for a key made here, and is encrypted
//! again. To be restored it is decrypted here, and encrypted to the key that the appliance gives.

use crate::Output;
use crate::client::Client;
use crate::show::{json, octets};
use age::secrecy::SecretString;
use age::{Decryptor, Encryptor, Identity, IdentityFile, Recipient, scrypt, x25519};
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::{Value, json as object};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// How much is copied at once.
const PIECE: usize = 256 << 10;

#[derive(Args)]
pub(crate) struct Backup {
    /// The file to make.
    file: PathBuf,
    /// Who can read it: an age public key, `age1…`.
    #[arg(long, conflicts_with = "passphrase_file")]
    recipient: Option<String>,
    /// The file whose first line is the passphrase that opens it.
    #[arg(long)]
    passphrase_file: Option<PathBuf>,
    /// Leaves out the images, but for what volumes stand on.
    #[arg(long)]
    without_images: bool,
}

#[derive(Args)]
pub(crate) struct Restore {
    /// The file that a backup made.
    file: PathBuf,
    /// The file with the secret key of its recipient.
    #[arg(long, conflicts_with = "passphrase_file")]
    identity_file: Option<PathBuf>,
    /// The file whose first line is its passphrase.
    #[arg(long)]
    passphrase_file: Option<PathBuf>,
    /// All that the appliance knows now is to go.
    #[arg(long)]
    replace: bool,
    /// The box's own configuration is to be the backup's too, from its next start on: for the same machine.
    #[arg(long)]
    with_configuration: bool,
}

pub(crate) fn backup(client: &Client, output: Output, wanted: &Backup) -> Result<()> {
    let Backup { file, recipient, passphrase_file, without_images } = wanted;
    ensure!(!file.exists(), "{} is there already: choose another name", file.display());
    let body = |recipient: &str| object!({ "recipient": recipient, "images": !without_images });
    let ask = |recipient: &str| client.stream("/v1/appliance/backup", &body(recipient));
    let aside = Aside::new(file)?;
    let bar = progress(output, None);
    let size = match (recipient, passphrase_file) {
        (Some(recipient), _) => {
            let _: x25519::Recipient =
                recipient.parse().map_err(|why| anyhow!("{recipient} is no age public key: {why}"))?;
            copy(bar.wrap_read(ask(recipient)?), &mut &aside.file)?
        }
        (None, Some(passphrase)) => {
            let passphrase = scrypt::Recipient::new(read_passphrase(passphrase)?);
            let key = x25519::Identity::generate();
            let coming = bar.wrap_read(ask(&key.to_public().to_string())?);
            let mut opened = open(coming, &key).context("the appliance's backup cannot be read")?;
            let mut sealed = seal(&aside.file, &passphrase)?;
            let size = copy(&mut opened, &mut sealed)?;
            sealed.finish().and_then(|mut file| file.flush()).context("cannot write the backup")?;
            size
        }
        (None, None) => bail!(
            "say who can read the backup: --recipient age1… (age-keygen makes one), or --passphrase-file FILE"
        ),
    };
    bar.finish_and_clear();
    aside.keep(file)?;
    if output == Output::Json {
        return json(&object!({ "file": file, "octets": size }));
    }
    println!("{}: {}, whole and encrypted", file.display(), octets(size));
    Ok(())
}

#[derive(Deserialize)]
struct Door {
    recipient: String,
    empty: bool,
}

#[derive(Deserialize, serde::Serialize)]
struct Unpacked {
    release: String,
    images: bool,
    configuration: bool,
    token: bool,
    damaged: Vec<String>,
    #[serde(flatten)]
    rest: Value,
}

pub(crate) fn restore(client: &Client, output: Output, wanted: &Restore) -> Result<()> {
    let Restore { file, identity_file, passphrase_file, replace, with_configuration } = wanted;
    let keys: Vec<Box<dyn Identity>> = match (identity_file, passphrase_file) {
        (Some(path), _) => {
            let text = path.display().to_string();
            let keys = IdentityFile::from_file(text)
                .and_then(|file| file.into_identities().map_err(|e| io::Error::other(e.to_string())));
            let keys = keys.with_context(|| format!("cannot read the secret key {}", path.display()))?;
            keys.into_iter().map(|key| key as Box<dyn Identity>).collect()
        }
        (None, Some(path)) => vec![Box::new(scrypt::Identity::new(read_passphrase(path)?))],
        (None, None) => {
            bail!("say how the backup is opened: --identity-file FILE, or --passphrase-file FILE")
        }
    };
    let door: Door = client.get("/v1/appliance/restore")?;
    ensure!(
        door.empty || *replace,
        "the appliance knows nodes, networks, switches, images or volumes: --replace says that they are to go"
    );
    let to: x25519::Recipient =
        door.recipient.parse().map_err(|why| anyhow!("the appliance gives no key to encrypt to: {why}"))?;
    let source = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let bar = progress(output, source.metadata().ok().map(|meta| meta.len()));
    let opened = Decryptor::new_buffered(io::BufReader::new(bar.wrap_read(source)))
        .and_then(|opened| opened.decrypt(keys.iter().map(|key| &**key)));
    let mut opened = opened.map_err(|e| not_opened(file, &e))?;

    let (from, pipe) = io::pipe().context("cannot make a pipe")?;
    let path = format!("/v1/appliance/restore?replace={replace}&configuration={with_configuration}");
    let (sealed, answer) = std::thread::scope(|scope| {
        let work = scope.spawn(move || -> Result<()> {
            let mut sealed = seal(pipe, &to)?;
            copy(&mut opened, &mut sealed)?;
            sealed.finish().context("cannot send the backup").map(drop)
        });
        let answer = client.upload::<Unpacked>(&path, from);
        (work.join(), answer)
    });
    bar.finish_and_clear();
    let sealed = sealed.map_err(|_| anyhow!("encrypting broke off: try again"))?;
    // What is wrong with the file says more than that the appliance was sent half of it.
    match sealed {
        Err(e) if e.downcast_ref::<Unreadable>().is_some() => {
            return Err(e).with_context(|| {
                format!("{} is damaged or cut off, and nothing is changed", file.display())
            });
        }
        _ => {}
    }
    let unpacked = answer?;
    if output == Output::Json {
        return json(&unpacked);
    }
    println!("the backup of release {} is unpacked; all services start anew with it", unpacked.release);
    println!(
        "{}",
        match unpacked.token {
            true => "the API's token is the backup's from now on",
            false => "the API's token stays what the box's configuration says",
        }
    );
    if !unpacked.images {
        println!("images were not in it: import again those that are missing");
    }
    if unpacked.configuration {
        println!(
            "the box's configuration is the backup's from its next start on, but for who may log in by SSH"
        );
    }
    for what in &unpacked.damaged {
        println!("damaged already when the backup was made: {what}");
    }
    Ok(())
}

fn not_opened(file: &Path, error: &age::DecryptError) -> anyhow::Error {
    let file = file.display();
    match error {
        age::DecryptError::NoMatchingKeys => anyhow!("{file} is encrypted to another key"),
        age::DecryptError::DecryptionFailed | age::DecryptError::KeyDecryptionFailed => {
            anyhow!("the passphrase or the key is not the one of {file}, or its beginning is damaged")
        }
        e => anyhow!("{file} is no backup, or its beginning is damaged: {e}"),
    }
}

/// A file that has another name until it is whole.
struct Aside {
    path: PathBuf,
    file: File,
}

impl Aside {
    fn new(file: &Path) -> Result<Aside> {
        let path = file.with_added_extension("part");
        let open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let file = open.with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Aside { path, file })
    }

    fn keep(self, as_file: &Path) -> Result<()> {
        self.file
            .sync_all()
            .and_then(|()| fs::rename(&self.path, as_file))
            .with_context(|| format!("cannot write {}", as_file.display()))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // It has its other name, or is of no use.
        let _ = fs::remove_file(&self.path);
    }
}

/// What is read cannot be read on.
#[derive(Debug)]
struct Unreadable(io::Error);

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.kind() {
            io::ErrorKind::UnexpectedEof => f.write_str("it ends too early"),
            _ => self.0.fmt(f),
        }
    }
}

impl std::error::Error for Unreadable {}

fn copy(mut from: impl Read, to: &mut impl Write) -> Result<u64> {
    let mut piece = vec![0; PIECE];
    let mut size = 0;
    loop {
        let read = match from.read(&mut piece) {
            Ok(0) => return Ok(size),
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Unreadable(e).into()),
        };
        to.write_all(&piece[..read]).context("cannot write the backup")?;
        size += read as u64;
    }
}

fn open<R: Read>(from: R, key: &dyn Identity) -> Result<impl Read + use<R>> {
    Ok(Decryptor::new(from)?.decrypt([key].into_iter())?)
}

fn seal<W: Write>(to: W, recipient: &dyn Recipient) -> Result<age::stream::StreamWriter<W>> {
    Ok(Encryptor::with_recipients([recipient].into_iter())?.wrap_output(to)?)
}

fn read_passphrase(path: &Path) -> Result<SecretString> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read the passphrase {}", path.display()))?;
    let line = text.lines().next().unwrap_or_default();
    ensure!(!line.is_empty(), "{} has no passphrase on its first line", path.display());
    Ok(line.to_owned().into())
}

fn progress(output: Output, size: Option<u64>) -> ProgressBar {
    let (bar, style) = match (output, size) {
        (Output::Json, _) => return ProgressBar::hidden(),
        (_, Some(size)) => (ProgressBar::new(size), "[{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}"),
        (_, None) => (ProgressBar::new_spinner(), "{spinner} {bytes} {bytes_per_sec}"),
    };
    bar.set_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
