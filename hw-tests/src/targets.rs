//! iSCSI targets, ours and other people's, each alone with one disk: what conformance, initiators and speed
//! are tried on side by side.
//!
//! A target lives in the network namespace of the thread that starts it, and ends with that thread or with
//! its [`Target`], whichever comes first.

mod ours;
mod peers;

use crate::artifact::command::{run, tool};
use crate::rack::until;
use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid, chown};
use std::fs::{self, File};
use std::net::SocketAddrV4;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// Who logs in: the name that every initiator here goes by.
pub const INITIATOR: &str = "iqn.2026-01.test.kiln:initiator";
/// All targets' name but istgt's, which has to begin with the base of its node.
pub const TARGET: &str = "iqn.2026-01.test.kiln:disk";
/// Starting, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(60);
/// Whom our target runs as.
const NOBODY: u32 = 65534;

/// Whose target it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Make {
    /// `bootd iscsi`.
    Ours,
    /// Debian's tgt with the parameters it is shipped with.
    Tgt,
    /// Debian's tgt with the segments and bursts of ours.
    TgtTuned,
    /// Debian's istgt with the segments and bursts of ours, but for InitialR2T, where it knows only Yes.
    Istgt,
}

impl Make {
    /// As tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Make::Ours => "ours",
            Make::Tgt => "tgt",
            Make::TgtTuned => "tgt tuned",
            Make::Istgt => "istgt",
        }
    }

    /// The number of its disk.
    pub fn lun(self) -> u16 {
        // tgt keeps 0 for a controller of its own, istgt begins at 0.
        if self == Make::Istgt { 0 } else { 1 }
    }
}

/// Names and secrets of both ends (RFC 7143, 12.1.3).
#[derive(Clone, Debug)]
pub struct Chap {
    /// The initiator's name.
    pub user: String,
    /// The initiator's secret.
    pub secret: String,
    /// The target's name and secret, if it has to prove itself too.
    pub target: Option<(String, String)>,
}

impl Chap {
    /// Only the initiator proves itself.
    pub fn one_way() -> Chap {
        Chap { user: "node1".to_owned(), secret: "initiator-secret".to_owned(), target: None }
    }

    /// Both ends prove themselves.
    pub fn mutual() -> Chap {
        let target = Some(("disk1".to_owned(), "target-s-own-secret".to_owned()));
        Chap { target, ..Chap::one_way() }
    }
}

/// A disk that is to be offered, to [`INITIATOR`] alone where the target can do that.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Where the target keeps its files; emptied when the first start is made.
    pub directory: PathBuf,
    /// Where it listens.
    pub listen: SocketAddrV4,
    /// Octets of the disk, blank and sparse.
    pub size: u64,
    /// Who proves what. Ours offers nothing without: it takes [`Chap::one_way`] for `None`.
    pub chap: Option<Chap>,
    /// Whether writes are refused.
    pub read_only: bool,
    /// Whether digests are used with who asks for them; ours always does that.
    pub digests: bool,
    /// The processor it stays on.
    pub processor: Option<usize>,
}

impl Offer {
    /// A writable disk of so many octets.
    pub fn new(directory: &Path, listen: SocketAddrV4, size: u64) -> Offer {
        let directory = directory.to_owned();
        Offer { directory, listen, size, chap: None, read_only: false, digests: false, processor: None }
    }

    /// Starts a target with this disk, and waits until somebody can log in.
    ///
    /// # Errors
    /// It is not installed or not built, it ends, or nobody can log in within a minute.
    pub fn start(mut self, make: Make) -> Result<Target> {
        if make == Make::Ours {
            self.chap.get_or_insert_with(Chap::one_way);
        }
        let _ = fs::remove_dir_all(&self.directory);
        fs::create_dir_all(&self.directory)
            .with_context(|| format!("cannot make {}", self.directory.display()))?;
        fs::set_permissions(&self.directory, fs::Permissions::from_mode(0o755))?;
        if make == Make::Ours {
            chown(&self.directory, Some(Uid::from_raw(NOBODY)), Some(Gid::from_raw(NOBODY)))?;
        } else {
            File::create(self.backing())?.set_len(self.size)?;
        }
        let mut target = Target { make, offer: self, child: None };
        target.start()?;
        Ok(target)
    }

    /// The file behind other people's disks.
    fn backing(&self) -> PathBuf {
        self.directory.join("disk.raw")
    }
}

/// A target that runs; it is ended when this is dropped.
#[derive(Debug)]
pub struct Target {
    make: Make,
    offer: Offer,
    child: Option<Child>,
}

impl Target {
    /// Whose it is.
    pub fn make(&self) -> Make {
        self.make
    }

    /// Its process, for what it costs.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    /// What it offers.
    pub fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Its iSCSI name.
    pub fn name(&self) -> String {
        if self.make == Make::Istgt { peers::istgt_name() } else { TARGET.to_owned() }
    }

    /// The disk's address, with the initiator's name and secret.
    pub fn url(&self) -> String {
        self.url_with(self.offer.chap.as_ref().map(|chap| (chap.user.as_str(), chap.secret.as_str())))
    }

    /// The disk's address, with a name and a secret of the caller's.
    pub fn url_with(&self, proof: Option<(&str, &str)>) -> String {
        let proof = proof.map_or_else(String::new, |(user, secret)| format!("{user}%{secret}@"));
        format!("iscsi://{proof}{}/{}/{}", self.offer.listen, self.name(), self.make.lun())
    }

    /// What it and its commands were heard to say.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.offer.directory.join("log")).unwrap_or_default()).into_owned()
    }

    /// Starts it again with the disk it had, after [`Target::kill`].
    ///
    /// # Errors
    /// As [`Offer::start`].
    pub fn start(&mut self) -> Result<()> {
        self.kill();
        self.child = Some(match self.make {
            Make::Ours => ours::start(&self.offer)?,
            Make::Tgt | Make::TgtTuned => peers::start_tgt(&self.offer)?,
            Make::Istgt => peers::start_istgt(&self.offer)?,
        });
        if matches!(self.make, Make::Tgt | Make::TgtTuned) {
            self.wait("tgtd to take commands", |offer| peers::tgtadm(offer, "--mode sys --op show").is_ok())?;
            peers::configure_tgt(&self.offer, self.make == Make::TgtTuned)?;
        }
        let url = self.url();
        self.wait("somebody to log in", |_| {
            let mut inquiry = tool("timeout");
            inquiry.args(["-k", "1", "10", "iscsi-inq", "-i", INITIATOR, &url]);
            run(&mut inquiry).is_ok()
        })
    }

    /// Ends it at once, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn wait(&mut self, what: &str, ready: impl Fn(&Offer) -> bool) -> Result<()> {
        let waited = until(PATIENCE, what, || {
            let ended = self.child.as_mut().map(Child::try_wait).transpose()?.flatten();
            ensure!(ended.is_none(), "it ended");
            Ok(ready(&self.offer).then_some(()))
        });
        waited.with_context(|| {
            let said = self.log();
            let from = said.char_indices().rev().nth(2000).map_or(0, |(at, _)| at);
            format!("{} does not work; it said: …{}", self.make.name(), said.get(from..).unwrap_or_default())
        })
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Runs something on a thread in a network namespace of its own, with nothing in it but a loopback.
///
/// # Errors
/// The namespace takes root; else those of `work`.
pub fn alone<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("a network namespace takes root")?;
            run(tool("ip").args(["link", "set", "lo", "up"]))?;
            work()
        });
        thread.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked))
    })
}

/// A program that ends with this thread, keeps to the offer's processor, and writes to the offer's log.
fn command(offer: &Offer, words: &[&str]) -> Result<Command> {
    let log = File::options().create(true).append(true).open(offer.directory.join("log"))?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some(processor) = offer.processor {
        command.args(["taskset", "-c", &processor.to_string()]);
    }
    command.args(words).current_dir(&offer.directory).stdin(Stdio::null());
    command.stdout(log.try_clone()?).stderr(log);
    Ok(command)
}
