use nix::libc;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

/// What a service may do beyond what its user may.
pub type Capability = caps::Capability;

/// As whom a service runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Privilege {
    /// User id.
    pub user: u32,
    /// Group id; the only group.
    pub group: u32,
    /// The only capabilities that it and what it starts can have.
    pub capabilities: Vec<Capability>,
    /// Most memory that it may have for data, in octets (RLIMIT_DATA); none: as much as there is.
    pub memory: Option<u64>,
}

/// Forks, drops what the child must not have, and executes.
///
/// The descriptors become 3, 4, … in the child. It dies when we do.
pub(crate) fn spawn(
    mut command: Command,
    privilege: Option<&Privilege>,
    sockets: &[BorrowedFd<'_>],
) -> io::Result<Child> {
    let parent = std::process::id();
    let privilege = privilege.cloned();
    let sockets: Vec<RawFd> = sockets.iter().map(AsRawFd::as_raw_fd).collect();
    let before_exec = move || {
        // The supervisor reads its signals from a descriptor; what it starts must not begin deaf.
        nix::sys::signal::SigSet::empty().thread_set_mask()?;
        // What one service writes another of the group may have to read, and nobody else.
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o027));
        if let Some(privilege) = &privilege {
            drop_privilege(privilege)?;
        }
        // After the change of user, which clears it (prctl(2), PR_SET_PDEATHSIG).
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
        if nix::unistd::getppid().as_raw() != i32::try_from(parent).unwrap_or(0) {
            return Err(io::Error::other("the supervisor died meanwhile"));
        }
        pass(&sockets)
    };
    // SAFETY: the supervisor has one thread, so the child of its fork may do what it likes before exec.
    // JUSTIFICATION: privileges and descriptors can only be changed between fork and exec.
    unsafe { command.pre_exec(before_exec) };
    command.spawn()
}

/// More are not passed.
const MOST: usize = 128;

/// Puts the sockets where the convention wants them, above all that may be in the way first.
fn pass(sockets: &[RawFd]) -> io::Result<()> {
    let above = 3 + i32::try_from(sockets.len()).map_err(io::Error::other)?;
    // All of them first: a place may be that of another's original.
    let mut aside = [-1; MOST];
    let aside = aside.get_mut(..sockets.len()).ok_or_else(|| io::Error::other("too many sockets"))?;
    // SAFETY: plain system calls on numbers; a wrong number is an error, not undefined.
    // JUSTIFICATION: nix's safe twins take and close owned descriptors, which the parent still holds.
    unsafe {
        for (socket, aside) in sockets.iter().zip(aside.iter_mut()) {
            *aside = libc::fcntl(*socket, libc::F_DUPFD_CLOEXEC, above);
            if *aside < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        for (aside, wanted) in aside.iter().zip(3..) {
            if libc::dup2(*aside, wanted) < 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(())
}

fn drop_privilege(privilege: &Privilege) -> io::Result<()> {
    use caps::CapSet;
    use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
    let failed = |e: caps::errors::CapsError| io::Error::other(e.to_string());
    let wanted: caps::CapsHashSet = privilege.capabilities.iter().copied().collect();
    let (user, group) = (Uid::from_raw(privilege.user), Gid::from_raw(privilege.group));
    if let Some(memory) = privilege.memory {
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_DATA, memory, memory)?;
    }
    for capability in caps::all() {
        if !wanted.contains(&capability) && caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false)
        {
            caps::drop(None, CapSet::Bounding, capability).map_err(failed)?;
        }
    }
    caps::securebits::set_keepcaps(true).map_err(failed)?;
    setgroups(&[group])?;
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    // What is effective must be permitted: for root, whose change of user takes nothing away, it goes first.
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        caps::set(None, set, &wanted).map_err(failed)?;
    }
    caps::set(None, CapSet::Ambient, &wanted).map_err(failed)?;
    nix::sys::prctl::set_no_new_privs()?;
    Ok(())
}
