//! What a person at the box sees.

use crate::clock;
use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _, stderr},
    os::{fd::AsFd as _, unix::fs::OpenOptionsExt as _},
    path::{Path, PathBuf},
};

/// A console that takes nothing for so many milliseconds is stopped: 4 KiB at 9600 baud take four seconds.
const STOPPED: u16 = 5_000;

/// Says a line on every console of the machine, when PID 1 or started by it; else on standard error.
pub fn say(text: &str) {
    write(&format!("kiln: {text}\n"));
}

/// Writes as [`say`] does, without a word before it.
pub fn write(text: &str) {
    let is_of_init = std::process::id() == 1 || nix::unistd::getppid().as_raw() == 1;
    let mut said = false;
    for console in devices().filter(|_| is_of_init) {
        said |= write_to(&console, text.replace('\n', "\r\n").as_bytes()).is_ok();
    }
    if !said {
        let _ = stderr().write_all(text.as_bytes());
    }
}

/// The machine's consoles.
pub fn devices() -> impl Iterator<Item = PathBuf> {
    let active = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    let named: Vec<PathBuf> = active.split_whitespace().map(|name| Path::new("/dev").join(name)).collect();
    named.into_iter()
}

/// Writes to a console, for as long as it takes what is written: one that nobody reads, or that somebody stopped
/// (Ctrl-S), must keep nothing from being done.
fn write_to(console: &Path, mut octets: &[u8]) -> io::Result<()> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let mut device = OpenOptions::new().write(true).custom_flags(flags).open(console)?;
    while !octets.is_empty() {
        match device.write(octets) {
            Ok(written) => octets = octets.get(written..).unwrap_or_default(),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let mut polled = [PollFd::new(device.as_fd(), PollFlags::POLLOUT)];
                if poll(&mut polled, PollTimeout::from(STOPPED)).is_ok_and(|ready| ready == 0) {
                    return Err(e);
                }
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Says what it waits for when that takes longer than a moment, once.
pub struct Waiting<'a> {
    what: &'a str,
    began: sansio::Time,
    longest: std::time::Duration,
    said: bool,
}

impl<'a> Waiting<'a> {
    /// A wait of so long at most.
    pub fn new(what: &'a str, longest: std::time::Duration) -> Waiting<'a> {
        Waiting { what, began: clock::now(), longest, said: false }
    }

    /// How long there is still to wait; nothing: not any more.
    pub fn left(&mut self) -> Option<std::time::Duration> {
        let waited = clock::now().since(self.began);
        let left = self.longest.checked_sub(waited).filter(|left| !left.is_zero())?;
        if !self.said {
            say(&format!("waits for {}, {} s at most", self.what, self.longest.as_secs()));
            self.said = true;
        }
        Some(left)
    }
}
