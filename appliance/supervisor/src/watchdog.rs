use crate::dog::{Care, Dog, TIMEOUT};
use core::time::Duration;
use nix::libc::c_int;
use sansio::Time;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

// linux/watchdog.h
nix::ioctl_readwrite!(set_timeout, b'W', 6, c_int);
nix::ioctl_read!(get_timeout, b'W', 7, c_int);

/// The machine's watchdog with its device.
pub(crate) struct Watchdog {
    path: Option<PathBuf>,
    device: Option<File>,
    dog: Dog,
    /// Said once, not every few seconds.
    is_said: bool,
}

impl Watchdog {
    /// The one at this path.
    pub(crate) fn new(path: Option<&Path>, now: Time) -> Watchdog {
        Watchdog {
            path: path.map(Path::to_owned),
            device: None,
            dog: Dog::new(path.is_some(), now),
            is_said: false,
        }
    }

    /// When [`Watchdog::care`] wants to be called again.
    pub(crate) fn poll_timeout(&self) -> Option<Time> {
        self.dog.poll_timeout()
    }

    /// Opens or feeds it, if that is due.
    pub(crate) fn care(&mut self, now: Time) {
        let (Some(care), Some(path)) = (self.dog.poll(now), &self.path) else { return };
        let done = match (care, &mut self.device) {
            // Any character but V feeds it (Documentation/watchdog/watchdog-api.rst).
            (Care::Feed, Some(device)) => device.write_all(b"."),
            _ => open(path).map(|(device, timeout)| {
                log::info!(path:% = path.display(), seconds = timeout.as_secs(); "watchdog is fed");
                self.device = Some(device);
                self.is_said = false;
                self.dog.handle_opened(timeout, now);
            }),
        };
        if let Err(e) = done {
            if !self.is_said {
                log::error!(path:% = path.display(), error:% = e; "watchdog cannot be fed, it is tried again");
                self.is_said = true;
            }
            self.device = None;
            self.dog.handle_lost(now);
        }
    }

    /// Lets go of it for good: the machine is about to end.
    pub(crate) fn farewell(mut self) {
        let Some(device) = &mut self.device else { return };
        match device.write_all(b"V") {
            Ok(()) => log::info!("watchdog rests, the machine ends"),
            Err(e) => log::error!(error:% = e; "watchdog goes on, though the machine ends"),
        }
    }
}

/// Opens it and says after how long it bites, by its own word.
fn open(path: &Path) -> io::Result<(File, Duration)> {
    // Opening starts it.
    let device = OpenOptions::new().write(true).open(path)?;
    let mut seconds = c_int::try_from(TIMEOUT.as_secs()).unwrap_or(c_int::MAX);
    // SAFETY: the kernel reads and writes an int that lives for the call.
    // JUSTIFICATION: no crate of ours knows the watchdog's requests.
    let set = unsafe { set_timeout(device.as_raw_fd(), &raw mut seconds) };
    if let Err(e) = set {
        // Too long for it, or fixed: then its own.
        log::warn!(error:% = e; "watchdog takes no other time than its own");
    }
    // SAFETY: as above.
    // JUSTIFICATION: as above.
    let took = unsafe { get_timeout(device.as_raw_fd(), &raw mut seconds) };
    if took.is_err() {
        // A driver that does not tell has taken what it was told.
        log::debug!("watchdog does not tell its time");
    }
    Ok((device, Duration::from_secs(u64::try_from(seconds).unwrap_or(0))))
}
