use anyhow::{Result, bail};
use std::os::fd::{FromRawFd as _, OwnedFd};

/// The socket that the supervisor passed, by the convention of sd_listen_fds(3): the first is number 3.
/// To be called once, before anything is opened.
pub(crate) fn socket(process: &str) -> Result<OwnedFd> {
    let ours = std::env::var("LISTEN_PID").map_or(true, |pid| pid == std::process::id().to_string());
    let passed = std::env::var("LISTEN_FDS").ok().and_then(|count| count.parse().ok()).unwrap_or(0u32);
    if !ours || passed < 1 {
        bail!("applianced {process} is started by applianced supervisor, which passes it its socket");
    }
    // SAFETY: the supervisor says that 3 is open and ours, nothing has taken it yet, and this is called once.
    // JUSTIFICATION: the convention hands over a bare number; std has no safe way to take it.
    Ok(unsafe { OwnedFd::from_raw_fd(3) })
}
