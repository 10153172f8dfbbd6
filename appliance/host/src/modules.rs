//! Loading kernel modules: by name, and by what devices ask for.

use crate::console::say;
use anyhow::{Context as _, Result};
use kmod::{Index, Uevent, Wanted};
use nix::{
    errno::Errno,
    kmod::{ModuleInitFlags, finit_module},
    sys::{
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt,
            socket, sockopt::ReceiveTimeout,
        },
        time::{TimeVal, TimeValLike},
    },
};
use std::{
    collections::BTreeSet,
    ffi::CStr,
    fs::{self, File},
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

/// `MODULE_INIT_COMPRESSED_FILE`: the kernel unpacks .ko.xz itself (Linux 5.17, `CONFIG_MODULE_DECOMPRESS`).
const COMPRESSED: ModuleInitFlags = ModuleInitFlags::from_bits_retain(4);
/// A tree of devices is not deeper than this, nor does it change more often than this.
const DEPTH: usize = 20;
const PASSES: usize = 10;

/// The modules of the kernel that runs.
pub struct Modules {
    directory: PathBuf,
    wanted: Wanted,
}

impl Modules {
    /// Reads `/lib/modules/RELEASE`.
    ///
    /// # Errors
    /// When there is no index there.
    pub fn read() -> Result<Modules> {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("no kernel release")?;
        let directory = Path::new("/lib/modules").join(release.trim());
        let dep = directory.join("modules.dep");
        let dep = fs::read_to_string(&dep).with_context(|| format!("cannot read {}", dep.display()))?;
        let text = |file| fs::read_to_string(directory.join(file)).unwrap_or_default();
        let index =
            Index::parse(&dep, &text("modules.alias"), &text("modules.softdep"), &text("modules.builtin"));
        let there = fs::read_to_string("/proc/modules").unwrap_or_default();
        Ok(Modules { directory, wanted: Wanted::new(index).beside(&there) })
    }

    /// Loads a module by name or alias, with all it needs; returns how many files there were to load.
    pub fn load(&mut self, wanted: &str) -> usize {
        let files = self.wanted.load(wanted);
        self.insert(&files)
    }

    /// Loads what a device asks for.
    pub fn serve(&mut self, modalias: &str) -> usize {
        let files = self.wanted.serve(modalias);
        self.insert(&files)
    }

    /// Loads what the devices ask for that are there, until a look shows no new ones.
    pub fn cold_plug(&mut self) {
        for _ in 0..PASSES {
            let mut shown = BTreeSet::new();
            walk(Path::new("/sys/devices"), DEPTH, &mut shown);
            let loaded: usize = shown.iter().map(|modalias| self.serve(modalias)).sum();
            if loaded == 0 {
                break;
            }
        }
    }

    fn insert(&self, files: &[kmod::File]) -> usize {
        for kmod::File { module, path } in files {
            match insert(&self.directory.join(path), parameters(module)) {
                // A driver without hardware of its own; another one may serve the device.
                Ok(()) | Err(Errno::EEXIST | Errno::ENODEV) => {}
                Err(e) => say(&format!("module {module} is not loaded: {}", e.desc())),
            }
        }
        files.len()
    }
}

/// What a module is told: bonding makes a bond that nobody asked for, otherwise.
fn parameters(module: &str) -> &'static CStr {
    if module == "bonding" { c"max_bonds=0" } else { c"" }
}

fn insert(path: &Path, parameters: &CStr) -> Result<(), Errno> {
    let file = File::open(path).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(0)))?;
    let is_plain = path.extension().is_some_and(|extension| extension == "ko");
    finit_module(&file, parameters, if is_plain { ModuleInitFlags::empty() } else { COMPRESSED })
}

fn walk(directory: &Path, depth: usize, shown: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && depth > 0 {
            walk(&entry.path(), depth - 1, shown);
        } else if kind.is_file() && entry.file_name() == "modalias" {
            let modalias = fs::read_to_string(entry.path()).unwrap_or_default();
            if !modalias.trim().is_empty() {
                shown.insert(modalias.trim().to_owned());
            }
        }
    }
}

/// The kernel asks for a module by running a program with `-q -- NAME`; returns the exit status.
pub fn modprobe(args: impl Iterator<Item = String>) -> u8 {
    let Some(wanted) = args.filter(|arg| !arg.starts_with('-')).last() else { return 1 };
    Modules::read().map_or(1, |mut modules| u8::from(modules.load(&wanted) == 0))
}

/// What an announcement was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing that anybody looks at, or none came.
    Nothing,
    /// An interface came, went or changed.
    Interface,
    /// A disk came, or has another medium.
    Disk,
    /// Announcements were lost: look at everything.
    TooMuch,
}

/// The kernel's announcements of devices.
pub struct Uevents(OwnedFd);

impl Uevents {
    /// Listens from now on.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> nix::Result<Uevents> {
        let kind = SockProtocol::NetlinkKObjectUEvent;
        let fd = socket(AddressFamily::Netlink, SockType::Datagram, SockFlag::SOCK_CLOEXEC, kind)?;
        // Group 1 is the kernel's own messages.
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 1))?;
        Ok(Uevents(fd))
    }

    /// Waits for an announcement, or so long, and loads what it asks for.
    pub fn wait(&self, longest: Duration, modules: Option<&mut Modules>) -> Heard {
        let millis = longest.as_millis().clamp(1, 60_000) as i64;
        if setsockopt(&self.0, ReceiveTimeout, &TimeVal::milliseconds(millis)).is_err() {
            return Heard::Nothing;
        }
        let mut buffer = [0; 8192];
        match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(length) => {
                let event = Uevent::parse(&buffer[..length]);
                if let (Some(modules), "add" | "bind", Some(modalias)) =
                    (modules, event.action, event.modalias)
                {
                    modules.serve(modalias);
                }
                match event.subsystem {
                    "net" => Heard::Interface,
                    "block" if event.action != "remove" => Heard::Disk,
                    _ => Heard::Nothing,
                }
            }
            Err(Errno::ENOBUFS) => {
                if let Some(modules) = modules {
                    modules.cold_plug();
                }
                Heard::TooMuch
            }
            // Time is up.
            Err(_) => Heard::Nothing,
        }
    }
}
