//! Loading modules into the kernel: by what the buses show, as they change, and by name.

use crate::{board::Board, clock, inventory};
use kmod::{Index, Uevent, Wanted};
use nix::{
    errno::Errno,
    kmod::{ModuleInitFlags, finit_module},
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
    },
};
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File},
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

/// `MODULE_INIT_COMPRESSED_FILE`: the kernel unpacks .ko.xz itself (Linux 5.17, `CONFIG_MODULE_DECOMPRESS`).
const COMPRESSED: ModuleInitFlags = ModuleInitFlags::from_bits_retain(4);
/// A tree of devices is not deeper than this, nor does it change more often than this.
const DEPTH: usize = 20;
const PASSES: usize = 10;
/// Loading what was there at the start takes no longer.
const COLD_PLUG: Duration = Duration::from_secs(60);

/// The modules of the kernel that runs, and which of them are loaded.
pub(crate) struct Modules {
    directory: PathBuf,
    wanted: Wanted,
}

impl Modules {
    /// Reads `/lib/modules/RELEASE`.
    pub(crate) fn read() -> io::Result<Modules> {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let directory = Path::new("/lib/modules").join(release.trim());
        let dep = fs::read_to_string(directory.join("modules.dep"))?;
        let text = |file| fs::read_to_string(directory.join(file)).unwrap_or_default();
        let index =
            Index::parse(&dep, &text("modules.alias"), &text("modules.softdep"), &text("modules.builtin"));
        let there = fs::read_to_string("/proc/modules").unwrap_or_default();
        Ok(Modules { directory, wanted: Wanted::new(index).beside(&there) })
    }

    /// Loads a module by name or alias with all it needs; returns how many files were loaded.
    pub(crate) fn load(&mut self, wanted: &str) -> usize {
        let files = self.wanted.load(wanted);
        self.insert(&files)
    }

    /// Loads what a device asks for by its `modalias`; each is looked up once.
    fn serve(&mut self, modalias: &str) -> usize {
        let files = self.wanted.serve(modalias);
        self.insert(&files)
    }

    fn insert(&self, files: &[kmod::File]) -> usize {
        let mut done = 0;
        for kmod::File { module, path } in files {
            match insert(&self.directory.join(path)) {
                Ok(()) => done += 1,
                // A driver that finds no hardware of its own; another one may serve the device.
                Err(Errno::ENODEV) => {}
                Err(e @ (Errno::EINVAL | Errno::EOPNOTSUPP)) if !path.ends_with(".ko") => {
                    log::warn!(
                        module, error = e.desc();
                        "module not loaded: this kernel does not unpack modules itself; put plain .ko files into the ramdisk"
                    );
                }
                Err(e) => log::warn!(module, error = e.desc(); "module not loaded"),
            }
        }
        done
    }

    /// Loads what the devices ask for that are there, until a look at the buses shows no new ones.
    pub(crate) fn cold_plug(&mut self) {
        let began = clock::now();
        let until = began + COLD_PLUG;
        let mut files = 0;
        for _ in 0..PASSES {
            let mut shown = BTreeSet::new();
            walk(Path::new("/sys/devices"), DEPTH, &mut shown);
            let new: Vec<String> =
                shown.into_iter().filter(|modalias| !self.wanted.was_served(modalias)).collect();
            if new.is_empty() {
                break;
            }
            for modalias in new {
                if clock::now() >= until {
                    log::warn!(seconds = COLD_PLUG.as_secs(); "loading modules takes too long; going on without the rest");
                    return;
                }
                files += self.serve(&modalias);
            }
        }
        let millis = clock::now().since(began).as_millis() as u64;
        log::info!(loaded = files, known = self.wanted.known(), millis; "modules loaded");
    }
}

fn insert(path: &Path) -> Result<(), Errno> {
    let file = File::open(path).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(0)))?;
    let plain = path.extension() == Some(OsStr::new("ko"));
    let flags = if plain { ModuleInitFlags::empty() } else { COMPRESSED };
    match finit_module(&file, c"", flags) {
        Err(Errno::EEXIST) => Ok(()),
        other => other,
    }
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

/// The kernel asks for a module by running `/sbin/modprobe -q -- NAME`; returns the exit status.
pub(crate) fn modprobe(args: impl Iterator<Item = String>) -> u8 {
    let Some(wanted) = args.filter(|arg| !arg.starts_with('-')).last() else { return 1 };
    match Modules::read() {
        Ok(mut modules) => u8::from(modules.load(&wanted) == 0),
        Err(_) => 1,
    }
}

/// The kernel's announcements of devices that come and go.
pub(crate) struct Uevents(OwnedFd);

impl Uevents {
    /// Listens from now on.
    pub(crate) fn open() -> nix::Result<Uevents> {
        let kind = SockProtocol::NetlinkKObjectUEvent;
        let fd = socket(AddressFamily::Netlink, SockType::Datagram, SockFlag::SOCK_CLOEXEC, kind)?;
        // Group 1 is the kernel's own messages.
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 1))?;
        Ok(Uevents(fd))
    }

    /// Loads modules for devices that appear and keeps the inventory true; never returns unless the
    /// socket breaks.
    pub(crate) fn follow(self, mut modules: Option<Modules>, board: &Board) {
        let mut buffer = [0; 8192];
        loop {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => {
                    let event = Uevent::parse(&buffer[..length]);
                    if let (Some(modules), "add" | "bind", Some(modalias)) =
                        (&mut modules, event.action, event.modalias)
                    {
                        modules.serve(modalias);
                    }
                    if matches!(event.subsystem, "block" | "net") {
                        board.set_inventory(inventory::look());
                    }
                }
                // Announcements were lost: look at everything.
                Err(Errno::ENOBUFS) => {
                    if let Some(modules) = &mut modules {
                        modules.cold_plug();
                    }
                    board.set_inventory(inventory::look());
                }
                Err(Errno::EINTR) => {}
                Err(e) => {
                    log::warn!(error = e.desc(); "no more news of devices");
                    return;
                }
            }
        }
    }
}
